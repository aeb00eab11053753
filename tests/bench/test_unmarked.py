"""Unmarked pictures: what is drawn, by hand, and the scores of removers that change nothing or a little."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
from PIL import Image

from wmremoval.bench import unmarked
from wmremoval.bench.__main__ import main
from wmremoval.bench.backdrops import GRAIN, GROUNDS, SUBJECTS, VIGNETTES, cut_out, gradient, vignette
from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.unmarked import EACH, GROUPS, open_unmarked
from wmremoval.bench.unmarked_drawings import LETTERED, PICTURES


@pytest.fixture(scope="module")
def opened():
    return open_unmarked(None)


def test_there_are_pictures_of_every_group(opened):
    groups = [group for group, _, _ in opened]
    assert list(dict.fromkeys(groups)) == list(GROUPS) and groups.count("photograph") == 7
    assert groups.count("backdrop") == len(SUBJECTS) * len(GROUNDS) and groups.count("vignette") == 9
    assert all(groups.count(name) == EACH for name in (*PICTURES, *LETTERED))
    assert len({file for _, file, _ in opened}) == len(opened)
    assert len(open_unmarked(None, 2)) == 2 * len(GROUPS)


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_pictures_depend_on_their_seed_alone(name):
    first = PICTURES[name](1)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and min(first.shape[:2]) >= 400
    np.testing.assert_array_equal(first, PICTURES[name](1))
    other = PICTURES[name](5)
    assert other.shape == first.shape and (other != first).any(axis=-1).mean() > 0.01


@pytest.mark.parametrize("name", LETTERED)
def test_lettered_objects_hide_a_part_of_the_photograph(name):
    photo = skimage.data.coffee()
    for seed in range(4):
        picture = LETTERED[name](seed, photo)
        changed = np.abs(picture.astype(int) - photo).max(axis=-1) > 8
        assert 0.01 < changed.mean() < 0.35
        assert not changed[:, :5].any() and not changed[:5].any()
        np.testing.assert_array_equal(picture, LETTERED[name](seed, photo))


def test_a_subject_stands_before_its_ground_in_little_noise():
    photo = skimage.data.chelsea()
    picture = cut_out(photo, SUBJECTS["chelsea"], gradient(photo.shape, *GROUNDS["blue"]), 0)
    corner = picture[-60:, :60].reshape(-1, 3).astype(float)
    assert corner.mean(axis=0) == pytest.approx((20, 60, 220), abs=0.1)
    assert corner.std(axis=0) == pytest.approx((GRAIN,) * 3, rel=0.05)
    y, x = int(SUBJECTS["chelsea"].y * 300), int(SUBJECTS["chelsea"].x * 451)
    inside = np.s_[y - 40 : y + 40, x - 40 : x + 40]
    assert np.abs(picture[inside].astype(int) - photo[inside]).max() < 6 * GRAIN
    np.testing.assert_array_equal(cut_out(photo, SUBJECTS["chelsea"], photo), photo)


def test_gradients_and_vignettes_run_between_their_ends():
    ground = gradient((50, 20, 3), *GROUNDS["yellow gradient"])
    np.testing.assert_allclose(ground[[0, -1], 7], GROUNDS["yellow gradient"])
    np.testing.assert_allclose(np.diff(ground[:, 3, 1]), np.diff(ground[:, 3, 1])[0])
    lamp = vignette((51, 81, 3), *VIGNETTES["grey"])
    assert (
        lamp[25, 40, 0] == pytest.approx(168) and lamp[0, 0, 2] == pytest.approx(84) and np.ptp(lamp, axis=2).max() == 0
    )


# The scores.


def planted(monkeypatch, restore):
    answer = lambda photo: SimpleNamespace(image=restore(photo), mask_uint8=None, seconds=0.5)  # noqa: E731
    monkeypatch.setattr(unmarked, "load_remover", lambda weights, device: answer)


def test_a_remover_that_does_nothing_leaves_all_as_it_is(monkeypatch, tmp_path, capsys):
    planted(monkeypatch, lambda photo: photo)
    assert main(["unmarked", "--limit", "1", "--report-dir", str(tmp_path), "--device", "cpu"]) == 0
    results = json.loads((tmp_path / "unmarked.json").read_text())
    assert results["all"] == {
        "pictures": len(GROUPS), "unchanged": 1.0, "changed_worst": 0.0, "changed_mean": 0.0, "psnr": 100.0
    }  # fmt: skip
    assert results["changed"] == [] and not (tmp_path / "unmarked.png").exists()
    assert "Nothing was changed." in capsys.readouterr().out


def test_changes_are_counted_and_listed_by_hand(monkeypatch, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, level in enumerate((90, 120, 150, 180)):
        Image.fromarray(np.full((80, 100, 3), level, np.uint8)).save(photos / f"{number}.png")

    def restore(photo):
        changed = photo.copy()
        changed[: {120: 8, 180: 40}.get(int(photo[0, 0, 0]), 0)] += 10
        return changed

    planted(monkeypatch, restore)
    assert main(["unmarked", "--photos", str(photos), "--only", "photograph", "--report-dir", str(out)]) == 0
    results = json.loads((out / "unmarked.json").read_text())
    assert results["photographs"] == "photos" and list(results["groups"]) == ["photograph"]
    scores = [10 * np.log10(255**2 / (share * 10**2)) for share in (0.5, 0.1)]
    assert [(row["file"], row["changed"]) for row in results["changed"]] == [("3.png", 0.5), ("1.png", 0.1)]
    assert [row["psnr"] for row in results["changed"]] == pytest.approx(scores, abs=1e-3)
    assert results["all"] == results["groups"]["photograph"]
    assert results["all"]["unchanged"] == 0.5 and results["all"]["changed_worst"] == 0.5
    assert results["all"]["changed_mean"] == pytest.approx(0.15)
    assert results["all"]["psnr"] == pytest.approx(np.mean([100, 100, *scores]), abs=1e-3)
    assert (out / "unmarked.png").stat().st_size > 5000
    assert "3.png: 50.00%" in capsys.readouterr().out


def test_an_unknown_group_is_one_clear_line(capsys):
    assert main(["unmarked", "--device", "cpu", "--only", "poster"]) == 1
    assert "unknown kind 'poster'; choose from photograph" in capsys.readouterr().err


def test_the_figure_shows_the_worst(monkeypatch):
    monkeypatch.setattr(unmarked, "MOST_SHOWN", 2)
    pictures = [("photograph", str(n), lambda n=n: np.full((10, 10, 3), n, np.uint8)) for n in (3, 9, 0, 6)]

    def remover(picture):
        restored = picture.copy()
        restored[: picture[0, 0, 0]] += 1
        return SimpleNamespace(image=restored, seconds=0.0)

    rows, examples = unmarked.score_unmarked(remover, pictures)
    assert [row["changed"] for row in rows] == pytest.approx([0.3, 0.9, 0.0, 0.6])
    assert [row["file"] for _, _, row in examples] == ["9", "6"]
    assert unmarked.draw_unmarked(examples).get_axes()[0].get_title() == "9"


def test_options_reach_the_remover(monkeypatch):
    asked = []
    monkeypatch.setattr(unmarked, "load_remover", lambda weights, device: asked.append((weights, device)) or remover)
    remover = lambda picture: SimpleNamespace(image=picture, seconds=0.0)  # noqa: E731
    monkeypatch.setattr(unmarked, "weights_of", lambda weights: {})
    unmarked.run_unmarked(None, ScoreOptions("some.pth", "cpu", limit=1), ["gauge"])
    assert asked == [("some.pth", "cpu")]

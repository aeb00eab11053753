"""Everyday watermarks: what they are by hand, at any size, and the scores of a remover on them."""

import csv
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from wmremoval.bench import web_marks
from wmremoval.bench.__main__ import main
from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.web_marks import BLACK, GREY, ORANGE, WEB_MARKS, WHITE, web_mark
from wmremoval.data.fonts import KEPT_OUT
from wmremoval.data.marks import blend

# Of each mark: the opacities of its parts, and their colours where nothing else lies over or under them.
PARTS = {
    "credit": [(0.6, WHITE)],
    "date": [(1.0, ORANGE)],
    "emblem": [(0.5, WHITE)],
    "crossed": [(0.4, WHITE)],
    "preview": [(0.3, WHITE)],
    "word": [(0.4, WHITE), (0.35, GREY)],
    "caption": [(0.45, BLACK), (0.45 + 0.55 * 0.9, None)],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_mark_has_the_opacities_and_colours_it_is_said_to_have(name):
    mark = web_mark(name, 480, 640)
    assert mark.alpha.shape == (480, 640) and mark.colour.shape == (480, 640, 3)
    assert mark.alpha.dtype == mark.colour.dtype == np.float32
    assert 0.002 < (mark.alpha > 0).mean() < 0.2
    for alpha, colour in PARTS[name]:
        there = np.abs(mark.alpha - alpha) < 0.005
        assert there.sum() > 20, (name, alpha)
        if colour is not None:
            share = np.isclose(mark.colour[there], colour, atol=0.01).all(axis=-1).mean()
            assert share > 0.5 if len(PARTS[name]) > 1 else share == 1
    assert mark.alpha.max() <= max(alpha for alpha, _ in PARTS[name]) + 1e-5


def test_a_signature_is_white_on_a_soft_dark_shadow():
    mark = web_mark("signature", 480, 640)
    assert 0.85 < mark.alpha.max() <= 1 - (1 - 0.85) * (1 - 0.5)
    assert mark.colour[mark.alpha > 0.8].min() > 0.8
    faint = (mark.alpha > 0) & (mark.alpha < 0.1)
    assert np.median(mark.colour[faint], axis=0) == pytest.approx(BLACK, abs=0.02)
    shadow = cv2.dilate(np.uint8(mark.colour[..., 0] > 0.9), np.ones((3, 3), np.uint8)) == 0
    assert np.argwhere((mark.alpha > 0.1) & shadow).mean(axis=0).min() > 400, "below and to the right of the letters"


@pytest.mark.parametrize("name", ["credit", "emblem", "crossed", "preview"])
def test_edges_are_less_opaque_and_of_the_same_colour(name):
    """A fringe of the colour of empty pixels is what drawing on a transparent sheet leaves."""
    mark = web_mark(name, 300, 450)
    edges = (mark.alpha > 0.02) & (mark.alpha < 0.9 * mark.alpha.max())
    assert edges.sum() > 100
    np.testing.assert_allclose(mark.colour[edges], 1.0, atol=1e-4)


@pytest.mark.parametrize("name", WEB_MARKS)
def test_a_mark_grows_with_its_photograph(name):
    small = web_mark(name, 300, 400).alpha
    large = cv2.resize(web_mark(name, 900, 1200).alpha, (400, 300), interpolation=cv2.INTER_AREA)
    inside = (small > 0.1) | (large > 0.1)
    overlap = np.minimum(small, large)[inside].sum() / np.maximum(small, large)[inside].sum()
    assert overlap > 0.7, overlap


@pytest.mark.parametrize("shape", [(200, 900), (900, 200)])
@pytest.mark.parametrize("name", sorted(set(WEB_MARKS) - {"preview", "crossed"}))
def test_a_mark_lies_within_a_photograph_of_any_shape(name, shape):
    alpha = web_mark(name, *shape).alpha
    assert alpha.max() > 0.3
    for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert edge.max() == 0


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    Image.fromarray(skimage.data.coffee()[:200, :300]).save(place / "a.png")
    Image.fromarray(skimage.data.chelsea()[:180, :160]).save(place / "b.png")
    Image.fromarray(np.full((150, 200, 3), 255, np.uint8)).save(place / "white.png")
    return place


def planted(monkeypatch, restore):
    """A remover that gives what `restore` makes of a watermarked photograph."""
    answer = lambda photo: SimpleNamespace(image=restore(photo), mask_uint8=np.zeros(photo.shape[:2], np.uint8), seconds=0.5)  # noqa: E731  # fmt: skip
    monkeypatch.setattr(web_marks, "load_remover", lambda weights, device: answer)


def half_way(photo):
    """Towards grey, so that every score has something to tell."""
    return np.uint8(np.round(0.5 * photo + 60))


def test_scores_are_of_photographs_at_their_own_size(monkeypatch, folder, tmp_path, capsys):
    planted(monkeypatch, half_way)
    out = tmp_path / "out"
    assert main(["web", "--photos", str(folder), "--report-dir", str(out), "--device", "cpu"]) == 0
    with open(out / "web_marks.csv", encoding="utf-8") as file:
        rows = {(row["cell"], row["file"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 * (len(WEB_MARKS) + 1)
    results = json.loads((out / "web_marks.json").read_text())
    for name in WEB_MARKS:
        scores = []
        for file in ("a.png", "b.png"):
            clean = np.asarray(Image.open(folder / file))
            watermarked, mask = blend(clean, web_mark(name, *clean.shape[:2]))
            row, restored = rows[name, file], half_way(watermarked)
            assert (int(row["height"]), int(row["width"])) == clean.shape[:2]
            assert float(row["psnr"]) == pytest.approx(peak_signal_noise_ratio(clean, restored), abs=1e-3)
            there = mask.astype(bool)
            inside, before = (peak_signal_noise_ratio(clean[there], x[there]) for x in (restored, watermarked))
            assert float(row["masked_psnr"]) == pytest.approx(inside, abs=1e-3)
            assert float(row["lifted"]) == (inside - before >= 6)
            scores.append(float(row["psnr"]))
        mark = next(mark for mark in results["marks"] if mark["cell"] == name)
        assert mark["photographs"] == 3
        assert mark["psnr"] == pytest.approx(np.mean([*scores, float(rows[name, "white.png"]["psnr"])]))
    assert rows["credit", "white.png"]["lifted"] == "", "white on white is no mark"
    assert results["photographs"] == {"source": "photos", "count": 3}
    assert (out / "web_marks.png").stat().st_size > 10_000
    table = capsys.readouterr().out
    assert "caption" in table and "bit for bit: 0.0%" in table


def test_doing_nothing_lifts_nothing_and_touches_nothing(monkeypatch, folder, tmp_path):
    planted(monkeypatch, lambda photo: photo)
    results = web_marks.run_web_marks(folder, ScoreOptions(device="cpu"))
    assert all(mark["lifted"] == 0 and mark["psnr"] == mark["input_psnr"] for mark in results["marks"][:-1])
    assert results["marks"][-1]["cell"] == "unmarked" and results["marks"][-1]["untouched"] == 1


def test_without_a_folder_the_photographs_are_scikit_image_s(monkeypatch, tmp_path):
    planted(monkeypatch, lambda photo: photo)
    results = web_marks.run_web_marks(None, ScoreOptions(device="cpu", limit=1))
    assert results["photographs"] == {"source": "scikit-image", "count": 1}


@pytest.mark.parametrize(("more", "message"), [(["--limit", "0"], "--limit"), (["--photos", "nowhere"], "nowhere")])
def test_what_cannot_be_scored_is_one_clear_line(more, message, capsys):
    assert main(["web", "--device", "cpu", *more]) == 1
    assert message in capsys.readouterr().err


def test_web_marks_are_set_in_kept_out_faces_alone(monkeypatch):
    opened = []
    write = web_marks._font
    monkeypatch.setattr(web_marks, "_font", lambda face, em: opened.append(face) or write(face, em))
    for name in WEB_MARKS:
        web_mark(name, 90, 120)
    assert opened and all(face.startswith(KEPT_OUT) for face in opened)

"""The suite is the same whenever it is built, its marks are what their cells say, and its scores are right."""

import csv
import hashlib
import json
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from planted import photograph, planted
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wmremoval.bench import suite, suite_report
from wmremoval.bench.suite import (
    ALPHAS,
    Cell,
    Sample,
    ScoreOptions,
    Suite,
    SuiteConfig,
    gains,
    open_suite,
    score_sample,
    summarise_cells,
)
from wmremoval.data.fonts import load_fonts
from wmremoval.data.logos import brand_of, load_logo_part, logos_by_part, split_logos
from wmremoval.model import HeterogeneousUNet
from wmremoval.report import gallery

SIDE = 96
CONFIG = SuiteConfig(side=SIDE, per_cell=2)


@pytest.fixture(scope="module")
def logos(tmp_path_factory):
    """Sixty brands in two variants each: a translucent disc."""
    folder = tmp_path_factory.mktemp("logos")
    picture = np.zeros((64, 64, 4), np.uint8)
    y, x = np.mgrid[:64, :64] - 31.5
    picture[..., 3] = 200 * (x**2 + y**2 < 900)
    for i in range(60):
        for variant in ("color", "text-white"):
            picture[..., 0] = i
            Image.fromarray(picture).save(folder / f"source_brand{i}-{variant}.png")
    return folder


@pytest.fixture(scope="module")
def built(photos, logos) -> Suite:
    return open_suite(photos[0].parent, logos, CONFIG)


@pytest.fixture(scope="module")
def samples(built) -> dict[tuple[str, int], Sample]:
    """Every sample by name of its cell and index."""
    return {(s.cell.name, index): s for kind, index in built.views() for s in built.samples(kind, index)}


def remover_of(restore):
    """A remover that answers `restore(watermarked)` with an (image, mask)."""

    def remover(watermarked):
        image, found = restore(watermarked)
        return SimpleNamespace(image=image, mask_uint8=found, seconds=0.25)

    return remover


# What is in it.


def test_the_cells_are_those_of_the_plan(built):
    names = [cell.name for cell in built.cells()]
    assert names == [
        *(f"{kind} {alpha}" for kind in ("text", "shape", "logo") for alpha in (0.3, 0.5, 0.7, 1.0)),
        "text 0.5 colour", "text 0.5 small", "text 0.5 large", "text 0.5 tiled", "shape 0.5 tiled",
        "logo 0.5 own colours", "unmarked",
    ]  # fmt: skip
    assert not [cell for cell in replace(built, logos=()).cells() if cell.kind == "logo"]
    assert sum(cell.plain for cell in built.cells()) == 12


def test_two_builds_are_equal(built, photos, logos, samples):
    again = open_suite(photos[0].parent, logos, CONFIG)
    for kind, index in again.views():
        for sample in again.samples(kind, index):
            same = samples[sample.cell.name, index]
            assert sample.file == same.file
            assert np.array_equal(sample.watermarked, same.watermarked) and np.array_equal(sample.mask, same.mask)


def test_a_new_cell_a_smaller_number_and_no_logos_change_no_sample(built, samples):
    class Larger(Suite):
        def cells(self):
            return (Cell("shape", 0.4), *super().cells()[::-1], Cell("text", 0.9, tiled=True))

    larger = Larger(built.paths, built.logos, built.fonts, built.config)
    fewer = replace(built, logos=(), config=replace(CONFIG, per_cell=1))
    for other in (larger, fewer):
        for kind, index in other.views():
            for sample in other.samples(kind, index):
                if (sample.cell.name, index) in samples:
                    same = samples[sample.cell.name, index]
                    assert sample.file == same.file and np.array_equal(sample.watermarked, same.watermarked)


def test_another_seed_draws_other_marks(built, samples):
    other = replace(built, config=replace(CONFIG, seed=1))
    sample = next(iter(other.samples("text", 0)))
    assert not np.array_equal(sample.watermarked, samples["text 0.3", 0].watermarked)
    assert np.array_equal(sample.clean, samples["text 0.3", 0].clean)


def test_photographs_are_of_the_test_split_and_each_takes_part(photos, samples):
    order = sorted(photos, key=lambda path: path.name)
    expected = [order[i].name for i in np.random.default_rng(0).permutation(12)[10:]]  # 70, 20 and 10% of twelve
    for name in {name for name, _ in samples}:
        assert {sample.file for (cell, _), sample in samples.items() if cell == name} == set(expected)


def test_kinds_of_a_large_folder_take_different_photographs(built, monkeypatch):
    many = [SimpleNamespace(name=str(i)) for i in range(100)]
    large = replace(built, paths=many, config=SuiteConfig(side=SIDE))
    blank = np.full((SIDE, SIDE, 3), 90, np.uint8)
    monkeypatch.setattr(suite, "read_image", lambda path: blank)
    monkeypatch.setattr(Suite, "draw", lambda self, cell, index, clean: suite.Mark(np.ones((SIDE, SIDE)), 0 * blank))
    files = [next(iter(large.samples(kind, index))).file for kind, index in large.views()]
    assert len(files) == 4 * 24 == len(set(files))


# The marks.


def test_alpha_is_constant_at_full_coverage(built, samples):
    for (name, index), sample in samples.items():
        if sample.cell.kind == "unmarked":
            continue
        mark = built.draw(sample.cell, index, sample.clean)
        assert mark.alpha.max() == pytest.approx(sample.cell.alpha, abs=1e-6), name
        full = mark.alpha > sample.cell.alpha - 1e-6
        if sample.cell.colour != "own colours":
            assert len(np.unique(mark.colour.reshape(-1, 3), axis=0)) == 1
        a, paint = sample.cell.alpha, 255.0 * mark.colour[full].astype(float)
        expected = (1 - a) * sample.clean[full].astype(float) + a * paint
        assert full.any() and np.abs(sample.watermarked[full] - expected).max() <= 0.501, name


def test_all_alphas_share_one_mark_and_colour_its_place(built, samples):
    clean = samples["text 0.5", 0].clean
    covers = [built.draw(Cell("text", alpha), 0, clean).alpha / alpha for alpha in ALPHAS]
    colour = built.draw(Cell("text", colour="colour"), 0, clean)
    for cover in [*covers, colour.alpha / 0.5]:
        assert np.abs(cover - covers[-1]).max() < 1e-6
    paint = colour.colour[0, 0]
    assert paint.max() == pytest.approx(1) and paint.min() == pytest.approx(0, abs=1e-6)
    assert (built.draw(Cell("text"), 0, clean).colour == 1).all()


def test_a_logo_keeps_its_own_colours(built):
    """The fixture's discs are dark red; a third of all logos is painted in one colour as in training."""
    own = 0
    for index in range(8):
        clean = np.full((SIDE, SIDE, 3), 128, np.uint8)
        mark = built.draw(Cell("logo", colour="own colours"), index, clean)
        white = built.draw(Cell("logo"), index, clean)
        np.testing.assert_array_equal(mark.alpha, white.alpha)
        colour = mark.colour[mark.alpha > 0.45]
        own += bool((colour[:, 0] < 60 / 255).all() and (colour[:, 1:] == 0).all())
    assert own >= 3


def test_masks_are_never_empty_and_exact(samples):
    for sample in samples.values():
        changed = (sample.watermarked != sample.clean).any(axis=-1)
        assert np.array_equal(changed, sample.mask.astype(bool))
        assert sample.mask.mean() >= 0.003 or sample.cell.kind == "unmarked"


def test_sizes_and_tiles_are_what_they_say(built, samples):
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)

    def share(**variant):  # of many marks, since a long phrase is as wide as the view in any size
        marks = [built.draw(Cell("text", **variant), index, grey) for index in range(12)]
        return np.mean([(mark.alpha > 0).mean() for mark in marks if mark is not None])

    assert share(size="small") < share() < share(size="large")
    assert share(tiled=True) > 1.5 * share()
    mask = samples["text 0.5 tiled", 0].mask
    assert all(quarter.any() for half in np.split(mask, 2) for quarter in np.split(half, 2, axis=1))


def test_a_photograph_on_which_no_mark_shows_is_left_out(built):
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    assert built.draw(Cell("shape"), 0, white) is None
    assert built.draw(Cell("text", colour="colour"), 0, white) is not None


# Logos.


@pytest.mark.parametrize(
    ("name", "brand"),
    [
        ("crypto_1inch-white.png", "1inch"),
        ("lobehub_AI21-brand-color.png", "ai21"),
        ("lobehub_ai21-text-black.png", "ai21"),
        ("devicon_git-original-wordmark.png", "git"),
        ("openmoji_1F1F1.png", "1f1f1"),
        ("lobehub_ppio-text-cn-black.png", "ppio-text-cn"),
        ("set_my_brand-plain.webp", "my_brand"),
        ("bare-line.png", "bare"),
    ],
)
def test_brands(name, brand):
    assert brand_of(name) == brand


def test_logos_are_split_by_brand(logos):
    split = split_logos(logos)
    brands = {part: {brand_of(path) for path in paths} for part, paths in split.items()}
    assert not brands["train"] & brands["test"] and len(brands["train"] | brands["test"]) == 60
    assert brands["test"] == {f"brand{i}" for i in range(60) if zlib.crc32(b"brand%d" % i) % 100 < 15}
    assert 0 < len(brands["test"]) < 20 and sum(map(len, split.values())) == 120


def test_tests_draw_test_logos_and_tuning_those_of_training(logos, built, photos):
    reds = {i for i in range(60) if f"brand{i}" in {brand_of(path) for path in split_logos(logos)["test"]}}
    assert {int(logo[32, 32, 0]) for logo in built.logos} == reds
    tuning = open_suite(photos[0].parent, logos, replace(CONFIG, part="val"))
    assert not {int(logo[32, 32, 0]) for logo in tuning.logos} & reds
    assert not set(tuning.paths) & set(built.paths)


def test_training_and_validation_share_brands_and_the_test_has_its_own(logos):
    parts = logos_by_part(logos)
    reds = {part: {int(logo[..., 0].max()) for logo in parts[part]} for part in parts}  # the brand's number
    assert list(parts) == ["train", "val", "test"] and parts["train"] is parts["val"]
    assert reds["train"] and reds["test"] and not reds["train"] & reds["test"]
    assert reds["train"] | reds["test"] == set(range(60))


def test_too_few_brands_to_split_are_used_everywhere_and_it_is_said(logos, tmp_path, log):
    name = "source_brand0-color.png"
    (tmp_path / name).write_bytes((logos / name).read_bytes())
    parts = logos_by_part(tmp_path)
    assert [len(parts[part]) for part in parts] == [1, 1, 1] and "too few brands" in log.text


def test_logos_that_cannot_be_used(tmp_path, log):
    with pytest.raises(ValueError, match="no folder"):
        split_logos(tmp_path / "none")
    (tmp_path / "a_bad.png").write_bytes(b"no picture")
    part = next(part for part, paths in split_logos(tmp_path).items() if paths)
    with pytest.raises(ValueError, match=f"no RGBA logos of the {part} brands"):
        load_logo_part(tmp_path, part)
    assert "skipped logo a_bad.png" in log.text


# The scores.


def test_scores_by_hand():
    clean = np.full((16, 16, 3), 100, np.uint8)
    watermarked, restored = clean.copy(), clean.copy()
    mask, found = np.zeros((2, 16, 16), np.uint8)
    mask[4:8, 4:8] = 1
    watermarked[4:8, 4:8] = 150
    restored[4:8, 4:8] = 110  # 10 grey levels are left
    restored[0, :4] = 101  # four pixels outside are changed
    found[4:8, 4:6], found[0, :4] = 255, 128  # 8 of 16 found, 4 wrong
    found[12, 12] = 127
    scores = score_sample(Sample(Cell("text"), "a.png", clean, watermarked, mask), restored, found)
    squared = (16 * 10**2 + 4 * 1**2) / 256
    assert scores["psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt(squared)), abs=1e-3)
    assert scores["input_psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt(16 * 50**2 / 256)), abs=1e-3)
    assert scores["masked_rmse"] == pytest.approx(10, abs=1e-3)
    assert scores["input_masked_rmse"] == pytest.approx(50, abs=1e-3)
    assert scores["masked_psnr"] == pytest.approx(20 * np.log10(25.5), abs=1e-3)
    assert scores["mask_iou"] == pytest.approx(8 / 20) and scores["mask_f1"] == pytest.approx(16 / 28)
    assert scores["changed_outside"] == pytest.approx(4 / 240) and scores["input_changed_outside"] == 0
    assert scores["telea_masked_rmse"] < 2  # OpenCV's steers a level or so off even on a flat patch
    assert scores["mask_area"] == 16 / 256 and np.isnan(scores["untouched"])


def test_scores_agree_with_scikit_image(samples):
    sample = samples["text 0.5", 0]
    scores = score_sample(sample, sample.watermarked, sample.mask * 255)
    painted = suite.telea(sample.watermarked, sample.mask)
    for prefix, view in (("input_", sample.watermarked), ("telea_", painted)):
        inside = sample.mask > 0
        assert scores[f"{prefix}psnr"] == pytest.approx(peak_signal_noise_ratio(sample.clean, view), abs=2e-3)
        masked = peak_signal_noise_ratio(sample.clean[inside], view[inside])
        assert scores[f"{prefix}masked_psnr"] == pytest.approx(masked, abs=2e-3)
        _, map_ = structural_similarity(
            sample.clean, view, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True, win_size=11,
        )  # fmt: skip
        assert scores[f"{prefix}ssim"] == pytest.approx(map_[5:-5, 5:-5].mean(), abs=1e-4)


def test_a_perfect_remover(samples):
    for sample in samples.values():
        scores = score_sample(sample, sample.clean, sample.mask * 255)
        assert scores["psnr"] == 100 and scores["ssim"] == pytest.approx(1) and scores["changed_outside"] == 0
        if sample.cell.kind != "unmarked":
            assert scores["masked_psnr"] == 100 and scores["masked_rmse"] == 0
            assert scores["mask_iou"] == scores["mask_f1"] == 1


def test_a_remover_that_does_nothing_scores_as_the_input(built):
    rows, examples = suite.score_suite(remover_of(lambda x: (x, np.zeros(x.shape[:2], np.uint8))), built)
    assert len(rows) == 2 * len(built.cells()) and list(examples) == [cell.name for cell in built.cells()]
    for row in rows:
        for name in ("psnr", "ssim", "masked_psnr", "masked_rmse", "changed_outside"):
            assert row[name] == row[f"input_{name}"] or (np.isnan(row[name]) and np.isnan(row[f"input_{name}"]))
        assert row["mask_iou"] == 0 or row["cell"] == "unmarked"
    assert all(gain["psnr"] == gain["masked_psnr"] == 0 for gain in gains(rows).values())


def test_telea_stays_within_a_pixel_of_the_mask(samples):
    sample = samples["shape 1.0", 0]
    changed = (suite.telea(sample.watermarked, sample.mask) != sample.watermarked).any(axis=-1)
    y, x = np.nonzero(changed)
    padded = np.pad(sample.mask, 1)
    assert all(padded[i : i + 3, j : j + 3].any() for i, j in zip(y, x, strict=True))
    assert changed[sample.mask > 0].mean() > 0.5


def test_unmarked_photographs_have_psnr_and_whether_they_were_touched(samples):
    sample = samples["unmarked", 0]
    untouched = score_sample(sample, sample.clean, sample.mask)
    assert untouched["psnr"] == untouched["input_psnr"] == 100 and untouched["untouched"] == 1
    spoiled = sample.clean.copy()
    spoiled[0, :48] ^= 1
    scores = score_sample(sample, spoiled, sample.mask)
    assert scores["untouched"] == 0 and scores["changed_outside"] == pytest.approx(48 / SIDE**2)
    assert scores["psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt(48 / SIDE**2)), abs=1e-3)
    assert np.isnan(scores["masked_psnr"]) and np.isnan(scores["mask_iou"]) and "telea_psnr" not in scores


def test_means_leave_out_nan_and_gains_take_the_plain_cells():
    def row(cell, psnr, iou, plain=True, alpha=0.3):
        return {"cell": cell, "plain": plain, "alpha": alpha, "psnr": psnr, "input_psnr": 20.0, "masked_psnr": psnr - 9,
                "input_masked_psnr": 10.0, "telea_masked_psnr": 15.0, "mask_iou": iou}  # fmt: skip

    rows = [row("text 0.3", 30.0, 0.5), row("text 0.3", 34.0, np.nan), row("shape 0.5", 23.0, 1.0, alpha=0.5),
            row("text 0.5 small", 99.0, 1.0, plain=False, alpha=0.5)]  # fmt: skip
    means = {mean["cell"]: mean for mean in summarise_cells(rows)}
    assert means["text 0.3"]["psnr"] == 32 and means["text 0.3"]["mask_iou"] == 0.5
    assert means["text 0.3"]["photographs"] == 2
    expected = {
        "0.3": {"photographs": 2, "psnr": 12.0, "masked_psnr": 13.0, "masked_psnr_telea": 8.0},
        "0.5": {"photographs": 1, "psnr": 3.0, "masked_psnr": 4.0, "masked_psnr_telea": -1.0},
        "all": {"photographs": 3, "psnr": 9.0, "masked_psnr": 10.0, "masked_psnr_telea": 5.0},
    }
    assert gains(rows) == expected


# The files.


@pytest.fixture(scope="module")
def report(tmp_path_factory, logos):
    """A remover that finds white marks on photographs without blue, exactly, through the whole run."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "blueless").mkdir()
    for i in range(10):
        Image.fromarray(photograph(300 + i, 280)).save(folder / "blueless" / f"{i}.png")
    (folder / "w.pth").write_bytes(b"weights")
    with pytest.MonkeyPatch.context() as patch:
        remover = planted()
        patch.setattr(suite_report, "load_remover", lambda weights, device: remover)
        results = suite_report.run_suite(
            folder / "blueless", logos, ScoreOptions(folder / "w.pth", "cpu", folder / "out", 1), without=("mirror",)
        )
        assert remover.without == {"mirror"}
    return results, folder


def test_a_run_leaves_strict_json_csv_and_a_picture(report):
    results, folder = report

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    text = (folder / "out" / "suite.json").read_text(encoding="utf-8")
    written = json.loads(text, parse_constant=refuse)
    assert len(written["cells"]) == 19 and written["settings"]["part"] == "test"
    assert written["without"] == ["mirror"] and written["bare"] is False
    assert written["weights"] == {"file": "w.pth", "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert str(folder) not in text and written["environment"]["python"] and written["date"]
    assert written["cells"][-1]["masked_psnr"] is None and written["cells"][-1]["untouched"] == 1
    with (folder / "out" / "suite.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == [cell["cell"] for cell in results["cells"]]
    assert float(rows[0]["psnr"]) == results["cells"][0]["psnr"]
    with Image.open(folder / "out" / "suite.png") as picture:
        assert 1200 < picture.width < 1800 and picture.height > 2000


def test_a_remover_that_knows_white_marks_is_seen_to(report):
    cells = {cell["cell"]: cell for cell in report[0]["cells"]}
    for name in ("text 0.3", "text 0.5", "logo 0.7", "text 0.5 large"):
        assert cells[name]["masked_psnr"] > cells[name]["input_masked_psnr"] + 8, name
        assert cells[name]["mask_iou"] > 0.8 and cells[name]["changed_outside"] < 0.01
    assert report[0]["gains_db"]["0.5"]["masked_psnr_telea"] > 0


def test_the_table_names_every_cell(report):
    table = suite_report.suite_table(report[0])
    assert all(cell["cell"] in table for cell in report[0]["cells"]) and "nan" not in table
    first = next(line for line in table.splitlines() if line.startswith("text 0.3"))
    assert f"{report[0]['cells'][0]['masked_psnr']:.2f}" in first.split()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"part": "train"}, "part must be one of test, val"), ({"per_cell": 0}, "per_cell must be a whole number")],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        SuiteConfig(**settings)


def test_too_few_photographs(tmp_path):
    with pytest.raises(ValueError, match="at least 10 are needed"):
        open_suite(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        open_suite(tmp_path / "none")


def test_the_bare_network_is_scored_without_the_remover(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(suite_report, "pick_precision", lambda name, place: torch.float32)
    torch.manual_seed(0)
    net = HeterogeneousUNet()
    weights = tmp_path / "w.pth"
    torch.save({"model": net.state_dict(), "config": {"composite": True}}, weights)
    results = suite_report.run_suite(
        photos[0].parent, None, ScoreOptions(weights, "cpu", limit=1), part="val", bare=True
    )
    assert results["bare"] and results["settings"]["part"] == "val"
    built = open_suite(photos[0].parent, None, SuiteConfig(part="val", per_cell=1))
    sample = next(built.samples("text", 0))
    with torch.inference_mode():
        image, logits = net.eval()(torch.from_numpy(sample.watermarked.transpose(2, 0, 1)[None] / np.float32(255)))
    restored = np.round(image[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    psnr = peak_signal_noise_ratio(sample.clean, restored, data_range=255)
    assert results["cells"][0]["psnr"] == pytest.approx(psnr, abs=1e-3)
    found, mask = (logits[0, 0] > 0).numpy(), sample.mask > 0
    assert results["cells"][0]["mask_iou"] == pytest.approx((found & mask).sum() / (found | mask).sum(), abs=0.01)


# The gallery


def test_the_gallery_shows_eight_by_rank_and_labels_the_failures():
    examples = [gallery.Example(str(i), None, None, None, 10.0, 34.0 - i) for i in range(24)]
    chosen = gallery.choose_examples(examples)
    assert [label for label, _, _ in chosen] == 4 * ["good"] + 2 * ["middling"] + 2 * ["failure"]
    ranks = [rank for _, rank, _ in chosen]
    assert ranks == sorted(set(ranks)) and ranks[0] == 1 and ranks[-1] == 24
    assert all(example.scene == str(rank - 1) for _, rank, example in chosen)


def test_gallery_examples_are_ordered_by_gain_and_measured_inside_the_mark(monkeypatch):
    monkeypatch.setattr(gallery, "MARKS_EACH", 1)
    monkeypatch.setattr(gallery, "VIEW", (96, 96))
    answers = iter(range(100))

    def restore(watermarked):  # a little better each time
        return np.clip(watermarked.astype(int) - 4 * next(answers), 0, 255).astype(np.uint8), np.zeros((96, 96), "u1")

    examples = gallery.restore_examples(remover_of(restore))
    gains = [example.after - example.before for example in examples]
    assert len(examples) == 6 and gains == sorted(gains, reverse=True) and len({e.scene for e in examples}) == 6
    for example in examples:
        inside = (example.watermarked != example.clean).any(axis=-1)
        error = (example.watermarked.astype(float) - example.clean)[inside] / 255
        assert example.before == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-3)


# Faces


def test_the_suite_takes_the_kept_out_faces_unless_others_are_given(photos, built, fonts):
    kept = load_fonts(faces="kept_out")
    assert built.fonts == kept != fonts
    assert open_suite(photos[0].parent, None, CONFIG, fonts).fonts == fonts


def test_faces_change_the_cells_of_text_alone(built, samples, fonts):
    other = replace(built, fonts=fonts)
    for kind, index in other.views():
        for sample in other.samples(kind, index):
            same = np.array_equal(sample.watermarked, samples[sample.cell.name, index].watermarked)
            assert same == (kind != "text"), sample.cell.name

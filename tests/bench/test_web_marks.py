"""Web marks: what they are by hand, at any size, the copies of watermarked photographs, and the scores of a remover."""

import csv
import io
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from wmremoval.bench import web_canvas, web_drawings, web_marks
from wmremoval.bench.__main__ import main
from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.web_drawings import BLACK, GREY, ORANGE, WHITE
from wmremoval.bench.web_marks import UNMARKED, WEB_MARKS, draw_web_mark, web_mark, web_sample, web_samples
from wmremoval.data.fonts import PHRASES, is_kept_out
from wmremoval.data.strings import FIRST_NAMES, TRADES, WORDS

PLAIN = [
    name for name, kind in WEB_MARKS.items() if kind.mode == "normal" and name not in ("jpeg", "shrunk", "product")
]
TO_THE_BORDER = {"preview", "crossed", "tiled", "corner_word", "icons", "banner", "cut_caption", "grid"}
OF_FIXED_SIZE = {"credit_10px", "grid"}

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


@pytest.mark.parametrize("name", sorted(set(WEB_MARKS) - OF_FIXED_SIZE))
def test_a_mark_grows_with_its_photograph(name):
    small = web_mark(name, 300, 400).alpha
    large = cv2.resize(web_mark(name, 900, 1200).alpha, (400, 300), interpolation=cv2.INTER_AREA)
    inside = (small > 0.1) | (large > 0.1)
    overlap = np.minimum(small, large)[inside].sum() / np.maximum(small, large)[inside].sum()
    assert overlap > 0.7, overlap


@pytest.mark.parametrize("size", [(400, 600), (1200, 1600)])
def test_small_credits_and_the_grid_s_lines_keep_their_size(size):
    rows = np.flatnonzero(web_mark("credit_10px", *size).alpha.any(axis=1))
    assert 7 <= rows[-1] - rows[0] + 1 <= 13 and rows[-1] > size[0] - 10
    alpha = web_mark("grid", *size).alpha
    line = alpha[:, 1] > 0
    assert 5 < line.sum() < 12 and not (line[1:] & line[:-1]).any() and set(np.unique(alpha)) == {0.0, 0.5}


@pytest.mark.parametrize("shape", [(200, 900), (900, 200)])
@pytest.mark.parametrize("name", sorted(set(WEB_MARKS) - TO_THE_BORDER))
def test_a_mark_lies_within_a_photograph_of_any_shape(name, shape):
    alpha = web_mark(name, *shape).alpha
    assert alpha.max() > 0.29
    for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert edge.max() == 0


def test_a_cut_caption_ends_with_the_photograph():
    alpha = web_mark("cut_caption", 300, 400).alpha
    assert (alpha[-1, :150] >= 0.44).all() and (alpha[260:, 0] >= 0.44).all()
    assert alpha[:200].max() == 0 and alpha[:, 300:].max() == 0


def test_a_wide_word_spans_four_fifths_of_the_width():
    for height, width in ((400, 600), (700, 500)):
        columns = np.flatnonzero((web_mark("wide", height, width).alpha > 0.1).any(axis=0))
        assert (columns[-1] - columns[0]) / width == pytest.approx(0.8, abs=0.03)


def test_an_emblem_has_many_colours_at_one_opacity():
    for name, alpha in (("shield", 0.55), ("shield_opaque", 1.0)):
        mark = web_mark(name, 480, 640)
        full = mark.alpha > alpha - 0.01
        assert mark.alpha.max() == pytest.approx(alpha, abs=1e-5) and full.sum() > 0.9 * (mark.alpha > 0).sum()
        _, counts = np.unique(np.round(mark.colour[full], 2), axis=0, return_counts=True)
        assert (counts > 50).sum() >= 5


@pytest.mark.parametrize(
    ("name", "colour"), [("clock_orange", (1, 0.55, 0.15)), ("clock_yellow", (1, 0.93, 0.3)), ("clock_white", WHITE)]
)
def test_a_clock_s_digits_have_their_colour(name, colour):
    mark = web_mark(name, 480, 640)
    lit = mark.alpha > 0.95
    assert lit.sum() > 200 and np.median(mark.colour[lit], axis=0) == pytest.approx(colour, abs=0.03)


def test_there_are_many_kinds_each_with_a_docstring_of_its_own():
    assert len(WEB_MARKS) >= 20
    texts = [draw.__doc__ for draw in web_drawings.DRAWINGS]
    assert all(texts) and len(set(texts)) == len(texts)


# Words and faces.


@pytest.fixture(scope="module")
def set_lines():
    """Every line of text of every kind, as it is given to the canvas."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        record = lambda *given, **named: lines.append(web_canvas.Line(*given, **named)) or lines[-1]  # noqa: E731
        patch.setattr(web_drawings, "Line", record)
        for name in WEB_MARKS:
            web_mark(name, 90, 120)
    return lines


def test_web_marks_are_set_in_kept_out_faces_alone(set_lines):
    faces = {line.face for line in set_lines}
    assert len(faces) >= 5 and all(is_kept_out(web_canvas.font_file(face)) for face in faces)


def test_a_face_that_is_missing_is_replaced_and_named(monkeypatch):
    found = {face.path for family in web_canvas.load_fonts(faces="kept_out").families for face in family}
    dejavu = [web_canvas.load_fonts.__wrapped__.__globals__["Face"](path) for path in found if "DejaVu" in path]
    monkeypatch.setattr(web_canvas, "load_fonts", lambda faces: SimpleNamespace(families=(tuple(dejavu),)))
    monkeypatch.setattr(web_canvas, "font_file", web_canvas.font_file.__wrapped__)
    assert web_canvas.missing_faces() == list(web_canvas.STAND_INS)
    assert "DejaVuSerif-Bold.ttf" in web_canvas.font_file(web_canvas.SERIF)


def test_web_marks_use_no_word_of_training(set_lines):
    words = lambda text: set(re.findall(r"\w+", text.lower()))  # noqa: E731
    trained = words(" ".join((*FIRST_NAMES, *TRADES, *WORDS, *(p for phrases in PHRASES.values() for p in phrases))))
    used = words(" ".join(line.text for line in set_lines))
    assert len(used) > 30
    assert used & trained <= {"no", "www", "for", "not"}, used & trained


# Samples.


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(skimage.data.coffee()[50:250, 100:400])


@pytest.fixture(scope="module")
def samples(photo):
    return {sample.cell.kind: sample for sample in web_samples("coffee", photo)}


@pytest.mark.parametrize("name", PLAIN)
def test_a_mark_changes_pixels_under_its_cover_alone(name, samples, photo):
    sample, mark = samples[name], web_mark(name, *photo.shape[:2])
    changed = (sample.watermarked != photo).any(axis=-1)
    np.testing.assert_array_equal(sample.clean, photo)
    np.testing.assert_array_equal(sample.mask, changed)
    assert changed.any() and not changed[mark.alpha == 0].any()
    there = mark.alpha > 0.29
    expected = (1 - mark.alpha[..., None]) * photo + 255 * mark.alpha[..., None] * mark.colour
    assert np.abs(sample.watermarked[there] - expected[there]).max() <= 0.51


def test_samples_are_the_same_each_time(samples, photo):
    for name in WEB_MARKS:
        again = web_sample(name, "coffee", photo)
        np.testing.assert_array_equal(again.watermarked, samples[name].watermarked)
        np.testing.assert_array_equal(again.clean, samples[name].clean)


def test_a_jpeg_is_of_the_watermarked_and_of_the_clean_photograph(samples, photo):
    def coded(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=75, subsampling="4:2:0")
        return np.asarray(Image.open(file)).astype(int)

    sample = samples["jpeg"]
    marked = web_marks.blend(photo, web_mark("jpeg", *photo.shape[:2]))[0]
    for ours, image in ((sample.clean, photo), (sample.watermarked, marked)):
        assert np.abs(ours - coded(image)).mean() < 0.5 < np.abs(ours - image.astype(int)).mean()


def test_shrinking_is_of_both_and_moves_the_lines(samples, photo):
    sample = samples["shrunk"]
    marked = web_marks.blend(photo, web_mark("shrunk", *photo.shape[:2]))[0]
    for ours, image in ((sample.clean, photo), (sample.watermarked, marked)):
        mean = image.reshape(100, 2, 150, 2, 3).mean(axis=(1, 3))
        assert ours.shape == (100, 150, 3) and np.abs(ours - mean).max() <= 0.51
    native = draw_web_mark("shrunk", *photo.shape[:2]).lines
    np.testing.assert_allclose(sample.lines, np.array(native) / 2)


def test_multiply_darkens_and_screen_lightens(samples, photo):
    image = photo / 255.0
    for name, blended in (("multiply", lambda i, w: i * w), ("screen", lambda i, w: i + w - i * w)):
        sample, mark = samples[name], web_mark(name, *photo.shape[:2])
        alpha = mark.alpha[..., None]
        expected = 255 * ((1 - alpha) * image + alpha * blended(image, mark.colour))
        assert np.abs(sample.watermarked - expected).max() <= 0.51
        assert ((sample.watermarked <= photo) if name == "multiply" else (sample.watermarked >= photo)).all()


def test_a_product_shot_is_white_around_the_photograph_s_middle(samples, photo):
    sample = samples["product"]
    assert (sample.clean[:20] == 255).all() and (sample.clean[:, :40] == 255).all()
    np.testing.assert_array_equal(sample.clean[90:110, 140:160], photo[90:110, 140:160])
    assert sample.mask[:, :60].any(), "the word reaches over the white ground"


@pytest.mark.parametrize("name", ["credit", "handwriting", "preview", "clock_white", "purple_word"])
def test_a_line_is_noted_where_it_is_drawn(name):
    kind = {"purple_word": "multiply"}.get(name, name)
    canvas = draw_web_mark(kind, 400, 600)
    boxes = np.zeros((400, 600), np.uint8)
    for line in canvas.lines:
        cv2.fillPoly(boxes, [np.round(line).astype(int)], 1)
    letters = canvas.layer[..., 3] > 0.2
    near = cv2.dilate(boxes, np.ones((7, 7))) > 0
    assert letters[near].sum() > (0.9 if name != "handwriting" else 0.7) * letters.sum()  # a stroke lies under the name
    assert letters[boxes > 0].mean() > 0.1


# The scores.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("web") / "photos"
    place.mkdir()
    Image.fromarray(skimage.data.coffee()[:150, :200]).save(place / "a.png")
    Image.fromarray(skimage.data.chelsea()[:120, :110]).save(place / "b.png")
    Image.fromarray(np.full((100, 120, 3), 255, np.uint8)).save(place / "white.png")
    return place


def planted(monkeypatch, restore):
    """A remover that gives what `restore` makes of a watermarked photograph; no detector of text."""
    answer = lambda photo: SimpleNamespace(image=restore(photo), mask_uint8=np.zeros(photo.shape[:2], np.uint8), seconds=0.5)  # noqa: E731  # fmt: skip
    monkeypatch.setattr(web_marks, "load_remover", lambda weights, device: answer)
    monkeypatch.setattr(web_marks, "load_detector", lambda: None)


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
            sample = web_sample(name, file, np.asarray(Image.open(folder / file)))
            row, restored = rows[name, file], half_way(sample.watermarked)
            assert (int(row["height"]), int(row["width"])) == sample.clean.shape[:2]
            assert float(row["psnr"]) == pytest.approx(peak_signal_noise_ratio(sample.clean, restored), abs=1e-3)
            there = sample.mask.astype(bool)
            views = restored, sample.watermarked
            inside, before = (peak_signal_noise_ratio(sample.clean[there], view[there]) for view in views)
            assert float(row["gain"]) == pytest.approx(inside - before, abs=2e-3)
            assert float(row["lifted"]) == (inside - before >= 6)
            outside = (restored != sample.watermarked).any(axis=-1)[~there]
            assert float(row["changed_outside"]) == pytest.approx(outside.mean())
            scores.append(float(row["psnr"]))
        mark = next(mark for mark in results["marks"] if mark["cell"] == name)
        assert mark["photographs"] == 3
        assert mark["psnr"] == pytest.approx(np.mean([*scores, float(rows[name, "white.png"]["psnr"])]))
    assert rows["credit", "white.png"]["lifted"] == "", "white on white is no mark"
    assert results["photographs"] == {"source": "photos", "count": 3}
    assert (out / "web_marks.png").stat().st_size > 10_000
    table = capsys.readouterr().out
    assert "cut_caption" in table and "bit for bit: 0.0%" in table and "lines_left is missing" in table


def test_doing_nothing_lifts_nothing_and_touches_nothing(monkeypatch, folder):
    planted(monkeypatch, lambda photo: photo)
    results = web_marks.run_web_marks(folder, ScoreOptions(device="cpu", limit=1))
    assert all(mark["lifted"] == mark["gain"] == mark["changed_outside"] == 0 for mark in results["marks"][:-1])
    assert results["marks"][-1]["cell"] == UNMARKED and results["marks"][-1]["untouched"] == 1


def test_the_clean_photograph_lifts_every_kind(monkeypatch, folder):
    references = {}
    take = web_marks.web_samples

    def remember(file, photo, names):
        for sample in take(file, photo, names):
            references["clean"] = sample.clean
            yield sample

    monkeypatch.setattr(web_marks, "web_samples", remember)
    planted(monkeypatch, lambda photo: references["clean"])
    results = web_marks.run_web_marks(folder, ScoreOptions(device="cpu", limit=2))
    assert all(mark["lifted"] == 1 and mark["psnr"] == 100 for mark in results["marks"][:-1])


def test_without_a_folder_the_photographs_are_scikit_image_s_and_kinds_can_be_chosen(monkeypatch):
    planted(monkeypatch, lambda photo: photo)
    results = web_marks.run_web_marks(None, ScoreOptions(device="cpu", limit=1), ["wide", "credit"])
    assert results["photographs"] == {"source": "scikit-image", "count": 1}
    assert [mark["cell"] for mark in results["marks"]] == ["credit", "wide"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--limit", "0"], "limit must be"),
        (["--photos", "nowhere"], "nowhere"),
        (["--only", "halo"], "unknown kind 'halo'"),
    ],
)
def test_what_cannot_be_scored_is_one_clear_line(more, message, capsys):
    assert main(["web", "--device", "cpu", *more]) == 1
    assert message in capsys.readouterr().err


def test_lines_count_as_left_while_a_detector_still_finds_them(monkeypatch, folder):
    """The planted detector finds a line in every view that is not the clean photograph's."""
    sample = web_sample("caption", "a", np.asarray(Image.open(folder / "a.png")))

    def found(detector, photo, lines):
        return np.array([not np.array_equal(photo, sample.clean) or number == 1 for number in range(len(lines))], bool)

    monkeypatch.setattr(web_marks, "lines_found", found)
    rows = [web_marks._lines_row(True, sample, restored) for restored in (sample.watermarked, sample.clean)]
    assert rows[0] == {"lines_found": 1.0, "lines_left": 1.0}, "a line that the clean photograph shows does not count"
    assert rows[1] == {"lines_found": 1.0, "lines_left": 0.0}
    assert web_marks._lines_row(None, sample, sample.clean) == {}


def test_of_a_tiling_a_few_whole_lines_are_looked_at(monkeypatch, samples, photo):
    asked = []
    monkeypatch.setattr(
        web_marks, "lines_found", lambda _, image, lines: asked.append(lines) or np.ones(len(lines), bool)
    )
    web_marks._lines_row(True, samples["tiled"], photo)
    assert len(samples["tiled"].lines) > 15 and 4 <= len(asked[0]) <= web_marks.MOST_LINES
    for line in asked[0]:
        assert (line >= 0).all() and (line <= (300, 200)).all()

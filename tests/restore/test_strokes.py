"""The strokes of a line of text by their colours alone, against the mask with which the letters were drawn."""

import cv2
import numpy as np
import pytest
from planted import marked
from skimage import data

from wmremoval.restore import strokes
from wmremoval.restore.strokes import line_strokes
from wmremoval.restore.text import Line


def letters(height: int, width: int, words: str, origin: tuple[int, int], scale: float) -> np.ndarray:
    """The cover (h, w) in [0, 1] of drawn letters; `origin` is x and y of their lower left corner."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.putText(canvas, words, origin, cv2.FONT_HERSHEY_DUPLEX, scale, 255, max(1, round(2 * scale)), cv2.LINE_AA)
    return canvas / np.float32(255.0)


def box_line(cover: np.ndarray) -> Line:
    x, y, w, h = cv2.boundingRect((cover > 0.5).astype(np.uint8))
    return Line(np.float32([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]), 0.9, "words", 0.9)


def stripes() -> np.ndarray:
    """Dark blue and beige stripes, slanted, with the grain of a camera."""
    y, x = np.mgrid[0:160, 0:360]
    picture = np.where(((x + y) // 14 % 2 > 0)[..., None], (40, 50, 70), (150, 140, 110))
    return np.uint8(np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255))


GROUNDS = {"stripes": stripes, "cat": lambda: data.chelsea()[60:220, 40:400], "sea": lambda: data.rocket()[:160, :360]}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("colour", [(220, 0, 160), (0, 200, 255)])
@pytest.mark.parametrize("scale", [0.6, 1.2])
def test_letters_of_a_colour_of_their_own_are_found_over_any_ground(ground, colour, scale):
    photo = GROUNDS[ground]()
    cover = letters(160, 360, "photo-stock.com", (20, 100), scale)
    picture = np.uint8(photo + cover[..., None] * (np.float32(colour) - photo))
    picture = cv2.imdecode(cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 85))[1], 1)[..., ::-1]
    strokes = line_strokes(np.ascontiguousarray(picture), box_line(cover))
    found = np.zeros(cover.shape, bool)
    found[strokes.block] = strokes.mask
    assert strokes.trusted
    assert found[cover > 0.5].mean() > 0.95, "all of the letters"
    near = cv2.dilate((cover > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert near[found].mean() > 0.9, "and little beside them"


@pytest.mark.parametrize("place", [(40, 40, 200, 70), (150, 100, 330, 140), (60, 200, 160, 225)])
@pytest.mark.parametrize("texture", [data.grass, data.gravel, data.brick])
def test_texture_without_letters_is_not_trusted(texture, place):
    left, top, right, bottom = place
    photo = np.repeat(texture()[:256, :384, None], 3, axis=2)
    line = Line(np.float32([(left, top), (right, top), (right, bottom), (left, bottom)]), 0.9, "mm nuim", 0.9)
    assert not line_strokes(photo, line).trusted


def test_strokes_of_a_large_line_are_found_in_a_shrunken_view(monkeypatch):
    """The same letters four times as large, at odd places, with room for a sixteenth of the pixels."""
    cover = cv2.resize(letters(160, 360, "photo-stock.com", (20, 100), 1.2), (1437, 639), interpolation=cv2.INTER_CUBIC)
    photo = cv2.resize(stripes(), (1437, 639), interpolation=cv2.INTER_CUBIC)
    picture = np.uint8(np.clip(photo + cover[..., None] * (np.float32((220, 0, 160)) - photo), 0, 255))
    monkeypatch.setattr(strokes, "MOST_PIXELS", 50_000)
    large = line_strokes(picture, box_line(cover))
    found = np.zeros(cover.shape, bool)
    found[large.block] = large.mask
    assert large.trusted
    assert found[cover > 0.5].mean() > 0.95, "all of the letters"
    near = cv2.dilate((cover > 0.1).astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert near[found].mean() > 0.9, "and little beside them"


def test_a_line_at_the_border_or_of_one_colour_is_no_error():
    flat = np.full((40, 60, 3), 128, np.uint8)
    corner = Line(np.float32([(-4, -3), (30, -3), (30, 12), (-4, 12)]), 0.9)
    strokes = line_strokes(flat, corner)
    assert not strokes.trusted and not strokes.mask.any()
    assert flat[strokes.block].shape[:2] == strokes.mask.shape


def test_the_strokes_of_the_planted_word_are_the_planted_mask():
    watermarked, _, mask = marked(96, 160, 1.0)
    strokes = line_strokes(watermarked, Line(np.float32([(15, 35), (140, 35), (140, 68), (15, 68)]), 0.9))
    found = np.zeros(mask.shape, bool)
    found[strokes.block] = strokes.mask
    assert strokes.trusted and found[mask > 0].mean() > 0.95

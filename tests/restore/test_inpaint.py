"""What is carried into hidden pixels, against what is known there and against OpenCV's Telea."""

import cv2
import numpy as np
import pytest
from skimage import data, draw

from wmremoval.restore.inpaint import INPAINT_PIXELS, inpaint, inpaint_block


def letters(height: int, width: int, scale: float = 2.0) -> np.ndarray:
    hidden = np.zeros((height, width), np.uint8)
    for row in range(60, height, 90):
        cv2.putText(hidden, "Sample", (10, row), cv2.FONT_HERSHEY_SIMPLEX, scale, 1, 8)
    return hidden


def telea(photo: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    return cv2.inpaint((photo * 255).round().astype(np.uint8), hidden, 3, cv2.INPAINT_TELEA) / np.float32(255)


def psnr_inside(image: np.ndarray, photo: np.ndarray, hidden: np.ndarray) -> float:
    return -10 * np.log10(np.square(image - photo)[hidden > 0].mean())


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_photographs_are_guessed_better_than_by_telea(name):
    photo = (getattr(data, name)()[:300, :400] / 255).astype(np.float32)
    hidden = letters(300, 400)
    spoiled = np.where(hidden[..., None] > 0, np.float32(1), photo)
    ours, theirs = (psnr_inside(method(spoiled, hidden), photo, hidden) for method in (inpaint, telea))
    assert ours > theirs + 1


def test_a_slope_goes_on_as_it_is():
    y, x = np.mgrid[:96, :128].astype(np.float32)
    photo = np.dstack([0.2 + 0.004 * x, 0.9 - 0.005 * y, 0.3 + 0.002 * x + 0.003 * y])
    hidden = letters(96, 128, 1.0)
    spoiled = np.where(hidden[..., None] > 0, np.float32(0), photo)
    assert np.abs(inpaint(spoiled, hidden) - photo).max() < 2 / 255


@pytest.mark.parametrize("slant", [0.0, 0.5, 1.0, 2.0])
def test_an_edge_goes_on_through_a_stroke(slant):
    y, x = np.mgrid[:96, :96].astype(np.float32)
    photo = np.repeat(np.clip((y - 48) - slant * (x - 48), -1, 1)[..., None] * 0.3 + 0.5, 3, axis=2)
    hidden = np.zeros((96, 96), np.uint8)
    hidden[:, 44:52] = 1
    spoiled = np.where(hidden[..., None] > 0, np.float32(0.9), photo)
    error, theirs = (np.abs(method(spoiled, hidden) - photo)[hidden > 0].mean() for method in (inpaint, telea))
    assert error < min(0.03, 0.7 * theirs)


def test_what_is_not_hidden_stays_and_nothing_is_made_up_beyond_its_range():
    photo = np.random.default_rng(4).random((70, 90, 3), dtype=np.float32) * 0.5 + 0.2
    before, hidden = photo.copy(), letters(70, 90, 1.0)
    photo[hidden > 0] = 1.0
    shown = photo.copy()
    filled = inpaint(photo, hidden)
    np.testing.assert_array_equal(photo, shown)
    np.testing.assert_array_equal(filled[hidden == 0], before[hidden == 0])
    assert filled.dtype == np.float32 and filled[hidden > 0].min() >= 0.2 and filled[hidden > 0].max() <= 0.7


def test_what_is_hidden_does_not_matter():
    photo, hidden = data.chelsea()[:100, :150] / np.float32(255), letters(100, 150, 1.0)
    one, other = (np.where(hidden[..., None] > 0, np.float32(value), photo) for value in (0.0, 1.0))
    np.testing.assert_array_equal(inpaint(one, hidden), inpaint(other, hidden))


def test_rows_and_columns_are_alike():
    photo, hidden = data.chelsea()[:128, :192] / np.float32(255), letters(128, 192, 1.0)
    across = inpaint(np.ascontiguousarray(photo.transpose(1, 0, 2)), np.ascontiguousarray(hidden.T))
    np.testing.assert_allclose(across.transpose(1, 0, 2), inpaint(photo, hidden), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 200), (33, 47)])
def test_any_size_and_any_share_of_it(shape):
    photo = np.full((*shape, 3), 0.4, np.float32)
    nothing, everything = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    np.testing.assert_array_equal(inpaint(photo, nothing), photo)
    np.testing.assert_array_equal(inpaint(photo, everything), photo)
    if photo[..., 0].size > 1:
        part = everything.copy()
        part[-1, -1] = 0
        spoiled = np.where(part[..., None] > 0, np.float32(0.9), photo)
        np.testing.assert_allclose(inpaint(spoiled, part), photo, atol=1e-5)


def test_a_block_too_large_is_repainted_on_a_shrunken_view():
    y, x = np.mgrid[:1500, :1600]
    photo = np.dstack([x / 8, y / 8, 255 - (x + y) / 16]).astype(np.uint8)
    strength = np.zeros((1500, 1600), np.uint8)
    strength[draw.disk((700, 800), 300)] = 255
    assert strength.size > INPAINT_PIXELS
    spoiled = np.where(strength[..., None] > 0, 255, photo).astype(np.uint8)
    block = slice(0, 1500), slice(0, 1600)
    error = np.abs(inpaint_block(spoiled, block, strength).astype(int) - photo)[strength > 0]
    assert error.mean() < 3 and error.max() < 12

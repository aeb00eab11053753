"""The estimate of a mark from many photographs against the true one."""

import cv2
import numpy as np
import pytest
from crops import crops, psnr, under, words

from wmremoval.data.marks import Mark
from wmremoval.shared.estimate import estimate_mark


def measured(mark: Mark, count: int = 18):
    photos = crops(count)
    support = cv2.dilate((mark.alpha > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    marked = under(mark, photos)
    return photos, marked, estimate_mark(marked, support, 0.4 * support, [0.5] * count)


@pytest.mark.parametrize(("alpha", "colour"), [(0.3, (1, 1, 1)), (0.6, (0.8, 0.1, 0.1)), (0.7, (0, 0, 0))])
def test_alpha_and_colour_of_a_mark_of_one_colour(alpha, colour):
    mark = words(alpha, colour=colour)
    photos, marked, found = measured(mark)
    core = mark.alpha > 0.95 * alpha
    assert abs(float(found.alpha[core].mean()) - alpha) < 0.05
    assert np.sqrt(np.square(found.alpha - mark.alpha).mean()) < 0.02
    np.testing.assert_allclose(found.colour[core].mean(axis=0), colour, atol=0.08)
    gain = []
    for photo, one in zip(photos, marked, strict=True):
        share = found.alpha[..., None]
        restored = (one / 255.0 - share * found.colour) / (1 - share)
        gain.append(psnr(255 * restored.clip(0, 1), photo) - psnr(one, photo))
    assert np.mean(gain) > 12


def test_nothing_outside_of_the_support_and_faint_noise_is_no_mark():
    mark = words(0.5)
    _, _, found = measured(mark)
    far = cv2.dilate((mark.alpha > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert not found.alpha[far].any()
    rim = ~far & (cv2.dilate((mark.alpha > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
    assert (found.alpha[rim] > 0.05).mean() < 0.05


def test_two_colours_are_told_apart():
    mark = words(0.6)
    mark.colour[:, :80] = (0.9, 0.2, 0.1)
    mark.colour[:, 80:] = (0.1, 0.3, 0.9)
    _, _, found = measured(mark)
    core = mark.alpha > 0.55
    left, right = core.copy(), core.copy()
    left[:, 76:], right[:, :84] = False, False
    np.testing.assert_allclose(np.median(found.colour[left], axis=0), (0.9, 0.2, 0.1), atol=0.12)
    np.testing.assert_allclose(np.median(found.colour[right], axis=0), (0.1, 0.3, 0.9), atol=0.12)


def test_one_photograph_unlike_the_others_leaves_no_ghost():
    """A face under the mark in one photograph: a white disc on black in one of the eighteen."""
    mark = words(0.5)
    photos = crops(18)
    photos[4] = np.zeros_like(photos[4])
    cv2.circle(photos[4], (80, 62), 30, (255, 255, 255), -1)
    support = cv2.dilate((mark.alpha > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    found = estimate_mark(under(mark, photos), support, 0.4 * support, [0.5] * 18)
    assert np.sqrt(np.square(found.alpha - mark.alpha).mean()) < 0.025

"""The estimate of a mark from many photographs against the true one."""

import cv2
import numpy as np
import pytest
from crops import crops, psnr, under, words

from wmremoval.data.marks import Mark
from wmremoval.shared.estimate import estimate_mark, whole_cover


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


def test_alpha_from_jpegs_whose_colours_run_over_the_edges_of_the_mark():
    alpha = 0.6
    photos, cover = crops(18, (240, 180)), np.zeros((180, 240), np.uint8)
    cv2.circle(cover, (120, 90), 50, 255, 12, cv2.LINE_AA)
    mark = Mark((alpha * cover / 255).astype(np.float32), np.ones((180, 240, 3), np.float32))
    codes = [cv2.imencode(".jpg", one[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1] for one in under(mark, photos)]
    lossy = [np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]) for code in codes]
    support = cv2.dilate((cover > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    found = estimate_mark(lossy, support, 0.4 * support, [4.0] * len(lossy))
    error = (found.alpha - mark.alpha)[cover > 242]
    assert abs(float(error.mean())) < 0.05
    assert float(error.std()) < 0.02
    np.testing.assert_allclose(found.colour[cover > 242].mean(axis=0), 1.0, atol=0.05)


def test_pixels_are_covered_whole_only_by_a_mark_of_one_strength():
    disc = np.zeros((60, 60), np.uint8)
    cv2.circle(disc, (30, 30), 20, 1, -1)
    support = cv2.dilate(disc, np.ones((9, 9), np.uint8)) > 0
    noise = np.random.default_rng(0).normal(0, 0.02, disc.shape)
    even = 1 / (1 - (0.5 + noise) * disc)
    covered = whole_cover(even, support)
    np.testing.assert_array_equal(covered, cv2.erode(disc, np.ones((3, 3), np.uint8)) > 0)
    fading = 1 / (1 - np.linspace(0.1, 0.7, 60) * disc)
    assert not whole_cover(fading, support).any()
    assert not whole_cover(np.ones((60, 60)), support).any()

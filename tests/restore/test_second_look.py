"""After the restoration the detector looks again; what is still readable is inpainted, and is said."""

import re

import numpy as np
import pytest
import torch
from planted import Backwards, Planted, marked, planted, psnr_inside

from wmremoval.model import invert
from wmremoval.restore.remover import Remover
from wmremoval.restore.repaint import covered_share
from wmremoval.restore.text import Line

CPU = torch.device("cpu")


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.float32([(left, top), (right, top), (right, bottom), (left, bottom)])


class StubFinder:
    """Knows where the planted word is; finds it as long as the blue, which is the mark, is there."""

    def __init__(self, *lines: Line):
        self.lines, self.asked = list(lines), 0

    def find(self, photo):
        return self.lines

    def read(self, photo, lines):
        return lines

    def find_near(self, photo, line):
        self.asked += 1
        left, top = line.quad.min(axis=0).astype(int)
        right, bottom = line.quad.max(axis=0).astype(int)
        return [line] if photo[top:bottom, left:right, 2].mean() > 3 else []


WORD = Line(quad(15, 35, 140, 68), 0.9, "Sample")


def test_a_word_that_goes_is_said_to_be_removed():
    watermarked, clean, mask = marked(96, 160)
    remover = planted()
    remover.text = StubFinder(WORD)
    result = remover(watermarked)
    (text,) = result.texts
    assert (text.words, text.fate) == ("Sample", "removed")
    assert text.quad == ((15.0, 35.0), (140.0, 35.0), (140.0, 68.0), (15.0, 68.0))
    assert psnr_inside(result.image, clean, mask) > 45


def test_words_to_be_kept_stay_whatever_the_decision():
    watermarked = marked(96, 160)[0]
    remover = planted()
    remover.text, remover.keep_text = StubFinder(WORD), re.compile("samp", re.IGNORECASE)
    result = remover(watermarked)
    assert [text.fate for text in result.texts] == ["kept: as asked for"]
    np.testing.assert_array_equal(result.image, watermarked)


def test_no_text_is_sought_in_a_mask_of_the_users_own():
    watermarked, _, mask = marked(96, 160)
    remover = planted()
    remover.text = StubFinder(WORD)
    assert remover(watermarked, mask=mask > 0).texts == []


@pytest.mark.parametrize(
    "found, share",
    [((15, 35, 140, 68), 1.0), ((15, 35, 77, 68), 0.5), ((15, 80, 140, 99), 0.0), ((0, 0, 150, 150), 0.0)],
)
def test_the_covered_share_of_a_line(found, share):
    assert covered_share(WORD, [Line(quad(*found), 0.9)]) == pytest.approx(share, abs=0.02)


class Half(Planted):
    """Takes a mark off by four fifths: what is left can still be read."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        alpha = 0.8 * parts.alpha
        return parts._replace(alpha=alpha, image=invert(watermarked, alpha, parts.colour))


def test_the_strokes_of_a_word_that_stays_readable_are_inpainted():
    watermarked, clean, mask = marked(96, 160)
    remover = Remover(Half(), CPU)
    remover.text = StubFinder(WORD)
    remover.without = frozenset({"again"})
    once = remover(watermarked)
    assert [text.fate for text in once.texts] == ["still readable"]
    remover.without = frozenset()
    twice = remover(watermarked)
    assert [text.fate for text in twice.texts] == ["removed"]
    assert psnr_inside(twice.image, clean, mask) > psnr_inside(once.image, clean, mask) + 3
    outside = twice.mask == 0
    np.testing.assert_array_equal(twice.image[outside], watermarked[outside])
    assert twice.mask.astype(bool)[mask == 0].mean() < 0.15, "the strokes and a pixel around them"


def test_a_word_that_keeps_its_outline_is_put_back():
    watermarked = marked(96, 160, alpha=0.3)[0]
    remover = Remover(Backwards(), CPU)
    remover.text = StubFinder(WORD)
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert [text.fate for text in result.texts] == ["left: part of the scene"] and not result.regions

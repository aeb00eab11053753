"""Written marks as coverage maps: blocks of one to three lines, words along a ring, seven-segment digits.

A cover is (h, w) float32 in [0, 1]: the filled share of each pixel.
"""

from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.data.fonts import PHRASES, SHAPED, Face, FontBook, write
from wmremoval.data.strings import random_string

STRING_SHARE = 0.75  # share of lines with random strings, where faces can write them; others are phrases. Not measured.
LETTER_WIDTH = 0.56  # ems; mean width of a letter, to estimate a line's width before writing. Not measured.
LARGEST_EM = 224  # pixels; larger letters are enlarged from this em, which is faster. Not measured.
ALIGNMENTS = {"left": 0.0, "middle": 0.5, "right": 1.0}  # share of the free width on the left of a line
# Segments of a digit as (x, y, x, y) from its left and top, in widths of a digit; a digit is 1 wide and 2 high.
SEGMENTS = {
    "a": (0, 0, 1, 0),
    "b": (1, 0, 1, 1),
    "c": (1, 1, 1, 2),
    "d": (0, 2, 1, 2),
    "e": (0, 1, 0, 2),
    "f": (0, 0, 0, 1),
    "g": (0, 1, 1, 1),
}
# Lit segments of each character.
DIGIT_SEGMENTS = {
    "0": "abcdef",
    "1": "bc",
    "2": "abged",
    "3": "abgcd",
    "4": "fgbc",
    "5": "afgcd",
    "6": "afgedc",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
    "-": "g",
}


class Line(NamedTuple):
    """A line of text with its language and face."""

    text: str
    language: str
    face: Face


def choose_line(rng: np.random.Generator, fonts: FontBook) -> Line | None:
    """A random string or phrase, and a face that can write it; None without faces. Families have equal probability."""
    if fonts.families and (rng.random() < STRING_SHARE or not fonts.faces):
        family = fonts.families[rng.integers(len(fonts.families))]
        return Line(random_string(rng), "en", family[rng.integers(len(family))])
    if not fonts.faces:
        return None
    language = list(fonts.faces)[rng.integers(len(fonts.faces))]
    faces, phrases = fonts.faces[language], PHRASES[language]
    return Line(phrases[rng.integers(len(phrases))], language, faces[rng.integers(len(faces))])


def write_line(line: Line, em: float, width: float, spacing: float = 0.0) -> np.ndarray:
    """Write a line.

    Args:
        line: text, language and face.
        em: pixels; reduced if the line would be too wide, to 5 at least.
        width: largest width of the line, pixels.
        spacing: extra space between letters, ems.

    Returns:
        the cover, (h, w) float32 in [0, 1].
    """
    spacing = 0.0 if line.language in SHAPED else spacing
    em = max(5.0, min(em, width / (len(line.text) * (LETTER_WIDTH + spacing))))
    size = round(min(em, LARGEST_EM))
    cover = write(line.text, line.language, line.face, size, spacing).astype(np.float32) / np.float32(255.0)
    scale = min(em / size if em > LARGEST_EM else 1.0, width / cover.shape[1])
    if scale == 1.0:
        return cover
    smaller = max(1, round(cover.shape[1] * scale)), max(1, round(cover.shape[0] * scale))
    return cv2.resize(cover, smaller, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC).clip(0, 1)


def write_block(
    rng: np.random.Generator, fonts: FontBook, em: float, width: float, lines: int | None = None
) -> np.ndarray | None:
    """Write one to three lines in one face, some in upper case, some letter-spaced.

    Args:
        rng: decides everything.
        fonts: faces of the lines.
        em: of the first line, pixels.
        width: largest width of a line, pixels.
        lines: number of lines; None: random, most often one.

    Returns:
        the cover, (h, w) float32 in [0, 1]; None without faces.
    """
    first = choose_line(rng, fonts)
    if first is None:
        return None
    count = lines or int(rng.choice((1, 1, 1, 2, 3)))
    spacing = rng.uniform(0.05, 0.5) if rng.random() < 0.25 else 0.0
    upper, smaller = rng.random() < 0.3, rng.uniform(0.4, 1.0)
    covers = []
    for number in range(count):
        line = first
        if number:
            texts = PHRASES[first.language]
            text = random_string(rng) if first.language == "en" and fonts.families else texts[rng.integers(len(texts))]
            line = first._replace(text=text)
        if upper and rng.random() < 0.8:
            line = line._replace(text=line.text.upper() if "ß" not in line.text else line.text)
        covers.append(write_line(line, em if number == 0 else em * smaller, width, spacing))
    return stacked(covers, ALIGNMENTS[rng.choice(list(ALIGNMENTS))], round(em * rng.uniform(0.05, 0.4)))


def stacked(covers: list[np.ndarray], alignment: float, gap: int) -> np.ndarray:
    """Covers one below the other with `gap` pixels between; `alignment` is one of the values of `ALIGNMENTS`."""
    width = max(cover.shape[1] for cover in covers)
    rows = []
    for number, cover in enumerate(covers):
        left = int(alignment * (width - cover.shape[1]))
        below = gap if number < len(covers) - 1 else 0
        rows.append(np.pad(cover, ((0, below), (left, width - cover.shape[1] - left))))
    return np.concatenate(rows)


def bend(cover: np.ndarray, radius: float) -> np.ndarray:
    """A line bent along a circle of `radius` pixels: the baseline on the circle, the middle of the line at its top."""
    height, width = cover.shape
    reach = int(radius + height) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    distance, angle = np.hypot(x, y), np.arctan2(x, -y)  # clockwise from the top, radians
    across = angle * np.float32(radius + height / 2) + np.float32(width / 2)
    down = np.float32(radius + height) - distance
    return cv2.remap(cover, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def seven_segments(text: str, height: int) -> np.ndarray:
    """Write digits in seven segments, as the clock of a camera does.

    Args:
        text: of digits, "-", ":", "." and "'"; any other character is a blank.
        height: of a digit, pixels.

    Returns:
        the cover, (h, w) float32 in [0, 1].
    """
    fine = 4  # factor of the drawing's resolution over the result's
    wide = height / 2.6  # pixels; width of a digit
    thick, step = max(1.0, 0.17 * height), wide * 1.55
    sheet = np.zeros((round(fine * (height + 2 * thick)), round(fine * (step * len(text) + 2 * thick))), np.uint8)
    for number, letter in enumerate(text):
        left = thick + number * step
        for name in DIGIT_SEGMENTS.get(letter, ""):
            x0, y0, x1, y1 = np.array(SEGMENTS[name]) * (wide, height / 2, wide, height / 2)
            shrink = 0.6 * thick * np.sign([x1 - x0, y1 - y0])  # segments do not touch
            start, end = np.array([x0, y0]) + shrink, np.array([x1, y1]) - shrink
            first, last = ((int(fine * (x + left)), int(fine * (y + thick))) for x, y in (start, end))
            cv2.line(sheet, first, last, 255, max(1, round(fine * thick * 0.8)), cv2.LINE_8)
        for share in {":": (0.3, 0.7), ".": (1.0,), "'": (0.08,)}.get(letter, ()):
            centre = int(fine * (left + wide / 2)), int(fine * (thick + share * height))
            cv2.circle(sheet, centre, round(fine * thick * 0.55), 255, -1)
    small = sheet.shape[1] // fine, sheet.shape[0] // fine
    return cv2.resize(sheet, small, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255.0)

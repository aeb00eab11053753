"""A layer of a photograph's size on which marks are drawn: patches of cover in one colour, and lines of text.

A cover is (h, w) float32 in [0, 1]: the covered share of each pixel.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import Mark
from wmremoval.data.stamps import over

FINER = 2  # factor of supersampling: covers are drawn at twice the size, so that their edges are smooth. Not measured.
# Names of kept-out faces: DejaVu comes with matplotlib, the last two with the requirements.
SANS, BOLD, MONO, ITALIC = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Italic"
SERIF, HAND = "PlayfairDisplay", "Caveat"
STAND_INS = {SERIF: "DejaVuSerif-Bold", HAND: ITALIC}  # where the package of a face is missing

Colour = tuple[float, float, float]  # RGB in [0, 1]
Point = tuple[float, float]  # x and y, pixels of the photograph


class Patch(NamedTuple):
    """A cover and its place."""

    cover: np.ndarray  # (h, w) float32 in [0, 1]
    left: int = 0  # pixels of the photograph
    top: int = 0


class Line(NamedTuple):
    """A line of text."""

    text: str
    face: str  # SANS, BOLD, MONO, ITALIC, SERIF or HAND
    em: float  # pixels of the photograph
    angle: float = 0.0  # degrees, counter-clockwise around the line's place


class Canvas:
    """A transparent layer of the photograph's size, and the lines of text on it.

    Args:
        width, height: size of the photograph, pixels.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height, self.side = width, height, min(width, height)
        self.layer = np.zeros((height, width, 4), np.float32)  # RGBA, premultiplied
        self.lines: list[np.ndarray] = []  # corners of each line, (4, 2) float32, from its top left clockwise

    @property
    def middle(self) -> Point:
        return self.width / 2, self.height / 2

    def rows(self, step: float, angle: float) -> np.ndarray:
        """The middles of parallel rows, (n, 2): `step` pixels apart, at `angle` degrees, over the whole photograph."""
        turn, count = np.radians(angle), int(np.hypot(self.width, self.height) / 2 // step) + 1
        across = np.array([np.sin(turn), np.cos(turn)])
        return np.array(self.middle) + np.arange(-count, count + 1)[:, None] * step * across

    def lattice(self, steps: tuple[float, float], angle: float) -> list[Point]:
        """Points on parallel rows over the whole photograph and a little beyond, for words that begin outside.

        Args:
            steps: between points of a row and between rows, pixels; every second row is moved by half a step.
            angle: of the rows, degrees.
        """
        turn, count = np.radians(angle), int(np.hypot(self.width, self.height) / 2 // steps[0]) + 1
        along, beyond = np.array([np.cos(turn), -np.sin(turn)]), 0.2 * self.side
        points = []
        for number, middle in enumerate(self.rows(steps[1], angle)):
            for column in np.arange(-count, count + 1) + 0.5 * (number % 2):
                x, y = middle + column * steps[0] * along
                if -beyond < x < self.width + beyond and -beyond < y < self.height + beyond:
                    points.append((float(x), float(y)))
        return points

    def lay(self, patch: Patch, colour: Colour, alpha: float) -> None:
        """Lay a patch over the layer, in one colour and with one opacity, cropped to the photograph."""
        place, cover = self._crop(patch)
        stamp = cover[..., None] * np.float32(alpha) * np.append(np.array(colour, np.float32), np.float32(1.0))
        self.layer[place] = over(stamp, self.layer[place])

    def erase(self, patch: Patch) -> None:
        """Make the layer transparent where the patch covers it."""
        place, cover = self._crop(patch)
        self.layer[place] *= 1.0 - cover[..., None]

    def write(self, line: Line, place: Point, anchor: str, colour: Colour, alpha: float) -> None:
        """Lay a line of text, and note its corners; `anchor` as in Pillow."""
        self.lay(self.text(line, place, anchor), colour, alpha)
        left, top, right, bottom = open_font(line).getbbox(line.text, anchor=anchor)
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32) / FINER
        turn = np.radians(line.angle)
        spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], np.float32)
        self.lines.append(corners @ spin.T + np.array(place, np.float32))

    def text(self, line: Line, place: Point, anchor: str, stroke: float = 0.0) -> Patch:
        """A line of text, with an outline of `stroke` pixels around its letters."""
        font, width = open_font(line), round(FINER * stroke)
        x, y = FINER * place[0], FINER * place[1]
        left, top, right, bottom = font.getbbox(line.text, anchor=anchor, stroke_width=width)
        reach = np.hypot(max(-left, right), max(-top, bottom)) if line.angle else 0.0
        box = (-reach, -reach, reach, reach) if line.angle else (left, top, right, bottom)
        left, top = (int(np.floor(v / FINER)) - 2 for v in (x + box[0], y + box[1]))
        high, wide = int(box[3] - box[1]) // FINER + 6, int(box[2] - box[0]) // FINER + 6
        sheet = Image.new("L", (FINER * wide, FINER * high))
        spot = x - FINER * left, y - FINER * top
        ImageDraw.Draw(sheet).text(spot, line.text, fill=255, font=font, anchor=anchor, stroke_width=width)
        if line.angle:
            sheet = sheet.rotate(line.angle, Image.Resampling.BICUBIC, center=spot)
        return Patch(_shrunk(sheet, wide, high), left, top)

    def shapes(self, draw: Callable[[ImageDraw.ImageDraw], None]) -> Patch:
        """All that `draw` draws in white on black; its coordinates are those of the photograph times `FINER`."""
        sheet = Image.new("L", (FINER * self.width, FINER * self.height))
        draw(ImageDraw.Draw(sheet))
        return Patch(_shrunk(sheet, self.width, self.height))

    def mark(self) -> Mark:
        """All patches together as one mark."""
        alpha = self.layer[..., 3]
        return Mark(alpha, self.layer[..., :3] / np.maximum(alpha, 1e-6)[..., None])

    def _crop(self, patch: Patch) -> tuple[tuple[slice, slice], np.ndarray]:
        """The part of the photograph that a patch covers, and the patch's cover there."""
        high, wide = patch.cover.shape
        top, left = max(patch.top, 0), max(patch.left, 0)
        bottom, right = (
            max(top, min(patch.top + high, self.height)),
            max(left, min(patch.left + wide, self.width)),
        )
        part = patch.cover[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
        return np.s_[top:bottom, left:right], part


def open_font(line: Line) -> ImageFont.FreeTypeFont:
    """The face of a line at its size times `FINER`."""
    return ImageFont.truetype(font_file(line.face), FINER * line.em)


@cache
def font_file(face: str) -> str:
    """The file of a kept-out face; of its stand-in where the face is not installed."""
    files = {
        Path(font.path).stem.split("[")[0]: font.path
        for family in load_fonts(faces="kept_out").families
        for font in family
    }
    return files[face] if face in files else files[STAND_INS[face]]


def missing_faces() -> list[str]:
    """Faces that are not installed here, so that others stand in for them."""
    return [face for face in STAND_INS if not Path(font_file(face)).stem.startswith(face)]


def _shrunk(sheet: Image.Image, width: int, height: int) -> np.ndarray:
    return cv2.resize(np.asarray(sheet), (width, height), interpolation=cv2.INTER_AREA) / np.float32(255.0)

"""Lines of text that differ from photograph to photograph, such as dates: only their place and their colour are shared.

Where both are known, the strokes are the pixels of this colour in this place, whether or not a network or a text detector
sees them; they are inpainted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from wmremoval.restore.inpaint import inpaint_block
from wmremoval.restore.remover import Result
from wmremoval.restore.strokes import line_strokes
from wmremoval.restore.text import Line
from wmremoval.shared.mark import SCALES, Frame

LEAST_PHOTOGRAPHS = 6  # that share a place, at least; as many as share a mark
CORNERS = tuple((x, y) for x in (0.0, 1.0) for y in (0.0, 1.0))  # fixed points, as shares of the photograph's sides
# The rest was chosen on 72 validation photographs of 384 x 288 with dates of three kinds, 16 to 22 pixels high (2026-11-27).
SAME_PLACE = 0.4  # intersection over union of the boxes of two lines from which they lie in one place; whole dates have 0.8 or more
SAME_COLOUR = (
    20.0  # CIELAB units; colours of strokes of one kind differ by up to 2, all pixels nearer than this are strokes
)
PUREST = 0.25  # share of the pixels of strokes that tell their colour; over all pixels the colours of one kind differ by up to 50
# Share of the pixels of a box that has the colour, at least, where a line is there, and times as many as in the ring around it.
# Boxes with a date have 0.08 or more, rings 0.05 or less.
LEAST_SHARE, DENSER = 0.03, 3.0
MARGIN = 0.5  # of the height of a place, by which lines may be longer or lie beside it. Not measured.
# Of the height of a place, pixels by which strokes are widened: soft edges. 1 and 2 pixels over the ordinary way gain 14.1 and
# 13.8 dB on 48 of the photographs, the ordinary way alone 12.0, inpainting alone 13.6.
GROWTH = 1 / 22


Sides = tuple[float, float, float, float]  # left, top, right and bottom, pixels


@dataclass(frozen=True)
class TextFind:
    """A line of text that was removed from a photograph: its box, and the colour of its strokes, see `stroke_colour`."""

    box: Sides
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class SharedLine:
    """The place and the colour of lines of text.

    Args:
        box: on a photograph of `size`.
        colour: median of the strokes' colours over photographs, CIELAB.
        size: width and height of that photograph.
        frame: how the box follows from another size.
        photographs: number of them on which such a line was removed.
    """

    box: Sides
    colour: tuple[float, float, float]
    size: tuple[int, int]
    frame: Frame
    photographs: int

    def strokes_on(self, photo: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """The strokes of the line on a photograph.

        Args:
            photo: (H, W, 3) RGB uint8.

        Returns:
            rows and columns of the place, and the strokes there, (h, w) boolean; None if it has none.
        """
        box = _moved(self.box, self.frame, self.size, photo.shape[1::-1])
        height = box[3] - box[1]
        block, around = (_block(box, photo, share * height) for share in (MARGIN, MARGIN + 1.0))
        near = self._near(photo[around])
        (top, bottom), (left, right) = (
            (b.start - a.start, b.stop - a.start) for b, a in zip(block, around, strict=True)
        )
        within = near[top:bottom, left:right]
        share = np.count_nonzero(within) / max(1.0, _area(box))
        beside = (np.count_nonzero(near) - np.count_nonzero(within)) / max(1, near.size - within.size)
        if share < max(LEAST_SHARE, DENSER * beside):
            return None
        side = 2 * max(1, round(GROWTH * height)) + 1
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        return block, cv2.dilate(within.astype(np.uint8), disk) > 0

    def _near(self, view: np.ndarray) -> np.ndarray:
        """The pixels of (h, w, 3) RGB uint8 that have the colour, (h, w) boolean."""
        lab = cv2.cvtColor(view / np.float32(255.0), cv2.COLOR_RGB2LAB)
        return np.linalg.norm(lab - np.array(self.colour, np.float32), axis=-1) < SAME_COLOUR


def inpaint_lines(photo: np.ndarray, result: Result, lines: Sequence[SharedLine]) -> bool:
    """Inpaint the lines of shared places over a result.

    Args:
        photo: (H, W, 3) RGB uint8.
        result: of the same photograph, restored in the ordinary way; its image and its mask are changed.
        lines: that photographs share.

    Returns:
        True if a line was inpainted; one that is kept, as asked for, is not.
    """
    kept = [text.quad for text in result.texts if text.fate.startswith("kept")]
    places = [at for line in lines if (at := line.strokes_on(photo)) is not None]
    found = [at for at in places if not any(_middle_in(quad, at[0]) for quad in kept)]
    for block, strokes in found:
        view, covered = result.image[block], result.mask_uint8[block]
        view[strokes] = inpaint_block(result.image, block, np.uint8(255) * strokes)[strokes]
        covered[strokes] = 255
        covered[(view == photo[block]).all(axis=-1)] = 0
        result.texts = [
            replace(text, fate="removed") if _middle_in(text.quad, block) else text for text in result.texts
        ]
    return bool(found)


def text_find(photo: np.ndarray, line: Line) -> TextFind | None:
    """A line of (H, W, 3) RGB uint8 as a `TextFind`; None where its strokes do not stand out by their colour."""
    colour = stroke_colour(photo, line)
    return None if colour is None else TextFind(_box(line), colour)


def stroke_colour(photo: np.ndarray, line: Line) -> tuple[float, float, float] | None:
    """The colour of the strokes of a line of (H, W, 3) RGB uint8, CIELAB; None where no strokes are found.

    It is the median of those pixels of the strokes that differ most from the pixels beside them, since edges are mixed with
    the photograph.
    """
    strokes = line_strokes(photo, line)
    if not strokes.trusted or strokes.mask.all():
        return None
    lab = cv2.cvtColor(photo[strokes.block] / np.float32(255.0), cv2.COLOR_RGB2LAB)
    pixels = lab[strokes.mask]
    far = np.linalg.norm(pixels - np.median(lab[~strokes.mask], axis=0), axis=1)
    lightness, a, b = np.median(pixels[far >= np.quantile(far, 1.0 - PUREST)], axis=0)
    return float(lightness), float(a), float(b)


def learn_lines(found: Sequence[tuple[tuple[int, int], Sequence[TextFind]]]) -> list[SharedLine]:
    """The places in which lines of text of one colour were removed from `LEAST_PHOTOGRAPHS` photographs or more.

    Args:
        found: width and height of each photograph, and the lines that were removed from it.
    """
    rest = [(i, size, text) for i, (size, texts) in enumerate(found) for text in texts]
    shared = []
    while (one := _most_frequent(rest)) is not None:
        line, members = one
        shared.append(line)
        rest = [item for item in rest if not any(item is member for member in members)]
    return shared


def _most_frequent(items: list) -> tuple[SharedLine, list] | None:
    """The place that most photographs share and its lines, of (photograph, size, `TextFind`); None if too few share one."""
    if not items:
        return None
    counts = Counter(size for _, size, _ in items)
    size = max(counts, key=lambda size: (counts[size], size[0] * size[1]))
    colours = np.array([text.colour for _, _, text in items])
    same_colour = np.linalg.norm(colours[:, None] - colours, axis=-1) < SAME_COLOUR
    frames = [Frame()] if len(counts) == 1 else [Frame(scale, anchor) for scale in SCALES for anchor in CORNERS]
    best, best_score = None, 0.0
    for frame in frames:
        boxes = [_moved(text.box, frame, own, size) for _, own, text in items]
        alike = np.array([[_alike(one, other) for other in boxes] for one in boxes])
        near = (alike > SAME_PLACE) & same_colour
        middle = int((alike * near).sum(axis=1).argmax())
        members, score = np.flatnonzero(near[middle]), float((alike * near)[middle].sum())
        count = len({items[i][0] for i in members})
        if count >= LEAST_PHOTOGRAPHS and score > 1.02 * best_score:  # of equals the simpler frame
            low, high = (np.quantile([boxes[i] for i in members], share, axis=0).tolist() for share in (0.1, 0.9))
            lightness, a, b = np.median(colours[members], axis=0).tolist()
            line = SharedLine((low[0], low[1], high[2], high[3]), (lightness, a, b), size, frame, count)
            best, best_score = (line, [items[i] for i in members]), score
    return best


def _box(line: Line) -> Sides:
    (left, top), (right, bottom) = line.quad.min(axis=0).tolist(), line.quad.max(axis=0).tolist()
    return left, top, right, bottom


def _moved(box: Sides, frame: Frame, size: tuple[int, int], other: tuple[int, int]) -> Sides:
    """A box on a photograph of `size` as it lies on one of another size."""
    ratio = frame.unit(other) / frame.unit(size)
    (x, y), (u, v) = frame.origin(size), frame.origin(other)
    return u + ratio * (box[0] - x), v + ratio * (box[1] - y), u + ratio * (box[2] - x), v + ratio * (box[3] - y)


def _block(box: Sides, photo: np.ndarray, margin: float) -> tuple[slice, slice]:
    """The rows and columns of a box with a margin, within (H, W, 3)."""
    ends = [
        np.clip((round(box[i] - margin), round(box[i + 2] + margin)), 0, photo.shape[1 - i]).tolist() for i in (1, 0)
    ]
    return slice(*ends[0]), slice(*ends[1])


def _middle_in(quad: Sequence[tuple[float, float]], block: tuple[slice, slice]) -> bool:
    """True if the middle of a quadrilateral lies within a block."""
    return all(block[1 - i].start <= np.mean([corner[i] for corner in quad]) < block[1 - i].stop for i in (0, 1))


def _area(box: Sides) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _common(one: Sides, other: Sides) -> float:
    corners = [max(one[i], other[i]) for i in (0, 1)] + [min(one[i], other[i]) for i in (2, 3)]
    return _area((corners[0], corners[1], corners[2], corners[3]))


def _alike(one: Sides, other: Sides) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    common = _common(one, other)
    return common / max(1e-6, _area(one) + _area(other) - common)

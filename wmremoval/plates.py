"""A translucent plate, as lies behind captions, and how it is taken off.

J = (1 - alpha) I + alpha W with one alpha and one W is turned round; along soft edges both sides tell how far it covers.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .pixelkinds import strips

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive, in pixels

FIRM = 2  # pixels on each side of an edge, beyond the soft ones, that are read
SOFT = 2  # pixels on both sides of an edge in which it may be soft
FAINT = 0.08  # cover that is none, and from 1 less than which it is whole


class Plate(NamedTuple):
    """A rectangle of one opacity and colour."""

    box: Box
    alpha: float
    colour: np.ndarray  # (3,) RGB in [0, 1]
    radius: int = 0  # pixels, of its corners


def take_off(restored: np.ndarray, plate: Plate) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
    """What a photograph has under a plate, and how far the plate covers it, in strips to save memory.

    Args:
        restored: (H, W, 3) uint8, without the letters; what is given of it may be changed before going on.
        plate: one of `platesearch.find_plates`.

    Yields:
        rows and columns; (h, w, 3) RGB float32 in [0, 1]; cover (h, w) in [0, 1], less than 1 along soft edges.
    """
    top, left, bottom, right = plate.box
    rows, columns = (slice(max(0, a - FIRM - SOFT), b + FIRM + SOFT) for a, b in ((top, bottom), (left, right)))
    view = restored[rows, columns]
    inner = top - rows.start, left - columns.start, bottom - rows.start, right - columns.start
    down = _cover(view[:, inner[1] : inner[3]], plate, inner[0], inner[2])
    aside = _cover(view[inner[0] : inner[2]].transpose(1, 0, 2), plate, inner[1], inner[3])
    for strip in strips(*view.shape[:2]):
        cover = down[strip, None] * aside * _rounded(inner, plate.radius, strip, view.shape[1])
        alpha = (plate.alpha * cover)[..., None]
        image = ((view[strip] / np.float32(255.0) - alpha * plate.colour) / (1.0 - alpha)).clip(0.0, 1.0)
        yield (
            (
                slice(rows.start + strip.start, rows.start + strip.stop),
                slice(columns.start, columns.start + view.shape[1]),
            ),
            image,
            cover,
        )


def _cover(view: np.ndarray, plate: Plate, first: int, last: int) -> np.ndarray:
    """How far a plate covers each row (h,), in [0, 1]; along an edge, what both sides of it tell of the rows between.

    Args:
        view: (h, w, 3) RGB uint8, the columns of the plate.
        plate: what it is.
        first, last: the plate's first row, and the first after it.
    """
    cover = np.zeros(len(view), np.float32)
    cover[first:last] = 1.0
    for edge, inwards in ((first, 1), (last, 0)):
        low, high = edge - SOFT - 1, edge + SOFT  # the last row and the first that are not soft
        if low < 0 or high >= len(view):
            continue  # the photograph's border
        around = view[low : high + 1] / np.float32(255.0)
        ends = [around[0], around[-1]]
        ends[inwards] = (ends[inwards] - plate.alpha * plate.colour) / (1.0 - plate.alpha)
        for row in range(low + 1, high):
            clean = ends[0] + (row - low) / (high - low) * (ends[1] - ends[0])
            full = plate.alpha * (plate.colour - clean)  # what the whole plate would add
            cover[row] = ((around[row - low] - clean) * full).sum() / max(float(np.square(full).sum()), 1e-6)
    return np.where(cover < FAINT, 0.0, np.where(cover > 1.0 - FAINT, 1.0, cover)).astype(np.float32)


def _rounded(box: Box, radius: int, rows: slice, width: int) -> np.ndarray:
    """How far a rectangle with round corners covers the pixels of some rows, (rows, width) in [0, 1]; a float where they are square."""
    if not radius:
        return np.float32(1.0)
    y, x = np.arange(rows.start, rows.stop)[:, None] + 0.5, np.arange(width) + 0.5
    down = np.maximum(np.maximum(box[0] + radius - y, y - (box[2] - radius)), 0.0)
    aside = np.maximum(np.maximum(box[1] + radius - x, x - (box[3] - radius)), 0.0)
    corner = (down > 0.0) & (aside > 0.0)
    return np.where(corner, (radius + 0.5 - np.hypot(down, aside)).clip(0.0, 1.0), 1.0).astype(np.float32)

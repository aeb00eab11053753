"""The translucent plate behind a caption: found by its edges around letters that were taken off, and taken off as well.

Nothing here is learned, and nothing is changed where one side of a rectangle contradicts the others; see `edges`.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from .edges import FAR, NEAR, Line, explained, fit, pairs
from .pixelkinds import strips

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive, in pixels

REACH_TALL, REACH_WIDE = (
    2.5,
    0.6,
)  # of the letters' height on all sides, and of their width more beside: how far edges are sought
LEAST_SIDE = 8  # pixels; smaller letters have no plate worth a look
APART = 1.0  # of the taller letters' height: those nearer to each other are of one caption
MOST_TRIED = 6  # captions, the largest, and as many of their parts where a whole one has no plate
MOST_PIXELS = 24_000_000  # in which a plate is sought; more would take too much memory
CANDIDATES, LIKELY = 3, 0.3  # for top and bottom; share of the step that a line of that side alone must explain
MORE = 3  # times as many for left and right, which are short
LOOSE = 6  # a side may lie inside of the letters' box by its height over this: boxes are drawn generously
LEAST_AROUND = 300  # pixels; sides of less, all together, tell too little
LEAST_STEP, LEAST_STEP_ASIDE = (
    0.03,
    0.012,
)  # root mean square across an edge, RGB in [0, 1]; of left and right, of which more is known
SIDE_TOLD, ALL_TOLD = 0.75, 0.96  # share of the step across a side, and across all, that one alpha and W must explain
SEEN_THROUGH = 0.1, 0.93  # 1 - alpha: less is opaque, more hardly there
AGREE = 0.9  # least correlation of both sides: a sign has none
IN_GAMUT = 0.6  # share of what a plate covers that has a colour without it: not all letters are always found
GAMUT_PIXELS = 1_000_000  # that are looked at for that, about
SLACK = 0.04  # of RGB in [0, 1]: how far out of gamut still counts as a colour, for noise and JPEG
SOFT = 2  # pixels on both sides of an edge in which it may be soft
FAINT = 0.08  # cover that is none, and from 1 less than which it is whole


class Plate(NamedTuple):
    """A rectangle of one opacity and colour."""

    box: Box
    alpha: float
    colour: np.ndarray  # (3,) RGB in [0, 1]


def find_plates(photo: np.ndarray, changed: np.ndarray, boxes: Sequence[Box]) -> list[Plate]:
    """The plates behind letters; none lies over another.

    Args:
        photo: (H, W, 3) uint8, as it was given.
        changed: (H, W) uint8, not 0 where it has been restored.
        boxes: around what has been restored, letters or not.
    """
    groups = captions([box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE])
    together = [union(group) for group in groups]
    alone = [box for group in groups if len(group) > 1 for box in group]
    plates: list[Plate] = []
    for box in [box for some in (together, alone) for box in sorted(some, key=_area, reverse=True)[:MOST_TRIED]]:
        if not any(_overlap(box, plate.box) for plate in plates) and (plate := find_plate(photo, changed, box)):
            plates += [] if any(_overlap(plate.box, other.box) for other in plates) else [plate]
    return plates


def captions(boxes: Sequence[Box]) -> list[list[Box]]:
    """Boxes in groups: those near each other are of one caption.

    Example:
        >>> captions([(0, 0, 10, 20), (0, 25, 10, 40), (90, 0, 99, 9)])
        [[(0, 25, 10, 40), (0, 0, 10, 20)], [(90, 0, 99, 9)]]
    """
    groups: list[list[Box]] = []
    for box in boxes:
        near = [group for group in groups if any(_near(box, other) for other in group)]
        joined = [box, *(other for group in near for other in group)]
        groups = [group for group in groups if group not in near] + [joined]
    return groups


def find_plate(photo: np.ndarray, changed: np.ndarray, box: Box) -> Plate | None:
    """The plate around a box of letters, if there is one; `photo` and `changed` as for `find_plates`."""
    tall, wide = box[2] - box[0], box[3] - box[1]
    down, aside = int(REACH_TALL * tall), int(REACH_TALL * tall + REACH_WIDE * wide)
    height, width = changed.shape
    top, left = max(0, box[0] - down), max(0, box[1] - aside)
    bottom, right = min(height, box[2] + down), min(width, box[3] + aside)
    if (bottom - top) * (right - left) > MOST_PIXELS:
        return None
    view = photo[top:bottom, left:right]
    letters = cv2.dilate((changed[top:bottom, left:right] > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    inner = box[0] - top, box[1] - left, box[2] - top, box[3] - left
    tops, bottoms = (_likely(view, letters, inner, turn) for turn in (0, 2))
    best, most = None, 0.0
    for first, last in product(tops, bottoms):
        line, _ = _agreed(view, letters, inner, (first, None, last, None))
        if line is None:
            continue
        between = first + FAR, inner[1], last - FAR, inner[3]
        for edges in product(
            [first], _likely(view, letters, between, 1, line), [last], _likely(view, letters, between, 3, line)
        ):
            plate, told = _plate(view, letters, edges)
            if plate and told * _around(plate.box) > most:
                best, most = plate, told * _around(plate.box)
    if best is None or not _in_gamut(view, letters, best):
        return None
    return best._replace(box=tuple(side + (top, left)[i % 2] for i, side in enumerate(best.box)))


def _likely(view: np.ndarray, letters: np.ndarray, inner: Box, turn: int, line: Line | None = None) -> list[int]:
    """Where one side may be: the best of all places beyond the letters.

    Args:
        view, letters: (h, w, 3) RGB uint8, and (h, w) boolean.
        inner: the letters' box in them.
        turn: 0 top, 1 left, 2 bottom, 3 right.
        line: what other sides say the plate is; None: nothing is known of it.
    """
    length, loose = view.shape[turn % 2], (inner[2] - inner[0]) // LOOSE
    places = np.arange(inner[turn] + loose + 1) if turn < 2 else np.arange(inner[turn] - loose, length + 1)
    places = places[(places >= NEAR + FAR) & (places <= length - NEAR - FAR)]
    found: list[int] = []
    if not len(places):
        return found
    side = pairs(view, letters, turn, places, (inner[1 - turn % 2], inner[3 - turn % 2]))
    own, (told,) = fit([side])
    if line is None:
        worth = np.where(own.step >= LEAST_STEP**2, told, 0.0)
    else:
        worth = np.where(own.step >= LEAST_STEP_ASIDE**2, explained(side, line), 0.0)
    for i in np.argsort(-worth):
        if len(found) == CANDIDATES * (MORE if turn % 2 else 1) or worth[i] < LIKELY:
            break
        if all(abs(places[i] - place) > FAR for place in found):
            found.append(int(places[i]))
    return found


def _agreed(view, letters, box: Box, edges: Sequence[int | None]) -> tuple[Line | None, float]:
    """What the edges of a box say together, and how much it explains of the worst; (None, 0.0) where they are no plate's.

    Args:
        view, letters: as for `_likely`.
        box: how far the edges go.
        edges: top, left, bottom, right; None is one that is not looked at.
    """
    sides = [
        pairs(view, letters, turn, np.array([edge]), (box[1 - turn % 2] + FAR, box[3 - turn % 2] - FAR))
        for turn, edge in enumerate(edges)
        if edge is not None
    ]
    if sum(side.known.shape[1] for side in sides) < LEAST_AROUND // 2:
        return None, 0.0
    line, told = fit(sides)
    seen = SEEN_THROUGH[0] < line.slope[0] < SEEN_THROUGH[1] and line.agree[0] >= AGREE
    if not seen or line.told[0] < ALL_TOLD or told.min() < SIDE_TOLD:
        return None, 0.0
    return line, float(told.min())


def _plate(view: np.ndarray, letters: np.ndarray, edges: Box) -> tuple[Plate | None, float]:
    """The plate with these edges and how much of the step across the worst it explains; (None, 0.0) where it is none."""
    if _around(edges) < LEAST_AROUND or min(edges[2] - edges[0], edges[3] - edges[1]) < LEAST_SIDE:
        return None, 0.0
    line, told = _agreed(view, letters, edges, edges)
    if line is None:
        return None, 0.0
    slope = float(line.slope[0])
    return Plate(edges, 1.0 - slope, (line.level[0] / (1.0 - slope)).clip(0.0, 1.0).astype(np.float32)), told


def _in_gamut(view: np.ndarray, letters: np.ndarray, plate: Plate) -> bool:
    """Whether most of what is under a plate would have colours that there are."""
    top, left, bottom, right = plate.box
    step = 1 + (bottom - top) * (right - left) // GAMUT_PIXELS
    inner = np.s_[top + NEAR : bottom - NEAR, left + NEAR : right - NEAR : step]
    inside = view[inner][~letters[inner]] / np.float32(255.0)
    low = plate.alpha * plate.colour - SLACK
    within = ((inside > low) & (inside < low + 1.0 - plate.alpha + 2 * SLACK)).all(axis=-1)
    return bool(len(within) and within.mean() > IN_GAMUT)


def take_off(restored: np.ndarray, plate: Plate) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
    """What a photograph has under a plate, and how far the plate covers it, in strips to save memory.

    Args:
        restored: (H, W, 3) uint8, without the letters; what is given of it may be changed before going on.
        plate: one of `find_plates`.

    Yields:
        rows and columns; (h, w, 3) RGB float32 in [0, 1]; cover (h, w) in [0, 1], less than 1 along soft edges.
    """
    top, left, bottom, right = plate.box
    rows, columns = (slice(max(0, a - FAR - SOFT), b + FAR + SOFT) for a, b in ((top, bottom), (left, right)))
    view = restored[rows, columns]
    inner = top - rows.start, left - columns.start, bottom - rows.start, right - columns.start
    down = _cover(view[:, inner[1] : inner[3]], plate, inner[0], inner[2])
    aside = _cover(view[inner[0] : inner[2]].transpose(1, 0, 2), plate, inner[1], inner[3])
    for strip in strips(*view.shape[:2]):
        cover = down[strip, None] * aside
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


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around others.

    Example:
        >>> union([(0, 5, 10, 20), (3, 0, 12, 9)])
        (0, 0, 12, 20)
    """
    top, left, bottom, right = zip(*boxes, strict=True)
    return min(top), min(left), max(bottom), max(right)


def _near(one: Box, other: Box) -> bool:
    gap = int(APART * max(one[2] - one[0], other[2] - other[0]))
    return _overlap((one[0] - gap, one[1] - gap, one[2] + gap, one[3] + gap), other)


def _overlap(one: Box, other: Box) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in range(2))


def _around(box: Box) -> int:
    return 2 * (box[2] - box[0] + box[3] - box[1])


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])

"""The translucent plate behind a caption, found by its edges around letters that were taken off.

Nothing here is learned, and nothing is changed where one side of a rectangle contradicts the others; see `edges`.
"""

from collections.abc import Sequence
from itertools import product

import cv2
import numpy as np

from .edges import FAR, NEAR, Line, alpha_line, corner_pairs, explained, fit, gain, pairs, step_of
from .plates import Box, Plate

REACH = 2.5, 0.6  # how far edges are sought: of the letters' height on all sides, and of their width more beside
LEAST_SIDE = 8  # pixels; smaller letters have no plate worth a look
APART = 1.0  # of the taller letters' height: those nearer to each other are of one caption
MOST_TRIED = 6  # captions, the largest, and as many of their parts where a whole one has no plate
MOST_PIXELS = 24_000_000  # in which a plate is sought; more would take too much memory
CANDIDATES, LIKELY = 5, 0.3  # for each side; share of the step that a line of that side alone must explain
PAIRS = 6  # of top and bottom, those that explain the most, for which left and right are sought
LOOSE = 6  # a side may lie inside of the letters' box by its height over this: boxes are drawn generously
LEAST_AROUND = 300  # pixels; sides of less, all together, tell too little
LEAST_STEP = 0.03  # root mean square across top and bottom, RGB in [0, 1]
SIDE_TOLD, ALL_TOLD = 0.75, 0.97  # share of the step across a side, and across all, that one alpha and W must explain
SEEN_THROUGH = 0.1, 0.93  # 1 - alpha: less is opaque, more hardly there
AGREE = 0.9  # least correlation of both sides: a sign has none
LESS = 0.85  # of these three, where only as much of top and bottom is looked at as there are letters between
IN_GAMUT = 0.6  # share of what a plate covers that has a colour without it: not all letters are always found
GAMUT_PIXELS = 1_000_000  # that are looked at for that, about
SLACK = 0.04  # of RGB in [0, 1]: how far out of gamut still counts as a colour, for noise and JPEG
LEAST_RADIUS = 10  # pixels; rounder than this a corner is told from a square one
ROUND = 0.3  # of what the sides are explained better by a plate: that much its corners must be too


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
    down, aside = int(REACH[0] * tall), int(REACH[0] * tall + REACH[1] * wide)
    height, width = changed.shape
    top, left = max(0, box[0] - down), max(0, box[1] - aside)
    bottom, right = min(height, box[2] + down), min(width, box[3] + aside)
    if (bottom - top) * (right - left) > MOST_PIXELS:
        return None
    view = photo[top:bottom, left:right]
    letters = cv2.dilate((changed[top:bottom, left:right] > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    inner = box[0] - top, box[1] - left, box[2] - top, box[3] - left
    tops, bottoms = (_likely(view, letters, inner, turn) for turn in (0, 2))
    level = [
        (_agreed(view, letters, inner, (first, None, last, None), LESS), first, last)
        for first, last in product(tops, bottoms)
    ]
    level = sorted((pair for pair in level if pair[0][0]), key=lambda pair: -pair[0][1])[:PAIRS]
    best, most = None, 0.0
    for (line, _), first, last in level:
        between = first + FAR, inner[1], last - FAR, inner[3]
        sides = (_likely(view, letters, between, turn, line) for turn in (1, 3))
        for edges in product([first], next(sides), [last], next(sides)):
            plate, gained = _plate(view, letters, edges)
            if gained > most:
                best, most = plate, gained
    if best is None or not _in_gamut(view, letters, best):
        return None
    best = best._replace(radius=_radius(view, letters, best, most / _around(best.box)))
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
    if not len(places):
        return []
    side = pairs(view, letters, turn, places, (inner[1 - turn % 2], inner[3 - turn % 2]))
    if line is None:
        line, (told,) = fit([side])
        return _best(places, np.where(line.step >= LEAST_STEP**2, told, 0.0))
    told = explained(side, line)
    return list(
        dict.fromkeys(_best(places, told) + _best(places, np.where(told >= LIKELY, gain(side, line), 0.0), 0.0))
    )


def _best(places: np.ndarray, worth: np.ndarray, least: float = LIKELY) -> list[int]:
    """The places worth the most, and more than `least`, none near another."""
    found: list[int] = []
    for i in np.argsort(-worth):
        if len(found) == CANDIDATES or worth[i] <= least:
            break
        if all(abs(places[i] - place) > FAR for place in found):
            found.append(int(places[i]))
    return found


def _agreed(view, letters, box: Box, edges: Sequence[int | None], share: float = 1.0) -> tuple[Line | None, float]:
    """What the edges of a box say together, and how well; (None, 0.0) where they are no plate's.

    How well: the squared step across all of every edge that is explained, summed along it, times its share of the step there
    is. So a longer edge counts for more, and what is no edge counts against.

    Args:
        view, letters: as for `_likely`.
        box: how far the edges go.
        edges: top, left, bottom, right; None is one that is not looked at.
        share: of what is asked for at least.
    """
    sides = [
        pairs(view, letters, turn, np.array([edge]), (box[1 - turn % 2] + FAR, box[3 - turn % 2] - FAR))
        for turn, edge in enumerate(edges)
        if edge is not None
    ]
    if sum(side.known.shape[1] for side in sides) < LEAST_AROUND // 2:
        return None, 0.0
    line, told = fit(sides)
    seen = SEEN_THROUGH[0] < line.slope[0] < SEEN_THROUGH[1] and line.agree[0] >= share * AGREE
    if not seen or line.told[0] < share * ALL_TOLD or told.min() < share * SIDE_TOLD:
        return None, 0.0
    gained = steps = 0.0
    for side, turn in zip(sides, (turn for turn, edge in enumerate(edges) if edge is not None), strict=True):
        length = box[3 - turn % 2] - box[1 - turn % 2]
        gained += length * float(gain(side, line)[0])
        steps += length * float(step_of(side)[0])
    return line, gained * abs(gained) / steps


def _plate(view: np.ndarray, letters: np.ndarray, edges: Box) -> tuple[Plate | None, float]:
    """The plate with these edges and how much it explains, as `_agreed`; (None, 0.0) where it is none."""
    if _around(edges) < LEAST_AROUND or min(edges[2] - edges[0], edges[3] - edges[1]) < LEAST_SIDE:
        return None, 0.0
    line, gained = _agreed(view, letters, edges, edges)
    if line is None:
        return None, 0.0
    slope = float(line.slope[0])
    return Plate(edges, 1.0 - slope, (line.level[0] / (1.0 - slope)).clip(0.0, 1.0).astype(np.float32)), gained


def _in_gamut(view: np.ndarray, letters: np.ndarray, plate: Plate) -> bool:
    """Whether most of what is under a plate would have colours that there are."""
    top, left, bottom, right = plate.box
    step = 1 + (bottom - top) * (right - left) // GAMUT_PIXELS
    inner = np.s_[top + NEAR : bottom - NEAR, left + NEAR : right - NEAR : step]
    inside = view[inner][~letters[inner]] / np.float32(255.0)
    low = plate.alpha * plate.colour - SLACK
    within = ((inside > low) & (inside < low + 1.0 - plate.alpha + 2 * SLACK)).all(axis=-1)
    return bool(len(within) and within.mean() > IN_GAMUT)


def _radius(view: np.ndarray, letters: np.ndarray, plate: Plate, gained: float) -> int:
    """Radius of a plate's corners, pixels: that across whose arcs it explains the most; 0: they are square.

    Args:
        view, letters: as for `_likely`.
        plate: all but its radius.
        gained: what it explains of each pixel of its sides.
    """
    best, most = 0, ROUND * gained
    for radius in range(LEAST_RADIUS, min(plate.box[2] - plate.box[0], plate.box[3] - plate.box[1]) // 2 + 1):
        arcs, line = corner_pairs(view, letters, plate.box, radius), alpha_line(plate.alpha, plate.colour)
        if explained(arcs, line)[0] >= SIDE_TOLD and gain(arcs, line)[0] > most:
            best, most = radius, float(gain(arcs, line)[0])
    return best


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

"""The translucent box behind a caption: its edges, how it is found by them, and how it is taken off."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.photofile.pixels import strips
from wmremoval.restore.prediction import unblend

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive, in pixels

# Chosen together, not one by one, on 27 development photographs under captions, 81 drawn rectangles and 1,868 places of 334
# unmarked photographs (2026-11-26): 86% of the rectangles are found, and one false plate.
FIRM_ROWS = 2  # pixels on each side of an edge, beyond the soft ones, that are read
SOFT_ROWS = 2  # pixels on both sides of an edge in which it may be soft
FAINT_COVER = 0.08  # cover that is none, and from 1 less than which it is whole
SAMPLES = 400  # places along a side that are compared
NEAR_EDGE, FAR_FROM_EDGE = (
    1,
    2,
)  # pixels from an edge at which two on each side are compared: what is nearer may be soft
LEAST_VALID = 0.7  # share of a side that must not be letters: a line that crosses a photograph is no caption
KEPT_SHARE = 0.7  # share of a side that tells the line; the rest may be edges of the photograph itself
FIT_ROUNDS = 3  # the line tells what is kept, what is kept tells the line
CORNER_ARC = np.radians(40), np.radians(50)  # of a round corner
TINY_STEP = 1e-6  # squared RGB in [0, 1]: far below any noise
SEARCH_REACH = 2.5, 0.6  # how far edges are sought: of the letters' height on all sides, and of their width more beside
LEAST_LETTERS = 8  # pixels; smaller letters have no plate that would be seen
CAPTION_GAP = 1.0  # of the taller letters' height: those nearer to each other are of one caption
MOST_TRIED = 6  # captions, the largest, and as many of their parts where a whole one has no plate
MOST_PIXELS = 24_000_000  # in which a plate is sought; more would take too much memory
MOST_CANDIDATES, CANDIDATE_EXPLAINED = (
    5,
    0.3,
)  # for each side; share of the step that a line of that side alone must explain
MOST_EDGE_PAIRS = 6  # of top and bottom, those that explain the most, for which left and right are sought
LOOSE_SHARE = 6  # a side may lie inside of the letters' box by its height over this: boxes are drawn generously
LEAST_AROUND = 300  # pixels; sides of less, all together, tell too little
LEAST_STEP = 0.03  # root mean square across top and bottom, RGB in [0, 1]
SIDE_EXPLAINED, ALL_EXPLAINED = (
    0.75,
    0.97,
)  # share of the step across a side, and across all, that one alpha and W must explain
SLOPE_RANGE = 0.1, 0.93  # 1 - alpha: less is opaque, more hardly there
LEAST_CORRELATION = 0.9  # least correlation of both sides: a sign has none
LEVEL_SHARE = 0.85  # of these three, where only as much of top and bottom is looked at as there are letters between
LEAST_IN_GAMUT = 0.6  # share of what a plate covers that has a colour without it: not all letters are always found
GAMUT_PIXELS = 1_000_000  # that are looked at for that, about
GAMUT_SLACK = 0.04  # of RGB in [0, 1]: how far out of gamut still counts as a colour, for noise and JPEG
LEAST_RADIUS = 10  # pixels; smaller radii cannot be told from square corners
ROUND_GAIN = 0.3  # of what the sides are explained better by a plate: that much its corners must be too


class Plate(NamedTuple):
    """A rectangle of one opacity and colour."""

    box: Box
    alpha: float
    colour: np.ndarray  # (3,) RGB in [0, 1]
    radius: int = 0  # pixels, of its corners


class Pairs(NamedTuple):
    """The pixels on both sides of k edges, at n places along each."""

    outside: np.ndarray  # (k, n, 3) RGB in [0, 1]
    inside: np.ndarray  # (k, n, 3)
    valid: np.ndarray  # (k, n) boolean: no letters there


class Line(NamedTuple):
    """inside = slope * outside + level, for each of k edges."""

    slope: np.ndarray  # (k,): 1 - alpha
    level: np.ndarray  # (k, 3): alpha W
    correlation: np.ndarray  # (k,): of both sides
    explained_share: np.ndarray  # (k,): share of the squared step across the edge that the line explains
    step: np.ndarray  # (k,): mean squared step, RGB in [0, 1]


def pairs(view: np.ndarray, letters: np.ndarray, turn: int, places: np.ndarray, along: tuple[int, int]) -> Pairs:
    """Both sides of edges before the rows or columns `places`, at most `SAMPLES` pixels along each.

    Args:
        view: (h, w, 3) RGB uint8.
        letters: (h, w) boolean.
        turn: which side of a plate: 0 top, 1 left, 2 bottom, 3 right.
        places: (k,) first row or column after each edge, `NEAR_EDGE` + `FAR_FROM_EDGE` pixels from the ends of the view or more.
        along: first column or row along it, and the first that is not.
    """
    if turn % 2:
        view, letters = view.transpose(1, 0, 2), letters.T
    at = np.unique(np.linspace(along[0], along[1] - 1, min(SAMPLES, along[1] - along[0])).astype(int))
    before, after = (
        (np.float32(view[(places + first)[:, None], at]) + view[(places + first + 1)[:, None], at])
        / np.float32(2 * 255)
        for first in (-NEAR_EDGE - FAR_FROM_EDGE, NEAR_EDGE)
    )
    valid = ~np.any(
        [letters[(places + i)[:, None], at] for i in range(-NEAR_EDGE - FAR_FROM_EDGE, NEAR_EDGE + FAR_FROM_EDGE)],
        axis=0,
    )
    return Pairs(before, after, valid) if turn < 2 else Pairs(after, before, valid)


def corner_pairs(view: np.ndarray, letters: np.ndarray, box: tuple[int, int, int, int], radius: int) -> Pairs:
    """Both sides of the middles of four round corners, where a square plate would have no edge (k = 1).

    Args:
        view, letters: as for `pairs`.
        box: top, left, bottom, right of the plate.
        radius: of its corners, pixels.
    """
    angle = np.linspace(*CORNER_ARC, max(5, radius // 2))
    top, left, bottom, right = box
    ways = [
        (y, x, a, b)
        for y, a in ((top + radius, -1), (bottom - radius, 1))
        for x, b in ((left + radius, -1), (right - radius, 1))
    ]

    def ring(distance: float) -> tuple[np.ndarray, np.ndarray]:
        down, aside = distance * np.sin(angle), distance * np.cos(angle)
        rows, columns = (
            np.concatenate(at) for at in zip(*((y + a * down, x + b * aside) for y, x, a, b in ways), strict=True)
        )
        rows, columns = (
            np.clip(np.floor(at).astype(int), 0, most - 1)
            for at, most in zip((rows, columns), letters.shape, strict=True)
        )
        return rows, columns

    rings = [ring(radius + away) for away in (NEAR_EDGE + 0.5, NEAR_EDGE + 1.5, -NEAR_EDGE - 0.5, -NEAR_EDGE - 1.5)]
    values = [view[at].astype(np.float32) / np.float32(255) for at in rings]
    valid = ~np.any([letters[at] for at in rings], axis=0)
    return Pairs((values[0] + values[1])[None] / 2, (values[2] + values[3])[None] / 2, valid[None])


def alpha_line(alpha: float, colour: np.ndarray) -> Line:
    """The line of a plate of one opacity and colour (3,), RGB in [0, 1]."""
    sure = np.ones(1)
    return Line(np.array([1.0 - alpha]), alpha * colour[None], sure, sure, sure)


def fit(sides: Sequence[Pairs]) -> tuple[Line, np.ndarray]:
    """Fit one line to all sides together, by the best part of each.

    Args:
        sides: of one plate, or of k plates at once.

    Returns:
        the line, and (len(sides), k): the share of the step across each side that it explains; 0 where too few pairs are valid.
    """
    kept = sides
    for _ in range(FIT_ROUNDS):
        line = _line(Pairs(*(np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))))
        kept = [_nearest(side, line) for side in sides]
    return line, np.array(
        [_if_valid(side, _explained_share(near, line)) for side, near in zip(sides, kept, strict=True)]
    )


def explained(side: Pairs, line: Line) -> np.ndarray:
    """Share of the squared step across most of a side that a line explains (k,); 0 where too few pairs are valid."""
    return _if_valid(side, _explained_share(_nearest(side, line), line))


def step_of(side: Pairs) -> np.ndarray:
    """Squared step across a side, the mean over all of it: (k,)."""
    return _mean(side, np.square(side.inside - side.outside).sum(axis=-1))


def gain(side: Pairs, line: Line) -> np.ndarray:
    """The squared step across a side that a line takes away, the mean over all of the side: (k,)."""
    return step_of(side) - _mean(side, _left(side, line))


def _mean(side: Pairs, x: np.ndarray) -> np.ndarray:
    """Mean of x (k, n) over the valid pairs of a side: (k,)."""
    return (x * side.valid).sum(axis=1) / np.maximum(side.valid.sum(axis=1), 1)


def _if_valid(side: Pairs, explained_share: np.ndarray) -> np.ndarray:
    return np.where(side.valid.mean(axis=1) >= LEAST_VALID, explained_share, 0.0)


def _line(both: Pairs) -> Line:
    """The ratio of both deviations is the slope: what is inside is not what is outside, only like it.

    Least squares would take the difference for noise and the slope too small (Smith, "Use and misuse of the reduced major
    axis for line-fitting", 2009).
    """
    weight = (both.valid / np.maximum(both.valid.sum(axis=1, keepdims=True), 1))[..., None]
    mean_o, mean_i = ((x * weight).sum(axis=1) for x in (both.outside, both.inside))
    o, i = both.outside - mean_o[:, None], both.inside - mean_i[:, None]
    of_o, of_i, of_both = (
        (x * weight).sum(axis=(1, 2)) + more for x, more in ((o * o, TINY_STEP), (i * i, TINY_STEP), (o * i, 0.0))
    )
    slope = np.sqrt(of_i / of_o)
    line = Line(slope, mean_i - slope[:, None] * mean_o, of_both / np.sqrt(of_o * of_i), slope, slope)
    return line._replace(explained_share=_explained_share(both, line), step=step_of(both) / 3.0)


def _left(both: Pairs, line: Line) -> np.ndarray:
    """Squared distance of each pair (k, n) from the line."""
    return np.square(both.inside - line.slope[:, None, None] * both.outside - line.level[:, None]).sum(axis=-1)


def _nearest(side: Pairs, line: Line) -> Pairs:
    """Of the valid pairs of a side those nearest to the line."""
    left = np.where(side.valid, _left(side, line), np.inf)
    last = np.maximum((KEPT_SHARE * side.valid.sum(axis=1)).astype(int) - 1, 0)
    most = np.take_along_axis(np.sort(left, axis=1), last[:, None], axis=1)
    return side._replace(valid=side.valid & (left <= most))


def _explained_share(both: Pairs, line: Line) -> np.ndarray:
    return 1.0 - _mean(both, _left(both, line)) / np.maximum(step_of(both), TINY_STEP)


def find_plates(photo: np.ndarray, changed: np.ndarray, boxes: Sequence[Box]) -> list[Plate]:
    """The plates behind letters; none lies over another.

    Args:
        photo: (H, W, 3) uint8, as it was given.
        changed: (H, W) uint8, not 0 where it has been restored.
        boxes: around what has been restored, letters or not.
    """
    groups = captions([box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= LEAST_LETTERS])
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
    down, aside = int(SEARCH_REACH[0] * tall), int(SEARCH_REACH[0] * tall + SEARCH_REACH[1] * wide)
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
        (_agreed(view, letters, inner, (first, None, last, None), LEVEL_SHARE), first, last)
        for first, last in product(tops, bottoms)
    ]
    level = sorted((pair for pair in level if pair[0][0]), key=lambda pair: -pair[0][1])[:MOST_EDGE_PAIRS]
    best, most = None, 0.0
    for (line, _), first, last in level:
        between = first + FAR_FROM_EDGE, inner[1], last - FAR_FROM_EDGE, inner[3]
        sides = (_likely(view, letters, between, turn, line) for turn in (1, 3))
        for edges in product([first], next(sides), [last], next(sides)):
            plate, gained = _plate(view, letters, edges)
            if gained > most:
                best, most = plate, gained
    if best is None or not _in_gamut(view, letters, best):
        return None
    best = best._replace(radius=_radius(view, letters, best, most / _around(best.box)))
    return best._replace(box=(best.box[0] + top, best.box[1] + left, best.box[2] + top, best.box[3] + left))


def _likely(view: np.ndarray, letters: np.ndarray, inner: Box, turn: int, line: Line | None = None) -> list[int]:
    """Candidates for one side: the best of all places beyond the letters.

    Args:
        view, letters: (h, w, 3) RGB uint8, and (h, w) boolean.
        inner: the letters' box in them.
        turn: 0 top, 1 left, 2 bottom, 3 right.
        line: what other sides say the plate is; None: nothing is known of it.
    """
    length, loose = view.shape[turn % 2], (inner[2] - inner[0]) // LOOSE_SHARE
    places = np.arange(inner[turn] + loose + 1) if turn < 2 else np.arange(inner[turn] - loose, length + 1)
    places = places[(places >= NEAR_EDGE + FAR_FROM_EDGE) & (places <= length - NEAR_EDGE - FAR_FROM_EDGE)]
    if not len(places):
        return []
    side = pairs(view, letters, turn, places, (inner[1 - turn % 2], inner[3 - turn % 2]))
    if line is None:
        line, (explained_share,) = fit([side])
        return _best(places, np.where(line.step >= LEAST_STEP**2, explained_share, 0.0))
    explained_share = explained(side, line)
    return list(
        dict.fromkeys(
            _best(places, explained_share)
            + _best(places, np.where(explained_share >= CANDIDATE_EXPLAINED, gain(side, line), 0.0), 0.0)
        )
    )


def _best(places: np.ndarray, worth: np.ndarray, least: float = CANDIDATE_EXPLAINED) -> list[int]:
    """The places worth the most, and more than `least`, none near another."""
    found: list[int] = []
    for i in np.argsort(-worth):
        if len(found) == MOST_CANDIDATES or worth[i] <= least:
            break
        if all(abs(places[i] - place) > FAR_FROM_EDGE for place in found):
            found.append(int(places[i]))
    return found


def _agreed(
    view: np.ndarray, letters: np.ndarray, box: Box, edges: Sequence[int | None], share: float = 1.0
) -> tuple[Line | None, float]:
    """The line that fits the edges of a box together, and its gain; (None, 0.0) if they are not the edges of a plate.

    How well: the squared step across all of every edge that is explained, summed along it, times its share of the step there
    is. So a longer edge counts for more, and what is no edge counts against.

    Args:
        view, letters: as for `_likely`.
        box: how far the edges go.
        edges: top, left, bottom, right; None is one that is not looked at.
        share: of what is asked for at least.
    """
    sides = [
        pairs(
            view,
            letters,
            turn,
            np.array([edge]),
            (box[1 - turn % 2] + FAR_FROM_EDGE, box[3 - turn % 2] - FAR_FROM_EDGE),
        )
        for turn, edge in enumerate(edges)
        if edge is not None
    ]
    if sum(side.valid.shape[1] for side in sides) < LEAST_AROUND // 2:
        return None, 0.0
    line, explained_share = fit(sides)
    seen = SLOPE_RANGE[0] < line.slope[0] < SLOPE_RANGE[1] and line.correlation[0] >= share * LEAST_CORRELATION
    if not seen or line.explained_share[0] < share * ALL_EXPLAINED or explained_share.min() < share * SIDE_EXPLAINED:
        return None, 0.0
    gained = steps = 0.0
    for side, turn in zip(sides, (turn for turn, edge in enumerate(edges) if edge is not None), strict=True):
        length = box[3 - turn % 2] - box[1 - turn % 2]
        gained += length * float(gain(side, line)[0])
        steps += length * float(step_of(side)[0])
    return line, gained * abs(gained) / steps


def _plate(view: np.ndarray, letters: np.ndarray, edges: Box) -> tuple[Plate | None, float]:
    """The plate with these edges and how much it explains, as `_agreed`; (None, 0.0) where it is none."""
    if _around(edges) < LEAST_AROUND or min(edges[2] - edges[0], edges[3] - edges[1]) < LEAST_LETTERS:
        return None, 0.0
    line, gained = _agreed(view, letters, edges, edges)
    if line is None:
        return None, 0.0
    slope = float(line.slope[0])
    return Plate(edges, 1.0 - slope, (line.level[0] / (1.0 - slope)).clip(0.0, 1.0).astype(np.float32)), gained


def _in_gamut(view: np.ndarray, letters: np.ndarray, plate: Plate) -> bool:
    """True if most pixels under a plate would have colours within [0, 1]."""
    top, left, bottom, right = plate.box
    step = 1 + (bottom - top) * (right - left) // GAMUT_PIXELS
    inner = np.s_[top + NEAR_EDGE : bottom - NEAR_EDGE, left + NEAR_EDGE : right - NEAR_EDGE : step]
    inside = view[inner][~letters[inner]] / np.float32(255.0)
    low = plate.alpha * plate.colour - GAMUT_SLACK
    within = ((inside > low) & (inside < low + 1.0 - plate.alpha + 2 * GAMUT_SLACK)).all(axis=-1)
    return bool(len(within) and within.mean() > LEAST_IN_GAMUT)


def _radius(view: np.ndarray, letters: np.ndarray, plate: Plate, gained: float) -> int:
    """Radius of a plate's corners, pixels: that across whose arcs it explains the most; 0: they are square.

    Args:
        view, letters: as for `_likely`.
        plate: all but its radius.
        gained: what it explains of each pixel of its sides.
    """
    best, most = 0, ROUND_GAIN * gained
    for radius in range(LEAST_RADIUS, min(plate.box[2] - plate.box[0], plate.box[3] - plate.box[1]) // 2 + 1):
        arcs, line = corner_pairs(view, letters, plate.box, radius), alpha_line(plate.alpha, plate.colour)
        if explained(arcs, line)[0] >= SIDE_EXPLAINED and gain(arcs, line)[0] > most:
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
    gap = int(CAPTION_GAP * max(one[2] - one[0], other[2] - other[0]))
    return _overlap((one[0] - gap, one[1] - gap, one[2] + gap, one[3] + gap), other)


def _overlap(one: Box, other: Box) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in range(2))


def _around(box: Box) -> int:
    return 2 * (box[2] - box[0] + box[3] - box[1])


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def take_off(restored: np.ndarray, plate: Plate) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
    """The photograph under a plate, and how far the plate covers it, in strips to save memory.

    Args:
        restored: (H, W, 3) uint8, without the letters; what is given of it may be changed before going on.
        plate: one of `find_plates`.

    Yields:
        rows and columns; (h, w, 3) RGB float32 in [0, 1]; cover (h, w) in [0, 1], less than 1 along soft edges.
    """
    top, left, bottom, right = plate.box
    rows, columns = (
        slice(max(0, a - FIRM_ROWS - SOFT_ROWS), b + FIRM_ROWS + SOFT_ROWS) for a, b in ((top, bottom), (left, right))
    )
    view = restored[rows, columns]
    inner = top - rows.start, left - columns.start, bottom - rows.start, right - columns.start
    down = _cover(view[:, inner[1] : inner[3]], plate, inner[0], inner[2])
    aside = _cover(view[inner[0] : inner[2]].transpose(1, 0, 2), plate, inner[1], inner[3])
    for strip in strips(*view.shape[:2]):
        cover = down[strip, None] * aside * _rounded(inner, plate.radius, strip, view.shape[1])
        image = unblend(view[strip] / np.float32(255.0), plate.alpha * cover, plate.colour)
        yield (
            (
                slice(rows.start + strip.start, rows.start + strip.stop),
                slice(columns.start, columns.start + view.shape[1]),
            ),
            image,
            cover,
        )


def _cover(view: np.ndarray, plate: Plate, first: int, last: int) -> np.ndarray:
    """The cover of each row by a plate (h,), in [0, 1]; along a soft edge it is estimated from both sides.

    Args:
        view: (h, w, 3) RGB uint8, the columns of the plate.
        plate: what it is.
        first, last: the plate's first row, and the first after it.
    """
    cover = np.zeros(len(view), np.float32)
    cover[first:last] = 1.0
    for edge, inwards in ((first, 1), (last, 0)):
        low, high = edge - SOFT_ROWS - 1, edge + SOFT_ROWS  # the last row and the first that are not soft
        if low < 0 or high >= len(view):
            continue  # the photograph's border
        around = view[low : high + 1] / np.float32(255.0)
        ends = [around[0], around[-1]]
        ends[inwards] = (ends[inwards] - plate.alpha * plate.colour) / (1.0 - plate.alpha)
        for row in range(low + 1, high):
            clean = ends[0] + (row - low) / (high - low) * (ends[1] - ends[0])
            full = plate.alpha * (plate.colour - clean)  # what the whole plate would add
            cover[row] = ((around[row - low] - clean) * full).sum() / max(float(np.square(full).sum()), 1e-6)
    return np.where(cover < FAINT_COVER, 0.0, np.where(cover > 1.0 - FAINT_COVER, 1.0, cover)).astype(np.float32)


def _rounded(box: Box, radius: int, rows: slice, width: int) -> np.ndarray | np.float32:
    """The cover of the pixels of some rows by a rectangle with round corners, (rows, width) in [0, 1]; 1.0 for square corners."""
    if not radius:
        return np.float32(1.0)
    y, x = np.arange(rows.start, rows.stop)[:, None] + 0.5, np.arange(width) + 0.5
    down = np.maximum(np.maximum(box[0] + radius - y, y - (box[2] - radius)), 0.0)
    aside = np.maximum(np.maximum(box[1] + radius - x, x - (box[3] - radius)), 0.0)
    corner = (down > 0.0) & (aside > 0.0)
    return np.where(corner, (radius + 0.5 - np.hypot(down, aside)).clip(0.0, 1.0), 1.0).astype(np.float32)

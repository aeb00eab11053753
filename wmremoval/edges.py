"""Both sides of straight edges, and the line that the inside of a translucent plate is over its outside.

A plate is J = (1 - alpha) I + alpha W with one alpha and one W. A photograph goes on across its edges, so that inside and
outside are a line, the same on all sides: a sign's inside knows nothing of what is around it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 400  # places along a side that are compared
NEAR, FAR = 1, 2  # pixels from an edge at which two on each side are compared: what is nearer may be soft
LEAST_KNOWN = 0.7  # share of a side that must not be letters: a line that crosses a photograph is no caption
KEPT = 0.7  # share of a side that tells the line; the rest may be edges of the photograph itself
ROUNDS = 3  # the line tells what is kept, what is kept tells the line
MIDDLE = np.radians(40), np.radians(50)  # of a round corner
TINY = 1e-6  # squared RGB in [0, 1]: far below any noise


class Pairs(NamedTuple):
    """What lies on both sides of k edges, at n places along each."""

    outside: np.ndarray  # (k, n, 3) RGB in [0, 1]
    inside: np.ndarray  # (k, n, 3)
    known: np.ndarray  # (k, n) boolean: no letters there


class Line(NamedTuple):
    """inside = slope * outside + level, for each of k edges."""

    slope: np.ndarray  # (k,): 1 - alpha
    level: np.ndarray  # (k, 3): alpha W
    agree: np.ndarray  # (k,): correlation of both sides
    told: np.ndarray  # (k,): share of the squared step across the edge that the line explains
    step: np.ndarray  # (k,): mean squared step, RGB in [0, 1]


def pairs(view: np.ndarray, letters: np.ndarray, turn: int, places: np.ndarray, along: tuple[int, int]) -> Pairs:
    """Both sides of edges before the rows or columns `places`, at most `SAMPLES` pixels along each.

    Args:
        view: (h, w, 3) RGB uint8.
        letters: (h, w) boolean.
        turn: which side of a plate: 0 top, 1 left, 2 bottom, 3 right.
        places: (k,) first row or column after each edge, `NEAR` + `FAR` pixels from the ends of the view or more.
        along: first column or row along it, and the first that is not.
    """
    if turn % 2:
        view, letters = view.transpose(1, 0, 2), letters.T
    at = np.unique(np.linspace(along[0], along[1] - 1, min(SAMPLES, along[1] - along[0])).astype(int))
    before, after = (
        (np.float32(view[(places + first)[:, None], at]) + view[(places + first + 1)[:, None], at])
        / np.float32(2 * 255)
        for first in (-NEAR - FAR, NEAR)
    )
    known = ~np.any([letters[(places + i)[:, None], at] for i in range(-NEAR - FAR, NEAR + FAR)], axis=0)
    return Pairs(before, after, known) if turn < 2 else Pairs(after, before, known)


def corner_pairs(view: np.ndarray, letters: np.ndarray, box: tuple[int, int, int, int], radius: int) -> Pairs:
    """Both sides of the middles of four round corners, where a square plate would have no edge (k = 1).

    Args:
        view, letters: as for `pairs`.
        box: top, left, bottom, right of the plate.
        radius: of its corners, pixels.
    """
    angle = np.linspace(*MIDDLE, max(5, radius // 2))
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

    rings = [ring(radius + away) for away in (NEAR + 0.5, NEAR + 1.5, -NEAR - 0.5, -NEAR - 1.5)]
    values = [np.float32(view[at]) / np.float32(255) for at in rings]
    known = ~np.any([letters[at] for at in rings], axis=0)
    return Pairs((values[0] + values[1])[None] / 2, (values[2] + values[3])[None] / 2, known[None])


def alpha_line(alpha: float, colour: np.ndarray) -> Line:
    """The line of a plate of one opacity and colour (3,), RGB in [0, 1]."""
    sure = np.ones(1)
    return Line(np.array([1.0 - alpha]), alpha * colour[None], sure, sure, sure)


def fit(sides: Sequence[Pairs]) -> tuple[Line, np.ndarray]:
    """The line of all sides together, told by most of each.

    Args:
        sides: of one plate, or of k plates at once.

    Returns:
        the line, and (len(sides), k): the share of the step across each side that it explains; 0 where too little is known.
    """
    kept = sides
    for _ in range(ROUNDS):
        line = _line(Pairs(*(np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))))
        kept = [_nearest(side, line) for side in sides]
    return line, np.array([_if_known(side, _told(near, line)) for side, near in zip(sides, kept, strict=True)])


def explained(side: Pairs, line: Line) -> np.ndarray:
    """Share of the squared step across most of a side that a line explains (k,); 0 where too little is known."""
    return _if_known(side, _told(_nearest(side, line), line))


def step_of(side: Pairs) -> np.ndarray:
    """Squared step across a side, the mean over all of it: (k,)."""
    return _mean(side, np.square(side.inside - side.outside).sum(axis=-1))


def gain(side: Pairs, line: Line) -> np.ndarray:
    """How much less of the squared step across a side is left with a line than without it, the mean over all of it: (k,)."""
    return step_of(side) - _mean(side, _left(side, line))


def _mean(side: Pairs, x: np.ndarray) -> np.ndarray:
    """Mean of x (k, n) over what is known of a side: (k,)."""
    return (x * side.known).sum(axis=1) / np.maximum(side.known.sum(axis=1), 1)


def _if_known(side: Pairs, told: np.ndarray) -> np.ndarray:
    return np.where(side.known.mean(axis=1) >= LEAST_KNOWN, told, 0.0)


def _line(both: Pairs) -> Line:
    """The ratio of both deviations is the slope: what is inside is not what is outside, only like it.

    Least squares would take the difference for noise and the slope too small (Smith, "Use and misuse of the reduced major
    axis for line-fitting", 2009).
    """
    weight = (both.known / np.maximum(both.known.sum(axis=1, keepdims=True), 1))[..., None]
    mean_o, mean_i = ((x * weight).sum(axis=1) for x in (both.outside, both.inside))
    o, i = both.outside - mean_o[:, None], both.inside - mean_i[:, None]
    of_o, of_i, of_both = (
        (x * weight).sum(axis=(1, 2)) + more for x, more in ((o * o, TINY), (i * i, TINY), (o * i, 0.0))
    )
    slope = np.sqrt(of_i / of_o)
    line = Line(slope, mean_i - slope[:, None] * mean_o, of_both / np.sqrt(of_o * of_i), slope, slope)
    return line._replace(told=_told(both, line), step=step_of(both) / 3.0)


def _left(both: Pairs, line: Line) -> np.ndarray:
    """What the line leaves of each pair (k, n), squared."""
    return np.square(both.inside - line.slope[:, None, None] * both.outside - line.level[:, None]).sum(axis=-1)


def _nearest(side: Pairs, line: Line) -> Pairs:
    """Of the known pairs of a side those nearest to the line."""
    left = np.where(side.known, _left(side, line), np.inf)
    last = np.maximum((KEPT * side.known.sum(axis=1)).astype(int) - 1, 0)
    most = np.take_along_axis(np.sort(left, axis=1), last[:, None], axis=1)
    return side._replace(known=side.known & (left <= most))


def _told(both: Pairs, line: Line) -> np.ndarray:
    return 1.0 - _mean(both, _left(both, line)) / np.maximum(step_of(both), TINY)

"""Separation: the cover, strength and colour of a mark with which the restored photograph has the fewest edges.

A mark that is removed too weakly, too strongly or slightly displaced leaves edges of its own, bright or dark.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.restore.fit_mark import FAINTEST_ALPHA, FIT_THRESHOLD, MarkFit
from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, Prediction, box_around, ramp, unblend

# The whole step was measured ("separation by sparse edges" in outputs/measurements/README.md). Its single values were
# not measured, except where a comment says so.
DESCENT_STEPS = 24  # steps of gradient descent; 100 were tried and are no better (the numbers were not kept)
COVER_RATE = 0.03  # cover; size of the first step, falling linearly to 0
MARK_RATE = 0.005  # alpha and RGB in [0, 1]; size of each step of strength and colour
ADAM_DECAY = 0.9, 0.999  # decay of the two means of Adam, as in its paper
# Power of a gradient's length in the cost of edges. Gradients of photographs are sparser than Laplace's distribution,
# whose power is 1.
EDGE_POWER = 0.5
EDGE_COST = 0.5  # cost of a gradient of 1; with the power 0.5 a gradient of 0.25 then costs 0.25, as with a power of 1
LEAST_EDGE = 0.005  # RGB in [0, 1] per pixel, one grey level; a smaller gradient is not an edge
PERIMETER_COST = 0.4  # cost of a change of the cover from 0 to 1 between neighbours
LEAST_CHANGE = 0.03  # change of the cover between neighbours; a smaller one is not an edge of the mark
COVER_COST = 0.6  # cost of a deviation of the cover by one standard error
COVER_STD_EDGE, COVER_STD_INSIDE, COVER_STD_OUTSIDE = 0.3, 0.05, 0.1  # standard error of the cover, by position
RIM_COVER = 0.05, 0.95  # a pixel of the mark's edge has a cover between these,
RIM_DISTANCE = 1.5, 2.0  # or lies within these distances of the edge, pixels: inside and outside of the mark
CANDIDATE_REACH = 3.5  # pixels; only pixels within this distance of the mark are changed
MARK_COST = 20.0  # cost of a deviation of strength and colour by one standard error, in an area about 250 pixels across
MARK_STD = 0.03, 0.1, 0.1, 0.1  # standard errors of strength and of the colour's three channels, in [0, 1]
CELL_SIDE = 8  # pixels; side of a cell with one deviation of strength and colour
CELL_SIGMA = 5.0  # cells; standard deviation of the weights with which other cells count for a cell
STRONGEST_ALPHA = 0.9  # largest alpha that is unblended
SEPARABLE = 0.7, 0.85  # strengths from which the result counts less, and from which it does not count
SPREAD_SCALE = 0.2  # standard deviation of alpha and colour in a window at which the result's share has fallen to 1/e


class MarkEstimate(NamedTuple):
    """A mark, as float32 arrays of one height and width."""

    cover: np.ndarray  # (h, w) in [0, 1]: 1 inside a mark, less at its edges
    strength: np.ndarray  # (h, w) in [0, 1]: alpha where the cover is 1
    # (h, w, 3) RGB, about [0, 1]. It may exceed 1: a weaker mark of such a colour also looks white.
    colour: np.ndarray


def separate(prediction: Prediction, fit: MarkFit) -> Prediction:
    """Remove a mark again, so that the fewest edges remain. Opaque marks and marks of several colours stay as they are.

    Args:
        prediction: composed from the fit; see `inpaint.compose`.
        fit: of the mark.
    """
    found = prediction.mask > FIT_THRESHOLD
    if not found.any():
        return prediction
    box = box_around(found, math.ceil(CANDIDATE_REACH) + 1)
    part, strength = prediction.part(box), fit.strength[box]
    gate = ramp(part.mask, GATE_FROM, GATE_FULL)
    cover = (gate * part.alpha / np.maximum(strength, 0.02)).clip(0.0, 1.0)
    mark = fewest_edges(part.photo, MarkEstimate(*(x.astype(np.float32) for x in (cover, strength, part.colour))))

    share = (1.0 - ramp(strength, *SEPARABLE)) * np.exp(-fit.spread[box] / SPREAD_SCALE**2) * fit.uncertainty[box]
    share *= (gate > 0.0) & (_distance_outside(cover) < CANDIDATE_REACH)
    alpha = mark.cover * mark.strength
    mask = part.mask * ramp(alpha, *FAINTEST_ALPHA)
    separated = {"image": unblend(part.photo, alpha, mark.colour), "alpha": alpha, "colour": mark.colour, "mask": mask}
    changed = {name: getattr(prediction, name).copy() for name in separated}
    for name, new in separated.items():
        old = changed[name][box]
        old += (share if new.ndim == 2 else share[..., None]) * (new - old)
    return prediction._replace(**changed)


def fewest_edges(photo: np.ndarray, mark: MarkEstimate) -> MarkEstimate:
    """Improve the estimate of a mark, so that the photograph without it has the fewest edges.

    Gradients of photographs are sparse: a photograph under a second layer has more edges than either of the two
    (Levin, Zomet and Weiss, Separating Reflections from a Single Image Using Local Features, CVPR 2004; the sparse
    prior itself: Levin and Weiss, ECCV 2004, https://doi.org/10.1007/978-3-540-24670-1_46). Gradient descent
    minimises the sum of |grad I|^0.5 over the photograph I = (J - alpha W) / (1 - alpha), plus the cost of deviations
    from the estimate.

    Args:
        photo: J, (h, w, 3) RGB float32 in [0, 1].
        mark: the estimate to start from.
    """
    outside = _distance_outside(mark.cover)
    rows, columns = np.nonzero(outside < CANDIDATE_REACH)
    if not rows.size:
        return mark
    descent = _Descent(photo, mark, rows, columns, _cover_std(mark.cover, outside)[rows, columns])
    for step in range(DESCENT_STEPS):
        descent.step(step)
    return descent.mark()


def _distance_outside(cover: np.ndarray) -> np.ndarray:
    """The distance of each pixel (h, w) to the mark, pixels; 0 inside, and very large without any mark."""
    return cv2.distanceTransform((cover <= 0.5).astype(np.uint8), cv2.DIST_L2, 3)


def _cover_std(cover: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The assumed standard error of the cover (h, w); `outside` is the distance to the mark, pixels."""
    inside = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    edge = (inside <= RIM_DISTANCE[0]) & (outside <= RIM_DISTANCE[1]) | (
        (cover > RIM_COVER[0]) & (cover < RIM_COVER[1])
    )
    return np.where(edge, COVER_STD_EDGE, np.where(inside > 0, COVER_STD_INSIDE, COVER_STD_OUTSIDE)).astype(np.float32)


class _Adam:
    """Adam: steps in proportion to past gradients, so that flat and textured places change equally fast.

    Kingma and Ba 2015, algorithm 1.
    """

    def __init__(self, like: np.ndarray):
        self.mean, self.square, self.count = np.zeros_like(like), np.zeros_like(like), 0

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        """The direction of the next step for a gradient; its elements have a size of about 1."""
        self.count += 1
        for kept, new, decay in ((self.mean, gradient, ADAM_DECAY[0]), (self.square, gradient**2, ADAM_DECAY[1])):
            kept += (1.0 - decay) * (new - kept)
        square = self.square / (1.0 - ADAM_DECAY[1] ** self.count)
        return self.mean / (1.0 - ADAM_DECAY[0] ** self.count) / (np.sqrt(square) + 1e-8)


class _Descent:
    """Gradient descent on the n pixels that may belong to a mark.

    The unknowns are the cover of each pixel, and the deviation of strength and colour in each cell.

    Args:
        photo: (h, w, 3) RGB float32 in [0, 1].
        mark: the estimate to start from.
        rows, columns: (n,), of the pixels.
        cover_std: (n,), standard error of each pixel's cover.
    """

    def __init__(
        self, photo: np.ndarray, mark: MarkEstimate, rows: np.ndarray, columns: np.ndarray, cover_std: np.ndarray
    ):
        height, width = mark.cover.shape
        self.positions = rows * width + columns
        self.neighbours = [
            (rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1)
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        self.image, self.covers = photo.reshape(-1, 3).copy(), mark.cover.reshape(-1).copy()  # of the whole view
        self.watermarked, self.cover_std = self.image[self.positions], cover_std
        self.estimate, self.first = mark, MarkEstimate(*(x[rows, columns] for x in mark))
        self.cells = -(-height // CELL_SIDE), -(-width // CELL_SIDE)
        self.cell = rows // CELL_SIDE * self.cells[1] + columns // CELL_SIDE
        self.cover = self.first.cover.copy()
        self.deviation = np.zeros((*self.cells, 4), np.float32)  # of strength and colour, by cell
        self.adam = _Adam(self.cover), _Adam(self.deviation)

    def strength_and_colour(self) -> tuple[np.ndarray, np.ndarray]:
        """The present strength (n,) and colour (n, 3) of the pixels."""
        deviation = self.deviation.reshape(-1, 4)[self.cell]
        return (self.first.strength + deviation[:, 0]).clip(0.0, 1.0), self.first.colour + deviation[:, 1:]

    def step(self, step: int) -> None:
        """Take step number `step`, from 0."""
        strength, colour = self.strength_and_colour()
        alpha = np.minimum(self.cover * strength, STRONGEST_ALPHA)
        gain = 1.0 / (1.0 - alpha)  # by which unblending multiplies differences
        restored = (self.watermarked - alpha[:, None] * colour) * gain[:, None]
        self.image[self.positions], self.covers[self.positions] = restored, self.cover
        by_restored, by_perimeter = self._cost_gradients(restored)
        by_alpha = (by_restored * (restored - colour)).sum(axis=-1) * gain * (alpha < STRONGEST_ALPHA)
        by_cover = strength * by_alpha + PERIMETER_COST * by_perimeter
        by_cover += 2.0 * COVER_COST * (self.cover - self.first.cover) / self.cover_std**2
        by_colour = -(alpha * gain)[:, None] * by_restored
        by_deviation = self._cell_sums(np.column_stack([self.cover * by_alpha, by_colour]))
        by_deviation += 2.0 * MARK_COST * self.deviation / np.square(np.array(MARK_STD, np.float32))
        rate = COVER_RATE * (1.0 - step / DESCENT_STEPS)
        self.cover = (self.cover - rate * self.adam[0].direction(by_cover)).clip(0.0, 1.0)
        self.deviation -= MARK_RATE * self.adam[1].direction(by_deviation)

    def _cost_gradients(self, restored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of the edge cost by the restored pixels (n, 3), and of the perimeter by their cover (n,)."""
        by_restored, by_cover = np.zeros_like(restored), np.zeros_like(self.cover)
        for neighbour in self.neighbours:
            gradient = restored - self.image.take(neighbour, axis=0)
            squared = np.einsum("ij,ij->i", gradient, gradient) + LEAST_EDGE**2
            by_restored += (EDGE_COST * EDGE_POWER * squared ** (EDGE_POWER / 2.0 - 1.0))[:, None] * gradient
            change = self.cover - self.covers.take(neighbour)
            by_cover += change / np.sqrt(change**2 + LEAST_CHANGE**2)
        return by_restored, by_cover

    def _cell_sums(self, values: np.ndarray) -> np.ndarray:
        """Weighted sums of the pixels' values, (n, 4), around each cell: (rows of cells, columns of cells, 4)."""
        # The weights are a Gaussian, whose Fourier transform is never negative. With a box, a step that lowers the
        # cost of every window could raise the total cost.
        sums = [np.bincount(self.cell, x, self.cells[0] * self.cells[1]) for x in values.T]
        grid = np.stack(sums, axis=-1).reshape(*self.cells, 4).astype(np.float32)
        return cv2.GaussianBlur(grid, (0, 0), CELL_SIGMA, borderType=cv2.BORDER_CONSTANT) * (
            2.0 * np.pi * CELL_SIGMA**2
        )

    def mark(self) -> MarkEstimate:
        """The mark after the steps so far."""
        strength, colour = self.strength_and_colour()
        result = MarkEstimate(*(x.copy() for x in self.estimate))
        for whole, part in zip(result, (self.cover, strength, colour), strict=True):
            whole.reshape(-1, *part.shape[1:])[self.positions] = part
        return result

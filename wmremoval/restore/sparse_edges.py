"""The mark without which a photograph has the fewest edges: its cover, strength and colour, found together.

Where a mark is taken off too weakly, too strongly or a little beside, its own edges remain, in one sign or the other.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.restore.fit_mark import FAINTEST_ALPHA, FIT_THRESHOLD, MarkFit
from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, Prediction, box_around, ramp, unblend

DESCENT_STEPS = 24  # of gradient descent: a hundred do no better
STEP_COVER, STEP_MARK = 0.03, 0.005  # the size of one, of the cover, falling to 0, and of strength and colour
ADAM_DECAY = 0.9, 0.999  # of the two means of Adam
EDGE_POWER = (
    0.5  # of the length of a gradient: those of photographs are sparser than Laplace's distribution, which has 1
)
EDGE_COST = 0.5  # of a gradient of 1: a power of 0.5 then costs as much as one of 1 where the gradient is 0.25
LEAST_EDGE = 0.005  # gradient, of RGB in [0, 1] a pixel, below which there is no edge: one grey level
PERIMETER_COST, LEAST_CHANGE = 0.4, 0.03  # cost of an edge of the cover from 0 to 1; the change below which it is none
COVER_COST = 0.6  # of a deviation of the cover by its doubt
DOUBT_EDGE, DOUBT_INSIDE, DOUBT_OUTSIDE = 0.3, 0.05, 0.1  # about the cover, by where in a mark a pixel is
RIM_COVER = 0.05, 0.95  # cover between which a pixel is of an edge
RIM_DISTANCE = 1.5, 2.0  # pixels inside and outside of a mark that are of its edge too
CANDIDATE_REACH = 3.5  # pixels around a mark that may be of it
MARK_COST = 20.0  # of a deviation of strength and colour by their doubt, in an area of about 250 px across
DOUBT_MARK = 0.03, 0.1, 0.1, 0.1  # about strength and colour
CELL_SIDE = 8  # pixels; side of what has one deviation of strength and colour
CELL_SIGMA = 5.0  # cells; how far others count for it
STRONGEST_ALPHA = 0.9  # alpha up to which unblending is tried
SEPARABLE = 0.7, 0.85  # strength from which edges are less to be read, and at which not at all
SPREAD_SCALE = 0.2  # deviation of the network's alpha and colour around a pixel at which it is hardly one mark's


class MarkEstimate(NamedTuple):
    """Float32 arrays of one height and width."""

    cover: np.ndarray  # (h, w) in [0, 1]: 1 inside a mark, less at its edges
    strength: np.ndarray  # (h, w) in [0, 1]: alpha where the cover is 1
    colour: np.ndarray  # (h, w, 3) RGB, about [0, 1]: less strength of a more than white colour is white as well


def separate(maps: Prediction, fit: MarkFit) -> Prediction:
    """Take a mark off again, as the fewest edges have it, where it lets enough through and is of one colour.

    Args:
        maps: composed from the fit; see `inpaint.compose`.
        fit: of the mark.
    """
    found = maps.mask > FIT_THRESHOLD
    if not found.any():
        return maps
    box = box_around(found, math.ceil(CANDIDATE_REACH) + 1)
    part, strength = Prediction(*(x[box] for x in maps)), fit.strength[box]
    gate = ramp(part.mask, GATE_FROM, GATE_FULL)
    cover = (gate * part.alpha / np.maximum(strength, 0.02)).clip(0.0, 1.0)
    mark = fewest_edges(part.photo, MarkEstimate(*(x.astype(np.float32) for x in (cover, strength, part.colour))))

    share = (1.0 - ramp(strength, *SEPARABLE)) * np.exp(-fit.spread[box] / SPREAD_SCALE**2) * fit.uncertainty[box]
    share *= (gate > 0.0) & (_outside(cover) < CANDIDATE_REACH)
    alpha = mark.cover * mark.strength
    mask = part.mask * ramp(alpha, *FAINTEST_ALPHA)
    answers = {"image": unblend(part.photo, alpha, mark.colour), "alpha": alpha, "colour": mark.colour, "mask": mask}
    changed = {name: getattr(maps, name).copy() for name in answers}
    for name, answer in answers.items():
        before = changed[name][box]
        before += (share if answer.ndim == 2 else share[..., None]) * (answer - before)
    return maps._replace(**changed)


def fewest_edges(photo: np.ndarray, mark: MarkEstimate) -> MarkEstimate:
    """The mark near a first guess that leaves the fewest edges when it is taken off.

    Gradients of photographs are sparse, so that a photograph with a second layer over it has more edges than either
    (Levin, Zomet and Weiss, Separating Reflections from a Single Image Using Local Features, CVPR 2004; with the sparse
    prior itself Levin and Weiss, ECCV 2004, https://doi.org/10.1007/978-3-540-24670-1_46). The sum of |grad I|^0.5 over
    the photograph I = (J - alpha W) / (1 - alpha), with what a deviation from the guess costs, is lowered by gradient
    descent.

    Args:
        photo: J, (h, w, 3) RGB float32 in [0, 1].
        mark: the guess.
    """
    outside = _outside(mark.cover)
    rows, columns = np.nonzero(outside < CANDIDATE_REACH)
    if not rows.size:
        return mark
    descent = _Descent(photo, mark, rows, columns, _doubt(mark.cover, outside)[rows, columns])
    for step in range(DESCENT_STEPS):
        descent.step(step)
    return descent.mark()


def _outside(cover: np.ndarray) -> np.ndarray:
    """Distance of each pixel (h, w) to the mark, pixels; where there is none, far."""
    return cv2.distanceTransform((cover <= 0.5).astype(np.uint8), cv2.DIST_L2, 3)


def _doubt(cover: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Standard error of the cover (h, w), by the distance to the mark."""
    inside = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    edge = (inside <= RIM_DISTANCE[0]) & (outside <= RIM_DISTANCE[1]) | (
        (cover > RIM_COVER[0]) & (cover < RIM_COVER[1])
    )
    return np.where(edge, DOUBT_EDGE, np.where(inside > 0, DOUBT_INSIDE, DOUBT_OUTSIDE)).astype(np.float32)


class _Adam:
    """Steps scaled by their own past: flat and textured places then go equally fast (Kingma and Ba, 2015, algorithm 1)."""

    def __init__(self, like: np.ndarray):
        self.mean, self.square, self.count = np.zeros_like(like), np.zeros_like(like), 0

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        """The direction to go in, about 1 in size."""
        self.count += 1
        for kept, new, decay in ((self.mean, gradient, ADAM_DECAY[0]), (self.square, gradient**2, ADAM_DECAY[1])):
            kept += (1.0 - decay) * (new - kept)
        square = self.square / (1.0 - ADAM_DECAY[1] ** self.count)
        return self.mean / (1.0 - ADAM_DECAY[0] ** self.count) / (np.sqrt(square) + 1e-8)


class _Descent:
    """The pixels that may be of a mark, (n,) or (n, 3), and the cells that tell its strength and colour."""

    def __init__(self, photo: np.ndarray, mark: MarkEstimate, rows: np.ndarray, columns: np.ndarray, doubt: np.ndarray):
        height, width = mark.cover.shape
        self.here = rows * width + columns
        self.around = [
            (rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1)
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        self.image, self.covers = photo.reshape(-1, 3).copy(), mark.cover.reshape(-1).copy()
        self.shown, self.doubt = self.image[self.here], doubt
        self.guess, self.first = mark, MarkEstimate(*(x[rows, columns] for x in mark))
        self.cells = -(-height // CELL_SIDE), -(-width // CELL_SIDE)
        self.cell = rows // CELL_SIDE * self.cells[1] + columns // CELL_SIDE
        self.cover, self.other = self.first.cover.copy(), np.zeros((*self.cells, 4), np.float32)
        self.adam = _Adam(self.cover), _Adam(self.other)

    def marked(self) -> tuple[np.ndarray, np.ndarray]:
        """Strength (n,) and colour (n, 3) of the pixels."""
        other = self.other.reshape(-1, 4)[self.cell]
        return (self.first.strength + other[:, 0]).clip(0.0, 1.0), self.first.colour + other[:, 1:]

    def step(self, step: int) -> None:
        """One step."""
        strength, colour = self.marked()
        alpha = np.minimum(self.cover * strength, STRONGEST_ALPHA)
        through = 1.0 / (1.0 - alpha)
        under = (self.shown - alpha[:, None] * colour) * through[:, None]
        self.image[self.here], self.covers[self.here] = under, self.cover
        steeper, longer = self._slopes(under)
        by_alpha = (steeper * (under - colour)).sum(axis=-1) * through * (alpha < STRONGEST_ALPHA)
        by_cover = strength * by_alpha + PERIMETER_COST * longer
        by_cover += 2.0 * COVER_COST * (self.cover - self.first.cover) / self.doubt**2
        by_colour = -(alpha * through)[:, None] * steeper
        by_mark = self._windows(np.column_stack([self.cover * by_alpha, by_colour]))
        by_mark += 2.0 * MARK_COST * self.other / np.square(np.float32(DOUBT_MARK))
        rate = STEP_COVER * (1.0 - step / DESCENT_STEPS)
        self.cover = (self.cover - rate * self.adam[0].direction(by_cover)).clip(0.0, 1.0)
        self.other -= STEP_MARK * self.adam[1].direction(by_mark)

    def _slopes(self, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of the edge cost by each pixel (n, 3), and of the perimeter by the cover (n,)."""
        steeper, longer = np.zeros_like(under), np.zeros_like(self.cover)
        for neighbour in self.around:
            apart = under - self.image.take(neighbour, axis=0)
            length = np.einsum("ij,ij->i", apart, apart) + LEAST_EDGE**2
            steeper += (EDGE_COST * EDGE_POWER * length ** (EDGE_POWER / 2.0 - 1.0))[:, None] * apart
            change = self.cover - self.covers.take(neighbour)
            longer += change / np.sqrt(change**2 + LEAST_CHANGE**2)
        return steeper, longer

    def _windows(self, values: np.ndarray) -> np.ndarray:
        """Sums of (n, 4) over the window of cells around each, (h, w, 4)."""
        # A Gaussian's transform is nowhere negative: with a box's, what lowers every window's sum can raise the whole.
        sums = [np.bincount(self.cell, x, self.cells[0] * self.cells[1]) for x in values.T]
        grid = np.stack(sums, axis=-1).reshape(*self.cells, 4).astype(np.float32)
        return cv2.GaussianBlur(grid, (0, 0), CELL_SIGMA, borderType=cv2.BORDER_CONSTANT) * (
            2.0 * np.pi * CELL_SIGMA**2
        )

    def mark(self) -> MarkEstimate:
        """The mark after the steps so far."""
        strength, colour = self.marked()
        found = MarkEstimate(*(x.copy() for x in self.guess))
        for whole, part in zip(found, (self.cover, strength, colour), strict=True):
            whole.reshape(-1, *part.shape[1:])[self.here] = part
        return found

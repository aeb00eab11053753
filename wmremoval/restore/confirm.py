"""Confirm proposed regions: more predictions of each place, mirrored and smaller, before anything is restored there."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from wmremoval.restore.prediction import GATE_FROM, Prediction
from wmremoval.restore.pyramid import Block, Box, box_slices
from wmremoval.restore.regions import CONFIDENT, LEAST_AREA, MARK_THRESHOLD, Region, Regions, find_regions
from wmremoval.restore.solve import Solver
from wmremoval.restore.tiles import Tile, tiles

LEAST_CONFIRMED = (
    0.05  # share of what would be changed that all looks must be sure of; texture looks marked to one only
)
LARGE_SHARE = 1 / 64  # of the view: what would be changed, from which on that share grows
CONFIRMED_GROWTH = 0.16  # by how much for e times as many: large finds in texture would do the most harm
PART_CONFIRMED = 0.6  # that share of parts of what was refused as a whole, at any size
SMALLER_SCALE = (
    0.8  # of the view: the side of what a third look is shown; texture looks marked at one size, marks at both
)
STEP_LEFT_LEAST, STEP_LEFT_MOST = (
    0.33,
    0.9,
)  # share of an outline's step that may be left of a mark no look is sure of; of any
OUTLINE_WINDOW = 7  # pixels; side of the window in which both sides of an outline are compared
LEAST_SIDE_SHARE = 0.15  # of a window: the smaller side
FINER_HALF_SIDE = 64  # pixels; half the side of the place that is tried at a finer view before a whole region is


def confirm(solver: Solver) -> Regions:
    """The regions that a search proposed and more predictions confirm.

    What they refuse is taken apart: a plain mark that touches a large texture would be refused together with it.
    """
    searched = solver.searched
    pyramid = searched.pyramid
    regions = find_regions(searched.probability, pyramid.search_factor, pyramid.factors)
    confirmation = Confirmation(solver, regions)
    confirmed, refused = [], []
    for region in list(regions.found):
        confidence = confirmation.confidence(region)
        (confirmed if confidence else refused).append(replace(region, confidence=confidence))
    for region in refused:
        for part in regions.take_apart(region, searched.probability):
            if confidence := confirmation.confidence(part, PART_CONFIRMED):
                confirmed.append(replace(part, confidence=confidence))
    return regions.only(confirmed)


class Confirmation:
    """More predictions of the places of regions, compared with the first one.

    Args:
        solver: of the photograph; its network is asked.
        regions: proposed by the search.
    """

    def __init__(self, solver: Solver, regions: Regions):
        self.solver, self.regions = solver, regions
        self.net, self.searched, self.pyramid = solver.net, solver.searched, solver.searched.pyramid
        self._last: dict[
            float, tuple[tuple, np.ndarray]
        ] = {}  # by scale: the last place predicted mirrored, and its mask

    def confidence(self, region: Region, least: float = 0.0) -> float:
        """The share of what would be changed of which three predictions together are confident, in (0, 1]; 0: too little.

        Args:
            region: one of the regions.
            least: share of what would be changed of which they must be confident, whatever its size.
        """
        factor = max(region.factor, self.pyramid.search_factor)
        touched = twice = 0
        seen = []  # block, the mean mask of two predictions there, and where it is the region's
        for block, mask in self.two_predictions(region, factor):
            there = self.regions.mask(region, block, factor)
            touched += np.count_nonzero(mask * there > GATE_FROM)
            twice += np.count_nonzero(mask * there > CONFIDENT)
            seen.append((block, mask, there))
        if not touched:
            return 0.0
        height, width = self.pyramid.size(factor)
        needed = max(least, needed_share(touched / (height * width))) * touched
        if twice < needed:
            return 0.0
        thrice = sum(
            np.count_nonzero((2 * mask + self.smaller(factor, block)) / 3 * there > CONFIDENT)
            for block, mask, there in seen
        )
        if thrice < needed or not (region.factor >= self.pyramid.search_factor or self._seen_finer(region)):
            return 0.0
        return min(1.0, float(thrice / touched))

    def two_predictions(self, region: Region, factor: int) -> Iterator[tuple[Block, np.ndarray]]:
        """Blocks over a region, with the mean mask (h, w) of the first and a mirrored prediction.

        The mirrored one is of the place alone where that costs less than half of the tiles around it, which the restoration
        could use again.
        """
        box = self.pyramid.box(region.box, factor)
        alone = self._place(box, factor)
        kept = self.searched.kept.get(factor, [])
        around = sum(_area(kept[i][0].shown) for i in self.searched.touching(factor, box))
        if around and 2 * _area(alone.shown) > around:
            for tile, prediction in self.solver.tiles(factor, box):
                yield tile.kept, prediction.mask[tile.inner]
            return
        size = self.pyramid.size(factor)
        for tile in [alone] if around else tiles(box, size, self.net.core, self.net.step):
            yield tile.kept, (self._first(factor, tile.kept) + self._mirrored(factor, tile)) / 2

    def smaller(self, factor: int, block: Block) -> np.ndarray:
        """Mask probabilities (h, w) of a block of a view that the network is shown mirrored and smaller."""
        rows, columns = block
        tile = self._place((rows.start, columns.start, rows.stop, columns.stop), factor)
        return self._mirrored(factor, tile, SMALLER_SCALE)

    def _mirrored(self, factor: int, tile: Tile, scale: float = 1.0) -> np.ndarray:
        """Mask probabilities (h, w) of a tile that the network is shown mirrored, in `scale` of its size.

        In small views the tiles of several regions, with their margins, are one: it is predicted once.
        """
        place = factor, *((side.start, side.stop) for side in tile.shown)
        if scale not in self._last or self._last[scale][0] != place:
            view = self.pyramid.pixels(factor, tile.shown)
            size = tuple(max(1, round(scale * side)) for side in view.shape[1::-1])
            mask = self.net.predict_mirrored(cv2.resize(view, size, interpolation=cv2.INTER_AREA)).mask
            self._last[scale] = place, cv2.resize(mask, view.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return self._last[scale][1][tile.inner]

    def _seen_finer(self, region: Region) -> bool:
        """Whether a region looks marked in the finer view it would be restored in, where the first prediction is highest."""
        block, search_factor = box_slices(region.box), self.pyramid.search_factor
        here = self.searched.probability[block] * self.regions.mask(region, block, search_factor)
        highest = np.argmax(cv2.blur(here, (2 * FINER_HALF_SIDE * region.factor // search_factor + 1,) * 2))
        y, x = np.add(np.unravel_index(highest, here.shape), region.box[:2]) * search_factor // region.factor
        height, width = self.pyramid.size(region.factor)
        half = min(FINER_HALF_SIDE, self.net.core // 2)  # no more than the tiles that are known to fit
        tile = self._place(
            (max(0, y - half), max(0, x - half), min(y + half, height), min(x + half, width)), region.factor
        )
        mask = self.net.predict(self.pyramid.pixels(region.factor, tile.shown)).mask[tile.inner]
        marked = mask * self.regions.mask(region, tile.kept, region.factor) > MARK_THRESHOLD
        return np.count_nonzero(marked) >= LEAST_AREA

    def _place(self, box: Box, factor: int) -> Tile:
        """One tile that covers a box of a view, with its margin."""
        size = self.pyramid.size(factor)
        return next(tiles(box, size, sum(size), self.net.step))

    def _first(self, factor: int, block: Block) -> np.ndarray:
        """Mask probabilities (h, w) in [0, 1] of the search, of a block of the view shrunk by `factor`."""
        ratio = factor // self.pyramid.search_factor
        rows, columns = (slice(side.start * ratio, side.stop * ratio) for side in block)
        size = (block[1].stop - block[1].start, block[0].stop - block[0].start)
        found = self.searched.probability[rows, columns]
        return cv2.resize(found, size, interpolation=cv2.INTER_AREA) / np.float32(255.0)


def outline_steps(prediction: Prediction, there: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """How large the step is along the outline of what is changed, before and after it is.

    A mark's outline is a step that the photograph has not. Where taking a mark off leaves it, or makes another, there
    was none. Means of both sides are compared, so that texture, which is stronger without a mark, does not count.

    Args:
        prediction: solved.
        there: (h, w) boolean, where a mark is.
        inner: rows and columns that count.

    Returns:
        sums over the pixels along the outline of the distance in RGB in [0, 1] between its sides: (2,).
    """
    changed = ((prediction.mask > GATE_FROM) & there).astype(np.float32)
    share = cv2.blur(changed, (OUTLINE_WINDOW,) * 2)
    outline = (np.minimum(share, 1.0 - share) > LEAST_SIDE_SHARE)[inner]
    sums = np.zeros(2)
    for i, image in enumerate((prediction.photo, prediction.image)):
        mean, inside = (
            cv2.blur(image, (OUTLINE_WINDOW,) * 2),
            cv2.blur(image * changed[..., None], (OUTLINE_WINDOW,) * 2),
        )
        inside, mean, part = inside[inner][outline], mean[inner][outline], share[inner][outline][:, None]
        sums[i] = np.linalg.norm(inside / part - (mean - inside) / (1.0 - part), axis=-1).sum(dtype=np.float64)
    return sums


def step_allowed(confidence: float) -> float:
    """Share of the step along a region's outline that may be left when it is taken off: the larger the confidence, the more.

    Args:
        confidence: of the region, in [0, 1].

    Example:
        >>> round(step_allowed(0.3), 2), round(step_allowed(0.5), 2), step_allowed(1.0)
        (0.63, 0.83, 0.9)
    """
    return min(STEP_LEFT_MOST, STEP_LEFT_LEAST + confidence)


def needed_share(touched: float) -> float:
    """Share of what would be changed of which all predictions must be confident: the more is at stake, the larger.

    Args:
        touched: what would be changed, as a share of the view, in (0, 1].

    Example:
        >>> round(needed_share(0.01), 2), round(needed_share(0.05), 2), round(needed_share(0.5), 2)
        (0.05, 0.24, 0.6)
    """
    return LEAST_CONFIRMED + CONFIRMED_GROWTH * max(0.0, math.log(touched / LARGE_SHARE))


def _area(block: Block) -> int:
    return (block[0].stop - block[0].start) * (block[1].stop - block[1].start)

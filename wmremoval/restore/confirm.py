"""Confirm proposed regions: more predictions of each place, mirrored and smaller, before anything is restored there."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from wmremoval.restore.ensemble import SMALLER_SCALE, Ensemble
from wmremoval.restore.prediction import GATE_FROM, Prediction
from wmremoval.restore.pyramid import Block, Box, box_slices
from wmremoval.restore.regions import CONFIDENT, LEAST_AREA, MARK_THRESHOLD, Region, Regions, find_regions
from wmremoval.restore.tiles import Tile, tiles

# Tuned on validation photographs from 2026-11-22 on; where no file is named, the numbers were not kept.
LEAST_CONFIRMED = (
    0.05  # share of the changed pixels of which all predictions must be confident; texture looks marked in one
)
LARGE_SHARE = 1 / 64  # share of the view; regions that change more need a larger share
CONFIRMED_GROWTH = 0.16  # of that share, for e times as many pixels; 0.13 to 0.18 lose no mark (outlines.json)
PART_CONFIRMED = 0.6  # that share for the parts of a refused region, whatever their size
# Share of the step along an outline that may be left: at a confidence of 0, and at most (outlines.json).
STEP_LEFT_LEAST, STEP_LEFT_MOST = 0.33, 0.9
OUTLINE_WINDOW = 7  # pixels; side of the window in which the two sides of an outline are compared
LEAST_SIDE_SHARE = 0.15  # share of a window; the smaller side has at least so many of its pixels
# Shares of the searched view, and of its shorter side. Flat grounds behind three subjects: areas of 0.2 to 0.9, strokes of
# 0.15 to 0.34; of the marks of 48 validation photographs none has a stroke of more than 0.15 (2026-11-27).
BACKDROP_AREA, BACKDROP_STROKE = 0.15, 0.18
# Times the cost of a whole view. The 50 regions of a drawn page of 880 x 640, each alone, took 67 s of 155 s on one core; as
# a whole view and with the masks of tiles kept, the page takes 31 s (2026-11-27).
# A place alone is the better second opinion: with 0.5 instead of 4 a further region of a motorcycle is taken for a mark.
MOST_ALONE = 4
FINER_HALF_SIDE = 64  # pixels; half the side of the place that is predicted in a finer view before a whole region


def confirm(ensemble: Ensemble, probability: np.ndarray) -> Regions:
    """The regions that a search proposed and more predictions confirm.

    A refused region is taken apart: it may be a plain mark that touches a large texture.

    Args:
        ensemble: of the photograph.
        probability: (h, w) uint8, times 255, of the searched view; that of the search, or 0 where nothing is to be changed.
    """
    pyramid = ensemble.searched.pyramid
    regions = find_regions(probability, pyramid.search_factor, pyramid.factors)
    confirmation = Confirmation(ensemble, regions)
    confirmed: list[Region] = []
    refused: list[Region] = []
    for region in list(regions.found):
        confidence = confirmation.confidence(region)
        (confirmed if confidence else refused).append(replace(region, confidence=confidence))
    for region in refused:
        for part in regions.take_apart(region, probability):
            if confidence := confirmation.confidence(part, PART_CONFIRMED):
                confirmed.append(replace(part, confidence=confidence))
    return regions.only(confirmed)


class Confirmation:
    """More predictions of the places of regions, compared with the first one.

    Args:
        ensemble: of the photograph.
        regions: proposed by the search.
    """

    def __init__(self, ensemble: Ensemble, regions: Regions):
        self.ensemble, self.regions = ensemble, regions
        self.net, self.searched, self.pyramid = ensemble.net, ensemble.searched, ensemble.searched.pyramid
        self._crowded: dict[int, bool] = {}  # by factor

    def confidence(self, region: Region, least: float = 0.0) -> float:
        """The share of the changed pixels of which three predictions together are confident, in (0, 1]; 0: too small.

        Args:
            region: one of the regions.
            least: this share must be at least so large, whatever the size of the region.
        """
        if is_backdrop(region, self.searched.probability.shape):
            return 0.0
        factor = max(region.factor, self.pyramid.search_factor)
        touched = twice = 0
        seen = []  # block, the mean mask of two predictions there, and where it is the region's
        for block, mask in self.two_predictions(region, factor):
            there = self.regions.mask(region, block, factor)
            touched += int(np.count_nonzero(mask * there > GATE_FROM))
            twice += int(np.count_nonzero(mask * there > CONFIDENT))
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
        could use again, and where the places of all regions together do.
        """
        box = self.pyramid.box(region.box, factor)
        alone = self._place(box, factor)
        kept = self.searched.kept.get(factor, [])
        around = sum(_area(kept[i][0].shown) for i in self.searched.touching(factor, box))
        if around and (2 * _area(alone.shown) > around or self.is_crowded(factor)):
            for _, tile, averaged in self.ensemble.tiles(factor, box):
                yield tile.kept, averaged.prediction.mask[tile.inner]
            return
        size = self.pyramid.size(factor)
        for tile in [alone] if around else tiles(box, size, self.net.core, self.net.step):
            yield tile.kept, (self._first(factor, tile.kept) + self.ensemble.mirrored(factor, tile)[tile.inner]) / 2

    def is_crowded(self, factor: int) -> bool:
        """True if the places of all regions cost more than `MOST_ALONE` times the kept tiles of a view, as on a page of text."""
        if factor not in self._crowded:
            alone = [self._place(self.pyramid.box(region.box, factor), factor) for region in self.regions.found]
            whole = sum(_area(tile.shown) for tile, _ in self.searched.kept.get(factor, []))
            self._crowded[factor] = sum(_area(place.shown) for place in alone) > MOST_ALONE * whole
        return self._crowded[factor]

    def smaller(self, factor: int, block: Block) -> np.ndarray:
        """Mask probabilities (h, w) of a block of a view that the network is shown mirrored and smaller."""
        rows, columns = block
        tile = self._place((rows.start, columns.start, rows.stop, columns.stop), factor)
        return self.ensemble.mirrored(factor, tile, SMALLER_SCALE)[tile.inner]

    def _seen_finer(self, region: Region) -> bool:
        """True if a region looks marked in the finer view that would restore it, where the search is most confident."""
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
        return bool(np.count_nonzero(marked) >= LEAST_AREA)

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


def is_backdrop(region: Region, size: tuple[int, int]) -> bool:
    """True for a region so large and so broad that it is a wall, a sky or a studio's ground, which has no letters inside.

    Args:
        region: proposed by the search.
        size: height and width of the searched view.
    """
    return region.area > BACKDROP_AREA * size[0] * size[1] and region.stroke > BACKDROP_STROKE * min(size)


def outline_steps(prediction: Prediction, there: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """The step along the outline of the changed pixels, before and after the change.

    The outline of a mark is a step that the clean photograph does not have. If the change leaves the step, or makes another
    one, there was no mark. Means of the two sides are compared, so that texture does not count.

    Args:
        prediction: solved.
        there: (h, w) boolean, where a mark is.
        inner: rows and columns that count.

    Returns:
        sums over the pixels along the outline of the distance in RGB in [0, 1] between its sides: (2,).
    """
    changed = (prediction.mask > GATE_FROM) & there
    sums = [side_steps(x, changed, inner).sum(dtype=np.float64) for x in (prediction.photo, prediction.image)]
    return np.array(sums)


def side_steps(image: np.ndarray, marked: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """The distances in RGB (n,) between the means of the two sides of an outline, along it.

    Args:
        image: (h, w, 3) RGB float32 in [0, 1].
        marked: (h, w) boolean.
        inner: rows and columns that count.
    """
    marked = marked.astype(np.float32)
    share = cv2.blur(marked, (OUTLINE_WINDOW,) * 2)
    outline = (np.minimum(share, 1.0 - share) > LEAST_SIDE_SHARE)[inner]
    mean = cv2.blur(image, (OUTLINE_WINDOW,) * 2)[inner][outline]
    inside = cv2.blur(image * marked[..., None], (OUTLINE_WINDOW,) * 2)[inner][outline]
    part = share[inner][outline][:, None]
    return np.linalg.norm(inside / part - (mean - inside) / (1.0 - part), axis=-1)


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
    """Share of the changed pixels of which all predictions must be confident; it grows with their number.

    Args:
        touched: changed pixels, as a share of the view, in (0, 1].

    Example:
        >>> round(needed_share(0.01), 2), round(needed_share(0.05), 2), round(needed_share(0.5), 2)
        (0.05, 0.24, 0.6)
    """
    return LEAST_CONFIRMED + CONFIRMED_GROWTH * max(0.0, math.log(touched / LARGE_SHARE))


def _area(block: Block) -> int:
    return (block[0].stop - block[0].start) * (block[1].stop - block[1].start)

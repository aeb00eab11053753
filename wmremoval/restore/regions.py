"""Regions of a photograph that look marked, lines of text that are marks, and the view in which each is best restored."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from wmremoval.restore.pyramid import Block, Box, box_slices
from wmremoval.restore.text import Line

# Tuned on validation photographs from 2026-11-22 on; the numbers were not kept.
MARK_THRESHOLD = 0.7  # mask probability above which a pixel belongs to a mark
CONFIDENT = 0.9  # mask probability above which the network is confident of a pixel
CONFIDENT_SHARE = 0.3  # least share of confident pixels in a region; texture has fewer
PEAK_THRESHOLD = 0.97  # mask probability that a region must reach somewhere
CONFIDENT_SHARE_OF_PART = 0.5  # least share of confident pixels in a part of a refused region
LEAST_AREA = 16  # pixels of the searched view; smaller regions are left alone
LEAST_COVERED = (
    0.02  # share of a region of a user's mask, perhaps a rough box, that must look marked, else it is inpainted
)
JOIN_DISTANCE = 3  # pixels of the searched view; letters closer than this are one region
WIDEST_STROKE = 40.0  # pixels; strokes wider than this are restored on a shrunken view, where the network knows them
LINE_MARGIN = 0.2  # of a line's height; a line of text is widened by it on all sides, for shadows. Not measured.
LINE_HEIGHT = 64.0  # pixels; height of a line in the view in which its figures are measured. Not measured.
STROKE_SHARE = 1 / 6  # of a line's height: the width of its strokes, about. Not measured.
# Added to the mask's log-odds in a line of text that is a mark. Over the line's whole box, 1, 2 and 3.5 gain 7.24, 7.33 and
# 7.27 dB inside 48 validation marks, and 6.46, 6.33 and 6.12 dB over the whole photographs (2026-11-27).
TEXT_LOG_ODDS = 1.0


@dataclass(frozen=True)
class Region:
    """One mark, or several close together."""

    label: int  # its number in `Regions.labels`; 0 for a line of text
    box: Box  # in the searched view
    factor: int  # shrinking of the view in which it is restored
    area: int  # pixels of the searched view that are marked
    found: bool = True  # False: of the user's mask, and the network sees nothing there
    confidence: float = 1.0  # share of what would be changed of which all predictions together are confident; of a line: probability that it is a mark
    line: Line | None = None  # a line of text; None: the network's proposal
    stroke: float = 0.0  # mean width of its strokes, pixels of the searched view; 0 where it is not known

    @property
    def text_line(self) -> Line:
        """The line of a region that is one."""
        assert self.line is not None
        return self.line


@dataclass
class Regions:
    """The regions of the searched view of a photograph.

    Args:
        factor: shrinking of the searched view.
        factors: of all views.
        labels: (h, w) int32 of the searched view, 0 where no region is.
        found: the regions.
    """

    factor: int
    factors: list[int]
    labels: np.ndarray
    found: list[Region] = field(default_factory=list)

    def mask(self, region: Region, block: Block, factor: int = 1) -> np.ndarray:
        """The pixels of a block of the view shrunk by `factor` that are of a region, boolean."""
        if region.line is not None:
            return line_mask(region.line, block, factor)
        return self._labels_of(block, factor) == region.label

    def _labels_of(self, block: Block, factor: int) -> np.ndarray:
        """The labels of a block of the view shrunk by `factor`."""
        rows, columns = (
            np.minimum(np.arange(part.start, part.stop) * factor // self.factor, side - 1)
            for part, side in zip(block, self.labels.shape, strict=True)
        )
        return self.labels[rows[:, None], columns[None, :]]

    def add(
        self,
        probability: np.ndarray,
        threshold: float,
        confident_share: float,
        within: Box | None = None,
        most_area: int | None = None,
    ) -> list[Region]:
        """Label what has no label yet and is joined around the pixels above a threshold.

        Args:
            probability: (h, w) uint8, times 255, of the searched view or a box of it.
            threshold: in [0, 1], of the pixels that are joined.
            confident_share: of the marked pixels of a region above `CONFIDENT`, at least.
            within: the box; None: the whole view.
            most_area: pixels of a region at most; None: any.

        Returns:
            the regions added.
        """
        reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * JOIN_DISTANCE + 1,) * 2)
        labels, (top, left) = (self.labels[box_slices(within)], within[:2]) if within else (self.labels, (0, 0))
        free = labels == 0
        cores = ((probability > 255 * threshold) & free).astype(np.uint8)
        count, parts, statistics, _ = cv2.connectedComponentsWithStats(cv2.dilate(cores, reach), connectivity=8)
        added = []
        for _, box, here in _components(count, parts, statistics):
            here = here & free[box_slices(box)]
            values = probability[box_slices(box)] * here
            marked = (values > 255 * MARK_THRESHOLD).astype(np.uint8)
            area, confident = int(marked.sum()), int((values > 255 * CONFIDENT).sum())
            convincing = values.max() >= 255 * PEAK_THRESHOLD and confident >= confident_share * area
            if convincing and LEAST_AREA <= area <= (area if most_area is None else most_area):
                place = box[0] + top, box[1] + left, box[2] + top, box[3] + left
                stroke = stroke_width(marked)
                view = best_view(self.factor * stroke, self.factors)
                added.append(Region(len(self.found) + 1, place, view, area, stroke=stroke))
                self.found.append(added[-1])
                labels[box_slices(box)][here] = added[-1].label
        return added

    def take_apart(self, region: Region, probability: np.ndarray) -> list[Region]:
        """Replace a region by its parts around confident pixels, none over half of it; gives the parts.

        Args:
            region: one of these.
            probability: (h, w) uint8, times 255, of the searched view.
        """
        box = box_slices(region.box)
        labels = self.labels[box]
        own = labels == region.label
        labels[own] = 0
        return self.add(probability[box] * own, CONFIDENT, CONFIDENT_SHARE_OF_PART, region.box, region.area // 2)

    def raised(self, mask: np.ndarray, block: Block, factor: int) -> np.ndarray:
        """The mask (h, w) of a block of a view, more probable in lines of text where the network has no region of its own."""
        lines = [region.line for region in self.found if region.line is not None]
        if not lines:
            return mask
        inside = np.logical_or.reduce([line_mask(line, block, factor) for line in lines])
        return np.where(inside & (self._labels_of(block, factor) == 0), raise_odds(mask, TEXT_LOG_ODDS), mask)

    def only(self, regions: list[Region]) -> "Regions":
        """These and no others."""
        kept = np.zeros(len(self.found) + 1, bool)
        kept[[region.label for region in regions]] = True
        return Regions(self.factor, self.factors, np.where(kept[self.labels], self.labels, 0), regions)


def find_regions(probability: np.ndarray, factor: int, factors: list[int]) -> Regions:
    """Join the pixels above `MARK_THRESHOLD` into regions and choose a view for each.

    A region that is not convincing as a whole is taken apart: it may be a mark beside texture, of which the network is less
    confident.

    Args:
        probability: (h, w) uint8, times 255, of the searched view.
        factor: shrinking of the searched view.
        factors: of all views.
    """
    regions = Regions(factor, factors, np.zeros(probability.shape, np.int32))
    regions.add(probability, MARK_THRESHOLD, CONFIDENT_SHARE)
    regions.add(probability, CONFIDENT, CONFIDENT_SHARE_OF_PART)
    return regions


def line_region(line: Line, factor: int, factors: list[int], size: tuple[int, int]) -> Region:
    """A line of text as a region, in the view that its strokes ask for.

    Args:
        line: of text.
        factor: shrinking of the searched view.
        factors: of all views.
        size: height and width of the searched view.
    """
    quad = line.grown(LINE_MARGIN) / factor
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int) + 1
    left, top = np.minimum(np.maximum(low, 0), np.array(size[::-1]) - 1).tolist()
    right, bottom = np.minimum(np.maximum(high, (left + 1, top + 1)), size[::-1]).tolist()
    box = (top, left, bottom, right)
    area = int(np.count_nonzero(line_mask(line, box_slices(box), factor)))
    return Region(0, box, best_view(STROKE_SHARE * line.height, factors), area, line=line)


def line_mask(line: Line, block: Block, factor: int, margin: float = LINE_MARGIN) -> np.ndarray:
    """The pixels of a block of the view shrunk by `factor` that are of a line, its margin included: (h, w) boolean."""
    rows, columns = block
    quad = line.grown(margin) / factor - np.array((columns.start, rows.start), np.float32)
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    return cv2.fillConvexPoly(canvas, np.round(quad).astype(np.int32), 1) > 0


def regions_of_mask(mask: np.ndarray, probability: np.ndarray, factor: int, factors: list[int]) -> Regions:
    """The regions of a mask of the user's own; the network still says how wide the strokes within are.

    Args:
        mask: (h, w) uint8 of the searched view, not 0 where the mark is.
        probability, factor, factors: as for `find_regions`.
    """
    given, found = (mask > 0).astype(np.uint8), (probability > 255 * MARK_THRESHOLD).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(given, connectivity=8)
    regions = Regions(factor, factors, labels)
    for label, box, here in _components(count, labels, statistics):
        marked = found[box_slices(box)] * here
        covered = int(marked.sum()) >= LEAST_COVERED * int(here.sum())
        stroke = stroke_width(marked if covered else here.astype(np.uint8))
        regions.found.append(Region(label, box, best_view(factor * stroke, factors), int(here.sum()), covered))
    return regions


def _components(count: int, labels: np.ndarray, statistics: np.ndarray) -> Iterator[tuple[int, Box, np.ndarray]]:
    """(label, box, its pixels within the box) of every component."""
    for label in range(1, count):
        left, top, w, h = (int(x) for x in statistics[label, :4])
        box = (top, left, top + h, left + w)
        yield label, box, labels[box_slices(box)] == label


def stroke_width(marked: np.ndarray) -> float:
    """Mean width of the strokes of a binary mask (h, w), pixels: four times the mean distance to the nearest edge.

    Example:
        >>> bar = np.zeros((40, 200), np.uint8)
        >>> bar[15:25, 10:190] = 1
        >>> round(stroke_width(bar))
        10
    """
    distance = cv2.distanceTransform(np.pad(marked, 1), cv2.DIST_L2, 3)
    inside = distance[distance > 0]
    return 4.0 * float(inside.mean()) - 1.0 if inside.size else 0.0


def best_view(stroke: float, factors: list[int]) -> int:
    """The least shrinking at which strokes of `stroke` native pixels are at most `WIDEST_STROKE` wide."""
    return next((factor for factor in factors if stroke / factor <= WIDEST_STROKE), factors[-1])


def text_view(height: float, factors: list[int]) -> int:
    """The shrinking at which a line of `height` native pixels is nearest to `LINE_HEIGHT`, in factors of two."""
    return min(factors, key=lambda factor: abs(np.log2(height / factor / LINE_HEIGHT)))


def raise_odds(mask: np.ndarray, log_odds: float) -> np.ndarray:
    """Probabilities with a number added to their log-odds.

    Example:
        >>> raise_odds(np.array([0.0, 0.5, 1.0]), np.log(3.0))
        array([0.  , 0.75, 1.  ])
    """
    more = np.exp(log_odds)
    return more * mask / (1.0 + (more - 1.0) * mask)

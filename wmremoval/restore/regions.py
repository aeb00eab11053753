"""Where a photograph is marked: regions found on shrunken views, and the view in which each is best restored."""

from dataclasses import dataclass, field

import cv2
import numpy as np

LOOK_PIXELS = 1_000_000  # pixels of the largest view that is always looked at whole
LOOK_SHARE = 16  # of a larger photograph one pixel in so many is looked at: a sixteenth of the time
VIEW_SIDE = 96  # pixels; views are not shrunk below this: the smallest the network was trained at
MARK_THRESHOLD = 0.7  # mask probability above which a pixel belongs to a mark
CONFIDENT = 0.9  # probability above which the network is sure of a pixel
CONFIDENT_SHARE = 0.3  # of the pixels found in a mark that it must be sure of; texture is found with less conviction
PEAK_THRESHOLD = 0.97  # probability that a mark must reach somewhere; what never gets there is left alone
CONFIDENT_SHARE_OF_PART = (
    0.5  # the same of the parts around its sure pixels, where the whole is refused: a mark that touches texture
)
LEAST_AREA = 16  # pixels of the look; smaller findings are left alone
LEAST_COVERED = (
    0.02  # share of a part of a user's mask, which may be a rough box, that must look marked; else it is repainted
)
JOIN_DISTANCE = 3  # pixels of the look; letters closer than this are one mark
WIDEST_STROKE = 40.0  # pixels; strokes wider than this are restored on a shrunken view, where the network knows them


def views(height: int, width: int, side: int = VIEW_SIDE) -> list[int]:
    """The factors 1, 2, 4, ... by which a photograph may be shrunk until its shorter side is about `side` pixels.

    Example:
        >>> views(3000, 4000)
        [1, 2, 4, 8, 16]
    """
    factors = [1]
    while min(height, width) // (2 * factors[-1]) >= side:
        factors.append(2 * factors[-1])
    return factors


def look_factor(height: int, width: int) -> int:
    """The shrinking at which a photograph is searched whole: none up to a megapixel, 4 for 12 megapixels.

    Example:
        >>> look_factor(800, 1000), look_factor(3000, 4000), look_factor(10000, 10000)
        (1, 4, 4)
    """
    most, factor = max(LOOK_PIXELS, height * width / LOOK_SHARE), 1
    while height * width / factor**2 > most:
        factor *= 2
    return factor


@dataclass(frozen=True)
class Region:
    """One mark, or several close together."""

    label: int  # its number in `Findings.labels`
    box: tuple[int, int, int, int]  # top, left, bottom, right in pixels of the look
    factor: int  # shrinking of the view in which it is restored
    area: int  # pixels of the look that are marked
    found: bool = True  # False: of the user's mask, and the network sees nothing there
    sure: float = 1.0  # share of what would be changed that all looks together are sure of


@dataclass(frozen=True)
class Findings:
    """The result of a look at a whole photograph."""

    factor: int  # shrinking of the look
    labels: np.ndarray  # (h, w) int32, 0 where nothing is
    regions: list[Region] = field(default_factory=list)

    def belongs(self, region: Region, block: tuple[slice, slice], factor: int = 1) -> np.ndarray:
        """Which pixels of a block of the view shrunk by `factor`, as rows and columns, are of a region; boolean."""
        rows, columns = (
            np.minimum(np.arange(part.start, part.stop) * factor // self.factor, side - 1)
            for part, side in zip(block, self.labels.shape, strict=True)
        )
        return self.labels[rows[:, None], columns[None, :]] == region.label


def find_regions(probability: np.ndarray, factor: int, factors: list[int]) -> Findings:
    """Join what is above `MARK_THRESHOLD` into regions and choose a view for each.

    What is not convincing as a whole is taken apart: a mark beside texture, which looks marked with less conviction, would
    be refused together with it.

    Args:
        probability: (h, w) uint8, times 255, of the look.
        factor: shrinking of the look.
        factors: from `views`.
    """
    findings = Findings(factor, np.zeros(probability.shape, np.int32))
    for core, least_sure in ((MARK_THRESHOLD, CONFIDENT_SHARE), (CONFIDENT, CONFIDENT_SHARE_OF_PART)):
        _add_regions(findings, probability, core, least_sure, factors)
    return findings


def take_apart(findings: Findings, region: Region, probability: np.ndarray, factors: list[int]) -> list[Region]:
    """The parts of a region around its sure pixels, none over half of it, in its place among the labels and the regions.

    Args:
        findings: what the region is of; changed.
        probability, factors: as for `find_regions`.
    """
    box = box_slices(region.box)
    labels = findings.labels[box]
    own = labels == region.label
    labels[own] = 0
    return _add_regions(
        findings, probability[box] * own, CONFIDENT, CONFIDENT_SHARE_OF_PART, factors, region.box, region.area // 2
    )


def _add_regions(findings: Findings, probability, core, least_sure, factors, within=None, most=None) -> list[Region]:
    """Those of a box of the look, or of all of it, that have no label yet: what is joined around pixels above `core`."""
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * JOIN_DISTANCE + 1,) * 2)
    labels, (top, left) = (findings.labels[box_slices(within)], within[:2]) if within else (findings.labels, (0, 0))
    free = labels == 0
    cores = ((probability > 255 * core) & free).astype(np.uint8)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(cv2.dilate(cores, reach), connectivity=8)
    added = []
    for _, box, here in _components(count, parts, statistics):
        here = here & free[box_slices(box)]
        values = probability[box_slices(box)] * here
        marked = (values > 255 * MARK_THRESHOLD).astype(np.uint8)
        area, sure = int(marked.sum()), int((values > 255 * CONFIDENT).sum())
        convincing = values.max() >= 255 * PEAK_THRESHOLD and sure >= least_sure * area
        if convincing and LEAST_AREA <= area <= (area if most is None else most):
            place = tuple(side + (top, left)[i % 2] for i, side in enumerate(box))
            view = best_view(findings.factor * stroke_width(marked), factors)
            added.append(Region(len(findings.regions) + 1, place, view, area))
            findings.regions.append(added[-1])
            labels[box_slices(box)][here] = added[-1].label
    return added


def regions_of_mask(mask: np.ndarray, probability: np.ndarray, factor: int, factors: list[int]) -> Findings:
    """The regions of a mask of the user's own; the network still says how wide the strokes within are.

    Args:
        mask: (h, w) uint8, not 0 where the mark is, of the look.
        probability, factor, factors: as for `find_regions`.
    """
    given, found = (mask > 0).astype(np.uint8), (probability > 255 * MARK_THRESHOLD).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(given, connectivity=8)
    regions = []
    for label, box, here in _components(count, labels, statistics):
        marked = found[box_slices(box)] * here
        covered = int(marked.sum()) >= LEAST_COVERED * int(here.sum())
        stroke = stroke_width(marked if covered else here.astype(np.uint8))
        regions.append(Region(label, box, best_view(factor * stroke, factors), int(here.sum()), covered))
    return _findings(factor, labels, count, regions)


def box_slices(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    """Top, left, bottom, right as rows and columns."""
    return slice(box[0], box[2]), slice(box[1], box[3])


def _components(count: int, labels: np.ndarray, statistics: np.ndarray):
    """(label, box, its pixels within the box) of every component."""
    for label in range(1, count):
        left, top, w, h = (int(x) for x in statistics[label, :4])
        box = (top, left, top + h, left + w)
        yield label, box, labels[box_slices(box)] == label


def _findings(factor: int, labels: np.ndarray, count: int, regions: list[Region]) -> Findings:
    kept = np.zeros(count, np.int32)
    kept[[region.label for region in regions]] = [region.label for region in regions]
    return Findings(factor, kept[labels], regions)


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

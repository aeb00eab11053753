"""Whether what a first look found is a mark: more looks at the place, mirrored and smaller, before anything is restored there."""

import math
from dataclasses import replace

import cv2
import numpy as np

from wmremoval.restore.prediction import GATE_FROM, Prediction
from wmremoval.restore.regions import (
    CONFIDENT,
    LEAST_AREA,
    MARK_THRESHOLD,
    Findings,
    Region,
    box_slices,
    find_regions,
    take_apart,
)
from wmremoval.restore.search import Look, answers, box_in_view, size_of_view
from wmremoval.restore.tiles import Tile, TileRunner, shrink, tiles

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


def find_marks(runner: TileRunner, photo: np.ndarray, look: Look) -> Findings:
    """What a look at a photograph, (H, W, 3) uint8, found and more looks confirm.

    What they refuse is taken apart: a plain mark that touches a large texture would be refused together with it.
    """
    findings = find_regions(look.probability, look.factor, look.factors)
    regions, refused = [], []
    for region in findings.regions:
        sure = conviction(runner, photo, look, findings, region)
        (regions if sure else refused).append(replace(region, sure=sure))
    for region in refused:
        for part in take_apart(findings, region, look.probability, look.factors):
            if sure := conviction(runner, photo, look, findings, part, PART_CONFIRMED):
                regions.append(replace(part, sure=sure))
    kept = np.zeros(len(findings.regions) + 1, bool)
    kept[[region.label for region in regions]] = True
    return replace(findings, labels=np.where(kept[findings.labels], findings.labels, 0), regions=regions)


def conviction(runner: TileRunner, photo, look: Look, findings: Findings, region: Region, least: float = 0.0) -> float:
    """How sure a first, a second and a third look together are that a region is marked.

    Args:
        runner: the network.
        photo: (H, W, 3) uint8.
        look: the first look, and `findings` what it found.
        region: one of the findings.
        least: share of what would be changed that all looks must be sure of, at any size.

    Returns:
        the share of what would be changed that they are sure of, in (0, 1]; 0 where that is too little.
    """
    factor = max(region.factor, look.factor)
    touched = twice = 0
    seen = []  # rows and columns, the mean mask of both looks there, and where it is the region's
    for part, mask in _both_looks(runner, photo, look, findings, region, factor):
        there = findings.belongs(region, part, factor)
        touched += np.count_nonzero(mask * there > GATE_FROM)
        twice += np.count_nonzero(mask * there > CONFIDENT)
        seen.append((part, mask, there))
    if not touched:
        return 0.0
    height, width = size_of_view(photo, factor)
    needed = max(least, needed_share(touched / (height * width))) * touched
    if twice < needed:
        return 0.0
    thrice = sum(
        np.count_nonzero((2 * mask + _smaller(runner, photo, look, factor, part)) / 3 * there > CONFIDENT)
        for part, mask, there in seen
    )
    if thrice < needed or not (region.factor >= look.factor or _seen_finer(runner, photo, look, findings, region)):
        return 0.0
    return min(1.0, float(thrice / touched))


def outline_steps(maps: Prediction, there: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    """How large the step is along the outline of what is changed, before and after it is.

    A mark's outline is a step that the photograph has not. Where taking a mark off leaves it, or makes another, there
    was none. Means of both sides are compared, so that texture, which is stronger without a mark, does not count.

    Args:
        maps: finished.
        there: (h, w) boolean, where a mark is.
        inner: rows and columns that count.

    Returns:
        sums over the pixels along the outline of the distance in RGB in [0, 1] between its sides: (2,).
    """
    changed = ((maps.mask > GATE_FROM) & there).astype(np.float32)
    share = cv2.blur(changed, (OUTLINE_WINDOW,) * 2)
    outline = (np.minimum(share, 1.0 - share) > LEAST_SIDE_SHARE)[inner]
    sums = np.zeros(2)
    for i, image in enumerate((maps.photo, maps.image)):
        mean, inside = (
            cv2.blur(image, (OUTLINE_WINDOW,) * 2),
            cv2.blur(image * changed[..., None], (OUTLINE_WINDOW,) * 2),
        )
        inside, mean, part = inside[inner][outline], mean[inner][outline], share[inner][outline][:, None]
        sums[i] = np.linalg.norm(inside / part - (mean - inside) / (1.0 - part), axis=-1).sum(dtype=np.float64)
    return sums


def step_allowed(sure: float) -> float:
    """Share of the step along a region's outline that may be left when it is taken off: the surer all looks are, the larger.

    Args:
        sure: share of the region that they are sure of, in [0, 1].

    Example:
        >>> round(step_allowed(0.3), 2), round(step_allowed(0.5), 2), step_allowed(1.0)
        (0.63, 0.83, 0.9)
    """
    return min(STEP_LEFT_MOST, STEP_LEFT_LEAST + sure)


def needed_share(touched: float) -> float:
    """Share of what would be changed that all looks together must be sure of: the more is at stake, the larger.

    Args:
        touched: what would be changed, as a share of the view, in (0, 1].

    Example:
        >>> round(needed_share(0.01), 2), round(needed_share(0.05), 2), round(needed_share(0.5), 2)
        (0.05, 0.24, 0.6)
    """
    return LEAST_CONFIRMED + CONFIRMED_GROWTH * max(0.0, math.log(touched / LARGE_SHARE))


def _both_looks(runner: TileRunner, photo, look: Look, findings: Findings, region: Region, factor: int):
    """(rows and columns, mean mask of both looks (h, w)) over a region.

    The second look is at the place alone where that costs less than half of what the tiles around it would, which the
    restoration could use again.
    """
    height, width = size_of_view(photo, factor)
    box = box_in_view(photo, findings, region, factor)
    alone = _place(box, height, width, runner.step)
    around = sum(_area(look.maps[factor][i][0].shown) for i in look.concerned(factor, box))
    if around and 2 * _area(alone.shown) > around:
        for tile, maps in answers(runner, photo, look, factor, box):
            yield tile.kept, maps.mask[tile.inner]
        return
    for tile in [alone] if around else tiles(box, height, width, runner.core, runner.step):
        second = _mirrored(runner, photo, look, factor, tile)
        yield tile.kept, (_first(look, factor, tile.kept) + second) / 2


def _smaller(runner: TileRunner, photo: np.ndarray, look: Look, factor: int, part: tuple[slice, slice]) -> np.ndarray:
    """What a look says of a part of a view that it is shown mirrored and smaller: mask probabilities (h, w)."""
    rows, columns = part
    tile = _place((rows.start, columns.start, rows.stop, columns.stop), *size_of_view(photo, factor), runner.step)
    return _mirrored(runner, photo, look, factor, tile, SMALLER_SCALE)


def _mirrored(runner: TileRunner, photo, look: Look, factor: int, tile: Tile, scale: float = 1.0) -> np.ndarray:
    """What a look says of a tile that it is shown mirrored, in `scale` of its size: mask probabilities (h, w).

    In small views the tiles of several regions, with their margins, are one: it is looked at once.
    """
    place = factor, *((side.start, side.stop) for side in tile.shown)
    if scale not in look.again or look.again[scale][0] != place:
        view = shrink(photo, factor, *tile.shown)
        size = tuple(max(1, round(scale * side)) for side in view.shape[1::-1])
        mask = runner.mirrored(cv2.resize(view, size, interpolation=cv2.INTER_AREA)).mask
        look.again[scale] = place, cv2.resize(mask, view.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return look.again[scale][1][tile.inner]


def _seen_finer(runner: TileRunner, photo, look: Look, findings: Findings, region: Region) -> bool:
    """Whether a region looks marked in the finer view it would be restored in, where the first look is surest of it."""
    here = look.probability[box_slices(region.box)] * findings.belongs(region, box_slices(region.box), look.factor)
    surest = np.argmax(cv2.blur(here, (2 * FINER_HALF_SIDE * region.factor // look.factor + 1,) * 2))
    y, x = np.add(np.unravel_index(surest, here.shape), region.box[:2]) * look.factor // region.factor
    height, width = size_of_view(photo, region.factor)
    half = min(FINER_HALF_SIDE, runner.core // 2)  # no more than the tiles that are known to fit
    box = (max(0, y - half), max(0, x - half), min(y + half, height), min(x + half, width))
    tile = _place(box, height, width, runner.step)
    mask = runner.maps(shrink(photo, region.factor, *tile.shown)).mask[tile.inner]
    return np.count_nonzero(mask * findings.belongs(region, tile.kept, region.factor) > MARK_THRESHOLD) >= LEAST_AREA


def _place(box: tuple[int, int, int, int], height: int, width: int, step: int) -> Tile:
    """One tile that covers a box, with its margin."""
    return next(tiles(box, height, width, height + width, step))


def _first(look: Look, factor: int, part: tuple[slice, slice]) -> np.ndarray:
    """What the first look said of a part of the view shrunk by `factor`: mask probabilities (h, w) in [0, 1]."""
    ratio = factor // look.factor
    rows, columns = (slice(side.start * ratio, side.stop * ratio) for side in part)
    size = (part[1].stop - part[1].start, part[0].stop - part[0].start)
    return cv2.resize(look.probability[rows, columns], size, interpolation=cv2.INTER_AREA) / np.float32(255.0)


def _area(part: tuple[slice, slice]) -> int:
    return (part[0].stop - part[0].start) * (part[1].stop - part[1].start)

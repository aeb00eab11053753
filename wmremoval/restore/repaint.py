"""Write accepted regions into the canvas, and look a second time at the lines of text among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from wmremoval.restore.canvas import Canvas
from wmremoval.restore.confirm import outline_steps
from wmremoval.restore.inpaint import inpaint_block
from wmremoval.restore.pyramid import box_slices
from wmremoval.restore.regions import TEXT_LOG_ODDS, Region, raise_odds
from wmremoval.restore.solve import Solver
from wmremoval.restore.strokes import SEEN_DENSER, STROKES_DENSER, line_strokes
from wmremoval.restore.text import Line, TextFinder
from wmremoval.restore.upsampling import native_blocks

LEAST_CHANGED = 0.05  # share of a line's pixels; with less, a line was left alone. Not measured.
STILL_COVERED = (
    0.3  # share of a line's area in which the detector still finds text if it is still readable. Not measured.
)


@dataclass(frozen=True)
class FoundText:
    """A line of text of a photograph, and its fate."""

    words: str  # as read; empty where nothing could be read
    fate: str  # "removed", "still readable", "left: part of the scene" or "kept: as asked for"
    quad: tuple[tuple[float, float], ...]  # corners, x and y in pixels


def restore_region(canvas: Canvas, solver: Solver, region: Region) -> float:
    """Write a region into the canvas; gives the share of the step along its outline that is left, 0 where it is inpainted."""
    regions, pyramid, factor = solver.regions, solver.ensemble.searched.pyramid, region.factor
    if not region.found:
        assert canvas.mask is not None  # the region is of the user's mask
        block = pyramid.native(region.box)
        strength = np.where(regions.mask(region, block), canvas.mask[block], 0).astype(np.uint8)
        canvas.write(block, inpaint_block(canvas.photo, block, strength), strength)
        return 0.0
    box, outline = pyramid.box(region.box, factor), np.zeros(2)
    for tile, prediction in solver.tiles(factor, box):
        outline += outline_steps(prediction, regions.mask(region, tile.shown, factor), tile.inner)
        for block, view, gate in native_blocks(tile, prediction, pyramid, factor, box):
            canvas.blend(block, view, gate * regions.mask(region, block))
    return outline[1] / outline[0] if outline[0] else 0.0


def restore_or_leave(canvas: Canvas, solver: Solver, region: Region, most: float) -> bool:
    """Restore a region, but put it back if more than `most` of the step along its outline is left: there was no mark.

    A line of text may lie over a region of the network that was restored before; that one stays.

    Returns:
        False if the region was put back.
    """
    block = solver.ensemble.searched.pyramid.native(region.box)
    before = None if region.line is None else canvas.keep(block)
    if restore_region(canvas, solver, region) <= most:
        return True
    if before is None:
        canvas.undo(block, solver.regions.mask(region, block))
    else:
        canvas.put_back(before)
    return False


def was_changed(canvas: Canvas, solver: Solver, region: Region) -> bool:
    """True if a part of a line was restored."""
    block = solver.ensemble.searched.pyramid.native(region.box)
    inside = solver.regions.mask(region, block)
    return bool(np.count_nonzero(canvas.changed[block][inside]) > LEAST_CHANGED * np.count_nonzero(inside))


def look_again(
    canvas: Canvas, solver: Solver, text: TextFinder, region: Region, is_restored: bool, is_sure: bool
) -> str:
    """The fate of a line of text; its strokes are inpainted if it is a mark and still readable.

    Args:
        canvas: restored.
        solver: of the photograph.
        text: the detector that looks again.
        region: a line of text.
        is_restored: the line was restored by itself, so that the network sees its strokes; these are tried before those that
            are found by their colours.
        is_sure: it is a mark even where the network does not see its strokes.

    Returns:
        "removed", "still readable" or "left: part of the scene".
    """
    touched = was_changed(canvas, solver, region)
    if not (touched or is_sure):
        return "left: part of the scene"
    if touched and not still_readable(text, canvas.restored, region.text_line):
        return "removed"
    before = canvas.keep(solver.ensemble.searched.pyramid.native(region.box))
    tries = (inpaint_line, partial(inpaint_colours, least=SEEN_DENSER)) if is_restored else (inpaint_colours,)
    for inpaint_strokes in tries if "again" not in solver.without else ():
        if inpaint_strokes(canvas, solver, region):
            if not still_readable(text, canvas.restored, region.text_line):
                return "removed"
            canvas.put_back(before)
    return "still readable"


def inpaint_colours(canvas: Canvas, solver: Solver, region: Region, least: float = STROKES_DENSER) -> bool:
    """Inpaint the strokes of a line of text by their colours, in place of what the network made of it; False: none found.

    `least`: times as dense in the line as beside it the strokes must be.
    """
    strokes = None if "strokes" in solver.without else line_strokes(canvas.photo, region.text_line)
    if strokes is None or strokes.denser <= least:
        return False
    block = solver.ensemble.searched.pyramid.native(region.box)
    canvas.undo(block, solver.regions.mask(region, block))
    strength = np.uint8(255) * strokes.mask
    canvas.write(strokes.block, inpaint_block(canvas.photo, strokes.block, strength), strength)
    return True


def inpaint_line(canvas: Canvas, solver: Solver, region: Region) -> bool:
    """Inpaint the strokes of a line of text, as the network sees them, whatever shows through them; False: none seen."""
    pyramid, factor = solver.ensemble.searched.pyramid, region.factor
    box = pyramid.box(region.box, factor)
    sides = [min(factor * side, canvas.photo.shape[i % 2]) for i, side in enumerate(box)]
    around = box_slices(tuple(sides))
    strokes = np.zeros(canvas.changed[around].shape, np.uint8)
    for tile, prediction in solver.tiles(factor, box):
        raised = prediction._replace(mask=raise_odds(prediction.mask, TEXT_LOG_ODDS))
        for block, _, gate in native_blocks(tile, raised, pyramid, factor, box):
            rows, columns = (slice(part.start - sides[i], part.stop - sides[i]) for i, part in enumerate(block))
            strokes[rows, columns] = gate > 0
    strength = 255 * (cv2.dilate(strokes, np.ones((3, 3), np.uint8)) & solver.regions.mask(region, around))
    canvas.write(around, inpaint_block(canvas.photo, around, strength), strength)
    return bool(strength.any())


def still_readable(text: TextFinder, photo: np.ndarray, line: Line) -> bool:
    """True if the detector still finds text over a part of a line."""
    return covered_share(line, text.find_near(photo, line)) > STILL_COVERED


def covered_share(line: Line, found: Sequence[Line]) -> float:
    """The share of a line's area that is covered by other lines, in [0, 1]. Lines of more than three times its height do not count."""
    shift = line.quad.min(axis=0)
    size = np.ceil(line.quad.max(axis=0) - shift).astype(int) + 1
    own, other = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(own, np.round(line.quad - shift).astype(np.int32), 1)
    for one in found:
        if one.height <= 3.0 * line.height:
            cv2.fillConvexPoly(other, np.round(one.quad - shift).astype(np.int32), 1)
    return float(np.count_nonzero(own & other) / max(1, int(np.count_nonzero(own))))

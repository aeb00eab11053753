"""Learn the marks that photographs share, from the marks that were found on each."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.shared.estimate import ZERO, estimate_mark
from wmremoval.shared.grid import HEADS, TAILS
from wmremoval.shared.lines import SharedLine, TextFind, learn_lines
from wmremoval.shared.mark import ROUNDING, SCALES, Frame, Place, SharedMark
from wmremoval.shared.removal import find_near, place_near

# Photographs that share a mark, at least; with fewer each is restored by itself. Of seven marks on 288 x 432 validation
# photographs (2026-11-27) six photographs gain in all over the ordinary way, four lose in two.
LEAST_PHOTOGRAPHS = 6
LEAST_ALIKE = 3  # photographs on which the network must find the mark in the same place
# Pixels of the part of a photograph in which a mark is measured; a larger one is shrunk. 1.3 megapixels of 12 photographs take
# 150 s on one core and 1.2 GB in all (2026-11-27).
MOST_PIXELS = 1_500_000
MOST_BYTES = 400_000_000  # of the parts of photographs that a mark is measured on; chosen, not measured
# Megabytes: of the program and the network; of measuring a mark of `MOST_PIXELS` besides. Least share of the latter. Measured on
# 12 photographs of 1400 x 1000 pixels (2026-11-27).
IN_USE, MEASURING, LEAST_MEMORY = 750, 500, 0.1
RASTER = 128  # pixels; longer side of the masks that are compared
ALIKE = 0.3  # overlap (IoU) from which the marks found on two photographs are one. Not measured.
SHARED_SHARE = 0.25  # of the photographs of a group: a pixel found on as many belongs to the mark. Not measured.
MOST_COVERED = 0.9  # share of a part of the photographs; under more nothing is left to compare with. Not measured.
REACH = 4  # pixels by which a mark may be wider than what was found. Not measured.
# Alpha above which nothing shows through: such a mark is inpainted in either way, and borders, backdrops, props and a
# product's own logo repeat in the same place, too.
OPAQUE = 0.9
ALIGNMENTS = 3  # estimates of which each aligns photographs of several sizes for the next. Not measured.
# Share of a mark's alpha from which a first estimate counts as the mark. On validation photographs (2026-11-27) 0.35, 0.2 and 0.1
# end at 39.6, 42.4 and 43.3 dB (one colour, 8 photographs), 43.0, 43.1 and 44.3 (several colours), 29.2, 29.8 and 29.7 (JPEG).
TIGHT = 0.1
# Of an edge that photographs share: grey levels at least, standard errors at least, and pixels up to which edges belong
# together. Not measured.
LEAST_STEP, SHARED_RATIO, JOINED = 2.0, 5.0, 3
MARGIN = 24  # pixels around a mark that are seen when it is measured
START_ALPHA = 0.4  # alpha to start from; a start of 0.1 or 0.4 for true ones of 0.3 to 0.7 ends within 0.02 of them at 10 photographs
ANCHORS = tuple((x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0))


@dataclass(frozen=True)
class Evidence:
    """The mask that was found on one photograph, and a way to read it again.

    Args:
        size: width and height, pixels.
        bits: of the mask of changes, packed (`np.packbits`); it takes an eighth of the mask.
        read: gives the photograph, (H, W, 3) RGB uint8; None where no mark is to be measured.
        noise: that rounding or compression added, grey levels.
        texts: the lines of text that were removed.
    """

    size: tuple[int, int]
    bits: np.ndarray
    read: Callable[[], np.ndarray] | None = None
    noise: float = ROUNDING
    texts: tuple[TextFind, ...] = ()

    def photo(self) -> np.ndarray:
        """The photograph, (H, W, 3) RGB uint8, of evidence that can read it."""
        assert self.read is not None
        return self.read()

    @property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, 1 where a mark was found."""
        width, height = self.size
        return np.unpackbits(self.bits, count=width * height).reshape(height, width)


@dataclass(frozen=True)
class Group:
    """Photographs that share a mark.

    Args:
        members: their evidence.
        size: width and height of the photographs on which the mark is measured.
        frame: how the mark lies on photographs of other sizes.
    """

    members: list[Evidence]
    size: tuple[int, int]
    frame: Frame


class Shared(NamedTuple):
    """All that photographs share: marks to be inverted, and places of lines of text that differ, such as dates."""

    marks: tuple[SharedMark, ...] = ()
    lines: tuple[SharedLine, ...] = ()


def memory_share(max_memory: int) -> float:
    """The share of the memory of measuring that fits beside the network, in [`LEAST_MEMORY`, 1]; see `learn_shared`.

    Args:
        max_memory: megabytes for the whole program.
    """
    return float(np.clip((max_memory - IN_USE) / MEASURING, LEAST_MEMORY, 1.0))


def learn_shared(found: Sequence[Evidence], memory: float = 1.0) -> Shared:
    """The marks and the places of lines of text that photographs share.

    Args:
        found: on each photograph.
        memory: share of the usual memory; with less, marks are measured on smaller or fewer pictures.
    """
    marks = learn_marks(found, memory)
    lines = learn_lines([(evidence.size, evidence.texts) for evidence in found])
    return Shared(tuple(marks), tuple(line for line in lines if not any(_is_part(line, mark) for mark in marks)))


def _is_part(line: SharedLine, mark: SharedMark) -> bool:
    """True if the middle of a line lies within the box of a mark."""
    place = mark.place_on(line.size)
    assert place is not None  # it was measured on photographs
    ends = [
        (start, start + place.scale * side)
        for start, side in zip((place.left, place.top), mark.alpha.shape[::-1], strict=True)
    ]
    return all(low <= (line.box[i] + line.box[i + 2]) / 2 <= high for i, (low, high) in enumerate(ends))


def learn_marks(found: Sequence[Evidence], memory: float = 1.0) -> list[SharedMark]:
    """The marks that at least `LEAST_PHOTOGRAPHS` photographs share, the most frequent first; see `learn_shared`."""
    rest, marks = list(found), []
    while (group := largest_group([evidence for evidence in rest if evidence.bits.any()])) is not None:
        mark = measure(group, rest, memory)
        marks += [] if mark is None else [mark]
        rest = [
            evidence
            for evidence in rest
            if not any(evidence is member for member in group.members)
            and (mark is None or shift_on(evidence, mark) is None)
        ]
    return marks


def largest_group(found: Sequence[Evidence]) -> Group | None:
    """The most photographs whose marks lie over each other in one frame; None if fewer than `LEAST_ALIKE` do."""
    if len(found) < LEAST_ALIKE:
        return None
    counts = Counter(evidence.size for evidence in found)
    size = max(counts, key=lambda size: (counts[size], size[0] * size[1]))  # of equals the largest: it keeps all detail
    one_size = all(evidence.size == size for evidence in found)
    frames = [Frame()] if one_size else [Frame(scale, anchor) for scale in SCALES for anchor in ANCHORS]
    best, best_score = None, 0.0
    for frame in frames:
        rasters = np.stack([_raster(evidence, size, frame) for evidence in found])
        overlap = rasters @ rasters.T
        area = overlap.diagonal()
        alike = overlap / np.maximum(area[:, None] + area[None, :] - overlap, 1e-6)
        near = alike > ALIKE
        middle = int((alike * near).sum(axis=1).argmax())
        score = float((alike * near)[middle].sum())
        if near[middle].sum() >= LEAST_ALIKE and score > 1.02 * best_score:  # of equals the simpler frame
            members = [evidence for evidence, is_near in zip(found, near[middle], strict=True) if is_near]
            best, best_score = Group(members, size, frame), score
    return best


def measure(group: Group, found: Sequence[Evidence], memory: float) -> SharedMark | None:
    """The mark of a group, measured on all photographs that turn out to carry it; None if fewer than half of the group do.

    Args:
        group: photographs on which it was found.
        found: all photographs that may carry it.
        memory: share of the usual one.
    """
    share = sum((_in_frame(member.mask, member, group).astype(np.float32) for member in group.members), start=ZERO)
    common = (share >= max(SHARED_SHARE * len(group.members), 1.5)).astype(np.uint8)
    if not common.any():
        return None
    whole = _completed(common, group, memory)
    block = _around(whole)
    factor = _factor(block, memory * MOST_PIXELS)
    sure, support = (
        _shrunk(mask, factor) > 0
        for mask in (common[block], cv2.dilate(whole[block], np.ones((2 * REACH + 1,) * 2, np.uint8)))
    )
    most = max(LEAST_PHOTOGRAPHS, int(memory * MOST_BYTES / (9 * support.size)))
    members, alpha = group.members[:most], START_ALPHA * support
    one_size = all(member.size == group.size for member in members)
    shifts = [(0.0, 0.0)] * len(members)
    for to_come in range(2 if one_size else ALIGNMENTS, -1, -1):
        if support.mean() > MOST_COVERED:
            return None
        mark = _estimated(group, members, shifts, (block, factor, support, alpha))
        if not mark.alpha.any() or np.median(mark.alpha[mark.alpha > 0.5 * mark.alpha.max()]) > OPAQUE:
            return None
        if to_come <= 1:  # aligned
            there = [(one, shift) for one in found if (shift := shift_on(one, mark)) is not None]
            kept = sum(any(one is member for one, _ in there) for member in members)
            if len(there) < LEAST_PHOTOGRAPHS or kept < 0.5 * len(members):
                return None
            members, shifts = (list(column) for column in zip(*there[:most], strict=True))
        else:
            shifts = [_rough_shift(one, mark) for one in members]
        alpha, support = mark.alpha, sure | _tight(mark.alpha)  # a poor first estimate may lack a part
    return _cut(mark)


def _tight(alpha: np.ndarray) -> np.ndarray:
    """The support of a mark of an alpha (h, w): what is seen between its strokes makes the next estimate more exact."""
    found = (alpha > TIGHT * np.quantile(alpha[alpha > 0], 0.9)).astype(np.uint8)
    return cv2.dilate(found, np.ones((2 * REACH + 1,) * 2, np.uint8)) > 0


def _completed(common: np.ndarray, group: Group, memory: float) -> np.ndarray:
    """The mask that was found in common and the rest of its mark: edges that photographs share beside it, and their inside.

    An edge is shared if the median of the gradients over photographs is far from 0: those of scenes cancel out (Dekel et al.,
    section 3.1).

    Args:
        common: (H, W) uint8, 1 where the mark was found.
        group: its photographs.
        memory: share of the usual one.
    """
    x, y, w, h = cv2.boundingRect(common)
    reach = max(MARGIN, h // 2), max(MARGIN, w // 2)
    block = slice(max(0, y - reach[0]), y + h + reach[0]), slice(max(0, x - reach[1]), x + w + reach[1])
    found = common[block]
    most = max(LEAST_ALIKE, int(memory * MOST_BYTES / (6 * found.size)))
    grey = [cv2.cvtColor(_in_frame(one.photo(), one, group)[block], cv2.COLOR_RGB2GRAY) for one in group.members[:most]]
    joined = found.copy()
    for head, tail in zip(HEADS, TAILS, strict=True):
        steps = np.stack([view[tail].astype(np.int16) - view[head] for view in grey])
        middle = np.median(steps, axis=0)
        error = np.median(np.abs(steps - middle), axis=0) * 1.86 / np.sqrt(len(grey)) + LEAST_STEP / 4
        joined[head] |= (np.abs(middle) > np.maximum(LEAST_STEP, SHARED_RATIO * error)).astype(np.uint8)
    joined = cv2.dilate(joined, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * JOINED + 1,) * 2))
    _, labels = cv2.connectedComponents(joined)
    touched = np.unique(labels[found > 0])
    outlines, _ = cv2.findContours(np.isin(labels, touched).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = common.copy()
    whole[block] |= cv2.drawContours(np.zeros_like(found), outlines, -1, 1, cv2.FILLED)
    return whole


def _estimated(group: Group, members: list[Evidence], shifts: list[tuple[float, float]], start: tuple) -> SharedMark:
    """The mark of photographs, each moved by its shift; `start`: the block, its shrinking, the support, the first alpha."""
    block, factor, support, alpha = start
    noise = [member.noise for member in members]
    parts = [
        _shrunk(_in_frame(one.photo(), one, group, shift)[block], factor)
        for one, shift in zip(members, shifts, strict=True)
    ]
    measured = estimate_mark(parts, support, alpha, noise)
    place = Place(float(block[1].start), float(block[0].start), float(factor))
    return SharedMark(*measured, place, group.size, group.frame, len(members), max(noise))


def shift_on(evidence: Evidence, mark: SharedMark) -> tuple[float, float] | None:
    """The pixels of the photograph by which the mark lies beside its usual place; None if it is not there."""
    usual, place = mark.place_on(evidence.size), place_near(evidence.photo(), mark)
    return None if place is None or usual is None else (place.left - usual.left, place.top - usual.top)


def _rough_shift(evidence: Evidence, mark: SharedMark) -> tuple[float, float]:
    """The same for a mark that is not measured well enough to tell whether it is there; (0, 0) where nothing correlates."""
    usual = mark.place_on(evidence.size)
    assert usual is not None  # it was measured on photographs
    match = find_near(evidence.photo(), mark, usual)
    return (match.place.left - usual.left, match.place.top - usual.top) if match.correlation > 0 else (0.0, 0.0)


def _cut(mark: SharedMark) -> SharedMark:
    """The mark without its empty border."""
    x, y, w, h = cv2.boundingRect((mark.alpha > 0).astype(np.uint8))
    assert mark.place is not None  # it was measured on photographs
    scale = mark.place.scale
    place = Place(mark.place.left + scale * x, mark.place.top + scale * y, scale)
    box = np.s_[y : y + h, x : x + w]
    return replace(mark, alpha=mark.alpha[box].copy(), colour=mark.colour[box].copy(), place=place)


def _factor(block: tuple[slice, slice], most: float) -> int:
    """The whole factor by which a block is shrunk, so that it has at most so many pixels."""
    rows, columns = (side.stop - side.start for side in block)
    return int(np.ceil(np.sqrt(rows * columns / most)))


def _shrunk(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture, (h, w) or (h, w, 3) uint8, shrunk by a whole factor; what is left over at its end is cut off."""
    height, width = (side // factor for side in picture.shape[:2])
    if factor == 1:
        return picture
    return cv2.resize(picture[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def _around(found: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of what was found, with a margin."""
    x, y, w, h = cv2.boundingRect(found)
    return slice(max(0, y - MARGIN), y + h + MARGIN), slice(max(0, x - MARGIN), x + w + MARGIN)


def _to_frame(evidence: Evidence, group: Group, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The affine map (2, 3) from pixels of a photograph to those of the group's size."""
    frame = group.frame
    ratio = frame.unit(group.size) / frame.unit(evidence.size)
    own, other = frame.origin(evidence.size), frame.origin(group.size)
    offset = [o - ratio * (p + s) + (ratio - 1) / 2 for o, p, s in zip(other, own, shift, strict=True)]
    return np.array([[ratio, 0, offset[0]], [0, ratio, offset[1]]], np.float64)


def _in_frame(
    picture: np.ndarray, evidence: Evidence, group: Group, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """A picture of a photograph, (H, W) or (H, W, 3) uint8, as it lies on one of the group's size."""
    matrix = _to_frame(evidence, group, shift)
    if evidence.size == group.size and not any(shift):
        return picture
    if np.allclose(matrix, np.round(matrix)):
        matrix = np.round(matrix)
    return cv2.warpAffine(picture, matrix, group.size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _raster(evidence: Evidence, size: tuple[int, int], frame: Frame) -> np.ndarray:
    """The mask of a photograph in a frame, shrunk and flat: (n,) float32."""
    shrunk = RASTER / max(size)
    shape = tuple(max(1, round(side * shrunk)) for side in size)
    own = cv2.resize(evidence.mask * np.float32(1.0), None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    matrix = _to_frame(evidence, Group([], size, frame))
    matrix[:, 2] *= shrunk
    return (cv2.warpAffine(own, matrix, shape) > 0.25).astype(np.float32).ravel()

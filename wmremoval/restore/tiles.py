"""Run the network over photographs of any size: shrunken views, aligned tiles with margins, smaller ones if memory is short."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from wmremoval.images import to_tensor, to_uint8
from wmremoval.restore.fit_mark import fit_constant_mark
from wmremoval.restore.inpaint import compose, surroundings
from wmremoval.restore.prediction import GATE_FROM, Prediction, average, disagreement, mark_from_contrast
from wmremoval.restore.sparse_edges import separate

logger = logging.getLogger(__name__)


MARGIN = 64  # pixels around a tile that its result depends on: the reach of all convolutions, 51, and the poolings' 7
STRIDE = 8  # of the bottleneck; tiles begin at multiples of it, so that they are pooled as the whole would be
STEPS = (
    "mirror",
    "consensus",
    "fill",
    "separation",
)  # after the network: a second look, which the next needs; agreement; composition; fewest edges
SMALLEST = 64  # pixels; a tile is not halved below this


class Tile(NamedTuple):
    """A part of a view: what the network is shown, and what of its answer is kept; rows and columns as slices."""

    shown: tuple[slice, slice]  # in the view
    kept: tuple[slice, slice]  # in the view
    inner: tuple[slice, slice]  # `kept` within `shown`


def tiles(box: tuple[int, int, int, int], height: int, width: int, core: int, step: int = STRIDE) -> Iterator[Tile]:
    """Cover a box of a view with tiles whose kept parts do not overlap.

    Args:
        box: top, left, bottom, right; pixels.
        height, width: of the view.
        core: side of the kept part, pixels.
        step: what the tiles' origins are a multiple of; the stride of attention windows, so that all tiles share them.
    """
    before = -(-MARGIN // step) * step
    core = max(step, core // step * step)
    for top in range(box[0] // core * core, box[2], core):
        for left in range(box[1] // core * core, box[3], core):
            kept = tuple(  # no more of a tile than the box needs
                slice(max(start, low // step * step), min(start + core, -(-high // step) * step, size))
                for start, low, high, size in ((top, box[0], box[2], height), (left, box[1], box[3], width))
            )
            shown = tuple(
                slice(max(0, part.start - before), min(part.stop + MARGIN, size))
                for part, size in zip(kept, (height, width), strict=True)
            )
            inner = tuple(slice(k.start - s.start, k.stop - s.start) for k, s in zip(kept, shown, strict=True))
            yield Tile(shown, kept, inner)


def shrink(photo: np.ndarray, factor: int, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
    """A view shrunk by a whole factor, averaging; (H, W, 3) uint8 to (ceil(H / factor), ceil(W / factor), 3) uint8.

    Args:
        photo: the native photograph.
        factor: 1, 2, 4, ...
        rows, columns: the part of the shrunken view that is wanted, in its pixels; None: all.
    """
    height, width = (-(-side // factor) for side in photo.shape[:2])
    rows, columns = rows or slice(0, height), columns or slice(0, width)
    if factor == 1:
        return photo[rows, columns]
    view = np.empty((rows.stop - rows.start, columns.stop - columns.start, *photo.shape[2:]), photo.dtype)
    strip = max(1, 512 // factor)  # rows of the view; bounds the padded copies
    for top in range(rows.start, rows.stop, strip):
        bottom = min(top + strip, rows.stop)
        part = photo[top * factor : bottom * factor, columns.start * factor : columns.stop * factor]
        missing = ((bottom - top) * factor - part.shape[0], (view.shape[1]) * factor - part.shape[1])
        if any(missing):
            part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        size = (view.shape[1], bottom - top)
        view[top - rows.start : bottom - rows.start] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return view


@dataclass
class TileRunner:
    """The network with its device, and the tile size that fits there.

    Args:
        net: has `parts`, as `HeterogeneousUNet` has.
        device: where it runs.
        core: side of a tile's kept part, pixels; halved when the device runs out of memory.
        step: see `tiles`.
    """

    net: nn.Module
    device: torch.device
    core: int = 480
    step: int = STRIDE
    without: frozenset[str] = frozenset()  # of `STEPS`, for measuring what each is worth

    @torch.inference_mode()
    def maps(self, view: np.ndarray) -> Prediction:
        """What the network says of a view, (h, w, 3) uint8, in one piece."""
        shown = to_tensor(view)[None]
        parts = self.net.parts(shown.to(self.device))
        photo, image = (_to_array(x) for x in (shown, parts.image))
        mask = _to_array(torch.sigmoid(parts.mask_logits))[..., 0]
        if parts.alpha is None:
            return Prediction(photo, image, mask, *mark_from_contrast(photo, image, mask))
        alpha, colour, trust = (_to_array(x) for x in (parts.alpha, parts.colour, parts.trust))
        return Prediction(photo, image, mask, alpha[..., 0], colour, trust[..., 0])

    def mirrored(self, view: np.ndarray) -> Prediction:
        """What the network says of a view that it is shown mirrored, turned back."""
        maps = self.maps(np.ascontiguousarray(view[:, ::-1]))
        return Prediction(*(x if x is None else np.ascontiguousarray(x[:, ::-1]) for x in maps))

    def finished(self, maps: Prediction) -> Prediction:
        """What a marked tile is restored from: a second opinion, of the tile mirrored, what its pixels fit_constant_mark on, composed."""
        if maps.trust is None or maps.mask.max() <= GATE_FROM:
            return maps
        differ = None
        if "mirror" not in self.without:
            other = self.mirrored(to_uint8(maps.photo))
            differ, maps = disagreement(maps, other), average(maps, other)
        around = None if "fill" in self.without else surroundings(maps)
        if around is None:
            return maps
        if differ is None or "consensus" in self.without:
            return compose(maps, around)
        agreed = fit_constant_mark(maps, around, differ)
        composed = compose(agreed.maps, around, agreed.joined, agreed.doubt, agreed.edges)
        return composed if "separation" in self.without else separate(composed, agreed)

    def cover(
        self, box: tuple[int, int, int, int], view_of, height: int, width: int
    ) -> Iterator[tuple[Tile, Prediction]]:
        """Run over a box of a view, tile by tile; `view_of(rows, columns)` gives its pixels.

        Raises:
            MemoryError: not even the smallest tile fits.
        """
        pending = list(tiles(box, height, width, self.core, self.step))
        while pending:
            tile = pending.pop(0)
            try:
                yield tile, self.maps(view_of(*tile.shown))
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self.core // 2 < SMALLEST:
                    raise MemoryError(
                        f"a tile of {self.core} px does not fit on {self.device}; use --device cpu"
                    ) from None
                self.core //= 2
                logger.warning(f"out of memory on {self.device}: going on with tiles of {self.core} px")
                areas = [(t.kept[0].start, t.kept[1].start, t.kept[0].stop, t.kept[1].stop) for t in (tile, *pending)]
                pending = _again(areas, height, width, self.core, self.step)


def _again(areas, height: int, width: int, core: int, step: int) -> list[Tile]:
    """Smaller tiles for what is left to do, without going twice over any part."""
    done, again = set(), []
    for area in areas:
        for tile in tiles(area, height, width, core, step):
            key = (tile.kept[0].start, tile.kept[1].start)
            if key not in done:
                done.add(key)
                again.append(tile)
    return again


def _to_array(x: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) float32 on the CPU."""
    return np.ascontiguousarray(x[0].float().cpu().numpy().transpose(1, 2, 0))

"""The network over views of any size: aligned tiles with margins, smaller ones if memory is short."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from wmremoval.images import to_tensor
from wmremoval.restore.prediction import Prediction, mark_from_contrast
from wmremoval.restore.pyramid import Block, Box

logger = logging.getLogger(__name__)

MARGIN = 64  # pixels around a tile that its result depends on: the reach of all convolutions, 51, and the poolings' 7
STRIDE = 8  # of the bottleneck; tiles begin at multiples of it, so that they are pooled as the whole would be
SMALLEST_TILE = 64  # pixels; a tile is not halved below this


class Tile(NamedTuple):
    """A part of a view: what the network is shown, and what of its prediction is kept."""

    shown: Block  # in the view
    kept: Block  # in the view
    inner: Block  # `kept` within `shown`


def tiles(box: Box, size: tuple[int, int], core: int, step: int = STRIDE) -> Iterator[Tile]:
    """Cover a box of a view with tiles whose kept parts do not overlap.

    Args:
        box: in the view.
        size: height and width of the view, pixels.
        core: side of the kept part, pixels.
        step: the tiles' origins are multiples of it; the stride of attention windows, so that all tiles share them.
    """
    before = -(-MARGIN // step) * step
    core = max(step, core // step * step)
    for top in range(box[0] // core * core, box[2], core):
        for left in range(box[1] // core * core, box[3], core):
            kept = tuple(  # no more of a tile than the box needs
                slice(max(start, low // step * step), min(start + core, -(-high // step) * step, side))
                for start, low, high, side in ((top, box[0], box[2], size[0]), (left, box[1], box[3], size[1]))
            )
            shown = tuple(
                slice(max(0, part.start - before), min(part.stop + MARGIN, side))
                for part, side in zip(kept, size, strict=True)
            )
            inner = tuple(slice(k.start - s.start, k.stop - s.start) for k, s in zip(kept, shown, strict=True))
            yield Tile(shown, kept, inner)


@dataclass
class TiledNetwork:
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

    @torch.inference_mode()
    def predict(self, view: np.ndarray) -> Prediction:
        """The prediction of a view, (h, w, 3) uint8, in one piece."""
        shown = to_tensor(view)[None]
        parts = self.net.parts(shown.to(self.device))
        photo, image = (_to_array(x) for x in (shown, parts.image))
        mask = _to_array(torch.sigmoid(parts.mask_logits))[..., 0]
        if parts.alpha is None:
            return Prediction(photo, image, mask, *mark_from_contrast(photo, image, mask))
        alpha, colour, trust = (_to_array(x) for x in (parts.alpha, parts.colour, parts.trust))
        return Prediction(photo, image, mask, alpha[..., 0], colour, trust[..., 0])

    def predict_mirrored(self, view: np.ndarray) -> Prediction:
        """The prediction of a mirrored view, mirrored back."""
        prediction = self.predict(np.ascontiguousarray(view[:, ::-1]))
        return Prediction(*(x if x is None else np.ascontiguousarray(x[:, ::-1]) for x in prediction))

    def predict_tiles(
        self, box: Box, size: tuple[int, int], pixels: Callable[[Block], np.ndarray]
    ) -> Iterator[tuple[Tile, Prediction]]:
        """Predict a box of a view, tile by tile.

        Args:
            box: in the view.
            size: height and width of the view, pixels.
            pixels: gives a block of the view, (h, w, 3) uint8.

        Raises:
            MemoryError: not even the smallest tile fits.
        """
        pending = list(tiles(box, size, self.core, self.step))
        while pending:
            tile = pending.pop(0)
            try:
                yield tile, self.predict(pixels(tile.shown))
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self.core // 2 < SMALLEST_TILE:
                    raise MemoryError(
                        f"a tile of {self.core} px does not fit on {self.device}; use --device cpu"
                    ) from None
                self.core //= 2
                logger.warning(f"out of memory on {self.device}: going on with tiles of {self.core} px")
                pending = self._smaller([tile, *pending], size)

    def _smaller(self, pending: list[Tile], size: tuple[int, int]) -> list[Tile]:
        """The tiles that are left to do as smaller ones, none twice."""
        smaller: dict[tuple[int, int], Tile] = {}
        for large in pending:
            rows, columns = large.kept
            for tile in tiles((rows.start, columns.start, rows.stop, columns.stop), size, self.core, self.step):
                smaller.setdefault((tile.kept[0].start, tile.kept[1].start), tile)
        return list(smaller.values())


def _to_array(x: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) float32 on the CPU."""
    return np.ascontiguousarray(x[0].float().cpu().numpy().transpose(1, 2, 0))

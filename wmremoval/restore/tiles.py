"""The network on views of any size: aligned tiles with margins, smaller ones if memory is short."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from wmremoval.images import to_tensor
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore.fastnet import FastNet
from wmremoval.restore.prediction import Prediction, mark_from_contrast
from wmremoval.restore.pyramid import Block, Box

logger = logging.getLogger(__name__)

MARGIN = 64  # pixels around a tile on which its result depends: 51 for all convolutions, 7 for the poolings; rounded up
STRIDE = 8  # pixels in a position of the bottleneck; tiles start at its multiples, to be pooled like the whole view
SMALLEST_TILE = 64  # pixels; a tile is not halved below this. Chosen, not measured.


Network = HeterogeneousUNet | FastNet


class Tile(NamedTuple):
    """A part of a view: the pixels that the network is given, and the part of its prediction that is kept."""

    shown: Block  # rows and columns of the view that the network is given
    kept: Block  # rows and columns of the view whose prediction is kept
    inner: Block  # rows and columns of `kept` in `shown`


def tiles(box: Box, size: tuple[int, int], core: int, step: int = STRIDE) -> Iterator[Tile]:
    """Cover a box of a view with tiles whose kept parts do not overlap.

    Args:
        box: in the view.
        size: height and width of the view, pixels.
        core: side of the kept part, pixels.
        step: pixels; tiles start at its multiples. If it is the stride of the attention windows, all tiles share them.
    """
    before = -(-MARGIN // step) * step
    core = max(step, core // step * step)
    for top in range(box[0] // core * core, box[2], core):
        for left in range(box[1] // core * core, box[3], core):
            kept = [  # cropped to the box
                slice(max(start, low // step * step), min(start + core, -(-high // step) * step, side))
                for start, low, high, side in ((top, box[0], box[2], size[0]), (left, box[1], box[3], size[1]))
            ]
            shown = [
                slice(max(0, part.start - before), min(part.stop + MARGIN, side))
                for part, side in zip(kept, size, strict=True)
            ]
            inner = [slice(k.start - s.start, k.stop - s.start) for k, s in zip(kept, shown, strict=True)]
            yield Tile((shown[0], shown[1]), (kept[0], kept[1]), (inner[0], inner[1]))


@dataclass
class TiledNetwork:
    """The network on its device, with a tile size that fits into the memory.

    Args:
        net: has `parts`, as `HeterogeneousUNet` has.
        device: of the network.
        core: side of a tile's kept part, pixels; halved when the device runs out of memory.
        step: see `tiles`.
    """

    net: Network
    device: torch.device
    core: int = 480
    step: int = STRIDE

    @torch.inference_mode()
    def predict(self, view: np.ndarray) -> Prediction:
        """The prediction of a view, (h, w, 3) RGB uint8, in one piece."""
        shown = to_tensor(view)[None]
        parts = self.net.parts(shown.to(self.device))
        photo, image = (_to_array(x) for x in (shown, parts.image))
        mask = _to_array(torch.sigmoid(parts.mask_logits))[..., 0]
        if parts.alpha is None:
            return Prediction(photo, image, mask, *mark_from_contrast(photo, image, mask))
        alpha, colour, trust = (_to_array(x) for x in (parts.alpha, parts.colour, parts.trust) if x is not None)
        return Prediction(photo, image, mask, alpha[..., 0], colour, trust[..., 0])

    def predict_mirrored(self, view: np.ndarray) -> Prediction:
        """The prediction of a mirrored view, mirrored back."""
        prediction = self.predict(np.ascontiguousarray(view[:, ::-1]))
        return Prediction._make(x if x is None else np.ascontiguousarray(x[:, ::-1]) for x in prediction)

    def predict_tiles(
        self, box: Box, size: tuple[int, int], pixels: Callable[[Block], np.ndarray]
    ) -> Iterator[tuple[Tile, Prediction]]:
        """Predict a box of a view, tile by tile.

        Args:
            box: in the view.
            size: height and width of the view, pixels.
            pixels: a function from a block to the pixels of the view there, (h, w, 3) RGB uint8.

        Raises:
            MemoryError: not even the smallest tile fits into the memory of the device.
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
        """The remaining tiles, divided into tiles of the present size; each appears once."""
        smaller: dict[tuple[int, int], Tile] = {}
        for large in pending:
            rows, columns = large.kept
            for tile in tiles((rows.start, columns.start, rows.stop, columns.stop), size, self.core, self.step):
                smaller.setdefault((tile.kept[0].start, tile.kept[1].start), tile)
        return list(smaller.values())


def _to_array(x: torch.Tensor) -> np.ndarray:
    """Convert a tensor (1, C, H, W) to an array (H, W, C), float32."""
    return np.ascontiguousarray(x[0].float().cpu().numpy().transpose(1, 2, 0))

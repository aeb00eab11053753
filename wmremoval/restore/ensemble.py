"""Several predictions of one place: as it is, mirrored, and smaller. The network errs on texture in one, seldom in all.

Source: test-time augmentation, e.g. Krizhevsky et al., "ImageNet classification with deep convolutional neural networks",
2012, section 4.1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.prediction import GATE_FROM, Prediction, average, disagreement
from wmremoval.restore.pyramid import Box
from wmremoval.restore.search import KEPT_PIXELS, Search
from wmremoval.restore.tiles import Tile, TiledNetwork

SMALLER_SCALE = 0.8  # scale of the third prediction; texture looks marked at one scale, marks at both. Not measured.


class Averaged(NamedTuple):
    """Two predictions of a tile as one."""

    prediction: (
        Prediction  # their average; the first one alone where it sees no mark, or in an ablation without the mirror
    )
    difference: np.ndarray | None  # (h, w): of alpha and colour, squared; None: there is one prediction only


class Ensemble:
    """The averaged predictions of a searched photograph; they take the place of those that the search kept.

    Args:
        net: the network.
        searched: its first predictions.
        mirror: False leaves the mirrored prediction out, for an ablation.
    """

    def __init__(self, net: TiledNetwork, searched: Search, mirror: bool = True):
        self.net, self.searched, self.mirror = net, searched, mirror
        self._differences: dict[tuple[int, int], np.ndarray | None] = {}  # of the kept predictions that are averaged
        self._masks: dict[tuple, np.ndarray] = {}  # by scale and place: the latest mirrored ones

    def tiles(self, factor: int, box: Box) -> Iterator[tuple[tuple[int, int], Tile, Averaged]]:
        """The tiles that cover a box of a view, each with a key that names it and its averaged prediction."""
        pyramid, kept = self.searched.pyramid, self.searched.kept.get(factor)
        if not kept:
            pixels = lambda block: pyramid.pixels(factor, block)  # noqa: E731
            for tile, prediction in self.net.predict_tiles(box, pyramid.size(factor), pixels):
                yield (factor, -1), tile, self._average(prediction)
            return
        for i in self.searched.touching(factor, box):
            if (factor, i) not in self._differences:
                averaged = self._average(kept[i][1])
                self.searched.replace(factor, i, averaged.prediction)
                self._differences[factor, i] = averaged.difference
            tile, prediction = kept[i]
            yield (factor, i), tile, Averaged(prediction, self._differences[factor, i])

    def mirrored(self, factor: int, tile: Tile, scale: float = 1.0) -> np.ndarray:
        """Mask probabilities (h, w) of what is shown of a tile of a view, mirrored and in `scale` of its size.

        The latest masks are kept, up to `KEPT_PIXELS`: the tiles of several regions, with their margins, may be one.
        """
        key = scale, factor, *((side.start, side.stop) for side in tile.shown)
        if key not in self._masks:
            view = self.searched.pyramid.pixels(factor, tile.shown)
            side = tuple(max(1, round(scale * side)) for side in view.shape[1::-1])
            mask = self.net.predict_mirrored(cv2.resize(view, side, interpolation=cv2.INTER_AREA)).mask
            mask = cv2.resize(mask, view.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            while self._masks and sum(old.size for old in self._masks.values()) + mask.size > KEPT_PIXELS:
                del self._masks[next(iter(self._masks))]
            self._masks[key] = mask
        return self._masks[key]

    def _average(self, prediction: Prediction) -> Averaged:
        if prediction.trust is None or not self.mirror or prediction.mask.max() <= GATE_FROM:
            return Averaged(prediction, None)
        mirrored = self.net.predict_mirrored(to_uint8(prediction.photo))
        return Averaged(average(prediction, mirrored), disagreement(prediction, mirrored))

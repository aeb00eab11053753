"""Search a whole photograph on its shrunken views, and keep the predictions for restoring from them."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.prediction import Prediction
from wmremoval.restore.pyramid import Box, Pyramid
from wmremoval.restore.tiles import Tile, TiledNetwork

KEPT_PIXELS = 1_500_000  # pixels of a view whose predictions are kept until its regions are restored: 44 bytes each


@dataclass
class Search:
    """The predictions of a photograph's shrunken views."""

    pyramid: Pyramid
    probability: np.ndarray  # (h, w) uint8 of the searched view: the greatest mask probability of all views, times 255
    kept: dict[int, list[tuple[Tile, Prediction]]] = field(default_factory=dict)  # by factor, of the smaller views

    def touching(self, factor: int, box: Box) -> list[int]:
        """The numbers of the kept predictions of a view that touch a box of it."""
        return [
            i
            for i, (tile, _) in enumerate(self.kept.get(factor, []))
            if all(part.start < box[n + 2] and part.stop > box[n] for n, part in enumerate(tile.kept))
        ]

    def replace(self, factor: int, number: int, prediction: Prediction) -> None:
        """Keep another prediction in place of one, such as the solved one."""
        self.kept[factor][number] = self.kept[factor][number][0], prediction


def search(net: TiledNetwork, pyramid: Pyramid) -> Search:
    """Predict the views of a photograph, from the searched one to the coarsest."""
    probability: np.ndarray | None = None
    kept: dict[int, list[tuple[Tile, Prediction]]] = {}
    for factor in (factor for factor in pyramid.factors if factor >= pyramid.search_factor):
        height, width = pyramid.size(factor)
        found = np.zeros((height, width), np.uint8)
        predictions: list[tuple[Tile, Prediction]] = []
        pixels = lambda block, factor=factor: pyramid.pixels(factor, block)  # noqa: E731
        for tile, prediction in net.predict_tiles((0, 0, height, width), (height, width), pixels):
            found[tile.kept] = to_uint8(prediction.mask[tile.inner])
            if height * width <= KEPT_PIXELS:
                predictions.append((tile, prediction))
        if predictions:
            kept[factor] = predictions
        if probability is None:
            probability = found
        else:
            finer = cv2.resize(found, probability.shape[::-1], interpolation=cv2.INTER_LINEAR)
            probability = np.maximum(probability, finer)
    assert probability is not None  # there is a view at least
    return Search(pyramid, probability, kept)

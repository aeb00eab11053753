"""Solve a marked tile in named steps: a mirrored prediction, one fitted mark, filling, the fewest edges."""

from collections.abc import Iterator, Mapping

import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.fit_mark import fit_constant_mark
from wmremoval.restore.inpaint import compose, surroundings
from wmremoval.restore.prediction import GATE_FROM, Prediction, average, disagreement
from wmremoval.restore.pyramid import Box
from wmremoval.restore.search import Search
from wmremoval.restore.sparse_edges import separate
from wmremoval.restore.tiles import Tile, TiledNetwork

# The steps after the network's prediction, in their order; each can be left out for an ablation. Consensus needs the mirror.
STEPS = ("mirror", "fill", "consensus", "separation")
NO_STEPS: frozenset[str] = frozenset()


def solve(net: TiledNetwork, prediction: Prediction, without: frozenset[str] = NO_STEPS) -> Prediction:
    """Solve the marks of a tile; one without a mark, or of a network without a mark head, comes back as it is.

    Args:
        net: predicts the mirrored tile.
        prediction: of the tile.
        without: which of `STEPS` to leave out.
    """
    if prediction.trust is None or prediction.mask.max() <= GATE_FROM:
        return prediction
    if "mirror" in without:
        return take_off(prediction, None, without)
    mirrored = net.predict_mirrored(to_uint8(prediction.photo))
    return take_off(average(prediction, mirrored), disagreement(prediction, mirrored), without)


def take_off(
    prediction: Prediction,
    difference: np.ndarray | None,
    without: frozenset[str] = NO_STEPS,
    truth: Mapping[str, np.ndarray] | None = None,
) -> Prediction:
    """Take the predicted marks off.

    Args:
        prediction: the average of two.
        difference: (h, w), how much the two disagree; None: there was one only, and no mark is fitted.
        without: which of `STEPS` to leave out.
        truth: of an ablation: the true `mask`, `alpha` or `colour`, in place of the predicted or fitted ones. A true mark is
            not changed by separation.
    """
    truth = truth or {}
    if "mask" in truth:
        prediction = prediction._replace(mask=truth["mask"])
    filled = None if "fill" in without else surroundings(prediction)
    if filled is None:
        return prediction
    if difference is None or "consensus" in without:
        return compose(prediction, filled)
    fit = fit_constant_mark(prediction, filled, difference)
    true_mark = {name: truth[name] for name in ("alpha", "colour") if name in truth}
    composed = compose(fit.prediction._replace(**true_mark), filled, fit.joined, fit.uncertainty, fit.edges)
    return composed if true_mark or "separation" in without else separate(composed, fit)


class Solver:
    """Solves the tiles of a searched photograph; those that the search kept are solved once for all regions.

    Args:
        net: the network.
        searched: its predictions.
        without: which of `STEPS` to leave out.
    """

    def __init__(self, net: TiledNetwork, searched: Search, without: frozenset[str] = NO_STEPS):
        self.net, self.searched, self.without = net, searched, without
        self._solved: set[tuple[int, int]] = set()  # factor and number of the kept predictions that are solved

    def tiles(self, factor: int, box: Box) -> Iterator[tuple[Tile, Prediction]]:
        """The solved tiles that cover a box of a view."""
        kept, pyramid = self.searched.kept.get(factor), self.searched.pyramid
        if not kept:
            for tile, prediction in self.net.predict_tiles(
                box, pyramid.size(factor), lambda block: pyramid.pixels(factor, block)
            ):
                yield tile, solve(self.net, prediction, self.without)
            return
        for i in self.searched.touching(factor, box):
            if (factor, i) not in self._solved:
                self._solved.add((factor, i))
                self.searched.replace(factor, i, solve(self.net, kept[i][1], self.without))
            yield kept[i]

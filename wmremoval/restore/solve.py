"""Solve a marked tile in named steps: a mirrored prediction, one fitted mark, filling, the fewest edges."""

from collections.abc import Iterator, Mapping

import numpy as np

from wmremoval.restore.ensemble import Averaged, Ensemble
from wmremoval.restore.fit_mark import fit_constant_mark
from wmremoval.restore.inpaint import compose, surroundings
from wmremoval.restore.prediction import GATE_FROM, Prediction
from wmremoval.restore.pyramid import Box
from wmremoval.restore.regions import Regions
from wmremoval.restore.sparse_edges import separate
from wmremoval.restore.tiles import Tile

# The steps after the network's prediction, in their order; each can be left out for an ablation. Consensus needs the mirror.
STEPS = ("mirror", "raise", "fill", "consensus", "separation")
NO_STEPS: frozenset[str] = frozenset()


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
    """Takes the marks of accepted regions off, tile by tile; tiles that the search kept are solved once for all regions.

    Args:
        ensemble: the averaged predictions of the photograph; the solved ones take their place.
        regions: the accepted ones; their lines of text raise the mask.
        without: which of `STEPS` to leave out.
    """

    def __init__(self, ensemble: Ensemble, regions: Regions, without: frozenset[str] = NO_STEPS):
        self.ensemble, self.regions, self.without = ensemble, regions, without
        self._solved: set[tuple[int, int]] = set()  # factor and number of the kept predictions that are solved

    def tiles(self, factor: int, box: Box) -> Iterator[tuple[Tile, Prediction]]:
        """The solved tiles that cover a box of a view."""
        for key, tile, averaged in self.ensemble.tiles(factor, box):
            if key in self._solved:
                yield tile, averaged.prediction
                continue
            solved = self._solve(tile, factor, averaged)
            if key[1] >= 0:
                self._solved.add(key)
                self.ensemble.searched.replace(*key, solved)
            yield tile, solved

    def _solve(self, tile: Tile, factor: int, averaged: Averaged) -> Prediction:
        prediction = averaged.prediction
        if "raise" not in self.without:
            prediction = prediction._replace(mask=self.regions.raised(prediction.mask, tile.shown, factor))
        if prediction.trust is None or prediction.mask.max() <= GATE_FROM:
            return prediction
        return take_off(prediction, averaged.difference, self.without)

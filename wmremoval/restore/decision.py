"""Decide whether lines of text are marks: a logistic model over their figures, fitted by `wmremoval.bench decision`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wmremoval.files import read_json
from wmremoval.restore.ensemble import Ensemble
from wmremoval.restore.figures import FIGURES, line_figures
from wmremoval.restore.prediction import GATE_FROM
from wmremoval.restore.regions import Region, line_mask, line_region, text_view
from wmremoval.restore.text import Line
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS

SHIPPED_DECISION = SHIPPED_WEIGHTS.with_name("decision.json")
MOST_SENSITIVITY = 3.0  # log-odds that a user may add; a factor of 20 on the odds that a proposal is a mark. Chosen.


class Decision:
    """The fitted decision.

    Args:
        content: of `decision.json`: for each figure `mean`, `scale` and `weight`; `bias`; the probabilities `mark_from`, from
            which a line is a mark, and `scene_below`, below which it is the photograph's own; between the two the network's
            own proposals count. From `sure_from` on it is a mark even where the network does not see its strokes.

    Raises:
        ValueError: it was fitted on other figures or for other points than this version knows.
    """

    def __init__(self, content: Mapping[str, Any]):
        if tuple(content["figures"]) != FIGURES or "sure_from" not in content:
            raise ValueError(
                "the decision was fitted for another version; fit it again (python -m wmremoval.bench decision)"
            )
        self.weights_sha256 = content.get("weights_sha256")
        self.points = float(content["mark_from"]), float(content["scene_below"])
        self.sure_from = float(content["sure_from"])
        self._mean, self._scale, self._weight = (np.array(content[name]) for name in ("mean", "scale", "weight"))
        self._bias = float(content["bias"])

    def probability(self, figures: np.ndarray, more: float = 0.0) -> np.ndarray:
        """Probabilities (n,) that lines with figures (n, len(FIGURES)) are marks; `more` is added to their log-odds."""
        log_odds = (np.atleast_2d(figures) - self._mean) / self._scale @ self._weight + self._bias + more
        return 1.0 / (1.0 + np.exp(-log_odds))


def read_decision(path: str | Path = SHIPPED_DECISION) -> Decision:
    """Read a decision.

    Raises:
        ValueError: the file is missing or damaged, or the decision does not fit this version.
    """
    return Decision(read_json(Path(path)))


def judge(ensemble: Ensemble, lines: Sequence[Line], decision: Decision | None, more: float = 0.0) -> list[Region]:
    """The lines of text of a photograph as regions without labels; their confidence is the probability of a mark.

    Args:
        ensemble: of the photograph.
        lines: of text.
        decision: the fitted one; None: every line counts as a mark.
        more: is added to the log-odds of every line.
    """
    searched = ensemble.searched
    pyramid = searched.pyramid
    found = [line_region(line, pyramid.search_factor, pyramid.factors, searched.probability.shape) for line in lines]
    judged = []
    for region in found:
        if not is_seen(ensemble, region):
            judged.append(replace(region, confidence=0.0))
        elif decision is not None:
            probability = decision.probability(line_figures(ensemble, region, found), more)
            judged.append(replace(region, confidence=float(probability[0])))
        else:
            judged.append(region)
    return judged


def is_seen(ensemble: Ensemble, region: Region) -> bool:
    """False where the search saw nothing of a line in the view of its figures."""
    searched = ensemble.searched
    factor = text_view(region.text_line.height, searched.pyramid.factors)
    kept = searched.kept.get(factor)
    at = searched.touching(factor, searched.pyramid.box(region.box, factor))
    return not kept or any(
        (kept[i][1].mask[line_mask(region.text_line, kept[i][0].shown, factor)] > GATE_FROM).any() for i in at
    )

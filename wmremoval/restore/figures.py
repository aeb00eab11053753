"""The figures of a line of text, from which the decision tells a mark from the photograph's own lettering."""

import re
from collections.abc import Sequence

import numpy as np

from wmremoval.restore.confirm import side_steps
from wmremoval.restore.ensemble import SMALLER_SCALE, Ensemble
from wmremoval.restore.prediction import GATE_FROM
from wmremoval.restore.regions import CONFIDENT, TEXT_LOG_ODDS, Region, line_mask, raise_odds, text_view

LEAST_SHARE = 0.01  # keeps the log-odds of a share of 0 or 1 finite. Not measured.
ALIKE = 0.25  # difference of the logarithms of height and length below which two lines are copies. Not measured.

# Words of a site, an author or a copyright. Chosen, not measured.
CREDIT = re.compile(
    r"www|http|\.(com|net|org|cn|de|ru|jp|co|uk|info|biz|eu|fr|it|es|pl|nl|br|in|au|io|me|tv)\b|\.com|©|\(c\)|@|copyright"
    r"|photo|stock|sample|preview|proof|image|watermark",
    re.IGNORECASE,
)

# Chosen of 46 by forward selection on the cross-validated log loss (2026-11-27, 417 lines of marks, 355 of photographs): all
# 20 of the second round keep 69% of the marks at 3% false, these nine 80%, boosted trees 55%.
FIGURES = (
    "confident",  # share of the pixels of which two predictions are confident, as log-odds
    "confident_thrice",  # of the pixels that would change, the share of which three are confident, as log-odds
    "touched",  # number of the pixels that would change, log2
    "step",  # mean step in RGB along the outline of the mask
    "height",  # native pixels, log2
    "copies",  # lines of about this height and length, log2
    "edge_distance",  # to the nearest border, share of the shorter side
    "credit",  # 1 where the words name a site, an author or a copyright
    "read",  # confidence of the recogniser
)


def line_figures(ensemble: Ensemble, region: Region, lines: Sequence[Region]) -> np.ndarray:
    """The figures of a line of text, (len(FIGURES),) float32, in the order of `FIGURES`.

    Args:
        ensemble: of the photograph.
        region: a line of text.
        lines: all lines of text of the photograph, this one included.
    """
    height, width = ensemble.searched.probability.shape
    top, left, bottom, right = region.box
    values = _seen(ensemble, region) | {
        "height": np.log2(max(1.0, region.text_line.height)),
        "copies": np.log2(1 + _copies(region, lines)),
        "edge_distance": min(top, left, height - bottom, width - right) / min(height, width),
        "credit": bool(CREDIT.search(region.text_line.words)),
        "read": region.text_line.confidence,
    }
    return np.array([values[name] for name in FIGURES], np.float32)


def _seen(ensemble: Ensemble, region: Region) -> dict[str, float]:
    """The figures of the network's predictions there."""
    pyramid, inside, thrice, steps = ensemble.searched.pyramid, [], [], []
    factor = text_view(region.text_line.height, pyramid.factors)
    for _, tile, averaged in ensemble.tiles(factor, pyramid.box(region.box, factor)):
        mask, line = averaged.prediction.mask, line_mask(region.text_line, tile.shown, factor)
        raised = raise_odds(mask, TEXT_LOG_ODDS)
        steps.append(side_steps(averaged.prediction.photo, line & (raised > GATE_FROM), tile.inner))
        smaller, here = ensemble.mirrored(factor, tile, SMALLER_SCALE), line[tile.inner]
        inside.append(mask[tile.inner][here])
        thrice.append(((2 * mask + smaller) / 3)[tile.inner][here])
    mask, sure, along = np.concatenate(inside), np.concatenate(thrice) > CONFIDENT, np.concatenate(steps)
    touched = max(1, int(np.count_nonzero(mask > GATE_FROM)))
    return {
        "confident": _log_odds(np.count_nonzero(mask > CONFIDENT) / max(1, mask.size)),
        "confident_thrice": _log_odds(min(1.0, np.count_nonzero(sure) / touched)),
        "touched": np.log2(touched),
        "step": float(along.mean(dtype=np.float64)) if along.size else 0.0,
    }


def _copies(region: Region, lines: Sequence[Region]) -> int:
    sides = np.log([other.text_line.sides for other in lines])
    return int((np.abs(sides - np.log(region.text_line.sides)) < ALIKE).all(axis=1).sum())


def _log_odds(share: float) -> float:
    return float(np.log((share + LEAST_SHARE) / (1.0 + LEAST_SHARE - share)))

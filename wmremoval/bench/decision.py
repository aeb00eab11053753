"""Fit the decision between lines of text that are marks and the photograph's own lettering, and measure it.

Marks are drawn over photographs of the training part. Every line of text that is read is an example. Scores and the point of
operation are cross-validated by photograph. No test photograph is used.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wmremoval.bench.examples import Examples, Source, gather
from wmremoval.data.fonts import load_fonts
from wmremoval.data.logos import load_logo_part
from wmremoval.data.photos import list_photos, split_photos
from wmremoval.files import write_json
from wmremoval.report.style import BLUE, GREY, SMALL, TEXT, TITLE, new_figure, save_figure
from wmremoval.restore.decision import SHIPPED_DECISION, Decision
from wmremoval.restore.figures import FIGURES
from wmremoval.restore.remover import load_remover
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS
from wmremoval.training.environment import environment

FALSE_SHARE = 0.03  # of the photograph's own lines that are taken for marks, cross-validated. Chosen on validation.
SURE_SHARE = 0.01  # of the photograph's own lines that are surely marks, cross-validated. Chosen on validation.
LOST_SHARE = 0.05  # of marks that are taken for the photograph's own lines, cross-validated. Chosen on validation.
FOLDS = 6  # of the cross-validation
PENALTY = 1.0  # inverse of the strength of the L2 penalty, the default of scikit-learn. Not measured.
ANY_POINTS = {"mark_from": 0.5, "sure_from": 0.5, "scene_below": 0.5}  # where probabilities alone are asked for
BINS = 10  # of the reliability curve


@dataclass(frozen=True)
class Material:
    """Folders and numbers of photographs for a fit."""

    photos: Path
    logos: Path | None = None
    more: Path | None = None  # for training only
    marked: int = 650  # photographs that come under a mark, too; lettering is sought in all


def run_decision(material: Material, weights: str | Path | None = None, folder: str | Path | None = None) -> dict:
    """Fit the decision for some weights; write `decision.json` beside the shipped weights, or into a folder.

    Returns:
        the measurements, which are also written into the folder as `decision_fit.json` and drawn as `decision_fit.png`.

    Raises:
        ValueError: no photographs, no weights, or no text detector.
    """
    remover = load_remover(weights)
    if remover.text is None:
        raise ValueError("the decision is about lines of text: install rapidocr and onnxruntime first")
    content, measured = fit(gather(remover, source_of(material)))
    content["weights_sha256"] = hashlib.sha256(Path(weights or SHIPPED_WEIGHTS).read_bytes()).hexdigest()
    measured |= {"date": datetime.now().isoformat(timespec="seconds"), "environment": environment()}
    write_json(SHIPPED_DECISION if folder is None else Path(folder) / "decision.json", content)
    if folder is not None:
        write_json(Path(folder) / "decision_fit.json", measured)
        save_figure(draw_reliability(measured), Path(folder) / "decision_fit.png")
    return measured


def source_of(material: Material) -> Source:
    """The photographs of the training part, in a random order."""
    paths = split_photos(list_photos(material.photos))["train"]
    paths = [*paths, *([] if material.more is None else list_photos(material.more))]
    order = np.random.default_rng(0).permutation(len(paths))
    logos = [] if material.logos is None else load_logo_part(material.logos, "train")
    return Source([paths[i] for i in order], load_fonts(faces="installed"), logos, material.marked)


def fit(examples: Examples) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit the logistic model.

    Returns:
        the content of `decision.json`, and its cross-validated scores.
    """
    probability = cross_validated(examples)
    marks, others = probability[examples.is_mark], probability[~examples.is_mark]
    mark_from, scene_below = np.quantile(others, 1.0 - FALSE_SHARE), np.quantile(marks, LOST_SHARE)
    content = fit_logistic(examples) | {
        "mark_from": float(mark_from),
        "sure_from": float(np.quantile(others, 1.0 - SURE_SHARE)),
        "scene_below": float(min(mark_from, scene_below)),
    }
    measured = {
        "photographs": len(np.unique(examples.photo)),
        "marks": len(marks),
        "others": len(others),
        "marks kept": float((marks >= mark_from).mean()),
        "surely marks": float((marks >= content["sure_from"]).mean()),
        "others refused": float((others < content["scene_below"]).mean()),
    }
    return content, measured | scores(examples.is_mark, probability)


def cross_validated(examples: Examples) -> np.ndarray:
    """Probabilities (n,) of examples by models that did not see their photograph."""
    fold = examples.photo % FOLDS
    probability = np.zeros(len(fold))
    for number in range(FOLDS):
        held_out = fold == number
        if held_out.any():
            decision = Decision(fit_logistic(only(examples, ~held_out)) | ANY_POINTS)
            probability[held_out] = decision.probability(examples.figures[held_out])
    return probability


def fit_logistic(examples: Examples) -> dict[str, Any]:
    """A logistic regression over standardised figures, as `Decision` reads it."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = examples.figures.mean(axis=0), examples.figures.std(axis=0) + 1e-6
    model = LogisticRegression(C=PENALTY, max_iter=5000)
    model.fit((examples.figures - mean) / scale, examples.is_mark, sample_weight=examples.weight)
    return {
        "figures": list(FIGURES),
        "mean": [round(float(x), 6) for x in mean],
        "scale": [round(float(x), 6) for x in scale],
        "weight": [round(float(x), 6) for x in model.coef_[0]],
        "bias": float(model.intercept_[0]),
    }


def scores(is_mark: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    """Area under the ROC curve, share of marks kept at 1%, 3% and 5% false, and the reliability curve."""
    from sklearn.metrics import roc_auc_score

    others = probability[~is_mark]
    kept = {
        f"{share:.0%}": float((probability[is_mark] > np.quantile(others, 1 - share)).mean())
        for share in (0.01, 0.03, 0.05)
    }
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    curve = [
        {"predicted": float(probability[bins == i].mean()), "true": float(is_mark[bins == i].mean()), "n": int(n)}
        for i in range(BINS)
        if (n := np.count_nonzero(bins == i))
    ]
    return {"auc": float(roc_auc_score(is_mark, probability)), "kept at false share": kept, "reliability": curve}


def decision_table(measured: dict[str, Any]) -> str:
    """The measurements as text."""
    kept = ", ".join(f"{value:.1%} kept at {share} false" for share, value in measured["kept at false share"].items())
    return (
        f"{measured['marks']} lines of marks, {measured['others']} of photographs: AUC {measured['auc']:.3f}, {kept}\n"
        f"chosen: {measured['marks kept']:.1%} of marks found, {measured['others refused']:.1%} of the others left alone"
    )


def draw_reliability(measured: dict[str, Any]) -> Figure:
    """The true share of marks over the predicted probability, with the number of lines in each bin."""
    figure, (axes, counts) = new_figure(2, 1, 5, 5.5)
    curve = measured["reliability"]
    predicted, true, number = ([row[name] for row in curve] for name in ("predicted", "true", "n"))
    axes.plot((0, 1), (0, 1), color=GREY, linestyle=":", label="exact")
    axes.plot(predicted, true, color=BLUE, marker="o", label="measured")
    axes.set_ylabel("true share of marks", fontsize=TEXT)
    axes.set_title("Reliability of the decision, cross-validated", fontsize=TITLE)
    axes.legend(fontsize=SMALL)
    counts.bar(predicted, number, width=0.6 / BINS, color=BLUE)
    counts.set_ylabel("lines", fontsize=TEXT)
    counts.set_xlabel("predicted probability of a mark", fontsize=TEXT)
    for panel in (axes, counts):
        panel.set_xlim(-0.03, 1.03)
    return figure


def only(examples: Examples, chosen: np.ndarray) -> Examples:
    """Some of the examples."""
    return Examples(*(column[chosen] for column in examples))

"""The learning curve of a long training: error of the mask and gain inside the mark over the views that were shown."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from wmremoval.files import read_json, write_json
from wmremoval.report.style import BLUE, GREY, ORANGE, SMALL, TEXT, TITLE, new_figure, save_figure

KINDS = "text", "shape", "logo", "tiled", "faint", "overlays", "web", "layouts"  # of marks, on validation
FURTHER = 10.0  # times the views of the last validation, for which the line is read off
LEAST_RANGE = 2.0  # last views over first, from which the line is read off at all. Chosen, not measured.
AT_FURTHER = f"at {FURTHER:g} times as many views"
SCORES = {"error of the mask, 1 - IoU": "iou_error", "gain inside the mark, dB": "gain_db"}


class Line(NamedTuple):
    """A power law: score = scale * views ** power."""

    scale: float
    power: float
    spread: float  # standard deviation of the logarithm of the score around the line

    def at(self, views: float | np.ndarray) -> float | np.ndarray:
        return self.scale * views**self.power


def run_curve(runs: Sequence[str | Path], before: float, folder: str | Path | None = None) -> dict[str, Any]:
    """The curve over runs of which each began from the best weights of the one before.

    Args:
        runs: folders of runs by the clock, in their order.
        before: views of 256 x 256 pixels that were shown before the first of them.
        folder: for `learning_curve.json` and `.png`.

    Raises:
        ValueError: a run without a history of views; fewer than three validations in all.
    """
    points = []
    for run in runs:
        rows = [
            row for row in read_json(Path(run) / "training_history.json") if row.get("views") and "val_score" in row
        ]
        if not rows:
            raise ValueError(f"{run}: its history has no views; name the folder of a run by --hours or --minutes")
        points += [_point(row, before) for row in rows]
        before += max(rows, key=lambda row: row["val_score"])["views"]
    if len(points) < 3:
        raise ValueError(f"{len(points)} validations in these runs, of 3 needed; train longer")
    views = np.array([point["views"] for point in points])
    lines = {name: fit_line(views, np.array([point[name] for point in points])) for name in SCORES.values()}
    last = float(views.max())
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "what": "means over the kinds of marks on validation crops, network alone; views of 256 x 256 pixels, and a power law "
        "through them. `spread` is the standard deviation of the logarithm of a score around the line.",
        "points": points,
        "lines": {name: line._asdict() for name, line in lines.items()},
    }
    if last >= LEAST_RANGE * views.min():
        results[AT_FURTHER] = {name: line.at(FURTHER * last) for name, line in lines.items()}
    if folder is not None:
        write_json(Path(folder) / "learning_curve.json", results)
        save_figure(draw_curve(points, lines), Path(folder) / "learning_curve.png")
    return results


def _point(row: dict[str, Any], before: float) -> dict[str, float]:
    iou, gain = (float(np.mean([row[f"val_{kind}_{name}"] for kind in KINDS])) for name in ("iou", "db"))
    return {"views": before + row["views"], "iou_error": 1.0 - iou, "gain_db": gain, "rate": row.get("lr", 0.0)}


def fit_line(views: np.ndarray, score: np.ndarray) -> Line:
    """The power law with the least squares of logarithms.

    Example:
        >>> line = fit_line(np.array([1.0, 10.0, 100.0]), np.array([8.0, 4.0, 2.0]))
        >>> round(line.scale, 3), round(line.power, 3), round(line.spread, 3)
        (8.0, -0.301, 0.0)
    """
    power, level = np.polyfit(np.log(views), np.log(score), 1)
    left = np.log(score) - power * np.log(views) - level
    return Line(float(np.exp(level)), float(power), float(left.std()))


def draw_curve(points: Sequence[dict[str, float]], lines: dict[str, Line]) -> Figure:
    """Both scores over views, on logarithmic axes, with the line as far as it can be read off."""
    figure, panels = new_figure(1, 2, 10, 4)
    views = np.array([point["views"] for point in points])
    reaches = views.max() >= LEAST_RANGE * views.min()
    further = np.geomspace(views.min(), (FURTHER if reaches else 1.0) * views.max(), 50)
    for axes, (title, name) in zip(panels, SCORES.items(), strict=True):
        line = lines[name]
        axes.loglog(views, [point[name] for point in points], "o", color=BLUE, markersize=4, label="validations")
        axes.loglog(further, line.at(further), color=GREY, linestyle=":", label=f"views to the power {line.power:.2f}")
        if reaches:
            axes.plot(
                further[-1], line.at(further[-1]), "D", color=ORANGE, label=f"the line: {line.at(further[-1]):.2f}"
            )
        axes.set_title(title, fontsize=TITLE)
        axes.set_xticks(np.geomspace(further[0], further[-1], 4))
        for side in (axes.xaxis, axes.yaxis):  # plain numbers in place of powers of ten
            side.set_minor_formatter("{x:.3g}" if side is axes.yaxis else NullFormatter())
            side.set_major_formatter("{x:.3g}" if side is axes.yaxis else "{x:,.0f}")
        axes.set_xlabel("views of 256 x 256 pixels", fontsize=TEXT)
        axes.legend(fontsize=SMALL)
    return figure


def curve_table(results: dict[str, Any]) -> str:
    """The lines as text."""
    rows = []
    for title, name in SCORES.items():
        line = results["lines"][name]
        told = (
            f"{results[AT_FURTHER][name]:.2f} {AT_FURTHER}" if AT_FURTHER in results else "too few views for a forecast"
        )
        rows.append(f"{title}: views to the power {line['power']:+.3f}, spread {line['spread']:.1%}; {told}")
    return "\n".join(rows)

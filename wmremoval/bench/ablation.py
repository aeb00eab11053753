"""Ablation of the restoration: each of its steps is left out in turn, over suite, web marks and unmarked pictures."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from wmremoval.bench.suite import ScoreOptions, Suite, SuiteConfig, gains, open_suite, score_suite
from wmremoval.bench.suite_report import weights_of
from wmremoval.bench.unmarked import Opened, open_unmarked, score_unmarked
from wmremoval.bench.web_marks import WEB_MARKS, choose, open_folder, score_web_marks
from wmremoval.files import write_csv, write_json
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import RULES, Remover, load_remover
from wmremoval.restore.solve import STEPS
from wmremoval.training.environment import environment

EVERYTHING = "nothing"  # the row in which no step is left out
PER_CELL = 8  # photographs of the suite's cells
SHARE = 4  # of so many photographs in a cell of the suite one is taken of web marks and of each unmarked group
NOTES = [
    "Each row leaves one step of the restoration out; the first leaves out none.",
    "Columns are the gain inside the mark in dB over doing nothing: of the suite's plain cells by alpha, of its text and of "
    "its special cells, and of the web marks. lifted is the share of web marks that gain 6 dB or more. caption is the gain of "
    "the web marks with a translucent box.",
    "untouched and worst: the share of unmarked pictures that come back bit for bit, and the largest changed share of one.",
]


def run_ablation(photos: str | Path, logos: str | Path | None, options: ScoreOptions, only: Sequence[str] = ()) -> dict:
    """Score a remover without each of its steps, and write `steps.json` and `steps.csv`.

    Args:
        photos: folder of photographs; the validation part of its split is used for the suite. Web marks and unmarked
            pictures use the photographs of scikit-image.
        logos: folder of RGBA logos; None leaves out the logo cells.
        options: see `ScoreOptions`; the limit counts per cell of the suite.
        only: names from `STEPS` and `RULES`; without any, all.

    Returns:
        the content of `steps.json`.

    Raises:
        ValueError: too few photographs, no logos, no weights or an unknown step; one line with a remedy.
    """
    steps = choose((*STEPS, *RULES), only)
    per_cell = options.limit or PER_CELL
    remover = load_remover(options.weights, options.device)
    suite = open_suite(photos, logos, SuiteConfig(part="val", per_cell=per_cell))
    few = max(1, per_cell // SHARE)
    web, unmarked = open_folder(None)[:few], open_unmarked(None, few)
    rows = []
    for step in tqdm([EVERYTHING, *steps], desc="Steps", unit="step", leave=False):
        remover.without = frozenset() if step == EVERYTHING else frozenset([step])
        rows.append({"without": step} | score_without(remover, suite, web, unmarked))
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(options.weights),
        "per_cell": per_cell,
        "web_photographs": len(web),
        "unmarked_pictures": len(unmarked),
        "steps": rows,
        "environment": environment(),
        "notes": NOTES,
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "steps.json", results)
        write_csv(Path(options.folder) / "steps.csv", rows)
    return results


def score_without(remover: Remover, suite: Suite, web: list, unmarked: Sequence[Opened]) -> dict[str, float]:
    """The columns of one row: gains in dB and shares."""
    rows, _ = score_suite(remover, suite)
    inside = {f"suite {alpha}": gain["masked_psnr"] for alpha, gain in gains(rows).items() if alpha != "all"}
    text = [row for row in rows if row["plain"] and row["kind"] == "text"]
    special = [row for row in rows if not row["plain"] and row["kind"] != "unmarked"]
    inside |= {"text": _gain(text), "special": _gain(special)}
    rows, _ = score_web_marks(remover, web, list(WEB_MARKS), None)
    captions = [row for row in rows if row["cell"] in ("caption", "cut_caption", "banner")]
    inside |= {
        "web": _gain(rows),
        "caption": _gain(captions),
        "lifted": float(np.mean([row["lifted"] for row in rows])),
    }
    rows, _ = score_unmarked(remover, unmarked)
    return inside | {
        "untouched": float(np.mean([row["unchanged"] for row in rows])),
        "worst": max(row["changed"] for row in rows),
    }


def _gain(rows: Sequence[dict]) -> float:
    return float(np.mean([row["masked_psnr"] - row["input_masked_psnr"] for row in rows]))


def ablation_table(results: dict) -> str:
    """The rows as text: the first as it is, the others as differences from it."""
    first, *others = results["steps"]
    shares = ("lifted", "untouched", "worst")
    rows = [{name: _number(name in shares, first[name]) for name in first}]
    for row in others:
        rows.append({name: _number(name in shares, row[name], first[name]) for name in row})
    return format_table(rows)


def _number(share: bool, value: float | str, first: float | None = None) -> str:
    if isinstance(value, str):
        return value
    sign, value = ("", value) if first is None else ("+", value - first)
    return f"{100 * value:{sign}.1f}%" if share else f"{value:{sign}.2f}"

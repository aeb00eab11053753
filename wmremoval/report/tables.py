"""Text tables for the command line and the notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmremoval.config import DOCUMENT_RECIPE, TrainConfig
from wmremoval.data.photos import spread_over_scenes

# Settings that are shown even where they are the document's.
ALWAYS_SHOWN = ("image_size", "batch_size", "epochs", "learning_rate", "weight_decay", "target", "start", "seed")
CONTENTS = {  # of the files of a run
    "config.json": "settings, machine and sources; written before the first step",
    "split.json": "photographs for training, validation and test",
    "training_history.csv": "a row per epoch",
    "training_history.json": "the same",
    "training_summary.json": "best and last scores",
    "CHANGELOG.md": "this run and its predecessors",
    "test_results.csv": "a row per test photograph",
    "test_results.json": "means over the test photographs",
    "wm_best_model.pth": "best weights and their settings",
    "wm_best_model.safetensors": "the same weights alone",
}


def format_table(rows: list[dict]) -> str:
    """An aligned text table with the keys of the first row as headings; floats have three decimals, None is a dash.

    Floats that would show as zero are written with an exponent.
    """
    cells = [list(rows[0])] + [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)


def value_table(values: dict[str, Any]) -> str:
    """Names and values, one a line; floats have four significant digits, None is a dash, lists are joined by commas."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:{width}}  {_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_table(config: TrainConfig) -> str:
    """The settings of a run that differ from the document's, beside them; the others are as in the document."""
    ours, document = config.to_dict(), DOCUMENT_RECIPE.to_dict()
    rows = [
        {"setting": name, "this run": _plain(value), "the document": _plain(document[name])}
        for name, value in ours.items()
        if value != document[name] or name in ALWAYS_SHOWN
    ]
    return format_table(rows)


def split_table(split: dict[str, Sequence[Path]]) -> str:
    """The parts of a split: number of photographs, and names of some, of as many scenes as possible."""
    rows = []
    for part, paths in split.items():
        some = ", ".join(paths[i].name for i in sorted(spread_over_scenes(paths, 3)))
        rows.append({"part": part, "photographs": len(paths), "for example": some})
    return format_table(rows)


def files_table(folder: str | Path) -> str:
    """The files of a run: name, size and content."""
    sizes = {path.name: path.stat().st_size / 1000 for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return format_table(
        [{"file": name, "kB": f"{size:.0f}", "content": CONTENTS.get(name, "-")} for name, size in sizes.items()]
    )


def score_table(summary: dict[str, Any]) -> str:
    """The test scores of the unrestored input, of a network and of its remover, for all photographs and by area of the mark.

    Args:
        summary: the scores that `evaluate` returns; those of `compare.add_scores` have the remover's too.
    """
    groups = {"all": summary} | summary["by_mask_area"]
    names = ("psnr", "ssim", "rmse", "masked_psnr", "masked_rmse", "mask_iou", "mask_f1")
    who = {"do nothing": "input_", "network alone": ""}
    who |= {"restored": "remover_"} if "remover_psnr" in summary else {}
    rows = []
    for label, scores in groups.items():
        for name, prefix in who.items():
            means = {score: scores.get(prefix + score, {}).get("mean") for score in names}
            rows.append({"mark": label, "images": scores["images"], "": name, **means})
    return format_table(rows)

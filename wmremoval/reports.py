"""The JSON, CSV and Markdown reports of a run, and reading them back."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .runs import environment, read_json, write_csv, write_json, write_text

DOCUMENT = {"test_loss": 0.7706, "test_psnr": 28.67, "test_ssim": 0.7202, "minutes": 228.0}  # the document's own result


@dataclass(frozen=True)
class RunInfo:
    """What a run was made from, beside its `TrainConfig`."""

    config: TrainConfig
    photos: dict[str, Any]  # counts, skipped files and which source, without folder paths
    split: dict[str, list[str]]  # file names by part
    parameters: dict[str, int]  # "total" (with the frozen VGG16) and "trainable"
    perceptual_weights: str  # where the features really came from
    device: str
    steps_per_epoch: int
    fonts_missing: dict[str, str] = field(default_factory=dict)  # languages left out, and why
    logos: dict[str, int | bool] | None = (
        None  # how many each part drew from, and whether the test had brands of its own
    )
    sources: dict[str, str] = field(default_factory=dict)  # folders, for resuming; never published


def write_config(folder: str | Path, info: RunInfo, previous: str | None = None) -> None:
    """Leave `config.json` and `split.json` before the first step, so that any stop leaves a run that can be read."""
    about = {
        "train": info.config.to_dict(),
        "photos": info.photos,
        "parameters": info.parameters,
        "perceptual_weights": info.perceptual_weights,
        "device": info.device,
        "steps_per_epoch": info.steps_per_epoch,
        "fonts_missing": info.fonts_missing,
        "logos": info.logos,
        "sources": info.sources,
        "previous_run": previous,
        "environment": environment(),
        "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }
    write_json(Path(folder) / "config.json", about)
    write_json(Path(folder) / "split.json", info.split)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a run, with "train" as a `TrainConfig`."""
    about = read_json(Path(folder) / "config.json")
    return about | {"train": TrainConfig.from_dict(about["train"])}


def write_history(folder: str | Path, history: list[dict]) -> None:
    """Leave `training_history.csv` and `.json`, a row a main epoch."""
    write_csv(Path(folder) / "training_history.csv", history)
    write_json(Path(folder) / "training_history.json", history)


def summarise_training(result, info: RunInfo) -> dict[str, Any]:
    """The regression task's summary: best and last numbers of the history, and what made them.

    Args:
        result: the `TrainResult` of `fit`.
    """
    last = result.history[-1] if result.history else {}
    return {
        "best_loss": result.best_loss if math.isfinite(result.best_loss) else None,
        "best_epoch": result.best_epoch,
        "epochs_run": len(result.history),
        "stopped": result.stopped,
        "train_loss_final": last.get("train_loss"),
        "val_loss_final": last.get("val_loss"),
        "psnr_final": last.get("train_psnr"),
        "val_psnr_final": last.get("val_psnr"),
        "ssim_final": last.get("train_ssim"),
        "val_ssim_final": last.get("val_ssim"),
        "warmup_losses": result.warmup_losses,
        "training_time_min": result.seconds / 60,
        "learning_rate_end": last.get("lr"),
        "optimizer": "AdamW",
        "criterion": "ColorAwareLoss" + (" + mask BCE" if info.config.mask_weight else ""),
        "parameters": info.parameters,
        "perceptual_weights": info.perceptual_weights,
        "seed": info.config.seed,
        "device": info.device,
        "photos": info.photos,
        "fonts_missing": info.fonts_missing,
        "environment": environment(),
        "finished": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }


def write_training_reports(result, info: RunInfo) -> dict[str, Any]:
    """Leave `training_summary.json` and the history in the run's folder and give the summary; a run read back keeps its own."""
    if result.read_back:
        return read_json(result.folder / "training_summary.json")
    summary = summarise_training(result, info)
    write_json(result.folder / "training_summary.json", summary)
    write_history(result.folder, result.history)
    return summary


def write_changelog(folder: str | Path) -> str:
    """Leave `CHANGELOG.md`: an entry for this run on top of the entries of the run before it.

    Args:
        folder: a run with its config, summary and, if it was tested, test results.

    Returns:
        this run's entry.
    """
    folder = Path(folder)
    config, summary = read_json(folder / "config.json"), read_json(folder / "training_summary.json")
    previous = folder.parent / config["previous_run"] if config.get("previous_run") else None
    lines = [f"## {summary['finished'][:16]} {folder.name}", ""]
    lines += ["Settings: " + ", ".join(f"{name} {_short(value)}" for name, value in config["train"].items()) + ".", ""]
    lines += [
        f"Photographs: {config['photos'].get('source', 'a folder')}; perceptual weights: {config['perceptual_weights']}.",
        "",
    ]
    lines += [f"Changed since the last run: {_changes(config, previous)}.", ""]
    lines += [f"Results: {_results(folder, summary)}.", ""]
    entry = "\n".join(lines)
    older = previous / "CHANGELOG.md" if previous else None
    tail = older.read_text(encoding="utf-8").split("\n", 2)[2] if older and older.exists() else ""
    write_text(folder / "CHANGELOG.md", f"# Changelog\n\n{entry}\n{tail}".rstrip() + "\n")
    return entry


def _changes(config: dict, previous: Path | None) -> str:
    if previous is None or not (previous / "config.json").exists():
        return "first run"
    before = read_json(previous / "config.json")
    flat_now = config["train"] | {"photographs": config["photos"].get("source"), "vgg": config["perceptual_weights"]}
    flat_then = before["train"] | {"photographs": before["photos"].get("source"), "vgg": before["perceptual_weights"]}
    changed = [
        f"{name} {_short(flat_then.get(name))} to {_short(value)}"
        for name, value in flat_now.items()
        if flat_then.get(name) != value
    ]
    return ", ".join(changed) or "nothing but the code"


def _results(folder: Path, summary: dict) -> str:
    parts = [f"{summary['epochs_run']} epochs ({summary['stopped']}) in {summary['training_time_min']:.1f} minutes"]
    if summary["best_loss"] is not None:
        parts.append(f"best validation loss {summary['best_loss']:.4f} in epoch {summary['best_epoch']}")
        parts.append(
            f"last validation PSNR {_number(summary['val_psnr_final'])} dB and SSIM {_number(summary['val_ssim_final'], 4)}"
        )
    test = folder / "test_results.json"
    if test.exists():
        scores = read_json(test)
        parts.append(
            f"test PSNR {scores['psnr']['mean']:.2f} dB (input {scores['input_psnr']['mean']:.2f}), SSIM {scores['ssim']['mean']:.4f}"
        )
    return ", ".join(parts)


def _number(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _short(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and ("/" in value or "\\" in value) else str(value)


def format_table(rows: list[dict]) -> str:
    """Rows as an aligned text table under the keys of the first; floats with three significant decimals, None as a dash."""
    cells = [list(rows[0])] + [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def score_table(summary: dict[str, Any]) -> str:
    """The test scores of a network beside doing nothing, over all photographs and by size of the mark."""
    groups = {"all": summary} | summary["by_mask_area"]
    names = ("psnr", "ssim", "rmse", "masked_psnr", "masked_rmse", "mask_iou", "mask_f1")
    rows = []
    for label, scores in groups.items():
        for who, prefix in (("restored", ""), ("do nothing", "input_")):
            means = {name: scores.get(prefix + name, {}).get("mean") for name in names}
            rows.append({"mark": label, "images": scores["images"], "": who, **means})
    return format_table(rows)


def compare_runs(outputs: str | Path) -> list[dict]:
    """One row a run under `outputs/runs/`, oldest first: what it trained on and what it reached."""
    rows = []
    for folder in sorted((Path(outputs) / "runs").glob("*/")):
        if not (folder / "training_summary.json").exists():
            continue
        summary, config = read_json(folder / "training_summary.json"), read_json(folder / "config.json")
        test = read_json(folder / "test_results.json") if (folder / "test_results.json").exists() else {}
        rows.append(
            {
                "run": folder.name,
                "photographs": config["photos"].get("source"),
                "image_size": config["train"]["image_size"],
                "epochs": summary["epochs_run"],
                "composite": config["train"]["composite"],
                "target": config["train"]["target"],
                "minutes": summary["training_time_min"],
                "val_psnr": summary["val_psnr_final"],
                "test_psnr": test.get("psnr", {}).get("mean"),
                "test_input_psnr": test.get("input_psnr", {}).get("mean"),
                "test_ssim": test.get("ssim", {}).get("mean"),
            }
        )
    return rows

"""Reports in a run's folder: history, summary, changelog, and a table of all runs."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from wmremoval.files import read_json, write_csv, write_json, write_text
from wmremoval.training.environment import environment
from wmremoval.training.loop import TrainResult
from wmremoval.training.run_info import RunInfo


def write_training_reports(result: TrainResult, info: RunInfo) -> dict[str, Any]:
    """Write `training_summary.json` and the history into the run's folder; a run that was read back keeps its own.

    Returns:
        the summary.
    """
    if result.read_back:
        return read_json(result.folder / "training_summary.json")
    summary = summarise_training(result, info)
    write_json(result.folder / "training_summary.json", summary)
    write_history(result.folder, result.history)
    return summary


def summarise_training(result: TrainResult, info: RunInfo) -> dict[str, Any]:
    """The summary of a training: best and last numbers of the history, and the origin of the run."""
    last = result.history[-1] if result.history else {}
    return {
        "best_loss": result.best_loss if math.isfinite(result.best_loss) else None,
        "best_epoch": result.best_epoch,
        "epochs_run": result.epochs,
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
        "optimizer": {"adamw": "AdamW", "soap": "SOAP"}[info.config.optimizer],
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


def write_history(folder: str | Path, history: list[dict]) -> None:
    """Write `training_history.csv` and `.json`, one row per row of the history."""
    write_csv(Path(folder) / "training_history.csv", history)
    write_json(Path(folder) / "training_history.json", history)


def write_changelog(folder: str | Path) -> str:
    """Write `CHANGELOG.md`: an entry for this run above those of the previous run.

    Args:
        folder: of a run with config, summary and, if it was tested, test results.

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
    """The settings, photographs and VGG16 weights that differ from those of the previous run."""
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
    """Duration, best validation loss and, if the run was tested, test scores, in a sentence."""
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
    """A setting as text; of a path only the last name."""
    return Path(value).name if isinstance(value, str) and ("/" in value or "\\" in value) else str(value)


def compare_runs(outputs: str | Path) -> list[dict]:
    """One row per finished run under `outputs/runs/`, oldest first: photographs, main settings and scores."""
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

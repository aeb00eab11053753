"""A run's folder: what it was made from, its reports, its changelog, and reading it back."""

import hashlib
import logging
import math
import os
import platform
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from wmremoval.config import TrainConfig
from wmremoval.data.loaders import make_loaders
from wmremoval.data.logos import logos_by_part
from wmremoval.data.photos import PhotoSet
from wmremoval.files import find_root, from_root, read_json, write_csv, write_json, write_text
from wmremoval.model import count_parameters
from wmremoval.training.checkpoints import load_weights
from wmremoval.training.loop import TrainResult, fit
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)


PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "pillow", "matplotlib", "pytorch-msssim", "kornia")


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


def new_run(outputs: str | Path, name: str = "run") -> Path:
    """Make `outputs/runs/<date>_<name>/`, never one that exists, and note it in `outputs/latest.txt`."""
    outputs = Path(outputs)
    if not name or set(name) & set("/\\"):
        raise ValueError(f"the name of a run must be a bare word, got {name!r}")
    stem = f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}"
    for attempt in range(1, 1000):
        folder = outputs / "runs" / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            (folder / "visuals").mkdir(parents=True)
            break
        except FileExistsError:
            continue
    else:
        raise ValueError(f"{outputs / 'runs'} is full of runs named {stem}; give another name")
    write_text(outputs / "latest.txt", folder.name + "\n")
    return folder


def latest_run(outputs: str | Path) -> Path | None:
    """The newest run's folder, or None before the first."""
    note = Path(outputs) / "latest.txt"
    if not note.exists():
        return None
    folder = Path(outputs) / "runs" / note.read_text(encoding="utf-8").strip()
    return folder if folder.is_dir() else None


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


def describe(training: Training, photos: PhotoSet, loaders: dict, logos_dir: str | Path | None = None) -> RunInfo:
    """Collect what the reports of a run say about its making."""
    total, trainable = count_parameters(training.net, training.criterion)
    sources, logos = {"photos": str(photos.folder.resolve())}, None
    if photos.more_folder:
        sources["more_photos"] = str(photos.more_folder.resolve())
    report, places = photos.report, training.config.hard_places
    if places:  # samples follow from what it holds
        report = report | {"hard_places_sha256": hashlib.sha256(from_root(places).read_bytes()).hexdigest()}
    if logos_dir:
        drawn = {part: loaders[part].dataset.logos for part in ("train", "test")}
        logos = {part: len(each) for part, each in drawn.items()} | {"unseen": drawn["train"] is not drawn["test"]}
        sources["logos"] = str(_logos_folder(logos_dir))
    return RunInfo(
        config=training.config,
        photos=report,
        split=photos.names(),
        parameters={"total": total, "trainable": trainable},
        perceptual_weights=training.criterion.perceptual_source,
        device=torch.cuda.get_device_name() if training.device.type == "cuda" else "cpu",
        steps_per_epoch=training.steps_per_epoch,
        fonts_missing=loaders["train"].dataset.fonts.missing,
        logos=logos,
        sources=sources,
    )


def start_run(outputs: str | Path, name: str, info: RunInfo) -> Path:
    """Make the folder of a new run, with its settings in it."""
    previous = latest_run(outputs)
    folder = new_run(outputs, name)
    write_config(folder, info, previous.name if previous else None)
    logger.info(f"Run {folder.name} on {info.device}, perceptual features: {info.perceptual_weights}.")
    return folder


def fit_or_read(
    training: Training, loaders: dict, info: RunInfo, outputs: str | Path, read_back: str | None = None
) -> TrainResult:
    """Train into a new run's folder, or read a finished run back (its name under `outputs/runs/`) in its place."""
    if read_back:
        folder = Path(outputs) / "runs" / read_back
        if read_json(folder / "split.json") != info.split:
            raise ValueError(f"{read_back} was trained on other photographs; set photos_dir to their folder")
        finished, result, _ = read_run(folder, training.device)
        training.net.load_state_dict(finished.net.state_dict())
        logger.info(f"Read {read_back} back: {result.epochs} epochs, {result.seconds / 60:.1f} minutes of training.")
        return result
    return fit(training, loaders, start_run(outputs, "notebook", info))


def read_run(folder: str | Path, device: torch.device) -> tuple[Training, TrainResult, dict]:
    """Rebuild a finished run from its folder, best weights loaded, instead of training it again.

    Returns:
        the training (network, criterion), its result (history, times), and `config.json`.

    Raises:
        ValueError: not a run's folder, or parts of it are missing; the message names the file.
    """
    folder = Path(folder)
    about = read_config(folder)
    summary, history = read_json(folder / "training_summary.json"), read_json(folder / "training_history.json")
    # Its own weights follow, and no step is taken.
    config = replace(about["train"], compile=False, start="scratch", optimizer="adamw")
    training = Training(config, about["steps_per_epoch"], device)
    load_weights(training.net, folder / "wm_best_model.pth")
    result = TrainResult(
        folder,
        history,
        summary["warmup_losses"],
        summary["best_epoch"],
        summary["best_loss"],
        60 * summary["training_time_min"],
        summary["stopped"],
        read_back=True,
    )
    return training, result, about


def run_photos(folder: str | Path, about: dict, photos_dir: str | Path | None = None) -> PhotoSet:
    """The photographs a run began with, as its `split.json` has them, whatever else lies in their folder by now.

    Args:
        folder: the run.
        about: its `config.json`.
        photos_dir: where the photographs are now, if they have moved.

    Raises:
        ValueError: photographs of the split are not there.
    """
    photos_dir = Path(photos_dir or about["sources"]["photos"]).expanduser()
    names = read_json(Path(folder) / "split.json")
    more_dir = Path(about["sources"].get("more_photos", photos_dir))
    more = tuple(more_dir / name for name in names.pop("more", []))
    split = {part: [photos_dir / name for name in names[part]] for part in names}
    for place, paths in ((photos_dir, [path for part in split.values() for path in part]), (more_dir, more)):
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise ValueError(
                f"{place} lacks {len(missing)} photographs of the run, such as {missing[0]}; put them back"
            )
    return PhotoSet(split, about["photos"], photos_dir, more, more_dir if more else None)


def open_loaders(
    photos: PhotoSet, config: TrainConfig, device: torch.device, logos_dir: str | Path | None = None
) -> dict:
    """Loaders for train, val and test; see `make_loaders`.

    Raises:
        ValueError: the weights to begin from were trained on photographs of this val or test; see `check_unseen`.
    """
    check_unseen(photos, config)
    logos = logos_by_part(_logos_folder(logos_dir)) if logos_dir else None
    return make_loaders(photos.parts(), config, logos, pin_memory=device.type == "cuda")


def check_unseen(photos: PhotoSet, config: TrainConfig) -> None:
    """Make sure that the run whose weights this one begins from was trained on none of its val and test photographs.

    The split follows the seed, so another seed on the same folder would put photographs that are known into the test.

    Raises:
        ValueError: it was; one line that says how many, and which seed keeps them apart.
    """
    if config.start in ("scratch", "shipped"):
        return
    run = find_root() / Path(config.start).expanduser()
    run = run if run.is_dir() else run.parent
    if not ((run / "split.json").is_file() and (run / "config.json").is_file()):
        return  # weights alone do not tell what they were trained on
    about, names, seen = read_config(run), photos.names(), read_json(run / "split.json")
    same_source = about["photos"].get("source") == photos.report["source"]
    known = {*names["val"], *names["test"]} & {*(seen["train"] if same_source else ()), *seen.get("more", ())}
    if known:
        raise ValueError(
            f"{run.name} was trained on {len(known)} of this run's validation and test photographs; "
            f"use its seed, {about['train'].seed}, or begin from other weights"
        )


def _logos_folder(logos_dir: str | Path) -> Path:
    return find_root() / Path(logos_dir).expanduser()


def environment() -> dict[str, Any]:
    """What this machine is and which packages run on it, read live. Starts CUDA where there is one."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": gpu.name if gpu else None,
        "gpu_memory_gb": round(gpu.total_memory / 1e9, 1) if gpu else None,
        "cuda": torch.version.cuda,
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str | None]:
    """The versions of the packages that decide results."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)

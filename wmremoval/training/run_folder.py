"""A run's folder: start it, resume it, read it back; the photographs and loaders of its run."""

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from wmremoval.config import TrainConfig
from wmremoval.data.loaders import make_loaders
from wmremoval.data.logos import logos_by_part
from wmremoval.data.photos import PhotoSet
from wmremoval.files import find_root, read_json, write_json, write_text
from wmremoval.training.checkpoints import load_weights
from wmremoval.training.environment import environment
from wmremoval.training.loop import TrainResult, Watch, fit
from wmremoval.training.run_info import RunInfo
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)


def open_loaders(
    photos: PhotoSet, config: TrainConfig, device: torch.device, logos_dir: str | Path | None = None
) -> dict:
    """Loaders of a run, see `make_loaders`.

    Args:
        photos: of the run.
        config: of the run.
        device: decides whether batches are pinned in memory.
        logos_dir: folder of logos, relative to the repository's root; None: no logos.

    Raises:
        ValueError: the weights at the start were trained on photographs of val or test, see `check_unseen`.
    """
    check_unseen(photos, config)
    logos = logos_by_part(find_root() / Path(logos_dir).expanduser()) if logos_dir else None
    return make_loaders(photos.parts(), config, logos, pin_memory=device.type == "cuda")


def check_unseen(photos: PhotoSet, config: TrainConfig) -> None:
    """Check that the weights at the start were not trained on photographs of val or test.

    The seed decides the split, so that another seed on the same folder puts trained photographs into val and test.

    Raises:
        ValueError: they were; one line with the number of photographs and the seed that keeps them apart.
    """
    if config.start in ("scratch", "shipped"):
        return
    run = find_root() / Path(config.start).expanduser()
    run = run if run.is_dir() else run.parent
    if not ((run / "split.json").is_file() and (run / "config.json").is_file()):
        return  # bare weights do not name their photographs
    about, names, seen = read_config(run), photos.names(), read_json(run / "split.json")
    same_source = about["photos"].get("source") == photos.report["source"]
    seen_here = {*names["val"], *names["test"]} & {*(seen["train"] if same_source else ()), *seen.get("more", ())}
    if seen_here:
        raise ValueError(
            f"{run.name} was trained on {len(seen_here)} of this run's validation and test photographs; "
            f"use its seed, {about['train'].seed}, or begin from other weights"
        )


def fit_or_read(
    training: Training,
    loaders: dict,
    info: RunInfo,
    outputs: str | Path,
    read_back: str | None = None,
    watch: Watch = lambda result: False,
) -> TrainResult:
    """Train into a new run's folder, or read a finished run back instead.

    Args:
        training: network, loss and schedule; it has the weights of the run afterwards.
        loaders: see `fit`.
        info: origin of the run.
        outputs: folder that holds `runs/`.
        read_back: name of a finished run under `outputs/runs/`; None: train.
        watch: see `fit`.

    Raises:
        ValueError: the finished run was trained on other photographs, or is incomplete.
    """
    if read_back:
        folder = Path(outputs) / "runs" / read_back
        if read_json(folder / "split.json") != info.split:
            raise ValueError(f"{read_back} was trained on other photographs; set photos_dir to their folder")
        finished, result, _ = read_run(folder, training.device)
        training.net.load_state_dict(finished.net.state_dict())
        logger.info(f"Read {read_back} back: {result.epochs} epochs, {result.seconds / 60:.1f} minutes of training.")
        return result
    return fit(training, loaders, start_run(outputs, "notebook", info), watch=watch)


def start_run(outputs: str | Path, name: str, info: RunInfo) -> Path:
    """Make the folder of a new run, and write its settings and split into it."""
    previous = latest_run(outputs)
    folder = new_run(outputs, name)
    write_config(folder, info, previous.name if previous else None)
    logger.info(f"Run {folder.name} on {info.device}, perceptual features: {info.perceptual_weights}.")
    return folder


def latest_run(outputs: str | Path) -> Path | None:
    """The folder of the newest run; None before the first run."""
    note = Path(outputs) / "latest.txt"
    if not note.exists():
        return None
    folder = Path(outputs) / "runs" / note.read_text(encoding="utf-8").strip()
    return folder if folder.is_dir() else None


def new_run(outputs: str | Path, name: str = "run") -> Path:
    """Make a new folder `outputs/runs/<date>_<name>/`, and write its name into `outputs/latest.txt`.

    Raises:
        ValueError: the name has a slash or is empty, or there are too many runs with it.
    """
    outputs = Path(outputs)
    if not name or set(name) & set("/\\"):
        raise ValueError(f"the name of a run must be a bare word without / and \\, got {name!r}")
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


def write_config(folder: str | Path, info: RunInfo, previous: str | None = None) -> None:
    """Write `config.json` and `split.json`; before the first step, so that an interrupted run can be read too."""
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
    """Read the `config.json` of a run, with "train" as a `TrainConfig`.

    Raises:
        ValueError: not a run's folder, or damaged.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{folder} is no run's folder, which holds a config.json; name one of outputs/runs/")
    about = read_json(Path(folder) / "config.json")
    return about | {"train": TrainConfig.from_dict(about["train"])}


def read_run(folder: str | Path, device: torch.device) -> tuple[Training, TrainResult, dict]:
    """Rebuild a finished run with its kept weights from its folder.

    Returns:
        the training (network, loss), its result (history, times), and `config.json`.

    Raises:
        ValueError: not a run's folder, or a file is missing; the message names it.
    """
    folder = Path(folder)
    about = read_config(folder)
    summary, history = read_json(folder / "training_summary.json"), read_json(folder / "training_history.json")
    # The run's weights are loaded below, and no step is taken.
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
    """The photographs of a run, by its `split.json`; files added to their folder later are left out.

    Args:
        folder: of the run.
        about: its `config.json`.
        photos_dir: folder of the photographs, if they have moved.

    Raises:
        ValueError: photographs of the split are missing.
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

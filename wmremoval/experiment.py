"""What the notebook and the command line share: choose the settings, describe a run, score it, read one back."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checkpoints import load_weights
from .config import DOCUMENT_RECIPE, TrainConfig
from .data import WatermarkDataset
from .evaluation import evaluate, write_test_results
from .fitting import TrainResult, fit
from .fonts import load_fonts
from .images import write_image
from .loaders import make_loader, make_loaders, sample_config
from .logos import logos_by_part
from .losses import vgg_cache
from .model import count_parameters
from .photos import PhotoSet, gather_photos, sample_scenes
from .reports import RunInfo, read_config, write_config
from .runs import find_root, latest_run, new_run, read_json
from .training import Training
from .watermarks import WatermarkConfig, blend, draw_mark

# What a profile sets where the user leaves None. Quick shows that everything runs, in minutes on two cores.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"image_size": 128, "epochs": 12, "warmup_epochs": 1, "max_photos": 80, "perceptual_weights": "random"},
    "full": {},
    "document": DOCUMENT_RECIPE.to_dict(),
}
MARKED_SAMPLE = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, distorted_share=0.0, occluded_share=0.0, opaque_share=0.0
)
MARKED_SAMPLE_SEED = 2  # "All Rights Reserved", white, across the cup
GPU_WORKERS = 8  # loader processes at most beside a GPU, which empties a batch faster than one process fills it


def choose_config(profile: str, device: torch.device, read_back: str | None = None, **given) -> TrainConfig:
    """Build the settings: what is given wins, then the profile, then the defaults of `TrainConfig`.

    Args:
        profile: "full", "document" (direct image, no mask term), "quick", or "auto": full on a GPU, quick without one.
        device: decides "auto" and, on a GPU, the number of loader processes.
        read_back: name of a finished run whose settings are taken whole instead.
        given: any field of `TrainConfig`; None means not given.

    Raises:
        ValueError: unknown profile, unknown field or bad value.
    """
    if read_back:
        return read_config(find_root() / "outputs" / "runs" / read_back)["train"]
    if profile == "auto":
        profile = "full" if device.type == "cuda" else "quick"
        if profile == "quick":
            print(
                "No GPU: the QUICK profile shows every step in minutes, but trains far too little for a useful network."
            )
    if profile not in PROFILES:
        raise ValueError(f"profile must be auto, {', '.join(PROFILES)}, got {profile!r}")
    workers = min(GPU_WORKERS, os.cpu_count() or 1) if device.type == "cuda" else 0
    values = PROFILES[profile] | {"workers": workers}
    if vgg_cache().exists() and values.get("perceptual_weights") == "random":
        values["perceptual_weights"] = "imagenet"  # no download needed: the genuine features cost nothing more
    values |= {name: value for name, value in given.items() if value is not None}
    return TrainConfig.from_dict(values)


def open_photos(photos_dir: str | Path, config: TrainConfig) -> PhotoSet:
    """Gather the photographs of a folder, relative to the repository's root; its empty default folder gives the samples."""
    root = find_root()
    folder = root / Path(photos_dir).expanduser()
    samples = root / "data" / "sample_photos" if folder == root / "data" / "clean_images" else None
    return gather_photos(folder, samples, config.seed, config.max_photos)


def open_loaders(
    photos: PhotoSet, config: TrainConfig, device: torch.device, logos_dir: str | Path | None = None
) -> dict:
    """Loaders for train, val and test; see `make_loaders`.

    Raises:
        ValueError: the weights to begin from were trained on photographs of this val or test; see `check_unseen`.
    """
    check_unseen(photos, config)
    logos = logos_by_part(_logos_folder(logos_dir)) if logos_dir else None
    return make_loaders(photos.split, config, logos, pin_memory=device.type == "cuda")


def check_unseen(photos: PhotoSet, config: TrainConfig) -> None:
    """Make sure that the run whose weights this one begins from was trained on none of its val and test photographs.

    The split follows the seed, so another seed on the same folder would put photographs that are known into the test.

    Raises:
        ValueError: it was; one line that says how many, and which seed keeps them apart.
    """
    if not config.init:
        return
    run = find_root() / Path(config.init).expanduser()
    run = run if run.is_dir() else run.parent
    if not ((run / "split.json").is_file() and (run / "config.json").is_file()):
        return  # weights alone do not tell what they were trained on
    about, names = read_config(run), photos.names()
    known = {*names["val"], *names["test"]} & set(read_json(run / "split.json")["train"])
    if known and about["photos"].get("source") == photos.report["source"]:
        raise ValueError(
            f"{run.name} was trained on {len(known)} of this run's validation and test photographs; "
            f"use its seed, {about['train'].seed}, or begin from other weights"
        )


def _logos_folder(logos_dir: str | Path) -> Path:
    return find_root() / Path(logos_dir).expanduser()


def describe(training: Training, photos: PhotoSet, loaders: dict, logos_dir: str | Path | None = None) -> RunInfo:
    """Collect what the reports of a run say about its making."""
    total, trainable = count_parameters(training.net, training.criterion)
    sources, logos = {"photos": str(photos.folder.resolve())}, None
    if logos_dir:
        drawn = {part: loaders[part].dataset.logos for part in ("train", "test")}
        logos = {part: len(each) for part, each in drawn.items()} | {"unseen": drawn["train"] is not drawn["test"]}
        sources["logos"] = str(_logos_folder(logos_dir))
    return RunInfo(
        config=training.config,
        photos=photos.report,
        split=photos.names(),
        parameters={"total": total, "trainable": trainable},
        perceptual_weights=training.criterion.perceptual_source,
        device=torch.cuda.get_device_name() if training.device.type == "cuda" else "cpu",
        steps_per_epoch=training.steps_per_epoch,
        fonts_missing=loaders["train"].dataset.fonts.missing,
        logos=logos,
        sources=sources,
    )


def score(training: Training, loader, folder: str | Path) -> tuple[list[dict], dict]:
    """Score the network over a loader and leave `test_results.csv` and `.json` in a run's folder."""
    rows, summary = evaluate(training.net, loader, training.objective, training.device)
    about = {"perceptual_weights": training.criterion.perceptual_source, "target": training.config.target}
    write_test_results(folder, rows, summary, about)
    return rows, summary


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
    training = Training(replace(about["train"], compile=False), about["steps_per_epoch"], device)
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
        print(f"Read {read_back} back: {len(result.history)} epochs, {result.seconds / 60:.1f} minutes of training.")
        return result
    return fit(training, loaders, start_run(outputs, "notebook", info))


def start_run(outputs: str | Path, name: str, info: RunInfo) -> Path:
    """Make the folder of a new run, with its settings in it."""
    previous = latest_run(outputs)
    folder = new_run(outputs, name)
    write_config(folder, info, previous.name if previous else None)
    print(f"Run {folder.name} on {info.device}, perceptual features: {info.perceptual_weights}.")
    return folder


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
    split = {part: [photos_dir / name for name in names[part]] for part in names}
    missing = [path.name for paths in split.values() for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{photos_dir} lacks {len(missing)} photographs of the run, such as {missing[0]}; put them back"
        )
    return PhotoSet(split, about["photos"], photos_dir)


def fixed_loader(paths: list[Path], config: TrainConfig, logos_dir: str | Path | None = None):
    """Fixed samples of photographs as validation and test see them."""
    logos = logos_by_part(logos_dir)["test"] if logos_dir else ()
    dataset = WatermarkDataset(paths, sample_config(config, training=False), logos=logos)
    return make_loader(dataset, config.batch_size, config.workers)


def marked_sample(path: str | Path) -> Path:
    """Write one of scikit-image's photographs under a fixed synthetic mark, to try a remover on; gives the path."""
    photo = sample_scenes()["coffee"]
    mark = draw_mark(np.random.default_rng(MARKED_SAMPLE_SEED), *photo.shape[:2], load_fonts(), (), MARKED_SAMPLE)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, blend(photo, mark)[0])
    return path


def loss_terms(training: Training, batch: dict[str, Tensor]) -> dict[str, float]:
    """The weighted terms of the loss on a batch from `restore_samples`, for their shares."""
    with torch.inference_mode():
        batch = {name: x.to(training.device) for name, x in batch.items()}
        image, mask_logits = training.net.eval()(batch["watermarked"])
        _, terms = training.objective(image, mask_logits, batch)
    return {name: term.item() for name, term in terms.items()}

"""`RunInfo`: the photographs, sizes and sources of a run, for its reports."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wmremoval.config import TrainConfig
from wmremoval.data.photos import PhotoSet
from wmremoval.files import find_root, from_root
from wmremoval.model import count_parameters
from wmremoval.training.trainer import Training


@dataclass(frozen=True)
class RunInfo:
    """Origin of a run: settings, photographs, sizes and device."""

    config: TrainConfig
    photos: dict[str, Any]  # counts, skipped files and the source, without folder paths
    split: dict[str, list[str]]  # file names by part
    parameters: dict[str, int]  # "total" (with the frozen VGG16) and "trainable"
    perceptual_weights: str  # source of the loaded VGG16 weights
    device: str
    steps_per_epoch: int
    fonts_missing: dict[str, str] = field(default_factory=dict)  # languages left out, with the reason of each
    # Number of logos in "train" and "test"; "unseen": True if the test has brands of its own; None: no logos.
    logos: dict[str, int | bool] | None = None
    sources: dict[str, str] = field(default_factory=dict)  # folders, for resuming; never published


def describe(training: Training, photos: PhotoSet, loaders: dict, logos_dir: str | Path | None = None) -> RunInfo:
    """Collect the origin of a run, for its reports.

    Args:
        training: with the loaded network and loss.
        photos: of the run.
        loaders: "train" and "test" at least.
        logos_dir: folder of logos, relative to the repository's root; None: no logos.
    """
    total, trainable = count_parameters(training.net, training.criterion)
    sources, logos = {"photos": str(photos.folder.resolve())}, None
    if photos.more_folder:
        sources["more_photos"] = str(photos.more_folder.resolve())
    report, places = photos.report, training.config.hard_places
    if places:  # the samples depend on its content
        report = report | {"hard_places_sha256": hashlib.sha256(from_root(places).read_bytes()).hexdigest()}
    if logos_dir:
        drawn = {part: loaders[part].dataset.logos for part in ("train", "test")}
        logos = {part: len(each) for part, each in drawn.items()} | {"unseen": drawn["train"] is not drawn["test"]}
        sources["logos"] = str(find_root() / Path(logos_dir).expanduser())
    return RunInfo(
        config=training.config,
        photos=report,
        split=photos.names(),
        parameters={"total": total, "trainable": trainable},
        perceptual_weights=training.criterion.perceptual_source,
        device=training.group.described(torch.cuda.get_device_name() if training.device.type == "cuda" else "cpu"),
        steps_per_epoch=training.steps_per_epoch,
        fonts_missing=loaders["train"].dataset.fonts.missing,
        logos=logos,
        sources=sources,
    )

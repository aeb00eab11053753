"""Profiles: named sets of settings, which the settings of a user override."""

import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from wmremoval.config import DOCUMENT_RECIPE, TrainConfig
from wmremoval.files import find_root
from wmremoval.losses import vgg_cache
from wmremoval.training.checkpoints import load_model
from wmremoval.training.run_folder import read_config

logger = logging.getLogger(__name__)


# Settings of each profile, used where the user gives none. "quick" fine-tunes the shipped weights in minutes on two
# cores. Its values were not measured, except for the learning rate.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {
        "start": "shipped",
        "image_size": 192,  # the largest side that the shipped weights were trained on
        "epochs": 5,
        "warmup_epochs": 1,
        "max_photos": 80,
        "perceptual_weights": "random",
    },
    "full": {},
    "document": DOCUMENT_RECIPE.to_dict(),
}
# Further settings of a run that starts from trained weights: no warm-up, and the objective of the shipped weights.
FINE_TUNING: dict[str, Any] = {
    # The highest of 1e-5, 3e-5, 1e-4 and 3e-4 that lowers no validation PSNR by more than 0.05 dB
    # (outputs/measurements/quick_rates.json).
    "learning_rate": 3e-5,
    "warmup_epochs": 0,
    "lr_drop_epoch": 0,
    "target": "clean",
    "mask_weight": 4.0,
    "mark_weight": 8.0,
    "iou_weight": 0.25,
    "alpha": 0.0,  # the shipped weights were trained without the perceptual loss, which takes half of a step on a CPU
}
# Loader processes at most beside a GPU; it uses the samples of about 14 processes (the measurement was not kept).
GPU_WORKERS = 16


def choose_config(profile: str, device: torch.device, read_back: str | None = None, **given: Any) -> TrainConfig:
    """Build the settings of a run: those given, else those for a trained start, else the profile's, else the default.

    Args:
        profile: "full", "document" (direct image, no mask term), "quick", or "auto": full on a GPU, quick without one.
        device: decides "auto" and, on a GPU, the number of loader processes.
        read_back: name of a finished run under `outputs/runs/`, whose settings are taken instead of all others.
        given: any field of `TrainConfig`; None: not given. `start` may be the name of a run under `outputs/runs/`.

    Raises:
        ValueError: unknown profile, unknown setting or bad value.
    """
    if read_back:
        return read_config(find_root() / "outputs" / "runs" / read_back)["train"]
    if profile == "auto":
        profile = "full" if device.type == "cuda" else "quick"
        if profile == "quick":
            logger.info("No GPU: the QUICK profile fine-tunes the shipped weights for about a minute.")
    if profile not in PROFILES:
        raise ValueError(f"profile must be auto, {', '.join(PROFILES)}, got {profile!r}")
    given = {name: value for name, value in given.items() if value is not None}
    workers = min(GPU_WORKERS, os.cpu_count() or 1) if device.type == "cuda" else 0
    values = PROFILES[profile] | {"workers": workers}
    if vgg_cache().exists() and values.get("perceptual_weights") == "random":
        values["perceptual_weights"] = "imagenet"  # these are downloaded already
    start = given.get("start", values.get("start", "scratch"))
    if start != "scratch":
        run = find_root() / "outputs" / "runs" / start
        values |= FINE_TUNING | {"start": str(run) if run.is_dir() else start}
        _, about = load_model(values["start"])
        values |= {name: about["config"][name] for name in ("composite", "decompose")}
    return TrainConfig.from_dict(
        values | given | {"start": values.get("start", "scratch") if start != "scratch" else start}
    )


def settings_in(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `TrainConfig` among the variables of a notebook, so that each is written once.

    Example:
        >>> settings_in({"batch_size": 4, "photos_dir": "photos"})
        {'batch_size': 4}
    """
    return {field.name: variables[field.name] for field in fields(TrainConfig) if field.name in variables}

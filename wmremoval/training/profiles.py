"""Profiles: named sets of settings, and how a user's own settings override them."""

import logging
import os
from typing import Any

import torch

from wmremoval.config import DOCUMENT_RECIPE, TrainConfig
from wmremoval.files import find_root
from wmremoval.losses import vgg_cache
from wmremoval.training.run_folder import read_config

logger = logging.getLogger(__name__)


# What a profile sets where the user leaves None. Quick shows that everything runs, in minutes on two cores.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"image_size": 128, "epochs": 12, "warmup_epochs": 1, "max_photos": 80, "perceptual_weights": "random"},
    "full": {},
    "document": DOCUMENT_RECIPE.to_dict(),
}
GPU_WORKERS = 16  # loader processes at most beside a GPU, which empties batches as fast as about 14 fill them


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
            logger.info(
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

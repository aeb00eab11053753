"""Put a run's network into the package: weights in half precision, and a card that describes them."""

import hashlib
import subprocess
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from wmremoval import __version__
from wmremoval.files import atomic_path, read_json, write_json
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS, form_of, load_model
from wmremoval.training.environment import environment

SCORES = ("psnr", "input_psnr", "ssim", "input_ssim", "masked_psnr", "input_masked_psnr", "masked_rmse", "mask_iou", "mask_f1")  # fmt: skip


def half_precision(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights in float16; the statistics of BatchNorm stay in float32, since they need its range."""
    statistics = {name for name, _ in net.named_buffers()}
    return {
        name: (x if name in statistics or not x.is_floating_point() else x.half()).cpu().contiguous()
        for name, x in net.state_dict().items()
    }


def code_commit() -> str | None:
    """The Git commit of the running code, or None outside of a checkout."""
    folder = Path(__file__).parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def ship(
    run: str | Path,
    data: str,
    limits: str,
    suite: dict | None = None,
    floors: dict[str, float] | None = None,
    history: str | None = None,
    weights: str | Path = SHIPPED_WEIGHTS,
) -> Path:
    """Write the best network of a finished run as the package's weights, and a card beside them.

    Args:
        run: folder of a run with test results.
        data: the training data and its licence terms, for the card.
        limits: known limits of the weights, for the card.
        suite: results of `python -m wmremoval.bench suite`, for the card.
        floors: lowest scores that tests accept, by name; only measured ones.
        history: earlier training stages, and facts missing from the recipe, for the card.
        weights: the output file; the card has the same name with `.json`.

    Returns:
        the path of the weights.

    Raises:
        ValueError: the run is not finished.
    """
    run, weights = Path(run), Path(weights)
    net, about = load_model(run)
    config, results = read_json(run / "config.json"), read_json(run / "test_results.json")
    with atomic_path(weights) as path:
        save_file(half_precision(net), path, metadata=form_of(about["config"]))
        path.chmod(0o644)
    card = {
        "file": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "date": date.today().isoformat(),
        "version": __version__,
        "commit": code_commit(),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "data": data,
        "photographs": {name: config["photos"].get(name) for name in ("source", "used", "usable")},
        "recipe": about["config"],
        "epoch": about["epoch"],
        "training_minutes": read_json(run / "training_summary.json")["training_time_min"],
        "machine": {name: value for name, value in environment().items() if name in ("gpu", "cpu", "cpu_cores")},
        "test": {name: round(results[name]["mean"], 4) for name in SCORES if name in results},
        "averaged": config.get("averaged"),
        "history": history,
        "suite": {name: suite[name] for name in ("date", "settings", "gains_db", "cells")} if suite else None,
        "floors": floors,
        "limits": limits,
    }
    card["recipe"]["start"] = Path(card["recipe"]["start"]).name
    write_json(weights.with_suffix(".json"), card)
    return weights

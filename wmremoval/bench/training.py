"""Speed and memory of a training: the loader alone, the step alone, both together; which holds the other back."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wmremoval.config import TrainConfig
from wmremoval.data.loaders import make_loaders
from wmremoval.training.passes import Progress, run_epoch
from wmremoval.training.trainer import Training, pick_device

DOCUMENT_GB = 6.0  # memory of the document's GPU, for batches of 8 photographs of 256 pixels in float16
WARM_UP = 2  # batches that are not counted; the first are slower. Chosen and not measured.


def measure_training(photos: list[Path], config: TrainConfig, steps: int = 20, device: str = "auto") -> dict:
    """Time the parts of a training on its own samples, and measure the memory of a step.

    Args:
        photos: photographs to train on, at least a batch.
        config: of the training.
        steps: batches counted for each time.
        device: see `pick_device`.

    Returns:
        photographs per second of the loader alone, of the step alone on one batch, and of both together; the slower of the
        first two as `held back by`; the share of the time that both wait for data; the tensors that the backward pass
        needs, megabytes; and on a GPU the largest memory of the allocator, gigabytes, beside the document's 6.

    Raises:
        ValueError: fewer photographs than a batch has.
    """
    if len(photos) < config.batch_size:
        raise ValueError(f"a batch has {config.batch_size} photographs, and there are {len(photos)}")
    on = pick_device(device)
    loader = make_loaders({"train": photos}, config, pin_memory=on.type == "cuda")["train"]
    training = Training(config, len(loader), on)
    alone = _time_loader(loader, config.batch_size, steps)
    batch = next(iter(loader))
    held = _held_megabytes(training, batch)
    if on.type == "cuda":  # pragma: no cover - needs a GPU
        torch.cuda.reset_peak_memory_stats(on)
    step = _time_steps(training, _Repeated([batch] * (WARM_UP + steps)), on)
    together, share = _time_both(training, loader, steps)
    numbers = {
        "loader alone, photographs a second": alone,
        "step alone, photographs a second": step,
        "both, photographs a second": together,
        "held back by": "loader" if alone < step else "step",
        "both, share of the time waiting for data": share,
        "held for the backward pass, MB": held,
    }
    if on.type == "cuda":  # pragma: no cover - needs a GPU
        numbers |= {
            "peak memory, GB": torch.cuda.max_memory_allocated(on) / 1e9,
            "the document's memory, GB": DOCUMENT_GB,
        }
    return numbers


class _Repeated(list):
    """A loader of given batches."""

    dataset = SimpleNamespace()


class _Endless:
    """The batches of a loader, epoch after epoch, so many in all."""

    def __init__(self, loader: DataLoader, batches: int):
        self.loader, self.batches, self.dataset = loader, batches, loader.dataset

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return islice(_epochs(self.loader), self.batches)


def _epochs(loader: DataLoader) -> Iterator[dict[str, Tensor]]:
    epoch, dataset = 0, cast(Any, loader.dataset)  # a `WatermarkDataset`
    while True:
        dataset.epoch = epoch
        yield from loader
        epoch += 1


def _time_loader(loader: DataLoader, batch_size: int, steps: int) -> float:
    """Photographs per second of the loader alone."""
    batches = _epochs(loader)
    for _ in range(WARM_UP):
        next(batches)
    began = time.monotonic()
    photographs = sum(len(next(batches)["watermarked"]) for _ in range(steps))
    return photographs / (time.monotonic() - began)


def _time_steps(training: Training, loader: _Repeated, device: torch.device) -> float:
    """Photographs per second of the step alone."""
    times: list[float] = []

    def note(seconds: float) -> bool:
        if device.type == "cuda":  # pragma: no cover - needs a GPU
            torch.cuda.synchronize(device)
        times.append(time.monotonic())
        return False

    run_epoch(training, cast(DataLoader, loader), "Steps", 0, training.optimizer, after_step=note)
    photographs = len(loader[0]["watermarked"]) * (len(times) - WARM_UP)
    return photographs / (times[-1] - times[WARM_UP - 1])


def _time_both(training: Training, loader: DataLoader, steps: int) -> tuple[float, float]:
    """Photographs per second of loader and step together, and the share of the time waiting for data."""
    views = 2 if training.config.pairs else 1
    means = run_epoch(training, cast(DataLoader, _Endless(loader, steps)), "Both", 0, training.optimizer, Progress())
    return means["images_per_second"] / views, means["data_share"]


def _held_megabytes(training: Training, batch: dict[str, Tensor]) -> float:
    """Megabytes of all tensors that the backward pass of a batch, or of one of its parts, needs; weights included."""
    held: dict[int, int] = {}  # bytes by address

    def hold(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    training.net.train()
    part = -(-len(batch["watermarked"]) // training.config.accumulate)
    own = {name: x[:part].to(training.device) for name, x in batch.items()}
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        parts = training.predict(own["watermarked"].contiguous(memory_format=torch.channels_last))
        loss, _ = training.objective(parts.image, parts.mask_logits, own)
        loss = loss + training.mark_term(parts, own) + training.gate_term(parts, own)
    return sum(held.values()) / 1e6

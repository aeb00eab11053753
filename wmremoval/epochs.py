"""One pass over a loader, training or validation, and the means of it."""

import math
import time
from collections import defaultdict

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .config import drop_factor
from .metrics import PSNR_CAP, psnr, ssim
from .training import Training


class NonFiniteLossError(RuntimeError):
    """The loss, or a gradient, became NaN or infinite."""


def run_epoch(
    training: Training,
    loader: DataLoader,
    label: str,
    data_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    main_epoch: int | None = None,
) -> dict[str, float]:
    """One pass over a loader: training with an optimiser, validation without.

    `main_epoch` is given in the main phase only, where the scheduler steps after every batch.

    Returns:
        means over images: loss, PSNR (dB) and SSIM against `clean`, PSNR against the target, each term of
        the loss as `term_<name>`; the mean gradient norm; images a second, and the share of the time spent waiting
        for data.
    """
    loader.dataset.epoch = data_epoch
    training.net.train(optimizer is not None)
    training.kept.train(optimizer is not None)
    if main_epoch is not None:
        _set_rate(training, main_epoch)  # the drop holds from the first batch of its epoch
    sums, counts = defaultdict(float), defaultdict(int)
    bar = tqdm(loader, desc=label, leave=False)
    started, waited, asked = time.monotonic(), 0.0, time.monotonic()
    for step, cpu_batch in enumerate(bar, start=1):
        waited += time.monotonic() - asked
        batch = {name: x.to(training.device, non_blocking=True) for name, x in cpu_batch.items()}
        if training.config.pairs and optimizer is not None:
            batch = both_views(batch)
        batch["watermarked"] = batch["watermarked"].contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(optimizer is not None):
            parts = training.restore(batch["watermarked"])
            image, mask_logits = parts[:2]
            loss, terms = training.objective(image, mask_logits, batch)
            mark_term = training.mark_term(parts, batch)
        means = _measure(image.detach(), loss.detach(), terms, batch, training.config.target)
        if parts.alpha is not None:
            means["term_mark"] = mark_term.item()
        _check_finite(means, label, step)
        if optimizer is not None:
            means["grad_norm"] = training.step(loss + mark_term, optimizer)
            if not training.scaler.is_enabled():  # a scaler skips such a step and lowers its scale
                _check_finite(means, label, step)
        if main_epoch is not None:
            training.scheduler.step()
            _set_rate(training, main_epoch)
        for name, value in means.items():
            if math.isfinite(value):  # all but the norm of a step that the scaler skipped
                sums[name], counts[name] = sums[name] + len(image) * value, counts[name] + len(image)
        bar.set_postfix(loss=f"{sums['loss'] / counts['loss']:.4f}")
        asked = time.monotonic()
    means = {name: total / counts[name] for name, total in sums.items()}
    seconds = max(time.monotonic() - started, 1e-9)
    return means | {"images_per_second": counts["loss"] / seconds, "data_share": waited / seconds}


def both_views(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of twice the size in which each view is once the input and once the reference of the other."""
    other = {
        "watermarked": "reference",
        "reference": "watermarked",
        "mask": "reference_mask",
        "alpha": "reference_alpha",
        "colour": "reference_colour",
    }
    other |= {theirs: ours for ours, theirs in other.items()}
    return {name: torch.cat([x, batch[other.get(name, name)]]) for name, x in batch.items()}


def _set_rate(training: Training, epoch: int) -> None:
    """Give the optimiser the cycle's rate times the drop; the cycle itself writes its own rate at every step."""
    for group, rate in zip(training.optimizer.param_groups, training.scheduler.get_last_lr(), strict=True):
        group["lr"] = rate * drop_factor(training.config, epoch)


@torch.no_grad()
def _measure(
    image: Tensor, loss: Tensor, terms: dict[str, Tensor], batch: dict[str, Tensor], target: str
) -> dict[str, float]:
    """The batch's means, brought from the device in one transfer."""
    means = {
        "loss": loss,
        "psnr": psnr(image, batch["clean"]).clamp_max(PSNR_CAP).mean(),
        "ssim": ssim(image, batch["clean"]).mean(),
        "psnr_target": psnr(image, batch[target]).clamp_max(PSNR_CAP).mean(),
    } | {f"term_{name}": term for name, term in terms.items()}
    return dict(zip(means, torch.stack([value.float() for value in means.values()]).tolist(), strict=True))


def _check_finite(means: dict[str, float], label: str, step: int) -> None:
    bad = [name for name in ("loss", "grad_norm") if not math.isfinite(means.get(name, 0.0))]
    if bad:
        values = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name.startswith("term_"))
        raise NonFiniteLossError(
            f"{label}, step {step}: the {bad[0].replace('_', ' ')} is {means[bad[0]]} ({values}); "
            "lower the learning rate or set amp='off'"
        )

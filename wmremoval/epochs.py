"""One pass over a loader, training or validation, and the means of it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .config import drop_factor
from .metrics import PSNR_CAP, psnr, ssim
from .training import Training


class NonFiniteLossError(RuntimeError):
    """The loss, or a gradient, became NaN or infinite."""


@dataclass
class Progress:
    """How far a pass over a loader has come."""

    steps: int = 0  # batches done
    sums: dict[str, float] = field(default_factory=dict)  # over their images, by name of what is measured
    counts: dict[str, int] = field(default_factory=dict)  # images in each sum
    seconds: float = 0.0  # over all sittings
    waited: float = 0.0  # seconds of those in which no data was there

    def add(self, means: dict[str, float], images: int) -> None:
        """Count a batch in."""
        for name, value in means.items():
            if math.isfinite(value):  # all but the norm of a step that the scaler skipped
                self.sums[name] = self.sums.get(name, 0.0) + images * value
                self.counts[name] = self.counts.get(name, 0) + images

    def means(self) -> dict[str, float]:
        """Of what was counted in, with the images a second and the share of the time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        speed = {"images_per_second": self.counts["loss"] / seconds, "data_share": self.waited / seconds}
        return {name: total / self.counts[name] for name, total in self.sums.items()} | speed


def run_epoch(
    training: Training,
    loader: DataLoader,
    label: str,
    data_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    main_epoch: int | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    """One pass over a loader: training with an optimiser, validation without.

    Args:
        training: what is trained or validated.
        loader: of batches of samples.
        label: of the progress bar and of errors.
        data_epoch: which variation of the samples.
        optimizer: takes the steps; None: validation.
        main_epoch: in the main phase only, where the scheduler steps after every batch.
        progress: kept up to date; not at 0 where a training pass that broke off goes on here.
        after_step: is called after every step.

    Returns:
        means over images: loss, PSNR (dB) and SSIM against `clean`, PSNR against the target, each term of
        the loss as `term_<name>`; the mean gradient norm; images a second, and the share of the time spent waiting
        for data.

    Raises:
        NonFiniteLossError: names the epoch and the step.
    """
    progress = progress or Progress()
    loader.dataset.epoch, loader.dataset.skipped = data_epoch, progress.steps * training.config.batch_size
    training.net.train(optimizer is not None)
    training.kept.train(optimizer is not None)
    if main_epoch is not None:
        _set_rate(training, main_epoch)  # the drop holds from the first batch of its epoch
    bar = tqdm(_batches(loader, progress), desc=label, leave=False, initial=progress.steps, total=len(loader))
    asked = time.monotonic()
    started = asked - progress.seconds
    for step, cpu_batch in enumerate(bar, start=progress.steps + 1):
        progress.waited += time.monotonic() - asked
        means, images = _run_batch(training, cpu_batch, optimizer, f"{label}, step {step}")
        if main_epoch is not None:
            training.scheduler.step()
            _set_rate(training, main_epoch)
        progress.add(means, images)
        progress.steps, progress.seconds = step, time.monotonic() - started
        bar.set_postfix(loss=f"{progress.sums['loss'] / progress.counts['loss']:.4f}")
        if after_step is not None:
            after_step()
        asked = time.monotonic()
    return progress.means()


def _batches(loader: DataLoader, progress: Progress):
    """An iterator over a loader's batches. Making one draws from torch's generator, as it did when a pass began that goes on."""
    state = torch.get_rng_state()
    batches = iter(loader)
    if progress.steps:
        torch.set_rng_state(state)
    return batches


def _run_batch(training: Training, cpu_batch: dict, optimizer, place: str) -> tuple[dict[str, float], int]:
    """Restore and judge a batch and, with an optimiser, take a step: its means, and how many images it has."""
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
    _check_finite(means, place)
    if optimizer is not None:
        means["grad_norm"] = training.step(loss + mark_term, optimizer)
        if not training.scaler.is_enabled():  # a scaler skips such a step and lowers its scale
            _check_finite(means, place)
    return means, len(image)


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


def _check_finite(means: dict[str, float], place: str) -> None:
    bad = [name for name in ("loss", "grad_norm") if not math.isfinite(means.get(name, 0.0))]
    if bad:
        values = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name.startswith("term_"))
        raise NonFiniteLossError(
            f"{place}: the {bad[0].replace('_', ' ')} is {means[bad[0]]} ({values}); "
            "lower the learning rate or set amp='off'"
        )

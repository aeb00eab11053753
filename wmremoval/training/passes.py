"""One pass over a loader: training with an optimiser, validation without."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from wmremoval.files import first_line
from wmremoval.images import ImageError
from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.training.distributed import Part
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)

LEAST_SCALE = 1.0  # scale of float16 gradients below which a run is given up; chosen and not measured
VIEW_SIDE = 256  # pixels; side of the views in which `Progress.views` counts crops of any side


class NonFiniteLossError(RuntimeError):
    """The loss, or a gradient, became NaN or infinite."""


@dataclass
class Progress:
    """Position in a pass over a loader, and sums of the measures since the last row of the history."""

    steps: int = 0  # batches of the pass that are done
    samples: int = 0  # samples in these batches
    stage: int = 0  # index into `crop_stages` of the crops
    sums: dict[str, float] = field(default_factory=dict)  # over images, by measure
    counts: dict[str, int] = field(default_factory=dict)  # images in each sum
    shown: dict[int, int] = field(default_factory=dict)  # images by side, the square root of their pixels
    seconds: float = 0.0  # duration, interruptions left out
    waited: float = 0.0  # seconds of waiting for data
    skipped: int = 0  # steps that the scaler skipped, since a gradient overflowed

    def add(self, means: dict[str, float], shape: tuple[int, ...]) -> None:
        """Add the means of a batch of shape (B, C, H, W)."""
        images, side = shape[0], round(math.sqrt(shape[-2] * shape[-1]))
        self.shown[side] = self.shown.get(side, 0) + images
        self.skipped += not math.isfinite(means.get("grad_norm", 0.0))
        for name, value in means.items():
            if math.isfinite(value):  # the gradient norm of a step that the scaler skipped is not finite
                self.sums[name] = self.sums.get(name, 0.0) + images * value
                self.counts[name] = self.counts.get(name, 0) + images

    def means(self) -> dict[str, float]:
        """Means over images by measure, images per second, and the share of the time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        speed = {"images_per_second": self.counts["loss"] / seconds, "data_share": self.waited / seconds}
        return {name: total / self.counts[name] for name, total in self.sums.items()} | speed

    def views(self) -> float:
        """The added images, in views of `VIEW_SIDE` x `VIEW_SIDE` pixels."""
        return sum(images * side**2 for side, images in self.shown.items()) / VIEW_SIDE**2


def run_epoch(
    training: Training,
    loader: DataLoader,
    label: str,
    data_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    progress: Progress | None = None,
    after_step: Callable[[float], bool] | None = None,
) -> dict[str, float]:
    """Run one pass over a loader: training with an optimiser, validation without.

    Args:
        training: the network to train or validate, with its loss.
        loader: of batches of samples.
        label: for the progress bar and for errors.
        data_epoch: number of the epoch as a key of the samples.
        optimizer: takes the steps; None: validation.
        progress: updated after every step. An interrupted training pass goes on from it.
        after_step: called after every step with its seconds, waiting for data included. True ends the pass.

    Returns:
        means over images: loss, PSNR (dB) and SSIM against `clean`, PSNR against the target, each weighted term of the
        loss as `term_<name>`, and the gradient norm; images per second; the share of the time spent waiting for data.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ImageError: a photograph cannot be read any more.
        RuntimeError: a loader process has ended.
    """
    progress = progress or Progress()
    dataset: Any = loader.dataset  # a `WatermarkDataset`
    dataset.epoch, dataset.skipped, dataset.stage = data_epoch, progress.samples, progress.stage
    training.net.train(optimizer is not None)
    training.kept.train(optimizer is not None)
    shares = _shares(training, loader, _batches(loader, progress))
    # On a terminal only: elsewhere the bars of all passes would flood what is saved.
    quiet = None if training.group.leads else True
    bar = tqdm(shares, desc=label, leave=False, initial=progress.steps, total=len(loader), disable=quiet)
    asked = time.monotonic()
    started = asked - progress.seconds
    with loading_in_one_line():
        for step, share in enumerate(bar, start=progress.steps + 1):
            progress.waited += time.monotonic() - asked
            means, shape = _run_batch(training, share, optimizer, f"{label}, step {step}")
            progress.add(means, shape)
            now = time.monotonic()
            progress.steps, progress.seconds = step, now - started
            progress.samples += share.together
            bar.set_postfix(loss=f"{progress.sums['loss'] / progress.counts['loss']:.4f}")
            if after_step is not None and after_step(now - asked):
                break
            asked = time.monotonic()
    return progress.means()


@contextmanager
def loading_in_one_line() -> Iterator[None]:
    """Turn errors of loader processes, which come with the process's traceback, into one line."""
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error).rstrip().rpartition("ImageError: ")[2]) from None
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two where it ended while it gave a batch
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        raise RuntimeError(
            f"a loader process has ended ({first_line(error).strip()}); if memory is short, train with fewer --workers"
        ) from None


def _batches(loader: DataLoader, progress: Progress) -> Iterator[dict[str, Tensor]]:
    """The batches of a loader. A new iterator draws from torch's generator; for a resumed pass, this draw is undone."""
    state = torch.get_rng_state()
    batches = iter(loader)
    if progress.steps:
        torch.set_rng_state(state)
    return batches


def _shares(training: Training, loader: DataLoader, batches: Iterator[dict[str, Tensor]]) -> Iterator[Part]:
    """This process's share of every batch."""
    sizes = training.group.sizes(loader)
    return (training.group.share(batch, next(sizes) if sizes else None) for batch in batches)


def _run_batch(
    training: Training, share: Part, optimizer: torch.optim.Optimizer | None, place: str
) -> tuple[dict[str, float], tuple[int, ...]]:
    """Predict and measure a batch and, with an optimiser, take a step; the means, and the shape of the images."""
    share = share._replace(batch={name: x.to(training.device, non_blocking=True) for name, x in share.batch.items()})
    parts = training.group.cut(share, training.config.accumulate if optimizer is not None else 1)
    means, images = [], 0
    for part in parts:
        last = part is parts[-1]
        with training.group.alone(training.replica, last):
            of_part, loss, shape = _run_part(training, part, optimizer is not None)
            _check_finite(of_part, place)
            if optimizer is not None:
                loss = training.group.weight(part, share.together) * loss
                if last:
                    of_part["grad_norm"] = training.step(loss, optimizer)
                else:
                    training.backward(loss)
        means.append(of_part)
        images += shape[0]
    if optimizer is not None:
        _check_gradient(training, means[-1], place)
    return _mean_of(means, parts), (images, *shape[1:])


def _run_part(training: Training, part: Part, learn: bool) -> tuple[dict[str, float], Tensor, tuple[int, ...]]:
    """Predict and measure a part of a batch.

    Returns:
        the means over the part of all processes, the loss of this process's own, and the shape of all images together.
    """
    batch = both_views(part.batch) if training.config.pairs and learn else part.batch
    batch["watermarked"] = batch["watermarked"].contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(learn), training.group.counting(part):
        parts = training.predict(batch["watermarked"])
        image, mask_logits = parts[:2]
        loss, terms = training.objective(image, mask_logits, batch)
        mark_term, gate_term = training.mark_term(parts, batch), training.gate_term(parts, batch)
    means = _measure(image.detach(), loss.detach(), terms, batch, training.config.target)
    if parts.alpha is not None:
        means["term_mark"] = mark_term.item()
    if parts.gates is not None:
        means["term_gates"] = gate_term.item()
    views = len(batch["watermarked"]) // len(part.batch["watermarked"])
    return training.group.means(means, part), loss + mark_term + gate_term, (views * part.together, *image.shape[1:])


def _mean_of(means: list[dict[str, float]], parts: list[Part]) -> dict[str, float]:
    """The means over a batch, from those over its parts; the gradient's norm is that of the last, where all are added."""
    if len(means) == 1:
        return means[0]
    whole = sum(part.together for part in parts)
    mean = {
        name: sum(p.together * each[name] for p, each in zip(parts, means, strict=True)) / whole for name in means[0]
    }
    return means[-1] | mean


def both_views(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of twice the size: each of the two marked views is once the input and once the reference."""
    other = {
        "watermarked": "reference",
        "reference": "watermarked",
        "mask": "reference_mask",
        "alpha": "reference_alpha",
        "colour": "reference_colour",
        "plain": "reference_plain",
    }
    other |= {theirs: ours for ours, theirs in other.items()}
    return {name: torch.cat([x, batch[other.get(name, name)]]) for name, x in batch.items()}


@torch.no_grad()
def _measure(
    image: Tensor, loss: Tensor, terms: dict[str, Tensor], batch: dict[str, Tensor], target: str
) -> dict[str, float]:
    """The means of a batch, brought from the device in one transfer."""
    means = {
        "loss": loss,
        "psnr": psnr(image, batch["clean"]).clamp_max(PSNR_CAP).mean(),
        "ssim": ssim(image, batch["clean"]).mean(),
        "psnr_target": psnr(image, batch[target]).clamp_max(PSNR_CAP).mean(),
    } | {f"term_{name}": term for name, term in terms.items()}
    return dict(zip(means, torch.stack([value.float() for value in means.values()]).tolist(), strict=True))


def _check_gradient(training: Training, means: dict[str, float], place: str) -> None:
    """Check the gradient's norm. A scaler skips a step whose gradient overflows, and lowers its scale."""
    if not training.scaler.is_enabled():
        _check_finite(means, place)
    elif not math.isfinite(means["grad_norm"]):
        scale = training.scaler.get_scale()
        if scale < LEAST_SCALE:
            raise NonFiniteLossError(
                f"{place}: the gradient overflows at every scale in float16; set amp='off' or 'bf16'"
            )
        logger.warning(f"{place}: the gradient overflowed in float16; the step is skipped, the scale is now {scale:g}.")


def _check_finite(means: dict[str, float], place: str) -> None:
    bad = [name for name in ("loss", "grad_norm") if not math.isfinite(means.get(name, 0.0))]
    if bad:
        values = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name.startswith("term_"))
        raise NonFiniteLossError(
            f"{place}: the {bad[0].replace('_', ' ')} is {means[bad[0]]} ({values}); "
            "lower the learning rate or set amp='off'"
        )

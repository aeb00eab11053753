"""Train a network: passes over the loaders, warm-up and main epochs, the best or the last model, resuming, stopping early."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from wmremoval.config import TrainConfig, crop_sides, drop_factor
from wmremoval.files import write_json
from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.model import HeterogeneousUNet
from wmremoval.training.checkpoints import BEST_MODEL, load_state, load_weights, remove_state, save_best, save_state
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)


SAVE_SECONDS = 180  # between saves of the state within an epoch: what an interruption costs at most
# Dense half-precision TFLOP/s, without sparsity, of NVIDIA's data sheets; the longest name that fits counts.
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "T4": 65.0,
    "V100": 125.0,
}


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


@dataclass
class TrainResult:
    """What a run leaves in memory; everything in it is also in the run's folder."""

    folder: Path
    history: list[dict] = field(default_factory=list)  # a row a main epoch; epoch 0: the weights it began from
    warmup_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0  # whose weights are kept; 0: those it began from
    best_loss: float = math.inf
    seconds: float = 0.0  # over all sittings of a resumed run
    underway: Progress = field(default_factory=Progress)  # of the epoch under way
    stopped: str = "finished"  # or "early", "interrupted"
    read_back: bool = False  # read from its folder instead of trained here

    @property
    def epochs(self) -> int:
        """Main epochs that are done."""
        return self.history[-1]["epoch"] if self.history else 0


def fit(training: Training, loaders: dict[str, DataLoader], folder: str | Path, resume: bool = False) -> TrainResult:
    """Train from the start, or from a run's last saved state, and keep the model of the least validation loss, or the last.

    Where training begins from trained weights, they are validated first: if no epoch is better, they are kept.

    Leaves `wm_best_model.pth` (weights and config, for `load_model`), the same weights as safetensors, and
    until it has finished `training_state.pt`, saved after every epoch and every three minutes of one, from which it
    resumes exactly. Interrupting keeps what was trained.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ValueError: nothing to resume from.
    """
    training.reset()
    result = TrainResult(Path(folder))
    if resume:
        load_state(training, result)
        if result.underway.steps:
            logger.info(
                f"Going on within an epoch, after {result.underway.steps} of its {training.steps_per_epoch} steps."
            )
    config, keeper = training.config, Keeper(training, result)
    try:
        if config.start != "scratch" and config.keep == "best" and not result.history:
            _score_start(training, result, loaders["val"])
        for epoch in range(len(result.warmup_losses) + 1, config.warmup_epochs + 1):
            means = _train(keeper, loaders["train"], f"Warmup Epoch {epoch}", epoch - 1, training.warmup_optimizer)
            result.warmup_losses.append(means["loss"])
            logger.info(f"Warmup Epoch {epoch} | Loss: {means['loss']:.5f}")
            keeper.save_epoch()
        for epoch in range(result.epochs + 1, config.epochs + 1):
            if result.epochs - result.best_epoch >= config.early_stop_patience:
                result.stopped = "early"
                logger.info(f"Stopping early: no better validation loss for {config.early_stop_patience} epochs.")
                break
            _main_epoch(keeper, loaders, epoch)
            keeper.save_epoch()
            write_json(result.folder / "training_history.json", result.history)  # to watch a long run by
    except KeyboardInterrupt:
        result.stopped = "interrupted"
        logger.info(f"Interrupted after {result.epochs} epochs; what was trained is kept in {result.folder.name}.")
    result.seconds = keeper.seconds()
    logger.info(f"Training Time Elapsed: {result.seconds / 60:.2f} Minutes")
    if not (result.folder / BEST_MODEL).exists():
        save_best(training, result)  # interrupted before the first validation: the last weights are the best there are
    if result.stopped != "interrupted":
        remove_state(result.folder)
    load_weights(training.net, result.folder / BEST_MODEL)
    return result


def _score_start(training: Training, result: TrainResult, loader: DataLoader) -> None:
    """Validate and keep the weights that training begins from, as epoch 0."""
    val = run_epoch(training, loader, "Start")
    result.history.append({"epoch": 0} | _validation(val))
    result.best_loss = val["loss"]
    save_best(training, result)
    logger.info(f"Start: Val Loss={val['loss']:.4f}, Val PSNR={val['psnr']:.2f}, Val SSIM={val['ssim']:.4f}")


def _validation(means: dict[str, float]) -> dict[str, float]:
    """The validation part of a row of the history."""
    return {f"val_{name}": means[name] for name in ("loss", "psnr", "ssim", "psnr_target")}


class Keeper:
    """Saves the state of a run, and knows how long it has been trained."""

    def __init__(self, training: Training, result: TrainResult):
        self.training, self.result = training, result
        self.saved = time.monotonic()
        self.began = self.saved - result.seconds

    def seconds(self) -> float:
        """Since the run began, over all its sittings."""
        return time.monotonic() - self.began

    def save(self) -> None:
        """Save the state as it is, which must be between two steps."""
        self.result.seconds = self.seconds()
        save_state(self.training, self.result)
        self.saved = time.monotonic()

    def save_epoch(self) -> None:
        """Save the state at the end of an epoch."""
        self.result.underway = Progress()
        self.save()

    def save_if_due(self) -> None:
        """Save the state within an epoch if `SAVE_SECONDS` have gone by since the last save."""
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save()


def _train(keeper: Keeper, loader: DataLoader, label: str, data_epoch: int, optimizer, main_epoch=None):
    """The training pass of an epoch, from as far as it has come already; see `run_epoch`."""
    underway = keeper.result.underway
    return run_epoch(keeper.training, loader, label, data_epoch, optimizer, main_epoch, underway, keeper.save_if_due)


def _main_epoch(keeper: Keeper, loaders: dict[str, DataLoader], epoch: int) -> None:
    training, result, config, started = keeper.training, keeper.result, keeper.training.config, time.monotonic()
    started -= result.underway.seconds
    label = f"Epoch {epoch}"
    train = _train(keeper, loaders["train"], label, config.warmup_epochs + epoch - 1, training.optimizer, epoch)
    val = run_epoch(training, loaders["val"], f"{label} val")
    row = {"epoch": epoch} | {f"train_{name}": train[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    row |= _validation(val)
    row["lr"] = training.optimizer.param_groups[0]["lr"]
    row |= {name: value for name, value in train.items() if name.startswith("term_")}
    row |= {name: train[name] for name in ("grad_norm", "images_per_second", "data_share")}
    row |= throughput(config, training.device, train["images_per_second"])
    row["seconds"] = time.monotonic() - started
    result.history.append(row)
    logger.info(
        f"Epoch {epoch}: Train Loss={row['train_loss']:.4f}, Train PSNR={row['train_psnr']:.2f}, "
        f"Train SSIM={row['train_ssim']:.4f} , Val Loss={row['val_loss']:.4f}, Val PSNR={row['val_psnr']:.2f}, "
        f"Val SSIM={row['val_ssim']:.4f}, LR={row['lr']:.6f}"
    )
    if epoch == config.lr_drop_epoch and epoch < config.epochs:
        logger.info(f"Lowering learning rate by {1 / config.lr_drop_factor:g}x for fine-tuning phase.")
    if row["val_loss"] < result.best_loss or config.keep == "last":
        result.best_epoch, result.best_loss = epoch, row["val_loss"]
        save_best(training, result)


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
        "plain": "reference_plain",
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


@cache
def training_flops(composite: bool, decompose: bool, image_size: int) -> int:
    """Floating-point operations of the network's forward and backward pass over one image; a multiply-add is two.

    Losses are not counted, so that it is the model's share (MFU: PaLM, arXiv 2204.02311, appendix B).
    """
    with torch.device("meta"):  # shapes only: nothing is computed
        net = HeterogeneousUNet(composite, decompose)
        image = torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        parts = net.parts(image)
        sum(part.sum() for part in parts if part is not None).backward()
    return counter.get_total_flops()


def peak_tflops(name: str) -> float | None:
    """The half-precision peak of a GPU by its name, TFLOP/s; None of one that is not in `PEAK_TFLOPS`.

    Example:
        >>> peak_tflops("NVIDIA H100 PCIe"), peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("unheard of")
        (756.0, 989.0, None)
    """
    words = f" {name.replace('-', ' ')} "
    fitting = [known for known in PEAK_TFLOPS if f" {known} " in words]
    return PEAK_TFLOPS[max(fitting, key=len)] if fitting else None


def throughput(config: TrainConfig, device: torch.device, images_per_second: float) -> dict[str, float]:
    """What a speed in images a second means: `tflops`, and `peak_share` where the device's peak is known."""
    sides = crop_sides(config)  # each as often as the others
    flops = sum(training_flops(config.composite, config.decompose, side) for side in sides) / len(sides)
    achieved = {"tflops": images_per_second * flops / 1e12}
    peak = peak_tflops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return achieved | ({"peak_share": achieved["tflops"] / peak} if peak else {})

"""Train a network: passes over the loaders as a schedule gives them, the best or the last model, resuming, stopping early."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from wmremoval.config import TrainConfig
from wmremoval.files import write_json
from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.model import HeterogeneousUNet
from wmremoval.training.checkpoints import BEST_MODEL, load_state, load_weights, remove_state, save_best, save_state
from wmremoval.training.compiling import FasterWay
from wmremoval.training.evaluate import score_kinds
from wmremoval.training.schedule import Pass
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)


SAVE_SECONDS = 180  # between saves of the state within a pass: what an interruption costs at most
VALIDATION_SECONDS = (
    20  # since the last save, after which it is saved before a validation, which is not broken off to save
)
STATISTICS_BATCHES = 100  # training batches over which BatchNorm statistics of averaged weights are computed again
VIEW = 256  # pixels; side of the views that `views` counts, whatever the sides of the crops
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
    """How far a pass over a loader has come, and what was measured since the last row of the history."""

    steps: int = 0  # batches done of the pass
    samples: int = 0  # of the loader in those
    stage: int = 0  # of the crops of the pass, one of `crop_stages`
    sums: dict[str, float] = field(default_factory=dict)  # over images, by name of what is measured
    counts: dict[str, int] = field(default_factory=dict)  # images in each sum
    shown: dict[int, int] = field(default_factory=dict)  # images by the square root of their pixels
    seconds: float = 0.0  # over all sittings
    waited: float = 0.0  # seconds of those in which no data was there

    def add(self, means: dict[str, float], shape: tuple[int, ...]) -> None:
        """Count a batch of (B, C, H, W) images in."""
        images, side = shape[0], round(math.sqrt(shape[-2] * shape[-1]))
        self.shown[side] = self.shown.get(side, 0) + images
        for name, value in means.items():
            if math.isfinite(value):  # all but the norm of a step that the scaler skipped
                self.sums[name] = self.sums.get(name, 0.0) + images * value
                self.counts[name] = self.counts.get(name, 0) + images

    def means(self) -> dict[str, float]:
        """Of what was counted in, with the images a second and the share of the time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        speed = {"images_per_second": self.counts["loss"] / seconds, "data_share": self.waited / seconds}
        return {name: total / self.counts[name] for name, total in self.sums.items()} | speed

    def views(self) -> float:
        """What was counted in, in views of `VIEW` x `VIEW` pixels."""
        return sum(images * side**2 for side, images in self.shown.items()) / VIEW**2


@dataclass
class TrainResult:
    """What a run leaves in memory; everything in it is also in the run's folder."""

    folder: Path
    history: list[dict] = field(
        default_factory=list
    )  # a row a main epoch, or a validation by the clock; epoch 0: the start
    warmup_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0  # whose weights are kept; 0: those it began from
    best_loss: float = math.inf
    seconds: float = 0.0  # over all sittings of a resumed run
    underway: Progress = field(default_factory=Progress)  # of the pass under way
    stopped: str = "finished"  # or "early", "interrupted"
    read_back: bool = False  # read from its folder instead of trained here
    passes: int = 0  # over the training samples that are done
    views: float = 0.0  # of `VIEW` x `VIEW` pixels that the rows of the history were trained on
    best_score: float = -math.inf  # `kinds_score` of the weights that are kept, where there is a table by kind

    @property
    def epochs(self) -> int:
        """Main epochs that are done."""
        return self.history[-1]["epoch"] if self.history else 0


def fit(
    training: Training,
    loaders: dict[str, DataLoader],
    folder: str | Path,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    cool_down: bool = False,
) -> TrainResult:
    """Train from the start, or from a run's last saved state, and keep the best model by validation, or the last.

    Where training begins from trained weights, they are validated first: if no epoch is better, they are kept.

    Leaves `wm_best_model.pth` (weights and config, for `load_model`), the same weights as safetensors, and
    until it has finished `training_state.pt`, saved after every row of the history and every three minutes, from which
    it resumes exactly. Interrupting keeps what was trained.

    Args:
        training: what is trained, with its schedule.
        loaders: "train" and "val", and with "kinds" a table by kind of mark decides which weights are better.
        folder: of the run.
        resume: go on from the state in the folder.
        stop: is asked after every step; once it says True the state is saved and the run ends as if interrupted.
        cool_down: of a run that is resumed, see `ClockSchedule.cool_down`.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ValueError: nothing to resume from, or to cool down.
    """
    training.reset()
    result = TrainResult(Path(folder))
    if resume:
        load_state(training, result)
        if result.underway.steps:
            logger.info(f"Going on within an epoch, after {result.underway.steps} of its steps.")
    keeper = Keeper(training, result, stop)
    if cool_down:
        training.schedule.cool_down()
        keeper.save()  # so that another interruption does not take it back
    try:
        if training.config.start != "scratch" and training.config.keep == "best" and not result.history:
            _score_start(keeper, loaders)
        while (part := training.schedule.next_pass(result)) is not None:
            _one_pass(keeper, loaders, part)
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


class Keeper:
    """Saves the state of a run, tells its schedule what was spent, and knows how long it has been trained."""

    def __init__(self, training: Training, result: TrainResult, stop: Callable[[], bool] = lambda: False):
        self.training, self.result, self.stop = training, result, stop
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

    def save_if_due(self, seconds: float) -> None:
        """Save the state within a pass if so many seconds, `SAVE_SECONDS` at most, have gone by since the last save."""
        if time.monotonic() - self.saved >= min(seconds, SAVE_SECONDS):
            self.save()

    def after_step(self, seconds: float) -> bool:
        """Spend a training step and save if it is due; gives whether the time of the run is over.

        Raises:
            KeyboardInterrupt: `stop` says so; the state is saved.
        """
        training = self.training
        training.schedule.after_step(seconds)
        if isinstance(training.forward, FasterWay):
            training.forward.step_took(seconds)
        if self.stop():
            self.save()
            raise KeyboardInterrupt
        self.save_if_due(SAVE_SECONDS)
        return training.schedule.over

    def after_validation_step(self, seconds: float) -> bool:
        """Spend a batch of validation; never gives that the pass is over.

        Raises:
            KeyboardInterrupt: `stop` says so; what was done since the last save, shortly before, is done again.
        """
        self.training.schedule.spend(seconds)
        if self.stop():
            raise KeyboardInterrupt
        return False


def _score_start(keeper: Keeper, loaders: dict[str, DataLoader]) -> None:
    """Validate and keep the weights that training begins from, as epoch 0."""
    training, result = keeper.training, keeper.result
    row = {"epoch": 0} | _validate(keeper, loaders, "Start")
    result.history.append(row)
    result.best_loss, result.best_score = row["val_loss"], row.get("val_score", -math.inf)
    save_best(training, result)
    scores = f"Val Loss={row['val_loss']:.4f}, Val PSNR={row['val_psnr']:.2f}, Val SSIM={row['val_ssim']:.4f}"
    logger.info(f"Start: {scores}")
    _log_kinds(row)


def _validate(keeper: Keeper, loaders: dict[str, DataLoader], label: str) -> dict[str, float]:
    """The validation part of a row of the history: scores over "val" and, by the clock, the table by kind of mark."""
    training = keeper.training
    val = run_epoch(training, loaders["val"], label, after_step=keeper.after_validation_step)
    row = {f"val_{name}": val[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    if "kinds" in loaders:
        timed = _timed(keeper.after_validation_step)
        kinds = score_kinds(training.restore, loaders["kinds"], training.device, timed)
        row |= {f"val_{name}": value for name, value in kinds.items()}
    return row


def _one_pass(keeper: Keeper, loaders: dict[str, DataLoader], part: Pass) -> None:
    """A pass over the training samples from as far as it has come, and the row of the history that ends with it, if one does."""
    training, result, schedule = keeper.training, keeper.result, keeper.training.schedule
    progress = result.underway
    if schedule.over:  # a run broken off in its last validation
        means = progress.means()
    else:
        optimizer = getattr(training, part.optimizer)
        means = run_epoch(
            training, loaders["train"], part.label, part.data_epoch, optimizer, progress, keeper.after_step
        )
    if schedule.ends_row():
        keeper.save_if_due(VALIDATION_SECONDS)
        _end_row(keeper, loaders, part, means)
        result.underway = Progress()
    elif part.optimizer == "warmup_optimizer":
        result.warmup_losses.append(means["loss"])
        logger.info(f"{part.label} | Loss: {means['loss']:.5f}")
        result.underway = Progress()
    else:
        progress.steps = progress.samples = 0  # the next pass goes into the same row
    result.passes += 1
    if result.underway is not progress:
        keeper.save()
        if result.history:
            write_json(result.folder / "training_history.json", result.history)  # to watch a long run by


def _end_row(keeper: Keeper, loaders: dict[str, DataLoader], part: Pass, train: dict[str, float]) -> None:
    """Validate, add a row to the history, and keep the weights if they are better."""
    training, result, config, started = keeper.training, keeper.result, keeper.training.config, time.monotonic()
    started -= result.underway.seconds
    if training.averaged is not None:
        training.renew_statistics(_inputs(loaders["train"]), _timed(keeper.after_validation_step))
    validation = _validate(keeper, loaders, f"{part.label} val")
    row = training.schedule.about()
    row |= {f"train_{name}": train[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    row |= validation
    row["lr"] = training.optimizer.param_groups[0]["lr"]
    row |= {name: value for name, value in train.items() if name.startswith("term_")}
    row |= {name: train[name] for name in ("grad_norm", "images_per_second", "data_share")}
    row |= throughput(config, training.device, result.underway)
    row["views"] = result.views = result.views + result.underway.views()
    row["seconds"] = time.monotonic() - started
    result.history.append(row)
    _log(row)
    if _is_better(row, result, config):
        result.best_epoch, result.best_loss = row["epoch"], row["val_loss"]
        result.best_score = row.get("val_score", -math.inf)
        save_best(training, result)


def _is_better(row: dict, result: TrainResult, config: TrainConfig) -> bool:
    """Whether a row's weights are to be kept: by `kinds_score` where there is a table by kind, else by the validation loss."""
    if config.keep == "last":
        return True
    return row["val_score"] > result.best_score if "val_score" in row else row["val_loss"] < result.best_loss


def _log(row: dict) -> None:
    logger.info(
        f"Epoch {row['epoch']}: Train Loss={row['train_loss']:.4f}, Train PSNR={row['train_psnr']:.2f}, "
        f"Train SSIM={row['train_ssim']:.4f} , Val Loss={row['val_loss']:.4f}, Val PSNR={row['val_psnr']:.2f}, "
        f"Val SSIM={row['val_ssim']:.4f}, LR={row['lr']:.6f}"
    )
    _log_kinds(row)


def _log_kinds(row: dict) -> None:
    """Log the table by kind of a row that has one."""
    if "val_score" in row:
        kinds = [name[4:-4] for name in row if name.startswith("val_") and name.endswith("_iou")]
        table = ", ".join(f"{kind} {row[f'val_{kind}_iou']:.3f} / {row[f'val_{kind}_db']:+.2f} dB" for kind in kinds)
        logger.info(
            f"{row.get('minutes', 0.0):.1f} minutes, {row.get('views', 0.0):.0f} views, score {row['val_score']:.4f}: {table}"
        )


def _inputs(loader: DataLoader) -> Iterator[Tensor]:
    """The watermarked views of the first `STATISTICS_BATCHES` batches of the pass that was done last."""
    loader.dataset.skipped = 0
    return (batch["watermarked"] for batch in islice(loader, STATISTICS_BATCHES))


def _timed(after_step: Callable[[float], object]) -> Callable[[], None]:
    """A function that calls another with the seconds since its own last call, or since it was made."""
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        last, before = time.monotonic(), last
        after_step(last - before)

    return call


def run_epoch(
    training: Training,
    loader: DataLoader,
    label: str,
    data_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    progress: Progress | None = None,
    after_step: Callable[[float], bool] | None = None,
) -> dict[str, float]:
    """One pass over a loader: training with an optimiser, validation without.

    Args:
        training: what is trained or validated.
        loader: of batches of samples.
        label: of the progress bar and of errors.
        data_epoch: which variation of the samples.
        optimizer: takes the steps; None: validation.
        progress: kept up to date; not at 0 where a training pass that broke off goes on here.
        after_step: is called after every step with its seconds, waiting for data included; the pass ends where it gives
            True.

    Returns:
        means over images: loss, PSNR (dB) and SSIM against `clean`, PSNR against the target, each term of
        the loss as `term_<name>`; the mean gradient norm; images a second, and the share of the time spent waiting
        for data.

    Raises:
        NonFiniteLossError: names the epoch and the step.
    """
    progress = progress or Progress()
    dataset = loader.dataset
    dataset.epoch, dataset.skipped, dataset.stage = data_epoch, progress.samples, progress.stage
    training.net.train(optimizer is not None)
    training.kept.train(optimizer is not None)
    bar = tqdm(_batches(loader, progress), desc=label, leave=False, initial=progress.steps, total=len(loader))
    asked = time.monotonic()
    started = asked - progress.seconds
    for step, cpu_batch in enumerate(bar, start=progress.steps + 1):
        progress.waited += time.monotonic() - asked
        means, shape = _run_batch(training, cpu_batch, optimizer, f"{label}, step {step}")
        progress.add(means, shape)
        now = time.monotonic()
        progress.steps, progress.seconds = step, now - started
        progress.samples += len(cpu_batch["watermarked"])
        bar.set_postfix(loss=f"{progress.sums['loss'] / progress.counts['loss']:.4f}")
        if after_step is not None and after_step(now - asked):
            break
        asked = time.monotonic()
    return progress.means()


def _batches(loader: DataLoader, progress: Progress):
    """An iterator over a loader's batches. Making one draws from torch's generator, as it did when a pass began that goes on."""
    state = torch.get_rng_state()
    batches = iter(loader)
    if progress.steps:
        torch.set_rng_state(state)
    return batches


def _run_batch(training: Training, cpu_batch: dict, optimizer, place: str) -> tuple[dict[str, float], tuple[int, ...]]:
    """Restore and judge a batch and, with an optimiser, take a step: its means, and the shape of its images."""
    batch = {name: x.to(training.device, non_blocking=True) for name, x in cpu_batch.items()}
    if training.config.pairs and optimizer is not None:
        batch = both_views(batch)
    batch["watermarked"] = batch["watermarked"].contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(optimizer is not None):
        parts = training.restore(batch["watermarked"])
        image, mask_logits = parts[:2]
        loss, terms = training.objective(image, mask_logits, batch)
        mark_term, gate_term = training.mark_term(parts, batch), training.gate_term(parts, batch)
    means = _measure(image.detach(), loss.detach(), terms, batch, training.config.target)
    if parts.alpha is not None:
        means["term_mark"] = mark_term.item()
    if parts.gates is not None:
        means["term_gates"] = gate_term.item()
    _check_finite(means, place)
    if optimizer is not None:
        means["grad_norm"] = training.step(loss + mark_term + gate_term, optimizer)
        if not training.scaler.is_enabled():  # a scaler skips such a step and lowers its scale
            _check_finite(means, place)
    return means, tuple(image.shape)


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


def throughput(config: TrainConfig, device: torch.device, progress: Progress) -> dict[str, float]:
    """What a speed means: `tflops`, TFLOP/s of the network, and `peak_share` where the device's peak is known."""
    flops = sum(
        images * training_flops(config.composite, config.decompose, side) for side, images in progress.shown.items()
    )
    achieved = {"tflops": flops / max(progress.seconds, 1e-9) / 1e12}
    peak = peak_tflops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return achieved | ({"peak_share": achieved["tflops"] / peak} if peak else {})

"""`fit`: train a network by its schedule, validate it, keep the best or the last weights, and resume a run."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from wmremoval.config import TrainConfig
from wmremoval.files import remove_leftovers, write_json
from wmremoval.training.checkpoints import BEST_MODEL, load_state, load_weights, remove_state, save_best, save_state
from wmremoval.training.compiling import CompileTrial
from wmremoval.training.evaluate import score_kinds
from wmremoval.training.passes import Progress, loading_in_one_line, run_epoch
from wmremoval.training.schedule import Pass
from wmremoval.training.throughput import throughput
from wmremoval.training.trainer import Training

logger = logging.getLogger(__name__)


# Chosen and not measured.
SAVE_SECONDS = 180  # seconds between saves of the state within a pass; an interruption loses at most this much work
VALIDATION_SECONDS = 20  # seconds; an older state is saved before a validation, since none is saved during it
STATISTICS_BATCHES = 100  # training batches for the BatchNorm statistics of averaged weights


Watch = Callable[["TrainResult"], bool]


@dataclass
class TrainResult:
    """The result of a run in memory; the run's folder holds all of it too."""

    folder: Path
    # A row for each main epoch, or for each validation by the clock; epoch 0 is that of trained weights at the start.
    history: list[dict] = field(default_factory=list)
    warmup_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0  # epoch of the kept weights; 0: those at the start
    best_loss: float = math.inf
    seconds: float = 0.0  # duration, interruptions left out
    underway: Progress = field(default_factory=Progress)  # of the current pass
    stopped: str = "finished"  # reason of the end: "finished", "early" or "interrupted"
    read_back: bool = False  # True: read from the run's folder instead of trained here
    passes: int = 0  # finished passes over the training samples
    views: float = 0.0  # views trained on up to the last row of the history; see `Progress.views`
    best_score: float = -math.inf  # `kinds_score` of the kept weights, where validation has a table by kind

    @property
    def epochs(self) -> int:
        """The number of finished main epochs, or of rows by the clock."""
        return self.history[-1]["epoch"] if self.history else 0


def fit(
    training: Training,
    loaders: dict[str, DataLoader],
    folder: str | Path,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    cool_down: bool = False,
    watch: Watch = lambda result: False,
) -> TrainResult:
    """Train from the start, or from a run's last saved state, and keep the best weights by validation, or the last.

    Trained weights at the start are validated first, and stay if no epoch is better.

    The folder then holds `wm_best_model.pth` (weights and config, for `load_model`) and the same weights as safetensors.
    Until the run has finished it also holds `training_state.pt`, saved after every row of the history and every
    `SAVE_SECONDS`. A run resumes from it exactly. An interrupted run keeps its weights.

    Args:
        training: network, loss and schedule.
        loaders: "train", "val" and optionally "kinds", whose table by kind of mark then decides which weights are better.
        folder: of the run.
        resume: True: go on from the state in the folder.
        stop: called after every step. True saves the state and ends the run as if it were interrupted.
        cool_down: True: start the cooldown of a resumed run, see `ClockSchedule.cool_down`.
        watch: called with the result after every step and every row of the history. Gives True if it shows the rows itself;
            otherwise they are logged.

    Returns:
        the result; `training.net` has the kept weights.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ValueError: no state to resume from, or no cooldown to start.
    """
    training.reset()
    result = TrainResult(Path(folder))
    if resume:
        load_state(training, result)
        training.group.wait()  # nobody writes before all have read
        if result.underway.steps:
            logger.info(f"Going on within an epoch, after {result.underway.steps} of its steps.")
    books = Bookkeeper(training, result, stop, watch)
    if cool_down:
        training.schedule.cool_down()
        books.save()  # an interruption must not undo it
    try:
        if training.config.start != "scratch" and training.config.keep == "best" and not result.history:
            _score_start(books, loaders)
        while (part := training.schedule.next_pass(result)) is not None:
            _one_pass(books, loaders, part)
    except KeyboardInterrupt:
        result.stopped = "interrupted"
        logger.info(f"Interrupted after {result.epochs} epochs; its weights are kept in {result.folder.name}.")
    result.seconds = books.seconds()
    logger.info(f"Training Time Elapsed: {result.seconds / 60:.2f} Minutes")
    books.close()
    load_weights(training.net, result.folder / BEST_MODEL)
    return result


class Bookkeeper:
    """The bookkeeping of a run: its duration, the time counted by its schedule, and everything that is written.

    Of several processes the first writes, and its clock counts.
    """

    def __init__(
        self,
        training: Training,
        result: TrainResult,
        stop: Callable[[], bool] = lambda: False,
        watch: Watch = lambda result: False,
    ):
        self.training, self.result, self.stop, self.watch = training, result, stop, watch
        self.writes = training.group.leads
        if self.writes:
            remove_leftovers(result.folder)  # of a process that was killed while it saved
        self.saved = time.monotonic()
        self.began = self.saved - result.seconds

    def seconds(self) -> float:
        """The duration of the run, interruptions left out."""
        return time.monotonic() - self.began

    def save(self) -> None:
        """Save the state; between two steps only."""
        self.result.seconds = self.seconds()
        if self.writes:
            save_state(self.training, self.result)
        self.saved = time.monotonic()

    def keep(self) -> None:
        """Keep the weights there are as the best."""
        if self.writes:
            save_best(self.training, self.result)

    def show_history(self) -> None:
        """Write the history there is, for watching a long run."""
        if self.writes and self.result.history:
            write_json(self.result.folder / "training_history.json", self.result.history)

    def close(self) -> None:
        """End the run: its folder has the kept weights, and no state if it has finished. All processes end together."""
        folder = self.result.folder
        if self.writes and not (folder / BEST_MODEL).exists():
            save_best(self.training, self.result)  # interrupted before the first validation: there are only the last
        if self.writes and self.result.stopped != "interrupted":
            remove_state(folder)
        self.training.group.wait()

    def save_if_due(self, seconds: float) -> None:
        """Save the state if the last save is at least `seconds` ago, or `SAVE_SECONDS` if that is less."""
        if time.monotonic() - self.saved >= min(seconds, SAVE_SECONDS):
            self.save()

    def after_step(self, seconds: float) -> bool:
        """Count a training step in the schedule, and save if it is due; True once the time of the run is over.

        Raises:
            KeyboardInterrupt: `stop` gave True; the state is saved.
        """
        training = self.training
        seconds, stop = training.group.agree(seconds, self.stop())
        training.schedule.after_step(seconds)
        if isinstance(training.forward, CompileTrial):
            training.forward.step_took(seconds)
        self.watch(self.result)
        if stop:
            self.save()
            raise KeyboardInterrupt
        self.save_if_due(SAVE_SECONDS)
        return training.schedule.over

    def after_validation_step(self, seconds: float) -> bool:
        """Count a batch of validation in the schedule; always False, since no time limit ends a validation.

        Raises:
            KeyboardInterrupt: `stop` gave True. The resumed run goes on from the save shortly before the validation.
        """
        seconds, stop = self.training.group.agree(seconds, self.stop())
        self.training.schedule.spend(seconds)
        if stop:
            raise KeyboardInterrupt
        return False


def _score_start(books: Bookkeeper, loaders: dict[str, DataLoader]) -> None:
    """Validate and keep the trained weights at the start, as epoch 0."""
    training, result = books.training, books.result
    validation = _validate(books, loaders, "Start")
    row = training.group.from_lead(lambda: {"epoch": 0} | validation)
    result.history.append(row)
    result.best_loss, result.best_score = row["val_loss"], row.get("val_score", -math.inf)
    books.keep()
    if not books.watch(result):
        scores = f"Val Loss={row['val_loss']:.4f}, Val PSNR={row['val_psnr']:.2f}, Val SSIM={row['val_ssim']:.4f}"
        logger.info(f"Start: {scores}")
        _log_kinds(row)


@loading_in_one_line()  # PyTorch tells of a dead loader process wherever the program is, in a save or a validation too
def _one_pass(books: Bookkeeper, loaders: dict[str, DataLoader], part: Pass) -> None:
    """Run or continue a pass over the training samples, and add the row of the history that is due after it, if any."""
    training, result, schedule = books.training, books.result, books.training.schedule
    progress = result.underway
    if schedule.over:  # the run was interrupted in its last validation
        means = progress.means()
    else:
        optimizer = getattr(training, part.optimizer)
        means = run_epoch(
            training, loaders["train"], part.label, part.data_epoch, optimizer, progress, books.after_step
        )
    if schedule.ends_row():
        books.save_if_due(VALIDATION_SECONDS)
        _end_row(books, loaders, part, means)
        result.underway = Progress()
    elif part.optimizer == "warmup_optimizer":
        result.warmup_losses.append(means["loss"])
        logger.info(f"{part.label} | Loss: {means['loss']:.5f}")
        result.underway = Progress()
    else:
        progress.steps = progress.samples = 0  # the next pass counts for the same row
    result.passes += 1
    if result.underway is not progress:
        books.save()
        books.show_history()


def _end_row(books: Bookkeeper, loaders: dict[str, DataLoader], part: Pass, train: dict[str, float]) -> None:
    """Validate, add a row to the history, and keep the weights if they are better."""
    training, result, config = books.training, books.result, books.training.config
    started = time.monotonic() - result.underway.seconds
    if training.averaged is not None:
        training.renew_statistics(_inputs(loaders["train"]), _timed(books.after_validation_step))
    validation = _validate(books, loaders, f"{part.label} val")
    row = training.schedule.row_start()
    row |= {f"train_{name}": train[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    row |= validation
    row["lr"] = training.optimizer.param_groups[0]["lr"]
    row |= {name: value for name, value in train.items() if name.startswith("term_")}
    # No gradient's norm is finite if the scaler skipped every step.
    row |= {name: train[name] for name in ("grad_norm", "images_per_second", "data_share") if name in train}
    row |= throughput(config, training.device, result.underway, training.group.world)
    if result.underway.skipped:
        row["skipped_steps"] = result.underway.skipped
    row["views"] = result.views = result.views + result.underway.views()
    row["seconds"] = time.monotonic() - started
    row = training.group.from_lead(lambda: row)  # one row in all processes, since it decides when to stop
    result.history.append(row)
    if not books.watch(result):
        _log(row)
    if _is_better(row, result, config):
        result.best_epoch, result.best_loss = int(row["epoch"]), row["val_loss"]
        result.best_score = row.get("val_score", -math.inf)
        books.keep()


def _validate(books: Bookkeeper, loaders: dict[str, DataLoader], label: str) -> dict[str, float]:
    """The validation entries of a row of the history: scores over "val", and the table by kind if there is "kinds"."""
    training = books.training
    training.group.share_buffers(training.kept)
    val = run_epoch(training, loaders["val"], label, after_step=books.after_validation_step)
    row = {f"val_{name}": val[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    if "kinds" in loaders:
        timed = _timed(books.after_validation_step)
        kinds = score_kinds(training.predict, loaders["kinds"], training.device, timed, training.group.merged)
        row |= {f"val_{name}": value for name, value in kinds.items()}
    return row


def _is_better(row: dict, result: TrainResult, config: TrainConfig) -> bool:
    """True if the weights of a row are the ones to keep: by `kinds_score` if it has one, else by the validation loss."""
    if config.keep == "last":
        return True
    return row["val_score"] > result.best_score if "val_score" in row else row["val_loss"] < result.best_loss


def _log(row: dict) -> None:
    """Log the scores of a row."""
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
    """The watermarked views of the first `STATISTICS_BATCHES` batches of the last pass."""
    dataset: Any = loader.dataset  # a `WatermarkDataset`
    dataset.skipped = 0
    return (batch["watermarked"] for batch in islice(loader, STATISTICS_BATCHES))


def _timed(after_step: Callable[[float], object]) -> Callable[[], None]:
    """Wrap `after_step` in a function without arguments, which gives it the seconds since the previous call.

    For the first call these are the seconds since the wrapping.
    """
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        last, before = time.monotonic(), last
        after_step(last - before)

    return call

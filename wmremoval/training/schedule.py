"""When a run trains on what and at which rate, and when it ends: the document's cycle by epochs, or a clock of work done."""

import logging
import math
import statistics
from typing import NamedTuple

import torch

from wmremoval.config import GROWING, TrainConfig, drop_factor, learning_rates, onecycle

logger = logging.getLogger(__name__)

# Shares of the clock, chosen and not measured. A held rate with a short linear cooldown: see `clock_rate`.
WARM_UP = 0.01  # in which the rate rises from zero: 36 steps of an hour of steps of a second
COOLDOWN = 0.25  # at the end, in which it falls to zero
LARGE_CROPS = 1 / 3  # at the end, on the last stage of `crop_stages`
MOST_STEPS = 10.0  # median steps that a single duration counts as at most: a pause is longer, compiling seldom
RECENT = 101  # steps whose median that is


class Pass(NamedTuple):
    """A pass over the training samples."""

    label: str  # of its progress bar and of errors
    data_epoch: int  # which variation of the samples
    optimizer: str = "optimizer"  # which one of `Training`; "warmup_optimizer" in the document's warm-up
    stage: int = 0  # which of `crop_stages`


def clock_rate(share: float) -> float:
    """The share of the full rate after a share of the time: a line up over `WARM_UP`, held, a line to 0 over `COOLDOWN`.

    A held rate with a linear cooldown ends as low as a cosine does and may be broken off at any time (Haegele et al.
    2024, arXiv 2405.18392).

    Args:
        share: of the clock's time, 0 at the start and 1 at the end; beyond both the ends' rates.

    Example:
        >>> [round(clock_rate(share), 3) for share in (0.0, 0.005, 0.01, 0.5, 0.75, 0.875, 1.0)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return max(0.0, min(1.0, share / WARM_UP, (1.0 - share) / COOLDOWN))


def planned_rates(config: TrainConfig, steps_per_epoch: int, history: list[dict]) -> list[float]:
    """The rates a run plans, one for each row of its history by the clock, or for each main epoch."""
    if config.hours is None:
        return learning_rates(config, steps_per_epoch)
    return [config.learning_rate * clock_rate(row.get("share", 0.0)) for row in history]


class Clock:
    """Counts the time of work from its durations, so that a process that was paused or ended has spent none.

    Args:
        total: seconds there are to spend.
    """

    def __init__(self, total: float):
        self.total, self.seconds = total, 0.0
        self.recent: list[float] = []  # seconds of the last steps, uncapped

    @property
    def share(self) -> float:
        """Of the time that is spent, 0 to 1."""
        return min(1.0, self.seconds / self.total)

    def step(self, seconds: float) -> None:
        """Spend a training step."""
        self.recent = [*self.recent, seconds][-RECENT:]
        self.spend(seconds)

    def spend(self, seconds: float) -> None:
        """Spend any other work, such as a batch of validation; at most `MOST_STEPS` median steps."""
        most = MOST_STEPS * statistics.median(self.recent) if self.recent else math.inf
        self.seconds += min(seconds, most)


class EpochSchedule:
    """The document's: warm-up epochs with an optimiser of their own, then OneCycleLR by epochs with a drop.

    Args:
        config: epochs, rates and patience.
        optimizer: of the main phase, whose rate is set.
        steps_per_epoch: batches in the training loader.
    """

    over = False  # an epoch always ends

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
        self.config, self.optimizer = config, optimizer
        self.cycle = onecycle(optimizer, config, steps_per_epoch)
        self.epoch = 0  # of the main phase, from 1; 0 in the warm-up

    def next_pass(self, result) -> Pass | None:
        """The next epoch after what a `TrainResult` holds; None: there is none, and the result says why."""
        warm, self.epoch = len(result.warmup_losses), 0
        if warm < self.config.warmup_epochs:
            return Pass(f"Warmup Epoch {warm + 1}", warm, "warmup_optimizer")
        done = result.epochs
        if done >= self.config.epochs:
            return None
        if done - result.best_epoch >= self.config.early_stop_patience:
            result.stopped = "early"
            logger.info(f"Stopping early: no better validation loss for {self.config.early_stop_patience} epochs.")
            return None
        self.epoch = done + 1
        self._set_rate()  # the drop holds from the first batch of its epoch
        if self.config.lr_drop_epoch and done == self.config.lr_drop_epoch:
            logger.info(f"Lowering learning rate by {1 / self.config.lr_drop_factor:g}x for fine-tuning phase.")
        return Pass(f"Epoch {self.epoch}", self.config.warmup_epochs + done)

    def after_step(self, seconds: float) -> None:
        """Step the cycle in the main phase."""
        if self.epoch:
            self.cycle.step()
            self._set_rate()

    def spend(self, seconds: float) -> None:
        """Time is no matter here."""

    def ends_row(self) -> bool:
        """Whether the pass just done is followed by a validation and a row of the history: all but the warm-up are."""
        return bool(self.epoch)

    def about(self) -> dict[str, float]:
        """What a row of the history says of the schedule."""
        return {"epoch": self.epoch}

    def cool_down(self) -> None:
        """Not by epochs.

        Raises:
            ValueError: always.
        """
        raise ValueError("only a run with hours can be cooled down at once; this one ends by epochs")

    def state_dict(self) -> dict:
        """Plain values; the epoch follows from the result."""
        return self.cycle.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.cycle.load_state_dict(state)

    def _set_rate(self) -> None:
        """Give the optimiser the cycle's rate times the drop; the cycle itself writes its own rate at every step."""
        for group, rate in zip(self.optimizer.param_groups, self.cycle.get_last_lr(), strict=True):
            group["lr"] = rate * drop_factor(self.config, self.epoch)


class ClockSchedule:
    """A rate that follows a `Clock` by `clock_rate`: passes until the time is spent, validated every so often.

    Args:
        config: hours, the rate that is held, minutes between validations, growing crops.
        optimizer: whose rate is set.
    """

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer):
        self.config, self.optimizer = config, optimizer
        self.clock = Clock(3600.0 * config.hours)
        self.rows, self.validated = 0, 0.0  # rows of the history, and what the clock said at the last

    @property
    def over(self) -> bool:
        """Whether the time is spent."""
        return self.clock.share >= 1.0

    def next_pass(self, result) -> Pass | None:
        """The next pass after what a `TrainResult` holds; None: the time is spent and what was trained validated."""
        underway = result.underway
        if self.over and not underway.counts:
            return None
        self.rows = result.epochs
        self._set_rate()
        if not underway.samples:  # a pass that goes on keeps the stage it began in
            underway.stage = self.stage()
        return Pass(f"Pass {result.passes + 1}", result.passes, stage=underway.stage)

    def stage(self) -> int:
        """Which of `crop_stages` a pass that begins now is trained on."""
        return len(GROWING) - 1 if self.config.grow and self.clock.share >= 1.0 - LARGE_CROPS else 0

    def after_step(self, seconds: float) -> None:
        """Spend a training step and follow the clock."""
        self.clock.step(seconds)
        self._set_rate()

    def spend(self, seconds: float) -> None:
        """Spend a batch of validation."""
        self.clock.spend(seconds)

    def ends_row(self) -> bool:
        """Whether the pass just done is followed by a validation and a row of the history.

        Not shortly before the end, where the validation would spend what the rate needs to fall to zero.
        """
        clock, between = self.clock, 60.0 * self.config.validate_minutes
        return self.over or (clock.seconds - self.validated >= between and clock.total - clock.seconds >= between / 2)

    def about(self) -> dict[str, float]:
        """What a row of the history says of the schedule: its number, the minutes trained and their share of the time."""
        self.validated = self.clock.seconds
        return {"epoch": self.rows + 1, "minutes": self.clock.seconds / 60, "share": self.clock.share}

    def cool_down(self) -> None:
        """End with a third of the time spent so far, which makes the cooldown that begins now the last quarter.

        Raises:
            ValueError: the cooldown has begun already.
        """
        if self.clock.share > 1.0 - COOLDOWN:
            raise ValueError(f"the run is cooling down already, {self.clock.share:.0%} of its time is spent")
        self.clock.total = max(self.clock.seconds, 1.0) / (1.0 - COOLDOWN)

    def state_dict(self) -> dict:
        """Plain values."""
        return vars(self.clock) | {"validated": self.validated}

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        for name in vars(self.clock):
            setattr(self.clock, name, state[name])
        self.validated = state["validated"]

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * clock_rate(self.clock.share)


Schedule = EpochSchedule | ClockSchedule


def make_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Schedule:
    """By the clock where the settings give hours, else by epochs."""
    if config.hours is not None:
        return ClockSchedule(config, optimizer)
    return EpochSchedule(config, optimizer, steps_per_epoch)

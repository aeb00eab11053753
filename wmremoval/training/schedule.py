"""Schedules: passes, learning rates and the end of a run, by epochs as in the document, or by a clock of time worked."""

import logging
import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

import torch

from wmremoval.config import GROWING, TrainConfig, drop_factor, learning_rates, onecycle

if TYPE_CHECKING:  # the module imports this one
    from wmremoval.training.loop import TrainResult

logger = logging.getLogger(__name__)

# Shares of the clock's time, chosen and not measured; see `clock_rate`.
WARM_UP = 0.01  # share at the start in which the rate rises from zero: of an hour with steps of a second, 36 steps
COOLDOWN = 0.25  # share at the end in which the rate falls to zero
LARGE_CROPS = 1 / 3  # share at the end with crops of the last stage of `crop_stages`
# Chosen and not measured.
MOST_STEPS = 10.0  # median steps; largest duration that counts at once: a pause is longer, compiling seldom is
RECENT_STEPS = 101  # last steps over which the median is taken


class Pass(NamedTuple):
    """A pass over the training samples."""

    label: str  # for its progress bar and for errors
    data_epoch: int  # number of the epoch as a key of the samples
    optimizer: str = "optimizer"  # attribute of `Training`; "warmup_optimizer" in the document's warm-up
    stage: int = 0  # index into `crop_stages`


def clock_rate(share: float) -> float:
    """Factor on the learning rate: rises linearly over `WARM_UP`, is constant, falls linearly to 0 over `COOLDOWN`.

    A constant rate with a linear cooldown reaches the loss of a cosine and can be ended at any time (Haegele et al. 2024,
    arXiv 2405.18392).

    Args:
        share: of the clock's time, 0 at the start and 1 at the end.

    Returns:
        the factor, in [0, 1]; outside of [0, 1] that of the nearer end.

    Example:
        >>> [round(clock_rate(share), 3) for share in (0.0, 0.005, 0.01, 0.5, 0.75, 0.875, 1.0)]
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return max(0.0, min(1.0, share / WARM_UP, (1.0 - share) / COOLDOWN))


def planned_rates(config: TrainConfig, steps_per_epoch: int, history: list[dict]) -> list[float]:
    """The planned learning rates: one for each main epoch, or with `hours` one for each row of the history."""
    if config.hours is None:
        return learning_rates(config, steps_per_epoch)
    return [config.learning_rate * clock_rate(row.get("share", 0.0)) for row in history]


class Clock:
    """The time worked, as a sum of durations, so that pauses and interruptions do not count.

    Args:
        total: seconds in the budget.
    """

    def __init__(self, total: float):
        self.total, self.seconds = total, 0.0
        self.recent: list[float] = []  # seconds of the last steps, uncapped

    @property
    def share(self) -> float:
        """The spent share of the time, in [0, 1]."""
        return min(1.0, self.seconds / self.total)

    def step(self, seconds: float) -> None:
        """Count the duration of a training step."""
        self.recent = [*self.recent, seconds][-RECENT_STEPS:]
        self.spend(seconds)

    def spend(self, seconds: float) -> None:
        """Count the duration of other work, such as a batch of validation; at most `MOST_STEPS` median steps count."""
        cap = MOST_STEPS * statistics.median(self.recent) if self.recent else math.inf
        self.seconds += min(seconds, cap)


class EpochSchedule:
    """The document's schedule: warm-up epochs with an optimiser of their own, then OneCycleLR by epochs with a drop.

    Args:
        config: epochs, rates and patience.
        optimizer: of the main phase; the schedule sets its rate.
        steps_per_epoch: batches in the training loader.
    """

    over = False  # every epoch is trained to its end

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
        self.config, self.optimizer = config, optimizer
        self.cycle = onecycle(optimizer, config, steps_per_epoch)
        self.epoch = 0  # of the main phase, from 1; 0 in the warm-up

    def next_pass(self, result: "TrainResult") -> Pass | None:
        """The epoch after those of a `TrainResult`; None at the end of the run, whose reason the result then holds."""
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
        """Do nothing: time does not count by epochs."""

    def ends_row(self) -> bool:
        """True if a validation and a row of the history follow the pass: after every epoch but those of the warm-up."""
        return bool(self.epoch)

    def share_done(self, result: "TrainResult", steps_per_epoch: int) -> float:
        """The share of the planned steps that a `TrainResult` has behind it, in [0, 1]."""
        passes = result.passes + result.underway.steps / steps_per_epoch
        return min(1.0, passes / (self.config.warmup_epochs + self.config.epochs))

    def row_start(self) -> dict[str, float]:
        """The first entries of a row of the history: the epoch."""
        return {"epoch": self.epoch}

    def cool_down(self) -> None:
        """Refuse: a run by epochs has no cooldown.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "only a run with hours can be cooled down at once; this one ends by epochs; leave --cooldown-now out"
        )

    def state_dict(self) -> dict:
        """The state of the cycle, as plain values; the epoch follows from the result."""
        return self.cycle.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """The inverse of `state_dict`."""
        self.cycle.load_state_dict(state)

    def _set_rate(self) -> None:
        """Give the optimiser the cycle's rate times the drop; the cycle itself writes its own rate at every step."""
        for group, rate in zip(self.optimizer.param_groups, self.cycle.get_last_lr(), strict=True):
            group["lr"] = rate * drop_factor(self.config, self.epoch)


class ClockSchedule:
    """A schedule by a `Clock`: passes until the time is spent, with the rate of `clock_rate`.

    Args:
        config: hours, the constant rate, minutes between validations, growing crops.
        optimizer: the schedule sets its rate.
    """

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer):
        self.config, self.optimizer = config, optimizer
        assert config.hours is not None  # see `make_schedule`
        self.clock = Clock(3600.0 * config.hours)
        self.rows = 0  # rows of the history
        self.validated = 0.0  # seconds on the clock at the last row

    @property
    def over(self) -> bool:
        """True once the time is spent."""
        return self.clock.share >= 1.0

    def next_pass(self, result: "TrainResult") -> Pass | None:
        """The pass after those of a `TrainResult`; None once the time is spent and the last weights are validated."""
        underway = result.underway
        if self.over and not underway.counts:
            return None
        self.rows = result.epochs
        self._set_rate()
        if not underway.samples:  # an interrupted pass goes on in its stage
            underway.stage = self.stage()
        return Pass(f"Pass {result.passes + 1}", result.passes, stage=underway.stage)

    def stage(self) -> int:
        """Index into `crop_stages` of a pass that starts now."""
        return len(GROWING) - 1 if self.config.grow and self.clock.share >= 1.0 - LARGE_CROPS else 0

    def after_step(self, seconds: float) -> None:
        """Count a training step, and set the rate for the new time."""
        self.clock.step(seconds)
        self._set_rate()

    def spend(self, seconds: float) -> None:
        """Count a batch of validation."""
        self.clock.spend(seconds)

    def ends_row(self) -> bool:
        """True if a validation and a row of the history follow the pass.

        Shortly before the end there is none: it would take the time in which the rate falls to zero.
        """
        clock, between = self.clock, 60.0 * self.config.validate_minutes
        return self.over or (clock.seconds - self.validated >= between and clock.total - clock.seconds >= between / 2)

    def share_done(self, result: "TrainResult", steps_per_epoch: int) -> float:
        """The spent share of the time, in [0, 1]."""
        return self.clock.share

    def row_start(self) -> dict[str, float]:
        """The first entries of a row of the history: its number, the minutes trained, and their share of the time."""
        self.validated = self.clock.seconds
        return {"epoch": self.rows + 1, "minutes": self.clock.seconds / 60, "share": self.clock.share}

    def cool_down(self) -> None:
        """Start the cooldown now. It is the last quarter of the run: a third of the time spent so far.

        Raises:
            ValueError: the cooldown has started already.
        """
        if self.clock.share > 1.0 - COOLDOWN:
            raise ValueError(
                f"the run is cooling down already, {self.clock.share:.0%} of its time is spent; leave --cooldown-now out"
            )
        self.clock.total = max(self.clock.seconds, 1.0) / (1.0 - COOLDOWN)

    def state_dict(self) -> dict:
        """The state of clock and validation, as plain values."""
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
    """The schedule of a run: by the clock if the settings have `hours`, else by epochs."""
    if config.hours is not None:
        return ClockSchedule(config, optimizer)
    return EpochSchedule(config, optimizer, steps_per_epoch)

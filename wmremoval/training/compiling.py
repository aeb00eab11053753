"""`FasterWay`: the network eager and compiled, timed against each other in the first half minute of a run."""

import logging
import statistics
from collections.abc import Callable

logger = logging.getLogger(__name__)

TRIAL_SECONDS = 15.0  # of steps each way
TRIAL_STEPS = 11  # each way at least, so that the median is of steps and not of compilations


class FasterWay:
    """Calls the eager network for some steps, then the compiled one, and from then on the one whose median step was shorter.

    Args:
        eager: from a batch to its result.
        compiled: the same; an error of its compiler leaves the eager one.
    """

    def __init__(self, eager: Callable, compiled: Callable):
        self.ways = {"eager": eager, "compiled": compiled}
        self.seconds: dict[str, list[float]] = {name: [] for name in self.ways}
        self.chosen: str | None = None  # None during the trial

    @property
    def way(self) -> str:
        """The name of what the next call uses."""
        return self.chosen or next((name for name in self.ways if not self._tried(name)), "eager")

    def __call__(self, *args):
        if self.chosen is None and self.way == "compiled":
            try:
                return self.ways["compiled"](*args)
            except RuntimeError as error:  # what torch.compile raises where a compiler is missing or fails
                self.chosen = "eager"
                logger.info(f"Compiling failed ({type(error).__name__}); the network stays as it is.")
        return self.ways[self.way](*args)

    def step_took(self, seconds: float) -> None:
        """Count a training step to the trial, and end it when both ways have been tried."""
        if self.chosen is not None:
            return
        self.seconds[self.way].append(seconds)
        if all(map(self._tried, self.ways)):
            medians = {name: statistics.median(each) for name, each in self.seconds.items()}
            self.chosen = min(medians, key=medians.get)
            told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())
            logger.info(f"Compile auto: {told} a step; going on {self.chosen}.")

    def _tried(self, name: str) -> bool:
        return len(self.seconds[name]) >= TRIAL_STEPS and sum(self.seconds[name]) >= TRIAL_SECONDS

"""`CompileTrial`: the eager and the compiled network, timed against each other in the first half minute of a run."""

import logging
import statistics
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

# Length of the trial of each variant; the trial ends when both limits are reached. Chosen and not measured.
TRIAL_SECONDS = 15.0  # seconds of steps
TRIAL_STEPS = 11  # steps; so many that the few steps with a compilation do not decide the median


class CompileTrial:
    """Calls the eager network for some steps, then the compiled one, then the one with the shorter median step.

    Args:
        eager: a function from a batch to its result.
        compiled: the same function, compiled. After an error of the compiler, the eager one is used.
    """

    def __init__(self, eager: Callable, compiled: Callable):
        self.variants = {"eager": eager, "compiled": compiled}
        self.seconds: dict[str, list[float]] = {name: [] for name in self.variants}
        self.chosen: str | None = None  # None during the trial

    @property
    def current(self) -> str:
        """Name of the variant of the next call, "eager" or "compiled"."""
        return self.chosen or next((name for name in self.variants if not self._tried(name)), "eager")

    def __call__(self, *args: Any) -> Any:
        if self.chosen is None and self.current == "compiled":
            try:
                return self.variants["compiled"](*args)
            except RuntimeError as error:  # of torch.compile, if a compiler is missing or fails
                self.chosen = "eager"
                logger.info(f"Compiling failed ({type(error).__name__}); the network stays as it is.")
        return self.variants[self.current](*args)

    def step_took(self, seconds: float) -> None:
        """Add the duration of a training step to the trial, and end it once both variants have been tried."""
        if self.chosen is not None:
            return
        self.seconds[self.current].append(seconds)
        if all(map(self._tried, self.variants)):
            medians = {name: statistics.median(each) for name, each in self.seconds.items()}
            self.chosen = min(medians, key=lambda name: medians[name])
            times = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())
            logger.info(f"Compile auto: {times} a step; going on {self.chosen}.")

    def _tried(self, name: str) -> bool:
        return len(self.seconds[name]) >= TRIAL_STEPS and sum(self.seconds[name]) >= TRIAL_SECONDS

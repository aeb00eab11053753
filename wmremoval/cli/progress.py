"""The progress of a folder: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm.auto import tqdm

EVERY = 30.0  # seconds between two lines where no terminal shows a bar


class Progress:
    """Counts photographs that are done; used in a `with` statement.

    Args:
        total: number of photographs.
        label: before the bar and the lines.
        clock: gives seconds.
    """

    def __init__(self, total: int, label: str, clock: Callable[[], float] = time.monotonic):
        self._bar = tqdm(total=total, desc=label, unit="photo", disable=None)
        self._total, self._done, self._label, self._clock = total, 0, label, clock
        self._started = self._told = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def update(self) -> None:
        """One more is done."""
        self._bar.update()
        self._done += 1
        now = self._clock()
        if self._bar.disable and now - self._told >= EVERY and self._done < self._total:
            self._told = now
            left = (now - self._started) / self._done * (self._total - self._done)
            line = f"{self._label}: {self._done} of {self._total} photographs, about {duration(left)} left"
            print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time in the largest unit of which there are two or more.

    Example:
        >>> duration(45), duration(150), duration(7100), duration(20000)
        ('45 s', '2 min', '118 min', '6 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"

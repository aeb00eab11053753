"""The progress of many photographs by their pixels: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from tqdm.auto import tqdm

EVERY = 30.0  # seconds between two lines where no terminal shows a bar


class Progress:
    """Counts the pixels of photographs that are done; used in a `with` statement.

    Args:
        pixels: of each photograph in turn; what is expected is enough.
        label: before the bar and the lines.
        clock: gives seconds.
    """

    def __init__(self, pixels: Sequence[float], label: str, clock: Callable[[], float] = time.monotonic):
        # tqdm writes pixels as 1.50M; without a terminal it shows nothing.
        self._bar = tqdm(total=sum(pixels), desc=label, unit="pixel", unit_scale=True, disable=None)
        self._pixels, self._label, self._clock = pixels, label, clock
        self._total, self._done, self._count = sum(pixels), 0.0, 0
        self._started = self._told = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def update(self, worked: bool = True, number: int | None = None) -> None:
        """One more photograph is done.

        Args:
            worked: False for one that took no work, such as an unreadable file: its pixels leave the total.
            number: of the photograph, from 0; None: the next one.
        """
        pixels = self._pixels[self._count if number is None else number]
        self._count += 1
        if worked:
            self._done += pixels
            self._bar.update(pixels)
        else:
            self._bar.total = self._total = self._total - pixels
            self._bar.refresh()
        self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if not self._bar.disable or now - self._told < EVERY or not 0 < self._done < self._total:
            return
        self._told = now
        left = (now - self._started) / self._done * (self._total - self._done)
        line = (
            f"{self._label}: {self._done / 1e6:.0f} of {self._total / 1e6:.0f} megapixels, "
            f"{self._count} of {len(self._pixels)} photographs, about {duration(left)} left"
        )
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

"""The end of a run by a signal of any system."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDING = ("SIGTERM", "SIGHUP", "SIGBREAK")  # kill, a closed terminal, and Ctrl+Break of Windows; no system has all


@contextmanager
def requests_to_end(handle: Callable[..., Any], more: Sequence[str] = ()) -> Iterator[None]:
    """Call `handle` on every request to end the process, and on `more` signals; one that is ignored, as by `nohup`, stays so."""
    known = [getattr(signal, name) for name in (*ENDING, *more) if hasattr(signal, name)]
    previous = {number: signal.getsignal(number) for number in known}
    heard = [number for number in known if previous[number] is not signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, handle)
        yield
    finally:
        for number in heard:
            signal.signal(number, previous[number])


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let a request to end stop the run like Ctrl-C: the current file is either finished or not written at all."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with requests_to_end(interrupt):
        yield

"""Several processes of one run, as `torchrun` starts them, and the end of a run by a signal of any system."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

ENDING = ("SIGTERM", "SIGHUP", "SIGBREAK")  # kill, a closed terminal, and Ctrl+Break of Windows; no system has all


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and of all."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


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


@contextmanager
def process_group(world: int) -> Iterator[None]:
    """Connect the processes started by `torchrun`; they exchange data once, at the end."""
    if world == 1:
        yield
        return
    import torch.distributed as distributed

    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def gathered(part: Any, rank: int, world: int) -> list[Any]:
    """The parts of all processes on the first process; on every other its own."""
    if world == 1:
        return [part]
    import torch.distributed as distributed

    parts: list[Any] = [None] * world
    distributed.gather_object(part, parts if rank == 0 else None)
    return parts if rank == 0 else [part]


def wait_for_all(world: int) -> None:
    """Return when all processes have come here."""
    if world > 1:
        import torch.distributed as distributed

        distributed.barrier()

"""Several processes of one run, as `torchrun` starts them, and the end of a run by a signal."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any


def rank_and_world() -> tuple[int, int]:
    """The number of this process, and of all."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C: the current file is either finished or not written at all."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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

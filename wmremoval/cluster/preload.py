"""The first step of a worker that `crew` starts: Ctrl+C reaches it too, and is the business of the command alone."""

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Dask is an extra
    from distributed import Worker


def dask_setup(worker: "Worker") -> None:
    """Ignore interruptions; Dask calls this when the worker starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

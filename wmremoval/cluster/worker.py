"""The part of a run that a worker does: it loads the network at its first task, and keeps it for all others."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from wmremoval.batch.jobs import Job
from wmremoval.batch.run import Options, Outcome, result_folders
from wmremoval.batch.staged import restore
from wmremoval.cluster.setup import Setup
from wmremoval.files import remove_leftovers
from wmremoval.restore.remover import Remover

if TYPE_CHECKING:  # Dask is an extra
    from distributed import Worker, WorkerPlugin


@dataclass
class Run:
    """A run as a worker knows it. One photograph at a time: the threads of a worker that has several wait."""

    setup: Setup
    options: Options
    lock: threading.Lock = field(default_factory=threading.Lock)
    remover: Remover | None = None
    cleaned: set[Path] = field(default_factory=set)  # folders in which leftovers of killed workers were looked for

    def loaded(self) -> Remover:
        """The remover, loaded by the first call; the caller holds the lock."""
        if self.remover is None:
            take_threads()
            self.remover = self.setup.with_marks(self.setup.load())
        return self.remover

    def clean(self, jobs: Sequence[Job]) -> None:
        """Delete the temporary files of killed workers, once in each folder: it may hold a million files."""
        for folder in result_folders(jobs) - self.cleaned:
            remove_leftovers(folder)
            self.cleaned.add(folder)


RUNS: dict[str, Run] = {}  # of this process, by the names that their commands chose


def equipment(run: str, setup: Setup, options: Options) -> "WorkerPlugin":
    """A plugin by which each worker, a later one too, knows a run before its first task."""
    from distributed import WorkerPlugin

    class Equipment(WorkerPlugin):
        name = run

        def setup(self, worker: "Worker") -> None:
            from wmremoval.cluster.worker import RUNS, Run  # this class is sent by value, and has no globals

            RUNS[run] = Run(setup, options)

        def teardown(self, worker: "Worker") -> None:
            from wmremoval.cluster.worker import RUNS

            RUNS.pop(run, None)

    return Equipment()


def facts_of(run: str) -> dict[str, Any]:
    """The facts of the remover for a report.

    Raises:
        ValueError: no weights on this machine, wrong ones, or an unknown device.
    """
    with RUNS[run].lock:
        return RUNS[run].setup.facts(RUNS[run].loaded())


def restore_some(run: str, jobs: Sequence[Job]) -> list[Outcome]:
    """The outcomes of a few jobs, in their order."""
    with RUNS[run].lock:
        RUNS[run].clean(jobs)
        return list(restore(jobs, RUNS[run].loaded(), RUNS[run].options))


def take_threads() -> None:
    """Let PyTorch and OpenCV take OMP_NUM_THREADS threads, which Dask sets; the text detector reads it itself."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        torch.set_num_threads(int(threads))
        cv2.setNumThreads(int(threads))

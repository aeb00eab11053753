"""The workers of a run: processes started on this machine, or those of a Dask scheduler that is there already."""

import logging
import os
import signal
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from wmremoval.batch.jobs import Job
from wmremoval.batch.run import Options, Outcome, result_folders
from wmremoval.batch.staged import restore
from wmremoval.cluster.setup import Setup
from wmremoval.cluster.spread import spread
from wmremoval.cluster.worker import equipment, facts_of
from wmremoval.files import first_line, remove_leftovers
from wmremoval.restore.remover import Remover

if TYPE_CHECKING:  # Dask is an extra
    from distributed import Client

logger = logging.getLogger(__name__)

PATIENCE = 10  # seconds to wait for a scheduler, and for its first worker. Chosen, not measured.
WATCH = 60.0  # seconds between looks whether the scheduler still has a worker. Chosen, not measured.
LOGGERS = (
    "distributed",
    "distributed.client",
    "tornado",
    "tornado.application",
)  # of Dask; the command has its own lines


@dataclass
class Alone:
    """This process without any workers, for the same calls as a `Crew`; Dask is not needed."""

    remover: Remover
    facts: dict[str, Any]
    options: Options
    count: int = 1
    dashboard: str | None = None

    def restore(self, jobs: Sequence[Job]) -> Generator[tuple[int, Outcome], None, None]:
        """The number and the outcome of each job, in their order."""
        with closing(restore(jobs, self.remover, self.options)) as outcomes:
            yield from enumerate(outcomes)


@dataclass
class Crew:
    """Workers that know a run.

    Args:
        client: connects to them.
        run: the name of the run.
        options: settings of the run.
        facts: of the remover that they loaded, for the head of a report.
        count: number of workers at the start.
        dashboard: the address of Dask's page on the run; None where there is none.
        folders: of this machine, in which results are written.
    """

    client: "Client"
    run: str
    options: Options
    facts: dict[str, Any]
    count: int
    dashboard: str | None
    folders: set[Path]

    def restore(self, jobs: Sequence[Job]) -> Generator[tuple[int, Outcome], None, None]:
        """The number and the outcome of each job; see `spread`."""
        self.folders.update(result_folders(jobs))
        return spread(self.client, self.run, jobs, self.options)


@contextmanager
def crew(workers: int | None, scheduler: str | None, setup: Setup, options: Options) -> Iterator[Crew]:
    """Workers that have loaded the network; those started here are stopped at the end.

    Args:
        workers: number of processes to start on this machine, or None.
        scheduler: address of a Dask scheduler, if `workers` is None.
        setup: what each worker loads.
        options: settings of reading and writing.

    Raises:
        ValueError: a worker cannot load the network.
        OSError: no scheduler at the address, or one without workers.
    """
    import dask

    if dask.config.get("logging", None) is None:  # for a user who wants Dask's messages: DASK_LOGGING__DISTRIBUTED=info
        dask.config.set(logging=dict.fromkeys(LOGGERS, "critical"))  # read when Dask is imported
    from distributed import KilledWorker

    if setup.weights and os.path.exists(setup.weights):  # a worker may have another current folder
        setup = replace(setup, weights=str(Path(setup.weights).absolute()))
    run = f"wmremoval-{uuid.uuid4().hex[:8]}"
    folders: set[Path] = set()
    with ExitStack() as stack:
        stack.callback(_clean, folders)  # when the workers are stopped
        client = stack.enter_context(_started(workers) if workers else _found(scheduler or ""))
        stack.callback(_forget, client, run)
        try:
            _equip(client, run, setup, replace(options, overwrite=True, leftovers=False))
            facts = client.submit(facts_of, run, pure=False).result()
        except KilledWorker:
            raise ValueError("the worker died while it loaded the network; it needs more memory") from None
        yield Crew(client, run, options, facts, len(client.nthreads()), _dashboard(client), folders)


@contextmanager
def _started(workers: int) -> "Iterator[Client]":
    """The client of new processes on this machine, which share its cores and die with this process."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    threads = max(1, CPU_COUNT // workers)
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        threads = min(threads, int(os.environ["OMP_NUM_THREADS"]))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(names, threads),
        "distributed.scheduler.allowed-failures": 0,  # `spread` counts them itself
        "distributed.scheduler.worker-saturation": 1.0,  # no photograph waits at a worker that is busy
    }
    with dask.config.set(settings):
        with _deaf_to_interruptions():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # --max-memory is kept by the remover itself
                dashboard_address="127.0.0.1:0" if find_spec("bokeh") else None,
                silence_logs="CRITICAL",
            )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _deaf_to_interruptions() -> Iterator[None]:
    """Keep Ctrl+C, which reaches every process of a terminal, from all threads and processes that the block starts.

    One that comes meanwhile is heard at the end of the block. Windows has no such masks.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # it lifts the mask where it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _found(scheduler: str) -> "Iterator[Client]":
    """The client of a scheduler that is there already, and has a worker."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except OSError:
        raise OSError(f"no scheduler at {scheduler}; start one with `dask scheduler`, or check the address") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise OSError(f"{scheduler} has no workers; start some with `dask worker {scheduler}`") from None
        with _watched(client, scheduler):
            yield client


@contextmanager
def _watched(client: "Client", scheduler: str) -> Iterator[None]:
    """Warn, once each time, when a scheduler has lost all of its workers: the run then waits for new ones."""
    over = Event()

    def watch() -> None:
        lost = False
        while not over.wait(WATCH) and client.status == "running":
            gone = not client.nthreads()
            if gone and not lost:
                logger.warning(
                    f"{scheduler} has no workers left, so the run waits; start some with `dask worker {scheduler}`"
                )
            lost = gone

    thread = Thread(target=watch, name="watch workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)


def _equip(client: "Client", run: str, setup: Setup, options: Options) -> None:
    try:
        client.register_plugin(equipment(run, setup, options), name=run)
    except Exception as error:  # whatever a worker met, as Dask passes it on
        raise ValueError(f"a worker cannot take part ({first_line(error)}); install there what is here") from error


def _clean(folders: set[Path]) -> None:
    for folder in folders:
        remove_leftovers(folder)


def _forget(client: "Client", run: str) -> None:
    if client.status == "running":
        with suppress(KeyError):  # of a worker that could not take it
            client.unregister_worker_plugin(run)


def _dashboard(client: "Client") -> str | None:
    """The address of the scheduler's page; Dask has one only where Bokeh is installed."""
    return client.dashboard_link if client.run_on_scheduler(find_spec, "bokeh") else None

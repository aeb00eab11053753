"""Spread jobs over the workers of a Dask client: a few photographs a task, tried again where a worker dies."""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING

from wmremoval.batch.jobs import RESULTS, Job
from wmremoval.batch.run import Options, Outcome, decided
from wmremoval.batch.sizes import pixels_of_jobs
from wmremoval.batch.staged import portions, stored_outputs
from wmremoval.cluster.worker import restore_some
from wmremoval.photofile.errors import shown

if TYPE_CHECKING:  # Dask is an extra
    from distributed import Client, Future

MOST_DEATHS = 3  # of workers, after which a photograph that was alone at the last one is left out
# Tasks that the scheduler knows at a time, so that a million photographs do not fill its memory. Chosen, not measured.
TASKS_AHEAD = 5000
GONE = "the scheduler is gone; start it again, and run the same command again: it goes on with what is missing"
AGAIN = "tried again, since its worker died"  # or one that it waited for

Task = tuple[int, ...]  # the numbers of its photographs


def spread(
    client: "Client", run: str, jobs: Sequence[Job], options: Options
) -> Generator[tuple[int, Outcome], None, None]:
    """The number and the outcome of each job, in the order in which they end.

    Args:
        client: of the workers, which know the run already; see `equipment`.
        run: its name.
        jobs: with places that the workers see under the same names, or in stores.
        options: settings; the workers replace what an earlier try of theirs has written.

    Raises:
        ConnectionError: the scheduler is gone.
        RemoteError: the folder of the results cannot be listed.
    """
    stored = stored_outputs(jobs, options)
    todo = []
    for number, job in enumerate(jobs):
        outcome = decided(job, options, stored)
        if outcome is None:
            todo.append(number)
        else:
            yield number, outcome
    yield from _Tries(client, run, jobs).outcomes(_tasks(jobs, todo))


def _tasks(jobs: Sequence[Job], numbers: Sequence[int]) -> list[Task]:
    """A few photographs together, the largest first, so that the workers end at about the same time."""
    pixels = dict(zip(numbers, pixels_of_jobs([jobs[number] for number in numbers]), strict=True))
    order = sorted(numbers, key=lambda number: -pixels[number])
    return [tuple(order[i] for i in few) for few in portions([pixels[number] for number in order])]


class _Tries:
    """The tasks of a run and the deaths of workers that each photograph was in.

    A worker that dies takes along what waited for it, too. Its photographs are therefore tried again each by itself,
    and one that saw too many deaths is tried once more when nothing else runs: another death is then its own.
    """

    def __init__(self, client: "Client", run: str, jobs: Sequence[Job]):
        from distributed import as_completed

        self.client, self.run, self.jobs = client, run, jobs
        self.waiting: deque[Task] = deque()
        self.suspects: deque[Task] = deque()
        self.running: dict[Future, Task] = {}
        self.deaths: Counter[int] = Counter()
        self.ended = as_completed(loop=client.loop)

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of all photographs of some tasks."""
        self.waiting.extend(tasks)
        try:
            while self.waiting or self.suspects or self.running:
                alone = self._submit()
                future = next(self.ended)
                yield from self._ended(future, self.running.pop(future), alone)
        finally:
            self.client.cancel(list(self.running))

    def _submit(self) -> bool:
        """Hand in what there is room for; True if it is one suspect, alone."""
        alone = not self.waiting and not self.running
        queue = self.suspects if alone else self.waiting
        while queue and len(self.running) < (1 if alone else TASKS_AHEAD):
            task = queue.popleft()
            jobs = [_absolute(self.jobs[number]) for number in task]
            future = self.client.submit(restore_some, self.run, jobs, pure=False)
            self.running[future] = task
            self.ended.add(future)
        return alone

    def _ended(self, future: "Future", task: Task, alone: bool) -> Iterator[tuple[int, Outcome]]:
        from distributed import KilledWorker

        try:
            outcomes = future.result()
        except KilledWorker as error:
            yield from self._died(task, alone, error.allowed_failures + 1)
        except CancelledError:
            raise ConnectionError(GONE) from None
        else:
            for number, outcome in zip(task, outcomes, strict=True):
                notes = [*outcome.notes, *([AGAIN] if self.deaths[number] else [])]
                output = str(self.jobs[number].output) if outcome.output else ""  # by the name that the user gave it
                yield number, replace(outcome, output=output, notes=notes)

    def _died(self, task: Task, alone: bool, times: int) -> Iterator[tuple[int, Outcome]]:
        """Try the photographs of a task again, whose worker has died so many times; or give one up."""
        for number in task:
            self.deaths[number] += times
            if alone and self.deaths[number] >= MOST_DEATHS:
                job = self.jobs[number]
                error = (
                    f"{shown(job.source)}: its worker died {self.deaths[number]} times; out of memory? "
                    "Restore it by itself, with a smaller --max-memory"
                )
                yield number, Outcome(job.name, "failed", error=error)
            elif self.deaths[number] >= MOST_DEATHS - 1:
                self.suspects.append((number,))
            else:
                self.waiting.appendleft((number,))


def _absolute(job: Job) -> Job:
    """The job for a process with another current folder."""
    places = {kind: getattr(job, kind) for kind in ("source", "mask_in", *RESULTS)}
    return replace(job, **{kind: place.absolute() for kind, place in places.items() if place is not None})

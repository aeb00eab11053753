"""Jobs with places in stores: fetched into a temporary folder, restored there, and the results sent."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from wmremoval.batch.jobs import Job, LocalJob
from wmremoval.batch.outputs import MARK_TEXT
from wmremoval.batch.remote import Place, Remote, RemoteError, fetch, listing, send
from wmremoval.batch.run import Options, Outcome, decided, remove_watermarks
from wmremoval.batch.sizes import pixels_of_jobs
from wmremoval.batch.walk import RESULTS_MARK
from wmremoval.files import temporary_folder
from wmremoval.restore.remover import Remover

# Of photographs that are fetched, restored and sent together; larger ones go alone. Chosen, not measured.
MOST_TOGETHER, PIXELS_TOGETHER = 4, 8_000_000
SENT = ("mask_out", "compare", "output")  # the results of a job in the order in which they are sent


def restore(jobs: Sequence[Job], remover: Remover, options: Options = Options()) -> Generator[Outcome, None, None]:
    """As `remove_watermarks`, for jobs with places in stores, too.

    Raises:
        RemoteError: the folder of the results cannot be listed.
    """
    stored = stored_outputs(jobs, options)
    for is_local, some in groupby(jobs, lambda job: isinstance(job, LocalJob)):
        if is_local:
            yield from remove_watermarks([job for job in some if isinstance(job, LocalJob)], remover, options)
            continue
        few = list(some)
        for portion in portions(pixels_of_jobs(few)):
            known = [decided(few[number], options, stored) for number in portion]
            waiting = [few[number] for number, outcome in zip(portion, known, strict=True) if outcome is None]
            with closing(_through_disk(waiting, remover, options)) as outcomes:
                yield from (outcome or next(outcomes) for outcome in known)


def portions(pixels: Sequence[float]) -> list[list[int]]:
    """Numbers of photographs in their order, a few together, by the pixels of each.

    Example:
        >>> portions([12e6, 3e6, 3e6, 3e6, 1e5, 1e5, 1e5, 1e5, 1e5])
        [[0], [1, 2], [3, 4, 5, 6], [7, 8]]
    """
    result: list[list[int]] = []
    room = 0.0
    for number, own in enumerate(pixels):
        if not result or len(result[-1]) == MOST_TOGETHER or own > room:
            result.append([])
            room = PIXELS_TOGETHER
        result[-1].append(number)
        room -= own
    return result


def stored_outputs(jobs: Sequence[Job], options: Options) -> frozenset[Place]:
    """The results that are in stores already; none if they are to be replaced.

    Raises:
        RemoteError: they cannot be listed.
    """
    outputs = [job.output for job in jobs if isinstance(job.output, Remote)]
    if options.overwrite or not outputs:
        return frozenset()
    if len(outputs) == 1:
        return frozenset(place for place in outputs if place.exists())
    stored: set[Place] = set()
    last = ""
    for folder in sorted({place.parent for place in outputs}):
        if not last or not f"{folder}/".startswith(last):  # a folder below the last one is listed with it
            last = f"{folder}/"
            stored |= {folder / name for name in listing(folder)}
    return frozenset(stored)


def mark_stored(folder: Remote) -> None:
    """Create a folder of results in a store, with a file by which later runs know it; see `mark_results`.

    Raises:
        RemoteError: it cannot be written.
    """
    if folder.exists():
        return
    with temporary_folder() as here:
        (here / RESULTS_MARK).write_text(MARK_TEXT, encoding="utf-8")
        send(here / RESULTS_MARK, folder / RESULTS_MARK)


def _through_disk(jobs: Sequence[Job], remover: Remover, options: Options) -> Generator[Outcome, None, None]:
    """The outcome of each job, whose files lie in a temporary folder meanwhile."""
    with temporary_folder() as folder:
        local = [_fetched(job, folder / str(number)) for number, job in enumerate(jobs)]
        with closing(remove_watermarks(local, remover, options)) as outcomes:
            for job, its, outcome in zip(jobs, local, outcomes, strict=True):
                yield _sent(job, its, outcome)


def _fetched(job: Job, folder: Path) -> LocalJob:
    """The same job with its photograph and its results in a folder of this machine; its problem if that fails."""
    values: dict[str, Any] = {field.name: getattr(job, field.name) for field in fields(job)}
    values |= {kind: _inside(getattr(job, kind), folder / kind) for kind in ("source", *SENT)}
    if isinstance(job.source, Remote):
        values["source"].parent.mkdir(parents=True)
        try:
            fetch(job.source, values["source"])
        except RemoteError as error:
            values["problem"] = str(error)
    return LocalJob(**values)


def _inside(place: Place | None, folder: Path) -> Place | None:
    return folder / place.name if isinstance(place, Remote) else place


def _sent(job: Job, local: LocalJob, outcome: Outcome) -> Outcome:
    """Send the results of a job, the photograph's own last; further pages of a TIFF have files of their own."""
    try:
        for kind in SENT if outcome.status != "failed" else ():
            place, file = getattr(job, kind), getattr(local, kind)
            if isinstance(place, Remote):
                for result in sorted(file.parent.glob("*")):
                    send(result, place.parent / result.name)
    except RemoteError as error:
        return Outcome(job.name, "failed", error=str(error))
    return replace(outcome, output=str(job.output) if outcome.output else "")

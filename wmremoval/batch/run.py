"""Restore the photographs of many jobs: reading, restoring and writing overlap, and each gives an outcome."""

import threading
from collections import deque
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wmremoval.batch.jobs import RESULTS, Job, LocalJob
from wmremoval.batch.outputs import is_same_file, is_unmarked, mark_results, size_if_written, write_all, write_extras
from wmremoval.batch.remote import Place, is_here
from wmremoval.batch.sizes import pixels_of
from wmremoval.batch.user_mask import GROW, read_user_mask
from wmremoval.files import remedy, remove_leftovers
from wmremoval.images import ImageError
from wmremoval.photofile.errors import shown
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.read import MAX_PIXELS, read_photo
from wmremoval.restore.pyramid import Pyramid
from wmremoval.restore.remover import Remover, Result
from wmremoval.settings import check_settings, setting

IN_FLIGHT = (
    24_000_000  # pixels read ahead or waiting to be written; larger photographs go one at a time. Chosen, not measured.
)


@dataclass(frozen=True)
class Options:
    """Settings of reading and writing."""

    max_pixels: int = setting(MAX_PIXELS, least=1)  # width times height above which a file is refused
    overwrite: bool = False  # replace outputs that are there already
    quality: int | str = setting("keep", least=1, most=100, words=("keep",))  # of lossy formats, 1 to 100
    grow: int = setting(GROW, least=0)  # pixels by which a user's mask is widened
    times: bool = True  # results get the time and the permission bits of the photograph
    dry_run: bool = False  # write masks alone
    folders: tuple[Path, ...] = ()  # of results; created with a mark by which later runs know them
    leftovers: bool = True  # delete the temporary files of killed processes first

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass
class Outcome:
    """The outcome of one photograph; a row of the report."""

    name: str
    status: str  # "restored", "unmarked", "kept" (was there already), "failed"
    output: str = ""
    seconds: float = 0.0  # of the network and all around it, not of reading and writing
    area: float = 0.0  # share of the photograph that was changed
    marks: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)  # words, fate and corners of each line of text
    notes: list[str] = field(default_factory=list)
    error: str = ""
    format: str = ""  # of the photograph, by its content
    size: list[int] = field(default_factory=list)  # width and height, pixels
    bytes: int = 0  # of the result
    pages: int = 1  # of a TIFF; all are restored


class Budget:
    """Holds readers back while too many pixels are in memory."""

    def __init__(self, most: int):
        self.most, self.free, self.changed = most, most, threading.Condition()

    def take(self, pixels: int) -> int:
        """Wait until there is room; gives what must be handed back."""
        pixels = min(max(1, pixels), self.most)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        return pixels

    def give(self, pixels: int) -> None:
        """Hand back."""
        with self.changed:
            self.free += pixels
            self.changed.notify_all()


def remove_watermarks(
    jobs: Sequence[LocalJob], remover: Remover, options: Options = Options()
) -> Generator[Outcome, None, None]:
    """Restore every job, in order, and give what became of it; printing is left to the caller.

    While one photograph is restored the next is read and the last one written. Closing the generator, or an
    interruption, lets the file being written finish and leaves nothing half-written.
    """
    for folder in result_folders(jobs) if options.leftovers and not options.dry_run else ():
        remove_leftovers(folder)
    budget = Budget(IN_FLIGHT)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        reading: deque[tuple[LocalJob, Future]] = deque()
        writing: deque[Future] = deque()
        pending = iter(jobs)
        try:
            while True:
                while len(reading) < 2 and (job := next(pending, None)) is not None:
                    reading.append((job, reader.submit(_read, job, options, budget)))
                if not reading:
                    break
                job, future = reading.popleft()
                writing.append(writer.submit(_write, job, *_restore(job, future, remover), options, budget))
                while len(writing) > 1 or (writing and writing[0].done()):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            for _, future in reading:
                future.cancel()
            budget.give(budget.most)  # a reader that waits for room must not wait for ever


def result_folders(jobs: Iterable[Job]) -> set[Path]:
    """The folders of this machine that results of some jobs are written to."""
    places = (getattr(job, kind) for job in jobs for kind in RESULTS)
    return {place.parent for place in places if isinstance(place, Path)}


@dataclass
class Read:
    """A photograph that was read, or the outcome that reading decided."""

    photo: Photo | None = None
    mask: np.ndarray | None = None
    outcome: Outcome | None = None  # already decided
    held: int = 0  # pixels of the budget


def _read(job: LocalJob, options: Options, budget: Budget) -> Read:
    held = 0
    try:
        known = decided(job, options)
        if known is not None:
            return Read(outcome=known)
        held = budget.take(pixels_of(job.source))
        photo = read_photo(job.source, options.max_pixels)
        photo.times = job.source.stat() if options.times else None
        if job.mask_in is None:
            return Read(photo, None, None, held)
        mask, notes = read_user_mask(job.mask_in, photo, options.grow)
        photo.notes += notes
        return Read(photo, mask, None, held)
    except ImageError as error:
        return Read(None, None, Outcome(job.name, "failed", error=str(error)), held)
    except OSError as error:
        reason = f"{shown(job.source)}: cannot be read ({error.strerror or error}){remedy(error)}"
        return Read(None, None, Outcome(job.name, "failed", error=reason), held)


def decided(job: Job, options: Options, stored: Collection[Place] = ()) -> Outcome | None:
    """The outcome of a job that needs no reading of the photograph, or None.

    Args:
        job: the job.
        options: settings.
        stored: the results that are in stores already.
    """
    if job.problem:
        return Outcome(job.name, "failed", error=job.problem)
    if job.backup is not None and isinstance(job.source, Path):  # in place
        if job.backup.exists() and not is_same_file(job.source, job.backup):
            return Outcome(job.name, "kept", str(job.output), notes=["the photograph as it was is in the backup"])
    elif not options.overwrite and (job.output in stored or is_here(job.output)):
        return Outcome(job.name, "kept", str(job.output), notes=["--overwrite replaces it"])
    return None


def _restore(job: LocalJob, future: Future, remover: Remover) -> tuple[Read, list[Result]]:
    """The photograph that was read and the results of its pages; none where there is an outcome already."""
    read: Read = future.result()
    if read.outcome is not None:
        return read, []
    try:
        assert read.photo is not None
        return read, remover.restore_pages(read.photo, read.mask)
    except MemoryError as error:
        reason = str(error) or "not enough memory; try a smaller --max-memory"
        read.outcome = Outcome(job.name, "failed", error=f"{shown(job.source)}: {reason}")
        return read, []


def _write(job: LocalJob, read: Read, results: list[Result], options: Options, budget: Budget) -> Outcome:
    try:
        if read.outcome is not None:
            return read.outcome
        assert read.photo is not None
        return _written(job, read.photo, results, options)
    except ImageError as error:
        source = shown(job.source)
        return Outcome(job.name, "failed", error=str(error) if source in str(error) else f"{source}: {error}")
    except OSError as error:
        reason = f"{shown(job.output)}: cannot be written ({error.strerror or error}){remedy(error)}"
        return Outcome(job.name, "failed", error=reason)
    finally:
        budget.give(read.held)


def _written(job: LocalJob, photo: Photo, results: list[Result], options: Options) -> Outcome:
    """Write the results of a job; in a dry run the mask alone."""
    restored = [(result.image, result.mask_uint8) for result in results]
    outcome = Outcome(
        job.name,
        "unmarked" if is_unmarked(restored) else "restored",
        str(job.output),
        sum(result.seconds for result in results),
        sum(np.count_nonzero(mask) for _, mask in restored) / sum(mask.size for _, mask in restored),
        [row for page in _pages(photo, results) for row in _marks(*page)],
        [asdict(text) | about for _, result, about in _pages(photo, results) for text in result.texts],
        format=photo.format,
        size=list(photo.size),
        pages=len(results),
    )
    for folder in options.folders:
        mark_results(folder)
    if not options.dry_run:
        notes = write_all(job, photo, restored, options.quality)
        outcome.bytes = job.output.stat().st_size
    else:
        if job.mask_out is not None:
            write_extras(replace(job, compare=None), photo, restored)
        notes = []
        outcome.bytes = size_if_written(job, photo, restored, options.quality)
    found = [
        f"page {about['page']}: {note}" if about else note
        for _, result, about in _pages(photo, results)
        for note in result.notes
    ]
    outcome.notes = [*found, *job.notes, *photo.notes, *notes]
    return outcome


def _pages(photo: Photo, results: list[Result]) -> list[tuple[Photo, Result, dict[str, int]]]:
    """Each page with its result and, where there are several, its number for the report."""
    numbers = [{"page": number} for number in range(1, len(results) + 1)] if photo.pages else [{}]
    return list(zip([photo, *photo.pages], results, numbers, strict=True))


def _marks(photo: Photo, result: Result, about: dict[str, int]) -> list[dict[str, Any]]:
    """A row of the report for each mark; its box is left, top, right, bottom in pixels of the upright photograph."""
    pyramid = Pyramid(photo.rgb)
    rows = []
    for region in result.regions:
        down, across = pyramid.native(region.box)
        box = [across.start, down.start, across.stop, down.stop]
        rows.append({"area_px": region.area, "view": region.factor, "box": box} | about)
    return rows

"""Restore files and whole folders: reading, restoring and writing overlap; a bad file is a line, and the rest goes on."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .images import DAMAGED, ImageError, write_image
from .inference import Remover, Result
from .jobs import Job
from .photoerrors import quiet, shown
from .photofile import MAX_PIXELS, Photo, read_mask, read_photo
from .photowrite import copy_file, remove_leftovers, write_mask, write_photo

IN_FLIGHT = 24_000_000  # pixels read ahead or waiting to be written; larger photographs go one at a time
COMPARE_SIDE = 900  # pixels; longest side of each half of a picture of before and after


@dataclass(frozen=True)
class Options:
    """How photographs are read and written."""

    max_pixels: int = MAX_PIXELS  # width times height above which a file is refused
    overwrite: bool = False  # replace outputs that are there already
    quality: int | str = "keep"  # of lossy formats, 1 to 100


@dataclass
class Outcome:
    """What became of one photograph; a row of the report."""

    name: str
    status: str  # "restored", "unmarked", "kept" (was there already), "failed"
    output: str = ""
    seconds: float = 0.0  # of the network and all around it, not of reading and writing
    area: float = 0.0  # share of the photograph that was changed
    marks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    def line(self) -> str:
        """For the terminal."""
        name = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in self.name)
        if self.status == "failed":
            return f"failed: {self.error}"
        if self.status == "kept":
            return f"{name}: was there already, left as it is (--overwrite replaces it)"
        notes = "".join(f"; {note}" for note in self.notes)
        found = f"mark on {100 * self.area:.2g}%" if self.status == "restored" else "no mark found, copied"
        return f"{name}: {found}, {self.seconds:.1f} s{notes}"


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


def remove_watermarks(jobs: Sequence[Job], remover: Remover, options: Options = Options()) -> Iterator[Outcome]:
    """Restore every job, in order, and give what became of it; printing is left to the caller.

    While one photograph is restored the next is read and the last one written. Closing the generator, or an
    interruption, lets the file being written finish and leaves nothing half-written.
    """
    places = (place for job in jobs for place in (job.output, job.mask_out) if place is not None)
    for folder in {place.parent for place in places if place.parent.is_dir()}:
        remove_leftovers(folder)
    budget = Budget(IN_FLIGHT)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        reading: deque[tuple[Job, Future]] = deque()
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


@dataclass
class Read:
    """What the reader hands over."""

    photo: Photo | None = None
    mask: np.ndarray | None = None
    outcome: Outcome | None = None  # already decided
    held: int = 0  # pixels of the budget


def _read(job: Job, options: Options, budget: Budget) -> Read:
    if job.problem:
        return Read(outcome=Outcome(job.name, "failed", error=job.problem))
    if not options.overwrite and os.path.lexists(job.output):
        return Read(outcome=Outcome(job.name, "kept", output=str(job.output)))
    held = budget.take(_size_of(job.source))
    try:
        photo = read_photo(job.source, options.max_pixels)
        mask = None if job.mask_in is None else read_mask(job.mask_in, photo.size)
        return Read(photo, mask, None, held)
    except ImageError as error:
        return Read(None, None, Outcome(job.name, "failed", error=str(error)), held)


def _size_of(path: Path) -> int:
    """Pixels by the file's header, to reserve memory by; what is wrong with the file its reading will say."""
    if not path.is_file():
        return 1
    try:
        with quiet(), Image.open(path) as image:
            return image.width * image.height
    except (*DAMAGED, Image.DecompressionBombError):
        return 1


def _restore(job: Job, future: Future, remover: Remover) -> tuple[Read, Result | None]:
    read: Read = future.result()
    if read.outcome is not None:
        return read, None
    try:
        return read, remover.restore(read.photo.rgb, read.mask)
    except MemoryError as error:
        reason = str(error) or "not enough memory; try a smaller --max-memory"
        read.outcome = Outcome(job.name, "failed", error=f"{shown(job.source)}: {reason}")
        return read, None


def _write(job: Job, read: Read, result: Result | None, options: Options, budget: Budget) -> Outcome:
    try:
        if result is None:
            return read.outcome
        photo = read.photo
        for place in (job.output, job.mask_out, job.compare):
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
        if job.mask_out is not None:
            write_mask(job.mask_out, result.mask_uint8)
        if job.compare is not None:
            write_image(job.compare, side_by_side(photo.rgb, result.image), quality=90)
        if photo.native is None:
            photo.rgb = result.image  # a plain photograph is not needed as it was: 300 MB at 100 megapixels
        unmarked = not result.mask_uint8.any()
        if unmarked and job.format == "keep" and options.quality == "keep":
            copy_file(job.source, job.output)  # not a bit of the file has to change
        else:
            write_photo(photo, result.image, result.mask_uint8, job.output, job.format, options.quality)
        marks = [{"area_px": region.area, "view": region.factor} for region in result.regions]
        return Outcome(
            job.name,
            "unmarked" if unmarked else "restored",
            str(job.output),
            result.seconds,
            result.area,
            marks,
            [*result.notes, *photo.notes],
        )
    except ImageError as error:
        source = shown(job.source)
        return Outcome(job.name, "failed", error=str(error) if source in str(error) else f"{source}: {error}")
    except OSError as error:
        return Outcome(job.name, "failed", error=f"{shown(job.output)}: cannot be written ({error.strerror or error})")
    finally:
        budget.give(read.held)


def side_by_side(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Before and after in one picture, (h, w, 3) uint8, each half at most `COMPARE_SIDE` long."""
    scale = min(1.0, COMPARE_SIDE / max(before.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in before.shape[1::-1])
    halves = [cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in (before, after)]
    gap = np.full((size[1], 8, 3), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def summary_line(outcomes: Sequence[Outcome], seconds: float) -> str:
    """One line for the end."""
    count = {status: sum(o.status == status for o in outcomes) for status in ("restored", "unmarked", "kept", "failed")}
    return (
        f"{len(outcomes)} photographs in {seconds:.1f} s: {count['restored']} restored, {count['unmarked']} without a mark, "
        f"{count['kept']} there already, {count['failed']} failed"
    )

"""Restore files and whole folders: from the paths a user names to jobs, and from jobs to restored files."""

import os
import threading
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from wmremoval.files import remove_leftovers
from wmremoval.images import DAMAGED, ImageError, write_image
from wmremoval.photofile.errors import quiet, shown
from wmremoval.photofile.read import ENDINGS, MAX_PIXELS, Photo, read_mask, read_photo
from wmremoval.photofile.write import FORMATS, copy_file, output_suffix, write_mask, write_photo
from wmremoval.restore.remover import Remover, Result

IN_FLIGHT = 24_000_000  # pixels read ahead or waiting to be written; larger photographs go one at a time
COMPARE_SIDE = 900  # pixels; longest side of each half of a picture of before and after


class UsageError(ValueError):
    """The request makes no sense as a whole; no file has been touched."""


@dataclass(frozen=True)
class Job:
    """One photograph to restore."""

    source: Path
    name: str  # relative to the folder it was found in, with "/"; what reports call it
    output: Path
    mask_out: Path | None = None  # where the found mask goes
    mask_in: Path | None = None  # the user's own mask
    compare: Path | None = None  # where the picture of before and after goes
    format: str = "keep"
    problem: str | None = None  # why it cannot even be tried


@dataclass(frozen=True)
class Places:
    """The places of the results, as the command line names them."""

    output: Path
    masks: Path | None = None
    mask: Path | None = None
    compare: Path | None = None
    format: str = "keep"
    recursive: bool = False


def plan_jobs(inputs: Sequence[Path], places: Places) -> tuple[list[Job], list[str]]:
    """One job a photograph of all inputs, and lines on what is left out.

    Raises:
        UsageError: an output that is an input, a file where a folder is needed, or two results of one photograph in one
            place.
    """
    to_file = _single_file(inputs, places)
    jobs: list[Job] = []
    remarks: list[str] = []
    for path in inputs:
        if path.is_dir():
            _refuse_same_folder(path, places)
            found = sorted(_walk(path, places, remarks), key=lambda item: item.as_posix())
            if not found:
                remarks.append(f"{shown(path)}: no photographs in this folder" + _hint(path, places))
            jobs += [_job(item, item.relative_to(path), places) for item in found]
        elif to_file:
            jobs.append(_file_job(path, places))
        else:
            jobs.append(_job(path, Path(path.name), places))
    jobs = _without_clashes(_told_apart(jobs))
    _refuse_overwritten_inputs(jobs)
    return jobs, remarks


def share_of(jobs: Iterable[Job], rank: int, world: int) -> list[Job]:
    """The jobs of one process of several: by a hash of the name, the same on every machine."""
    return [job for job in jobs if zlib.crc32(os.fsencode(job.name)) % world == rank]


def _single_file(inputs: Sequence[Path], places: Places) -> bool:
    """True if one photograph goes to a named file instead of into a folder."""
    named = places.output.suffix.lower() in ENDINGS and not places.output.is_dir()
    if not named:
        if places.output.exists() and not places.output.is_dir():
            raise UsageError(f"{shown(places.output)} is a file; name a folder, or a file with a photograph's ending")
        return False
    if len(inputs) != 1 or inputs[0].is_dir():
        raise UsageError(f"several photographs cannot go to the one file {shown(places.output)}; name a folder")
    return True


def _file_job(path: Path, places: Places) -> Job:
    """One file to one file: the ending of the output chooses the format."""
    ours, theirs = ENDINGS.get(path.suffix.lower()), ENDINGS[places.output.suffix.lower()]
    by_name = {name: key for key, (name, _) in FORMATS.items()}
    wanted = places.format
    if places.format == "keep" and ours != theirs:
        if theirs not in by_name:
            raise UsageError(f"a photograph can be converted to {', '.join(FORMATS)}, not to {theirs}")
        wanted = by_name[theirs]
    elif places.format != "keep" and FORMATS[places.format][0] != theirs:
        raise UsageError(f"--format {places.format} and the output {shown(places.output)} disagree")
    return _job(path, Path(path.name), places, places.output, wanted)


def _job(path: Path, relative: Path, places: Places, output: Path | None = None, format: str | None = None) -> Job:
    name = relative.with_suffix(".png")
    problem = None
    if path.suffix.lower() not in ENDINGS:
        problem = f"{shown(path)}: not a photograph by its ending; known are {' '.join(ENDINGS)}"
    mask_in = None
    if places.mask is not None:
        mask_in = places.mask
        if places.mask.is_dir():
            full = places.mask / relative.with_name(f"{relative.name}.png")
            mask_in = full if full.is_file() else places.mask / name
        if not mask_in.is_file():
            problem = problem or f"{shown(path)}: no mask {name.as_posix()!a} in {shown(places.mask)}"
    format = format or places.format
    return Job(
        source=path,
        name=relative.as_posix(),
        output=output or places.output / relative.with_suffix(output_suffix(relative, format)),
        mask_out=places.masks / name if places.masks else None,
        mask_in=mask_in,
        compare=places.compare / relative.with_suffix(".jpg") if places.compare else None,
        format=format,
        problem=problem,
    )


def _walk(folder: Path, places: Places, remarks: list[str]) -> Iterator[Path]:
    """Photographs of a folder, through links but never in circles, without the folders that results go to."""
    results = {_identity(place) for place in (places.output, places.masks, places.compare) if place and place.is_dir()}
    pending, seen = [folder], {_identity(folder)}
    while pending:
        here = pending.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            remarks.append(f"{shown(here)}: cannot be listed ({error.strerror})")
            continue
        for entry in entries:
            path = here / entry.name
            if _is_folder(entry):
                identity = _identity(path)
                if entry.name.startswith(".") or identity in results or not places.recursive:
                    continue
                if identity in seen:
                    remarks.append(f"{shown(path)}: a link to a folder that is read already, left out")
                    continue
                seen.add(identity)
                pending.append(path)
            elif path.suffix.lower() in ENDINGS and not entry.name.startswith("."):
                yield path


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will say so
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _hint(folder: Path, places: Places) -> str:
    nested = not places.recursive and any(_is_folder(entry) for entry in os.scandir(folder))
    return "; --recursive looks into its sub-folders" if nested else ""


def _refuse_same_folder(folder: Path, places: Places) -> None:
    for option, place in (("--output", places.output), ("--masks", places.masks), ("--compare", places.compare)):
        if place and place.is_dir() and _identity(place) == _identity(folder):
            raise UsageError(f"{option} is the folder of the photographs, which are never overwritten; name another")


def _told_apart(jobs: list[Job]) -> list[Job]:
    """Masks and pictures of `a.jpg` and `a.png` in one folder: `a.jpg.png` and `a.png.png` instead of twice `a.png`."""
    for kind in ("mask_out", "compare"):
        count = Counter(getattr(job, kind) for job in jobs)
        for i, job in enumerate(jobs):
            place = getattr(job, kind)
            if place is not None and count[place] > 1:
                name = Path(job.name).name + place.suffix
                jobs[i] = replace(job, **{kind: place.with_name(name)})
    return jobs


def _without_clashes(jobs: list[Job]) -> list[Job]:
    """Give each place to the first photograph that would be written there; the others get a problem that says why."""
    taken: dict[Path, Job] = {}
    for i, job in enumerate(jobs):
        places = [place for place in (job.output, job.mask_out, job.compare) if place is not None]
        if len({place.absolute() for place in places}) < len(places):
            raise UsageError(f"two results of {shown(job.source)} would go to one file; use different folders")
        for place in places:
            other = taken.setdefault(place.absolute(), job)
            if other is not job:
                problem = (
                    f"{shown(job.source)}: would be written to {shown(place)} as {shown(other.source)} is; "
                    "rename it, or give it another folder"
                )
                jobs[i] = replace(job, problem=job.problem or problem)
    return jobs


def _refuse_overwritten_inputs(jobs: Sequence[Job]) -> None:
    """No result on a photograph or mask that is read, through links neither."""
    inputs = {_identity(path) for job in jobs for path in (job.source, job.mask_in) if path and path.is_file()}
    for job in jobs:
        for place in (job.output, job.mask_out, job.compare):
            if place and place.is_file() and _identity(place) in inputs:
                raise UsageError(
                    f"{shown(place)} is one of the inputs, which are never overwritten; name another output"
                )


@dataclass(frozen=True)
class Options:
    """Settings of reading and writing."""

    max_pixels: int = MAX_PIXELS  # width times height above which a file is refused
    overwrite: bool = False  # replace outputs that are there already
    quality: int | str = "keep"  # of lossy formats, 1 to 100


@dataclass
class Outcome:
    """The outcome of one photograph; a row of the report."""

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
    """A photograph that was read, or the outcome that reading decided."""

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

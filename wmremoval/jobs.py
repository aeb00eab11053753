"""From the paths a user names to one job a photograph: where it comes from, where it goes, whose turn it is."""

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .photoerrors import shown
from .photofile import ENDINGS
from .photowrite import FORMATS, output_suffix


class UsageError(ValueError):
    """What was asked for makes no sense as a whole; nothing has been touched."""


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
    """Where results go, as the command line names it."""

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
    """Whether one photograph goes to a file that is named, instead of into a folder."""
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
    for field in ("mask_out", "compare"):
        count = Counter(getattr(job, field) for job in jobs)
        for i, job in enumerate(jobs):
            place = getattr(job, field)
            if place is not None and count[place] > 1:
                name = Path(job.name).name + place.suffix
                jobs[i] = replace(job, **{field: place.with_name(name)})
    return jobs


def _without_clashes(jobs: list[Job]) -> list[Job]:
    """No two results in one place: the first photograph has it, the others are told why not."""
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

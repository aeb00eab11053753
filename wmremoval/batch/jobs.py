"""From the paths that a user names to jobs: one photograph each, with the places of all its results."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from wmremoval.batch.names import Globs, ListedFolder, name_key, numbered
from wmremoval.batch.remote import Place, Remote, is_here
from wmremoval.batch.walk import EXCLUDED, NO_PICTURE, find_photographs, identity, kind_not_read
from wmremoval.photofile.errors import shown
from wmremoval.photofile.kinds import ENDINGS, NOT_WRITTEN, advice, bare_name, file_kind
from wmremoval.photofile.write import FORMATS, output_suffix

RESULTS = ("output", "mask_out", "compare", "backup")  # the fields of a `Job` that are written


class UsageError(ValueError):
    """The request makes no sense as a whole; no file has been touched."""


@dataclass(frozen=True, slots=True)
class Job:
    """One photograph to restore."""

    source: Place
    name: str  # relative to the folder it was found in, with "/"; what reports call it
    output: Place
    mask_out: Place | None = None  # where the found mask goes
    mask_in: Path | None = None  # the user's own mask
    compare: Place | None = None  # where the picture of before and after goes
    backup: Path | None = None  # where the photograph is copied to before it is replaced
    format: str = "keep"
    problem: str | None = None  # why it cannot even be tried
    notes: tuple[str, ...] = ()  # what the user should know
    size: int = 0  # bytes of a photograph in a store, as its listing says; 0: not known


@dataclass(frozen=True, slots=True)
class LocalJob(Job):
    """A job of which every place is of this machine."""

    source: Path
    output: Path
    mask_out: Path | None = None
    compare: Path | None = None


@dataclass(frozen=True)
class Places:
    """The places of the results and the choice of files, as the command line names them."""

    output: Place | None  # None: in place, and `backup` is set
    masks: Place | None = None
    mask: Path | None = None
    compare: Place | None = None
    format: str = "keep"
    recursive: bool = False
    backup: Path | None = None
    globs: Globs = field(default_factory=Globs)

    @property
    def results(self) -> list[Place]:
        """The folders that results go to."""
        return [place for place in (self.output, self.masks, self.compare, self.backup) if place is not None]


@dataclass
class Plan:
    """The jobs of a run, lines on what is unusual, and the number of files left out by their kind."""

    jobs: list[Job]
    remarks: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)


def plan_local_jobs(inputs: Sequence[Path], places: Places) -> list[LocalJob]:
    """The jobs of files and folders of this machine, with results on it; see `plan_jobs`."""
    return [job for job in plan_jobs(inputs, places).jobs if isinstance(job, LocalJob)]


def plan_jobs(inputs: Sequence[Place], places: Places, listed: Sequence[Place] = ()) -> Plan:
    """One job a photograph of all inputs.

    Args:
        inputs: files and folders, of this machine or of a store. A file's result lies at the top of the output folder.
        places: the places of the results.
        listed: files and folders of a list. A file named by a relative path keeps its folders in the output folder.

    Raises:
        UsageError: an output that is an input, a file where a folder is needed, or two results of one photograph in one
            place.
    """
    to_file = _single_file([*inputs, *listed], places)
    planner = _Planner(places)
    plan = Plan([])
    for path, relative in [(path, PurePath(path.name)) for path in inputs] + [(path, _kept(path)) for path in listed]:
        if _is_folder(path):
            _refuse_same_folder(path, places)
            found = find_photographs(path, places.results, places.globs, places.recursive)
            jobs = [planner.job(path / name, name) for name in found.names]
            if found.sizes:
                jobs = [replace(job, size=found.sizes[name]) for job, name in zip(jobs, found.names, strict=True)]
            plan.jobs += jobs
            plan.remarks += found.remarks
            plan.left_out += found.left_out
        elif not places.globs.want(relative):
            plan.left_out[EXCLUDED] += 1
        elif to_file:
            plan.jobs.append(_checked(planner.job(path, relative, places.output, _wanted_format(path, places))))
        else:
            plan.jobs.append(_checked(planner.job(path, relative)))
    jobs = _each_file_once(plan.jobs) if places.output is None else plan.jobs
    plan.jobs = _without_clashes(_told_apart(jobs))
    _refuse_overwritten_inputs(plan.jobs)
    return plan


def _is_folder(path: Place) -> bool:
    return path.is_dir() if isinstance(path, Remote) else os.path.isdir(path)


def _kept(path: Place) -> PurePath:
    """The path below the output folder of a listed file: its own if that is relative and leads down, else its name."""
    if isinstance(path, Remote):
        return PurePath(path.name)
    below = not path.anchor and ".." not in path.parts  # of Windows, `C:a.jpg` and `\\a.jpg` have one
    return PurePath(path) if below else PurePath(path.name)


def _single_file(inputs: Sequence[Place], places: Places) -> bool:
    """True if one photograph goes to a named file instead of into a folder."""
    output = places.output
    if output is None:
        return False
    ending = output.suffix.lower()
    if ending not in ENDINGS or output.is_dir():
        if output.exists() and not output.is_dir():
            raise UsageError(f"{shown(output)} is a file; name a folder, or a file with a photograph's ending")
        if ending in NOT_WRITTEN and not output.exists():
            raise UsageError(f"{shown(output)}: no photograph is written as {ending}; name another ending, or a folder")
        return False
    if len(inputs) != 1 or _is_folder(inputs[0]):
        raise UsageError(f"several photographs cannot go to the one file {shown(output)}; name a folder")
    return True


def _wanted_format(path: Place, places: Places) -> str:
    """The format of one file that goes to one file: the ending of the output chooses it."""
    assert places.output is not None  # `_single_file` has looked at it
    theirs = ENDINGS[places.output.suffix.lower()]
    by_name = {name: key for key, (name, _) in FORMATS.items()}
    if places.format != "keep" and FORMATS[places.format][0] != theirs:
        raise UsageError(f"--format {places.format} and the output {shown(places.output)} disagree; leave one out")
    ours: str | None = file_kind(path) if is_here(path) else ""
    ours = ours if ours in ENDINGS.values() else ENDINGS.get(path.suffix.lower())
    if places.format != "keep" or ours == theirs:
        return places.format
    if theirs not in by_name:
        raise UsageError(f"{shown(places.output)}: no photograph is converted to {theirs}; choose {', '.join(FORMATS)}")
    return by_name[theirs]


class _Planner:
    """Makes the job of each photograph; holds the listing of the folder of masks."""

    def __init__(self, places: Places):
        self.places = places
        self.masks = ListedFolder(places.mask) if places.mask is not None and places.mask.is_dir() else None

    def job(self, path: Place, name: PurePath, output: Place | None = None, format: str | None = None) -> Job:
        """The job of the photograph `path`, whose results have the name `name` below their folders."""
        places, format = self.places, format or self.places.format
        bare = bare_name(name.name)
        if output is None and places.output is None:
            output = path
        elif output is None:
            assert places.output is not None
            ending = output_suffix(Path(name), format)
            output = places.output / (name if ending == name.suffix else name.with_name(bare + ending))
        mask_in = places.mask if self.masks is None else self._mask_of(path, name)
        results = (output, places.masks, places.compare)
        kind: type[Job] = Job if any(isinstance(place, Remote) for place in (path, *results)) else LocalJob
        return kind(
            source=path,
            name=name.as_posix(),
            output=output,
            mask_out=places.masks / name.with_name(bare + ".png") if places.masks else None,
            mask_in=mask_in,
            compare=places.compare / name.with_name(bare + ".jpg") if places.compare else None,
            backup=places.backup / name if places.backup else None,
            format=format,
            problem=self._problem(path, name, mask_in),
        )

    def _mask_of(self, path: Place, name: PurePath) -> Path | None:
        bare = bare_name(name.name)
        usual = [f"{name.name}.png", f"{bare}.png"]
        others = [start + ending for start in (name.name, bare) for ending in ENDINGS]
        assert self.masks is not None
        found = self.masks.find(name.parent, usual + others)
        return None if found is not None and is_here(path) and found.samefile(path) else found

    def _problem(self, path: Place, name: PurePath, mask_in: Path | None) -> str | None:
        if self.masks is None or mask_in is not None:
            return None
        wanted = name.with_name(bare_name(name.name) + ".png").as_posix()
        return f"{shown(path)}: no mask {wanted!a} in {shown(self.masks.root)}; put one there, or leave it out"


def _checked(job: Job) -> Job:
    """A job for a file that was named itself, and may be no photograph."""
    kind = kind_not_read(job.source) if is_here(job.source) else None
    if kind is None:
        return job
    reason = f"{kind} is not read; {advice(kind)}"
    if kind in NO_PICTURE or kind.startswith("."):
        reason = f"not a photograph by its content or ending; give one of {' '.join(ENDINGS)}"
    return replace(job, problem=f"{shown(job.source)}: {reason}")


def _refuse_same_folder(folder: Place, places: Places) -> None:
    options = {"--output": places.output, "--masks": places.masks, "--compare": places.compare}
    for option, place in (options | {"--backup": places.backup}).items():
        if place and type(place) is type(folder) and place.is_dir() and identity(place) == identity(folder):
            raise UsageError(f"{option} is the folder of the photographs, which are never overwritten; name another")


def _each_file_once(jobs: list[Job]) -> list[Job]:
    """In place, a file that is named twice, or has two names, is restored once; the later job says so."""
    seen: dict[tuple[int, int] | str, Job] = {}
    result = []
    for job in jobs:
        other = seen.setdefault(identity(job.source), job) if is_here(job.source) else job
        problem = (
            f"{shown(job.source)}: the same file as {shown(other.source)}, which is restored in place; name it once"
        )
        result.append(job if other is job else replace(job, problem=job.problem or problem))
    return result


def _told_apart(jobs: list[Job]) -> list[Job]:
    """Other names for results that would share one place, or places that differ only in case or Unicode form.

    Results of `a.jpg` and `a.tif` that become `a.png` are named `a.jpg.png` and `a.tif.png`; one that keeps its own
    name keeps it. Names that differ only in case get a number, since many systems do not tell them apart.
    """
    for kind in RESULTS:
        keys = [name_key(place) if (place := getattr(job, kind)) is not None else None for job in jobs]
        count, taken = Counter(key for key in keys if key is not None), dict[str, str]()
        for i, job in enumerate(jobs):
            if (key := keys[i]) is None or count[key] == 1:
                continue
            wanted = place = getattr(job, kind)
            own = PurePath(job.name).name
            if kind in ("mask_out", "compare") or (kind == "output" and job.format != "keep" and place.name != own):
                place = place.with_name(own + place.suffix)
            place = numbered(place, wanted, taken, count)
            taken[name_key(place)] = str(place)
            if place != wanted:
                told = f"written as {place.name}, since another photograph's result is {wanted.name}"
                notes = (*job.notes, told) if kind == "output" else job.notes
                changes: dict[str, Any] = {kind: place, "notes": notes}
                jobs[i] = replace(job, **changes)
    return jobs


def _without_clashes(jobs: list[Job]) -> list[Job]:
    """Give each place to the first photograph that would be written there; the others get a problem that says why."""
    taken: dict[str, Job] = {}
    result = []
    for job in jobs:
        places = [place for kind in RESULTS if (place := getattr(job, kind)) is not None]
        keys = [name_key(place.absolute()) for place in places]
        if len(set(keys)) < len(keys):
            raise UsageError(f"two results of {shown(job.source)} would go to one file; use different folders")
        for place, key in zip(places, keys, strict=True):
            other = taken.setdefault(key, job)
            if other is not job and job.problem is None:
                problem = (
                    f"{shown(job.source)}: would be written to {shown(place)} as {shown(other.source)} is; "
                    "rename it, or give it another folder"
                )
                job = replace(job, problem=problem)
        result.append(job)
    return result


def _refuse_overwritten_inputs(jobs: Sequence[Job]) -> None:
    """No result on a photograph or mask that is read, through links neither; but in place, on the photograph itself."""
    inputs = {identity(path) for job in jobs for path in (job.source, job.mask_in) if path and _can_clash(path)}
    for job in jobs:
        for kind in RESULTS:
            place = getattr(job, kind)
            if place is None or (kind == "output" and job.backup is not None) or not _can_clash(place):
                continue
            if identity(place) in inputs:
                raise UsageError(
                    f"{shown(place)} is one of the inputs, which are never overwritten; name another output"
                )


def _can_clash(path: Place) -> bool:
    return isinstance(path, Remote) or os.path.isfile(path)

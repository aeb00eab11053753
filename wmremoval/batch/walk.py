"""The photographs of a folder, known by their content; what is left out is counted by its kind."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from wmremoval.batch.names import Globs
from wmremoval.batch.remote import Place, Remote, listing
from wmremoval.files import remedy
from wmremoval.photofile.errors import shown
from wmremoval.photofile.kinds import ENDINGS, ending_kind, file_kind, is_read

# A file in a folder of results. The folder is left out of later runs, whatever their options.
RESULTS_MARK = ".wmremoval-results"
EXCLUDED = "excluded"  # the kind of what --include and --exclude leave out
NO_PICTURE = ("special file", "empty file", "other file", "unreadable")


@dataclass
class Found:
    """The photographs of a folder as paths below it, lines on what is unusual, and counts of what is left out."""

    names: list[PurePath] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    sizes: dict[PurePath, int] = field(default_factory=dict)  # bytes of each photograph in a store


def find_photographs(folder: Place, results: Sequence[Place], globs: Globs, recursive: bool) -> Found:
    """The photographs of a folder, through links but never in circles.

    In a store they are known by their endings, since their content would have to be fetched.

    Args:
        folder: the folder.
        results: folders that results go to; they are not looked into, and neither are those of earlier runs.
        globs: the choice of files.
        recursive: True looks into the folders inside, too.
    """
    if isinstance(folder, Remote):
        found, nested = _found_in_store(folder, results, globs, recursive)
    else:
        found, nested = _found_on_disk(folder, results, globs, recursive)
    found.names.sort(key=lambda name: name.as_posix())
    if not found.names:
        hint = "; --recursive looks into its sub-folders" if nested and not recursive else "; name another"
        found.remarks.append(f"{shown(folder)}: no photographs in this folder{hint}")
    return found


def _found_in_store(folder: Remote, results: Sequence[Place], globs: Globs, recursive: bool) -> tuple[Found, bool]:
    """The photographs of a folder in a store, and True if it has sub-folders."""
    sizes, found = listing(folder, recursive), Found()
    files = {PurePosixPath(name): size for name, size in sizes.items() if size is not None and _is_plain(name)}
    below = [str(place).removeprefix(f"{folder}/") for place in results if str(place).startswith(f"{folder}/")]
    new = {PurePosixPath(name) for name in below}
    old = {name.parent for name in files if name.name == RESULTS_MARK} - {PurePosixPath(), *new}
    for name, size in files.items():
        folders = list(name.parents)[:-1]
        unread = any(inner in new or inner in old or inner.name.startswith(".") for inner in folders)
        if unread or not all(map(globs.enter, folders)):
            continue
        kind = _left_out_by_ending(name, globs)
        if kind is None:
            found.names.append(name)
            found.sizes[name] = size
        else:
            found.left_out[kind] += 1
    found.left_out += Counter({"odd name": sum(not _is_plain(name) for name in sizes)})
    found.remarks = [f"{shown(name)}: results of an earlier run, left out" for name in sorted(old)]
    return found, any(size is None or "/" in name for name, size in sizes.items())


def _is_plain(name: str) -> bool:
    """False for a name in a store that no path can hold, such as `a//b.jpg`."""
    return PurePosixPath(name).as_posix() == name and ".." not in PurePosixPath(name).parts


def _left_out_by_ending(name: PurePath, globs: Globs) -> str | None:
    """The kind under which a file in a store is left out, or None for a photograph."""
    if name.name.startswith("."):
        return "hidden"
    if not globs.want(name):
        return EXCLUDED
    ending = name.suffix.lower()
    kind = ENDINGS.get(ending)
    return ending_kind(ending) if kind is None else None if is_read(kind) else kind


def _found_on_disk(folder: Path, results: Sequence[Place], globs: Globs, recursive: bool) -> tuple[Found, bool]:
    """The photographs of a folder of this machine, and True if it has sub-folders."""
    found, nested = Found(), False
    skipped = {identity(place) for place in results if isinstance(place, Path) and place.is_dir()}
    pending, seen = [PurePath()], {identity(folder)}
    while pending:
        here = pending.pop()
        try:
            entries = _entries(folder / here)
        except OSError as error:
            found.remarks.append(f"{shown(folder / here)}: cannot be listed ({error.strerror}){remedy(error)}")
            continue
        for entry in entries:
            name = here / entry.name
            if not _is_folder(entry):
                kind = left_out_as(folder / name, name, globs)
                if kind is None:
                    found.names.append(name)
                else:
                    found.left_out[kind] += 1
                continue
            nested = True
            if not recursive or entry.name.startswith(".") or not globs.enter(name):
                continue
            own = identity(folder / name)
            if os.path.exists(folder / name / RESULTS_MARK) and own not in skipped:
                found.remarks.append(f"{shown(name)}: results of an earlier run, left out")
            elif own in seen:
                found.remarks.append(f"{shown(name)}: a link to a folder that is read already, left out")
            elif own not in skipped:
                seen.add(own)
                pending.append(name)
    return found, nested


def left_out_as(path: Path, name: PurePath, globs: Globs) -> str | None:
    """The kind under which a file of a folder is left out, or None for a photograph."""
    if path.name.startswith("."):
        return "hidden"
    return kind_not_read(path) if globs.want(name) else EXCLUDED


def kind_not_read(path: Path) -> str | None:
    """The kind of a file that is no photograph, or None for one.

    A bad file with a photograph's ending counts as a photograph: its reading says why it is none.
    """
    try:
        kind = file_kind(path)
    except OSError:
        kind = "unreadable"
    unknown = kind in NO_PICTURE or kind.startswith(".")
    return None if is_read(kind) or (unknown and path.suffix.lower() in ENDINGS) else kind


def identity(path: Place) -> tuple[int, int] | str:
    """Device and number of a file or folder, equal for two names of one and the same; in a store its address."""
    if isinstance(path, Remote):
        return path.url
    status = path.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will say so
        return False

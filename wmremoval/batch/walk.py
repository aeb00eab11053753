"""The photographs of a folder, known by their content; what is left out is counted by its kind."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from wmremoval.batch.names import Globs
from wmremoval.files import remedy
from wmremoval.photofile.errors import shown
from wmremoval.photofile.kinds import ENDINGS, file_kind, is_read

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


def find_photographs(folder: Path, results: Sequence[Path], globs: Globs, recursive: bool) -> Found:
    """The photographs of a folder, through links but never in circles.

    Args:
        folder: the folder.
        results: folders that results go to; they are not looked into, and neither are those of earlier runs.
        globs: the choice of files.
        recursive: True looks into the folders inside, too.
    """
    found, nested = Found(), False
    skipped = {identity(place) for place in results if place.is_dir()}
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
    found.names.sort(key=lambda name: name.as_posix())
    if not found.names:
        hint = "; --recursive looks into its sub-folders" if nested and not recursive else "; name another"
        found.remarks.append(f"{shown(folder)}: no photographs in this folder{hint}")
    return found


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


def identity(path: Path) -> tuple[int, int]:
    """Device and number of a file or folder, equal for two names of one and the same."""
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

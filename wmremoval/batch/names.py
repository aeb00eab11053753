"""Names of files: compared without regard to their Unicode form, told apart where only the case differs, and globs."""

import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath


def composed(name: str) -> str:
    """A name in composed Unicode (NFC), to compare names of different systems: macOS writes `é` as two letters."""
    return unicodedata.normalize("NFC", name)


def name_key(path: PurePath) -> str:
    """Equal for paths that some system takes for one and the same: those that differ in case or Unicode form."""
    return composed(str(path)).casefold()


def numbered(place: Path, wanted: Path, taken: Mapping[str, str], claimed: Collection[str]) -> Path:
    """The place, or the first of `name (2).png`, `name (3).png`, ... that no system takes for another.

    Args:
        place: the place to give away; kept if `taken` holds exactly it: a clash of equal paths is not one of case.
        wanted: the place that was asked for.
        taken: the places given away, by `name_key`.
        claimed: `name_key` of all places that are asked for.
    """
    free, number = place, 1
    while taken.get(name_key(free), str(free)) != str(free) or (free != wanted and name_key(free) in claimed):
        number += 1
        free = place.with_name(f"{place.stem} ({number}){place.suffix}")
    return free


@dataclass(frozen=True)
class Globs:
    """Patterns that choose files: a pattern with "/" is for the path below the input, one without for the name alone."""

    include: tuple[str, ...] = ()  # none: every file
    exclude: tuple[str, ...] = ()

    def want(self, path: PurePath) -> bool:
        """True for a file that is to be read."""
        return (not self.include or _matches(path, self.include)) and not _matches(path, self.exclude)

    def enter(self, folder: PurePath) -> bool:
        """True for a folder that is to be looked into."""
        return not _matches(folder, self.exclude)


def _matches(path: PurePath, patterns: Sequence[str]) -> bool:
    name, whole = composed(path.name), composed(path.as_posix())
    patterns = [composed(pattern).replace(os.sep, "/").rstrip("/") for pattern in patterns]
    return any(fnmatchcase(whole if "/" in pattern else name, pattern) for pattern in patterns)


class ListedFolder:
    """A folder whose files are found by name in any Unicode form; each of its folders is listed once."""

    def __init__(self, root: Path):
        self.root = root
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, folder: PurePath, names: Sequence[str]) -> Path | None:
        """The first of some files that is there, in a folder below the root; None if there is none."""
        here = self.root
        for part in folder.parts:
            entry = self._entry(here, part)
            if entry is None:
                return None
            here = entry
        found = (self._entry(here, name) for name in names)
        return next((path for path in found if path is not None and path.is_file()), None)

    def _entry(self, folder: Path, name: str) -> Path | None:
        if folder not in self._listed:
            entries = os.listdir(folder) if folder.is_dir() else []
            self._listed[folder] = {composed(entry): entry for entry in entries} | {entry: entry for entry in entries}
        entry = self._listed[folder].get(name) or self._listed[folder].get(composed(name))
        return folder / entry if entry else None

"""Licence and age of every installed package that an installation pulls in, from the packages' own metadata."""

import csv
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

OLD_MONTHS = 24  # months without a release that get a remark. Chosen and not measured.
LONGEST_LICENCE = 60  # letters of a licence's name; a longer field holds the text of the licence


def pulled_in(package: str, extras: Sequence[str]) -> dict[str, list[str]]:
    """The installed packages that a package needs, directly or not, and by whom each is needed first.

    Args:
        package: the name of the package.
        extras: names of its extras.

    Returns:
        names of packages, as their metadata spell them, and those of the packages that need them; without `package`.

    Raises:
        ValueError: the package is not installed.
    """
    needed: dict[str, list[str]] = {}
    seen, waiting = set(), [(package, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop(0)
        if (_normal(name), wanted) in seen:
            continue
        seen.add((_normal(name), wanted))
        try:
            about = distribution(name)
        except PackageNotFoundError:
            if _normal(name) == _normal(package):
                raise ValueError(
                    f"{package} is not installed here; install it, with -e . from the repository"
                ) from None
            continue
        for requirement in _requirements(about, wanted):
            waiting.append((requirement.name, frozenset(requirement.extras)))
            if _normal(requirement.name) != _normal(package):
                needed.setdefault(_normal(requirement.name), []).append(about.name)
    return {name: sorted(set(by)) for name, by in needed.items() if _is_installed(name)}


def _requirements(about: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """The packages that a package needs on this machine with some of its extras."""
    for line in about.requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:  # its marker holds, and it was left out all the same, such as a wheel of a GPU
        return False


def _normal(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(about: Distribution) -> str:
    """The licence by a package's metadata: the SPDX expression, else the short field, else the classifiers; "" if none."""
    fields = about.metadata
    short, spdx = (fields[name].strip() if name in fields else "" for name in ("License", "License-Expression"))
    classes = [line.split(" :: ")[-1] for line in fields.get_all("Classifier") or [] if line.startswith("License ::")]
    named = short if short != "UNKNOWN" and "\n" not in short and len(short) <= LONGEST_LICENCE else ""
    return spdx or named or ", ".join(classes)


def read_releases(path: str | Path) -> dict[str, tuple[str, str]]:
    """Newest version and its month by package, from tab-separated lines with the columns name, version and month.

    Raises:
        ValueError: the file lacks one of the columns.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := {"name", "version", "month"} - {*(reader.fieldnames or ())}:
            raise ValueError(f"{path} has no column {min(missing)}; its first line must name name, version and month")
        return {_normal(row["name"]): (row["version"], row["month"]) for row in reader}


def licence_rows(
    package: str, extras: Sequence[str], releases: dict[str, tuple[str, str]], month: str
) -> list[dict[str, str]]:
    """A row for each installed package that a package needs.

    Args:
        package: the name of the package.
        extras: of the package.
        releases: from `read_releases`; may be empty.
        month: today's, as 2026-11.

    Returns:
        rows with name, version, licence, the packages that need it, newest version and its month, and a remark
        where that month lies `OLD_MONTHS` or more back; empty where it is not known.
    """
    rows = []
    for name, needed_by in sorted(pulled_in(package, extras).items()):
        about = distribution(name)
        newest, released = releases.get(name, ("", ""))
        old = released and _months(month) - _months(released) >= OLD_MONTHS
        rows.append(
            {
                "package": about.name,
                "version": about.version,
                "licence": licence_of(about),
                "needed by": ", ".join(needed_by),
                "newest": newest,
                "month of the newest": released,
                "remark": f"no release for {OLD_MONTHS} months" if old else "",
            }
        )
    return rows


def _months(month: str) -> int:
    """Months since year 0 of a month such as 2026-11."""
    year, number = month.split("-")
    return 12 * int(year) + int(number)

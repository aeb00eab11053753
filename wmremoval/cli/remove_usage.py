"""The faults of a command line of `wmremoval remove`, each in one line, before any file is touched."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from wmremoval.batch.remote import EXTRA, SCHEME, Remote, as_place
from wmremoval.cli.pipes import PIPE
from wmremoval.cli.remove_shared import wrong_shared
from wmremoval.photofile.kinds import ENDINGS

MISSING = f"--workers and --scheduler need Dask: {EXTRA}"
# Options whose files or folders must be of this machine.
LOCAL = ("mask", "backup", "report", "files_from", "watermark", "save_watermark", "weights")


def wrong_usage(arguments: argparse.Namespace) -> str | None:
    """The fault of the options, in one line; None for none."""
    if not arguments.inputs and not arguments.files_from:
        return "name photographs or folders, or a list of them with --files-from"
    if arguments.null and not arguments.files_from:
        return "--null is for the names of --files-from; name their list, or leave --null out"
    if arguments.in_place != (arguments.output is None):
        return "give one of -o OUTPUT and --in-place; without both one photograph goes to a file beside it"
    if arguments.in_place and not arguments.backup:
        return "--in-place needs --backup DIR, where each photograph is copied before it is replaced"
    if arguments.backup and not arguments.in_place:
        return "--backup is for --in-place; without it no photograph is replaced"
    if arguments.in_place and arguments.format != "keep":
        return f"--in-place keeps each photograph's format; leave out --format {arguments.format}"
    if arguments.max_pixels < 1:
        return f"--max-pixels must be at least 1, got {arguments.max_pixels}"
    for wrong in (_wrong_place, wrong_shared, _wrong_report, _wrong_pipe, _wrong_workers):
        if (line := wrong(arguments)) is not None:
            return line
    return None


def _wrong_place(arguments: argparse.Namespace) -> str | None:
    for option in LOCAL:
        name = getattr(arguments, option)
        if name and SCHEME.match(name) and isinstance(as_place(name), Remote):
            return f"--{option.replace('_', '-')} {name}: name a file or folder of this machine"
    if arguments.mask and not as_place(arguments.mask).exists():
        return f"--mask {arguments.mask}: no such file or folder; check the name"
    for option in ("masks", "compare", "backup"):
        place = as_place(getattr(arguments, option) or "")
        if isinstance(place, Path) and place.exists() and not place.is_dir():
            return f"--{option} {place} is a file; name a folder"
    return None


def _wrong_report(arguments: argparse.Namespace) -> str | None:
    from wmremoval.batch.walk import kind_not_read

    report = Path(arguments.report).expanduser() if arguments.report else None
    if report is None or not report.exists():
        return None
    if report.is_dir():
        return f"--report {arguments.report} is a folder; name a file"
    listed = Path(arguments.files_from).expanduser() if arguments.files_from else None
    if kind_not_read(report) is None or (listed is not None and listed.exists() and report.samefile(listed)):
        return f"--report {arguments.report} would replace an input; name a file that ends in .json or .jsonl"
    return None


def _wrong_pipe(arguments: argparse.Namespace) -> str | None:
    """The fault of a use of standard input or output."""
    inputs, output = arguments.inputs, arguments.output
    if PIPE not in (*inputs, output):
        return None
    if arguments.workers or arguments.scheduler:
        return "- is for one photograph, and one process; leave --workers and --scheduler out"
    if len(inputs) != 1 or arguments.files_from or arguments.in_place or Path(inputs[0]).is_dir():
        return "- is for one photograph to one output; for more name files and a folder"
    if output != PIPE and as_place(output).suffix.lower() not in ENDINGS:
        return f"a photograph from standard input has no name; name a file instead of {output}"
    return None


def _wrong_workers(arguments: argparse.Namespace) -> str | None:
    if not (arguments.workers or arguments.scheduler):
        return None
    if arguments.workers and arguments.scheduler:
        return "give one of --workers, which starts processes here, and --scheduler, which has workers already"
    return MISSING if find_spec("distributed") is None else None

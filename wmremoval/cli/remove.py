"""wmremoval remove: from the command line to jobs, and through them, alone or as one of several processes."""

import argparse
import sys
import time
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, overload

from tqdm.auto import tqdm

from wmremoval import log_to
from wmremoval.cli.pipes import PIPE, listed_names, piped
from wmremoval.cli.processes import gathered, process_group, rank_and_world, terminated_as_interrupted, wait_for_all
from wmremoval.cli.progress import Progress
from wmremoval.cli.remove_options import add_options
from wmremoval.cli.remove_shared import Hint, with_marks, wrong_shared
from wmremoval.files import remedy, told
from wmremoval.photofile.errors import ONE_AT_A_TIME
from wmremoval.photofile.kinds import ENDINGS
from wmremoval.photofile.write import output_suffix

if TYPE_CHECKING:  # the network is imported when the command runs, not for its help
    from wmremoval.batch.jobs import Job, Places, Plan
    from wmremoval.batch.run import Outcome
    from wmremoval.cli.remove_report import Counts, Report
    from wmremoval.restore.remover import Remover


def add_remove(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    add_options(commands).set_defaults(run=run_remove)


def run_remove(arguments: argparse.Namespace) -> int:
    """Restore all photographs and return the exit status.

    Returns:
        0 if all went well, 1 if a photograph failed or none was found, 2 for wrong usage, 130 after an interruption.
    """
    from wmremoval.cli.remove_report import Report, report_head
    from wmremoval.restore.remover import load_remover

    rank, world = rank_and_world()
    arguments.inputs = [name for given in arguments.inputs for name in _expanded(given)]
    arguments.output = arguments.output or _beside(arguments)
    wrong = _wrong_usage(arguments) or _wrong_pipe(arguments, world)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    if arguments.output == PIPE:
        log_to(sys.stderr)
    with piped(arguments.inputs, arguments.output) as (inputs, output):
        try:
            plan = _plan(arguments, inputs, output)
            remover = load_remover(
                arguments.weights, arguments.device, max_memory=arguments.max_memory, precision=arguments.precision
            )
            remover.keep_text, remover.sensitivity = arguments.keep_text, arguments.sensitivity
            remover = with_marks(arguments, remover, plan.jobs)
            head = report_head(remover, arguments.weights, world, arguments.dry_run)
            report = Report(_path(arguments.report), head, rank)
        except (ValueError, OSError) as error:
            print(f"error: {told(error)}", file=sys.stderr)
            return 2
        return _run(arguments, plan, remover, report)


def _run(arguments: argparse.Namespace, plan: "Plan", remover: "Remover", report: "Report") -> int:
    """All jobs of this process, and the end of the whole on the first one; returns the exit status."""
    from wmremoval.batch.jobs import share_of
    from wmremoval.cli.remove_report import Counts

    rank, world = rank_and_world()
    if rank == 0:
        for remark in plan.remarks:
            print(remark, file=sys.stderr)
    started, interrupted = time.perf_counter(), False
    counts = Counts(left_out=plan.left_out) if rank == 0 else Counts()
    hint = Hint(world == 1 and not (arguments.same_mark or arguments.watermark or arguments.mask))
    with process_group(world), terminated_as_interrupted():
        try:
            for outcome in _outcomes(arguments, share_of(plan.jobs, rank, world), remover):
                counts.add(outcome)
                report.add(outcome)
                hint.add(outcome)
        except KeyboardInterrupt:
            interrupted = True
        parts = [(counts, report.rows)] if interrupted else gathered((counts, report.rows), rank, world)
        counts = sum((part for part, _ in parts), Counts())
        rows = sorted((row for _, part in parts for row in part), key=lambda row: row["name"])
        seconds = time.perf_counter() - started
        if rank == 0 or interrupted:
            _print_summary(arguments, counts, seconds, interrupted)
            if not (interrupted or counts.photographs or plan.remarks):  # those say why
                print("no photographs found; name photographs, or a folder that holds some", file=sys.stderr)
            if (line := hint.line()) is not None:
                print(line, file=sys.stderr)
        whole = True
        try:
            tail = {"seconds": round(seconds, 2), "interrupted": interrupted}
            report.finish(counts, rows, 1 if interrupted else world, tail)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}){remedy(error)}"
            print(f"error: {arguments.report}: {reason}", file=sys.stderr)
            whole = False
        if not interrupted:
            wait_for_all(world)  # torchrun stops the others as soon as one process ends with an error
    if interrupted:
        return 130
    return int(counts.statuses["failed"] > 0 or not counts.photographs or not whole) if rank == 0 else 0


def _outcomes(arguments: argparse.Namespace, jobs: "list[Job]", remover: "Remover") -> "Iterator[Outcome]":
    """The outcome of each job, with its progress and a line for each.

    Each is given at once, so that an interruption loses none.
    """
    from wmremoval.batch.run import Options, remove_watermarks
    from wmremoval.batch.sizes import expected_pixels
    from wmremoval.cli.remove_report import outcome_line

    options = Options(
        max_pixels=arguments.max_pixels,
        overwrite=arguments.overwrite,
        quality=arguments.quality,
        grow=arguments.grow,
        times=not arguments.no_times,
        dry_run=arguments.dry_run,
        folders=_result_folders(arguments),
    )
    rank, world = rank_and_world()
    label = "Removing watermarks" if world == 1 else f"Process {rank + 1} of {world}"
    lines = sys.stderr if arguments.output == PIPE else sys.stdout  # a photograph has standard output for itself
    with Progress(expected_pixels([job.source for job in jobs]), label) as progress:
        for outcome in remove_watermarks(jobs, remover, options):
            stream = sys.stderr if outcome.status == "failed" else lines
            with ONE_AT_A_TIME:  # while a decoder is kept quiet, nothing reaches standard error
                tqdm.write(outcome_line(outcome, arguments.dry_run), file=stream)
            progress.update(worked=outcome.status in ("restored", "unmarked"))
            yield outcome


def _print_summary(arguments: argparse.Namespace, counts: "Counts", seconds: float, interrupted: bool) -> None:
    lines = sys.stderr if arguments.output == PIPE else sys.stdout
    print(counts.line(seconds, arguments.dry_run), file=lines)
    for line in counts.advice():
        print(line, file=lines)
    if interrupted:
        print("interrupted; the same command continues with the missing photographs", file=sys.stderr)


def _expanded(name: str) -> list[str]:
    """The files of a pattern such as `*.jpg`, which the shells of Windows leave to the program; else the name itself."""
    if not set(name) & set("*?") or _path(name).exists():
        return [name]
    return sorted(glob(str(_path(name)))) or [name]


def _beside(arguments: argparse.Namespace) -> str | None:
    """The output where none is named: a file beside the one photograph; None where there are more, or it has no ending."""
    if arguments.in_place or arguments.files_from or len(arguments.inputs) != 1 or arguments.inputs[0] == PIPE:
        return None
    photo = _path(arguments.inputs[0])
    if photo.is_dir() or photo.suffix.lower() not in ENDINGS:
        return None
    return str(photo.with_name(f"{photo.stem}.restored{output_suffix(photo, arguments.format)}"))


@overload
def _path(name: str) -> Path: ...
@overload
def _path(name: str | None) -> Path | None: ...
def _path(name: str | None) -> Path | None:
    return Path(name).expanduser() if name else None


def _plan(arguments: argparse.Namespace, inputs: list[str], output: str | None) -> "Plan":
    from wmremoval.batch.jobs import plan_jobs

    listed = listed_names(arguments.files_from, arguments.null) if arguments.files_from else []
    return plan_jobs([_path(name) for name in inputs], _places(arguments, output), [Path(name) for name in listed])


def _places(arguments: argparse.Namespace, output: str | None) -> "Places":
    from wmremoval.batch.jobs import Places
    from wmremoval.batch.names import Globs

    return Places(
        output=_path(output),
        masks=_path(arguments.masks),
        mask=_path(arguments.mask),
        compare=_path(arguments.compare),
        format=arguments.format,
        recursive=arguments.recursive,
        backup=_path(arguments.backup),
        globs=Globs(tuple(arguments.include), tuple(arguments.exclude)),
    )


def _result_folders(arguments: argparse.Namespace) -> tuple[Path, ...]:
    """The folders that are made for results alone; in a dry run those of masks."""
    if arguments.dry_run:
        return (_path(arguments.masks),) if arguments.masks else ()
    output = _path(arguments.output)
    to_file = output is not None and (output.suffix.lower() in ENDINGS or arguments.output == PIPE)
    folders = [None if output is None or (to_file and not output.is_dir()) else output]
    folders += [_path(name) for name in (arguments.masks, arguments.compare, arguments.backup)]
    return tuple(folder for folder in folders if folder is not None)


def _wrong_usage(arguments: argparse.Namespace) -> str | None:
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
    if arguments.mask and not _path(arguments.mask).exists():
        return f"--mask {arguments.mask}: no such file or folder; check the name"
    for option in ("masks", "compare", "backup"):
        name = getattr(arguments, option)
        if name and _path(name).exists() and not _path(name).is_dir():
            return f"--{option} {name} is a file; name a folder"
    return wrong_shared(arguments) or _wrong_report(arguments)


def _wrong_report(arguments: argparse.Namespace) -> str | None:
    from wmremoval.batch.walk import kind_not_read

    report = _path(arguments.report)
    if report is None or not report.exists():
        return None
    if report.is_dir():
        return f"--report {arguments.report} is a folder; name a file"
    listed = _path(arguments.files_from)
    if kind_not_read(report) is None or (listed is not None and listed.exists() and report.samefile(listed)):
        return f"--report {arguments.report} would replace an input; name a file that ends in .json or .jsonl"
    return None


def _wrong_pipe(arguments: argparse.Namespace, world: int) -> str | None:
    """The fault of a use of standard input or output, in one line; None for none."""
    inputs, output = arguments.inputs, arguments.output
    if PIPE not in (*inputs, output, arguments.files_from):
        return None
    if world > 1:
        return "standard input and output are for a single process; name files"
    if PIPE not in (*inputs, output):
        return None
    if len(inputs) != 1 or arguments.files_from or arguments.in_place or _path(inputs[0]).is_dir():
        return "- is for one photograph to one output; for more name files and a folder"
    if output != PIPE and _path(output).suffix.lower() not in ENDINGS:
        return f"a photograph from standard input has no name; name a file instead of {output}"
    return None

"""wmremoval remove: from the command line to jobs, and through them, in this process or by workers."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, overload

from tqdm.auto import tqdm

from wmremoval import log_to
from wmremoval.batch.remote import SCHEME, Place, Remote, as_place
from wmremoval.cli.pipes import PIPE, listed_names, piped
from wmremoval.cli.progress import Progress
from wmremoval.cli.remove_options import add_options
from wmremoval.cli.remove_shared import Hint, known_marks
from wmremoval.cli.remove_usage import wrong_usage
from wmremoval.cli.signals import terminated_as_interrupted
from wmremoval.files import remedy, told
from wmremoval.photofile.errors import ONE_AT_A_TIME
from wmremoval.photofile.kinds import ENDINGS
from wmremoval.photofile.write import output_suffix

if TYPE_CHECKING:  # the network is imported when the command runs, not for its help
    from wmremoval.batch.jobs import Job, Places, Plan
    from wmremoval.batch.run import Options, Outcome
    from wmremoval.cli.remove_report import Counts, Report
    from wmremoval.cluster.crew import Alone, Crew


def add_remove(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    add_options(commands).set_defaults(run=run_remove)


def run_remove(arguments: argparse.Namespace) -> int:
    """Restore all photographs and return the exit status.

    Returns:
        0 if all went well, 1 if a photograph failed or none was found, 2 for wrong usage, 130 after an interruption.
    """
    from wmremoval.batch.staged import mark_stored
    from wmremoval.cli.remove_report import Report, report_head

    arguments.inputs = [name for given in arguments.inputs for name in _expanded(given)]
    arguments.output = arguments.output or _beside(arguments)
    wrong = wrong_usage(arguments)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    if arguments.output == PIPE:
        log_to(sys.stderr)
    with piped(arguments.inputs, arguments.output) as (inputs, output), ExitStack() as stack:
        stack.enter_context(terminated_as_interrupted())
        try:
            plan = _plan(arguments, inputs, output)
            hands = stack.enter_context(_hands(arguments, plan.jobs))
            for folder in _result_folders(arguments) if plan.jobs else ():
                if isinstance(folder, Remote):
                    mark_stored(folder)
            report = Report(_path(arguments.report), report_head(hands.facts, hands.count, arguments.dry_run))
        except (ValueError, OSError) as error:
            print(f"error: {told(error)}", file=sys.stderr)
            return 2
        return _run(arguments, plan, hands, report)


def _hands(arguments: argparse.Namespace, jobs: "list[Job]") -> "AbstractContextManager[Alone | Crew]":
    """The process or the workers that restore the photographs.

    Raises:
        ValueError, OSError: the network cannot be loaded, or the workers cannot be reached.
    """
    from wmremoval.cluster.crew import Alone, crew
    from wmremoval.cluster.setup import Setup

    alone = not (arguments.workers or arguments.scheduler)
    setup = Setup(
        arguments.weights,
        arguments.device,
        arguments.max_memory,
        arguments.precision,
        arguments.keep_text,
        arguments.sensitivity,
    )
    remover = setup.load() if alone or arguments.same_mark else None
    setup = replace(setup, shared=known_marks(arguments, remover, jobs))
    options = _options(arguments)
    if remover is not None and alone:
        return nullcontext(Alone(setup.with_marks(remover), setup.facts(remover), options))
    return crew(arguments.workers, arguments.scheduler, setup, options)


def _run(arguments: argparse.Namespace, plan: "Plan", hands: "Alone | Crew", report: "Report") -> int:
    """All jobs, and the end of the whole; returns the exit status."""
    from wmremoval.cli.remove_report import Counts

    for remark in plan.remarks:
        print(remark, file=sys.stderr)
    if hands.dashboard:
        print(f"the workers can be watched at {hands.dashboard}", file=sys.stderr)
    started, interrupted, broken = time.perf_counter(), False, ""
    counts = Counts(left_out=plan.left_out)
    hint = Hint(not (arguments.same_mark or arguments.watermark or arguments.mask or _has_remote(plan)))
    try:
        for outcome in _outcomes(arguments, plan.jobs, hands):
            counts.add(outcome)
            report.add(outcome)
            hint.add(outcome)
    except KeyboardInterrupt:
        interrupted = True
    except ConnectionError as error:  # the workers are out of reach
        broken = told(error)
    seconds = time.perf_counter() - started
    _print_summary(arguments, counts, seconds)
    if interrupted:
        print("interrupted; the same command continues with the missing photographs", file=sys.stderr)
    elif broken:
        print(f"error: {broken}", file=sys.stderr)
    elif not (counts.photographs or plan.remarks):  # those say why
        print("no photographs found; name photographs, or a folder that holds some", file=sys.stderr)
    if (line := hint.line()) is not None:
        print(line, file=sys.stderr)
    try:
        report.finish(counts, {"seconds": round(seconds, 2), "interrupted": interrupted or bool(broken)})
    except OSError as error:
        broken = f"{arguments.report}: cannot be written ({error.strerror}){remedy(error)}"
        print(f"error: {broken}", file=sys.stderr)
    if interrupted:
        return 130
    return int(counts.statuses["failed"] > 0 or not counts.photographs or bool(broken))


def _outcomes(arguments: argparse.Namespace, jobs: "list[Job]", hands: "Alone | Crew") -> "Iterator[Outcome]":
    """The outcome of each job, with its progress and a line for each.

    Each is given at once, so that an interruption loses none.
    """
    from wmremoval.batch.sizes import pixels_of_jobs
    from wmremoval.cli.remove_report import outcome_line

    lines = sys.stderr if arguments.output == PIPE else sys.stdout  # a photograph has standard output for itself
    with Progress(pixels_of_jobs(jobs), "Removing watermarks") as progress, closing(hands.restore(jobs)) as outcomes:
        for number, outcome in outcomes:
            stream = sys.stderr if outcome.status == "failed" else lines
            with ONE_AT_A_TIME:  # while a decoder is kept quiet, nothing reaches standard error
                tqdm.write(outcome_line(outcome, arguments.dry_run), file=stream)
            progress.update(outcome.status in ("restored", "unmarked"), number)
            yield outcome


def _options(arguments: argparse.Namespace) -> "Options":
    from wmremoval.batch.run import Options

    folders = [folder.absolute() for folder in _result_folders(arguments) if isinstance(folder, Path)]
    return Options(
        max_pixels=arguments.max_pixels,
        overwrite=arguments.overwrite,
        quality=arguments.quality,
        grow=arguments.grow,
        times=not arguments.no_times,
        dry_run=arguments.dry_run,
        folders=tuple(folders),
    )


def _print_summary(arguments: argparse.Namespace, counts: "Counts", seconds: float) -> None:
    lines = sys.stderr if arguments.output == PIPE else sys.stdout
    print(counts.line(seconds, arguments.dry_run), file=lines)
    for line in counts.advice():
        print(line, file=lines)


def _expanded(name: str) -> list[str]:
    """The files of a pattern such as `*.jpg`, which the shells of Windows leave to the program; else the name itself."""
    if SCHEME.match(name) or not set(name) & set("*?") or _path(name).exists():
        return [name]
    return sorted(glob(str(_path(name)))) or [name]


def _beside(arguments: argparse.Namespace) -> str | None:
    """The output where none is named: a file beside the one photograph; None where there are more, or it has no ending."""
    if arguments.in_place or arguments.files_from or len(arguments.inputs) != 1 or arguments.inputs[0] == PIPE:
        return None
    photo = as_place(arguments.inputs[0])
    if photo.suffix.lower() not in ENDINGS or (isinstance(photo, Path) and photo.is_dir()):
        return None
    return str(photo.with_name(f"{photo.stem}.restored{output_suffix(photo.name, arguments.format)}"))


@overload
def _path(name: str) -> Path: ...
@overload
def _path(name: str | None) -> Path | None: ...
def _path(name: str | None) -> Path | None:
    return Path(name).expanduser() if name else None


def _plan(arguments: argparse.Namespace, inputs: list[str], output: str | None) -> "Plan":
    """The jobs of all inputs.

    Raises:
        ValueError, OSError: they make no sense, or a list or a store cannot be read.
    """
    from wmremoval.batch.jobs import UsageError, plan_jobs

    listed = listed_names(arguments.files_from, arguments.null) if arguments.files_from else []
    names = [as_place(name) if SCHEME.match(name) else Path(name) for name in listed]  # a file may begin with ~ there
    plan = plan_jobs([as_place(name) for name in inputs], _places(arguments, output), names)
    if (arguments.in_place or arguments.same_mark) and _has_remote(plan):
        instead = (
            "--in-place is for photographs of this machine; give -o OUTPUT for those in a store"
            if arguments.in_place
            else "--same-mark measures photographs of this machine; --save-watermark there, and --watermark for a store"
        )
        raise UsageError(instead)
    return plan


def _has_remote(plan: "Plan") -> bool:
    return any(isinstance(job.source, Remote) for job in plan.jobs)


def _places(arguments: argparse.Namespace, output: str | None) -> "Places":
    from wmremoval.batch.jobs import Places
    from wmremoval.batch.names import Globs

    return Places(
        output=as_place(output) if output else None,
        masks=as_place(arguments.masks) if arguments.masks else None,
        mask=_path(arguments.mask),
        compare=as_place(arguments.compare) if arguments.compare else None,
        format=arguments.format,
        recursive=arguments.recursive,
        backup=_path(arguments.backup),
        globs=Globs(tuple(arguments.include), tuple(arguments.exclude)),
    )


def _result_folders(arguments: argparse.Namespace) -> tuple[Place, ...]:
    """The folders that are made for results alone; in a dry run those of masks."""
    names = [arguments.masks] if arguments.dry_run else [arguments.masks, arguments.compare, arguments.backup]
    folders = [as_place(name) for name in names if name]
    if arguments.dry_run or not arguments.output or arguments.output == PIPE:
        return tuple(folders)
    output = as_place(arguments.output)
    to_file = output.suffix.lower() in ENDINGS and not output.is_dir()
    return tuple(folders if to_file else [output, *folders])

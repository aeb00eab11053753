"""wmremoval remove: options, printed lines, report, and the division of the work among several processes."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from wmremoval import __version__
from wmremoval.files import write_json
from wmremoval.photofile.read import MAX_PIXELS
from wmremoval.photofile.write import FORMATS

EXAMPLES = """examples:
  wmremoval remove photo.jpg -o clean.jpg
  wmremoval remove photos/ -o clean/ --recursive --masks masks/ --report report.json
  torchrun --nproc-per-node 4 -m wmremoval remove photos/ -o clean/ --recursive --report report.json"""


def add_remove(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    remove = commands.add_parser(
        "remove",
        help="remove watermarks from photographs and folders of them",
        description="Remove visible watermarks from photographs; unmarked pixels and all metadata stay as they are.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    remove.add_argument("inputs", nargs="+", metavar="INPUT", help="photographs and folders: jpg png webp tif bmp")
    remove.add_argument("-o", "--output", required=True, help="a folder, or a file for one photograph")
    remove.add_argument("--masks", metavar="DIR", help="save the mask of each photograph as DIR/<name>.png, 8-bit grey")
    remove.add_argument("--mask", metavar="FILE|DIR", help="restrict changes to the non-black pixels (DIR/<name>.png)")
    remove.add_argument(
        "--weights", metavar="FILE", help="a .safetensors, .pth or run's folder; default: the package's"
    )
    remove.add_argument("--device", default="auto", help="auto, cpu or cuda")
    remove.add_argument("--precision", default="auto", help="auto, float32 or bf16")
    remove.add_argument("--max-memory", type=int, default=2000, metavar="MB", help="memory on the CPU, default 2000")
    remove.add_argument(
        "--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help=f"largest photograph, default {MAX_PIXELS}"
    )
    remove.add_argument("--recursive", action="store_true", help="include sub-folders")
    remove.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    remove.add_argument("--format", default="keep", choices=("keep", *FORMATS), help="output format, default keep")
    remove.add_argument("--quality", type=_quality, default="keep", metavar="N|keep", help="1 to 100, default keep")
    remove.add_argument("--report", metavar="FILE.json", help="write the outcome of every photograph")
    remove.add_argument("--compare", metavar="DIR", help="save before and after side by side as DIR/<name>.jpg")
    remove.set_defaults(run=run_remove)


def _quality(text: str) -> int | str:
    if text == "keep" or (text.isdigit() and 1 <= int(text) <= 100):
        return text if text == "keep" else int(text)
    raise argparse.ArgumentTypeError(f"must be 1 to 100, or keep, not {text!r}")


def run_remove(arguments: argparse.Namespace) -> int:
    """Restore all photographs and return the exit status.

    Returns:
        0 if all went well, 1 if a photograph failed or none was found, 2 for wrong usage, 130 after an interruption.
    """
    from wmremoval.restore.batch import Options, Outcome, UsageError, plan_jobs, share_of
    from wmremoval.restore.remover import load_remover

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    try:
        _check(arguments)
        jobs, remarks = plan_jobs([_path(name) for name in arguments.inputs], _places(arguments))
        remover = load_remover(
            arguments.weights, arguments.device, max_memory=arguments.max_memory, precision=arguments.precision
        )
    except (UsageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if rank == 0:
        for remark in remarks:
            print(remark, file=sys.stderr)
    options = Options(arguments.max_pixels, arguments.overwrite, arguments.quality)
    started, outcomes, interrupted = time.perf_counter(), [], False
    with _process_group(world), _terminated_as_interrupted():
        try:
            outcomes = _work(share_of(jobs, rank, world), remover, options, outcomes, rank, world)
        except KeyboardInterrupt:
            interrupted = True
        rows = [asdict(outcome) for outcome in outcomes]
        rows = rows if interrupted else _gathered(rows, rank, world)
        outcomes = [Outcome(**row) for row in sorted(rows, key=lambda row: row["name"])]
        status = _finish(arguments, remover, outcomes, time.perf_counter() - started, rank, world, interrupted)
        if not interrupted:
            _wait_for_all(world)  # torchrun stops the others as soon as one process ends with an error
    return status if rank == 0 or interrupted else 0


def _work(jobs: Sequence, remover, options, outcomes: list, rank: int, world: int) -> list:
    """Restore the jobs with a progress bar and one line each.

    Each outcome is added to `outcomes` at once, so that an interruption loses none.
    """
    from wmremoval.restore.batch import remove_watermarks

    label = "Removing watermarks" if world == 1 else f"Process {rank + 1} of {world}"
    with tqdm(total=len(jobs), desc=label, unit="photo", disable=None) as bar:
        for outcome in remove_watermarks(jobs, remover, options):
            outcomes.append(outcome)
            stream = sys.stderr if outcome.status == "failed" else sys.stdout
            tqdm.write(outcome.line(), file=stream)
            bar.update()
    return outcomes


def _finish(arguments, remover, outcomes: list, seconds: float, rank: int, world: int, interrupted: bool) -> int:
    from wmremoval.restore.batch import summary_line

    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if rank == 0 or interrupted:
        print(summary_line(outcomes, seconds))
        if interrupted:
            print("interrupted; the same command continues with the missing photographs", file=sys.stderr)
        elif not outcomes:
            print("no photographs found", file=sys.stderr)
    if arguments.report and rank == 0:
        try:
            write_json(arguments.report, _report(arguments, remover, outcomes, seconds, world, interrupted))
        except OSError as error:
            print(f"error: {arguments.report}: cannot be written ({error.strerror})", file=sys.stderr)
            return 1
    return 130 if interrupted else int(failed > 0 or not outcomes)


def _report(arguments, remover, outcomes: list, seconds: float, world: int, interrupted: bool) -> dict[str, Any]:
    statuses = ("restored", "unmarked", "kept", "failed")
    card = remover.about.get("card", {"file": Path(arguments.weights).name if arguments.weights else None})
    return {
        "wmremoval": __version__,
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": {name: card[name] for name in ("file", "sha256", "date") if name in card},
        "device": str(remover.net.device),
        "processes": world,
        "seconds": round(seconds, 2),
        "interrupted": interrupted,
        "summary": {status: sum(outcome.status == status for outcome in outcomes) for status in statuses},
        "photographs": [_json_safe(asdict(outcome)) for outcome in outcomes],
    }


def _json_safe(value: Any) -> Any:
    """Escape the bytes of file names that are not UTF-8, since JSON cannot hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: _json_safe(item) for name, item in value.items()}
    return [_json_safe(item) for item in value] if isinstance(value, list) else value


def _path(name: str) -> Path:
    return Path(name).expanduser()


def _places(arguments: argparse.Namespace):
    from wmremoval.restore.batch import Places

    output, masks, mask, compare = (
        _path(name) if name else None for name in (arguments.output, arguments.masks, arguments.mask, arguments.compare)
    )
    return Places(output, masks, mask, compare, arguments.format, arguments.recursive)


def _check(arguments: argparse.Namespace) -> None:
    from wmremoval.restore.batch import UsageError

    if arguments.max_pixels < 1:
        raise UsageError(f"--max-pixels must be at least 1, got {arguments.max_pixels}")
    if arguments.mask and not _path(arguments.mask).exists():
        raise UsageError(f"--mask {arguments.mask}: no such file or folder")
    for option in ("masks", "compare"):
        name = getattr(arguments, option)
        if name and _path(name).exists() and not _path(name).is_dir():
            raise UsageError(f"--{option} {name} is a file; name a folder")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C: the current file is either finished or not written at all."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _process_group(world: int) -> Iterator[None]:
    """Connect the processes started by `torchrun`; they exchange data once, at the end."""
    if world == 1:
        yield
        return
    import torch.distributed as distributed

    distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _gathered(rows: list[dict], rank: int, world: int) -> list[dict]:
    """The rows of all processes, on the first process."""
    if world == 1:
        return rows
    import torch.distributed as distributed

    parts: list[list[dict]] = [[] for _ in range(world)]
    distributed.gather_object(rows, parts if rank == 0 else None)
    return [row for part in parts for row in part] if rank == 0 else rows


def _wait_for_all(world: int) -> None:
    if world > 1:
        import torch.distributed as distributed

        distributed.barrier()

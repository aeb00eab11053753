"""The speed of `remove --workers N` against N plain commands of one thread each, which share the same photographs."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from wmremoval.files import read_json

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


def measure_cluster(photos: Sequence[Path], workers: int = 2) -> dict[str, float]:
    """Restore photographs by N plain commands at once, then by one command with N workers.

    Args:
        photos: at least `workers`; each plain command gets every N-th.
        workers: number of processes, N.

    Returns:
        seconds of both, from the start of the first process to the end of the last one, and without the start of
        Python and the network; and the share of the plain commands' speed that the workers reach, in both countings.

    Raises:
        ValueError: too few photographs.
        RuntimeError: a command failed; the message is its last line.
    """
    if len(photos) < workers:
        raise ValueError(f"{workers} photographs are needed at least, got {len(photos)}")
    with TemporaryDirectory() as home:
        parts = [_folder(Path(home) / f"part{number}", photos[number::workers]) for number in range(workers)]
        whole = _folder(Path(home) / "whole", photos)
        plain, plain_own = _timed([[str(part)] for part in parts])
        spread, spread_own = _timed([[str(whole), "--workers", str(workers)]])
    return {
        "photographs": len(photos),
        "workers": workers,
        "plain commands at once, s": plain,
        "one command with workers, s": spread,
        "workers, share of the plain commands' speed": plain / spread,
        "plain commands at once, without their start, s": plain_own,
        "one command with workers, without its start, s": spread_own,
        "without the start, share of the plain commands' speed": plain_own / spread_own,
    }


def _folder(folder: Path, photos: Sequence[Path]) -> Path:
    """A folder with copies of photographs, numbered, since their names may coincide."""
    folder.mkdir()
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / f"{number:06d}{photo.suffix}")
    return folder


def _timed(commands: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Seconds until the last of some commands has ended, and of the one that restored longest by its own report."""
    started = time.perf_counter()
    running = []
    for inputs in commands:
        folder = Path(inputs[0])
        files = ["-o", str(folder.with_suffix(".out")), "--report", str(folder.with_suffix(".json"))]
        command = [sys.executable, "-m", "wmremoval", "remove", *inputs, *files]
        environment = os.environ | ONE_THREAD
        nowhere, told = subprocess.DEVNULL, subprocess.PIPE
        running.append(subprocess.Popen(command, env=environment, stdout=nowhere, stderr=told, text=True))
    errors = [process.communicate()[1] for process in running]
    seconds = time.perf_counter() - started
    for process, error in zip(running, errors, strict=True):
        if process.returncode:
            raise RuntimeError(error.strip().splitlines()[-1] if error.strip() else "a command failed")
    return seconds, max(read_json(Path(inputs[0]).with_suffix(".json"))["seconds"] for inputs in commands)

"""A training killed at random moments and resumed each time, against one that runs through."""

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from wmremoval.config import TrainConfig
from wmremoval.data.dataset import WatermarkDataset
from wmremoval.data.fonts import FontBook
from wmremoval.data.loaders import make_loader, sample_config
from wmremoval.files import read_json, write_json
from wmremoval.training import loop
from wmremoval.training.checkpoints import BEST_WEIGHTS, STATE, read_checkpoint
from wmremoval.training.trainer import Training

# Small steps, of which half is saving the state: kills come while it is written, too.
CONFIG = TrainConfig(
    image_size=32, batch_size=2, warmup_epochs=1, epochs=4, ema=0.9, alpha=0.0, perceptual_weights="random", amp="off"
)
PHOTOS = (10, 2)  # photographs to train on and to validate
LONGEST = 4  # times the mean share of a run between kills: the longest sitting. Chosen, so that several runs end.
CLOCKED = ("seconds", "images_per_second", "data_share", "tflops")  # entries of the history that differ from run to run
BEGUN, STEPS = "begun", "steps"  # files of a sitting: it has begun; a byte for each step that it took


@dataclass
class Tally:
    """The counts of a series of kills."""

    kills: int = 0
    at_the_end: int = 0  # killed when the run was done and its state removed, before the process had ended
    before_a_state: int = 0  # killed before the first state of the run was there
    while_writing: int = 0  # killed with a file half written, which stays beside the whole one before it
    within_an_epoch: int = 0  # the state then was of the midst of an epoch
    steps_kept: int = 0  # steps taken and found in the state after the kill
    steps_again: int = 0  # steps taken after the last state, and taken once more
    runs: int = 0  # runs that went to their end
    equal_runs: int = 0  # of these, with the history and weights of the run that nobody killed, to the last bit
    problems: list[str] = field(default_factory=list)


def run_kills(photos: Sequence[Path], kills: int = 20, seed: int = 0, config: TrainConfig = CONFIG) -> Tally:
    """Kill a training with SIGKILL at random moments, and resume it after each.

    The state is saved after every step. A run that comes to its end is compared, and another begins, until there were
    enough kills.

    Args:
        photos: at least as many as `PHOTOS` in all.
        kills: number of kills.
        seed: of the moments.
        config: of the trainings.

    Returns:
        what was seen; `problems` names each state that could not be read, step that was lost or counted twice, epoch that
        was missing or there twice, and difference from the run that nobody killed.
    """
    if len(photos) < sum(PHOTOS):
        raise ValueError(f"{sum(PHOTOS)} photographs are needed, got {len(photos)}")
    chances, tally = random.Random(seed), Tally()
    with TemporaryDirectory() as home:
        start = _starter([str(path) for path in photos[: sum(PHOTOS)]], config)
        unbroken, killed = Path(home) / "unbroken", Path(home) / "killed-0"
        began = time.monotonic()
        start(unbroken).join()
        longest = LONGEST * (time.monotonic() - began) / kills
        while tally.kills < kills:
            if _sitting(start, killed, chances.uniform(0, longest), tally):
                _compare(unbroken, killed, tally, config)
                killed = Path(home) / f"killed-{tally.runs}"
        while not _sitting(start, killed, None, tally):
            pass
        _compare(unbroken, killed, tally, config)
    return tally


def _starter(photos: list[str], config: TrainConfig) -> Callable[[Path], multiprocessing.Process]:
    """A function that starts a sitting of a run; the processes have the package imported already, where that is possible."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__, "torch._dynamo"])  # optimisers import the latter

    def start(folder: Path) -> multiprocessing.Process:
        folder.mkdir(exist_ok=True)
        for name in (BEGUN, STEPS):
            (folder / name).unlink(missing_ok=True)
        process = context.Process(target=_sit, args=(str(folder), photos, config.to_dict()))
        process.start()
        while process.is_alive() and not (folder / BEGUN).exists():
            time.sleep(0.01)
        return process

    return start


class _Counted(Training):
    """A training that leaves a byte in a file for every step."""

    steps: int  # descriptor of the file

    def step(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        norm = super().step(loss, optimizer)
        os.write(self.steps, b".")
        return norm


def _sit(folder: str, photos: list[str], settings: dict) -> None:
    """Train in this process, from the state in the folder if there is one."""
    torch.set_num_threads(1)
    loop.SAVE_SECONDS = 0
    home, config = Path(folder), TrainConfig.from_dict(settings)
    loaders = _loaders([Path(path) for path in photos], config)
    training = _Counted(config, len(loaders["train"]), torch.device("cpu"))
    training.steps = os.open(home / STEPS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    (home / BEGUN).touch()
    result = loop.fit(training, loaders, home, resume=(home / STATE).exists())
    write_json(home / "training_history.json", result.history)


def _loaders(photos: list[Path], config: TrainConfig) -> dict[str, DataLoader]:
    """Loaders of a run whose marks are shapes: reading fonts would take longer than training."""
    loaders = {}
    for part, paths in (("train", photos[: PHOTOS[0]]), ("val", photos[PHOTOS[0] :])):
        samples = sample_config(config, training=part == "train")
        loaders[part] = make_loader(WatermarkDataset(paths, samples, FontBook({})), config.batch_size)
    return loaders


def _sitting(start: Callable, folder: Path, seconds: float | None, tally: Tally) -> bool:
    """Train for some seconds, then kill; None: to the end. True if the run is at its end."""
    before = _steps_in_state(folder, tally)
    process = start(folder)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode == 0:
        return True
    if os.name == "posix" and process.exitcode != -9:
        tally.problems.append(f"a sitting ended with status {process.exitcode}")
        raise RuntimeError(tally.problems[-1])
    tally.kills += 1
    if not (folder / STATE).exists() and (folder / "training_history.json").exists():
        tally.at_the_end += 1
        return True
    tally.while_writing += any(folder.glob(".*.part"))
    tally.before_a_state += not (folder / STATE).exists()
    taken = (folder / STEPS).stat().st_size if (folder / STEPS).exists() else 0
    kept = _steps_in_state(folder, tally, count=True) - before
    tally.steps_kept += kept
    tally.steps_again += taken - kept
    if not taken - 1 <= kept <= taken:  # the last step's state may not have been written any more
        tally.problems.append(f"kill {tally.kills}: of {taken} steps since the last one the state has {kept}")
    return False


def _steps_in_state(folder: Path, tally: Tally, count: bool = False) -> int:
    """The steps of a run that its state has; 0 without a state."""
    if not (folder / STATE).exists():
        return 0
    try:
        state = read_checkpoint(folder / STATE, "cpu")
    except ValueError as error:
        tally.problems.append(f"kill {tally.kills}: {error}")
        raise
    progress = state["progress"]
    epochs = [row["epoch"] for row in progress["history"]]
    if epochs != list(range(1, len(epochs) + 1)):
        tally.problems.append(f"kill {tally.kills}: the history has the epochs {epochs}")
    if (folder / "training_history.json").exists():
        read_json(folder / "training_history.json")
    tally.within_an_epoch += count and progress["underway"]["steps"] > 0
    return progress["passes"] * state["steps_per_epoch"] + progress["underway"]["steps"]


def _compare(unbroken: Path, killed: Path, tally: Tally, config: TrainConfig) -> None:
    """Compare a finished run with the one that nobody killed."""
    histories, weights = [], []
    for folder in (unbroken, killed):
        rows = json.loads((folder / "training_history.json").read_text(encoding="utf-8"))
        histories.append([{name: value for name, value in row.items() if name not in CLOCKED} for row in rows])
        weights.append(load_file(folder / BEST_WEIGHTS))
    epochs = [row["epoch"] for row in histories[1]]
    if epochs != list(range(1, config.epochs + 1)):
        tally.problems.append(f"run {tally.runs}: its history has the epochs {epochs}")
    if leftovers := [path.name for path in (*killed.glob(".*.part"), killed / STATE) if path.exists()]:
        tally.problems.append(f"run {tally.runs}: {leftovers[0]} was left")
    other = {name for rows in zip(*histories, strict=False) for name in rows[0] if rows[0][name] != rows[1].get(name)}
    if weights[0].keys() != weights[1].keys() or any(
        not torch.equal(x, weights[1][name]) for name, x in weights[0].items()
    ):
        other.add("weights")
    if other:
        tally.problems.append(
            f"run {tally.runs}: it has other {', '.join(sorted(other))} than the run that nobody killed"
        )
    tally.runs += 1
    tally.equal_runs += not other

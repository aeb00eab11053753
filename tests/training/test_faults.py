"""What may go wrong in a long run: one clear line, or a warning that is recorded, and the last state as good as before."""

import errno
import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from small import STATE, make_training

from wmremoval.__main__ import main
from wmremoval.training import loop
from wmremoval.training.loop import fit
from wmremoval.training.passes import NonFiniteLossError
from wmremoval.training.trainer import Training

SMALL = [
    "--image-size", "32", "--batch-size", "2", "--epochs", "2", "--warmup-epochs", "1", "--perceptual-weights", "random",
    "--alpha", "0", "--amp", "off", "--photo-memory", "0",
]  # fmt: skip
QUIET = ["--no-score", "--no-pictures"]


@pytest.fixture
def folder(pictures, tmp_path):
    """Ten photographs, in a folder that a test may change: seven to train on, in four batches, two to validate."""
    (tmp_path / "photos").mkdir()
    for path in pictures:
        shutil.copy(path, tmp_path / "photos")
    for path in pictures[:2]:
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "photos" / f"turned_{path.name}")
    return tmp_path / "photos"


@pytest.fixture
def saved_often(monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)


def at_step(monkeypatch, number: int, happens) -> None:
    """Let something happen right after a step, before its state is saved."""
    step, count = Training.step, itertools.count(1)

    def step_then(*args):
        norm = step(*args)
        if next(count) == number:
            happens()
        return norm

    monkeypatch.setattr(Training, "step", step_then)


def train(photos: Path, outputs: Path, *options: str) -> int:
    return main(["train", "--photos", str(photos), "--output", str(outputs), *SMALL, *QUIET, *options])


def steps_in(run: Path) -> int:
    state = torch.load(run / STATE, weights_only=True)
    return state["progress"]["passes"] * state["steps_per_epoch"] + state["progress"]["underway"]["steps"]


def only_error(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


def goes_on(run: Path) -> None:
    """The run resumes and comes to its end, with every epoch once, and leaves nothing half written."""
    assert main(["train", "--resume", str(run), *QUIET]) == 0
    assert [row["epoch"] for row in json.loads((run / "training_history.json").read_text())] == [1, 2]
    assert not (run / STATE).exists() and not list(run.glob(".*"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.usefixtures("saved_often")
def test_a_full_disk_is_one_line_and_the_state_before_it_stays(folder, small_disk, monkeypatch, capsys):
    ballast = small_disk / "ballast"

    def fill():
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))

    with monkeypatch.context() as patch:
        at_step(patch, 4, fill)
        assert train(folder, small_disk) == 1
    line = only_error(capsys)
    (run,) = (small_disk / "runs").iterdir()
    assert "No space left on device" in line and f"{run}/{STATE}" in line and f"--resume {run}" in line
    assert steps_in(run) == 3 and not list(run.glob(".*"))
    ballast.unlink()
    goes_on(run)


@pytest.mark.usefixtures("saved_often")
@pytest.mark.parametrize("name", ["training_state.pt", "wm_best_model.pth", "wm_best_model.safetensors"])
def test_a_write_that_fails_half_way_is_one_line_with_the_files_name(folder, tmp_path, monkeypatch, capsys, name):
    """The same where nothing can be mounted, for each of the files; the state first fails in its fourth step."""
    write, current = Path.write_bytes, []

    def write_half(path, content):
        if current and current[-1] == name and (name != STATE or len(current) >= 4):
            write(path, bytes(content)[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    from wmremoval.training import checkpoints

    write_bytes = checkpoints.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoints, "write_bytes", lambda path, content: current.append(path.name) or write_bytes(path, content)
        )
        patch.setattr(Path, "write_bytes", write_half)
        assert train(folder, tmp_path) == 1
    (run,) = (tmp_path / "runs").iterdir()
    line = only_error(capsys)
    assert f"No space left on device: '{run / name}'" in line
    assert steps_in(run) == (3 if name == STATE else 8) and not list(run.glob(".*"))
    goes_on(run)


@pytest.mark.usefixtures("saved_often")
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("fault", ["vanishes", "is cut short"])
def test_a_photograph_that_gets_lost_is_one_line_with_its_name(folder, tmp_path, monkeypatch, capsys, fault, workers):
    whole = {path: path.read_bytes() for path in folder.iterdir()}

    def lose():
        for path, content in whole.items():
            path.unlink() if fault == "vanishes" else path.write_bytes(content[: len(content) // 2])

    with monkeypatch.context() as patch:
        at_step(patch, 1, lose)
        assert train(folder, tmp_path, "--workers", workers) == 1
    line = only_error(capsys)
    (run,) = (tmp_path / "runs").iterdir()
    assert any(path.name in line for path in whole) and "not a readable image" in line and f"--resume {run}" in line
    assert 1 <= steps_in(run) < 12
    for path, content in whole.items():
        path.write_bytes(content)
    goes_on(run)


@pytest.mark.usefixtures("saved_often")
def test_a_loader_process_that_dies_is_one_line(folder, tmp_path, monkeypatch, capsys):
    def kill():
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_step(patch, 2, kill)
        assert train(folder, tmp_path, "--workers", "1") == 1
    line = only_error(capsys)
    (run,) = (tmp_path / "runs").iterdir()
    assert "a loader process has ended" in line and "--workers" in line and f"--resume {run}" in line
    assert 1 <= steps_in(run) < 12
    goes_on(run)


@pytest.mark.usefixtures("saved_often")
def test_a_loss_of_nan_is_one_line_and_the_state_before_it_stays(folder, tmp_path, monkeypatch, capsys):
    objective, count = Training.objective, itertools.count(1)

    def spoiled(*args):
        total, terms = objective(*args)
        return (total * math.nan if next(count) == 6 else total), terms

    with monkeypatch.context() as patch:
        patch.setattr(Training, "objective", spoiled)
        assert train(folder, tmp_path) == 1
    line = only_error(capsys)
    (run,) = (tmp_path / "runs").iterdir()
    assert "Epoch 1, step 2: the loss is nan" in line and f"--resume {run}" in line
    assert steps_in(run) == 5
    assert all(x.isfinite().all() for x in torch.load(run / STATE, weights_only=True)["net"].values())
    goes_on(run)


def overflowing(monkeypatch, steps: range) -> Training:
    """A training in float32 with a scaler of float16, whose gradients overflow in some steps."""
    reset, step, count = Training.reset, Training.step, itertools.count(1)

    def with_scaler(self):
        reset(self)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def overflow(self, loss, optimizer):
        return step(self, loss * math.inf if next(count) in steps else loss, optimizer)

    monkeypatch.setattr(Training, "reset", with_scaler)
    monkeypatch.setattr(Training, "step", overflow)
    return make_training()


def test_a_gradient_that_overflows_skips_its_step_and_is_recorded(loaders, tmp_path, monkeypatch, log):
    result = fit(overflowing(monkeypatch, range(4, 6)), loaders, tmp_path)
    assert [row.get("skipped_steps") for row in result.history] == [2, None]
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert [line.split(":")[0] for line in warnings] == ["Epoch 1, step 1", "Epoch 1, step 2"]
    assert "the scale is now 256" in warnings[1]


def test_gradients_that_always_overflow_end_the_run(loaders, tmp_path, monkeypatch):
    """The scale falls from 1024 to below 1 in eleven steps; three of them are the warm-up."""
    with pytest.raises(
        NonFiniteLossError, match=r"^Epoch 3, step 2: the gradient overflows at every scale.*amp"
    ) as caught:
        training = overflowing(monkeypatch, range(1, 100))
        training.config = type(training.config).from_dict(training.config.to_dict() | {"epochs": 4})
        fit(training, loaders, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_one_line_before_any_step(folder, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert train(folder, tmp_path / "taken") == 1
    assert str(tmp_path / "taken") in only_error(capsys)


def test_a_read_only_disk_is_one_line_before_any_step(folder, small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert train(folder, small_disk) == 1
    line = only_error(capsys)
    assert "Read-only file system" in line and str(small_disk) in line

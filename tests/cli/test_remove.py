"""`python -m wmremoval remove`: files and folders, bad ones among them, interruptions, reports."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command import files, run
from PIL import Image
from planted import Planted, marked, photograph, planted, psnr_inside
from safetensors.torch import save_file

from wmremoval.batch import outputs
from wmremoval.batch import run as batch_run
from wmremoval.batch.jobs import Job
from wmremoval.batch.run import Budget, remove_watermarks
from wmremoval.files import _machine, remove_leftovers
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore import remover
from wmremoval.restore.remover import Remover


@pytest.fixture
def folder(marked_folder):
    return marked_folder


def test_a_folder_goes_to_a_folder(folder, capsys):
    status = run("in", "-o", "out", "--recursive", "--masks", "masks", "--compare", "sides", "--report", "report.json")
    assert status == 0
    assert files(folder / "out") == files(folder / "in")
    assert files(folder / "masks") == sorted(name.rsplit(".", 1)[0] + ".png" for name in files(folder / "in") if name)
    assert files(folder / "sides") == sorted(name.rsplit(".", 1)[0] + ".jpg" for name in files(folder / "in"))
    _, clean, mask = marked(110, 170, origin=(20, 60))
    before, after = (np.asarray(Image.open(folder / place / "one.png")) for place in ("in", "out"))
    assert psnr_inside(after, clean, mask) > 40
    saved = Image.open(folder / "masks/one.png")
    assert saved.mode == "L" and saved.size == (170, 110)
    np.testing.assert_array_equal(after[np.asarray(saved) == 0], before[np.asarray(saved) == 0])
    assert (folder / "out/plain.jpg").read_bytes() == (folder / "in/plain.jpg").read_bytes(), "unmarked: not a bit"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["summary"] == {"restored": 3, "unmarked": 1, "kept": 0, "failed": 0}
    rows = {row["name"]: row for row in report["photographs"]}
    assert sorted(rows) == files(folder / "in") and rows["plain.jpg"]["area"] == 0
    assert rows["one.png"]["area"] == pytest.approx((np.asarray(saved) > 0).mean())
    out = capsys.readouterr().out
    assert "one.png: mark on" in out and "plain.jpg: no mark found" in out and "3 restored" in out


def test_one_file_goes_to_one_file_and_its_ending_chooses_the_format(folder):
    assert run("in/one.png", "-o", "clean.webp") == 0
    image = Image.open(folder / "clean.webp")
    _, clean, mask = marked(110, 170, origin=(20, 60))
    assert image.format == "WEBP" and psnr_inside(np.asarray(image.convert("RGB")), clean, mask) > 38
    assert run("in/one.png", "-o", "made/for/it") == 0 and files(folder / "made") == ["for/it/one.png"]


def test_a_mask_of_ones_own_limits_the_change(folder):
    own = np.zeros((110, 170), np.uint8)
    own[:, :60] = 255
    Image.fromarray(own).save(folder / "own.png")
    for grow, edge in (((), 62), (("--grow", 0), 60), (("--grow", 9), 69)):
        assert run("in/one.png", "-o", "out", "--mask", "own.png", "--overwrite", *grow) == 0
        before, after = (np.asarray(Image.open(folder / place / "one.png")) for place in ("in", "out"))
        np.testing.assert_array_equal(after[:, edge:], before[:, edge:])
        assert (after[:, edge - 12 : edge] != before[:, edge - 12 : edge]).any()
    assert run("in/plain.jpg", "-o", "out", "--mask", "own.png") == 1, "a mask of another size"


def test_bad_files_are_a_line_each_and_the_rest_goes_on(folder, capsys):
    bad = {
        "empty.jpg": b"",
        "text.png": b"this is no picture",
        "cut.png": (folder / "in/one.png").read_bytes()[:300],
        "new\nline.png": b"x",
    }
    for name, content in bad.items():
        (folder / "in" / name).write_bytes(content)
    os.symlink(folder / "in/round.png", folder / "in/round.png")
    os.symlink(folder / "in", folder / "in/loop")
    os.mkfifo(folder / "in/pipe.jpg")
    assert run("in", "-o", "out", "--report", "report.json") == 1
    out, err = capsys.readouterr()
    failures = [line for line in err.splitlines() if line.startswith("failed:")]
    assert len(failures) == len(bad) + 2 and "Traceback" not in out + err
    for name in ("empty.jpg", "text.png", "cut.png", "round.png", "pipe.jpg"):
        assert sum(name in line for line in failures) == 1, name
    assert files(folder / "out") == ["one.png", "plain.jpg", "two words é🙂.png"]
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["summary"]["failed"] == len(failures) and report["summary"]["restored"] == 2


def test_what_the_wanted_format_cannot_hold_names_the_photograph(folder, capsys):
    Image.fromarray(marked(80, 150)[0]).convert("RGBA").save(folder / "in/glass.webp", lossless=True)
    alpha = Image.open(folder / "in/glass.webp")
    alpha.putalpha(100)
    alpha.save(folder / "in/glass.webp", lossless=True)
    assert run("in/glass.webp", "-o", "out", "--format", "jpeg") == 1
    assert "glass.webp" in capsys.readouterr().err and files(folder / "out") == []


def test_too_many_pixels_are_refused(folder, capsys):
    assert run("in", "-o", "out", "--max-pixels", 110 * 170 - 1) == 1
    assert files(folder / "out") == ["plain.jpg"] and "one.png" in capsys.readouterr().err


def test_what_is_there_is_kept_unless_told_otherwise(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/one.png").write_bytes(b"precious")
    assert run("in", "-o", "out") == 0
    assert (folder / "out/one.png").read_bytes() == b"precious" and "there already" in capsys.readouterr().out
    assert run("in", "-o", "out", "--overwrite") == 0
    assert Image.open(folder / "out/one.png").size == (170, 110)


@pytest.mark.parametrize(
    "arguments",
    [
        ["in", "-o", "in"],
        ["in/one.png", "-o", "in/one.png", "--overwrite"],
        ["in", "-o", "out", "--masks", "in/one.png"],
        ["in", "-o", "out", "--mask", "nowhere"],
        ["in", "-o", "out", "--max-pixels", "0"],
        ["in"],
        ["-o", "out"],
        ["in", "-o", "out", "--null"],
        ["in", "-o", "out", "--backup", "kept"],
        ["in", "--in-place"],
        ["in", "--in-place", "--backup", "in"],
        ["in", "--in-place", "--backup", "kept", "-o", "out"],
        ["in", "--in-place", "--backup", "kept", "--format", "png"],
        ["in", "-o", "out", "--report", "in/plain.jpg"],
        ["-", "-o", "out"],
        ["-", "in", "-o", "-"],
        ["in", "-o", "-"],
        ["in/one.png", "-o", "clean.gif"],
    ],
)
def test_wrong_usage_is_status_2_and_touches_nothing(folder, arguments, capsys):
    before = {name: (folder / "in" / name).read_bytes() for name in files(folder / "in")}
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (folder / "out").exists()
    assert before == {name: (folder / "in" / name).read_bytes() for name in files(folder / "in")}


@pytest.mark.parametrize("arguments", [["--quality", "200"], ["--format", "gif"], ["--grow", "-1"]])
def test_wrong_options_are_status_2(folder, arguments):
    with pytest.raises(SystemExit) as caught:
        run("in", "-o", "out", *arguments)
    assert caught.value.code == 2


def test_no_weights_is_one_clear_line(tmp_path, monkeypatch, capsys):
    Image.fromarray(photograph(40, 40)).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out", "--weights", tmp_path / "none.safetensors") == 2
    assert "none.safetensors" in capsys.readouterr().err
    monkeypatch.setattr(remover, "SHIPPED_WEIGHTS", tmp_path / "gone.safetensors")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "--weights" in err and len(err.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=["full disk", "no permission"])
def test_what_cannot_be_written_is_a_line_and_leaves_nothing(folder, monkeypatch, capsys, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refused)
    assert run("in", "-o", "out") == 1
    err = capsys.readouterr().err
    assert err.count(os.strerror(number)) == 3 and files(folder / "out") == []


def test_an_interruption_leaves_whole_files_and_a_second_run_goes_on(folder, monkeypatch, capsys):
    class Interrupting(Planted):
        def parts(self, watermarked):
            if len(self.shown) >= 3:
                raise KeyboardInterrupt
            return super().parts(watermarked)

    monkeypatch.setattr(remover, "load_remover", lambda *a, **o: Remover(Interrupting(), torch.device("cpu")))
    assert run("in", "-o", "out", "--recursive") == 130
    done = files(folder / "out")
    assert 0 < len(done) < 4 and "continues with the missing photographs" in capsys.readouterr().err
    for name in done:
        Image.open(folder / "out" / name).load()
    monkeypatch.setattr(remover, "load_remover", lambda *a, **o: planted())
    assert run("in", "-o", "out", "--recursive", "--report", "r.json") == 0
    assert files(folder / "out") == files(folder / "in")
    assert json.loads((folder / "r.json").read_text())["summary"]["kept"] == len(done)


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = tmp_path / f".{_machine()}-{gone.pid}-aa.part", tmp_path / f".{_machine()}-{os.getpid()}-aa.part"
    foreign = tmp_path / f".00000000-{gone.pid}-aa.part"
    for path in (dead, alive, foreign):
        path.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert not dead.exists() and alive.exists() and foreign.exists()


def test_the_budget_holds_readers_back_but_never_for_ever():
    budget = Budget(10)
    assert budget.take(4) == 4 and budget.take(6) == 6
    order = []
    waiting = threading.Thread(target=lambda: order.append(budget.take(1000)))  # larger than all: one at a time
    waiting.start()
    budget.give(4)
    time.sleep(0.05)
    assert not order
    budget.give(6)
    waiting.join(5)
    assert order == [10]


def test_reading_restoring_and_writing_overlap(tmp_path, monkeypatch):
    """While one photograph is restored the next is read, and written while the next one is restored."""
    black = np.zeros((4, 4, 3), np.uint8)
    restored = SimpleNamespace(
        mask_uint8=black[..., 0] + 1, image=black, regions=[], notes=[], texts=[], seconds=0.0, area=1.0
    )
    jobs = [Job(tmp_path / f"{i}.png", f"{i}.png", tmp_path / f"out/{i}.png") for i in range(6)]
    reads, restores = ({job.name: threading.Event() for job in jobs} for _ in range(2))
    following = {job.name: after.name for job, after in pairwise(jobs)}
    order = iter(jobs)
    missed = []

    def read(path, *_):
        reads[path.name].set()
        path.write_bytes(b"")
        return SimpleNamespace(rgb=black, size=(4, 4), notes=[], native=None, format="PNG", times=None, pages=[])

    def restore(*_):
        name = next(order).name
        restores[name].set()
        if name in following and not reads[following[name]].wait(30):
            missed.append(f"{following[name]} is not read while {name} is restored")
        return [restored]

    def write(photo, image, mask, path, *_):
        path.write_bytes(b"")
        if path.name in following and not restores[following[path.name]].wait(30):
            missed.append(f"{following[path.name]} is not restored while {path.name} is written")

    monkeypatch.setattr(batch_run, "read_photo", read)
    monkeypatch.setattr(outputs, "write_photo", write)
    outcomes = list(remove_watermarks(jobs, SimpleNamespace(restore_pages=restore)))
    assert [outcome.name for outcome in outcomes] == [job.name for job in jobs] and not missed


# In a process of its own, with a real network


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Small photographs and random weights."""
    folder = tmp_path_factory.mktemp("crowd")
    torch.manual_seed(0)
    save_file(HeterogeneousUNet().state_dict(), folder / "net.safetensors", {"composite": "true"})
    (folder / "in").mkdir()
    for i in range(24):
        Image.fromarray(np.roll(photograph(96, 120), i, axis=1)).save(folder / f"in/{i:02d}.png")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_only_whole_files(crowd, number, tmp_path):
    command = [
        sys.executable,
        "-m",
        "wmremoval",
        "remove",
        "in",
        "-o",
        str(tmp_path / "out"),
        "--weights",
        "net.safetensors",
    ]
    process = subprocess.Popen(command, cwd=crowd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "out").exists():
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGTERM else -9) or len(files(tmp_path / "out")) == 24
    for name in files(tmp_path / "out"):
        if name.endswith(".png"):
            Image.open(tmp_path / "out" / name).load()
    again = subprocess.run(command, cwd=crowd, capture_output=True, timeout=120)
    assert again.returncode == 0 and files(tmp_path / "out") == files(crowd / "in")

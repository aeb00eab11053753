"""Damaged files, a full disk and folders without permission, through the command: one line each, nothing half-written."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from command import apart, files, run
from fuzz_remove import check_folder, write_folder
from PIL import Image
from planted import marked

NOBODY = 65534  # number of the user without rights, on Linux
DEMOTED = f"import os\nmain(['remove', 'warm.png', '-o', 'warm', '--overwrite'])\nos.setegid({NOBODY}) or os.seteuid({NOBODY})"


@pytest.mark.parametrize(("seed", "format"), [(0, "keep"), (1, "webp")])
def test_a_folder_of_damaged_files_ends_well(tmp_path, seed, format):
    """60 files in all; `fuzz_remove.py` itself does the same for 2,000."""
    write_folder(tmp_path / "in", 30, seed)
    statuses = check_folder(tmp_path / "in", format)
    assert statuses["failed"] >= 5 and statuses["restored"] + statuses["unmarked"] >= 3, "the good ones, at least"


def noisy(folder, count=6, side=200):
    """Photographs under a mark that no format makes small: 120 kB each as PNG."""
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        watermarked = marked(side, side)[0]
        watermarked[..., :2] = rng.integers(0, 250, (side, side, 2))
        Image.fromarray(watermarked).save(folder / f"{number}.png")


def whole(folder):
    """True if every photograph in a folder can be decoded."""
    return all(Image.open(folder / name).load() for name in files(folder))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 500 kB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_a_full_disk(tmp_path, small_disk, monkeypatch, capsys):
    from planted import planted

    noisy(tmp_path / "in")
    monkeypatch.setattr("wmremoval.restore.remover.load_remover", lambda *_, **__: planted())
    assert run(tmp_path / "in", "-o", small_disk / "out") == 1
    err = capsys.readouterr().err
    done, failed = len(files(small_disk / "out")), err.count("No space left on device")
    assert done and failed and done + failed == 6 and whole(small_disk / "out") and "Traceback" not in err
    assert not list(small_disk.rglob("*.part"))
    with pytest.raises(OSError), (small_disk / "rest").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert run(small_disk / "out", "-o", small_disk / "out2", "--report", small_disk / "r.jsonl") == 1
    err = capsys.readouterr().err
    assert "r.jsonl: cannot be written" in err and err.count("failed: ") == done, "no report, and the run goes on"


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount")
def test_in_place_on_a_full_disk_every_photograph_stays(tmp_path, small_disk, monkeypatch):
    from planted import planted

    noisy(tmp_path / "made", 3)
    shutil.copytree(tmp_path / "made", small_disk / "in")
    before = {name: (small_disk / "in" / name).read_bytes() for name in files(small_disk / "in")}
    monkeypatch.setattr("wmremoval.restore.remover.load_remover", lambda *_, **__: planted())
    assert run(small_disk / "in", "--in-place", "--backup", small_disk / "kept") == 1
    for name, data in before.items():
        kept = small_disk / "kept" / name
        assert (small_disk / "in" / name).read_bytes() == data or kept.read_bytes() == data, name
    assert whole(small_disk / "in") and not list(small_disk.rglob("*.part"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_limit_on_the_size_of_files(tmp_path):
    noisy(tmp_path / "in", 2)
    Image.fromarray(marked(60, 150)[0]).save(tmp_path / "in/small.jpg")
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)"
    done = apart("in", "-o", "out", "--masks", "m", folder=tmp_path, before=limit, text=True)
    assert done.returncode == 1 and done.stderr.count("File too large") == 2 and "Traceback" not in done.stderr
    assert files(tmp_path / "out") == ["small.jpg"] and not list(tmp_path.rglob("*.part"))


@pytest.fixture
def guarded():
    """A folder that the user without rights may enter, with photographs, and an output folder he may not write to."""
    folder = Path(tempfile.mkdtemp(prefix="wmremoval-"))
    folder.chmod(0o755)
    (folder / "in").mkdir(mode=0o755)
    Image.fromarray(marked(110, 170)[0]).save(folder / "in/a.png")
    Image.fromarray(marked(110, 170)[0]).save(folder / "warm.png")
    (folder / "out").mkdir()
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def as_an_ordinary_user(*arguments, folder):
    """The command without the rights of root, after everything was imported with them."""
    return apart(*arguments, folder=folder, before=DEMOTED if os.geteuid() == 0 else "", text=True)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_without_the_right_to_write(guarded):
    (guarded / "in").chmod(0o555)
    guarded.chmod(0o555)
    try:
        for arguments in (("in", "-o", "new/out"), ("in", "--in-place", "--backup", "kept")):
            done = as_an_ordinary_user(*arguments, folder=guarded)
            assert done.returncode == 1 and "Permission denied" in done.stderr, done.stderr[-2000:]
            assert done.stderr.count("failed: ") == 1 and "Traceback" not in done.stderr
    finally:
        guarded.chmod(0o755)
    assert not (guarded / "new").exists() and not (guarded / "kept").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_photograph_and_a_folder_without_the_right_to_read(guarded):
    (guarded / "out").chmod(0o777)
    (guarded / "in/secret").mkdir()
    Image.fromarray(marked(110, 170)[0]).save(guarded / "in/b.png")
    (guarded / "in/b.png").chmod(0)
    (guarded / "in/secret").chmod(0)
    done = as_an_ordinary_user("in", "in/secret/x.png", "-o", "out", "--recursive", folder=guarded)
    assert done.returncode == 1 and files(guarded / "out") == ["a.png"], done.stderr[-2000:]
    assert (
        all(f"{name}.png: no permission to read it" in done.stderr for name in "bx")
        and "secret: cannot be listed" in done.stderr
    )

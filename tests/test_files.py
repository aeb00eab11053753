"""Files that appear whole or not at all, JSON without NaN, and the repository's root."""

import csv
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wmremoval.files import (
    atomic_path,
    find_root,
    finite,
    read_json,
    temporary_folder,
    write_csv,
    write_json,
    write_text,
)
from wmremoval.report.style import save_figure

NAN, INF = math.nan, math.inf


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Whole or not at all.


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.txt"]


def test_a_failed_first_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "new.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_write_is_visible_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a" / "b" / "new.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent, "a rename across file systems would copy"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["new.txt"]


def test_a_write_replaces_the_old_file(tmp_path):
    write_text(tmp_path / "x.txt", "a long first text")
    write_text(tmp_path / "x.txt", "größer, 水印")
    assert (tmp_path / "x.txt").read_bytes() == "größer, 水印".encode()


def test_a_figure_that_cannot_be_drawn_leaves_the_old_picture(tmp_path):
    figure = Figure(figsize=(1, 1))
    path = save_figure(figure, tmp_path / "picture.png")
    assert path == tmp_path / "picture.png" and Image.open(path).format == "PNG"
    old = path.read_bytes()
    figure.savefig = lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == old and names(tmp_path) == ["picture.png"]


# Temporary folders.


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_temporary_folder_is_deleted_at_the_end_and_after_an_error(temporary):
    with pytest.raises(KeyboardInterrupt), temporary_folder() as folder:
        (folder / "a").write_text("x")
        assert folder.parent == temporary
        raise KeyboardInterrupt
    assert names(temporary) == []


def test_the_folder_of_a_killed_process_is_deleted_at_the_next_start_and_no_other(temporary):
    with temporary_folder() as running:
        start, pid = running.name.split(str(os.getpid()))[0], dead_process()
        kept = [f"{start}{os.getpid()}-other", f"{start}words-x", f"wmremoval-othermachine-{pid}-x", f"other-{pid}-x"]
        for name in (f"{start}{pid}-stale", *kept):
            (temporary / name / "uploads").mkdir(parents=True)
        (temporary / f"{start}{pid}-file").write_text("x")
        (temporary / "elsewhere").mkdir()
        (temporary / f"{start}{pid}-link").symlink_to(temporary / "elsewhere")
        with temporary_folder() as second:
            left = {second.name, running.name, *kept, f"{start}{pid}-file", f"{start}{pid}-link", "elsewhere"}
            assert set(names(temporary)) == left


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users by number")
def test_the_folder_of_another_user_stays(temporary, monkeypatch):
    with temporary_folder() as running:
        other = temporary / f"{running.name.split(str(os.getpid()))[0]}{dead_process()}-other"
    other.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: other.stat().st_uid + 1)
    with temporary_folder():
        assert other.exists()


# JSON and CSV.


def test_nan_and_infinity_become_none_at_any_depth():
    value = {"a": NAN, "b": [1.5, INF, {"c": (-INF, 2, [NAN])}], 3: "nan", "d": None, "e": True, "f": np.float64("nan")}
    assert finite(value) == {
        "a": None,
        "b": [1.5, None, {"c": [None, 2, [None]]}],
        "3": "nan",
        "d": None,
        "e": True,
        "f": None,
    }


def test_finite_leaves_its_argument_alone():
    value = {"a": [NAN]}
    finite(value)
    assert math.isnan(value["a"][0])


def test_written_json_is_strict_and_reads_back(tmp_path):
    write_json(tmp_path / "x.json", {"psnr": [30.5, INF, NAN], "name": "水印", "n": 3})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text and "水印" in text
    assert read_json(tmp_path / "x.json") == {"psnr": [30.5, None, None], "name": "水印", "n": 3}


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert read_json(tmp_path / "x.json") == {"a": 1} and names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"a": 1,\n "b"', b"\xff\xfe\x00", "a folder"],
    ids=["missing", "empty", "cut", "no text", "folder"],
)
def test_unreadable_json_is_one_clear_line(tmp_path, content):
    path = tmp_path / "history.json"
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"history\.json") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_csv_has_every_key_of_every_row_and_empty_cells_for_what_is_missing(tmp_path):
    write_csv(
        tmp_path / "x.csv",
        [{"file": "a, b.jpg", "psnr": 30.5}, {"file": "c.jpg", "iou": NAN, "psnr": INF}, {"iou": 0.25, "note": None}],
    )
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table == [
        ["file", "psnr", "iou", "note"],
        ["a, b.jpg", "30.5", "", ""],
        ["c.jpg", "", "", ""],
        ["", "", "0.25", ""],
    ]


def test_csv_keeps_every_digit(tmp_path):
    write_csv(tmp_path / "x.csv", [{"x": 1 / 3}])
    assert float((tmp_path / "x.csv").read_text().split()[1]) == 1 / 3


# Where.


def test_the_root_is_the_repositorys_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = find_root()
    assert (root / "pyproject.toml").is_file() and (root / "wmremoval" / "files.py").is_file()

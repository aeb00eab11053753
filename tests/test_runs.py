"""Run folders that are never reused, files that appear whole or not at all, JSON without NaN, and the environment."""

import csv
import json
import math
import os
import threading
import types
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wmremoval import runs
from wmremoval.runs import (
    PACKAGES,
    atomic_path,
    environment,
    find_root,
    finite,
    latest_run,
    new_run,
    read_json,
    save_figure,
    write_csv,
    write_json,
    write_text,
)

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


# Run folders.


@pytest.fixture
def stopped_clock(monkeypatch):
    """Every moment is the same one."""
    moment = datetime(2025, 6, 24, 12, 30, 45)
    monkeypatch.setattr(runs, "datetime", types.SimpleNamespace(now=lambda: moment))


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, stopped_clock):
    folders = [new_run(tmp_path, "cpu") for _ in range(4)]
    assert len(set(folders)) == 4
    for folder in folders:
        assert folder.parent == tmp_path / "runs" and folder.name.startswith("2025-06-24") and "cpu" in folder.name
        assert names(folder) == ["visuals"]


def test_runs_started_at_once_get_folders_of_their_own(tmp_path, stopped_clock, monkeypatch):
    monkeypatch.setattr(
        runs, "write_text", lambda *args: None
    )  # threads share a process number, and with it a temporary name
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(new_run(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 8


@pytest.mark.parametrize("name", ["cat/dog", "../escaped", "a\\b"])
def test_a_run_cannot_be_named_out_of_its_place(tmp_path, name):
    with pytest.raises(ValueError, match="name"):
        new_run(tmp_path / "outputs", name)
    assert names(tmp_path) == []


def test_latest_names_the_newest_run(tmp_path, stopped_clock):
    assert latest_run(tmp_path) is None
    for _ in range(3):
        folder = new_run(tmp_path)
        assert (tmp_path / "latest.txt").read_text().strip() == folder.name
        assert latest_run(tmp_path) == folder


def test_a_latest_run_that_was_deleted_is_none(tmp_path):
    folder = new_run(tmp_path)
    (folder / "visuals").rmdir()
    folder.rmdir()
    assert latest_run(tmp_path) is None


# Where and on what.


def test_the_root_is_the_repositorys_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = find_root()
    assert (root / "pyproject.toml").is_file() and (root / "wmremoval" / "runs.py").is_file()


def test_the_environment_is_read_live():
    about = environment()
    assert set(about) == {
        "gpu",
        "gpu_memory_gb",
        "cuda",
        "cpu",
        "cpu_cores",
        "ram_gb",
        "os",
        "kernel",
        "python",
        "packages",
    }
    assert about["cpu_cores"] == os.cpu_count()
    assert isinstance(about["ram_gb"], float) and about["ram_gb"] > 0
    for name in ("cpu", "os", "kernel", "python"):
        assert isinstance(about[name], str) and about[name], name
    assert (about["gpu"] is None) == (about["gpu_memory_gb"] is None)
    assert tuple(about["packages"]) == PACKAGES and all(about["packages"].values())
    assert about["packages"]["torch"].split("+")[0] == runs.torch.__version__.split("+")[0]
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    monkeypatch.setattr(runs.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        runs.torch.cuda,
        "get_device_properties",
        lambda index: types.SimpleNamespace(name="A GPU", total_memory=6_000_000_000),
    )
    about = environment()
    assert (about["gpu"], about["gpu_memory_gb"]) == ("A GPU", 6.0)

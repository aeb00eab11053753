"""Run folders that are never reused, and the environment."""

import json
import os
import threading
import types
from datetime import datetime
from pathlib import Path

import pytest

from wmremoval.config import TrainConfig
from wmremoval.data.photos import PhotoSet
from wmremoval.files import write_json
from wmremoval.training import run_folder
from wmremoval.training.environment import PACKAGES, environment
from wmremoval.training.run_folder import check_unseen, latest_run, new_run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Run folders.


@pytest.fixture
def stopped_clock(monkeypatch):
    """Every moment is the same one."""
    moment = datetime(2025, 6, 24, 12, 30, 45)
    monkeypatch.setattr(run_folder, "datetime", types.SimpleNamespace(now=lambda: moment))


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, stopped_clock):
    folders = [new_run(tmp_path, "cpu") for _ in range(4)]
    assert len(set(folders)) == 4
    for folder in folders:
        assert folder.parent == tmp_path / "runs" and folder.name.startswith("2025-06-24") and "cpu" in folder.name
        assert names(folder) == ["visuals"]


def test_runs_started_at_once_get_folders_of_their_own(tmp_path, stopped_clock):
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
    assert about["packages"]["torch"].split("+")[0] == run_folder.torch.__version__.split("+")[0]
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    monkeypatch.setattr(run_folder.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        run_folder.torch.cuda,
        "get_device_properties",
        lambda index: types.SimpleNamespace(name="A GPU", total_memory=6_000_000_000),
    )
    about = environment()
    assert (about["gpu"], about["gpu_memory_gb"]) == ("A GPU", 6.0)


# Weights to begin from


def test_weights_that_were_trained_on_more_photographs_named_like_some_of_the_test_are_not_begun_from(tmp_path):
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    write_json(earlier / "config.json", {"train": TrainConfig().to_dict(), "photos": {"source": "others"}})
    photos = PhotoSet(
        {part: [tmp_path / f"{part}.jpg"] for part in ("train", "val", "test")}, {"source": "mine"}, tmp_path
    )
    config = TrainConfig(start=str(earlier))
    for more, refused in (["train.jpg", "x.jpg"], False), (["x.jpg", "test.jpg"], True):
        write_json(earlier / "split.json", {"train": ["test.jpg"], "val": [], "test": [], "more": more})
        if refused:
            with pytest.raises(
                ValueError, match="earlier was trained on 1 of this run's validation and test photographs"
            ):
                check_unseen(photos, config)
        else:
            check_unseen(photos, config)

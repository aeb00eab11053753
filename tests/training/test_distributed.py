"""Two processes that train one network, against one that trains it alone."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from several import ALL_TERMS, MEAN_TERMS, STOPPED, first_steps, kinds
from small import BEST, STATE, make_loaders, make_training

from wmremoval.data.loaders import EpochSampler, make_loader
from wmremoval.training.distributed import ALONE, DealtBatches, Group, processes
from wmremoval.training.loop import fit

PACKAGE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(pictures, tmp_path_factory):
    """What both of two processes did, and their folder."""
    folder = tmp_path_factory.mktemp("several")
    for path in pictures:
        shutil.copy(path, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"PYTHONPATH": str(PACKAGE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(Path(__file__).with_name("several.py")), str(folder)]
    started = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)], folder


@pytest.fixture(scope="module")
def alone(pictures):
    return {"all terms": first_steps(pictures, ALONE, 20, **ALL_TERMS), "in parts": first_steps(pictures, ALONE, 4, **MEAN_TERMS)}  # fmt: skip


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("name", ["all terms", "in parts"])
def test_two_processes_take_the_steps_of_one(both, alone, name):
    """With fixed BatchNorm statistics: those of half a batch are others. Half of the batches leave a process nothing."""
    for each in both[0]:
        mine, wanted = each[name], alone[name]
        for ours, theirs in zip(mine["gradients"], wanted["gradients"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
        assert [row[2] for row in mine["losses"]] == [row[2] for row in wanted["losses"]]
        for column in (0, 1):
            ours, theirs = ([row[column] for row in steps["losses"]] for steps in (mine, wanted))
            assert ours == pytest.approx(theirs, rel=1e-4 if column == 0 else 1e-2)
        assert mine["val"] == pytest.approx(wanted["val"], rel=1e-3)


def test_the_table_by_kind_is_that_of_one_process(both, pictures):
    wanted = kinds(pictures, ALONE)
    for each in both[0]:
        assert each["kinds"] == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_the_first_process_decides_and_any_may_ask_for_the_end(both):
    wanted = {"agree": (1.0, True), "from_lead": "of 0", "merged": {0: "x", 1: "x"}}
    assert [each["agreements"] for each in both[0]] == [wanted, wanted]


def test_a_run_that_one_process_is_asked_to_end_ends_in_all_and_goes_on_with_another_number(both, pictures, tmp_path):
    results, folder = both
    for each in results:
        assert (each["stopped"]["stopped"], each["stopped"]["steps"]) == ("interrupted", 5)
    state = torch.load(folder / "stopped" / STATE, weights_only=True)
    assert (state["progress"]["passes"], state["progress"]["underway"]["steps"]) == (1, 2)
    assert state["progress"]["underway"]["samples"] == 4
    shutil.copytree(folder / "stopped", tmp_path / "stopped")
    resumed = fit(make_training(**STOPPED), make_loaders(pictures), tmp_path / "stopped", resume=True)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3] and resumed.stopped == "finished"
    assert resumed.history[0]["views"] == pytest.approx(5 * 32**2 / 256**2)


def test_all_processes_go_by_the_first_ones_clock_and_it_alone_writes(both):
    first, second = (each["clocked"] for each in both[0])
    assert first["history"] == second["history"] and len(first["history"]) > 1
    assert first["seconds"] == second["seconds"] >= 40 and first["passes"] == second["passes"]
    folder = both[1] / "clocked"
    assert json.loads((folder / "training_history.json").read_text()) == first["history"]
    assert (folder / BEST).exists() and not (folder / STATE).exists() and not list(folder.glob(".*"))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_every_sample_is_dealt_once(pictures, world):
    """Eight samples in batches of five and three; the last leaves two of five processes a stand-in."""
    dataset = make_loaders(pictures)["train"].dataset
    dataset.paths, dataset.epoch = [*pictures], 4
    loader = make_loader(dataset, 5)
    dealt = [DealtBatches(loader.batch_sampler, rank, world) for rank in range(world)]
    sizes = dealt[0].sizes()
    assert sizes == [5, 3] and {len(each) for each in dealt} == {2}
    given = []
    for number, batches in enumerate(zip(*dealt, strict=True)):
        for rank, batch in enumerate(batches):
            own = Group(rank, world).share({"x": torch.tensor(batch)}, sizes[number]).own
            assert own == len(batch) or (own == 0 and len(batch) == 1)
            given += batch[:own]
    assert sorted(given) == list(range(8)) == sorted(EpochSampler(dataset))


def test_parts_of_all_processes_make_up_the_batch():
    """Seven samples for two processes, in three parts: {0, 6}, {2}, {4} and {1}, {3}, {5}."""
    parts = [list(Group(r, 2).cut(Group(r, 2).share({"x": torch.arange(7)[r::2]}, 7), 3)) for r in range(2)]
    assert [[part.batch["x"].tolist() for part in each] for each in parts] == [[[0, 6], [2], [4]], [[1], [3], [5]]]
    assert [[(part.own, part.together) for part in each] for each in parts] == [[(2, 3), (1, 2), (1, 2)], [(1, 3), (1, 2), (1, 2)]]  # fmt: skip
    (empty,) = Group(1, 2).cut(Group(1, 2).share({"x": torch.zeros(1)}, 1), 3)
    assert (empty.own, empty.together) == (0, 1)


def test_processes_without_a_photograph_are_refused_in_one_line(pictures):
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 2"):
        Group(0, 3).deal(make_loaders(pictures))


@pytest.mark.parametrize(("device", "gpus", "problem"), [("cuda:1", 2, "--device cuda"), ("cuda", 1, "1 GPUs")])
def test_a_gpu_for_each_process_or_one_clear_line(monkeypatch, device, gpus, problem):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=problem), processes(device):
        pass

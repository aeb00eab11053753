"""A training killed by SIGKILL and resumed; the benchmark with few kills."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from wmremoval.bench import kills as module
from wmremoval.bench.kills import CONFIG, PHOTOS, Tally, run_kills

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")


def test_nothing_is_lost_or_counted_twice_when_a_training_is_killed(photos, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 0.8)  # the kill then falls into the run
    tally = run_kills(photos, kills=1, seed=1, config=replace(CONFIG, epochs=1))
    assert tally.problems == [] and tally.kills == 1
    assert tally.runs == tally.equal_runs >= 1
    assert 0 <= tally.steps_again <= 1


def test_a_run_that_lost_an_epoch_or_differs_is_told(photos, tmp_path, monkeypatch):
    """The comparison sees what it is there for: here a history without its second row, and other weights."""
    for name, rows, weights in (("a", [1, 2], 0.5), ("b", [1], 0.25)):
        (tmp_path / name).mkdir()
        module.write_json(tmp_path / name / "training_history.json", [{"epoch": e, "seconds": len(name)} for e in rows])
        save_file({"x": torch.tensor([weights])}, tmp_path / name / module.BEST_WEIGHTS)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    tally = Tally()
    module._compare(tmp_path / "a", tmp_path / "c", tally, replace(CONFIG, epochs=2))
    assert tally == Tally(runs=1, equal_runs=1)
    module._compare(tmp_path / "a", tmp_path / "b", tally, replace(CONFIG, epochs=2))
    assert (tally.runs, tally.equal_runs) == (2, 1)
    assert any("epochs [1]" in line for line in tally.problems) and any("weights" in line for line in tally.problems)


def test_too_few_photographs_are_one_line(photos):
    with pytest.raises(ValueError, match=f"{sum(PHOTOS)} photographs are needed, got 3"):
        run_kills(photos[:3])

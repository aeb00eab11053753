"""Watching a training, and the short training from random weights."""

import tempfile

import pytest
from small import CPU, make_training

from wmremoval.data.photos import PhotoSet
from wmremoval.training.first_steps import learn_from_scratch
from wmremoval.training.loop import fit


def test_a_watch_sees_every_step_and_row_and_takes_the_place_of_the_lines(loaders, tmp_path, caplog):
    seen = []

    def watch(result) -> bool:
        seen.append((len(result.warmup_losses), len(result.history), result.underway.steps))
        return True

    caplog.set_level("INFO")
    training = make_training()
    shares = []
    training_watch = lambda result: watch(result) and not shares.append(training.schedule.share_done(result, 3))  # noqa: E731
    result = fit(training, loaders, tmp_path, watch=training_watch)
    steps = [(warm, rows, step) for warm in (0, 1) for rows in (0, 1) for step in (1, 2, 3) if warm or not rows]
    assert seen == [*steps[:6], (1, 1, 3), *steps[6:], (1, 2, 3)], "after the steps of an epoch comes its row"
    assert len(result.history) == 2 and not [line for line in caplog.messages if line.startswith("Epoch ")]
    assert shares == sorted(shares) and shares[0] == pytest.approx(1 / 9) and shares[-1] == 1


def test_a_watch_that_shows_nothing_leaves_the_lines(loaders, tmp_path, caplog):
    caplog.set_level("INFO")
    fit(make_training(), loaders, tmp_path, watch=lambda result: False)
    assert [line.split(":")[0] for line in caplog.messages if line.startswith("Epoch ")] == ["Epoch 1", "Epoch 2"]


def test_learning_from_scratch_starts_from_random_weights_and_leaves_the_run_alone(
    pictures, loaders, monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = make_training()
    before = {name: x.clone() for name, x in run.net.state_dict().items()}
    photos = PhotoSet({"train": pictures[:5], "val": pictures[5:], "test": []}, {}, pictures[0].parent)
    watched = []
    history = learn_from_scratch(
        run, photos, loaders["val"], lambda training: lambda result: bool(watched.append(training)), 2.0
    )
    assert [row["epoch"] for row in history] == list(range(len(history))) and len(history) >= 3
    assert history[-1]["val_loss"] < history[0]["val_loss"], "it learns"
    assert all((x == before[name]).all() for name, x in run.net.state_dict().items())
    assert watched and watched[0] is not run and watched[0].config.composite is False and watched[0].device == CPU
    assert list(tmp_path.iterdir()) == [], "the weights are not kept"

"""Fresh starts, interruptions, and runs that are taken up again."""

import itertools
import re

import pytest
import torch
from safetensors.torch import load_file
from small import BEST, STATE, WEIGHTS, TinyNet, make_loaders, make_training, same, timeless, weights_of

from wmremoval.data.dataset import WatermarkDataset
from wmremoval.data.loaders import EpochSampler, make_loader
from wmremoval.training import loop as module
from wmremoval.training import trainer as network
from wmremoval.training.checkpoints import load_state, save_state
from wmremoval.training.loop import TrainResult, fit
from wmremoval.training.trainer import Training, seed_everything


def test_fitting_twice_is_the_same_experiment_twice(loaders, tmp_path):
    training = make_training()
    first = fit(training, loaders, tmp_path / "1")
    weights = weights_of(training.net)
    torch.manual_seed(99)
    second = fit(training, loaders, tmp_path / "2")
    assert timeless(first.history) == timeless(second.history)
    assert first.warmup_losses == second.warmup_losses
    assert same(weights, weights_of(training.net))


def test_two_trainings_of_the_real_network_are_one_to_the_last_bit(real, pictures, tmp_path):
    trainings = [make_training(decompose=True, epochs=1, ema=0.9) for _ in range(2)]
    runs = [fit(training, make_loaders(pictures), tmp_path / str(i)) for i, training in enumerate(trainings)]
    assert timeless(runs[0].history) == timeless(runs[1].history)
    assert runs[0].warmup_losses == runs[1].warmup_losses
    assert same(weights_of(trainings[0].kept), weights_of(trainings[1].kept))


def test_another_seed_is_another_experiment(loaders, tmp_path):
    first = fit(make_training(seed=3), loaders, tmp_path / "3")
    second = fit(make_training(seed=4), loaders, tmp_path / "4")
    assert first.history[0]["train_loss"] != second.history[0]["train_loss"]


def interrupt_after(monkeypatch, epochs: int):
    """Press Ctrl-C as soon as so many epochs, warm-up included, have been saved."""
    save, count = save_state, itertools.count(1)

    def save_and_interrupt(*args):
        save(*args)
        if next(count) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_state", save_and_interrupt)


def interrupt_step(monkeypatch, steps: int):
    """Press Ctrl-C in the middle of an epoch."""
    step, count = Training.step, itertools.count(1)

    def step_or_interrupt(*args):
        if next(count) == steps:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(Training, "step", step_or_interrupt)


def interrupt_validation(monkeypatch, epoch: int):
    """Press Ctrl-C when the last step of an epoch is done and nothing but its validation is missing."""
    run = module.run_epoch

    def run_or_interrupt(training, loader, label, *args, **more):
        if label == f"Epoch {epoch} val":
            raise KeyboardInterrupt
        return run(training, loader, label, *args, **more)

    monkeypatch.setattr(module, "run_epoch", run_or_interrupt)


def interrupt_often(monkeypatch, press, at: int):
    """The state is saved after every step."""
    monkeypatch.setattr(module, "SAVE_SECONDS", 0)
    press(monkeypatch, at)


@pytest.mark.parametrize(
    "press",
    [
        pytest.param(lambda patch: interrupt_after(patch, 1), id="in the warm-up"),
        pytest.param(lambda patch: interrupt_after(patch, 2), id="after the warm-up"),
        pytest.param(lambda patch: interrupt_after(patch, 3), id="after an epoch"),
        pytest.param(lambda patch: interrupt_step(patch, 11), id="within an epoch"),
        pytest.param(lambda patch: interrupt_often(patch, interrupt_step, 2), id="within the warm-up, saved there"),
        pytest.param(lambda patch: interrupt_often(patch, interrupt_step, 11), id="within an epoch, saved there"),
        pytest.param(lambda patch: interrupt_often(patch, interrupt_validation, 2), id="in the validation"),
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_unbroken_one_bit_for_bit(finished, pictures, tmp_path, press, log):
    folder, _, unbroken = finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "HeterogeneousUNet", TinyNet)
        press(patch)
        broken = fit(make_training(epochs=3, warmup_epochs=2), make_loaders(pictures), tmp_path)
    assert broken.stopped == "interrupted" and len(broken.history) < 3
    assert (tmp_path / STATE).exists() and "Interrupted" in log.text
    seed_everything(99)  # another process, with another random state
    resumed = fit(make_training(epochs=3, warmup_epochs=2), make_loaders(pictures), tmp_path, resume=True)
    assert resumed.stopped == "finished"
    assert timeless(resumed.history) == timeless(unbroken.history)
    assert resumed.warmup_losses == unbroken.warmup_losses
    assert (resumed.best_epoch, resumed.best_loss) == (unbroken.best_epoch, unbroken.best_loss)
    assert same(load_file(tmp_path / WEIGHTS), load_file(folder / WEIGHTS))
    assert resumed.seconds > broken.seconds


@pytest.mark.parametrize(("press", "at", "done"), [(interrupt_step, 9, 2), (interrupt_validation, 1, 3)])
def test_what_was_done_of_an_epoch_is_not_done_again(pictures, tmp_path, monkeypatch, log, press, at, done):
    with monkeypatch.context() as patch:
        interrupt_often(patch, press, at)
        fit(make_training(epochs=1, warmup_epochs=2), make_loaders(pictures), tmp_path)
    assert torch.load(tmp_path / STATE, weights_only=True)["progress"]["underway"]["steps"] == done
    loaders, given = make_loaders(pictures), []
    order = EpochSampler(loaders["train"].dataset)
    order.dataset.epoch = 2
    expected, get = list(order)[2 * done :], WatermarkDataset.__getitem__

    def counted(dataset, index):
        given.append(index)
        return get(dataset, index)

    monkeypatch.setattr(WatermarkDataset, "__getitem__", counted)
    fit(make_training(epochs=1, warmup_epochs=2), loaders, tmp_path, resume=True)
    assert given == [*expected, 0, 1, 2]  # and the validation
    assert f"after {done} of its steps" in log.text


@pytest.mark.parametrize(("seconds", "saves"), [(0, 3 * 4 + 2), (3600, 3)])
def test_a_state_is_saved_after_every_epoch_and_within_one_and_before_validation_when_it_is_due(
    loaders, tmp_path, monkeypatch, seconds, saves
):
    saved = []
    monkeypatch.setattr(module, "SAVE_SECONDS", seconds)
    monkeypatch.setattr(module, "save_state", lambda training, result: saved.append(result.underway.steps))
    fit(make_training(), loaders, tmp_path)
    assert len(saved) == saves and saved.count(0) == 3


def test_a_scaler_is_resumed_with_its_scale(tmp_path):
    def with_scaler():
        training = make_training()
        training.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        return training

    training = with_scaler()
    training.scaler.scale(torch.ones(1))  # creates the scale
    training.scaler.update(512.0)
    save_state(training, TrainResult(tmp_path))
    again = with_scaler()
    load_state(again, TrainResult(tmp_path))
    assert again.scaler.get_scale() == 512.0


@pytest.mark.parametrize("steps", [1, 5], ids=["at once", "in the first main epoch"])
def test_interrupting_before_the_first_validation_keeps_the_weights_there_are(monkeypatch, loaders, tmp_path, steps):
    interrupt_step(monkeypatch, steps)
    training = make_training()
    result = fit(training, loaders, tmp_path)
    assert result.stopped == "interrupted" and result.history == []
    saved = torch.load(tmp_path / BEST, weights_only=True)
    assert saved["epoch"] == 0
    assert same(saved["model"], training.net.state_dict())


def test_interrupting_the_first_save_of_the_best_model_keeps_the_weights_there_are(monkeypatch, loaders, tmp_path):
    save, count = module.save_best, itertools.count()

    def save_or_interrupt(*args):
        if next(count) == 0:
            raise KeyboardInterrupt
        save(*args)

    monkeypatch.setattr(module, "save_best", save_or_interrupt)
    training = make_training(warmup_epochs=0)
    result = fit(training, loaders, tmp_path)
    assert result.stopped == "interrupted"
    assert same(load_file(tmp_path / WEIGHTS), training.net.state_dict())


def test_interrupting_later_keeps_the_best_model_so_far(monkeypatch, loaders, tmp_path):
    interrupt_step(monkeypatch, 8)  # warm-up and epoch 1 have three steps each
    result = fit(make_training(epochs=3), loaders, tmp_path)
    assert len(result.history) == 1
    saved = torch.load(tmp_path / BEST, weights_only=True)
    assert (saved["epoch"], saved["val_loss"]) == (1, result.history[0]["val_loss"])


@pytest.mark.parametrize("changes", [{"epochs": 9}, {"target": "clean", "learning_rate": 1e-4}, {"amp": "bf16"}])
def test_resuming_with_other_settings_names_them(monkeypatch, loaders, tmp_path, changes):
    interrupt_after(monkeypatch, 1)
    fit(make_training(), loaders, tmp_path)
    with pytest.raises(ValueError, match="other settings") as caught:
        fit(make_training(**changes), loaders, tmp_path, resume=True)
    named = re.search(r"\((.*)\)", str(caught.value)).group(1)
    assert set(named.split(", ")) == set(changes)


def test_a_state_from_before_a_setting_was_there_resumes_with_the_settings_default(monkeypatch, loaders, tmp_path):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        fit(make_training(), loaders, tmp_path)
    state = torch.load(tmp_path / STATE, weights_only=True)
    for name in ("accumulate", "checkpoint_activations"):
        del state["config"][name]
    del state["progress"]["underway"]["skipped"]
    torch.save(state, tmp_path / STATE)
    with pytest.raises(ValueError, match=r"other settings \(accumulate\)"):
        fit(make_training(accumulate=2), loaders, tmp_path, resume=True)
    assert fit(make_training(), loaders, tmp_path, resume=True).epochs == 2


def test_resuming_with_other_perceptual_features_is_an_error(monkeypatch, loaders, tmp_path):
    interrupt_after(monkeypatch, 1)
    fit(make_training(), loaders, tmp_path)
    other = make_training()
    other.criterion.perceptual_source = "imagenet"
    with pytest.raises(ValueError, match="perceptual"):
        fit(other, loaders, tmp_path, resume=True)


def test_resuming_with_another_number_of_batches_is_an_error(monkeypatch, loaders, tmp_path):
    interrupt_after(monkeypatch, 1)
    fit(make_training(steps=3), loaders, tmp_path)
    with pytest.raises(ValueError, match="photographs"):  # else the cycle of the old number goes on with other samples
        fit(make_training(steps=4), loaders, tmp_path, resume=True)


def test_there_is_nothing_to_resume_in_an_empty_or_a_finished_run(loaders, finished, tmp_path):
    for folder in (tmp_path, finished[0]):
        with pytest.raises(ValueError, match="resume from"):
            fit(make_training(), loaders, folder, resume=True)


@pytest.mark.parametrize("content", [b"", b"not a state", "truncated"], ids=["empty", "text", "truncated"])
def test_a_damaged_state_is_one_clear_line(monkeypatch, loaders, tmp_path, content):
    interrupt_after(monkeypatch, 1)
    fit(make_training(), loaders, tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:1000] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"training_state\.pt") as caught:
        fit(make_training(), loaders, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_state_is_one_file_and_goes_with_the_end(monkeypatch, loaders, tmp_path):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        fit(make_training(ema=0.9), loaders, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([STATE, BEST, WEIGHTS])
    fit(make_training(ema=0.9), loaders, tmp_path, resume=True)
    assert not (tmp_path / STATE).exists()


def test_a_save_that_breaks_off_leaves_the_state_before_it(monkeypatch, loaders, tmp_path):
    training = make_training()
    save_state(training, TrainResult(tmp_path))
    weights = weights_of(training.net)
    with torch.no_grad():
        next(training.net.parameters()).add_(1)

    def full(*about):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="full"):
            save_state(training, TrainResult(tmp_path, warmup_losses=[1.0]))
    again = make_training()
    load_state(again, TrainResult(tmp_path))
    assert same(weights, weights_of(again.net))


def test_an_averaged_run_on_crops_of_mixed_size_resumes_exactly_within_an_epoch(pictures, tmp_path, monkeypatch):
    def run(name, resume=False):
        loaders = make_loaders(pictures)
        loaders["train"] = make_loader(loaders["train"].dataset, 2, workers=1, sides=(16, 24, 32, 40))
        return fit(make_training(ema=0.9, epochs=3), loaders, tmp_path / name, resume=resume)

    whole = run("whole")
    with monkeypatch.context() as patch:
        interrupt_often(patch, interrupt_step, 8)
        run("broken")
    assert timeless(run("broken", resume=True).history) == timeless(whole.history)
    assert same(*(load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken")))


def test_an_averaged_run_resumes_exactly(pictures, tmp_path):
    whole = fit(make_training(ema=0.9, epochs=3), make_loaders(pictures), tmp_path / "whole")
    training, loaders = make_training(ema=0.9, epochs=3), make_loaders(pictures)
    save = save_state

    def interrupted(*args):
        save(*args)
        if len(args[1].history) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_state", interrupted)
        fit(training, loaders, tmp_path / "broken")
    resumed = fit(make_training(ema=0.9, epochs=3), make_loaders(pictures), tmp_path / "broken", resume=True)
    assert timeless(resumed.history) == timeless(whole.history)
    first, second = (torch.load(tmp_path / name / BEST, weights_only=True)["model"] for name in ("whole", "broken"))
    assert same(first, second)

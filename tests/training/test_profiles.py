"""Profiles, and what a start from trained weights sets besides."""

import pytest
import torch
from safetensors.torch import load_file
from small import BEST, CPU, WEIGHTS, make_loaders, make_training, same

from wmremoval.config import TrainConfig
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS
from wmremoval.training.loop import fit
from wmremoval.training.profiles import FINE_TUNING, choose_config
from wmremoval.training.trainer import Training

pytestmark = pytest.mark.usefixtures("real")


def test_profiles_give_way_to_what_is_given(log):
    quick = choose_config("auto", CPU)
    assert quick.image_size == 192 and quick.max_photos is not None and "QUICK" in log.text
    assert choose_config("auto", CPU, epochs=5, image_size=None).epochs == 5
    assert choose_config("full", CPU).image_size == 256
    document = choose_config("document", CPU)
    assert (document.composite, document.mask_weight, document.target) == (False, 0.0, "reference")
    with pytest.raises(ValueError, match="profile"):
        choose_config("fast", CPU)
    with pytest.raises(ValueError, match="epoch_count"):
        choose_config("full", CPU, epoch_count=3)


def test_quick_fine_tunes_the_shipped_weights_and_the_others_begin_from_scratch():
    quick = choose_config("quick", CPU)
    assert (quick.start, quick.target, quick.decompose, quick.composite) == ("shipped", "clean", True, True)
    assert quick.learning_rate == FINE_TUNING["learning_rate"] < 1e-3
    scratch = choose_config("quick", CPU, start="scratch")
    assert (scratch.learning_rate, scratch.target, scratch.decompose) == (1e-3, "reference", False)
    assert choose_config("full", CPU).start == choose_config("document", CPU).start == "scratch"
    assert choose_config("quick", CPU, learning_rate=2e-3, target="reference").learning_rate == 2e-3


def test_a_run_begins_from_the_shipped_weights_to_the_bit():
    training = Training(choose_config("quick", CPU, perceptual_weights="random"), 3, CPU)
    shipped = {name: x.float() if x.is_floating_point() else x for name, x in load_file(SHIPPED_WEIGHTS).items()}
    assert same(training.net.state_dict(), shipped)


def test_a_run_s_name_stands_for_its_weights_and_their_form(tmp_path, monkeypatch):
    monkeypatch.setenv("WMREMOVAL_ROOT", str(tmp_path))
    run = tmp_path / "outputs" / "runs" / "mine"
    run.mkdir(parents=True)
    config = TrainConfig(composite=False)
    state = Training(TrainConfig(composite=False, perceptual_weights="random"), 3, CPU).net.state_dict()
    torch.save({"model": state, "config": config.to_dict()}, run / BEST)
    chosen = choose_config("quick", CPU, start="mine")
    assert chosen.start == str(run) and not chosen.composite and not chosen.decompose


def test_settings_of_older_runs_are_read():
    old = {name: value for name, value in TrainConfig().to_dict().items() if name != "start"}
    assert TrainConfig.from_dict(old | {"init": None}).start == "scratch"
    assert TrainConfig.from_dict(old | {"init": "a/b.pth"}).start == "a/b.pth"


@pytest.mark.parametrize(("rate", "kept"), [(1e-9, 0), (1e-2, 1)], ids=["worse", "better"])
def test_the_better_of_start_and_fine_tuned_weights_is_kept(pictures, tmp_path, monkeypatch, rate, kept):
    from small import TinyNet

    from wmremoval.training import checkpoints, trainer

    for place in (trainer, checkpoints):
        monkeypatch.setattr(place, "HeterogeneousUNet", TinyNet)
    first = fit(make_training(epochs=1), make_loaders(pictures), tmp_path / "first")
    training = make_training(epochs=1, warmup_epochs=0, learning_rate=rate, start=str(first.folder))
    if not kept:  # a step that makes it worse
        step = Training.step

        def spoil(self, loss, optimizer):
            norm = step(self, loss, optimizer)
            with torch.no_grad():
                self.net.layers[-1].bias += 5.0
            return norm

        monkeypatch.setattr(Training, "step", spoil)
    result = fit(training, make_loaders(pictures), tmp_path / "second")
    assert [row["epoch"] for row in result.history] == [0, 1] and result.best_epoch == kept
    assert result.history[0]["val_loss"] == pytest.approx(first.best_loss, rel=1e-6)
    assert result.best_loss == min(row["val_loss"] for row in result.history)
    before, after = (load_file(folder / WEIGHTS) for folder in (first.folder, result.folder))
    assert same(before, after) == (kept == 0)

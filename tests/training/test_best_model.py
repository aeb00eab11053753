"""Which weights are kept, averaged and begun from, and their files."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import BEST, WEIGHTS, TinyNet, make_training, random_batch, same
from torch import nn

from wmremoval.config import TrainConfig
from wmremoval.model import HeterogeneousUNet
from wmremoval.training import checkpoints
from wmremoval.training import loop as module
from wmremoval.training.checkpoints import load_model, load_weights
from wmremoval.training.loop import TrainResult, fit
from wmremoval.training.passes import run_epoch


def script(monkeypatch, val_losses: list[float]):
    """Replace the work by given validation losses; the network's last bias tells the epoch it was trained to."""
    remaining = iter(val_losses)

    def run(training, loader, label, data_epoch=0, optimizer=None, *_, **more):
        if label.startswith("Epoch") and optimizer is not None:
            nn.init.constant_(training.net.layers[-1].bias, int(label.split()[1]))
        loss = 1.0 if optimizer is not None else next(remaining)
        return {"loss": loss, "psnr": 20.0, "ssim": 0.5, "psnr_target": 20.0} | dict.fromkeys(
            ("grad_norm", "images_per_second", "data_share"), 1.0
        )

    monkeypatch.setattr(module, "run_epoch", run)
    return {"train": None, "val": None}


@pytest.mark.parametrize(
    ("val_losses", "patience", "best", "run", "stopped"),
    [
        ([5, 4, 3, 2, 1], 2, 5, 5, "finished"),
        ([5, 4, 6, 6, 1], 2, 2, 4, "early"),
        ([5, 6, 4, 5, 3], 2, 5, 5, "finished"),  # an improvement starts the count anew
        ([4, 4, 4, 4, 4], 3, 1, 4, "early"),  # no better is not better
        ([5, 6, 7, 8, 9], 1, 1, 2, "early"),
    ],
)
def test_the_best_model_is_kept_and_training_halts_when_patience_ends(
    monkeypatch, tmp_path, log, val_losses, patience, best, run, stopped
):
    loaders = script(monkeypatch, val_losses)
    training = make_training(epochs=5, early_stop_patience=patience)
    result = fit(training, loaders, tmp_path)
    assert (result.best_epoch, len(result.history), result.stopped) == (best, run, stopped)
    assert result.best_loss == val_losses[best - 1]
    assert ("Stopping early" in log.text) == (stopped == "early")
    saved = torch.load(tmp_path / BEST, weights_only=True)
    assert (saved["epoch"], saved["val_loss"]) == (best, val_losses[best - 1])
    assert saved["model"]["layers.4.bias"].tolist() == [best] * 4
    assert training.net.layers[-1].bias.tolist() == [best] * 4, "the network in memory is the best one, too"


def test_a_finished_run_leaves_its_best_model_twice_its_history_and_no_state(finished):
    folder, _, result = finished
    assert sorted(path.name for path in folder.iterdir()) == ["training_history.json", BEST, WEIGHTS]
    assert json.loads((folder / "training_history.json").read_text()) == result.history
    assert result.stopped == "finished" and len(result.warmup_losses) == 2


def test_the_history_has_the_scores_of_every_epoch(finished):
    _, _, result = finished
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    wanted = {f"{part}_{name}" for part in ("train", "val") for name in ("loss", "psnr", "ssim", "psnr_target")}
    wanted |= {f"term_{name}" for name in ("masked_l1", "perceptual", "lab", "ssim", "laplacian", "mask_bce")}
    for row in result.history:
        assert set(row) == wanted | {
            "epoch",
            "lr",
            "grad_norm",
            "images_per_second",
            "data_share",
            "tflops",
            "views",
            "seconds",
        }
        assert all(math.isfinite(value) for value in row.values())
        assert sum(row[name] for name in row if name.startswith("term_")) == pytest.approx(row["train_loss"], rel=1e-5)
    assert 0 < sum(row["seconds"] for row in result.history) <= result.seconds


def test_the_checkpoint_is_plain_and_tells_its_settings(finished):
    folder, training, result = finished
    saved = torch.load(folder / BEST, weights_only=True)
    assert TrainConfig.from_dict(saved["config"]) == training.config
    assert saved["val_loss"] == result.best_loss == min(row["val_loss"] for row in result.history)
    assert saved["epoch"] == result.best_epoch
    assert saved["perceptual_weights"] == "random"


def test_safetensors_hold_the_same_weights(finished):
    folder, training, _ = finished
    assert same(load_file(folder / WEIGHTS), torch.load(folder / BEST, weights_only=True)["model"])
    assert same(load_file(folder / WEIGHTS), training.net.state_dict())


@pytest.mark.parametrize("composite", [True, False])
@pytest.mark.usefixtures("real")
def test_a_model_is_rebuilt_from_its_file_alone(loaders, tmp_path, composite):
    training = make_training(epochs=1, warmup_epochs=0, composite=composite)
    fit(training, loaders, tmp_path)
    batch = random_batch()["watermarked"]
    with torch.no_grad():
        wanted = training.net.eval()(batch)
    for path in (tmp_path, tmp_path / BEST, str(tmp_path)):
        net, about = load_model(path)
        assert isinstance(net, HeterogeneousUNet) and not net.training and net.composite is composite
        assert about["config"]["composite"] is composite and "model" not in about
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(net(batch), wanted, strict=True))


@pytest.mark.parametrize(
    "content", ["missing", "empty", "text", "truncated", "a list", "another network", "weights alone", "no settings"]
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(finished, tmp_path, content):
    path, good = tmp_path / BEST, torch.load(finished[0] / BEST, weights_only=True)
    if content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("not a checkpoint")
    elif content == "truncated":
        path.write_bytes((finished[0] / BEST).read_bytes()[:1000])
    elif content == "a list":
        torch.save([1, 2], path)
    elif content == "another network":
        torch.save(good | {"model": {"weight": torch.zeros(2)}}, path)
    elif content == "weights alone":
        torch.save(good["model"], path)
    elif content == "no settings":
        torch.save({"model": good["model"]}, path)
    with pytest.raises(ValueError, match=r"wm_best_model\.pth") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"model": Trap()}, tmp_path / BEST)
    with pytest.raises(ValueError, match=r"wm_best_model\.pth"):
        load_weights(TinyNet(), tmp_path / BEST)
    assert not (tmp_path / "sprung").exists()


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(monkeypatch, tmp_path):
    fit(make_training(epochs=3), script(monkeypatch, [3, 2, 1]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training_history.json", BEST, WEIGHTS]


def test_averaged_weights_follow_the_decay_by_hand_and_are_what_is_validated_and_kept(loaders, tmp_path):
    training = make_training(ema=0.75, epochs=1, warmup_epochs=0)
    seen, step = [], training.step
    names = [name for name, x in training.net.state_dict().items() if x.is_floating_point()]

    def stepped(*args):
        norm = step(*args)
        seen.append({name: training.net.state_dict()[name].clone() for name in names})
        return norm

    training.step = stepped
    run_epoch(training, loaders["train"], "x", 0, training.optimizer)
    wanted = seen[0]
    for weights in seen[1:]:
        wanted = {name: 0.75 * wanted[name] + 0.25 * weights[name] for name in names}
    kept = training.kept.state_dict()
    for name in names:
        torch.testing.assert_close(kept[name], wanted[name], rtol=1e-5, atol=1e-6)
    assert not same(kept, training.net.state_dict())
    training.net.eval()
    training.kept.eval()
    x = random_batch()["watermarked"]
    assert torch.equal(training.predict(x).image, training.kept(x)[0])
    checkpoints.save_best(training, TrainResult(tmp_path))
    assert same(torch.load(tmp_path / BEST, weights_only=True)["model"], kept)


def test_training_begins_from_given_weights(finished, tmp_path):
    folder = finished[0]
    for place in (folder, folder / BEST, folder / WEIGHTS):
        started = make_training(start=str(place))
        assert same(started.net.state_dict(), torch.load(folder / BEST, weights_only=True)["model"])
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for name in ("other", "broken", "missing"):
        with pytest.raises(ValueError, match=rf"{name}\.safetensors") as caught:
            make_training(start=str(tmp_path / f"{name}.safetensors"))
        assert "\n" not in str(caught.value)


def test_the_mark_head_may_begin_anew_on_weights_without_one(real, tmp_path):
    plain = HeterogeneousUNet()
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    net = HeterogeneousUNet(decompose=True)
    checkpoints.load_start(net, tmp_path / "plain.safetensors")
    assert all(torch.equal(x, net.state_dict()[name]) for name, x in plain.state_dict().items())


def test_a_network_without_a_mark_head_may_begin_from_weights_with_one(real, tmp_path):
    marked, plain = HeterogeneousUNet(decompose=True), HeterogeneousUNet(composite=False)
    save_file(marked.state_dict(), tmp_path / "marked.safetensors")
    checkpoints.load_start(plain, tmp_path / "marked.safetensors")
    assert all(torch.equal(x, marked.state_dict()[name]) for name, x in plain.state_dict().items())
    save_file(marked.state_dict() | {"extra.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"extra\.weight"):
        checkpoints.load_start(plain, tmp_path / "more.safetensors")


def test_the_last_weights_are_kept_where_that_is_asked_for(monkeypatch, tmp_path):
    loaders = script(monkeypatch, [5, 4, 6, 7, 8])
    training = make_training(epochs=5, early_stop_patience=1, keep="last")
    result = fit(training, loaders, tmp_path)
    assert (result.best_epoch, result.best_loss, result.stopped) == (5, 8, "finished")
    assert torch.load(tmp_path / BEST, weights_only=True)["model"]["layers.4.bias"].tolist() == [5] * 4

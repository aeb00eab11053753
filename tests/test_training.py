"""The training loop: schedule, log, best model, resuming, early stop, clipping, and what it says when something is wrong."""

import itertools
import json
import math
import os
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from wmremoval import checkpoints
from wmremoval import training as module
from wmremoval.checkpoints import load_model, load_state, load_weights, save_state
from wmremoval.config import TrainConfig, learning_rates
from wmremoval.data import SampleConfig, WatermarkDataset, make_loader
from wmremoval.fonts import FontBook
from wmremoval.losses import mask_bce_loss, mask_iou_loss
from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.model import HeterogeneousUNet, Parts
from wmremoval.training import (
    NonFiniteLossError,
    Training,
    TrainResult,
    autocast_dtype,
    both_views,
    fit,
    pick_device,
    run_epoch,
    seed_everything,
)

CPU = torch.device("cpu")
BEST, WEIGHTS, STATE = "wm_best_model.pth", "wm_best_model.safetensors", "training_state.pt"


class TinyNet(nn.Module):
    """Stands in for the U-Net: same form, BatchNorm and dropout, so that statistics and random state matter."""

    def __init__(self, composite: bool = True, decompose: bool = False):
        super().__init__()
        self.composite = composite
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 4, 3, padding=1)
        )
        self.autocast = set()

    def forward(self, x):
        return self.parts(x)[:2]

    def parts(self, x):
        self.autocast.add(torch.is_autocast_enabled("cpu"))
        y = self.layers(x).float()
        fill, logits = torch.sigmoid(y[:, :3]), y[:, 3:]
        return Parts(torch.lerp(x, fill, torch.sigmoid(logits)) if self.composite else fill, logits, fill)


@pytest.fixture(autouse=True)
def tiny(request, monkeypatch):
    if "real" not in request.fixturenames:
        for place in (module, checkpoints):
            monkeypatch.setattr(place, "HeterogeneousUNet", TinyNet)


@pytest.fixture
def real():
    """The real network instead of the stand-in."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight pieces of a photograph: five to train on, in three batches of which the last is short, three to validate."""
    folder, cat = tmp_path_factory.mktemp("pictures"), skimage.data.chelsea()
    paths = [folder / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        Image.fromarray(cat[30 * i : 30 * i + 64, 40 * i : 40 * i + 80]).save(path)
    return paths


def settings(**changes) -> TrainConfig:
    tiny = {
        "image_size": 32,
        "batch_size": 2,
        "epochs": 2,
        "warmup_epochs": 1,
        "perceptual_weights": "random",
        "amp": "off",
        "seed": 3,
    }
    return TrainConfig(**(tiny | changes))


@pytest.fixture
def loaders(pictures):
    return make_loaders(pictures)


def make_loaders(pictures, batch_size: int = 2) -> dict:
    shapes_only = FontBook({})
    datasets = {
        part: WatermarkDataset(paths, SampleConfig(image_size=32, seed=3, augment=part == "train"), shapes_only)
        for part, paths in (("train", pictures[:5]), ("val", pictures[5:]))
    }
    return {part: make_loader(dataset, batch_size) for part, dataset in datasets.items()}


def make_training(steps: int = 3, **changes) -> Training:
    return Training(settings(**changes), steps, CPU)


def timeless(history: list[dict]) -> list[dict]:
    clocked = ("seconds", "images_per_second", "data_share", "tflops")
    return [{name: value for name, value in row.items() if name not in clocked} for row in history]


def weights_of(net: nn.Module) -> dict:
    return {name: x.clone() for name, x in net.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def random_batch(size: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {name: torch.rand(size, 3, 32, 32, generator=generator) for name in ("watermarked", "reference", "clean")}
    return batch | {"mask": (torch.rand(size, 1, 32, 32, generator=generator) > 0.7).float()}


class Batches(list):
    """A loader of given batches."""

    def __init__(self, batches):
        super().__init__(batches)
        self.dataset = SimpleNamespace(epoch=None)


# Schedule and log.


def test_the_rates_of_the_history_are_the_planned_ones(loaders, tmp_path):
    training = make_training(epochs=4, lr_drop_epoch=2)
    history = fit(training, loaders, tmp_path).history
    assert [row["lr"] for row in history] == pytest.approx(learning_rates(training.config, 3), rel=1e-9)


def rates_of_steps(training, loaders, folder) -> list[tuple[bool, float]]:
    """(is the warm-up's optimiser, rate) of every step of a run."""
    seen, step = [], Training.step

    def spy(self, loss, optimizer):
        seen.append((optimizer is self.warmup_optimizer, optimizer.param_groups[0]["lr"]))
        return step(self, loss, optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", spy)
        fit(training, loaders, folder)
    return seen


def test_the_warm_up_has_an_optimiser_and_a_constant_rate_of_its_own(loaders, tmp_path):
    training = make_training(warmup_epochs=2, epochs=1, warmup_learning_rate=5e-5, learning_rate=0.01)
    seen = rates_of_steps(training, loaders, tmp_path)
    assert seen[:6] == [(True, 5e-5)] * 6
    assert [warm for warm, _ in seen[6:]] == [False] * 3
    assert seen[6][1] == pytest.approx(0.01 / 10)


def test_the_cycle_steps_once_a_batch(loaders, tmp_path):
    training = make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=None)
    rates = [rate for _, rate in rates_of_steps(training, loaders, tmp_path)]
    by_step = learning_rates(
        TrainConfig(epochs=6 + 2 * 3 - 2, lr_drop_epoch=None), 1
    )  # the same cycle, an epoch a step
    assert rates == pytest.approx([1e-4, *by_step[:5]], rel=1e-6)


def test_the_drop_holds_from_the_first_batch_after_its_epoch(loaders, tmp_path):
    plain = rates_of_steps(make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=None), loaders, tmp_path / "plain")
    dropped = rates_of_steps(make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=1), loaders, tmp_path / "dropped")
    ratios = [low / rate for (_, low), (_, rate) in zip(dropped, plain, strict=True)]
    assert ratios == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


def test_the_log_has_the_documents_lines(loaders, tmp_path, capsys):
    result = fit(make_training(epochs=3, lr_drop_epoch=2), loaders, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d"
    epoch = (
        rf"Epoch %d: Train Loss={number}{{4}}, Train PSNR={number}{{2}}, Train SSIM=-?{number}{{4}} , "
        rf"Val Loss={number}{{4}}, Val PSNR={number}{{2}}, Val SSIM=-?{number}{{4}}, LR={number}{{6}}"
    )
    wanted = [
        rf"Warmup Epoch 1 \| Loss: {number}{{5}}",
        epoch % 1,
        epoch % 2,
        r"Lowering learning rate by 10x for fine-tuning phase\.",
        epoch % 3,
        rf"Training Time Elapsed: {number}{{2}} Minutes",
    ]
    assert len(lines) == len(wanted)
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line), line
    row = result.history[0]
    assert f"Val PSNR={row['val_psnr']:.2f}, Val SSIM={row['val_ssim']:.4f}, LR={row['lr']:.6f}" in lines[1]
    assert lines[0].endswith(f"{result.warmup_losses[0]:.5f}")


def test_no_drop_no_line(loaders, tmp_path, capsys):
    fit(make_training(epochs=1, warmup_epochs=0, lr_drop_epoch=None), loaders, tmp_path)
    assert "Lowering" not in capsys.readouterr().out


def test_every_training_epoch_draws_new_samples_and_validation_never(monkeypatch, loaders, tmp_path):
    seen, run = [], run_epoch

    def spy(training, loader, label, *args):
        means = run(training, loader, label, *args)
        seen.append((label, loader.dataset.epoch))
        return means

    monkeypatch.setattr(module, "run_epoch", spy)
    fit(make_training(warmup_epochs=2, epochs=2), loaders, tmp_path)
    assert seen == [
        ("Warmup Epoch 1", 0),
        ("Warmup Epoch 2", 1),
        ("Epoch 1", 2),
        ("Epoch 1 val", 0),
        ("Epoch 2", 3),
        ("Epoch 2 val", 0),
    ]


# One epoch.


def test_training_changes_weights_and_statistics(loaders):
    training = make_training()
    before = weights_of(training.net)
    run_epoch(training, loaders["train"], "x", 0, training.warmup_optimizer)
    after = weights_of(training.net)
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_validation_changes_nothing(loaders):
    training = make_training()
    before = weights_of(training.net)
    run_epoch(training, loaders["val"], "x")
    assert same(before, weights_of(training.net))
    assert all(p.grad is None for p in training.net.parameters())
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_the_warm_up_leaves_the_main_optimiser_and_the_cycle_alone(loaders):
    training = make_training()
    run_epoch(training, loaders["train"], "x", 0, training.warmup_optimizer)
    assert not training.optimizer.state and training.warmup_optimizer.state
    assert training.scheduler.last_epoch == 0


def test_each_batch_is_one_step_of_one_optimiser(monkeypatch, loaders):
    training, calls = make_training(), []
    for name in ("optimizer", "warmup_optimizer"):
        optimizer = getattr(training, name)
        monkeypatch.setattr(
            optimizer, "step", lambda *args, step=optimizer.step, name=name: calls.append(name) or step(*args)
        )
    run_epoch(training, loaders["train"], "x", 0, training.optimizer)
    assert calls == ["optimizer"] * 3


@pytest.mark.usefixtures("real")
def test_the_real_network_learns_a_batch_by_heart(pictures):
    training = make_training(warmup_learning_rate=2e-3, target="clean")
    assert isinstance(training.net, HeterogeneousUNet)
    batch = next(iter(make_loaders(pictures)["train"]))
    loader = Batches([batch])
    losses = [run_epoch(training, loader, "x", 0, training.warmup_optimizer)["loss"] for _ in range(12)]
    assert min(losses[-3:]) < 0.6 * losses[0]


def test_means_do_not_depend_on_how_images_are_batched(pictures):
    training = make_training()
    means = [run_epoch(training, make_loaders(pictures, batch_size)["val"], "x") for batch_size in (1, 2, 3)]
    means = timeless(means)
    assert means[1] == pytest.approx(means[0], rel=1e-4, abs=1e-6)
    assert means[2] == pytest.approx(means[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_a_short_batch_counts_by_its_images(monkeypatch, train):
    training = make_training()
    losses = iter([1.0, 1.0, 4.0])

    def objective(image, logits, batch):
        value = next(losses)
        return 0 * image.sum() + value, {"masked_l1": torch.tensor(2 * value)}

    monkeypatch.setattr(training, "objective", objective)
    loader = Batches([random_batch(2), random_batch(2), random_batch(1)])
    means = run_epoch(training, loader, "x", 0, training.optimizer if train else None)
    assert means["loss"] == pytest.approx((2 * 1 + 2 * 1 + 1 * 4) / 5)
    assert means["term_masked_l1"] == pytest.approx(2 * (2 * 1 + 2 * 1 + 1 * 4) / 5)


class DoNothing(nn.Module):
    def __init__(self, composite=True, decompose=False):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def parts(self, x):
        image = x + 0 * self.nothing
        return Parts(image, torch.full_like(x[:, :1], -20.0) + 0 * self.nothing, image)


def test_scores_are_means_over_images_against_clean_and_against_the_target(monkeypatch):
    monkeypatch.setattr(module, "HeterogeneousUNet", DoNothing)
    batches = [random_batch(2, seed=1), random_batch(1, seed=2)]
    for target in ("clean", "reference"):
        means = run_epoch(make_training(target=target), Batches(batches), "x")
        for name, metric, against in (("psnr", psnr, "clean"), ("ssim", ssim, "clean"), ("psnr_target", psnr, target)):
            wanted = torch.cat([metric(batch["watermarked"], batch[against]) for batch in batches]).mean().item()
            assert means[name] == pytest.approx(wanted, rel=1e-5)


def test_an_image_reproduced_exactly_counts_as_the_cap(monkeypatch):
    monkeypatch.setattr(module, "HeterogeneousUNet", DoNothing)
    exact, other = random_batch(1), random_batch(1, seed=5)
    exact["clean"] = exact["watermarked"]
    means = run_epoch(make_training(), Batches([exact, other]), "x")
    assert means["psnr"] == pytest.approx((PSNR_CAP + psnr(other["watermarked"], other["clean"]).item()) / 2, rel=1e-5)


# The objective.


@pytest.mark.parametrize("target", ["clean", "reference"])
def test_the_loss_is_taken_against_the_configured_target(target):
    training, batch = make_training(target=target, mask_weight=0), random_batch()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    wanted, _ = training.criterion(image, batch[target], batch["mask"])
    other, _ = training.criterion(image, batch["clean" if target == "reference" else "reference"], batch["mask"])
    total, _ = training.objective(image, batch["mask"], batch)
    assert total.item() == pytest.approx(wanted.item()) and total.item() != pytest.approx(other.item())


def test_the_mask_term_has_its_weight_and_is_part_of_the_total():
    batch, logits = random_batch(), torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    total, terms = make_training(mask_weight=2.5).objective(batch["watermarked"], logits.requires_grad_(), batch)
    assert terms["mask_bce"].item() == pytest.approx(2.5 * mask_bce_loss(logits, batch["mask"]).item())
    assert total.item() == pytest.approx(sum(term.item() for term in terms.values()), rel=1e-5)
    assert not terms["mask_bce"].requires_grad
    total.backward()
    assert logits.grad.abs().max() > 0


def test_without_a_weight_there_is_no_mask_term():
    batch = random_batch()
    total, terms = make_training(mask_weight=0).objective(
        batch["watermarked"], torch.full((2, 1, 32, 32), math.nan), batch
    )
    assert "mask_bce" not in terms
    assert total.isfinite()


def test_autocast_wraps_the_network_and_nothing_else(monkeypatch):
    training, batch, outside = make_training(amp="bf16"), random_batch(), []
    forward = training.criterion.forward
    monkeypatch.setattr(
        training.criterion, "forward", lambda *args: outside.append(torch.is_autocast_enabled("cpu")) or forward(*args)
    )
    seen = []
    training.net.layers.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    run_epoch(training, Batches([batch]), "x", 0, training.optimizer)
    assert training.net.autocast == {True} and seen == [torch.bfloat16]
    assert outside == [False]
    image, logits = training.restore(batch["watermarked"])[:2]
    assert image.dtype == logits.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in training.net.parameters())


def test_the_network_runs_in_float32_when_amp_is_off(monkeypatch):
    training = make_training(amp="off")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        training.restore(random_batch()["watermarked"])
    assert training.net.autocast == {False}
    assert not training.scaler.is_enabled()


@pytest.mark.usefixtures("real")
def test_a_gate_that_is_sure_and_wrong_still_learns_in_bfloat16():
    training, batch = make_training(amp="bf16"), random_batch()
    last = training.net.dec3.gate.logits[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 20.0)
    batch["mask"].zero_()
    image, logits = training.restore(batch["watermarked"])[:2]
    total, _ = training.objective(image, logits, batch)
    total.backward()
    assert last.bias.grad.item() == pytest.approx(training.config.mask_weight, rel=0.05)


# Clipping.


def sgd_step(clip_norm: float, scaled: bool) -> tuple[dict, float, float]:
    """One step of SGD at rate 1: (weights after, norm that was reported, length of the update)."""
    training = make_training(clip_norm=clip_norm)
    training.net.eval()  # no dropout
    training.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    optimizer = torch.optim.SGD(training.net.parameters(), lr=1.0)
    before = [p.detach().clone() for p in training.net.parameters()]
    batch = random_batch()
    loss, _ = training.objective(*training.restore(batch["watermarked"])[:2], batch)
    norm = training.step(loss, optimizer)
    update = torch.cat([(p.detach() - q).flatten() for p, q in zip(training.net.parameters(), before, strict=True)])
    return weights_of(training.net), norm, update.norm().item()


@pytest.mark.parametrize("clip_norm", [0.01, 1e6])
def test_the_scaler_does_not_change_a_step(clip_norm):
    with_scaler, norm, length = sgd_step(clip_norm, scaled=True)
    without, plain_norm, plain_length = sgd_step(clip_norm, scaled=False)
    for name in without:
        torch.testing.assert_close(with_scaler[name], without[name], rtol=1e-4, atol=1e-7)
    assert norm == pytest.approx(plain_norm, rel=1e-4) and length == pytest.approx(plain_length, rel=1e-3)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_long_unscaled_gradient_is_cut_to_the_largest_norm_before_the_step(scaled):
    _, norm, length = sgd_step(0.01, scaled)
    assert norm > 0.05
    assert length == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_short_gradient_is_left_alone_and_its_norm_told(scaled):
    _, norm, length = sgd_step(1e6, scaled)
    assert length == pytest.approx(norm, rel=1e-3)


def test_a_step_forgets_the_gradients_of_the_step_before():
    training, batch = make_training(clip_norm=1e6), random_batch()
    training.net.eval()
    frozen = torch.optim.SGD(training.net.parameters(), lr=0.0)
    norms = []
    for _ in range(2):
        loss, _ = training.objective(*training.restore(batch["watermarked"])[:2], batch)
        norms.append(training.step(loss, frozen))
    assert norms[1] == pytest.approx(norms[0])


def test_a_step_skipped_for_overflow_does_not_spoil_the_mean_gradient_norm():
    training = make_training()
    training.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    overflow = iter([math.inf])
    training.net.layers[0].weight.register_hook(
        lambda gradient: gradient * next(overflow, 1.0)
    )  # in the first step only
    means = run_epoch(training, Batches([random_batch(), random_batch(seed=1)]), "x", 0, training.optimizer)
    assert training.scaler.get_scale() == 512, "no step was skipped, so this proves nothing"
    assert math.isfinite(means["grad_norm"]) and means["grad_norm"] > 0


# Something goes wrong.


def spoil(monkeypatch, training, call: int, value: float):
    """Make the loss of one call of the objective NaN or infinite."""
    objective, count = training.objective, itertools.count(1)

    def spoiled(*args):
        total, terms = objective(*args)
        return (total + value if next(count) == call else total), terms

    monkeypatch.setattr(training, "objective", spoiled)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (2, "Warmup Epoch 1, step 2"),
        (4, "Epoch 1, step 1"),
        (6, "Epoch 1, step 3"),
        (8, "Epoch 1 val, step 2"),
        (9, "Epoch 2, step 1"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_that_names_epoch_and_step(
    monkeypatch, loaders, tmp_path, call, place, value
):
    training = make_training()
    spoil(monkeypatch, training, call, value)
    with pytest.raises(NonFiniteLossError, match=rf"^{place}: the loss is {value} .*masked_l1.*laplacian") as caught:
        fit(training, loaders, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_never_reaches_the_weights(monkeypatch):
    training = make_training()
    spoil(monkeypatch, training, 1, math.nan)
    before = [p.detach().clone() for p in training.net.parameters()]
    with pytest.raises(NonFiniteLossError):
        run_epoch(training, Batches([random_batch()]), "x", 0, training.optimizer)
    assert all(torch.equal(p, q) for p, q in zip(training.net.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite_is_an_error_that_names_epoch_and_step():
    training = make_training()
    training.net.layers[0].weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(NonFiniteLossError, match="Epoch 4, step 1"):
        run_epoch(training, Batches([random_batch(), random_batch()]), "Epoch 4", 0, training.optimizer)


def test_after_an_error_the_run_can_be_taken_up_from_its_last_epoch(monkeypatch, loaders, tmp_path):
    training = make_training()
    spoil(monkeypatch, training, 9, math.nan)
    with pytest.raises(NonFiniteLossError):
        fit(training, loaders, tmp_path)
    result = fit(make_training(), loaders, tmp_path, resume=True)
    assert [row["epoch"] for row in result.history] == [1, 2]


# Best model.


def script(monkeypatch, val_losses: list[float]):
    """Replace the work by given validation losses; the network's last bias tells the epoch it was trained to."""
    remaining = iter(val_losses)

    def run(training, loader, label, data_epoch=0, optimizer=None, main_epoch=None):
        if main_epoch is not None:
            nn.init.constant_(training.net.layers[-1].bias, main_epoch)
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
    monkeypatch, tmp_path, capsys, val_losses, patience, best, run, stopped
):
    loaders = script(monkeypatch, val_losses)
    training = make_training(epochs=5, early_stop_patience=patience)
    result = fit(training, loaders, tmp_path)
    assert (result.best_epoch, len(result.history), result.stopped) == (best, run, stopped)
    assert result.best_loss == val_losses[best - 1]
    assert ("Stopping early" in capsys.readouterr().out) == (stopped == "early")
    saved = torch.load(tmp_path / BEST, weights_only=True)
    assert (saved["epoch"], saved["val_loss"]) == (best, val_losses[best - 1])
    assert saved["model"]["layers.4.bias"].tolist() == [best] * 4
    assert training.net.layers[-1].bias.tolist() == [best] * 4, "the network in memory is the best one, too"


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """A finished run of the stand-in: (folder, training, result)."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HeterogeneousUNet", TinyNet)
        training = make_training(epochs=3, warmup_epochs=2)
        result = fit(training, make_loaders(pictures), folder)
    return folder, training, result


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
        assert set(row) == wanted | {"epoch", "lr", "grad_norm", "images_per_second", "data_share", "tflops", "seconds"}
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


# Fresh starts, interruptions, resuming.


def test_fitting_twice_is_the_same_experiment_twice(loaders, tmp_path):
    training = make_training()
    first = fit(training, loaders, tmp_path / "1")
    weights = weights_of(training.net)
    torch.manual_seed(99)
    second = fit(training, loaders, tmp_path / "2")
    assert timeless(first.history) == timeless(second.history)
    assert first.warmup_losses == second.warmup_losses
    assert same(weights, weights_of(training.net))


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


@pytest.mark.parametrize(
    "press",
    [
        pytest.param(lambda patch: interrupt_after(patch, 1), id="in the warm-up"),
        pytest.param(lambda patch: interrupt_after(patch, 2), id="after the warm-up"),
        pytest.param(lambda patch: interrupt_after(patch, 3), id="after an epoch"),
        pytest.param(lambda patch: interrupt_step(patch, 11), id="within an epoch"),
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_unbroken_one_bit_for_bit(finished, pictures, tmp_path, press, capsys):
    folder, _, unbroken = finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HeterogeneousUNet", TinyNet)
        press(patch)
        broken = fit(make_training(epochs=3, warmup_epochs=2), make_loaders(pictures), tmp_path)
    assert broken.stopped == "interrupted" and len(broken.history) < 3
    assert (tmp_path / STATE).exists() and "Interrupted" in capsys.readouterr().out
    seed_everything(99)  # another process, with another random state
    resumed = fit(make_training(epochs=3, warmup_epochs=2), make_loaders(pictures), tmp_path, resume=True)
    assert resumed.stopped == "finished"
    assert timeless(resumed.history) == timeless(unbroken.history)
    assert resumed.warmup_losses == unbroken.warmup_losses
    assert (resumed.best_epoch, resumed.best_loss) == (unbroken.best_epoch, unbroken.best_loss)
    assert same(load_file(tmp_path / WEIGHTS), load_file(folder / WEIGHTS))
    assert resumed.seconds > broken.seconds


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


# Seeds and devices.


def test_a_seed_decides_python_numpy_and_torch():
    draws = []
    for seed in (5, 5, 6):
        seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert draws[0] == draws[1] and all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = weights_of(make_training(seed=3).net)
    torch.manual_seed(2)
    assert same(first, weights_of(make_training(seed=3).net))
    assert not same(first, weights_of(make_training(seed=4).net))


def test_compiling_keeps_the_plain_network_for_the_checkpoint(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or (lambda x: ("compiled", net(x))))
    training = make_training(compile=True)
    assert compiled == [training.net.parts]
    assert training.restore(random_batch()["watermarked"])[0] == "compiled"
    assert training.net.state_dict().keys() == TinyNet().state_dict().keys()


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "")  # so that what is set is taken back


def test_without_cuda_auto_is_the_cpu(no_cuda):
    assert pick_device() == pick_device("auto") == pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_asking_for_cuda_without_cuda_is_one_clear_line(no_cuda, name):
    with pytest.raises(ValueError, match="no CUDA device") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_blocks_over_64_mb_are_not_split_unless_the_user_says_otherwise(monkeypatch, no_cuda):
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    pick_device("cpu")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:64"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "garbage_collection_threshold:0.5")
    pick_device("cpu")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "garbage_collection_threshold:0.5"


@pytest.mark.parametrize("hardware", [True, False])
def test_half_precision_is_chosen_by_the_hardware(monkeypatch, hardware):
    cuda = torch.device("cuda")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: hardware or including_emulation
    )
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware, raising=False)
    assert autocast_dtype("auto", cuda) == (torch.bfloat16 if hardware else torch.float16)
    assert autocast_dtype("auto", CPU) == (torch.bfloat16 if hardware else None)
    for device in (CPU, cuda):
        assert autocast_dtype("off", device) is None
        assert autocast_dtype("bf16", device) == torch.bfloat16
    assert autocast_dtype("fp16", cuda) == torch.float16


def test_fp16_on_a_cpu_is_an_error():
    with pytest.raises(ValueError, match="fp16"):
        make_training(amp="fp16")


# Averaged weights, fine-tuning, the mark head


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
    assert torch.equal(training.restore(x).image, training.kept(x)[0])
    checkpoints.save_best(training, TrainResult(tmp_path))
    assert same(torch.load(tmp_path / BEST, weights_only=True)["model"], kept)


def test_an_averaged_run_resumes_exactly(pictures, tmp_path):
    whole = fit(make_training(ema=0.9, epochs=3), make_loaders(pictures), tmp_path / "whole")
    training, loaders = make_training(ema=0.9, epochs=3), make_loaders(pictures)
    save = checkpoints.save_state

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


def test_training_begins_from_given_weights(finished, tmp_path):
    folder = finished[0]
    for place in (folder, folder / BEST, folder / WEIGHTS):
        started = make_training(init=str(place))
        assert same(started.net.state_dict(), torch.load(folder / BEST, weights_only=True)["model"])
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for name in ("other", "broken", "missing"):
        with pytest.raises(ValueError, match=rf"{name}\.safetensors") as caught:
            make_training(init=str(tmp_path / f"{name}.safetensors"))
        assert "\n" not in str(caught.value)


def test_the_mark_head_may_begin_anew_on_weights_without_one(real, tmp_path):
    plain = HeterogeneousUNet()
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    net = HeterogeneousUNet(decompose=True)
    checkpoints.load_init(net, tmp_path / "plain.safetensors")
    assert all(torch.equal(x, net.state_dict()[name]) for name, x in plain.state_dict().items())


def test_a_network_without_a_mark_head_may_begin_from_weights_with_one(real, tmp_path):
    marked, plain = HeterogeneousUNet(decompose=True), HeterogeneousUNet(composite=False)
    save_file(marked.state_dict(), tmp_path / "marked.safetensors")
    checkpoints.load_init(plain, tmp_path / "marked.safetensors")
    assert all(torch.equal(x, marked.state_dict()[name]) for name, x in plain.state_dict().items())
    save_file(marked.state_dict() | {"extra.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"extra\.weight"):
        checkpoints.load_init(plain, tmp_path / "more.safetensors")


def test_alpha_and_colour_are_learnt_but_not_part_of_the_reported_loss(real):
    torch.manual_seed(0)
    batch = random_batch() | {"alpha": torch.rand(2, 1, 32, 32), "colour": torch.rand(2, 3, 32, 32)}
    totals = {}
    for weight in (0.0, 4.0):
        training = make_training(decompose=True, mark_weight=weight, target="clean", ema=0.0)
        means = run_epoch(training, Batches([batch]), "x", 0, training.optimizer)
        totals[weight] = means["loss"]
        assert (means["term_mark"] > 0) == (weight > 0)
        change = (training.net.mark.weight - make_training(decompose=True).net.mark.weight).abs().max()
        assert change > 0
    assert totals[0.0] == pytest.approx(totals[4.0], rel=1e-5)


def test_the_iou_term_is_weighted_within_the_mask_term():
    batch = random_batch()
    logits = torch.zeros(2, 1, 32, 32)
    total, terms = make_training(mask_weight=2.0, iou_weight=0.5).objective(batch["watermarked"], logits, batch)
    plain, _ = make_training(mask_weight=2.0).objective(batch["watermarked"], logits, batch)
    assert terms["mask_iou"] == pytest.approx(2.0 * 0.5 * mask_iou_loss(logits, batch["mask"]).item(), rel=1e-5)
    assert (total - plain).item() == pytest.approx(terms["mask_iou"].item(), rel=1e-4)


def test_both_views_are_inputs_and_each_is_the_others_reference():
    generator = torch.Generator().manual_seed(0)
    names = {"watermarked": 3, "reference": 3, "clean": 3, "mask": 1, "alpha": 1, "colour": 3}
    names |= {f"reference_{name}": names[name] for name in ("mask", "alpha", "colour")}
    batch = {name: torch.rand(2, channels, 4, 4, generator=generator) for name, channels in names.items()}
    both = both_views(batch)
    for name in names:
        assert torch.equal(both[name][:2], batch[name])
    assert torch.equal(both["clean"][2:], batch["clean"])
    for ours, theirs in (("watermarked", "reference"), ("mask", "reference_mask"), ("alpha", "reference_alpha")):
        assert torch.equal(both[ours][2:], batch[theirs]) and torch.equal(both[theirs][2:], batch[ours])
    assert torch.equal(both["colour"][2:], batch["reference_colour"])


def test_l1_over_all_pixels_is_added_with_its_weight():
    batch = random_batch()
    logits = torch.zeros(2, 1, 32, 32)
    total, terms = make_training(l1_weight=2.0, target="clean").objective(batch["watermarked"], logits, batch)
    plain, others = make_training(target="clean").objective(batch["watermarked"], logits, batch)
    by_hand = 2.0 * np.abs(batch["watermarked"].numpy() - batch["clean"].numpy()).mean()
    assert terms["l1"].item() == pytest.approx(by_hand, rel=1e-5) and "l1" not in others
    assert (total - plain).item() == pytest.approx(by_hand, rel=1e-4)


def test_an_epoch_tells_its_speed_and_how_much_of_it_waits_for_data(loaders, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)

    class SlowLoader:
        """Takes three seconds for each batch."""

        dataset = loaders["train"].dataset

        def __iter__(self):
            for batch in loaders["train"]:
                clock.now += 3.0
                yield batch

        def __len__(self):
            return len(loaders["train"])

    training = make_training()
    objective = training.objective

    def slow_objective(*args):
        clock.now += 1.0
        return objective(*args)

    monkeypatch.setattr(training, "objective", slow_objective)
    means = run_epoch(training, SlowLoader(), "Epoch", 0, training.optimizer)
    assert means["data_share"] == pytest.approx(0.75)
    assert means["images_per_second"] == pytest.approx(5 / (3 * 4.0))


def test_the_last_weights_are_kept_where_that_is_asked_for(monkeypatch, tmp_path):
    loaders = script(monkeypatch, [5, 4, 6, 7, 8])
    training = make_training(epochs=5, early_stop_patience=1, keep="last")
    result = fit(training, loaders, tmp_path)
    assert (result.best_epoch, result.best_loss, result.stopped) == (5, 8, "finished")
    assert torch.load(tmp_path / BEST, weights_only=True)["model"]["layers.4.bias"].tolist() == [5] * 4

"""What a step minimises, in which precision, and how its gradient is cut."""

import math

import numpy as np
import pytest
import torch
from small import Batches, make_training, random_batch, weights_of
from torch import nn

from wmremoval.losses import mask_bce_loss, mask_iou_loss
from wmremoval.training.passes import run_epoch


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
    image, logits = training.predict(batch["watermarked"])[:2]
    assert image.dtype == logits.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in training.net.parameters())


def test_the_network_runs_in_float32_when_amp_is_off(monkeypatch):
    training = make_training(amp="off")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        training.predict(random_batch()["watermarked"])
    assert training.net.autocast == {False}
    assert not training.scaler.is_enabled()


@pytest.mark.usefixtures("real")
def test_a_gate_that_is_sure_and_wrong_still_learns_in_bfloat16():
    training, batch = make_training(amp="bf16"), random_batch()
    last = training.net.dec3.gate.logits[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 20.0)
    batch["mask"].zero_()
    image, logits = training.predict(batch["watermarked"])[:2]
    total, _ = training.objective(image, logits, batch)
    total.backward()
    assert last.bias.grad.item() == pytest.approx(training.config.mask_weight, rel=0.05)


def sgd_step(clip_norm: float, scaled: bool) -> tuple[dict, float, float]:
    """One step of SGD at rate 1: (weights after, norm that was reported, length of the update)."""
    training = make_training(clip_norm=clip_norm)
    training.net.eval()  # no dropout
    training.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    optimizer = torch.optim.SGD(training.net.parameters(), lr=1.0)
    before = [p.detach().clone() for p in training.net.parameters()]
    batch = random_batch()
    loss, _ = training.objective(*training.predict(batch["watermarked"])[:2], batch)
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
        loss, _ = training.objective(*training.predict(batch["watermarked"])[:2], batch)
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


def test_l1_over_all_pixels_is_added_with_its_weight():
    batch = random_batch()
    logits = torch.zeros(2, 1, 32, 32)
    total, terms = make_training(l1_weight=2.0, target="clean").objective(batch["watermarked"], logits, batch)
    plain, others = make_training(target="clean").objective(batch["watermarked"], logits, batch)
    by_hand = 2.0 * np.abs(batch["watermarked"].numpy() - batch["clean"].numpy()).mean()
    assert terms["l1"].item() == pytest.approx(by_hand, rel=1e-5) and "l1" not in others
    assert (total - plain).item() == pytest.approx(by_hand, rel=1e-4)

"""SOAP, coarse gates, averaging by half-life, renewed statistics, and the choice between eager and compiled."""

import sys

import pytest
import torch
import torch.nn.functional as F
from small import Batches, make_training, random_batch, same, weights_of
from torch import nn

from wmremoval.losses import coarse_mask_loss
from wmremoval.model import HeterogeneousUNet
from wmremoval.training import compiling
from wmremoval.training.checkpoints import load_state, save_state
from wmremoval.training.compiling import CompileTrial
from wmremoval.training.loop import TrainResult
from wmremoval.training.optimizers import make_optimizer
from wmremoval.training.passes import run_epoch
from wmremoval.training.trainer import Training


def test_soap_without_its_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ValueError, match="pip install pytorch-optimizer") as caught:
        make_training(optimizer="soap")
    assert "\n" not in str(caught.value)


def test_soap_is_saved_and_resumed_exactly(tmp_path):
    pytest.importorskip("pytorch_optimizer")
    batches = [random_batch(seed=seed) for seed in range(12)]  # its bases turn after ten steps

    def make():
        return make_training(optimizer="soap", learning_rate=1e-2, warmup_epochs=0)

    whole, broken, mended = make(), make(), make()
    run_epoch(whole, Batches(batches), "x", 0, whole.optimizer)
    torch.manual_seed(3)
    broken.reset()
    run_epoch(broken, Batches(batches[:8]), "x", 0, broken.optimizer)
    save_state(broken, TrainResult(tmp_path))
    load_state(mended, TrainResult(tmp_path))
    run_epoch(mended, Batches(batches[8:]), "x", 0, mended.optimizer)
    assert same(weights_of(mended.net), weights_of(whole.net))


def test_soap_takes_adams_step_in_the_eigenbasis_of_the_gradients():
    """One matrix and a gradient that stays: along each of its singular vectors it moves by the rate, whatever their values."""
    pytest.importorskip("pytorch_optimizer")
    training = make_training(optimizer="soap", learning_rate=0.1, weight_decay=0.0)
    net = nn.Linear(4, 3, bias=False)
    optimizer, start = make_optimizer(training.config, net, fused=False), net.weight.detach().clone()
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # the first step only finds the basis
        net.weight.grad = gradient.clone()
        optimizer.step()
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    moved = (start - net.weight.detach()) / 0.1
    assert (left.T @ moved @ right.T).diagonal().tolist() == pytest.approx([1.0] * 3, abs=2e-3)


@pytest.mark.usefixtures("real")
def test_coarse_gates_are_taught_with_their_share_of_the_masks_weight():
    training = make_training(coarse_gate_weight=0.5, mask_weight=4.0, iou_weight=0.25)
    batch = random_batch()
    training.net.train()
    parts = training.predict(batch["watermarked"])
    assert [tuple(gate.shape) for gate in parts.gates] == [(2, 1, 8, 8), (2, 1, 16, 16)]
    wanted = 0.0
    for gate, factor in zip(parts.gates, (4, 2), strict=True):
        wanted += 4.0 * 0.5 * coarse_mask_loss(gate, F.max_pool2d(batch["mask"], factor), 0.25)
    assert training.gate_term(parts, batch).item() == pytest.approx(wanted.item(), rel=1e-6)
    training.gate_term(parts, batch).backward()
    for stage in (training.net.dec1, training.net.dec2):
        assert stage.gate.logits[-1].weight.grad.abs().sum() > 0
    assert training.net.dec3.gate.logits[-1].weight.grad is None
    means = run_epoch(training, Batches([batch]), "x", 0, training.optimizer)
    reported = sum(value for name, value in means.items() if name.startswith("term_") and name != "term_gates")
    assert means["term_gates"] > 0 and means["loss"] == pytest.approx(reported, rel=1e-5)


@pytest.mark.usefixtures("real")
def test_gates_are_given_out_only_where_asked_for():
    net = HeterogeneousUNet(decompose=True).eval()
    x = torch.rand(1, 3, 20, 36)  # padded to 24 x 40
    with torch.no_grad():
        plain, asked = net.parts(x), net.parts(x, gates=True)
    assert plain.gates is None and [tuple(gate.shape[-2:]) for gate in asked.gates] == [(6, 10), (12, 20)]
    assert all(torch.equal(a, b) for a, b in zip(plain[:-1], asked[:-1], strict=True))
    assert make_training().forward == make_training().net.parts or make_training().forward.__name__ == "parts"


def test_a_half_life_is_the_decay_that_halves_over_it():
    training = make_training(ema_half_life=4, epochs=1)
    kept = training.averaged
    with torch.no_grad():
        training.net.layers[0].bias.fill_(0.0)
        kept.update_parameters(training.net)  # the first is a copy
        training.net.layers[0].bias.fill_(1.0)
        for _ in range(4):
            kept.update_parameters(training.net)
    assert kept.module.layers[0].bias.tolist() == pytest.approx([0.5] * 8)
    with pytest.raises(ValueError, match="ema_half_life"):
        make_training(ema_half_life=4, ema=0.9)


def test_renewed_statistics_are_those_of_the_batches():
    training = make_training(ema_half_life=10)
    batches = [random_batch(2, seed=seed)["watermarked"] for seed in range(3)]
    counted = []
    weights = {name: x.clone() for name, x in training.kept.named_parameters()}
    training.renew_statistics(batches, lambda: counted.append(1))
    convolution, norm = training.kept.layers[:2]
    with torch.no_grad():
        seen = [convolution(batch) for batch in batches]
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    variances = torch.stack([x.var(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variances, rtol=1e-4, atol=1e-6)
    assert len(counted) == 3 and norm.momentum == 0.1 and not norm.training
    assert all(torch.equal(x, weights[name]) for name, x in training.kept.named_parameters())
    assert not torch.equal(training.net.layers[1].running_mean, norm.running_mean)


@pytest.mark.parametrize(("seconds", "chosen"), [({"eager": 2.0, "compiled": 1.0}, "compiled"), ({"eager": 1.0, "compiled": 2.0}, "eager")])  # fmt: skip
def test_the_faster_way_is_taken_whatever_compiling_itself_takes(monkeypatch, log, seconds, chosen):
    monkeypatch.setattr(compiling, "TRIAL_SECONDS", 3.0)
    way, ways = CompileTrial(lambda x: ("eager", x), lambda x: ("compiled", x)), []
    for step in range(2 * compiling.TRIAL_STEPS):
        ways.append(way(1)[0])
        way.step_took(60.0 if step == compiling.TRIAL_STEPS else seconds[ways[-1]])
    assert ways == ["eager"] * compiling.TRIAL_STEPS + ["compiled"] * compiling.TRIAL_STEPS
    assert way(1) == (chosen, 1) and f"going on {chosen}" in log.text


def test_a_compiler_that_fails_leaves_the_network_as_it_is(monkeypatch, log):
    monkeypatch.setattr(compiling, "TRIAL_SECONDS", 0.0)

    def broken(x):
        raise RuntimeError("no compiler")

    way = CompileTrial(lambda x: x, broken)
    for _ in range(compiling.TRIAL_STEPS):
        way(1)
        way.step_took(1.0)
    assert way(2) == 2 and way.chosen == "eager" and "Compiling failed" in log.text


def real_gradients(**changes) -> tuple[list[torch.Tensor], dict, Training]:
    """Gradients of one step of the real network on a batch of four, what it reports, and the training after it."""
    training = make_training(batch_size=4, target="clean", **changes)
    gradients, batch = [], random_batch(4, seed=7)
    if changes.get("accumulate"):  # statistics of a part are others than those of the batch
        for layer in training.net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval().train = lambda mode=True, layer=layer: layer
    training.optimizer.register_step_pre_hook(
        lambda *_: gradients.extend(p.grad.clone() for p in training.net.parameters())
    )
    means = run_epoch(training, Batches([batch]), "x", 0, training.optimizer)
    return gradients, means, training


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_gradients_of_a_batch_in_parts_are_those_of_the_batch(parts):
    """Of four photographs in three parts the first has two. BatchNorm has fixed statistics."""
    whole, in_parts = (real_gradients(accumulate=count, l1_weight=1.0, coarse_gate_weight=0.5) for count in (1, parts))
    for ours, theirs in zip(in_parts[0], whole[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
    for name in ("loss", "psnr", "ssim", "grad_norm", "term_gates", "term_mask_bce"):
        assert in_parts[1][name] == pytest.approx(whole[1][name], rel=1e-4)


@pytest.mark.usefixtures("real")
def test_activations_computed_again_give_the_same_gradients_and_statistics_and_take_less_memory():
    results, kept = [], []
    for again in (False, True):
        held = {}  # bytes that the backward pass holds, by storage

        def hold(tensor, held=held):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            training = make_training(target="clean", checkpoint_activations=again)
            training.net.train()
            training.predict(random_batch(2)["watermarked"])
        kept.append(sum(held.values()))
        results.append(real_gradients(checkpoint_activations=again))
    for ours, theirs in zip(results[1][0], results[0][0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.abs().max().item())
    plain, again = (weights_of(training.net) for _, _, training in results)
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], rtol=1e-4, atol=1e-5)
    assert kept[1] < 0.35 * kept[0]

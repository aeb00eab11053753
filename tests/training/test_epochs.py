"""One epoch: what it changes, what its means are, and its speed."""

from types import SimpleNamespace

import pytest
import torch
from small import Batches, make_loaders, make_training, random_batch, same, timeless, weights_of
from torch import nn

from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.model import HeterogeneousUNet, Parts
from wmremoval.training import passes
from wmremoval.training import trainer as module
from wmremoval.training.passes import both_views, run_epoch


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
    assert training.schedule.cycle.last_epoch == 0


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


def test_an_epoch_tells_its_speed_and_how_much_of_it_waits_for_data(loaders, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(passes.time, "monotonic", lambda: clock.now)

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

"""A loss or a gradient that is not finite."""

import itertools
import math

import pytest
import torch
from small import Batches, make_training, random_batch

from wmremoval.training.loop import fit
from wmremoval.training.passes import NonFiniteLossError, run_epoch


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

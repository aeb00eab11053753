"""The benchmark of a training: which of loader and step holds the other back, and what a step keeps in memory."""

import time

import pytest

from wmremoval.bench import training as module
from wmremoval.bench.training import measure_training
from wmremoval.config import TrainConfig
from wmremoval.data.dataset import WatermarkDataset
from wmremoval.training.trainer import Training

SMALL = TrainConfig(image_size=32, batch_size=2, alpha=0.0, perceptual_weights="random", amp="off")


@pytest.mark.parametrize("slow", ["loader", "step"])
def test_the_slower_of_loader_and_step_is_told(photos, monkeypatch, slow):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    get, step = WatermarkDataset.__getitem__, Training.step

    def ticking_get(dataset, key):
        clock[0] += 4.0 if slow == "loader" else 1.0  # seconds a photograph
        return get(dataset, key)

    def ticking_step(*args):
        clock[0] += 4.0  # seconds for two photographs
        return step(*args)

    monkeypatch.setattr(WatermarkDataset, "__getitem__", ticking_get)
    monkeypatch.setattr(Training, "step", ticking_step)
    numbers = measure_training(photos, SMALL, steps=3, device="cpu")
    loader = 0.25 if slow == "loader" else 1.0
    assert numbers["held back by"] == slow
    assert numbers["loader alone, photographs a second"] == pytest.approx(loader)
    assert numbers["step alone, photographs a second"] == pytest.approx(0.5)
    assert numbers["both, photographs a second"] == pytest.approx(1 / (1 / loader + 1 / 0.5))
    assert numbers["both, share of the time waiting for data"] == pytest.approx((1 / loader) / (1 / loader + 2))
    assert "peak memory, GB" not in numbers


def test_parts_of_a_batch_and_activations_computed_again_keep_less(photos, monkeypatch):
    monkeypatch.setattr(module, "WARM_UP", 1)
    held = []
    for changes in ({}, {"accumulate": 4}, {"checkpoint_activations": True}):
        config = TrainConfig.from_dict(SMALL.to_dict() | {"batch_size": 4} | changes)
        held.append(measure_training(photos, config, steps=1, device="cpu")["held for the backward pass, MB"])
    weights = 3_647_878 * 4 / 1e6
    assert held[0] > weights
    assert held[1] - weights == pytest.approx((held[0] - weights) / 4, rel=0.1)
    assert held[2] - weights < 0.5 * (held[0] - weights)


def test_fewer_photographs_than_a_batch_are_one_line(photos):
    with pytest.raises(ValueError, match="a batch has 2 photographs, and there are 1"):
        measure_training(photos[:1], SMALL)

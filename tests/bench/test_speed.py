"""The speed benchmarks: what they measure and count, not how fast anything is."""

import time

import numpy as np
import pytest
import torch
from planted import gradient_energy, planted, psnr_inside

from wmremoval.bench import speed
from wmremoval.bench.speed import (
    bare_convolutions,
    measure_recall,
    sized_mark,
    time_folder,
    time_in_turn,
    time_network,
    time_photographs,
)
from wmremoval.data.marks import blend
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore.remover import Remover, Result


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(speed, "LARGE", (240, 320))
    monkeypatch.setattr(speed, "SIDE", 64)
    monkeypatch.setattr(speed, "TIMES", (1, 2))


def test_letters_have_the_size_that_is_asked_for():
    heights = []
    for size in (30, 60):
        rows = np.flatnonzero(np.concatenate([sized_mark(400, 600, size, seed).alpha for seed in range(3)], 1).any(1))
        heights.append(np.ptp(rows))
    assert 1.2 < heights[1] / heights[0] < 4


@pytest.mark.parametrize(("restored", "recall"), [(0.0, 0.0), (0.4, 0.0), (0.6, 1.0), (1.0, 1.0)])
def test_recall_is_the_share_of_marks_of_which_half_is_restored(monkeypatch, restored, recall):
    marks = []
    monkeypatch.setattr(speed, "blend", lambda *a: marks.append(blend(*a)) or marks[-1])

    class Sees(Remover):
        def restore(self, photo, mask=None):
            there = np.flatnonzero(marks[-1][1])
            changed = np.zeros(photo.shape[:2], np.uint8)
            changed.reshape(-1)[there[: round(restored * there.size)]] = 255
            return Result(photo, changed, 0.0)

    numbers = measure_recall(Sees(None, None), letters=(40, 60), marks=2)
    assert numbers == {f"recall, {what}": recall for what in ("letters of 40 px", "letters of 60 px", "all")}


def test_times_and_their_shares_belong_together(monkeypatch):
    monkeypatch.setattr(speed, "COVERED", (0.0, 1.0))
    monkeypatch.setattr(speed, "sized_mark", lambda h, w, letters, seed: sized_mark(h, w, 0.15 * h, seed))
    numbers = time_photographs(planted())
    every = numbers["12 megapixels, every native tile, s"]
    assert numbers["mark on 5%, share of every tile"] == pytest.approx(numbers["12 megapixels, mark on 5%, s"] / every)
    folder = time_folder(planted(), photographs=4)
    assert 0 < folder["folder, share of the network's own throughput"] <= 1
    assert folder["folder, photographs a second"] < folder["folder, the network's own photographs a second"]


def test_a_perfect_remover_keeps_psnr_and_detail_at_every_scale(photos, monkeypatch):
    cleans = []
    build = speed.mosaic
    monkeypatch.setattr(speed, "mosaic", lambda *a: cleans.append(build(*a)) or cleans[-1])

    class Perfect(Remover):
        def __call__(self, image, mask=None):
            return Result(cleans[-1].copy(), np.zeros(image.shape[:2], np.uint8), 0.0)

    numbers = speed.measure_scale(Perfect(None, None), photos[0].parent, marks=2)
    for n in (1, 2):
        assert numbers[f"mark x {n}, PSNR inside after, dB"] == pytest.approx(100)
        assert numbers[f"mark x {n}, gradient energy"] == 1
        assert numbers[f"mark x {n}, PSNR inside before, dB"] < 40
    assert cleans[-1].shape == (128, 128, 3)


def test_the_scores_agree_with_those_of_the_tests():
    rng = np.random.default_rng(0)
    image, clean = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    mask = (rng.random((20, 30)) > 0.5).astype(np.uint8)
    assert speed.psnr_inside(image, clean, mask) == pytest.approx(psnr_inside(image, clean, mask), rel=1e-4)
    assert speed.gradient_energy(image, mask) == pytest.approx(gradient_energy(image, mask), rel=1e-5)


def test_the_benchmark_gives_times_and_their_ratio():
    numbers = time_network(side=64, repeats=1)
    assert all(isinstance(value, float) and value > 0 for value in numbers.values())
    assert (numbers["side, px"], numbers["threads"]) == (64.0, torch.get_num_threads())
    ratio = numbers["forward, ms"] / numbers["convolutions alone, ms"]
    assert numbers["forward / convolutions"] == pytest.approx(ratio)


@torch.no_grad()
def test_the_bare_convolutions_are_those_of_the_network():
    net = HeterogeneousUNet(True, True).eval()
    calls, multiplications = bare_convolutions(net, torch.rand(1, 3, 16, 24))
    outputs = [call() for call in calls]
    assert all(output.dtype == torch.float32 for output in outputs)
    sizes = sorted((output.shape[1], *output.shape[2:]) for output in outputs)
    full, half, quarter, eighth = (16, 24), (8, 12), (4, 6), (2, 3)
    wanted = [(48, *full)] * 6 + [(96, *half)] * 6 + [(144, *quarter)] * 6 + [(256, *eighth)] * 3
    assert sizes == sorted([*wanted, (1, *full), (1, *half), (1, *quarter), (3, *full), (5, *full)])
    pairs = [(3, 48, 1), (48, 48, 1), (48, 96, 4), (96, 96, 4), (96, 144, 16), (144, 144, 16), (144, 256, 64)]
    pairs += [(256, 256, 64)] * 2 + [(288, 144, 16)] * 2 + [(144, 144, 16)] + [(192, 96, 4)] * 2 + [(96, 96, 4)]
    pairs += [(96, 48, 1)] * 2 + [(48, 48, 1)]
    by_hand = sum(9 * i * o * 16 * 24 // share for i, o, share in pairs)
    by_hand += 4 * sum(i * o * 16 * 24 // share for i, o, share in [(256, 144, 64), (144, 96, 16), (96, 48, 4)])
    by_hand += sum(i * o * 16 * 24 // share for i, o, share in [(144, 1, 16), (96, 1, 4), (48, 1, 1), (48, 8, 1)])
    assert multiplications == by_hand


def test_the_fastest_run_counts_and_the_first_does_not():
    runs = []

    def work():
        runs.append(None)
        time.sleep((0.0, 0.03, 0.01, 0.03)[len(runs) - 1])

    (fastest,) = time_in_turn([work], repeats=3)
    assert len(runs) == 4
    assert 10 <= fastest < 30

"""The benchmarks of whole photographs: what they count as found, and what they measure on what is known."""

import numpy as np
import pytest
from planted import gradient_energy, planted, psnr_inside

from wmremoval import photobenchmark, scalebenchmark
from wmremoval.inference import Remover, Result
from wmremoval.photobenchmark import measure_recall, sized_mark, time_folder, time_photographs
from wmremoval.watermarks import blend


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(photobenchmark, "LARGE", (240, 320))
    monkeypatch.setattr(scalebenchmark, "SIDE", 64)
    monkeypatch.setattr(scalebenchmark, "TIMES", (1, 2))


def test_letters_have_the_size_that_is_asked_for():
    heights = []
    for size in (30, 60):
        rows = np.flatnonzero(np.concatenate([sized_mark(400, 600, size, seed).alpha for seed in range(3)], 1).any(1))
        heights.append(np.ptp(rows))
    assert 1.2 < heights[1] / heights[0] < 4


@pytest.mark.parametrize(("restored", "recall"), [(0.0, 0.0), (0.4, 0.0), (0.6, 1.0), (1.0, 1.0)])
def test_recall_is_the_share_of_marks_of_which_half_is_restored(monkeypatch, restored, recall):
    marks = []
    monkeypatch.setattr(photobenchmark, "blend", lambda *a: marks.append(blend(*a)) or marks[-1])

    class Sees(Remover):
        def restore(self, photo, mask=None):
            there = np.flatnonzero(marks[-1][1])
            changed = np.zeros(photo.shape[:2], np.uint8)
            changed.reshape(-1)[there[: round(restored * there.size)]] = 255
            return Result(photo, changed, 0.0)

    numbers = measure_recall(Sees(None, None), letters=(40, 60), marks=2)
    assert numbers == {f"recall, {what}": recall for what in ("letters of 40 px", "letters of 60 px", "all")}


def test_times_and_their_shares_belong_together(monkeypatch):
    monkeypatch.setattr(photobenchmark, "COVERED", (0.0, 1.0))
    monkeypatch.setattr(photobenchmark, "sized_mark", lambda h, w, letters, seed: sized_mark(h, w, 0.15 * h, seed))
    numbers = time_photographs(planted())
    every = numbers["12 megapixels, every native tile, s"]
    assert numbers["mark on 5%, share of every tile"] == pytest.approx(numbers["12 megapixels, mark on 5%, s"] / every)
    folder = time_folder(planted(), photographs=4)
    assert 0 < folder["folder, share of the network's own throughput"] <= 1
    assert folder["folder, photographs a second"] < folder["folder, the network's own photographs a second"]


def test_a_perfect_remover_keeps_psnr_and_detail_at_every_scale(photos, monkeypatch):
    cleans = []
    build = scalebenchmark.mosaic
    monkeypatch.setattr(scalebenchmark, "mosaic", lambda *a: cleans.append(build(*a)) or cleans[-1])

    class Perfect(Remover):
        def __call__(self, image, mask=None):
            return Result(cleans[-1].copy(), np.zeros(image.shape[:2], np.uint8), 0.0)

    numbers = scalebenchmark.measure_scale(Perfect(None, None), photos[0].parent, marks=2, part="train")
    for n in (1, 2):
        assert numbers[f"mark x {n}, PSNR inside after, dB"] == pytest.approx(100)
        assert numbers[f"mark x {n}, gradient energy"] == 1
        assert numbers[f"mark x {n}, PSNR inside before, dB"] < 40
    assert cleans[-1].shape == (128, 128, 3)


def test_the_scores_agree_with_those_of_the_tests():
    rng = np.random.default_rng(0)
    image, clean = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    mask = (rng.random((20, 30)) > 0.5).astype(np.uint8)
    assert scalebenchmark.psnr_inside(image, clean, mask) == pytest.approx(psnr_inside(image, clean, mask), rel=1e-4)
    assert scalebenchmark.gradient_energy(image, mask) == pytest.approx(gradient_energy(image, mask), rel=1e-5)

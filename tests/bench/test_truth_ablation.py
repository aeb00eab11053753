"""What the remover is told replaces what the network says, and nothing else; misses are counted."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from planted import Planted, photograph, solved

from wmremoval.bench import truth_ablation
from wmremoval.bench.__main__ import main
from wmremoval.bench.suite import Cell, Sample, SuiteConfig, open_suite
from wmremoval.data.marks import Mark, blend
from wmremoval.restore.remover import Remover


class Mistaken(Planted):
    """Knows where a white mark is, and gives it half of its alpha and a grey for its colour."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        return parts._replace(alpha=parts.alpha / 2, colour=torch.full_like(parts.colour, 0.4))


def a_sample(alpha: float = 0.5) -> tuple[Sample, Mark]:
    cover = np.zeros((96, 128), np.float32)
    cover[30:60, 30:100] = alpha
    mark = Mark(cover, np.ones((96, 128, 3), np.float32))
    clean = photograph(96, 128)
    return Sample(Cell("shape", alpha), "a.png", clean, *blend(clean, mark)), mark


@pytest.fixture(scope="module")
def blueless(tmp_path_factory):
    """A folder of thirty photographs on which `Planted` is right."""
    photos = tmp_path_factory.mktemp("blueless")
    for i in range(30):
        Image.fromarray(np.roll(photograph(96, 128), 5 * i, axis=1)).save(photos / f"{i:02d}.png")
    return photos


def network_of(net):
    return Remover(net, torch.device("cpu")).net


def test_alpha_and_colour_told_together_undo_the_blending():
    sample, mark = a_sample()
    answers = truth_ablation.tell(network_of(Mistaken()), sample, mark)
    inner = np.s_[34:56, 34:96]  # away from the edges, which are carried in from both sides
    error = {way: np.abs(image[inner].astype(int) - sample.clean[inner]).max() for way, image in answers.items()}
    assert error["told alpha and colour"] <= 2 and error["told mask, alpha and colour"] <= 2
    assert min(error[way] for way in ("as it restores", "told the mask", "told alpha", "told the colour")) > 10


def test_told_the_mask_alone_pixels_outside_it_stay():
    class Everywhere(Planted):
        def parts(self, watermarked):
            parts = super().parts(watermarked)
            return parts._replace(mask_logits=torch.full_like(parts.mask_logits, 12.0), alpha=parts.alpha + 0.2)

    sample, mark = a_sample()
    outside = sample.mask == 0
    net = network_of(Everywhere())
    assert truth_ablation.tell(net, sample, mark) is None  # of an IoU of 0.17, so missed
    net = network_of(Mistaken())
    image = truth_ablation.tell(net, sample, mark)["told the mask"]
    np.testing.assert_array_equal(image[outside], sample.watermarked[outside])


def test_as_it_restores_is_what_the_remover_does():
    sample, mark = a_sample()
    net = network_of(Mistaken())
    restored = solved(net, sample.watermarked)
    image = truth_ablation.tell(net, sample, mark)["as it restores"]
    np.testing.assert_array_equal(image, np.uint8(np.round(restored.image.clip(0, 1) * 255)))


def test_gains_by_alpha_are_those_of_a_hand_computation(blueless):
    suite = open_suite(blueless, config=SuiteConfig(part="val", side=96, per_cell=2))
    gains, missed, shares = truth_ablation.score_truth_ablation(network_of(Planted()), suite)
    for alpha in ("0.3", "0.5", "0.7", "1.0"):
        assert missed[alpha] + len(gains["as it restores"][alpha]) == 4  # text and shape, two photographs each
    for groups in gains.values():
        assert sorted(groups["all"]) == sorted(gain for alpha in truth_ablation.ALPHAS for gain in groups[str(alpha)])
    sample, index = next((s, i) for kind, i in suite.views() for s in suite.samples(kind, i) if s.cell.plain)
    image = truth_ablation.tell(network_of(Planted()), sample, suite.draw(sample.cell, index, sample.clean))[
        "told alpha"
    ]
    inside = sample.mask > 0

    def squared(view):
        return np.mean((view.astype(float) - sample.clean)[inside] ** 2)

    by_hand = 10 * np.log10(squared(sample.watermarked) / squared(image))
    assert gains["told alpha"]["0.3"][0] == pytest.approx(by_hand, abs=1e-4)
    assert len(shares["all"]) == len(gains["as it restores"]["all"])
    np.testing.assert_allclose(np.sum(shares["all"], axis=1), 1.0, atol=1e-6)  # every pixel of a mark is in one place


def test_the_places_of_a_mark_are_told_apart_by_the_network_and_by_the_distance_to_the_edge():
    alpha, predicted = np.zeros((9, 12)), np.zeros((9, 12))
    alpha[1:8, 1:11] = 0.5
    alpha[1:8, 10] = 0.2  # a soft edge
    predicted[1:8, 1:7], predicted[1:8, 7:9] = 0.9, 0.5
    places = truth_ablation.places_of(predicted, alpha, alpha > 0)
    missed, doubtful, edge, inside = (np.zeros((9, 12), bool) for _ in range(4))
    missed[1:8, 9:11], doubtful[1:8, 7:9], edge[1:8, 1:7] = True, True, True
    inside[2:7, 2:7] = True
    for found, place in zip(places, (missed, doubtful, edge & ~inside, inside), strict=True):
        np.testing.assert_array_equal(found, place)


def test_weights_without_a_mark_head_are_refused():
    class Headless(Planted):
        def parts(self, watermarked):
            return super().parts(watermarked)._replace(alpha=None, colour=None, trust=None)

    with pytest.raises(ValueError, match="--decompose"):
        truth_ablation.tell(network_of(Headless()), *a_sample())


def test_the_command_leaves_a_report(blueless, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(truth_ablation, "load_remover", lambda weights, device: Remover(Planted(), torch.device("cpu")))
    command = ["truth", "--photos", str(blueless), "--limit", "1", "--report-dir", str(tmp_path / "out")]
    assert main(command) == 0
    report = json.loads((tmp_path / "out" / "truth_ablation.json").read_text())
    assert report["settings"] == {"part": "val", "per_cell": 1} and set(report["gain inside, dB"]) == set(
        truth_ablation.WAYS
    )
    assert report["marks"] + sum(report["left out, by alpha"].values()) == 8
    assert "told alpha and colour" in capsys.readouterr().out

"""Operations of a training step, counted by hand, and the share of a GPU's peak."""

import pytest
import torch
from torch import nn

from wmremoval.config import TrainConfig
from wmremoval.model import HeterogeneousUNet
from wmremoval.training import throughput as module
from wmremoval.training.passes import Progress
from wmremoval.training.throughput import peak_tflops, throughput, training_flops


@pytest.mark.parametrize("decompose", [False, True])
def test_forward_and_backward_are_three_times_the_multiply_adds_of_the_layers(decompose):
    """Each weight is used once forward, once for its own gradient and once for its input's."""
    net, image = HeterogeneousUNet(True, decompose), torch.rand(1, 3, 64, 64)
    operations = []

    def count(layer, inputs, output):
        fan_in = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.weight.shape[0]
        operations.append(2 * fan_in * output.numel())

    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net.parts(image)
    # The attention's two products come on top; the first layer's input needs no gradient.
    assert training_flops(True, decompose, 64) == pytest.approx(3 * sum(operations), rel=0.03)


def test_four_times_the_pixels_are_four_times_the_work_and_a_little_more_attention():
    assert 4.0 < training_flops(True, False, 256) / training_flops(True, False, 128) < 4.5


def test_the_share_of_the_peak_is_told_where_the_peak_is_known(monkeypatch):
    config = TrainConfig(decompose=True, image_size=128)
    speed = 989e12 / training_flops(True, True, 128) / 4  # images a second at a quarter of an H200's peak
    for name, share in (("NVIDIA H200", {"peak_share": 0.25}), ("Something else", {})):
        monkeypatch.setattr(module.torch.cuda, "get_device_name", lambda device, name=name: name)
        told = throughput(config, torch.device("cuda"), Progress(shown={128: 60}, seconds=60 / speed))
        assert told == pytest.approx({"tflops": 989 / 4} | share)
    assert set(throughput(config, torch.device("cpu"), Progress(shown={128: 60}, seconds=1.0))) == {"tflops"}


def test_crops_of_mixed_size_count_with_the_work_of_each():
    work = {side: training_flops(True, False, side) for side in (96, 192)}
    progress = Progress(seconds=2.0)
    for shape in ((14, 3, 96, 96), (4, 3, 192, 192), (14, 3, 96, 96)):
        progress.add({"loss": 1.0}, shape)
    told = throughput(TrainConfig(), torch.device("cpu"), progress)["tflops"]
    assert told == pytest.approx((28 * work[96] + 4 * work[192]) / 2e12)
    assert progress.views() == pytest.approx((28 * 96**2 + 4 * 192**2) / 256**2)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989.0), ("NVIDIA A100-SXM4-80GB", 312.0), ("NVIDIA A10", 125.0), ("NVIDIA RTX A1000", None), ("Tesla T4", 65.0)],
)  # fmt: skip
def test_peaks_go_by_whole_words(name, peak):
    assert peak_tflops(name) == peak

"""The pictures from inside the network show its real numbers and leave it as they found it."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from wmremoval.model import HeterogeneousUNet
from wmremoval.report import diagnostics, diagrams

WEIGHTS = {"masked_l1": 1.0, "perceptual": 0.3, "lab": 0.3, "ssim": 0.4, "laplacian": 0.1, "mask_bce": 0.0}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Untrained, in training mode but for one frozen block, with gradients and BatchNorm statistics of its own."""
    torch.manual_seed(0)
    net = HeterogeneousUNet()
    net(torch.rand(2, 3, 32, 32))[0].mean().backward()
    net.enc1.eval()
    return net


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return (
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 10:50] = 1
    return mask


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(figure: Figure) -> str:
    axes = figure.axes[0]
    return "\n".join([axes.get_title(), *(text.get_text() for text in axes.texts)])


def state(net: nn.Module) -> tuple:
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in net.modules()]
    modes = [module.training for module in net.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    return hooks, modes, gradients, copy.deepcopy(net.state_dict())


def assert_same(before: tuple, after: tuple) -> None:
    assert before[0] == after[0] == [0] * len(before[0])
    assert before[1] == after[1]
    assert all(torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))
    assert all(torch.equal(before[3][key], after[3][key]) for key in before[3])


NETWORK_FIGURES = {
    "architecture": lambda net, image, mask: diagrams.architecture(net),
    "loss_diagram": lambda net, image, mask: diagrams.loss_diagram(WEIGHTS),
    "watermark_attention": diagnostics.watermark_attention,
    "multi_layer_activation": lambda net, image, mask: diagnostics.multi_layer_activation(net, image),
    "decoder_focus": lambda net, image, mask: diagnostics.decoder_focus(net, image),
    "kernels": lambda net, image, mask: diagnostics.kernels(net),
    "gradients": lambda net, image, mask: diagnostics.gradients(net, image, image.flip(-1)),
}


@pytest.mark.parametrize("name", NETWORK_FIGURES)
def test_pictures_are_not_blank_and_leave_the_network_as_it_was(name, net, image, mask):
    before = state(net)
    assert pixels(NETWORK_FIGURES[name](net, image, mask)).std() > 20
    assert_same(before, state(net))


def test_activations_have_the_shapes_of_the_stages(net, image):
    shapes = {name: tuple(features.shape[1:]) for name, features in diagnostics.activations(net, image).items()}
    assert shapes == {
        "enc1": (48, 64, 64),
        "enc2": (96, 32, 32),
        "enc3": (144, 16, 16),
        "bottleneck": (256, 8, 8),
        "dec1": (144, 16, 16),
        "dec2": (96, 32, 32),
        "dec3": (48, 64, 64),
        "gate1": (1, 16, 16),
        "gate2": (1, 32, 32),
        "gate3": (1, 64, 64),
    }


def test_activations_are_those_of_eval_mode(net, image):
    maps = diagnostics.activations(net, image)
    twin = copy.deepcopy(net).eval()
    with torch.no_grad():
        torch.testing.assert_close(maps["enc1"], twin.enc1(image))
        torch.testing.assert_close(maps["gate3"], torch.sigmoid(twin(image)[1]))


def test_hooks_and_modes_are_restored_after_an_error(net):
    before = state(net)
    with pytest.raises(RuntimeError):
        diagnostics.activations(net, torch.rand(1, 5, 64, 64))
    assert_same(before, state(net))


def test_sides_that_are_no_multiple_of_eight_keep_their_size(net, image):
    odd = image[..., :61, :50]
    for figure in (diagnostics.watermark_attention(net, odd), diagnostics.multi_layer_activation(net, odd)):
        heat_maps = [axes.images[-1].get_array() for axes in figure.axes if axes.get_title()]
        assert {array.shape[:2] for array in heat_maps} == {(61, 50)}


def test_parameter_counts_in_the_diagram_are_the_real_ones(net):
    shown = texts(diagrams.architecture(net))
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in net.named_children()}
    assert f"{sum(counts.values()):,} parameters" in shown.splitlines()[0]
    for name, count in counts.items():
        if count:
            title = "self-attention" if name == "attention" else name
            assert re.search(rf"^{title} · .* · {count:,} parameters$", shown, re.MULTILINE), name


def test_channels_in_the_diagram_are_read_off_the_network(net):
    narrow = copy.deepcopy(net)
    narrow.enc3.layers[3] = nn.Conv2d(144, 99, 3, padding=1)
    assert "3×3 conv 144→99" in texts(diagrams.architecture(narrow))
    assert "transpose 2×2 conv 256→144" in texts(diagrams.architecture(net))


def test_the_diagram_tells_composite_from_direct(net):
    direct = HeterogeneousUNet(composite=False)
    assert "composite" in texts(diagrams.architecture(net))
    assert "composite" not in texts(diagrams.architecture(direct))


def test_loss_diagram_shows_the_weights_and_leaves_out_zeros():
    shown = texts(diagrams.loss_diagram(WEIGHTS))
    assert re.findall(r"× ([\d.]+)$", shown, re.MULTILINE) == ["1", "0.3", "0.3", "0.4", "0.1"]
    assert "sum of 5 terms" in shown
    assert "mask BCE" not in shown
    assert "mask BCE" in texts(diagrams.loss_diagram({**WEIGHTS, "mask_bce": 1.0}))


def test_attention_titles_compare_inside_with_outside(net, image, mask):
    gate = diagnostics.activations(net, image)["gate3"][0, 0].numpy()
    inside = mask[0, 0].numpy() > 0.5
    axes = diagnostics.watermark_attention(net, image, mask).axes[3]
    assert axes.get_title() == f"gate 3 (64×64): inside {gate[inside].mean():.3f}, outside {gate[~inside].mean():.3f}"
    np.testing.assert_allclose(axes.images[-1].get_array(), gate, atol=1e-6)


def test_multi_layer_activation_is_the_mean_strength_of_each_stage(net, image):
    maps = diagnostics.activations(net, image)
    panels = diagnostics.multi_layer_activation(net, image).axes[1:8]
    assert [axes.get_title().split(":")[0] for axes in panels] == list(diagnostics.LAYERS)
    for axes, name in zip(panels, diagnostics.LAYERS, strict=True):
        expected = np.abs(maps[name][0].numpy()).mean(0)
        step = 64 // expected.shape[0]
        np.testing.assert_allclose(axes.images[0].get_array()[::step, ::step], expected, rtol=1e-5)
    assert panels[3].get_title() == "bottleneck: 256 channels, 8×8"


def test_decoder_focus_fills_zero_to_one(net, image):
    scaled = diagnostics.decoder_focus(net, image).axes[1].images[0]
    assert scaled.get_clim() == (0, 1)
    assert (scaled.get_array().min(), scaled.get_array().max()) == (0, 1)


def test_each_kernel_tile_spans_its_own_range(net):
    figure = diagnostics.kernels(net, count=24)
    mosaic = figure.axes[0].images[0].get_array()
    first = mosaic[:3, :3].astype(float)
    weight = net.enc1.layers[0].weight[0].detach().numpy().transpose(1, 2, 0)
    expected = (weight - weight.min()) / (weight.max() - weight.min()) * 255
    np.testing.assert_allclose(first, expected, atol=0.51)
    assert mosaic.shape == (6 * 4 - 1, 4 * 4 - 1, 3)
    assert "24 of the 48 kernels" in figure.axes[0].get_title()


def test_bars_are_the_spread_of_every_convolution(net):
    bars = diagnostics.kernels(net).axes[1].patches
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [bar.get_width() for bar in bars] == pytest.approx([m.weight.std().item() for m in convolutions])


def test_gradients_are_those_of_the_l1_loss(net, image):
    target = image.flip(-1)
    twin = copy.deepcopy(net).eval()
    twin.zero_grad()
    leaf = image.clone().requires_grad_(True)
    loss = F.l1_loss(twin(leaf)[0], target)
    loss.backward()
    figure = diagnostics.gradients(net, image, target)
    np.testing.assert_allclose(figure.axes[0].images[-1].get_array(), leaf.grad[0].abs().mean(0), rtol=1e-3, atol=1e-9)
    assert figure.axes[1].get_title().endswith(f"{loss.item():.4f}")
    out = sum(p.grad.square().sum() for p in twin.out.parameters()).sqrt().item()
    assert figure.axes[1].patches[-1].get_height() == pytest.approx(out, rel=1e-3)


def test_gradients_draw_for_a_frozen_network_without_grad_mode_and_without_error(net, image):
    frozen = copy.deepcopy(net).requires_grad_(False)
    with torch.no_grad():
        diagnostics.gradients(frozen, image, image.flip(-1))
        own = copy.deepcopy(frozen).eval()(image)[0]
    assert pixels(diagnostics.gradients(frozen, image, own)).std() > 5

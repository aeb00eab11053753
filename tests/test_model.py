"""`HeterogeneousUNet` against its specification written out a second time, and the parameter counts of the document."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wmremoval.losses import VGG16Features
from wmremoval.model import (
    AttentionGate,
    DoubleConv,
    HeterogeneousUNet,
    SelfAttention,
    count_parameters,
    invert,
    pad_to_multiple,
)

TRAINABLE, VGG, TOTAL = 3_647_878, 1_735_488, 5_383_366  # as the document prints them
BLOCKS = ("enc1", "enc2", "enc3", "bottleneck", "attention", "dec1", "dec2", "dec3", "out")


def make_net(composite: bool = True) -> HeterogeneousUNet:
    """A seeded network whose BatchNorm statistics are not the neutral ones of a fresh network."""
    torch.manual_seed(0)
    net = HeterogeneousUNet(composite)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.2, 0.8)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return net.eval()


@pytest.fixture(scope="module")
def net():
    return make_net(composite=True)


@pytest.fixture(scope="module")
def direct_net():
    return make_net(composite=False)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def set_gate(net: HeterogeneousUNet, logit: float) -> HeterogeneousUNet:
    """Force the finest gate to one logit everywhere."""
    last = net.dec3.gate.logits[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, logit)
    return net


# Parameters.


def test_the_network_has_the_documents_parameters():
    assert count_parameters(HeterogeneousUNet()) == (TRAINABLE, TRAINABLE)


def test_network_and_perceptual_features_together_have_the_documents_total():
    assert count_parameters(HeterogeneousUNet(composite=False), VGG16Features()) == (TOTAL, TRAINABLE)


def test_the_perceptual_features_have_the_documents_parameters_and_none_is_trainable():
    assert count_parameters(VGG16Features()) == (VGG, 0)


def test_counting_parameters_by_hand():
    frozen = nn.Linear(10, 1).requires_grad_(False)
    assert count_parameters(nn.Linear(3, 2), frozen) == (3 * 2 + 2 + 11, 8)
    assert count_parameters() == (0, 0)


def test_the_self_attention_has_one_convolution_and_no_projection_of_values():
    assert count_parameters(SelfAttention(256)) == (590_080, 590_080)


def test_the_composite_form_adds_nothing_and_weights_pass_both_ways():
    composite, direct = HeterogeneousUNet(True), HeterogeneousUNet(False)
    assert composite.state_dict().keys() == direct.state_dict().keys()
    assert count_parameters(composite) == count_parameters(direct)
    composite.load_state_dict(direct.state_dict())
    direct.load_state_dict(composite.state_dict())


def test_the_composite_form_is_the_default():
    assert HeterogeneousUNet().composite is True


def test_every_block_of_the_document_has_its_name():
    names = [name for name, _ in HeterogeneousUNet().named_children() if name != "pool"]
    assert names == list(BLOCKS)


# Blocks.


def test_double_convolution_has_its_layers_in_order():
    layers = list(DoubleConv(5, 7).layers)
    assert [type(layer) for layer in layers] == [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.LeakyReLU,
    ]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in (layers[0], layers[3])] == [
        (5, 7, (3, 3)),
        (7, 7, (3, 3)),
    ]


def test_every_convolution_has_a_bias(net):
    convolutions = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(convolutions) == 4 * 2 + 1 + 3 * (1 + 2 + 2) + 1
    assert all(convolution.bias is not None for convolution in convolutions)


@pytest.mark.parametrize(
    ("block", "channels"),
    [
        ("enc1", (3, 48)),
        ("enc2", (48, 96)),
        ("enc3", (96, 144)),
        ("bottleneck", (144, 256)),
        ("dec1.conv", (288, 144)),
        ("dec2.conv", (192, 96)),
        ("dec3.conv", (96, 48)),
    ],
)
def test_channels_of_each_double_convolution(net, block, channels):
    layers = net.get_submodule(block).layers
    assert (layers[0].in_channels, layers[0].out_channels) == channels
    assert (layers[3].in_channels, layers[3].out_channels) == (channels[1], channels[1])


@pytest.mark.parametrize(("stage", "before", "after"), [("dec1", 256, 144), ("dec2", 144, 96), ("dec3", 96, 48)])
def test_channels_of_each_decoder_stage(net, stage, before, after):
    stage = net.get_submodule(stage)
    assert (stage.up.in_channels, stage.up.out_channels, stage.up.kernel_size, stage.up.stride) == (
        before,
        after,
        (2, 2),
        (2, 2),
    )
    first, _, last = stage.gate.logits
    assert (first.in_channels, first.out_channels, first.kernel_size) == (2 * after, after, (3, 3))
    assert (last.in_channels, last.out_channels, last.kernel_size) == (after, 1, (1, 1))


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_self_attention_is_softmax_of_scaled_products_times_the_features_plus_the_features(size):
    torch.manual_seed(1)
    block, x = SelfAttention(256).double(), torch.randn(2, 256, *size, dtype=torch.float64)
    projected = block.query_key(x)
    wanted = torch.empty_like(x)
    for b in range(2):
        q, k, v = (m.reshape(m.shape[0], -1) for m in (projected[b, :128], projected[b, 128:], x[b]))  # (C, HW)
        products = q.T @ k / math.sqrt(128)  # (query positions, key positions)
        weights = products.exp() / products.exp().sum(dim=1, keepdim=True)
        wanted[b] = x[b] + (v @ weights.T).reshape(x[b].shape)
    torch.testing.assert_close(block(x), wanted, rtol=1e-9, atol=1e-9)


def test_self_attention_sees_every_position():
    torch.manual_seed(1)
    block, x = SelfAttention(16), torch.randn(1, 16, 9, 9, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    assert (x.grad[0].abs().sum(0) > 0).all()


def test_the_gate_multiplies_the_features_it_was_computed_from():
    torch.manual_seed(2)
    gate, x = AttentionGate(8, 4), torch.randn(2, 8, 6, 5)
    gated, logits = gate(x)
    assert logits.shape == (2, 1, 6, 5)
    torch.testing.assert_close(gated, x / (1 + torch.exp(-logits)))


# The whole network.


def conv(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def double_conv(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    for i, slope in ((0, 0.0), (3, 0.01)):  # ReLU, then LeakyReLU
        x = conv(state, f"{name}.layers.{i}", x)
        norm = {
            part: state[f"{name}.layers.{i + 1}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        }
        x = (x - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
        x = torch.where(x > 0, x, slope * x)
    return x


def specified(state: dict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(direct image, mask logits) as the specification says, in float64; sides divisible by 8."""
    state = {name: value.double() for name, value in state.items()}
    x, skips = x.double(), []
    for name in ("enc1", "enc2", "enc3"):
        skips.append(double_conv(state, name, x))
        x = F.max_pool2d(skips[-1], 2)
    x = double_conv(state, "bottleneck", x)
    q, k = conv(state, "attention.query_key", x).flatten(2).split(128, dim=1)
    weights = (torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(128)).softmax(dim=2)
    x = x + torch.einsum("bqk,bck->bcq", weights, x.flatten(2)).reshape(x.shape)
    for name in ("dec1", "dec2", "dec3"):
        up = F.conv_transpose2d(x, state[f"{name}.up.weight"], state[f"{name}.up.bias"], stride=2).clamp_min(0)
        x = torch.cat([up, skips.pop()], dim=1)
        hidden = conv(state, f"{name}.gate.logits.0", x)
        logits = conv(state, f"{name}.gate.logits.2", torch.where(hidden > 0, hidden, 0.01 * hidden))
        x = double_conv(state, f"{name}.conv", x * logits.sigmoid())
    return conv(state, "out", x).sigmoid(), logits


@torch.no_grad()
def test_the_direct_network_computes_what_the_specification_says(direct_net):
    x = images(2, 3, 24, 40)
    image, logits = direct_net(x)
    wanted_image, wanted_logits = specified(direct_net.state_dict(), x)
    torch.testing.assert_close(image.double(), wanted_image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits.double(), wanted_logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_composite_output_is_the_prediction_where_the_finest_gate_opens_and_the_input_elsewhere(net):
    seen = {}
    hooks = [
        net.out.register_forward_hook(lambda module, args, output: seen.update(out=output)),
        net.dec3.gate.register_forward_hook(lambda module, args, output: seen.update(logits=output[1])),
    ]
    x = images(2, 3, 33, 47)
    image, logits = net(x)
    for hook in hooks:
        hook.remove()
    gate, prediction = (seen[name].sigmoid()[..., :33, :47] for name in ("logits", "out"))
    assert gate.std() > 0.001, "a constant gate would prove nothing"
    torch.testing.assert_close(logits, seen["logits"][..., :33, :47])
    torch.testing.assert_close(image, gate * prediction + (1 - gate) * x)


@torch.no_grad()
def test_a_shut_gate_returns_the_input_and_an_open_one_the_direct_prediction():
    x = images(1, 3, 24, 24)
    shut, logits = set_gate(make_net(), -20.0)(x)
    torch.testing.assert_close(shut, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits, torch.full((1, 1, 24, 24), -20.0))
    opened, _ = set_gate(make_net(), 20.0)(x)
    direct, _ = set_gate(make_net(composite=False), 20.0)(x)
    torch.testing.assert_close(opened, direct, rtol=0, atol=1e-6)
    assert (opened - x).abs().mean() > 0.05


@torch.no_grad()
def test_a_fresh_composite_network_starts_near_its_input_and_a_direct_one_does_not():
    x, distance = images(1, 3, 32, 32), {}
    for composite in (True, False):
        torch.manual_seed(0)
        image, logits = HeterogeneousUNet(composite).train()(x)
        distance[composite] = (image - x).abs().mean().item()
        assert logits.sigmoid().mean().item() == pytest.approx(0.06 if composite else 0.5, rel=0.6)
    assert distance[True] < 0.04 < 0.15 < distance[False]


@pytest.mark.parametrize("size", [(33, 47), (8, 8), (1, 1), (9, 64), (2, 31)])
@pytest.mark.parametrize("form", ["net", "direct_net"])
@torch.no_grad()
def test_any_size_comes_back_at_its_size(form, size, request):
    image, logits = request.getfixturevalue(form)(images(1, 3, *size))
    assert image.shape == (1, 3, *size)
    assert logits.shape == (1, 1, *size)
    assert image.isfinite().all() and image.min() >= 0 and image.max() <= 1


@torch.no_grad()
def test_an_odd_size_gives_what_its_mirrored_padding_gives(net):
    x = images(1, 3, 33, 47)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 7), (0, 1)), mode="reflect"))
    for odd, whole in zip(net(x), net(padded), strict=True):
        torch.testing.assert_close(odd, whole[..., :33, :47])


@pytest.mark.parametrize("shape", [(11, 13), (8, 5), (16, 24), (9, 9)])
def test_padding_mirrors_at_the_bottom_and_right(shape):
    x = images(1, 2, *shape)
    extra = ((0, 0), (0, 0), (0, -shape[0] % 8), (0, -shape[1] % 8))
    wanted = np.pad(x.numpy(), extra, mode="reflect")
    assert np.array_equal(pad_to_multiple(x, 8).numpy(), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (20, 4)])
def test_padding_repeats_the_border_where_a_side_is_too_short_to_mirror(shape):
    x = images(1, 2, *shape)
    extra = ((0, 0), (0, 0), (0, -shape[0] % 8), (0, -shape[1] % 8))
    assert np.array_equal(pad_to_multiple(x, 8).numpy(), np.pad(x.numpy(), extra, mode="edge"))


@torch.no_grad()
def test_a_batch_gives_what_its_images_give_one_by_one(net):
    x = images(3, 3, 24, 32)
    together = net(x)
    alone = [net(x[i : i + 1]) for i in range(3)]
    for i, part in enumerate(together):
        torch.testing.assert_close(part, torch.cat([one[i] for one in alone]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_input_is_left_as_it_was(net):
    x = images(1, 3, 16, 16)
    before = x.clone()
    net(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("form", ["net", "direct_net"])
@torch.no_grad()
def test_outputs_are_float32_under_bfloat16_autocast_and_close_to_the_exact_ones(form, request):
    net, x = request.getfixturevalue(form), images(1, 3, 24, 32)
    exact = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(x)
    assert [part.dtype for part in half] == [torch.float32, torch.float32]
    torch.testing.assert_close(half[0], exact[0], rtol=0, atol=0.05)
    torch.testing.assert_close(half[1], exact[1], rtol=0.05, atol=0.1)
    assert not torch.equal(half[1], exact[1]), "autocast did nothing, so this proves nothing"


@torch.no_grad()
def test_unmarked_pixels_pass_through_bfloat16_autocast_unrounded():
    net, x = set_gate(make_net(), -20.0), images(1, 3, 24, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, _ = net(x)
    assert (image - x).abs().max() < 1e-6  # bfloat16 itself is off by up to 2e-3 here


@pytest.mark.parametrize("composite", [True, False])
def test_every_parameter_gets_a_gradient(composite):
    net = make_net(composite).train()
    image, _ = net(images(2, 3, 16, 16))
    (image - 0.3).square().mean().backward()
    before_norm = {f"{name}.layers.{i}.bias" for name in BLOCKS for i in (0, 3)} | {
        f"dec{n}.conv.layers.{i}.bias" for n in (1, 2, 3) for i in (0, 3)
    }
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if name not in before_norm:  # BatchNorm subtracts the mean, and a bias with it
            assert parameter.grad.abs().max() > 0, name


# Decomposition


def test_the_mark_head_has_245_parameters_and_the_documents_form_none():
    assert count_parameters(HeterogeneousUNet(decompose=True))[0] == 3_647_878 + 245
    assert count_parameters(HeterogeneousUNet(decompose=False))[0] == 3_647_878
    with pytest.raises(ValueError, match="composite"):
        HeterogeneousUNet(composite=False, decompose=True)


def test_inverting_undoes_the_blending_where_the_photograph_shows_through():
    torch.manual_seed(0)
    clean, colour, alpha = torch.rand(2, 3, 9, 9), torch.rand(2, 3, 9, 9), 0.9 * torch.rand(2, 1, 9, 9)
    watermarked = (1 - alpha) * clean + alpha * colour
    assert (invert(watermarked, alpha, colour) - clean).abs().max() < 1e-5
    assert torch.isfinite(invert(watermarked, torch.ones_like(alpha), colour)).all()


def test_the_parts_compose_the_image():
    torch.manual_seed(0)
    net = HeterogeneousUNet(decompose=True).eval()
    for parameter in net.mark.parameters():
        nn.init.normal_(parameter)
    watermarked = torch.rand(1, 3, 24, 33)
    with torch.inference_mode():
        parts = net.parts(watermarked)
        image, logits = net(watermarked)
    assert torch.equal(image, parts.image) and torch.equal(logits, parts.mask_logits)
    assert parts.alpha.shape == parts.trust.shape == (1, 1, 24, 33) and parts.colour.shape == (1, 3, 24, 33)
    inverted = ((watermarked - parts.alpha * parts.colour) / (1 - parts.alpha.clamp_max(0.95))).clamp(0, 1)
    inside = parts.trust * parts.fill + (1 - parts.trust) * inverted
    gate = torch.sigmoid(logits)
    assert (image - (gate * inside + (1 - gate) * watermarked)).abs().max() < 1e-5


def test_an_untrained_decomposition_begins_near_its_input():
    torch.manual_seed(0)
    watermarked = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        image, _ = HeterogeneousUNet(decompose=True).eval()(watermarked)
    assert (image - watermarked).abs().mean() < 0.05

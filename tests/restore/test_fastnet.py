"""`FastNet` against the network it was built from, and its windows against attention written out position by position."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmremoval.model import HeterogeneousUNet, Parts
from wmremoval.restore import attention as attention_module
from wmremoval.restore import fastnet
from wmremoval.restore.attention import attended, attention, hat_weights, window_groups, windowed
from wmremoval.restore.fastnet import FastNet

FORMS = {"direct": (False, False), "composite": (True, False), "decomposed": (True, True)}
WINDOW = 4  # positions


def make_net(composite: bool = True, decompose: bool = False) -> HeterogeneousUNet:
    """A seeded network in which everything matters.

    BatchNorms hold the statistics of a batch, uneven scales and shifts, so that features stay as strong as in a
    trained network (those of a fresh one fade on the way); attention prefers some positions, and logits are wide.
    """
    torch.manual_seed(0)
    net = HeterogeneousUNet(composite, decompose)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    with torch.no_grad():
        net.attention.query_key.weight *= 3
        net.train()(images(4, 3, 48, 48, seed=1))
        for layer in [net.out, *(stage.gate.logits[-1] for stage in (net.dec1, net.dec2, net.dec3))]:
            layer.weight *= 5
    return net.eval()


@pytest.fixture(scope="module")
def nets():
    return {name: make_net(*form) for name, form in FORMS.items()}


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difference(found: Parts, wanted: Parts) -> float:
    """The largest difference of any part; infinite where one is missing, of another shape, or not float32."""
    largest = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a is None and b is None:
            continue
        if a is None or b is None or a.shape != b.shape or a.dtype != torch.float32:
            return math.inf
        gap = (a - b).abs().max().item()
        largest = max(largest, gap if math.isfinite(gap) else math.inf)
    return largest


# The same results.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 17, 23), (1, 3, 40, 56), (3, 3, 8, 64)])
@torch.no_grad()
def test_every_part_is_that_of_the_network(nets, form, shape):
    x = images(*shape)
    assert difference(FastNet(nets[form]).parts(x), nets[form].parts(x)) <= 1e-4


@pytest.mark.parametrize("limit", [1, 20_000, 60_000])
@torch.no_grad()
def test_strips_change_nothing(nets, monkeypatch, limit):
    monkeypatch.setattr(fastnet, "STRIP_BYTES", limit)
    monkeypatch.setattr(fastnet, "LEAST_ROWS", 2)
    for shape in ((1, 3, 40, 24), (2, 3, 72, 9)):
        x = images(*shape)
        assert difference(FastNet(nets["decomposed"]).parts(x), nets["decomposed"].parts(x)) <= 1e-4


@pytest.mark.parametrize("least", [2, 4, 6, 64])
def test_strips_have_even_rows_and_cover_every_row_once(monkeypatch, least):
    monkeypatch.setattr(fastnet, "STRIP_BYTES", 1)
    monkeypatch.setattr(fastnet, "LEAST_ROWS", least)
    for height in (2, 8, 130, 264):
        strips = list(fastnet.strips_of(torch.empty(1, 1, height, 3), 5))
        assert [row for strip in strips for row in range(height)[strip.around(0)]] == list(range(height))
        assert all(strip.top % 2 == 0 and strip.bottom % 2 == 0 for strip in strips)
        assert all(strip.bottom - strip.top <= least for strip in strips)
        assert all(strip.around(3) == slice(max(0, strip.top - 3), min(height, strip.bottom + 3)) for strip in strips)


@torch.no_grad()
def test_a_call_gives_image_and_mask_logits(nets):
    x = images(1, 3, 24, 16)
    for found, wanted in zip(FastNet(nets["composite"])(x), nets["composite"](x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_network_in_training_mode_gives_its_evaluation_form_and_is_left_as_it_was(nets):
    x, net = images(2, 3, 16, 24), make_net(*FORMS["decomposed"]).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fast = FastNet(net)
    found = fast.parts(x)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert difference(found, nets["decomposed"].parts(x)) <= 1e-4
    for parameter in net.parameters():  # nothing is shared either
        parameter.zero_()
    assert difference(fast.parts(x), found) == 0


def test_nothing_in_it_is_trained_or_normalised(nets):
    fast = FastNet(nets["decomposed"])
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    assert not any(part.requires_grad for part in fast.parts(images(1, 3, 8, 8)) if part is not None)


def test_building_one_leaves_the_random_state_alone(nets):
    before = torch.get_rng_state()
    FastNet(nets["decomposed"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_photograph_is_left_as_it_was(nets):
    for shape in ((1, 3, 16, 16), (1, 3, 13, 9)):
        for dtype in (torch.float32, torch.bfloat16):
            x = images(*shape)
            FastNet(nets["decomposed"], dtype=dtype).parts(x)
            assert torch.equal(x, images(*shape))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_bfloat16_is_close_and_gives_float32(nets, form):
    x = images(1, 3, 40, 56)
    found, wanted = FastNet(nets[form], dtype=torch.bfloat16).parts(x), nets[form].parts(x)
    assert difference(found, wanted) <= 0.05
    assert (found.image - wanted.image).abs().mean() < 0.008  # two grey levels, of logits this wide
    assert not torch.equal(found.mask_logits, wanted.mask_logits), "nothing was rounded, so this proves nothing"


@torch.no_grad()
def test_autocast_changes_nothing(nets):
    x, fast = images(1, 3, 24, 32), FastNet(nets["decomposed"])
    exact = fast.parts(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert difference(fast.parts(x), exact) == 0


@torch.no_grad()
def test_without_attention_the_bottleneck_passes_through(nets):
    net, x = make_net(*FORMS["composite"]), images(1, 3, 40, 56)
    net.attention = nn.Identity()
    found = FastNet(nets["composite"], attention=False).parts(x)
    assert difference(found, net.parts(x)) <= 1e-4
    assert (found.mask_logits - nets["composite"].parts(x).mask_logits).abs().max() > 0.01, "attention did nothing"


# Attention within windows.


def hand_windowed(query: Tensor, key: Tensor, values: Tensor, window: int) -> Tensor:
    """What `windowed` says, for one map (H, W, C), position by position in float64."""
    height, width = values.shape[:2]
    half = window // 2

    def starts(side: int) -> list[int]:
        found = [0]
        while found[-1] + window < side:
            found.append(found[-1] + half)
        return found

    def hat(side: int, start: int, at: int) -> float:
        if at + 0.5 < half and start == 0:
            return 1.0
        if at + 0.5 > starts(side)[-1] + half and start == starts(side)[-1]:
            return 1.0
        return max(0.0, 1 - abs(at + 0.5 - start - half) / half)

    wanted = torch.zeros_like(values, dtype=torch.float64)
    for top in starts(height):
        for left in starts(width):
            q, k, v = (m[top : top + window, left : left + window].double() for m in (query, key, values))
            for i in range(q.shape[0]):
                for j in range(q.shape[1]):
                    scores = (q[i, j] * k).sum(-1).exp()
                    weight = hat(height, top, top + i) * hat(width, left, left + j)
                    wanted[top + i, left + j] += weight * (scores[..., None] * v).sum((0, 1)) / scores.sum()
    return wanted


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (3, 7), (8, 8), (9, 11), (10, 13), (1, 12)])
@pytest.mark.parametrize("window", [2, 4, 6])
def test_windows_are_blended_as_the_specification_says(size, window):
    query, key, values = normal(2, *size, 3), normal(2, *size, 3, seed=1), normal(2, *size, 6, seed=2)
    found = windowed(query, key, values, window)
    for b in range(2):
        wanted = hand_windowed(query[b], key[b], values[b], window)
        torch.testing.assert_close(found[b].double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [2, 4, 12])
def test_weights_sum_to_one_and_change_by_no_more_than_a_step(window):
    for side in range(1, 4 * window):
        weights = hat_weights(side, window)
        assert weights.shape == (2, side) and weights.min() >= 0
        torch.testing.assert_close(weights.sum(0), torch.ones(side))
        assert (weights.diff(dim=1).abs() <= 2 / window + 1e-6).all()


@pytest.mark.parametrize("window", [2, 4, 12])
def test_groups_hold_every_window_once(window):
    for side in range(1, 5 * window):
        groups = window_groups(side, window)
        found = sorted((start + i * length, length) for _, start, count, length in groups for i in range(count))
        wanted = [(0, min(side, window))]
        while wanted[-1][0] + window < side:
            start = wanted[-1][0] + window // 2
            wanted.append((start, min(window, side - start)))
        assert found == wanted
        assert all(start // (window // 2) % 2 == parity for parity, start, _, _ in groups)


@torch.no_grad()
def test_a_window_as_large_as_the_map_is_global_attention(nets):
    x = images(1, 3, 40, 56)  # 5 x 7 positions
    wanted = nets["composite"].parts(x)
    assert difference(FastNet(nets["composite"], window=8).parts(x), wanted) <= 1e-4
    smaller = FastNet(nets["composite"], window=4).parts(x)
    assert (smaller.mask_logits - wanted.mask_logits).abs().max() > 1e-3, "windows did nothing"
    query_key, values = normal(1, 6, 5, 7), normal(1, 6, 5, 7, seed=1)
    query, key = query_key.permute(0, 2, 3, 1).chunk(2, dim=-1)
    found = values + windowed(query, key, values.permute(0, 2, 3, 1), 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, attended(values, query_key, None))


@torch.no_grad()
def test_shifting_the_photograph_by_half_a_window_shifts_the_result_in_the_interior(nets):
    shift = WINDOW * 8 // 2  # px
    x = images(1, 3, 160, 160)
    whole = FastNet(nets["decomposed"], window=WINDOW).parts(x)
    cut = FastNet(nets["decomposed"], window=WINDOW).parts(x[..., shift:, shift:])
    far = 96  # px that see the cut: 38 below the attention, 24 in its windows, 21 above, and the rounding of three poolings
    for name, a, b in zip(Parts._fields[:-1], whole[:-1], cut[:-1], strict=True):  # gates are not given out
        a = a[..., shift:, shift:]
        torch.testing.assert_close(b[..., far:, far:], a[..., far:, far:], rtol=0, atol=1e-4, msg=name)
    by_less = FastNet(nets["decomposed"], window=WINDOW).parts(x[..., 8:, 8:])
    difference = (by_less.mask_logits - whole.mask_logits[..., 8:, 8:])[..., far:, far:].abs().max()
    assert difference > 1e-3, "the grid of windows does not matter, so this proves nothing"


@torch.no_grad()
def test_far_positions_do_not_see_each_other_through_windows(nets):
    x, fast = images(1, 3, 64, 160), FastNet(nets["composite"], window=WINDOW)
    other = x.clone()
    other[..., :16] = 1 - other[..., :16]
    torch.testing.assert_close(fast.parts(x).image[..., 112:], fast.parts(other).image[..., 112:], rtol=0, atol=1e-5)
    together = FastNet(nets["composite"])
    assert (together.parts(x).mask_logits - together.parts(other).mask_logits)[..., 112:].abs().max() > 1e-3


@pytest.mark.parametrize("window", [0, 1, 7, -2])
def test_a_window_is_even_and_positive(nets, window):
    with pytest.raises(ValueError, match="window"):
        FastNet(nets["composite"], window=window)


# Attention itself.


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (2, 64), (1, 160)])
@pytest.mark.parametrize("held", [1, 100, 2000, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_attention_is_softmax_of_products_times_values(monkeypatch, shape, held, dtype):
    monkeypatch.setattr(attention_module, "SCORE_VALUES", held)
    query, key, values = (normal(*shape, width, seed=width).to(dtype) for width in (4, 5, 8))
    key = key[..., :4]
    scores = torch.einsum("nqc,nkc->nqk", query.double(), key.double()).exp()
    wanted = torch.einsum("nqk,nkc->nqc", scores / scores.sum(-1, keepdim=True), values.double())
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    for form in (attention, attention_module.fused_attention):
        found = form(query, key, values)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)


def test_products_of_matrices_are_those_of_pytorch():
    for rows in (1, 15, 16, 48):
        a, b = normal(rows, 7), normal(11, 7, seed=1)
        torch.testing.assert_close(attention_module.product(a, b), a @ b.T)


def test_queries_carry_the_scale_of_the_products(nets):
    source, scaled = nets["direct"].attention.query_key, FastNet(nets["direct"]).query_key
    x = normal(1, 256, 3, 3)
    plain, found = source(x).detach(), F.conv2d(x, scaled.weight, scaled.bias, padding=1)
    torch.testing.assert_close(found[:, :128], plain[:, :128] / math.sqrt(128), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:, 128:], plain[:, 128:], rtol=1e-4, atol=1e-4)

"""`FastNet`: a trained `HeterogeneousUNet` rebuilt for fast inference, with the same results."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .model import STRIDE, DecoderStage, DoubleConv, HeterogeneousUNet, Parts, SelfAttention, invert, pad_to_multiple

SLOPE = 0.01  # of every LeakyReLU
STRIP_BYTES = 12 * 2**20  # largest map that is held on a CPU: blocks above 32 MB go back to the system after each use
LEAST_ROWS = 64  # of a strip, however wide the photograph: every strip computes up to 8 rows more than it gives
SCORE_VALUES = 2**22  # attention scores that are held at once on a CPU


class FastNet(nn.Module):
    """The inference form of a `HeterogeneousUNet`: BatchNorm folded into the convolutions, channels-last, in strips.

    The maps of the encoder and the decoder are computed in horizontal strips that stay in the processor's
    caches, each with the rows around it that its convolutions see, so that nothing changes but the time and the
    memory. Results are inference tensors of float32; the given network is left as it was, and autocast has no effect.

    Args:
        net: a trained network in any mode; its weights are copied, and its device is kept.
        window: None for the global self-attention of training. An even number of bottleneck positions, a position
            being 8 pixels: attention within overlapping square windows of this side; see `windowed`.
        attention: if False, the self-attention adds nothing.
        dtype: of weights and maps inside; bfloat16 halves memory and is faster where the processor knows it.

    Raises:
        ValueError: an odd `window`, or one below 2.
    """

    def __init__(
        self,
        net: HeterogeneousUNet,
        window: int | None = None,
        *,
        attention: bool = True,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if window is not None and (window < 2 or window % 2):
            raise ValueError(f"window must be an even number of positions, 2 at least, not {window}")
        self.composite, self.decompose, self.window, self.dtype = net.composite, net.decompose, window, dtype
        net = copy.deepcopy(net).eval()
        self.encoder = nn.ModuleList(FoldedPair(block) for block in (net.enc1, net.enc2, net.enc3))
        self.bottleneck = FoldedPair(net.bottleneck)
        self.query_key = scaled_query_key(net.attention) if attention else None
        self.decoder = nn.ModuleList(FastStage(stage) for stage in (net.dec1, net.dec2, net.dec3))
        self.heads = joined([net.out, net.mark] if net.decompose else [net.out])
        self.requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)

    def forward(self, watermarked: Tensor) -> tuple[Tensor, Tensor]:
        """Restored image and mask logits, as `HeterogeneousUNet.forward`."""
        parts = self.parts(watermarked)
        return parts.image, parts.mask_logits

    @torch.inference_mode()
    def parts(self, watermarked: Tensor) -> Parts:
        """Restore photographs of any height and width.

        Args:
            watermarked: (B, 3, H, W), RGB in [0, 1].

        Returns:
            what `HeterogeneousUNet.parts` returns, within rounding: (B, C, H, W) float32.
        """
        height, width = watermarked.shape[-2:]
        with torch.autocast(watermarked.device.type, enabled=False):
            maps = self._maps(pad_to_multiple(watermarked, STRIDE).to(self.dtype))[..., :height, :width]
        mask_logits, maps = maps[:, :1], maps[:, 1:].sigmoid_()
        fill = maps[:, :3]
        if not self.composite:
            return Parts(fill, mask_logits, fill)
        watermarked, gate = watermarked.float(), torch.sigmoid(mask_logits)
        if not self.decompose:
            return Parts(torch.lerp(watermarked, fill, gate), mask_logits, fill)
        alpha, colour, trust = maps[:, 3:].split((1, 3, 1), dim=1)
        inside = torch.lerp(invert(watermarked, alpha, colour), fill, trust)
        return Parts(torch.lerp(watermarked, inside, gate), mask_logits, fill, alpha, colour, trust)

    def _maps(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) with sides divisible by 8 -> (B, 1 + heads, H, W) float32: logits of the mask, then of the heads."""
        x, skips = x.contiguous(memory_format=torch.channels_last), []
        for pair in self.encoder:
            skip, x = encoded(pair, x)
            skips.append(skip)
        x = self.bottleneck(x, Strip(0, x.shape[-2], x.shape[-2]))  # (B, 256, H/8, W/8)
        if self.query_key is not None:
            x = attended(x, self.query_key(x), self.window)
        for stage in self.decoder[:2]:
            skip = skips.pop()
            y = torch.empty_like(skip)
            for rows, _, features in stage.strips(x, skip):
                y[:, :, rows] = features
            x = y
        skip = skips.pop()
        maps = x.new_empty(len(x), 1 + self.heads.out_channels, *skip.shape[-2:], dtype=torch.float32)
        for rows, logits, features in self.decoder[2].strips(x, skip):
            maps[:, :1, rows] = logits
            maps[:, 1:, rows] = self.heads(features)
        return maps


class Strip(NamedTuple):
    """Rows `top` to `bottom` (excluded), both even, of a map of `height` rows."""

    top: int
    bottom: int
    height: int

    def around(self, halo: int) -> slice:
        """The rows of the strip and up to `halo` more at either side, as far as there are any."""
        return slice(max(0, self.top - halo), min(self.height, self.bottom + halo))


class FoldedPair(nn.Module):
    """A `DoubleConv` with its BatchNorms folded in, for one strip at a time."""

    def __init__(self, block: DoubleConv):
        super().__init__()
        first, first_norm, _, second, second_norm, _ = block.layers
        self.first, self.second = fuse_conv_bn_eval(first, first_norm), fuse_conv_bn_eval(second, second_norm)

    def forward(self, x: Tensor, strip: Strip) -> Tensor:
        """Rows `strip.around(2)` of the input, (B, in, rows, W) -> the strip of the output, (B, out, rows, W)."""
        x = trimmed(F.relu_(self.first(x)), strip, 2, 1)
        return F.leaky_relu_(trimmed(self.second(x), strip, 1, 0), SLOPE)


class FastStage(nn.Module):
    """A `DecoderStage` that computes its maps strip by strip."""

    def __init__(self, stage: DecoderStage):
        super().__init__()
        hidden, _, logits = stage.gate.logits
        self.up, self.hidden, self.logits, self.conv = stage.up, hidden, logits, FoldedPair(stage.conv)

    def strips(self, x: Tensor, skip: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(B, in, H/2, W/2) and (B, out, H, W) -> rows, gate logits (B, 1, rows, W) and features (B, out, rows, W)."""
        width = skip.shape[1]
        for strip in strips_of(skip, 2 * width):
            rows = strip.around(4)  # three are needed, but a row of `x` makes two
            both = empty_map(skip, 2 * width, rows.stop - rows.start, skip.shape[-1])
            torch.clamp_min(self.up(x[:, :, rows.start // 2 : rows.stop // 2]), 0, out=both[:, :width])
            both[:, width:] = skip[:, :, rows]
            both = trimmed(both, strip, 4, 3)
            logits = self.logits(F.leaky_relu_(trimmed(self.hidden(both), strip, 3, 2), SLOPE))
            features = self.conv(trimmed(both, strip, 3, 2).mul_(torch.sigmoid(logits)), strip)
            yield strip.around(0), trimmed(logits, strip, 2, 0), features


def encoded(pair: FoldedPair, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, in, H, W) -> features (B, out, H, W) of an encoder block, and their 2 x 2 maxima (B, out, H/2, W/2)."""
    height, width = x.shape[-2:]
    channels = pair.second.out_channels
    features, pooled = empty_map(x, channels, height, width), empty_map(x, channels, height // 2, width // 2)
    for strip in strips_of(x, channels):
        y = pair(x[:, :, strip.around(2)], strip)
        features[:, :, strip.around(0)] = y
        pooled[:, :, strip.top // 2 : strip.bottom // 2] = F.max_pool2d(y, 2)
    return features, pooled


def trimmed(x: Tensor, strip: Strip, halo: int, wanted: int) -> Tensor:
    """Rows `strip.around(wanted)` of a map that holds `strip.around(halo)`; a view."""
    held, rows = strip.around(halo), strip.around(wanted)
    return x[:, :, rows.start - held.start : rows.stop - held.start]


def empty_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """(B, channels, height, width), channels-last, as many images as `like` and where it is; values are undefined."""
    size = (len(like), channels, height, width)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def strips_of(x: Tensor, channels: int) -> Iterator[Strip]:
    """Divide the rows of `x`, (B, C, H, W) with even H.

    A CPU gets strips whose maps of `channels` channels take about `STRIP_BYTES`, any other device one strip.
    """
    batch, _, height, width = x.shape
    most = max(LEAST_ROWS, STRIP_BYTES // (batch * width * channels * x.element_size())) if x.is_cpu else height
    count = -(-height // most)
    rows = 2 * -(-height // (2 * count))
    for top in range(0, height, rows):
        yield Strip(top, min(top + rows, height), height)


def attended(x: Tensor, query_key: Tensor, window: int | None) -> Tensor:
    """Self-attention added to its input; (B, C, H, W), and queries and keys together in as many channels."""
    height, width = x.shape[-2:]
    values, query_key = x.permute(0, 2, 3, 1), query_key.permute(0, 2, 3, 1)  # (B, H, W, C)
    query, key = query_key.chunk(2, dim=-1)
    if window is None or max(height, width) <= window:
        context = attention(*(m.flatten(1, 2) for m in (query, key, values))).view_as(values)
    else:
        context = windowed(query, key, values, window)
    return (values + context).permute(0, 3, 1, 2)


def windowed(query: Tensor, key: Tensor, values: Tensor, window: int) -> Tensor:
    """Self-attention within overlapping square windows, blended.

    Windows of `window` positions start at every multiple of half their side in both directions, the last ones
    where they reach the end of the map, and end with the map. Up to four cover a position; their results are
    blended with `hat_weights`.

    Args:
        query, key: (B, H, W, C/2), contiguous along the channels, scaled.
        values: (B, H, W, C).

    Returns:
        (B, H, W, C), new.
    """
    height, width = values.shape[1:3]
    down, across = (hat_weights(side, window).to(values) for side in (height, width))  # (2, H), (2, W)
    blended = torch.zeros_like(values)
    for rows in window_groups(height, window):
        for columns in window_groups(width, window):
            area = (slice(None), rows.extent, columns.extent)
            counts = (-1, rows.count, columns.count, rows.length, columns.length, values.shape[-1])

            q, k, v = (windows_of(m[area], rows, columns) for m in (query, key, values))
            context = attention(q, k, v).view(counts).transpose(2, 3)  # (B, rows, length, columns, length, C)
            weights = down[rows.parity, rows.extent, None, None] * across[columns.parity, None, columns.extent, None]
            blended[area].addcmul_(context.flatten(3, 4).flatten(1, 2), weights)
    return blended


class Group(NamedTuple):
    """Windows along one side of the map: `count` of `length` positions, one after the other from `start`.

    `parity` is 0 for windows that start at even multiples of half the window, 1 for the others.
    """

    parity: int
    start: int
    count: int
    length: int

    @property
    def extent(self) -> slice:
        return slice(self.start, self.start + self.count * self.length)


def windows_of(x: Tensor, rows: Group, columns: Group) -> Tensor:
    """The extent of both groups, (B, H, W, C) -> (B * windows, positions of a window, C)."""
    x = x.unflatten(2, (columns.count, columns.length)).unflatten(1, (rows.count, rows.length))
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def window_groups(side: int, window: int) -> list[Group]:
    """All windows along one side of the map, in groups that do not overlap.

    Example:
        >>> [tuple(group) for group in window_groups(15, 4)]  # windows start at 0, 2, 4, ..., 12; the last one is cut
        [(0, 0, 3, 4), (0, 12, 1, 3), (1, 2, 3, 4)]
    """
    half = window // 2
    last = max(0, -(-(side - window) // half))  # the first window that reaches the end
    groups = []
    for parity in (0, 1):
        starts = range(parity * half, last * half + 1, window)
        whole = sum(start + window <= side for start in starts)
        if whole:
            groups.append(Group(parity, starts[0], whole, window))
        groups += [Group(parity, start, 1, side - start) for start in starts[whole:]]
    return groups


def hat_weights(side: int, window: int) -> Tensor:
    """How much the windows of either parity count at each position of one side, (2, side) float32; columns sum to 1.

    Linear between the middles of neighbouring windows; the first and the last window count alone beyond their middles.

    Example:
        >>> hat_weights(8, 4).tolist()
        [[1.0, 1.0, 0.75, 0.25, 0.25, 0.75, 1.0, 1.0], [0.0, 0.0, 0.25, 0.75, 0.75, 0.25, 0.0, 0.0]]
    """
    half = window // 2
    last = max(0, -(-(side - window) // half))
    place = ((torch.arange(side) + 0.5) / half - 1).clamp(0, last)  # the middle of window k is at place k
    odd = 1 - (place % 2 - 1).abs()
    return torch.stack([1 - odd, odd])


def attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """softmax(query key^T) values; (N, L, C/2) twice, scaled, and (N, L, C) -> (N, L, C)."""
    if not values.is_cpu:
        return fused_attention(query, key, values)
    # On a CPU two products of matrices are faster than the fused kernel.
    length = values.shape[1]
    context = torch.empty_like(values, memory_format=torch.contiguous_format)
    together, rows = SCORE_VALUES // length**2, max(1, SCORE_VALUES // length)
    if together:  # many small windows
        for q, k, v, out in zip(*(m.split(together) for m in (query, key, values, context)), strict=True):
            torch.matmul(torch.softmax(q @ k.transpose(1, 2), dim=-1), v, out=out)
        return context
    for q, k, v, out in zip(query, key, values, context, strict=True):
        k, v = k.contiguous(), v.T.contiguous()
        for some, result in zip(q.split(rows), out.split(rows), strict=True):
            result.copy_(product(torch.softmax(product(some, k), dim=-1), v))
    return context


def fused_attention(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """`attention` in PyTorch's fused kernels, which want queries and keys as wide as values: zeros change no product."""
    wider = (0, values.shape[-1] - query.shape[-1])
    query, key = F.pad(query, wider).unsqueeze(1), F.pad(key, wider).unsqueeze(1)
    return F.scaled_dot_product_attention(query, key, values.unsqueeze(1), scale=1.0).squeeze(1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T; (N, K) and (M, K) -> (N, M).

    float32 goes through a 1x1 convolution: oneDNN's is twice as fast as MKL's product on processors not by Intel.
    """
    if a.dtype != torch.float32:
        return F.linear(a, b)
    images = 16 if len(a) % 16 == 0 else 1  # on one thread PyTorch leaves 1x1 convolutions to oneDNN from 16 images on
    a = a.reshape(images, -1, 1, a.shape[1]).permute(0, 3, 1, 2)  # (16, K, N / 16, 1)
    return F.conv2d(a, b[:, :, None, None]).permute(0, 2, 3, 1).reshape(-1, len(b))


def scaled_query_key(attention: SelfAttention) -> nn.Conv2d:
    """The convolution of a `SelfAttention` with the scale of the products in its queries."""
    conv, width = attention.query_key, attention.query_key.out_channels // 2
    with torch.no_grad():
        conv.weight[:width] *= width**-0.5
        conv.bias[:width] *= width**-0.5
    return conv


def joined(convs: list[nn.Conv2d]) -> nn.Conv2d:
    """One 1x1 convolution with the outputs of all, one after the other."""
    both = copy.deepcopy(convs[0])
    both.out_channels = sum(conv.out_channels for conv in convs)
    both.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]).detach())
    both.bias = nn.Parameter(torch.cat([conv.bias for conv in convs]).detach())
    return both

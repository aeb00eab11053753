"""`FastNet`: a trained `HeterogeneousUNet` rebuilt for fast inference, with the same results."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wmremoval.model import (
    STRIDE,
    DecoderStage,
    DoubleConv,
    HeterogeneousUNet,
    Parts,
    SelfAttention,
    invert,
    pad_to_multiple,
)
from wmremoval.restore.attention import attended

SLOPE = 0.01  # negative slope of every LeakyReLU, as in `model`
# The speed of the whole network was measured (outputs/measurements/removal_speed.json), these two values were not.
# Bytes; largest map of a strip on a CPU. Blocks of memory above 32 MB are returned to the system after each use.
STRIP_BYTES = 12 * 2**20
LEAST_ROWS = 64  # rows of a strip at least, for photographs of any width: every strip computes up to 8 rows more


class FastNet(nn.Module):
    """The inference form of a `HeterogeneousUNet`: BatchNorm folded into the convolutions, channels-last, in strips.

    The maps of the encoder and the decoder are computed in horizontal strips, which stay in the processor's caches.
    Each strip includes the neighbouring rows that its convolutions need. This saves time and memory, and the results
    stay the same. They are inference tensors of float32. The given network is not changed. Autocast has no effect.

    Args:
        net: a trained network in any mode; its weights are copied, and its device is kept.
        window: side of overlapping square windows of attention, an even number of positions of the bottleneck (8 pixels
            each); see `windowed`. None: global self-attention, as in training.
        attention: False: without self-attention.
        dtype: of weights and maps; bfloat16 halves the memory, and is faster on processors with bfloat16 instructions.

    Raises:
        ValueError: `window` is odd or below 2.
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
        self.requires_grad_(False).to(dtype=dtype).to(memory_format=torch.channels_last)

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
            the parts as `HeterogeneousUNet.parts` returns them, within rounding: (B, C, H, W) float32.
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
        """From (B, 3, H, W), sides divisible by 8, to the logits of mask and heads, (B, 1 + heads, H, W) float32."""
        x, skips = x.contiguous(memory_format=torch.channels_last), []
        for pair in self.encoder:
            skip, x = encoded(cast(FoldedPair, pair), x)
            skips.append(skip)
        x = self.bottleneck(x, Strip(0, x.shape[-2], x.shape[-2]))  # (B, 256, H/8, W/8)
        if self.query_key is not None:
            x = attended(x, self.query_key(x), self.window)
        for stage in self.decoder[:2]:
            skip = skips.pop()
            y = torch.empty_like(skip)
            for rows, _, features in cast(FastStage, stage).strips(x, skip):
                y[:, :, rows] = features
            x = y
        skip = skips.pop()
        maps = x.new_empty(len(x), 1 + self.heads.out_channels, *skip.shape[-2:], dtype=torch.float32)
        for rows, logits, features in cast(FastStage, self.decoder[2]).strips(x, skip):
            maps[:, :1, rows] = logits
            maps[:, 1:, rows] = self.heads(features)
        return maps


class Strip(NamedTuple):
    """Rows `top` to `bottom` (excluded) of a map of `height` rows; both are even."""

    top: int
    bottom: int
    height: int

    def around(self, halo: int) -> slice:
        """The rows of the strip and up to `halo` more on either side, cropped to the map."""
        return slice(max(0, self.top - halo), min(self.height, self.bottom + halo))


class FoldedPair(nn.Module):
    """A `DoubleConv` with its BatchNorms folded in, for one strip at a time."""

    def __init__(self, block: DoubleConv):
        super().__init__()
        layers: Any = block.layers  # convolution, BatchNorm and activation, twice
        first, first_norm, _, second, second_norm, _ = layers
        self.first: nn.Conv2d = fuse_conv_bn_eval(first, first_norm)
        self.second: nn.Conv2d = fuse_conv_bn_eval(second, second_norm)

    def forward(self, x: Tensor, strip: Strip) -> Tensor:
        """From rows `strip.around(2)` of the input, (B, in, rows, W), to the strip of the output, (B, out, rows, W)."""
        x = trimmed(F.relu_(self.first(x)), strip, 2, 1)
        return F.leaky_relu_(trimmed(self.second(x), strip, 1, 0), SLOPE)


class FastStage(nn.Module):
    """A `DecoderStage` that computes its maps strip by strip."""

    def __init__(self, stage: DecoderStage):
        super().__init__()
        hidden, _, logits = stage.gate.logits
        self.up, self.hidden, self.logits, self.conv = stage.up, hidden, logits, FoldedPair(stage.conv)

    def strips(self, x: Tensor, skip: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """From (B, in, H/2, W/2) and skip (B, out, H, W) to the strips of the output.

        Yields:
            the rows of a strip, gate logits (B, 1, rows, W) and features (B, out, rows, W).
        """
        width = skip.shape[1]
        for strip in strips_of(skip, 2 * width):
            rows = strip.around(4)  # three are needed, but a row of `x` gives two rows
            both = empty_map(skip, 2 * width, rows.stop - rows.start, skip.shape[-1])
            torch.clamp_min(self.up(x[:, :, rows.start // 2 : rows.stop // 2]), 0, out=both[:, :width])
            both[:, width:] = skip[:, :, rows]
            both = trimmed(both, strip, 4, 3)
            logits = self.logits(F.leaky_relu_(trimmed(self.hidden(both), strip, 3, 2), SLOPE))
            features = self.conv(trimmed(both, strip, 3, 2).mul_(torch.sigmoid(logits)), strip)
            yield strip.around(0), trimmed(logits, strip, 2, 0), features


def encoded(pair: FoldedPair, x: Tensor) -> tuple[Tensor, Tensor]:
    """From (B, in, H, W) to the features of an encoder block, (B, out, H, W), and their 2 x 2 maxima."""
    height, width = x.shape[-2:]
    channels = pair.second.out_channels
    features, pooled = empty_map(x, channels, height, width), empty_map(x, channels, height // 2, width // 2)
    for strip in strips_of(x, channels):
        y = pair(x[:, :, strip.around(2)], strip)
        features[:, :, strip.around(0)] = y
        pooled[:, :, strip.top // 2 : strip.bottom // 2] = F.max_pool2d(y, 2)
    return features, pooled


def trimmed(x: Tensor, strip: Strip, halo: int, wanted: int) -> Tensor:
    """The rows `strip.around(wanted)` of a map with the rows `strip.around(halo)`; a view."""
    held, rows = strip.around(halo), strip.around(wanted)
    return x[:, :, rows.start - held.start : rows.stop - held.start]


def empty_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """An empty tensor (B, channels, height, width), channels-last, with the batch size, type and device of `like`."""
    size = (len(like), channels, height, width)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def strips_of(x: Tensor, channels: int) -> Iterator[Strip]:
    """Divide the rows of `x`, (B, C, H, W) with even H, into strips.

    On a CPU a strip's map of `channels` channels takes about `STRIP_BYTES`. On any other device there is one strip.
    """
    batch, _, height, width = x.shape
    most = max(LEAST_ROWS, STRIP_BYTES // (batch * width * channels * x.element_size())) if x.is_cpu else height
    count = -(-height // most)
    rows = 2 * -(-height // (2 * count))
    for top in range(0, height, rows):
        yield Strip(top, min(top + rows, height), height)


def scaled_query_key(attention: SelfAttention) -> nn.Conv2d:
    """The convolution of a `SelfAttention`; the scale of the dot products is multiplied into its queries, in place."""
    conv, width = attention.query_key, attention.query_key.out_channels // 2
    with torch.no_grad():
        conv.weight[:width] *= width**-0.5
        conv.get_parameter("bias")[:width] *= width**-0.5
    return conv


def joined(convs: list[nn.Conv2d]) -> nn.Conv2d:
    """One 1x1 convolution with the outputs of all given ones, in their order."""
    both = copy.deepcopy(convs[0])
    both.out_channels = sum(conv.out_channels for conv in convs)
    both.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]).detach())
    both.bias = nn.Parameter(torch.cat([conv.get_parameter("bias") for conv in convs]).detach())
    return both

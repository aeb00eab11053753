"""`HeterogeneousUNet` and its blocks: the network that restores watermarked photographs."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODER_WIDTHS = (48, 96, 144)  # channels at full, half and quarter resolution
BOTTLENECK_WIDTH = 256  # channels at an eighth of the resolution
MASK_PRIOR = 0.06  # initial mask probability, near the mean mask area of test samples, 0.08 (outputs/test_results.json)
STRIDE = 8  # pixels; inputs are padded to a multiple of it, because of three poolings
MARK_PRIOR = (-2.5, 1.0, 1.0, 1.0, -1.0)  # initial logits of alpha, W (3 channels) and trust; chosen, not measured
# Largest alpha of the inversion: above it, 1 / (1 - alpha) makes the rounding of grey levels visible. Not measured.
ALPHA_MOST = 0.95


class Parts(NamedTuple):
    """All predictions of the network for a photograph; (B, C, H, W) float32.

    Alpha, colour and trust are None without `decompose`; the gates are None unless requested.
    """

    image: Tensor  # 3 channels, RGB in [0, 1]: the restored photograph
    mask_logits: Tensor  # 1 channel: logits of the watermark mask
    fill: Tensor  # 3 channels, RGB in [0, 1]: the inpainted photograph
    alpha: Tensor | None = None  # 1 channel in (0, 1): opacity of the mark
    colour: Tensor | None = None  # 3 channels, RGB in [0, 1]: W, colour of the mark
    # 1 channel in (0, 1): the share of the fill; the rest is the inversion of the blending.
    trust: Tensor | None = None
    # Logits of the two coarser gates, (B, 1, H/4, W/4) and (B, 1, H/2, W/2); H and W padded to multiples of `STRIDE`.
    gates: tuple[Tensor, Tensor] | None = None


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with BatchNorm; ReLU after the first, LeakyReLU after the second (the heterogeneity)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (B, in, H, W) -> (B, out, H, W)


class SelfAttention(nn.Module):
    """Global dot-product attention, added to its input.

    One 3x3 convolution gives queries and keys, half of the channels each. The values are the features themselves,
    without a projection. Scaled dot products as in Vaswani et al. 2017, equation 1.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query_key = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k = self.query_key(x).flatten(2).transpose(1, 2).chunk(2, dim=-1)  # 2 x (B, HW, C/2)
        # The fused CPU kernel needs queries, keys and values of one width; padding by zeros keeps the products.
        q, k = F.pad(q, (0, c - c // 2)), F.pad(k, (0, c - c // 2))  # (B, HW, C)
        v = x.flatten(2).transpose(1, 2)  # (B, HW, C)
        context = F.scaled_dot_product_attention(
            q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), scale=(c // 2) ** -0.5
        ).squeeze(1)  # (B, HW, C)
        return x + context.transpose(1, 2).reshape(b, c, h, w)


class AttentionGate(nn.Module):
    """A map in (0, 1), computed from the features and multiplied with them.

    Returns the gated features and the logits of the map. The finest gate of the network is also its watermark
    mask. After Oktay et al. 2018 (arXiv 1804.03999), with concatenation instead of their sum.
    """

    def __init__(self, in_channels: int, hidden: int):
        super().__init__()
        self.logits = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, padding=1), nn.LeakyReLU(0.01, inplace=True), nn.Conv2d(hidden, 1, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(x)  # (B, 1, H, W)
        return x * torch.sigmoid(logits), logits


class DecoderStage(nn.Module):
    """Transpose convolution, skip concatenation, attention gate, `DoubleConv`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.gate = AttentionGate(2 * out_channels, out_channels)
        self.conv = DoubleConv(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([F.relu(self.up(x)), skip], dim=1)  # (B, 2 * out, 2H, 2W)
        x, logits = self.gate(x)
        return self.conv(x), logits


class HeterogeneousUNet(nn.Module):
    """U-Net with mixed activations, attention gates and a self-attention bottleneck; 3,647,878 parameters.

    Args:
        composite: if True, the finest attention gate `m` is the watermark mask and the output is
            `m * prediction + (1 - m) * input`, so that pixels outside the mask stay unchanged (SLBR,
            arXiv 2108.03581, section 3). If False, the output is the prediction itself, as in the
            document. Both forms have the same parameters.
        decompose: if True, a second 1x1 convolution (245 parameters) predicts alpha, colour W and trust, and the
            blending is inverted; see `invert`. Needs `composite`.

    Raises:
        ValueError: `decompose` without `composite`.
    """

    def __init__(self, composite: bool = True, decompose: bool = False):
        super().__init__()
        if decompose and not composite:
            raise ValueError("decompose needs composite: without a mask there is nothing to invert in")
        self.composite, self.decompose = composite, decompose
        w1, w2, w3 = ENCODER_WIDTHS
        self.enc1, self.enc2, self.enc3 = DoubleConv(3, w1), DoubleConv(w1, w2), DoubleConv(w2, w3)
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(w3, BOTTLENECK_WIDTH)
        self.attention = SelfAttention(BOTTLENECK_WIDTH)
        self.dec1, self.dec2, self.dec3 = (
            DecoderStage(BOTTLENECK_WIDTH, w3),
            DecoderStage(w3, w2),
            DecoderStage(w2, w1),
        )
        self.out = nn.Conv2d(w1, 3, 1)
        if composite:
            # The first outputs are near the input (prior of Lin et al. 2017, arXiv 1708.02002, section 3.3).
            nn.init.constant_(self.dec3.gate.logits[-1].get_parameter("bias"), math.log(MASK_PRIOR / (1 - MASK_PRIOR)))
        if decompose:
            self.mark = nn.Conv2d(w1, 5, 1)  # logits of alpha, W (3) and trust
            with torch.no_grad():  # a faint light mark, inverted rather than filled: first outputs are near the input
                self.mark.get_parameter("bias").copy_(torch.tensor(MARK_PRIOR))

    def forward(self, watermarked: Tensor) -> tuple[Tensor, Tensor]:
        """Restore photographs of any height and width.

        Args:
            watermarked: (B, 3, H, W), RGB in [0, 1].

        Returns:
            the restored image, (B, 3, H, W), RGB in [0, 1], and the logits of the watermark mask, (B, 1, H, W);
            both float32, also under autocast.
        """
        parts = self.parts(watermarked)
        return parts.image, parts.mask_logits

    def parts(self, watermarked: Tensor, gates: bool = False) -> Parts:
        """Restore like `forward`, and return all predictions.

        Args:
            watermarked: (B, 3, H, W), RGB in [0, 1].
            gates: True also returns the logits of the two coarser gates.
        """
        height, width = watermarked.shape[-2:]
        x = pad_to_multiple(watermarked, STRIDE)
        skip1 = self.enc1(x)  # (B, 48, H, W)
        skip2 = self.enc2(self.pool(skip1))  # (B, 96, H/2, W/2)
        skip3 = self.enc3(self.pool(skip2))  # (B, 144, H/4, W/4)
        x = self.attention(self.bottleneck(self.pool(skip3)))  # (B, 256, H/8, W/8)
        x, quarter = self.dec1(x, skip3)  # (B, 144, H/4, W/4), (B, 1, H/4, W/4)
        x, half = self.dec2(x, skip2)  # (B, 96, H/2, W/2), (B, 1, H/2, W/2)
        x, mask_logits = self.dec3(x, skip1)  # (B, 48, H, W), (B, 1, H, W)
        # From here on float32: bfloat16 does not resolve half a grey level.
        maps = [self.out(x), *([self.mark(x)] if self.decompose else [])]
        mask_logits, *maps = (y[..., :height, :width].float() for y in (mask_logits, *maps))
        coarse = (quarter.float(), half.float()) if gates else None
        fill = torch.sigmoid(maps[0])  # (B, 3, H, W)
        if not self.composite:
            return Parts(fill, mask_logits, fill, gates=coarse)
        watermarked, gate = watermarked.float(), torch.sigmoid(mask_logits)
        if not self.decompose:
            return Parts(torch.lerp(watermarked, fill, gate), mask_logits, fill, gates=coarse)
        alpha, colour, trust = torch.sigmoid(maps[1]).split((1, 3, 1), dim=1)
        inside = torch.lerp(invert(watermarked, alpha, colour), fill, trust)
        return Parts(torch.lerp(watermarked, inside, gate), mask_logits, fill, alpha, colour, trust, coarse)


def invert(watermarked: Tensor, alpha: Tensor, colour: Tensor) -> Tensor:
    """Solve the blending J = (1 - alpha) I + alpha W for the photograph I.

    As in WDNet (Liu et al., WACV 2021).

    Args:
        watermarked: J, RGB in [0, 1].
        alpha: opacity in [0, 1], of a shape that broadcasts; values above `ALPHA_MOST` are replaced by it.
        colour: W, RGB in [0, 1], of a shape that broadcasts.

    Returns:
        I, clipped to [0, 1].

    Example:
        >>> clean, alpha, colour = torch.tensor(0.2), torch.tensor(0.5), torch.tensor(1.0)
        >>> round(invert((1 - alpha) * clean + alpha * colour, alpha, colour).item(), 4)
        0.2
    """
    alpha = alpha.clamp(max=ALPHA_MOST)
    return ((watermarked - alpha * colour) / (1 - alpha)).clamp(0, 1)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) at the bottom and right to sides that are multiples of `multiple`.

    The padding mirrors the image; if a side is too short for that, it repeats the border.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def count_parameters(*modules: nn.Module) -> tuple[int, int]:
    """Total and trainable number of parameters of all modules together."""
    parameters = [p for module in modules for p in module.parameters()]
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)

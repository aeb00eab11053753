"""Diagrams drawn from the modules themselves: the network's architecture and the terms of the loss."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from wmremoval.model import HeterogeneousUNet
from wmremoval.report.style import BLUE, GREEN, GREY, ORANGE, SMALL, TERM_NAMES, TITLE, new_figure

SIZES = ("H × W", "H/2 × W/2", "H/4 × W/4", "H/8 × W/8")  # sizes of the maps, by level
# Formulas of the loss terms: prediction P, target T, mask M.
FORMULAS = {
    "masked_l1": "Σ M |P − T| / Σ M",
    "perceptual": "L1 of VGG16 features of P and T",
    "lab": "0.7 L1 of L + 0.3 L1 of a, b",
    "ssim": "1 − SSIM(P, T)",
    "laplacian": "L1 of edges inside M",
    "mask_bce": "cross-entropy of logits and M",
}
Point = tuple[float, float]  # x and y of the canvas
# Fill colours of boxes by the colour of their border.
PALE = {BLUE: "#DCEBF5", ORANGE: "#FBE3D3", GREEN: "#D6EFE6", GREY: "#EDEDED"}


def architecture(net: HeterogeneousUNet) -> Figure:
    """The architecture of the network; channels and parameter counts are read from its modules."""
    total = sum(p.numel() for p in net.parameters())
    figure, axes = _canvas(12.0, 10.0, f"{type(net).__name__}: {total:,} parameters")
    levels = (72, 47, 22)  # heights of full, half and quarter resolution
    first = _convs(net.enc1)[0]
    _box(axes, 18, 93, 34, 7, "input · H × W", f"{first.in_channels} channels, RGB in [0, 1]", GREY)
    _arrow(axes, (18, 89.5), (18, levels[0] + 5))
    for i, y in enumerate(levels):
        _encoder(axes, net, i, y)
        _decoder(axes, net, i, y)
        _arrow(
            axes,
            (35, y - 1),
            (57, y - 1),
            f"skip,\n{_convs(net.get_submodule(f'enc{i + 1}'))[1].out_channels} channels",
            ORANGE,
        )
        below = levels[i + 1] + 5 if i < 2 else 7.5
        _arrow(axes, (18, y - 5), (18, below), "max pool 2")
        if i < 2:
            _arrow(axes, (77, levels[i + 1] + 10), (77, y - 10))
    a, b = _convs(net.bottleneck)
    q = net.attention.query_key
    _box(axes, 18, 4, 34, 7, f"bottleneck · {SIZES[3]} · {_count(net.bottleneck)}", _route(a, b), BLUE)
    text = f"queries and keys {_route(q)}; added to its input"
    _box(axes, 77, 4, 45, 7, f"self-attention · {SIZES[3]} · {_count(net.attention)}", text, ORANGE)
    _arrow(axes, (35, 4), (54.5, 4), f"{b.out_channels} channels")
    _arrow(axes, (77, 7.5), (77, levels[2] - 10))
    _output(axes, net, levels[0])
    return figure


def _encoder(axes: Axes, net: nn.Module, i: int, y: float) -> None:
    block = net.get_submodule(f"enc{i + 1}")
    a, b = _convs(block)
    text = f"{_route(a)}, BatchNorm, ReLU\n{_route(b)}, BatchNorm, LeakyReLU"
    _box(axes, 18, y, 34, 10, f"enc{i + 1} · {SIZES[i]} · {_count(block)}", text, BLUE)


def _decoder(axes: Axes, net: HeterogeneousUNet, i: int, y: float) -> None:
    """Draw stage dec(3 - i) beside encoder i + 1; from bottom to top: transpose convolution, gate, convolutions."""
    stage = (net.dec3, net.dec2, net.dec1)[i]
    gate, convs = _convs(stage.gate), _convs(stage.conv)
    _box(axes, 77, y, 45, 20, f"dec{3 - i} · {SIZES[i]} · {_count(stage)}", "", GREY)
    _box(axes, 77, y + 4.4, 40, 4.2, "", f"{_route(*convs)}, BatchNorm, (Leaky)ReLU", GREEN)
    _box(axes, 77, y - 1, 40, 4.8, "", f"concatenate, × gate {3 - i}: sigmoid of {_route(*gate)}", ORANGE)
    _box(axes, 77, y - 6.6, 40, 4.2, "", f"transpose {_route(stage.up)}, ReLU", GREEN)


def _output(axes: Axes, net: HeterogeneousUNet, top: float) -> None:
    text = f"sigmoid of {_route(net.out)}"
    if net.composite:
        text += "; composite:\nm · prediction + (1 − m) · input, m = gate 3"
        _arrow(axes, (35, 93), (54.5, 93), "input")
    _box(axes, 77, 93, 45, 9, f"out · {SIZES[0]} · {_count(net.out)}", text, BLUE)
    _arrow(axes, (77, top + 10), (77, 88.5))


def _convs(block: nn.Module) -> list[nn.Conv2d]:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d)]


def _route(*convs: nn.Conv2d | nn.ConvTranspose2d) -> str:
    """Kernel size and channels of consecutive convolutions, for example 3×3 conv 3→48→48."""
    channels = "→".join(str(n) for n in (convs[0].in_channels, *(conv.out_channels for conv in convs)))
    sizes = dict.fromkeys("×".join(map(str, conv.kernel_size)) for conv in convs)
    return f"{', '.join(sizes)} conv {channels}"


def _count(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,} parameters"


def loss_diagram(weights: dict[str, float]) -> Figure:
    """The terms of the loss with their inputs and weights.

    Args:
        weights: weight of each term by name, as in `ColorAwareLoss.weights`; terms of weight 0 are left out.
    """
    weights = {key: weight for key, weight in weights.items() if weight}
    figure, axes = _canvas(11.0, 1.2 + 0.95 * max(len(weights), 3), f"Loss: weighted sum of {len(weights)} terms")
    inputs = {"P": ("prediction P", BLUE), "T": ("target T", GREEN), "M": ("mask M\n(1 = watermark)", ORANGE)}
    if "mask_bce" in weights:
        inputs["L"] = ("mask logits\n(gate 3)", GREY)
    uses = {"masked_l1": "PTM", "laplacian": "PTM", "mask_bce": "ML"}
    heights = dict(zip(inputs, np.linspace(83, 15, len(inputs)), strict=True))
    for key, (text, colour) in inputs.items():
        _box(axes, 9, heights[key], 17, 14, "", text, colour)
    for (name, weight), y in zip(weights.items(), np.linspace(91, 7, len(weights)), strict=True):
        for key, step in zip(uses.get(name, "PT"), (3, 0, -3), strict=False):
            _arrow(axes, (17.5, heights[key]), (36, y + step), colour=inputs[key][1])
        _box(axes, 51, y, 30, 12, TERM_NAMES.get(name, name), FORMULAS.get(name, ""), GREY)
        _arrow(axes, (66, y), (84, y), f"× {weight:g}", width=1 + 3 * weight / max(weights.values()))
    _box(axes, 92, 49, 16, 96, "", "total loss", ORANGE)
    return figure


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure(1, 1, width, height)
    axes.set(xlim=(0, 100.5), ylim=(0, 99))
    axes.set_axis_off()
    axes.set_title(title, fontsize=TITLE + 2)
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, head: str, text: str, colour: str) -> None:
    """Draw a rounded box centred on (x, y), with a bold heading at its top."""
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=1", "facecolor": PALE[colour], "edgecolor": colour}
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    top = y + height / 2
    if head:
        axes.annotate(
            head, (x, top), (0, -5), textcoords="offset points", ha="center", va="top", fontsize=SMALL, weight="bold"
        )
    below = -6 if head else 0  # points, half a line
    axes.annotate(text, (x, y), (0, below), textcoords="offset points", ha="center", va="center", fontsize=SMALL)


def _arrow(axes: Axes, start: Point, end: Point, text: str = "", colour: str = GREY, width: float = 1.4) -> None:
    """Draw an arrow with its label in the middle."""
    axes.annotate(
        "",
        end,
        start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0},
    )
    if text:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, bbox=box)

"""Pictures of the network from inside: its plan and its loss, activations, attention gates, kernels and gradients.

An image is (1, 3, H, W) RGB float32 in [0, 1]. The network is left as it was found: modes, gradients,
BatchNorm statistics and hooks.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from .plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    TERM_NAMES,
    TEXT,
    TITLE,
    _figure,
    _heat_panel,
    _image_grid,
    _image_panel,
    _limits,
    _outline,
)

LAYERS = ("enc1", "enc2", "enc3", "bottleneck", "dec1", "dec2", "dec3")
GATES = ("gate1", "gate2", "gate3")
BLOCKS = ("enc1", "enc2", "enc3", "bottleneck", "attention", "dec1", "dec2", "dec3", "out")
SIZES = ("H × W", "H/2 × W/2", "H/4 × W/4", "H/8 × W/8")
FORMULAS = {
    "masked_l1": "Σ M |P − T| / Σ M",
    "perceptual": "L1 of VGG16 features of P and T",
    "lab": "0.7 L1 of L + 0.3 L1 of a, b",
    "ssim": "1 − SSIM(P, T)",
    "laplacian": "L1 of edges inside M",
    "mask_bce": "cross-entropy of logits and M",
}
PALE = {BLUE: "#DCEBF5", ORANGE: "#FBE3D3", GREEN: "#D6EFE6", GREY: "#EDEDED"}


def activations(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Outputs of the seven stages and the three gate maps for one forward pass in eval mode.

    Returns:
        enc1 .. dec3, (1, C, h, w), and gate1 .. gate3, (1, 1, h, w) in (0, 1), gate3 the finest; on the
        CPU in float32. Sides are those of the image padded to a multiple of 8, divided by 1, 2, 4 or 8.
    """
    found = {}

    def keep(name: str):
        def hook(module, inputs, output):
            features, logits = output if isinstance(output, tuple) else (output, None)
            found[name] = features.float().cpu()
            if logits is not None:
                found[f"gate{name[-1]}"] = torch.sigmoid(logits.float()).cpu()

        return hook

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in LAYERS]
    try:
        with _evaluating(net), torch.no_grad():
            net(image.to(next(net.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode  # module by module: part of the network may have been frozen


def _at_image_size(maps: dict[str, Tensor], name: str, image: Tensor, mode: str) -> np.ndarray:
    """A (1, 1, h, w) map resized to the padded image and cropped to the image, (H, W)."""
    height, width = image.shape[-2:]
    return F.interpolate(maps[name], size=maps["enc1"].shape[-2:], mode=mode)[0, 0, :height, :width].numpy()


def _strength(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean |activation| over the channels, (1, C, h, w) to (1, 1, h, w)."""
    return {name: features.abs().mean(1, keepdim=True) for name, features in maps.items()}


def watermark_attention(net: nn.Module, image: Tensor, mask: Tensor | None = None) -> Figure:
    """The photograph and each attention gate over it, on its own scale; with a (1, 1, H, W) mask also its outline."""
    maps = activations(net, image)
    figure, panels = _image_grid(2, 2, image[0], 4.0, bars=2)
    _image_panel(panels[0], image[0], "photograph" if mask is None else "photograph, outline of the true mask")
    inside = None if mask is None else mask[0, 0].cpu().numpy() > 0.5
    for axes, name in zip(panels[1:], GATES, strict=True):
        gate = _at_image_size(maps, name, image, "bilinear")
        values = f"mean {gate.mean():.3f}"
        if inside is not None and 0 < inside.mean() < 1:
            values = f"inside {gate[inside].mean():.3f}, outside {gate[~inside].mean():.3f}"
        _grey_photograph(axes, image)
        _heat_panel(axes, gate, f"gate {name[-1]} ({_size(maps[name])}): {values}", opacity=0.65, label="gate, 0 to 1")
    for axes in panels if mask is not None else ():
        _outline(axes, mask[0])
    return figure


def multi_layer_activation(net: nn.Module, image: Tensor) -> Figure:
    """Mean |activation| over the channels of each of the seven stages, each on its own percentile scale."""
    maps = activations(net, image)
    strengths = _strength(maps)
    figure, panels = _image_grid(2, 4, image[0], 3.0, bars=4)
    _image_panel(panels[0], image[0], "photograph")
    for axes, name in zip(panels[1:], LAYERS, strict=True):
        title = f"{name}: {maps[name].shape[1]} channels, {_size(maps[name])}"
        _heat_panel(axes, _at_image_size(strengths, name, image, "nearest"), title, label="mean |activation|")
    return figure


def decoder_focus(net: nn.Module, image: Tensor) -> Figure:
    """The photograph, and the mean |activation| of dec3 with its 1st and 99th percentiles as 0 and 1."""
    maps = activations(net, image)
    strength = _at_image_size(_strength(maps), "dec3", image, "nearest")
    low, high = _limits(strength)
    figure, panels = _image_grid(1, 2, image[0], 4.4, bars=1)
    _image_panel(panels[0], image[0], "photograph")
    scaled = np.clip((strength - low) / (high - low), 0, 1)
    title = f"dec3: {maps['dec3'].shape[1]} channels, mean |activation| {strength.mean():.3g}"
    _heat_panel(panels[1], scaled, title, (0, 1), label="scaled 0 to 1")
    return figure


def kernels(net: nn.Module, count: int = 24) -> Figure:
    """Kernels of the first convolution as RGB tiles, each on its own range, and the spread of every layer's weights."""
    first = net.enc1.layers[0].weight.detach().float().cpu()  # (48, 3, 3, 3)
    figure, (tiles, bars) = _figure(1, 2, 11.0, 6.4)
    count = min(count, len(first))
    title = f"{count} of the {len(first)} kernels of enc1's first convolution,\nRGB, each on its own range"
    _image_panel(tiles, _mosaic(first[:count]), title)
    tiles.spines[:].set_visible(False)
    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    names = [
        f"{n.replace('.layers', '').replace('.logits', '')} {'×'.join(map(str, m.weight.shape))}"
        for n, m in layers.items()
    ]
    spread = [m.weight.detach().float().std().item() for m in layers.values()]
    bars.barh(names, spread, color=[ORANGE if "gate" in name else BLUE for name in names])
    bars.invert_yaxis()
    bars.margins(y=0.01)
    bars.tick_params(labelsize=SMALL)
    bars.set_xlabel("standard deviation", fontsize=TEXT)
    bars.set_title(f"Weights of the {len(names)} convolutions (orange: attention gates)", fontsize=TEXT)
    return figure


def _mosaic(weights: Tensor) -> Tensor:
    """(N, 3, h, w) kernels as one white-gapped image, (3, rows (h + 1) - 1, columns (w + 1) - 1) in [0, 1]."""
    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    n, c, h, w = weights.shape
    columns = max(round((0.7 * n) ** 0.5), 1)  # a little higher than wide, as the panel is
    rows = -(-n // columns)
    cells = torch.ones(rows * columns, c, h + 1, w + 1)
    cells[:n, :, :h, :w] = (weights - low) / (high - low).clamp_min(1e-12)
    grid = cells.view(rows, columns, c, h + 1, w + 1).permute(2, 0, 3, 1, 4)  # (3, rows, h + 1, columns, w + 1)
    return grid.reshape(c, rows * (h + 1), columns * (w + 1))[:, :-1, :-1]


def gradients(net: nn.Module, image: Tensor, target: Tensor) -> Figure:
    """|d loss / d input| over the photograph and the gradient norm of each block, for the L1 loss to `target`."""
    twin = copy.deepcopy(net).eval().requires_grad_(True)
    device = next(twin.parameters()).device
    with torch.enable_grad():
        leaf = image.detach().clone().to(device).requires_grad_(True)
        loss = F.l1_loss(twin(leaf)[0], target.to(device))
        loss.backward()
    saliency = leaf.grad.abs().mean(1)[0].cpu().numpy()  # (H, W)
    norms = [torch.cat([p.grad.flatten() for p in twin.get_submodule(b).parameters()]).norm().item() for b in BLOCKS]
    figure, (left, right) = _figure(1, 2, 11.0, 4.8)
    _grey_photograph(left, image)
    title = "where a change of the input would change the loss"
    _heat_panel(left, saliency, title, opacity=0.75, label="|d loss / d input|")
    bars = right.bar(BLOCKS, norms, color=BLUE)
    right.bar_label(bars, [f"{norm:.1e}" for norm in norms], fontsize=SMALL - 1)
    if any(norms):
        right.set_yscale("log")
        right.set_ylim(min(norm for norm in norms if norm) / 3, max(norms) * 3)
    right.set_xticks(range(len(BLOCKS)), BLOCKS, rotation=35, ha="right", rotation_mode="anchor")
    right.tick_params(labelsize=SMALL)
    right.set_ylabel("norm of the gradient", fontsize=TEXT)
    right.set_title(f"Gradient by block, L1 loss {loss.item():.4f}", fontsize=TEXT)
    return figure


def _grey_photograph(axes: Axes, image: Tensor) -> None:
    """The photograph in dim grey, so that the colours laid over it show."""
    axes.imshow(image[0].mean(0).cpu().numpy(), cmap="gray", vmin=0, vmax=1.6)


def _size(features: Tensor) -> str:
    return f"{features.shape[-2]}×{features.shape[-1]}"


def architecture(net: nn.Module) -> Figure:
    """The plan of the network, with channels and parameter counts read off its modules."""
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


def _decoder(axes: Axes, net: nn.Module, i: int, y: float) -> None:
    """Stage dec(3 - i) beside encoder i + 1; from below: transpose convolution, skip and gate, convolutions."""
    stage = net.get_submodule(f"dec{3 - i}")
    gate, convs = _convs(stage.gate), _convs(stage.conv)
    _box(axes, 77, y, 45, 20, f"dec{3 - i} · {SIZES[i]} · {_count(stage)}", "", GREY)
    _box(axes, 77, y + 4.4, 40, 4.2, "", f"{_route(*convs)}, BatchNorm, (Leaky)ReLU", GREEN)
    _box(axes, 77, y - 1, 40, 4.8, "", f"concatenate, × gate {3 - i}: sigmoid of {_route(*gate)}", ORANGE)
    _box(axes, 77, y - 6.6, 40, 4.2, "", f"transpose {_route(stage.up)}, ReLU", GREEN)


def _output(axes: Axes, net: nn.Module, top: float) -> None:
    text = f"sigmoid of {_route(net.out)}"
    if net.composite:
        text += "; composite:\nm · prediction + (1 − m) · input, m = gate 3"
        _arrow(axes, (35, 93), (54.5, 93), "input")
    _box(axes, 77, 93, 45, 9, f"out · {SIZES[0]} · {_count(net.out)}", text, BLUE)
    _arrow(axes, (77, top + 10), (77, 88.5))


def _convs(block: nn.Module) -> list[nn.Module]:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d)]


def _route(*convs: nn.Module) -> str:
    """Kernel size and channels of convolutions in a row, such as 3×3 conv 3→48→48."""
    channels = "→".join(str(n) for n in (convs[0].in_channels, *(conv.out_channels for conv in convs)))
    sizes = dict.fromkeys("×".join(map(str, conv.kernel_size)) for conv in convs)
    return f"{', '.join(sizes)} conv {channels}"


def _count(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,} parameters"


def loss_diagram(weights: dict[str, float]) -> Figure:
    """What each term of the loss compares, and its weight in the total; terms of weight 0 are left out."""
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
    figure, (axes,) = _figure(1, 1, width, height)
    axes.set(xlim=(0, 100.5), ylim=(0, 99))
    axes.set_axis_off()
    axes.set_title(title, fontsize=TITLE + 2)
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, head: str, text: str, colour: str) -> None:
    """A rounded box centred on (x, y), its bold head line on top."""
    style = {"boxstyle": "round,pad=0,rounding_size=1", "facecolor": PALE[colour], "edgecolor": colour}
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    top = y + height / 2
    if head:
        axes.annotate(
            head, (x, top), (0, -5), textcoords="offset points", ha="center", va="top", fontsize=SMALL, weight="bold"
        )
    below = -6 if head else 0  # points, half a line
    axes.annotate(text, (x, y), (0, below), textcoords="offset points", ha="center", va="center", fontsize=SMALL)


def _arrow(axes: Axes, start, end, text: str = "", colour: str = GREY, width: float = 1.4) -> None:
    """An arrow with its label in the middle."""
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

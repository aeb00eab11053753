"""Pictures of the network's inside: activations, attention gates, kernels and gradients.

An image is (1, 3, H, W) RGB float32 in [0, 1]. No function changes the network: modes, gradients, BatchNorm
statistics and hooks stay the same.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from wmremoval.model import HeterogeneousUNet
from wmremoval.report.style import (
    BLUE,
    ORANGE,
    SMALL,
    TEXT,
    heat_panel,
    image_grid,
    image_panel,
    new_figure,
    outline,
    percentile_limits,
)

# Names of submodules: stages with activations, and blocks with gradients. And names of the gates, coarsest first.
LAYERS = ("enc1", "enc2", "enc3", "bottleneck", "dec1", "dec2", "dec3")
GATES = ("gate1", "gate2", "gate3")
BLOCKS = ("enc1", "enc2", "enc3", "bottleneck", "attention", "dec1", "dec2", "dec3", "out")


def activations(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Outputs of the seven stages and of the three attention gates, from one forward pass in eval mode.

    Returns:
        "enc1" to "dec3", (1, C, h, w), and "gate1" to "gate3", (1, 1, h, w) in (0, 1), "gate3" being the finest;
        float32 on the CPU. h and w are the sides of the padded image (multiples of 8), divided by 1, 2, 4 or 8.
    """
    found = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
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
            module.training = mode  # module by module, since the modes may differ


def _at_image_size(maps: dict[str, Tensor], name: str, image: Tensor, mode: str) -> np.ndarray:
    """Resize a (1, 1, h, w) map to the padded image and crop it to the image, (H, W)."""
    height, width = image.shape[-2:]
    return F.interpolate(maps[name], size=maps["enc1"].shape[-2:], mode=mode)[0, 0, :height, :width].numpy()


def _strength(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean |activation| over the channels, (1, C, h, w) to (1, 1, h, w)."""
    return {name: features.abs().mean(1, keepdim=True) for name, features in maps.items()}


def watermark_attention(net: nn.Module, image: Tensor, mask: Tensor | None = None) -> Figure:
    """The photograph, and each attention gate laid over it on a scale of its own.

    Args:
        net: the network; see the module for the image.
        image: the watermarked photograph.
        mask: (1, 1, H, W), 1 inside the watermark; if given, its outline and the mean gate inside and outside appear.
    """
    maps = activations(net, image)
    figure, panels = image_grid(2, 2, image[0], 4.0, bars=2)
    image_panel(panels[0], image[0], "photograph" if mask is None else "photograph, outline of the true mask")
    inside = None if mask is None else mask[0, 0].cpu().numpy() > 0.5
    for axes, name in zip(panels[1:], GATES, strict=True):
        gate = _at_image_size(maps, name, image, "bilinear")
        values = f"mean {gate.mean():.3f}"
        if inside is not None and 0 < inside.mean() < 1:
            values = f"inside {gate[inside].mean():.3f}, outside {gate[~inside].mean():.3f}"
        _grey_photograph(axes, image)
        heat_panel(axes, gate, f"gate {name[-1]} ({_size(maps[name])}): {values}", opacity=0.65, label="gate, 0 to 1")
    if mask is not None:
        for axes in panels:
            outline(axes, mask[0])
    return figure


def multi_layer_activation(net: nn.Module, image: Tensor) -> Figure:
    """Mean |activation| over the channels of each of the seven stages, each on a percentile scale of its own."""
    maps = activations(net, image)
    strengths = _strength(maps)
    figure, panels = image_grid(2, 4, image[0], 3.0, bars=4)
    image_panel(panels[0], image[0], "photograph")
    for axes, name in zip(panels[1:], LAYERS, strict=True):
        title = f"{name}: {maps[name].shape[1]} channels, {_size(maps[name])}"
        heat_panel(axes, _at_image_size(strengths, name, image, "nearest"), title, label="mean |activation|")
    return figure


def decoder_focus(net: nn.Module, image: Tensor) -> Figure:
    """The photograph, and the mean |activation| of dec3, scaled so that its 1st and 99th percentiles are 0 and 1."""
    maps = activations(net, image)
    strength = _at_image_size(_strength(maps), "dec3", image, "nearest")
    low, high = percentile_limits(strength)
    figure, panels = image_grid(1, 2, image[0], 4.4, bars=1)
    image_panel(panels[0], image[0], "photograph")
    scaled = np.clip((strength - low) / (high - low), 0, 1)
    title = f"dec3: {maps['dec3'].shape[1]} channels, mean |activation| {strength.mean():.3g}"
    heat_panel(panels[1], scaled, title, (0, 1), label="scaled 0 to 1")
    return figure


def kernels(net: HeterogeneousUNet, count: int = 24) -> Figure:
    """Kernels of the first convolution as RGB tiles, and the standard deviation of every layer's weights.

    Args:
        net: the network.
        count: number of kernels shown, each on a range of its own.
    """
    first = net.enc1.layers[0].get_parameter("weight").detach().float().cpu()  # (48, 3, 3, 3)
    figure, (tiles, bars) = new_figure(1, 2, 11.0, 6.4)
    count = min(count, len(first))
    title = f"{count} of the {len(first)} kernels of enc1's first convolution,\nRGB, each on its own range"
    image_panel(tiles, _mosaic(first[:count]), title)
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
    """(N, 3, h, w) kernels as one image with white gaps, (3, rows (h + 1) - 1, columns (w + 1) - 1) in [0, 1]."""
    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    n, c, h, w = weights.shape
    columns = max(round((0.7 * n) ** 0.5), 1)  # slightly higher than wide, like the panel
    rows = -(-n // columns)
    cells = torch.ones(rows * columns, c, h + 1, w + 1)
    cells[:n, :, :h, :w] = (weights - low) / (high - low).clamp_min(1e-12)
    grid = cells.view(rows, columns, c, h + 1, w + 1).permute(2, 0, 3, 1, 4)  # (3, rows, h + 1, columns, w + 1)
    return grid.reshape(c, rows * (h + 1), columns * (w + 1))[:, :-1, :-1]


def gradients(net: nn.Module, image: Tensor, target: Tensor) -> Figure:
    """|d loss / d input| over the photograph, and the gradient norm of each block, for the L1 loss to `target`.

    Args:
        net: the network.
        image: the watermarked photograph.
        target: the clean photograph, same shape.
    """
    copied = copy.deepcopy(net).eval().requires_grad_(True)
    device = next(copied.parameters()).device
    with torch.enable_grad():
        leaf = image.detach().clone().to(device).requires_grad_(True)
        loss = F.l1_loss(copied(leaf)[0], target.to(device))
        loss.backward()
    assert leaf.grad is not None
    saliency = leaf.grad.abs().mean(1)[0].cpu().numpy()  # (H, W)
    norms = [
        torch.cat([p.grad.flatten() for p in copied.get_submodule(b).parameters() if p.grad is not None]).norm().item()
        for b in BLOCKS
    ]
    figure, (left, right) = new_figure(1, 2, 11.0, 4.8)
    _grey_photograph(left, image)
    title = "where a change of the input would change the loss"
    heat_panel(left, saliency, title, opacity=0.75, label="|d loss / d input|")
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
    """Draw the photograph in dim grey, so that colours laid over it stay visible."""
    axes.imshow(image[0].mean(0).cpu().numpy(), cmap="gray", vmin=0, vmax=1.6)


def _size(features: Tensor) -> str:
    return f"{features.shape[-2]}×{features.shape[-1]}"

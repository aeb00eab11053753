"""Style of the pictures: colours, grids and panels; saving a figure."""

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from wmremoval.files import atomic_path
from wmremoval.images import to_image

# Okabe and Ito's palette and matplotlib's perceptual maps: distinguishable for colour-blind readers and in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6E6E6E"
ERROR_MAP, QUALITY_MAP, SIGNED_MAP = "inferno", "viridis", "PuOr_r"
TITLE, TEXT, SMALL = 11, 10, 9  # points
# Names of the loss terms in pictures.
TERM_NAMES = {
    "masked_l1": "masked L1",
    "perceptual": "perceptual",
    "lab": "LAB",
    "ssim": "SSIM",
    "laplacian": "Laplacian",
    "mask_bce": "mask BCE",
    "mask_iou": "mask IoU",
    "mark": "alpha and colour",
}


def new_figure(
    rows: int, columns: int, width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), dpi=120, layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def image_grid(rows: int, columns: int, image: Tensor, width: float, bars: int = 0) -> tuple[Figure, np.ndarray]:
    """Panels for a (3, H, W) photograph, `width` inches wide, with room for titles and `bars` colour bars per row."""
    height = width * min(max(image.shape[-2] / image.shape[-1], 0.4), 2.0)
    return new_figure(rows, columns, columns * width + 0.8 * bars, rows * (height + 0.35), "compressed")


def image_panel(axes: Axes, image: Tensor, title: str) -> None:
    axes.imshow(to_image(image))
    finish_panel(axes, title)


def heat_panel(
    axes: Axes,
    values: np.ndarray,
    title: str,
    limits: tuple[float, float] | None = None,
    cmap: str = ERROR_MAP,
    label: str = "",
    opacity: float | np.ndarray | None = None,
) -> None:
    low, high = limits or percentile_limits(values)
    picture = axes.imshow(values, cmap=cmap, vmin=low, vmax=high, alpha=opacity)
    slack = 1e-3 * (high - low)  # float noise must not count as beyond the scale
    below, above = bool((values < low - slack).any()), bool((values > high + slack).any())
    extend = ("neither", "min", "max", "both")[below + 2 * above]
    bar = axes.figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.02, extend=extend)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    finish_panel(axes, title)


def outline(axes: Axes, mask: Tensor) -> None:
    """Draw the outline of a (1, H, W) mask."""
    inside = mask[0].cpu().numpy() > 0.5
    if 0 < inside.mean() < 1:
        axes.contour(inside, levels=[0.5], colors="#56B4E9", linewidths=0.8)


def finish_panel(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=TEXT)
    axes.set_xticks([])
    axes.set_yticks([])


def percentile_limits(values: np.ndarray, low: float = 1, high: float = 99) -> tuple[float, float]:
    """The `low` and `high` percentiles of the finite values, as a range that is never empty.

    Percentiles keep a few extreme pixels from darkening the rest of the picture.
    """
    finite = values[np.isfinite(values)]
    bottom, top = np.percentile(finite, [low, high]) if finite.size else (0.0, 1.0)
    return (float(bottom), float(top)) if top > bottom else (float(bottom) - 1e-6, float(top) + 1e-6)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a Matplotlib figure as PNG; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)

"""Plots of results: training curves, restored photographs and their errors.

A batch is a dict of CPU tensors: `watermarked`, `reference`, `clean` and `restored`, (B, 3, H, W) RGB
float32 in [0, 1], and `mask`, (B, 1, H, W) with 1 inside the watermark. A history is one dict per main
epoch; a value that is None or not finite leaves a gap. A residual is |difference| averaged over RGB, in
[0, 1]. Each function returns a `Figure`; pyplot neither shows nor stores it.
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor

from wmremoval.metrics import local_psnr_map as psnr_map
from wmremoval.metrics import local_ssim_map as ssim_map
from wmremoval.metrics import psnr
from wmremoval.report.style import (
    BLUE,
    GREY,
    ORANGE,
    QUALITY_MAP,
    SIGNED_MAP,
    SMALL,
    TERM_NAMES,
    TEXT,
    TITLE,
    finish_panel,
    heat_panel,
    image_grid,
    image_panel,
    new_figure,
    outline,
    percentile_limits,
)

GREY_LEVEL = 1 / 255  # one 8-bit level in [0, 1]; smallest range of an error scale, which must not show rounding
VISIBLE_DB = 50.0  # dB; upper end of the PSNR scale: above 48.1 dB the error is less than one grey level


def training_progress(history: list[dict]) -> Figure:
    """Train and val loss, and train and val PSNR (dB), by epoch; a line marks the epoch of the lowest val loss."""
    return _curves(history, {"loss": "Loss", "psnr": "PSNR (dB)"})


def loss_psnr_ssim(history: list[dict]) -> Figure:
    """Train and val loss, PSNR (dB) and SSIM by epoch; a line marks the epoch of the lowest val loss."""
    return _curves(history, {"loss": "Loss", "psnr": "PSNR (dB)", "ssim": "SSIM"})


def learning_rate(history: list[dict], scheduled: list[float] | None = None) -> Figure:
    """The learning rate after each epoch, and if given the planned rates of epochs 1, 2, ..."""
    figure, (axes,) = new_figure(1, 1, 8.0, 4.2)
    rates = _column(history, "lr")
    planned = np.array(scheduled or [], dtype=float)
    if planned.size:
        axes.plot(np.arange(1, planned.size + 1), planned, "--", color=GREY, label="planned")
    axes.plot(_column(history, "epoch"), rates, "o-", color=BLUE, markersize=5, label="used")
    positive = np.concatenate([rates, planned])
    positive = positive[np.isfinite(positive) & (positive > 0)]
    title = "Learning rate after each epoch"
    if positive.size:
        axes.set_yscale("log" if positive.max() > 50 * positive.min() else "linear")
        title += f": {positive.min():.2g} to {positive.max():.2g}"
    _finish_curve(axes, title, "learning rate")
    return figure


def _curves(history: list[dict], quantities: dict[str, str]) -> Figure:
    figure, panels = new_figure(1, len(quantities), 5.0 * len(quantities), 4.0)
    epochs = _column(history, "epoch")
    best = _best_row(history)
    for axes, (key, name) in zip(panels, quantities.items(), strict=True):
        train, val = _column(history, f"train_{key}"), _column(history, f"val_{key}")
        axes.plot(epochs, train, "o-", color=BLUE, markersize=4, label="train")
        axes.plot(epochs, val, "s--", color=ORANGE, markersize=4, label="val")
        title = name
        if best is not None:
            axes.axvline(epochs[best], color=GREY, linestyle=":", label=f"lowest val loss: epoch {epochs[best]:g}")
            title = f"{name}: val {val[best]:.4g} at epoch {epochs[best]:g}"
        _finish_curve(axes, title, name)
    return figure


def _finish_curve(axes: Axes, title: str, ylabel: str) -> None:
    axes.set_title(title, fontsize=TITLE)
    axes.set_xlabel("epoch", fontsize=TEXT)
    axes.set_ylabel(ylabel, fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    first, last = axes.dataLim.intervalx
    if np.isfinite([first, last]).all():
        axes.set_xlim(first - 0.5, last + 0.5)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.3)
    # below the axes, so that it hides no point
    axes.legend(fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)


def _column(history: list[dict], key: str) -> np.ndarray:
    values = (row.get(key) for row in history)
    return np.array([float(v) if v is not None and math.isfinite(v) else math.nan for v in values])


def _best_row(history: list[dict]) -> int | None:
    losses = _column(history, "val_loss")
    return int(np.nanargmin(losses)) if np.isfinite(losses).any() else None


def loss_shares(terms: dict[str, float]) -> Figure:
    """Each weighted term of the loss as a bar, with its value and its share of the total."""
    figure, (axes,) = new_figure(1, 1, 8.0, 1.4 + 0.45 * len(terms))
    names, values = [TERM_NAMES.get(key, key) for key in terms], [float(value) for value in terms.values()]
    total = sum(values)
    bars = axes.barh(names, values, color=BLUE)
    axes.bar_label(
        bars, [f"{v:.4g} ({v / total:.1%})" if total else f"{v:.4g}" for v in values], padding=4, fontsize=TEXT
    )
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_title(f"Share of each weighted term in the loss, {total:.4g}", fontsize=TITLE)
    axes.set_xlabel("weighted value", fontsize=TEXT)
    axes.tick_params(labelsize=TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def local_psnr_map(batch: dict[str, Tensor], index: int = 0) -> Figure:
    """Input and restored photograph of item `index`, each beside its map of local PSNR (dB), both on one scale."""
    return _local_maps(batch, index, psnr_map, "local PSNR", "dB", VISIBLE_DB)


def local_ssim_map(batch: dict[str, Tensor], index: int = 0) -> Figure:
    """Input and restored photograph of item `index`, each beside its map of local SSIM, both on one scale."""
    return _local_maps(batch, index, ssim_map, "local SSIM", "", 1.0)


def _local_maps(batch: dict[str, Tensor], index: int, measure, name: str, unit: str, highest: float) -> Figure:
    clean = batch["clean"][[index]]
    keys = ("watermarked", "restored")
    maps = {key: measure(batch[key][[index]], clean)[0, 0].numpy() for key in keys}
    low, high = percentile_limits(np.stack(list(maps.values())))
    limits = (min(low, 0.9 * highest), min(high, highest))
    figure, panels = image_grid(2, 2, clean[0], 4.2, bars=1)
    for row, key in enumerate(keys):
        left, right = panels[2 * row : 2 * row + 2]
        image_panel(left, batch[key][index], f"{key}: {_db(batch[key][[index]], clean)}")
        title = f"{name}: 5 % of pixels under {np.percentile(maps[key], 5):.3g} {unit}".rstrip()
        heat_panel(right, maps[key], title, limits, QUALITY_MAP, f"{name} {unit}".rstrip())
    return figure


def residual_histogram(batch: dict[str, Tensor]) -> Figure:
    """Histograms of |restored - clean| (filled) and |watermarked - clean| (outline), everywhere and inside the mask."""
    errors = {key: (batch[key] - batch["clean"]).abs() for key in ("restored", "watermarked")}
    inside = (batch["mask"] > 0.5).expand_as(batch["clean"])
    edges = np.linspace(0, max(GREY_LEVEL, *(float(error.max()) for error in errors.values())), 65)
    figure, panels = new_figure(1, 2, 12.0, 4.2)
    for axes, where in zip(panels, ("whole image", "inside the watermark"), strict=True):
        restored, nothing = (e.flatten() if where == "whole image" else e[inside] for e in errors.values())
        axes.set_xlabel("|difference from clean|, 0 to 1", fontsize=TEXT)
        axes.set_ylabel("share of values (%)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL)
        if not restored.numel():
            axes.set_title(f"{where}: the masks are empty", fontsize=TITLE)
            continue
        floor = 50 / restored.numel()  # percent; the share of half a value, as the start of the log axis
        shares = [np.histogram(e.numpy(), edges)[0] * 100 / e.numel() for e in (restored, nothing)]
        axes.stairs(shares[0], edges, fill=True, baseline=floor, color=BLUE, alpha=0.75, label="restored")
        axes.stairs(
            np.maximum(shares[1], floor), edges, baseline=floor, color=ORANGE, linewidth=1.6, label="watermarked"
        )
        axes.set_yscale("log")
        axes.set_ylim(floor, 200)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        means = f"mean |error| {restored.mean():.4f} (watermarked {nothing.mean():.4f})"
        axes.set_title(f"{where}: {means}", fontsize=TITLE)
        axes.legend(fontsize=SMALL)
    return figure


def side_by_side(batch: dict[str, Tensor], rows: int = 4) -> Figure:
    """One photograph per row: watermarked, restored, clean, and the residual; all residuals share one scale."""
    rows = min(rows, len(batch["clean"]))
    errors = [_residual(batch["restored"][i], batch["clean"][i]) for i in range(rows)]
    limits = _error_limits(np.stack(errors))
    figure, panels = image_grid(rows, 4, batch["clean"][0], 3.0, bars=1)
    for i, row in enumerate(panels.reshape(rows, 4)):
        clean = batch["clean"][[i]]
        for axes, key in zip(row, ("watermarked", "restored", "clean"), strict=False):
            decibels = "" if key == "clean" else f": {_db(batch[key][[i]], clean)}"
            image_panel(axes, batch[key][i], key + decibels)
        title = f"error × {1 / limits[1]:.3g}: mean {errors[i].mean():.4f}"
        heat_panel(row[3], errors[i], title, limits, label="|restored − clean|")
    return figure


def batch_processing(batch: dict[str, Tensor], columns: int = 8) -> Figure:
    """Three rows: inputs, references and predictions of up to `columns` items."""
    columns = min(columns, len(batch["watermarked"]))
    figure, panels = image_grid(3, columns, batch["watermarked"][0], 1.9 if columns > 2 else 3.0)
    rows = {"watermarked": "input", "reference": "reference", "restored": "predicted"}
    for row, (key, name) in zip(panels.reshape(3, columns), rows.items(), strict=True):
        for i, axes in enumerate(row):
            image_panel(axes, batch[key][i], _db(batch[key][[i]], batch["clean"][[i]]))
        row[0].set_ylabel(name, fontsize=TITLE)
    figure.suptitle("PSNR against the clean photograph", fontsize=TITLE)
    return figure


def watermark_residual(batch: dict[str, Tensor], index: int = 0, threshold: float = 0.1) -> Figure:
    """The residual |restored - clean|; its pixels over `threshold`; the removed part |watermarked - restored|."""
    restored, clean = batch["restored"][index], batch["clean"][index]
    left, removed = _residual(restored, clean), _residual(batch["watermarked"][index], restored)
    figure, panels = image_grid(1, 3, clean, 3.8, bars=2)
    heat_panel(panels[0], left, f"residual: mean {left.mean():.4f}", _error_limits(left), label="|restored − clean|")
    _mask_panel(panels[1], left > threshold, threshold, batch["mask"][index])
    title = f"removed: mean {removed.mean():.4f}"
    heat_panel(panels[2], removed, title, _error_limits(removed), label="|watermarked − restored|")
    return figure


def residual_error(batch: dict[str, Tensor], index: int = 0, threshold: float = 0.1) -> Figure:
    """The residual |restored - clean|; its pixels over `threshold`; both photographs overlaid, errors in colour."""
    restored, clean = batch["restored"][index], batch["clean"][index]
    residual = _residual(restored, clean)
    figure, panels = image_grid(1, 3, clean, 3.8, bars=2)
    title = f"residual: mean {residual.mean():.4f}, max {residual.max():.3f}"
    heat_panel(panels[0], residual, title, _error_limits(residual), label="|restored − clean|")
    _mask_panel(panels[1], residual > threshold, threshold, batch["mask"][index])
    signed = (restored - clean).mean(0).numpy()
    top = _error_limits(np.abs(signed))[1]
    panels[2].imshow((restored + clean).mean(0).numpy() / 2, cmap="gray", vmin=0, vmax=1)
    title = f"original and predicted overlaid: {_db(restored[None], clean[None])}"
    opacity = np.clip(np.nan_to_num(np.abs(signed)) / top, 0, 1)
    heat_panel(panels[2], signed, title, (-top, top), SIGNED_MAP, "predicted − original", opacity)
    return figure


def _mask_panel(axes: Axes, exceeds: np.ndarray, threshold: float, watermark: Tensor) -> None:
    axes.imshow(exceeds, cmap="gray", vmin=0, vmax=1)
    outline(axes, watermark)  # a good restoration would otherwise be a black square
    finish_panel(axes, f"residual > {threshold:g}: {exceeds.mean():.2%} of pixels")


def _error_limits(values: np.ndarray) -> tuple[float, float]:
    return 0.0, max(percentile_limits(values, high=99.5)[1], GREY_LEVEL)


def _residual(image: Tensor, other: Tensor) -> np.ndarray:
    return (image - other).abs().mean(0).numpy()  # (3, H, W) -> (H, W)


def _db(image: Tensor, clean: Tensor) -> str:
    return f"{psnr(image, clean).item():.2f} dB"

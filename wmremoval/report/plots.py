"""Plots of results: training curves, restored photographs and their errors.

A batch is a dict of CPU tensors: `watermarked`, `reference`, `clean` and `restored` (the network's output), (B, 3, H, W)
RGB float32 in [0, 1], and `mask`, (B, 1, H, W) with 1 inside the watermark. It may have `remover`, the photographs restored
by `load_remover`, as `restored`; they then stand beside the network's output. A history is one dict per main epoch; a value
that is None or not finite leaves a gap. A residual is |difference| averaged over RGB, in [0, 1]. Each function returns a
`Figure`; pyplot neither shows nor stores it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor

from wmremoval.metrics import local_psnr_map as psnr_map
from wmremoval.metrics import local_ssim_map as ssim_map
from wmremoval.metrics import psnr
from wmremoval.report.style import (
    BLUE,
    GREEN,
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
# Names of a batch's views in pictures. The remover is the network with all steps of the restoration.
VIEW_NAMES = {"watermarked": "watermarked", "restored": "network alone", "remover": "restored", "clean": "clean"}
VISIBLE_DB = 50.0  # dB; upper end of the PSNR scale: above 48.1 dB the error is less than one grey level


def training_progress(history: list[dict]) -> Figure:
    """Train and val loss, and train and val PSNR (dB), by epoch; a line marks the epoch of the lowest val loss."""
    return _curves(history, {"loss": "Loss", "psnr": "PSNR (dB)"})


def loss_psnr_ssim(history: list[dict]) -> Figure:
    """Train and val loss, PSNR (dB) and SSIM by epoch; a line marks the epoch of the lowest val loss."""
    return _curves(history, {"loss": "Loss", "psnr": "PSNR (dB)", "ssim": "SSIM"})


def progress(history: list[dict]) -> Figure:
    """Loss, validation PSNR (dB) and learning rate by epoch, in three panels; for a training that still runs."""
    figure, panels = new_figure(1, 3, 12.0, 3.6)
    epochs = _column(history, "epoch")
    for axes, keys, name in zip(
        panels,
        (("train_loss", "val_loss"), ("val_psnr",), ("lr",)),
        ("loss", "PSNR (dB)", "learning rate"),
        strict=True,
    ):
        for key, look, colour in zip(keys[::-1], ("s--", "o-"), (ORANGE, BLUE), strict=False):
            label = {"lr": "rate"}.get(key, key.split("_")[0])
            axes.plot(epochs, _column(history, key), look, color=colour, markersize=4, label=label)
        _finish_curve(axes, name, name)
    return figure


def from_scratch(history: list[dict], scratch: list[dict]) -> Figure:
    """Validation loss and PSNR (dB) by seconds of training: of a run, and of random weights on the same samples."""
    figure, panels = new_figure(1, 2, 10.0, 4.0)
    runs = {"this run": (history, BLUE, "o-"), "from random weights": (scratch, ORANGE, "s--")}
    for axes, (key, name) in zip(
        panels, {"val_loss": "validation loss", "val_psnr": "validation PSNR (dB)"}.items(), strict=True
    ):
        for label, (rows, colour, look) in runs.items():
            axes.plot(
                np.cumsum(np.nan_to_num(_column(rows, "seconds"))),
                _column(rows, key),
                look,
                color=colour,
                markersize=4,
                label=label,
            )
        _finish_curve(axes, name, name)
        axes.set_xlabel("seconds of training", fontsize=TEXT)
        axes.set_xlim(left=0)
    return figure


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
    """Input and results of item `index`, each above its map of local PSNR (dB), all on one scale."""
    return _local_maps(batch, index, psnr_map, "local PSNR", "dB", VISIBLE_DB)


def local_ssim_map(batch: dict[str, Tensor], index: int = 0) -> Figure:
    """Input and results of item `index`, each above its map of local SSIM, all on one scale."""
    return _local_maps(batch, index, ssim_map, "local SSIM", "", 1.0)


def _local_maps(
    batch: dict[str, Tensor],
    index: int,
    measure: Callable[[Tensor, Tensor], Tensor],
    name: str,
    unit: str,
    highest: float,
) -> Figure:
    clean = batch["clean"][[index]]
    keys = ("watermarked", *results(batch))
    maps = {key: measure(batch[key][[index]], clean)[0, 0].numpy() for key in keys}
    low, high = percentile_limits(np.stack(list(maps.values())))
    limits = (min(low, 0.9 * highest), min(high, highest))
    figure, panels = image_grid(2, len(keys), clean[0], 3.2, bars=len(keys))
    for key, above, below in zip(keys, panels, panels[len(keys) :], strict=False):
        image_panel(above, batch[key][index], f"{VIEW_NAMES[key]}: {_db(batch[key][[index]], clean)}")
        title = f"5 % of pixels under {np.percentile(maps[key], 5):.3g} {unit}".rstrip()
        heat_panel(below, maps[key], title, limits, QUALITY_MAP, f"{name} {unit}".rstrip())
    return figure


def results(batch: dict[str, Tensor]) -> list[str]:
    """Keys of the restored views of a batch: the network's, and the remover's if there is one."""
    return [key for key in ("restored", "remover") if key in batch]


def residual_histogram(batch: dict[str, Tensor]) -> Figure:
    """Histograms of |view - clean|, everywhere and inside the mask: the best result filled, the others as outlines."""
    errors = {key: (batch[key] - batch["clean"]).abs() for key in (*results(batch)[::-1], "watermarked")}
    inside = (batch["mask"] > 0.5).expand_as(batch["clean"])
    edges = np.linspace(0, max(GREY_LEVEL, *(float(error.max()) for error in errors.values())), 65)
    figure, panels = new_figure(1, 2, 12.0, 4.2)
    for axes, where in zip(panels, ("whole image", "inside the watermark"), strict=True):
        values = {key: e.flatten() if where == "whole image" else e[inside] for key, e in errors.items()}
        axes.set_xlabel("|difference from clean|, 0 to 1", fontsize=TEXT)
        axes.set_ylabel("share of values (%)", fontsize=TEXT)
        axes.tick_params(labelsize=SMALL)
        if inside.any() or where == "whole image":
            _stairs(axes, values, edges)
            axes.set_title(f"{where}: mean |error|", fontsize=TITLE)
        else:
            axes.set_title(f"{where}: the masks are empty", fontsize=TITLE)
    return figure


def _stairs(axes: Axes, values: dict[str, Tensor], edges: np.ndarray) -> None:
    """A histogram of each array of values, the first one filled; a logarithmic axis."""
    floor = 50 / len(next(iter(values.values())))  # percent; the share of half a value, as the start of the log axis
    colours = dict(zip(("remover", "restored", "watermarked"), (GREEN, BLUE, ORANGE), strict=True))
    for i, (key, errors) in enumerate(values.items()):
        share = np.histogram(errors.numpy(), edges)[0] * 100 / len(errors)
        look: dict[str, Any] = {"alpha": 0.6, "fill": True} if i == 0 else {"linewidth": 1.6}
        label = f"{VIEW_NAMES[key]}: {errors.mean():.4f}"
        share = share if i == 0 else np.maximum(share, floor)
        axes.stairs(share, edges, baseline=floor, color=colours[key], label=label, **look)
    axes.set_yscale("log")
    axes.set_ylim(floor, 200)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(fontsize=SMALL)


def side_by_side(batch: dict[str, Tensor], rows: int = 4) -> Figure:
    """One photograph per row: watermarked, the results, clean, and the residual of the best result, all on one scale."""
    rows = min(rows, len(batch["clean"]))
    keys, best = ("watermarked", *results(batch), "clean"), results(batch)[-1]
    errors = [_residual(batch[best][i], batch["clean"][i]) for i in range(rows)]
    limits = _error_limits(np.stack(errors))
    figure, panels = image_grid(rows, len(keys) + 1, batch["clean"][0], 2.6, bars=1)
    for i, row in enumerate(panels.reshape(rows, -1)):
        clean = batch["clean"][[i]]
        for axes, key in zip(row, keys, strict=False):
            decibels = "" if key == "clean" else f": {_db(batch[key][[i]], clean)}"
            image_panel(axes, batch[key][i], VIEW_NAMES[key] + decibels)
        title = f"error × {1 / limits[1]:.3g}: mean {errors[i].mean():.4f}"
        heat_panel(row[-1], errors[i], title, limits, label=f"|{VIEW_NAMES[best]} − clean|")
    return figure


def batch_processing(batch: dict[str, Tensor], columns: int = 8) -> Figure:
    """Rows of up to `columns` items: inputs, references, predictions of the network, and the restored photographs."""
    rows = {"watermarked": "input", "reference": "reference", "restored": "predicted"}
    rows |= {"remover": "restored"} if "remover" in batch else {}
    figure, panels = _rows(batch, rows, columns)
    for row, key in zip(panels, rows, strict=True):
        for i, axes in enumerate(row):
            axes.set_title(_db(batch[key][[i]], batch["clean"][[i]]), fontsize=TEXT)
    figure.suptitle("PSNR against the clean photograph", fontsize=TITLE)
    return figure


def samples(batch: dict[str, Tensor], columns: int = 8) -> Figure:
    """Samples of a data set, one a column: input, reference, mask of the input's mark, and the clean view."""
    rows = {"watermarked": "input", "reference": "reference", "mask": "mask", "clean": "clean"}
    return _rows(batch, rows, columns)[0]


def _rows(batch: dict[str, Tensor], rows: dict[str, str], columns: int) -> tuple[Figure, np.ndarray]:
    """Named rows of up to `columns` items of a batch, by key; the figure and its panels."""
    columns = min(columns, len(batch["watermarked"]))
    figure, panels = image_grid(len(rows), columns, batch["watermarked"][0], 1.9 if columns > 2 else 3.0)
    panels = panels.reshape(len(rows), columns)
    for row, (key, name) in zip(panels, rows.items(), strict=True):
        for axes, picture in zip(row, batch[key], strict=False):
            image_panel(axes, picture.expand(3, -1, -1), "")
        row[0].set_ylabel(name, fontsize=TITLE)
    return figure, panels


def augmentations(photos: Sequence[np.ndarray], transform: Any, draws: int = 5, seed: int = 0) -> Figure:
    """Photographs, (H, W, 3) RGB uint8, one a row, and random augmented views of each.

    Args:
        photos: the photographs.
        transform: from `get_augmentations`; its random state is set by `seed`.
        draws: augmented views a row.
        seed: key of the views.
    """
    transform.set_random_seed(seed)
    figure, panels = image_grid(len(photos), 1 + draws, torch.zeros(3, 1, 1), 1.9)
    for photo, row in zip(photos, panels.reshape(len(photos), -1), strict=True):
        views = [photo, *(transform(image=photo)["image"] for _ in range(draws))]
        for axes, view, name in zip(row, views, ["photograph", *["augmented"] * draws], strict=True):
            axes.imshow(view)
            finish_panel(axes, name)
    return figure


def watermark_residual(batch: dict[str, Tensor], index: int = 0, threshold: float = 0.1) -> Figure:
    """For each result: the residual |result - clean|, its pixels over `threshold`, and what was removed."""
    clean, keys = batch["clean"][index], results(batch)
    figure, panels = image_grid(len(keys), 3, clean, 3.4, bars=2)
    for key, row in zip(keys, panels.reshape(len(keys), 3), strict=True):
        restored, name = batch[key][index], VIEW_NAMES[key]
        left, removed = _residual(restored, clean), _residual(batch["watermarked"][index], restored)
        heat_panel(
            row[0], left, f"{name}, residual: mean {left.mean():.4f}", _error_limits(left), label=f"|{name} − clean|"
        )
        _mask_panel(row[1], left > threshold, threshold, batch["mask"][index])
        title = f"removed: mean {removed.mean():.4f}"
        heat_panel(row[2], removed, title, _error_limits(removed), label=f"|watermarked − {name}|")
    return figure


def residual_error(batch: dict[str, Tensor], index: int = 0, threshold: float = 0.1) -> Figure:
    """For each result: the residual |result - clean|, its pixels over `threshold`, and both overlaid, errors in colour."""
    clean, keys = batch["clean"][index], results(batch)
    figure, panels = image_grid(len(keys), 3, clean, 3.4, bars=2)
    for key, row in zip(keys, panels.reshape(len(keys), 3), strict=True):
        restored, name = batch[key][index], VIEW_NAMES[key]
        residual = _residual(restored, clean)
        title = f"{name}, residual: mean {residual.mean():.4f}"
        heat_panel(row[0], residual, title, _error_limits(residual), label=f"|{name} − clean|")
        _mask_panel(row[1], residual > threshold, threshold, batch["mask"][index])
        signed = (restored - clean).mean(0).numpy()
        top = _error_limits(np.abs(signed))[1]
        row[2].imshow((restored + clean).mean(0).numpy() / 2, cmap="gray", vmin=0, vmax=1)
        opacity = np.clip(np.nan_to_num(np.abs(signed)) / top, 0, 1)
        title = f"overlaid on the original: {_db(restored[None], clean[None])}"
        heat_panel(row[2], signed, title, (-top, top), SIGNED_MAP, f"{name} − original", opacity)
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

"""Successes and failures of a batch, chosen by the rank of their gain alone."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wmremoval.metrics import psnr
from wmremoval.report.plots import VIEW_NAMES, results
from wmremoval.report.style import finish_panel, image_grid, image_panel

KINDS = ("best", "second best", "second worst", "worst")


def ranked(batch: dict[str, Tensor]) -> Figure:
    """The two photographs of a batch that gain most and the two that gain least: watermarked, restored, clean, true mask.

    The gain in PSNR over doing nothing decides alone.

    Args:
        batch: see `plots`; with a remover its results count, else the network's.
    """
    best = results(batch)[-1]
    gains = psnr(batch[best], batch["clean"]) - psnr(batch["watermarked"], batch["clean"])
    gains = torch.nan_to_num(gains, nan=0.0)  # two exact reproductions
    order = gains.argsort(descending=True).tolist()
    shown = list(dict.fromkeys([*order[:2], *order[-2:]]))
    figure, panels = image_grid(len(shown), 4, batch["clean"][0], 2.6)
    for i, kind, row in zip(shown, KINDS, panels.reshape(len(shown), 4), strict=False):
        image_panel(row[0], batch["watermarked"][i], f"{kind} of {len(order)}: watermarked")
        image_panel(row[1], batch[best][i], f"{VIEW_NAMES[best]}, {gains[i]:+.1f} dB")
        image_panel(row[2], batch["clean"][i], "clean")
        row[3].imshow(batch["mask"][i, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        finish_panel(row[3], f"true mask, {batch['mask'][i].mean():.1%} of the pixels")
    return figure

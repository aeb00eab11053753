"""The picture of what each term of the loss sees: its share of every pixel."""

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from wmremoval.losses import ColorAwareLoss, edge_map, lab_map
from wmremoval.metrics import local_ssim_map
from wmremoval.report.style import TERM_NAMES, heat_panel, image_grid, image_panel


@torch.inference_mode()
def term_maps(criterion: ColorAwareLoss, pred: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """A map of each term, before its weight, (H, W). Its mean is the term; for masked terms the mean over the mask.

    Args:
        criterion: the loss.
        pred, target: one image each, (1, 3, H, W), RGB in [0, 1].
        mask: (1, 1, H, W), 1 inside the watermark.
    """
    features = (criterion.vgg(pred) - criterion.vgg(target)).abs().mean(1, keepdim=True)
    maps = {
        "masked_l1": (pred - target).abs() * mask,
        "perceptual": F.interpolate(features, size=pred.shape[-2:], mode="nearest"),
        "lab": lab_map(pred, target),
        "ssim": 1.0 - local_ssim_map(pred, target),
        "laplacian": edge_map(pred, target) * mask,
    }
    return {name: each.mean(1)[0] for name, each in maps.items()}


def draw_term_maps(criterion: ColorAwareLoss, sample: dict[str, Tensor]) -> Figure:
    """The watermarked view taken for a restoration, its clean target and the mask, and the map of each term.

    Args:
        criterion: the loss.
        sample: of a `WatermarkDataset`.
    """
    pred, target, mask = (sample[name][None] for name in ("watermarked", "clean", "mask"))
    _, terms = criterion(pred, target, mask)
    figure, panels = image_grid(2, 4, pred[0], 2.9, bars=3)
    image_panel(panels[0], pred[0], "prediction P: nothing removed")
    image_panel(panels[1], target[0], "target T")
    image_panel(panels[2], mask[0].expand(3, -1, -1), "mask M")
    for axes, (name, each) in zip(panels[3:], term_maps(criterion, pred, target, mask).items(), strict=True):
        heat_panel(axes, each.numpy(), f"{TERM_NAMES[name]}: adds {terms[name]:.3f} to the loss")
    return figure

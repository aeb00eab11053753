"""The README's gallery: what the package's weights make of photographs that come with scikit-image."""

from pathlib import Path

import numpy as np
import torch

from .fonts import load_fonts
from .images import to_tensor
from .inference import Remover
from .metrics import psnr
from .panels import finish_panel, image_panel, new_figure
from .photos import sample_scenes
from .runs import save_figure
from .watermarks import WatermarkConfig, blend, draw_mark

VIEW = (288, 432)  # height and width of each photograph's upper left part, pixels: as it is, at its native grain
SEED = 20  # of the first mark, the next photograph taking the next
MARKS = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.4, 0.9)
)


def draw_gallery(remover: Remover, path: str | Path) -> Path:
    """What a remover makes of scikit-image's photographs, one fixed mark each, nothing picked: before, after, mask."""
    scenes = [(name, scene) for name, scene in sample_scenes().items() if name != "hubble"]
    figure, panels = new_figure(len(scenes), 3, 9.0, 2.1 * len(scenes), "compressed")
    for i, (name, scene) in enumerate(scenes):
        clean = np.ascontiguousarray(scene[: VIEW[0], : VIEW[1]])
        mark = draw_mark(np.random.default_rng(SEED + i), *clean.shape[:2], load_fonts(), (), MARKS)
        watermarked, mask = blend(clean, mark)
        result = remover(watermarked)
        truth = torch.from_numpy(mask)[None].float()
        views = [to_tensor(view)[None] for view in (watermarked, result.image, clean)]
        before, after = (psnr(view, views[2], truth[None]).item() for view in views[:2])
        image_panel(panels[3 * i], views[0][0], f"{name.replace('_', ' ')}: {before:.1f} dB inside the mark")
        image_panel(panels[3 * i + 1], views[1][0], f"restored: {after:.1f} dB")
        panels[3 * i + 2].imshow(result.mask, cmap="gray", vmin=0.0, vmax=1.0)
        finish_panel(panels[3 * i + 2], f"mask: {100 * result.area:.1f}% changed")
    return save_figure(figure, path)

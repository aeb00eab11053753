"""The README's picture: photographs of scikit-image restored with the package's weights, successes and failures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import blend, draw_mark
from wmremoval.data.photos import sample_scenes
from wmremoval.images import to_tensor
from wmremoval.metrics import psnr
from wmremoval.report.style import finish_panel, image_panel, new_figure, save_figure
from wmremoval.restore.remover import Remover, Result

VIEW = (288, 432)  # pixels; height and width of each photograph's upper left part, which is used without shrinking
MARKS_EACH = 4  # marks drawn on each photograph
SEED = 20  # seed of the first mark; each further mark adds 1
# Examples shown, as quantiles of all examples sorted by gain, best first. The rank alone decides, not the look.
RANKS = {"good": (0.0, 0.09, 0.17, 0.26), "middling": (0.45, 0.6), "failure": (0.96, 1.0)}


@dataclass(frozen=True)
class Example:
    """A photograph under a mark, restored."""

    scene: str
    clean: np.ndarray  # (H, W, 3) RGB uint8
    watermarked: np.ndarray  # (H, W, 3) RGB uint8
    result: Result
    before: float  # PSNR inside the mark before restoration, dB
    after: float  # PSNR inside the mark after restoration, dB


def restore_examples(remover: Remover) -> list[Example]:
    """Restore every photograph under each of its marks; sorted by the gain inside the mark, best first."""
    examples, fonts = [], load_fonts()
    scenes = [(name, scene) for name, scene in sample_scenes().items() if name != "hubble"]
    for i, (name, scene) in enumerate(scenes):
        clean = np.ascontiguousarray(scene[: VIEW[0], : VIEW[1]])
        for j in range(MARKS_EACH):
            rng = np.random.default_rng(SEED + MARKS_EACH * i + j)
            watermarked, mask = blend(clean, draw_mark(rng, clean.shape[0], clean.shape[1], fonts))
            result = remover(watermarked)
            inside = torch.from_numpy(mask)[None, None].float()
            reference = to_tensor(clean)[None]
            before, after = (
                psnr(to_tensor(view)[None], reference, inside).item() for view in (watermarked, result.image)
            )
            examples.append(Example(name.replace("_", " "), clean, watermarked, result, before, after))
    return sorted(examples, key=lambda example: example.before - example.after)


def choose_examples(examples: list[Example]) -> list[tuple[str, int, Example]]:
    """(label, rank from 1, example) of the eight examples shown, chosen by rank alone."""
    last = len(examples) - 1
    return [
        (label, round(share * last) + 1, examples[round(share * last)])
        for label, shares in RANKS.items()
        for share in shares
    ]


def draw_gallery(remover: Remover, path: str | Path) -> Path:
    """Draw eight examples (four good, two middling, two failures) before and after, with the mask; save as PNG."""
    examples = restore_examples(remover)
    chosen = choose_examples(examples)
    figure, panels = new_figure(len(chosen), 3, 9.0, 2.1 * len(chosen), "compressed")
    for i, (label, rank, example) in enumerate(chosen):
        before, after, mask = panels[3 * i : 3 * i + 3]
        image_panel(before, to_tensor(example.watermarked), f"{example.scene}: {example.before:.1f} dB inside")
        image_panel(
            after, to_tensor(example.result.image), f"{label} (rank {rank} of {len(examples)}): {example.after:.1f} dB"
        )
        mask.imshow(example.result.mask, cmap="gray", vmin=0.0, vmax=1.0)
        finish_panel(mask, f"mask: {100 * example.result.area:.1f}% changed")
    return save_figure(figure, path)

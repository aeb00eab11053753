"""Whether large marks on large photographs are removed as well as small ones on small: mosaics under one growing mark."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from .data import resize_and_crop
from .fonts import load_fonts
from .images import read_image, to_tensor
from .inference import Remover
from .metrics import PSNR_CAP, psnr
from .photos import list_photos, split_photos
from .watermarks import Mark, WatermarkConfig, blend, draw_mark

SIDE = 256  # pixels; of one photograph of a mosaic
TIMES = (1, 2, 4, 8)  # photographs a side, and how many times the mark is enlarged
PLAIN = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.3, 0.7)
)


def measure_scale(remover: Remover, photos: str | Path, marks: int = 12, part: str = "test") -> dict[str, float]:
    """PSNR inside the mark and gradient energy for N x N native photographs under one mark enlarged N times.

    Args:
        photos: a folder; the part of its split that was never trained on is used.
        marks: texts, each with photographs of its own.
        part: "test", or "val" to tune.

    Returns:
        for every N: PSNR inside the mask before and after, dB, and the gradient energy inside it against the clean
        photograph's, 1 if no detail is lost and none added; medians over the marks.
    """
    paths = split_photos(list_photos(photos))[part]
    numbers: dict[str, float] = {}
    for n in TIMES:
        scores = []
        for seed in tqdm(range(marks), desc=f"Mosaics of {n} x {n}", leave=False):
            order = np.random.default_rng(seed).permutation(len(paths))
            clean = mosaic([paths[order[i % len(paths)]] for i in range(n * n)], n)
            watermarked, mask = blend(clean, enlarged(seed, n))
            restored = remover(watermarked).image
            inside = [psnr_inside(view, clean, mask) for view in (watermarked, restored)]
            scores.append((*inside, gradient_energy(restored, mask) / gradient_energy(clean, mask)))
        before, after, energy = np.median(scores, axis=0)
        label = f"mark x {n}"
        numbers |= {
            f"{label}, PSNR inside before, dB": float(before),
            f"{label}, PSNR inside after, dB": float(after),
            f"{label}, gradient energy": float(energy),
        }
    return numbers


def mosaic(paths: Sequence[Path], n: int) -> np.ndarray:
    """n x n photographs beside each other, (n * SIDE, n * SIDE, 3) uint8."""
    tiles = [resize_and_crop(read_image(path), SIDE) for path in paths]
    return np.concatenate([np.concatenate(tiles[row * n : (row + 1) * n], axis=1) for row in range(n)])


def enlarged(seed: int, n: int) -> Mark:
    """One line of text over a mosaic, the same for every n but for its size."""
    mark = draw_mark(np.random.default_rng(seed), SIDE, SIDE, load_fonts(), (), PLAIN)
    size = (SIDE * n, SIDE * n)
    alpha = cv2.resize(mark.alpha, size, interpolation=cv2.INTER_CUBIC).clip(0.0, 1.0)
    return Mark(alpha, cv2.resize(mark.colour, size, interpolation=cv2.INTER_LINEAR))


def psnr_inside(image: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> float:
    """dB over the pixels of a mask (H, W)."""
    views, where = (to_tensor(view)[None] for view in (image, clean)), torch.from_numpy(mask > 0)[None, None]
    return psnr(*views, where).clamp_max(PSNR_CAP).item()


def gradient_energy(image: np.ndarray, mask: np.ndarray) -> float:
    """Sum of the squared differences of neighbours inside a mask."""
    x = image.astype(np.float32)
    squared = np.square(np.diff(x, axis=1)[:-1]).sum(-1) + np.square(np.diff(x, axis=0)[:, :-1]).sum(-1)
    return float(squared[mask[:-1, :-1] > 0].sum())

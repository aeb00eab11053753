"""A remover whose answer is known: photographs without blue, marks of pure white, so that blue is alpha."""

import cv2
import numpy as np
import torch
from skimage import data
from torch import nn

from wmremoval.data.marks import Mark, blend
from wmremoval.model import Parts, invert
from wmremoval.restore.ensemble import Ensemble
from wmremoval.restore.pyramid import Pyramid
from wmremoval.restore.regions import Regions
from wmremoval.restore.remover import Remover
from wmremoval.restore.search import search
from wmremoval.restore.solve import Solver


class Planted(nn.Module):
    """Finds white marks on photographs without blue, exactly, at any size; counts what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []
        self.blind = 0  # columns at the left in which it sees nothing

    def parts(self, watermarked):
        self.shown.append(tuple(watermarked.shape[-2:]))
        alpha = watermarked[:, 2:]
        colour = torch.ones_like(watermarked)
        logits = torch.where(alpha > 0.03, 12.0, -12.0)
        logits[..., : self.blind] = -12.0
        clean = invert(watermarked, alpha, colour)
        image = torch.lerp(watermarked, clean, torch.sigmoid(logits))
        return Parts(image, logits, image, alpha, colour, torch.zeros_like(alpha))


class Backwards(Planted):
    """Sees white marks as black ones: what it gives back has a stronger outline than what it was shown."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        black = torch.zeros_like(parts.colour)
        return parts._replace(colour=black, image=invert(watermarked, parts.alpha, black))


def planted(core: int = 480) -> Remover:
    return Remover(Planted(), torch.device("cpu"), core)


def photograph(height: int, width: int) -> np.ndarray:
    """A part of a real photograph without blue, repeated by mirroring, at its native grain."""
    image = data.astronaut().copy()
    image[..., 2] = 0
    rows, columns = (np.pad(np.arange(512), (0, 512), "reflect") for _ in range(2))
    rows, columns = (np.resize(index[:1022], n) for index, n in ((rows, height), (columns, width)))
    return np.ascontiguousarray(image[rows][:, columns])


def text_mark(height: int, width: int, scale: float, alpha: float = 0.6, origin: tuple[int, int] = (20, 60)) -> Mark:
    """White letters with smooth edges, by OpenCV: `scale` 1 is about 20 pixels high with strokes of 3."""
    cover = np.zeros((height, width), np.uint8)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(3 * scale))
    cv2.putText(cover, "Sample", origin, font, scale, 255, thickness, cv2.LINE_AA)
    strength = (alpha * cover / 255.0).astype(np.float32)
    return Mark(strength, np.ones((height, width, 3), np.float32))


def marked(height: int, width: int, scale: float = 1.0, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(watermarked, clean, mask); uint8."""
    clean = photograph(height, width)
    watermarked, mask = blend(clean, text_mark(height, width, scale, **options))
    return watermarked, clean, mask


def psnr_inside(image: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> float:
    """dB over the pixels of the mask."""
    error = (image.astype(np.float64) - clean)[mask > 0] / 255
    return float(-10 * np.log10(np.mean(error**2) + 1e-12))


def gradient_energy(image: np.ndarray, mask: np.ndarray) -> float:
    """Sum of squared differences between neighbours inside the mask."""
    x = image.astype(np.float64)
    squared = (np.diff(x, axis=1)[:-1] ** 2).sum(-1) + (np.diff(x, axis=0)[:, :-1] ** 2).sum(-1)
    return float(squared[mask[:-1, :-1] > 0].sum())


def ensemble_of(net, photo, mirror: bool = True) -> Ensemble:
    """The averaged predictions of a photograph that was searched."""
    return Ensemble(net, search(net, Pyramid(photo)), mirror)


def solved(net, photo, without=frozenset()):
    """The one solved tile of a small photograph."""
    regions = Regions(1, [1], np.zeros(photo.shape[:2], np.int32))
    ensemble = ensemble_of(net, photo, "mirror" not in without)
    [(_, prediction)] = Solver(ensemble, regions, frozenset(without)).tiles(1, (0, 0, *photo.shape[:2]))
    return prediction

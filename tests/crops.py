"""Parts of real photographs under a mark that is known exactly."""

import cv2
import numpy as np

from wmremoval.data.marks import Mark, blend
from wmremoval.data.photos import sample_scenes

SIZE = 160, 120  # width and height


def crops(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Different parts of different photographs, (h, w, 3) uint8."""
    scenes = [scene for name, scene in sorted(sample_scenes().items()) if name != "hubble"]
    rng, found = np.random.default_rng(3), []
    for i in range(count):
        scene = scenes[i % len(scenes)]
        top, left = (int(rng.integers(0, side - want)) for side, want in zip(scene.shape, size[::-1], strict=False))
        found.append(np.ascontiguousarray(scene[top : top + size[1], left : left + size[0]]))
    return found


def words(alpha: float, size: tuple[int, int] = SIZE, origin=(24, 72), colour=(1.0, 1.0, 1.0)) -> Mark:
    """Letters with smooth edges."""
    cover = np.zeros(size[::-1], np.uint8)
    cv2.putText(cover, "Sample", origin, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 4, cv2.LINE_AA)
    layer = np.broadcast_to(np.float32(colour), (*cover.shape, 3)).copy()
    return Mark((alpha * cover / 255.0).astype(np.float32), layer)


def under(mark: Mark, photos: list[np.ndarray]) -> list[np.ndarray]:
    return [blend(photo, mark)[0] for photo in photos]


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.square((image.astype(np.float64) - clean) / 255).mean() + 1e-12))

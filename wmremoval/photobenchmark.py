"""How long photographs take from end to end, against the network's own time; and what a shrunken look still finds."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from .fonts import load_fonts
from .images import write_image
from .inference import Remover
from .jobs import Places, plan_jobs
from .photos import sample_scenes
from .removal import remove_watermarks
from .watermarks import Mark, WatermarkConfig, blend, draw_mark

LARGE = (3000, 4000)  # height and width of 12 megapixels
COVERED = (0.03, 0.07)  # share of the photograph that the box of "a mark on 5%" takes
LETTERS = (24, 32, 48, 96, 200)  # pixels; sizes of the type whose finding is measured
FOLDER_SIDE = 384  # pixels; of the photographs of the timed folder
ONE_MARK = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.4, 0.8)
)


def large_photograph(scene: str = "coffee") -> np.ndarray:
    """A 12-megapixel photograph, (3000, 4000, 3) uint8: one of scikit-image's, enlarged."""
    return cv2.resize(sample_scenes()[scene], LARGE[::-1], interpolation=cv2.INTER_CUBIC)


def sized_mark(height: int, width: int, letters: float, seed: int) -> Mark:
    """One line of text whose type is `letters` pixels high, somewhere on a photograph."""
    share = letters / min(height, width)
    config = WatermarkConfig(**(vars(ONE_MARK) | {"text_height": (share, share)}))
    return draw_mark(np.random.default_rng(seed), height, width, load_fonts(), (), config)


def time_photographs(remover: Remover) -> dict[str, float]:
    """Seconds for one 12-megapixel photograph, marked on about 5% and unmarked, and for all its native tiles.

    The same photograph in one run; the shares are those of the time of all native tiles.
    """
    clean = large_photograph()
    height, width = LARGE
    marks = (sized_mark(height, width, 200, seed) for seed in range(1000))
    mark = next(mark for mark in marks if COVERED[0] < _box_share(mark.alpha) < COVERED[1])
    watermarked, _ = blend(clean, mark)
    with torch.inference_mode():
        remover.runner.maps(clean[:512, :512])  # the first run of a network is slower
    every = _seconds(lambda: _all_native_tiles(remover, clean))
    marked, unmarked = (_seconds(lambda photo=photo: remover(photo)) for photo in (watermarked, clean))
    return {
        "12 megapixels, every native tile, s": every,
        "12 megapixels, mark on 5%, s": marked,
        "12 megapixels, unmarked, s": unmarked,
        "mark on 5%, share of every tile": marked / every,
        "unmarked, share of every tile": unmarked / every,
    }


def _box_share(alpha: np.ndarray) -> float:
    _, _, w, h = cv2.boundingRect((alpha > 0).view(np.uint8))
    return w * h / alpha.size


def _all_native_tiles(remover: Remover, photo: np.ndarray) -> None:
    height, width = photo.shape[:2]
    for _ in remover.runner.cover((0, 0, height, width), lambda rows, columns: photo[rows, columns], height, width):
        pass


def measure_recall(
    remover: Remover, letters: Sequence[int] = LETTERS, marks: int = 6, scenes: Sequence[str] = ("coffee", "chelsea")
) -> dict[str, float]:
    """Share of marks on 12-megapixel photographs that are found, by the height of their letters.

    A mark counts as found if at least half of its pixels are restored.
    """
    recall = {}
    height, width = LARGE
    photographs = [large_photograph(scene) for scene in scenes]
    for size in letters:
        found = []
        for seed in range(marks):
            watermarked, mask = blend(photographs[seed % len(photographs)], sized_mark(height, width, size, seed))
            result = remover.restore(watermarked)
            found.append(np.count_nonzero(result.mask_uint8[mask > 0]) >= 0.5 * np.count_nonzero(mask))
        recall[f"recall, letters of {size} px"] = float(np.mean(found))
    recall["recall, all"] = float(np.mean(list(recall.values())))
    return recall


def time_folder(remover: Remover, photographs: int = 100) -> dict[str, float]:
    """Throughput over a folder of JPEGs, reading and writing included, against the network's own on the same pictures."""
    scenes = list(sample_scenes().values())
    with TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for i in range(photographs):
            write_image(source / f"{i:03d}.jpg", _folder_photograph(scenes[i % len(scenes)], i), quality=92)
        jobs, _ = plan_jobs([source], Places(Path(folder) / "out"))
        started = time.perf_counter()
        outcomes = list(remove_watermarks(jobs, remover))
        whole = time.perf_counter() - started
    own = sum(outcome.seconds for outcome in outcomes)
    return {
        "folder, photographs a second": photographs / whole,
        "folder, the network's own photographs a second": photographs / own,
        "folder, share of the network's own throughput": own / whole,
    }


def _folder_photograph(scene: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = (min(FOLDER_SIDE, side) for side in scene.shape[:2])
    top, left = rng.integers(scene.shape[0] - height + 1), rng.integers(scene.shape[1] - width + 1)
    view = np.ascontiguousarray(scene[top : top + height, left : left + width])
    if seed % 2:
        return view
    return blend(view, sized_mark(height, width, 0.12 * height, seed))[0]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

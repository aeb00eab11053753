"""Speed of training samples, network, photographs and folders; recall and quality by the size of the mark."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wmremoval.batch.jobs import Places, plan_local_jobs
from wmremoval.batch.run import remove_watermarks
from wmremoval.data.dataset import SampleConfig, WatermarkDataset, resize_and_crop
from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_mark
from wmremoval.data.photos import list_photos, sample_scenes, split_photos
from wmremoval.images import read_image, to_tensor, write_image
from wmremoval.metrics import PSNR_CAP, psnr
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore.fastnet import FastNet
from wmremoval.restore.remover import Remover

Work = Callable[[], object]
LARGE = (3000, 4000)  # pixels; height and width of the large photograph, 12 megapixels
COVERED = (0.03, 0.07)  # share of the photograph inside the box of the "mark on 5%"
RECALL_SCENES = ("coffee", "chelsea")  # scikit-image's photographs for the recall
LETTERS = (24, 32, 48, 96, 200)  # pixels; heights of letters for the recall
FOLDER_SIDE = 384  # pixels; longest side of the photographs in the timed folder
ONE_MARK = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.4, 0.8)
)
SIDE = 256  # pixels; side of one photograph of a mosaic
TIMES = (1, 2, 4, 8)  # photographs per side of a mosaic, and enlargement of its mark
PLAIN = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.3, 0.7)
)


def time_samples(folder: str | Path, image_size: int = 256, samples: int = 300) -> dict[str, float]:
    """Time training triplets and plain decoding for the photographs of a folder, on one core.

    The first pass fills the cache of letters and is not counted.

    Args:
        folder: folder of photographs.
        image_size: side of a triplet, pixels.
        samples: number of photographs at most.

    Returns:
        milliseconds (median and mean per triplet, mean per decoding), triplets per second, and the number and median
        shorter side (pixels) of the photographs.

    Raises:
        ValueError: the folder has no photographs.
    """
    paths = list_photos(folder)[:samples]
    if not paths:
        raise ValueError(f"{folder} holds no photographs; name a folder with --photos")
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        dataset = WatermarkDataset(paths, SampleConfig(image_size=image_size))
        triplets = []
        for dataset.epoch in range(2):
            triplets = [_timed(partial(dataset.__getitem__, i)) for i in range(len(paths))]
        decodings = [_timed(partial(read_image, path)) for path in paths]
        sides = [min(read_image(path).shape[:2]) for path in paths[:50]]
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return {
        "photographs": len(paths),
        "median shorter side, px": int(np.median(sides)),
        "triplet, median ms": float(np.median(triplets)),
        "triplet, mean ms": float(np.mean(triplets)),
        "decoding alone, mean ms": float(np.mean(decodings)),
        "triplets a second": 1000.0 / float(np.mean(triplets)),
    }


def _timed(work: Callable[[], object]) -> float:
    """Duration of one call, milliseconds."""
    started = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - started)


@torch.inference_mode()
def time_network(
    side: int = 512,
    repeats: int = 7,
) -> dict[str, float]:
    """Time `FastNet`, `HeterogeneousUNet` and the bare convolutions of the latter on one image, on the CPU.

    Each convolution of `HeterogeneousUNet` is timed alone, channels-last and in the same precision. Their sum is the
    lower bound for a network of these convolutions. All are timed in turn, once per round; the fastest round counts.

    Memory allocation is included in every time: for each result above 32 MB glibc requests memory from the system,
    which takes up to a sixth of the time in float32. `MALLOC_TOP_PAD_`, `MALLOC_MMAP_THRESHOLD_` and
    `MALLOC_TRIM_THRESHOLD_` above 600 MB avoid this.

    Args:
        side: side of the square image, pixels.
        repeats: counted rounds, at least 1; one uncounted round precedes them.

    Returns:
        milliseconds; GFLOP per second of the convolutions; and the ratio "forward / convolutions", which is 1 if
        everything except the convolutions costs nothing.
    """
    net = HeterogeneousUNet(composite=True, decompose=True).eval().to(memory_format=torch.channels_last)
    fast = FastNet(net)
    image = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    convolutions, multiplications = bare_convolutions(net, image)
    works = {"forward, ms": lambda: fast.parts(image), "plain forward, ms": lambda: net.parts(image)}
    fastest = time_in_turn([*works.values(), *convolutions], repeats)
    times = dict(zip(works, fastest, strict=False))
    alone = sum(fastest[len(works) :])
    return {
        "side, px": float(side),
        "threads": float(torch.get_num_threads()),
        **times,
        "convolutions alone, ms": alone,
        "convolutions, GFLOP a second": 2e-6 * multiplications / alone,
        "forward / convolutions": times["forward, ms"] / alone,
        "plain forward / convolutions": times["plain forward, ms"] / alone,
    }


@torch.inference_mode()
def bare_convolutions(net: HeterogeneousUNet, image: Tensor) -> tuple[list[Work], int]:
    """All convolutions and transpose convolutions of a network, as calls on random inputs of their shapes.

    Args:
        net: a network in evaluation mode; it is not changed.
        image: (B, 3, H, W); it determines the shapes.

    Returns:
        the calls, and the total number of their multiplications, padding included.
    """
    seen: list[tuple[nn.Module, torch.Size, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        # Every weight is used once per position of the output, or of the input of a transpose convolution.
        map_of = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        seen.append((layer, inputs[0].shape, layer.get_parameter("weight").numel() * map_of[:, 0].numel()))

    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    net.parts(image)
    for hook in hooks:
        hook.remove()
    maps = {s: torch.rand(s).contiguous(memory_format=torch.channels_last) for _, s, _ in seen}
    return [_bare(layer, maps[shape]) for layer, shape, _ in seen], sum(count for _, _, count in seen)


def _bare(layer: Any, x: Tensor) -> Work:
    """The convolution of a layer alone."""
    weight = layer.weight.detach().to(memory_format=torch.channels_last, copy=True)
    bias, stride, padding = layer.bias.detach(), layer.stride, layer.padding
    convolve: Any = torch.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else torch.conv2d
    return lambda: convolve(x, weight, bias, stride, padding)


def time_in_turn(works: list[Work], repeats: int) -> list[float]:
    """The fastest of `repeats` runs of each work, milliseconds; one uncounted round precedes them."""
    fastest = [float("inf")] * len(works)
    for round_ in range(repeats + 1):
        for i, work in enumerate(works):
            started = time.perf_counter()
            work()
            if round_:
                fastest[i] = min(fastest[i], 1000.0 * (time.perf_counter() - started))
    return fastest


def large_photograph(scene: str = "coffee") -> np.ndarray:
    """A photograph of scikit-image enlarged to 12 megapixels, (3000, 4000, 3) RGB uint8."""
    return cv2.resize(sample_scenes()[scene], LARGE[::-1], interpolation=cv2.INTER_CUBIC)


def sized_mark(height: int, width: int, letters: float, seed: int) -> Mark:
    """One line of text of `letters` pixels height, at a random position of a photograph."""
    share = letters / min(height, width)
    config = WatermarkConfig(**(vars(ONE_MARK) | {"text_height": (share, share)}))
    return draw_mark(np.random.default_rng(seed), height, width, load_fonts(), (), config)


def time_photographs(remover: Remover) -> dict[str, float]:
    """Time one 12-megapixel photograph: all its native tiles, restored with a mark on about 5%, and unmarked.

    Returns:
        seconds, and the two restorations as shares of the time of all native tiles.
    """
    clean = large_photograph()
    height, width = LARGE
    marks = (sized_mark(height, width, 200, seed) for seed in range(1000))
    mark = next(mark for mark in marks if COVERED[0] < _box_share(mark.alpha) < COVERED[1])
    watermarked, _ = blend(clean, mark)
    with torch.inference_mode():
        remover.net.predict(clean[:512, :512])  # the first run of a network is slower
    every = _seconds(lambda: _all_native_tiles(remover, clean))
    marked, unmarked = (_seconds(partial(remover, photo)) for photo in (watermarked, clean))
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
    for _ in remover.net.predict_tiles((0, 0, height, width), (height, width), lambda block: photo[block]):
        pass


def measure_recall(remover: Remover, letters: Sequence[int] = LETTERS, marks: int = 6) -> dict[str, float]:
    """Share of found marks on 12-megapixel photographs, by the height of their letters (pixels).

    A mark counts as found if at least half of its pixels are restored.
    """
    recall = {}
    height, width = LARGE
    photographs = [large_photograph(scene) for scene in RECALL_SCENES]
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
    """Throughput for a folder of JPEGs, with and without reading and writing; photographs per second."""
    scenes = list(sample_scenes().values())
    with TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for i in range(photographs):
            write_image(source / f"{i:03d}.jpg", _folder_photograph(scenes[i % len(scenes)], i), quality=92)
        jobs = plan_local_jobs([source], Places(Path(folder) / "out"))
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


def measure_scale(remover: Remover, photos: str | Path, marks: int = 12) -> dict[str, float]:
    """Quality for mosaics of N x N photographs under one mark enlarged N times.

    Args:
        remover: from `load_remover`.
        photos: folder of photographs; its test split is used.
        marks: number of text marks, each with photographs of its own.

    Returns:
        medians over the marks for every N: PSNR inside the mask before and after (dB), and the gradient energy
        inside it divided by that of the clean photograph, which is 1 if detail is neither lost nor added.
    """
    paths = split_photos(list_photos(photos))["test"]
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
    """A mosaic of n x n photographs, (n * SIDE, n * SIDE, 3) RGB uint8."""
    tiles = [resize_and_crop(read_image(path), SIDE) for path in paths]
    return np.concatenate([np.concatenate(tiles[row * n : (row + 1) * n], axis=1) for row in range(n)])


def enlarged(seed: int, n: int) -> Mark:
    """One line of text over a mosaic; for other n only its size differs."""
    mark = draw_mark(np.random.default_rng(seed), SIDE, SIDE, load_fonts(), (), PLAIN)
    size = (SIDE * n, SIDE * n)
    alpha = cv2.resize(mark.alpha, size, interpolation=cv2.INTER_CUBIC).clip(0.0, 1.0)
    return Mark(alpha, cv2.resize(mark.colour, size, interpolation=cv2.INTER_LINEAR))


def psnr_inside(image: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> float:
    """PSNR over the pixels of a mask (H, W), dB."""
    where = torch.from_numpy(mask > 0)[None, None]
    return psnr(to_tensor(image)[None], to_tensor(clean)[None], where).clamp_max(PSNR_CAP).item()


def gradient_energy(image: np.ndarray, mask: np.ndarray) -> float:
    """Sum of the squared differences between neighbouring pixels inside a mask."""
    x = image.astype(np.float32)
    squared = np.square(np.diff(x, axis=1)[:-1]).sum(-1) + np.square(np.diff(x, axis=0)[:, :-1]).sum(-1)
    return float(squared[mask[:-1, :-1] > 0].sum())

"""How long the making of training samples takes on one core, beside decoding alone."""

import time
from pathlib import Path

import cv2
import numpy as np
import torch

from .data import SampleConfig, WatermarkDataset
from .images import read_image
from .photos import list_photos


def time_samples(folder: str | Path, image_size: int = 256, samples: int = 300) -> dict[str, float]:
    """Time triplets and bare decoding over the photographs of a folder, on one core.

    The first pass draws every glyph raster and is not counted.

    Returns:
        milliseconds (median and mean of a triplet, mean of a decoding), triplets a second, and the
        median size of the photographs.

    Raises:
        ValueError: the folder holds no photographs.
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
            triplets = [_timed(lambda i=i: dataset[i]) for i in range(len(paths))]
        decodings = [_timed(lambda path=path: read_image(path)) for path in paths]
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


def _timed(work) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - started)

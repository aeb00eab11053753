"""`PhotoStore`: photographs stay decoded in memory from epoch to epoch, up to a limit."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wmremoval.images import read_image


class PhotoStore:
    """Decoded photographs by their path, kept in memory while there is room.

    Loader processes that are forked after `fill` share the photographs. Without it, or spawned, each process keeps its own.

    Args:
        shrink_to: pixels; see `read_image`.
        megabytes: memory for decoded photographs; 0: none are kept.
    """

    def __init__(self, shrink_to: int, megabytes: float):
        self.shrink_to, self.free_bytes = shrink_to, 1e6 * megabytes
        self.decoded: dict[Path, np.ndarray] = {}

    def __getitem__(self, path: Path) -> np.ndarray:
        """A photograph, (H, W, 3) RGB uint8, read-only if it is kept.

        Raises:
            ImageError: see `read_image`.
        """
        return self.decoded[path] if path in self.decoded else self._keep(path, self._decode(path))

    def fill(self, paths: Iterable[Path]) -> "PhotoStore":
        """Decode photographs on all cores until the memory is full; the others are decoded for every sample.

        Raises:
            ImageError: see `read_image`.
        """
        if not self.free_bytes:
            return self
        paths, step = list(paths), 4 * (os.cpu_count() or 1)
        with ThreadPoolExecutor(step // 4) as pool, tqdm(total=len(paths), desc="Decoding", leave=False) as bar:
            for start in range(0, len(paths), step):
                some = paths[start : start + step]
                for path, photo in zip(some, pool.map(self._decode, some), strict=True):
                    self._keep(path, photo)
                bar.update(len(some))
                if not self.decoded.keys() >= set(some):
                    break
        self.free_bytes = 0  # a loader process keeps no more, since it could not share it
        return self

    def _decode(self, path: Path) -> np.ndarray:
        return read_image(path, shrink_to=self.shrink_to)

    def _keep(self, path: Path, photo: np.ndarray) -> np.ndarray:
        if photo.nbytes <= self.free_bytes:
            self.free_bytes -= photo.nbytes
            photo.flags.writeable = False
            self.decoded[path] = photo
        return photo

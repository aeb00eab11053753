"""Photographs that stay decoded in memory from epoch to epoch, as many as a budget holds."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wmremoval.images import read_image


class PhotoStore:
    """Gives photographs by their path: from memory if they are there, else decoded, and kept while there is room.

    Loader processes that are forked after `fill` share what it holds; each would else keep a part of its own.

    Args:
        shrink_to: pixels; see `read_image`.
        megabytes: room for decoded photographs; 0: none are kept.
    """

    def __init__(self, shrink_to: int, megabytes: float):
        self.shrink_to, self.room = shrink_to, megabytes * 1e6
        self.held: dict[Path, np.ndarray] = {}

    def __getitem__(self, path: Path) -> np.ndarray:
        """(H, W, 3) RGB uint8, not to be written to.

        Raises:
            ImageError: see `read_image`.
        """
        return self.held[path] if path in self.held else self._keep(path, self._decode(path))

    def fill(self, paths: Iterable[Path]) -> "PhotoStore":
        """Decode photographs on all cores until there is no room left; what does not fit is decoded when it is asked for."""
        if not self.room:
            return self
        paths, step = list(paths), 4 * (os.cpu_count() or 1)
        with ThreadPoolExecutor(step // 4) as pool, tqdm(total=len(paths), desc="Decoding", leave=False) as bar:
            for start in range(0, len(paths), step):
                some = paths[start : start + step]
                for path, photo in zip(some, pool.map(self._decode, some), strict=True):
                    self._keep(path, photo)
                bar.update(len(some))
                if not self.held.keys() >= set(some):
                    break
        self.room = 0  # what the processes would keep beyond this, each would keep for itself
        return self

    def _decode(self, path: Path) -> np.ndarray:
        return read_image(path, shrink_to=self.shrink_to)

    def _keep(self, path: Path, photo: np.ndarray) -> np.ndarray:
        if photo.nbytes <= self.room:
            self.room -= photo.nbytes
            photo.flags.writeable = False
            self.held[path] = photo
        return photo

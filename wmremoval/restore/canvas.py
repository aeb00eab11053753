"""The canvas of a photograph: restored pixels and the mask of changes; write and undo."""

from typing import NamedTuple

import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.pyramid import STRIP, Block


class Kept(NamedTuple):
    """A block of a canvas at some time."""

    block: Block
    restored: np.ndarray  # (h, w, 3) uint8
    changed: np.ndarray  # (h, w) uint8


class Canvas:
    """A copy of a photograph that is restored block by block.

    Args:
        photo: (H, W, 3) uint8; never changed.
        mask: (H, W) uint8, the user's own; nothing changes where it is 0. None: no such limit.
    """

    def __init__(self, photo: np.ndarray, mask: np.ndarray | None = None):
        self.photo, self.mask = photo, mask
        self.restored, self.changed = photo.copy(), np.zeros(photo.shape[:2], np.uint8)  # changed: strength, 0..255
        self.is_grey = is_grey(photo)

    def blend(self, block: Block, view: np.ndarray, gate: np.ndarray) -> None:
        """Write a restored block.

        Args:
            block: rows and columns of the photograph.
            view: (h, w, 3) RGB float32 in [0, 1], blended into the photograph already.
            gate: (h, w) in [0, 1], the strength of the change.
        """
        if self.mask is not None:
            photo, inside = self.photo[block] / np.float32(255.0), self.mask[block] > 0
            gate = gate * (self.mask[block] / np.float32(255.0))
            view = photo + inside[..., None] * (view - photo)
        self.write(block, to_uint8(view), to_uint8(gate))

    def write(self, block: Block, new: np.ndarray, strength: np.ndarray) -> None:
        """Put the pixels of a block, uint8, into the result where they differ and `strength`, uint8, is not 0."""
        new = self._in_its_colours(new)
        here = (new != self.photo[block]).any(axis=-1) & (strength > 0)
        self.restored[block][here] = new[here]
        self.changed[block][here] = strength[here]

    def write_over(self, block: Block, new: np.ndarray, cover: np.ndarray) -> None:
        """Put pixels over what was restored before, where they differ from it.

        Args:
            block: rows and columns of the photograph.
            new: (h, w, 3) uint8.
            cover: (h, w) in [0, 1]; where it is 0 nothing changes.
        """
        new = self._in_its_colours(new)
        here = (cover > 0.0) & (new != self.restored[block]).any(axis=-1)
        if self.mask is not None:
            here &= self.mask[block] > 0
        self.restored[block][here] = new[here]
        self.changed[block][here] = np.maximum(self.changed[block], to_uint8(cover))[here]

    def undo(self, block: Block, here: np.ndarray) -> None:
        """Put pixels of a block back as they were, where `here` (h, w) is true."""
        self.restored[block][here] = self.photo[block][here]
        self.changed[block][here] = 0

    def keep(self, block: Block) -> Kept:
        """A copy of what a block is now, for `put_back`."""
        return Kept(block, self.restored[block].copy(), self.changed[block].copy())

    def put_back(self, kept: Kept) -> None:
        """Make a block what it was."""
        self.restored[kept.block], self.changed[kept.block] = kept.restored, kept.changed

    def _in_its_colours(self, new: np.ndarray) -> np.ndarray:
        """Pixels (h, w, 3) uint8; without colour if the photograph has none."""
        if not self.is_grey:
            return new
        grey = to_uint8(new.mean(axis=-1, keepdims=True, dtype=np.float32) / np.float32(255.0))
        return np.repeat(grey, 3, axis=-1)


def is_grey(photo: np.ndarray) -> bool:
    """True if R = G = B in every pixel of (H, W, 3) uint8; a photograph with colour is told by its first rows."""
    parts = (photo[top : top + STRIP] for top in range(0, len(photo), STRIP))
    return all((part == part[..., :1]).all() for part in parts)

"""A mask that a user drew, in any form that editors write, fitted to its photograph."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wmremoval.images import TURNS, ImageError
from wmremoval.photofile.convert import converted
from wmremoval.photofile.errors import shown
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.pixels import PixelKind
from wmremoval.photofile.read import read_photo

INSIDE = 128  # 0 to 255; from half on, a pixel is of the mask, so that an editor's near-black is not
GROW = 2  # pixels by which a mask grows: the soft edge of letters it is drawn tight around. Chosen, not measured.
ROUNDING = 1.0  # pixels of the mask by which its sides may miss the photograph's proportions. Chosen, not measured.
MOST_COVERED = 0.5  # share of the photograph above which a note asks if black and white are the right way round. Chosen, not measured.


def read_user_mask(path: Path, photo: Photo, grow: int = GROW) -> tuple[np.ndarray, list[str]]:
    """Read a user's mask: white or any bright colour on the mark, black or nothing elsewhere.

    Alpha counts as the mask where the colours are dark everywhere; otherwise transparent pixels are outside. A mask of
    another size with the photograph's proportions is scaled; one in the orientation in which the photograph is stored
    is turned.

    Args:
        path: a file that `read_photo` reads.
        photo: the photograph.
        grow: pixels by which the mask is widened.

    Returns:
        (H, W) uint8, 0 or 255, and notes on what was done to it.

    Raises:
        ImageError: one line: the file cannot be read, or its proportions are not the photograph's.
    """
    drawn = read_photo(path)
    notes = []
    level = _level(drawn)
    width, height = photo.size
    if not _alike(level, (height, width)) and photo.turn >= 5 and _alike(level.T, (height, width)):
        level = np.asarray(Image.fromarray(level).transpose(TURNS[photo.turn]))
        notes.append("the mask was turned upright as the photograph is")
    if not _alike(level, (height, width)):
        raise ImageError(
            f"{shown(path)}: the mask is {drawn.size[0]} x {drawn.size[1]} and the photograph {width} x {height}; "
            "make them the same size"
        )
    if level.shape != (height, width):
        notes.append(f"the mask was scaled from {level.shape[1]} x {level.shape[0]} to {width} x {height}")
        level = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.where(level >= INSIDE, 255, 0).astype(np.uint8)
    share = np.count_nonzero(mask) / mask.size
    if not share:
        notes.append("the mask is black all over: nothing is changed")
    elif share > MOST_COVERED:
        notes.append(f"the mask covers {100 * share:.0f}% of the photograph; white is what may change")
    return _grown(mask, grow), notes


def _level(drawn: Photo) -> np.ndarray:
    """(H, W) uint8: the brightest of the three colours, 0 where transparent; the alpha if that is dark all over."""
    if drawn.native is None:
        return drawn.rgb.max(axis=-1)
    rgba = converted(drawn.kind, drawn.native, PixelKind("rgb", 8, True))
    alpha = rgba[..., 3]
    level = np.where(alpha < INSIDE, 0, rgba[..., :3].max(axis=-1))
    return alpha if level.max() < INSIDE and alpha.min() < INSIDE else level


def _alike(level: np.ndarray, shape: tuple[int, int]) -> bool:
    """True if two pictures have the same proportions, up to the rounding of a mask's sides to whole pixels."""
    (h, w), (height, width) = level.shape, shape
    scale = max(h / height, w / width)
    return abs(height * scale - h) <= ROUNDING and abs(width * scale - w) <= ROUNDING


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    if pixels == 0:
        return mask
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2))

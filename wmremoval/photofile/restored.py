"""The restored samples of a photograph, in the form in which its file stores them."""

from collections.abc import Iterator

import cv2
import numpy as np

from wmremoval.photofile.convert import luma, restored_samples
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.pixels import strips

CLEAR = 0.05  # share of full opacity; surroundings below it count as transparent. Not measured.
NEAR_GROUND = 16  # grey levels; a restored colour that is nearer to the ground is the ground. Not measured.
MARGIN = 2  # pixels of a letter's soft edge that a mask may leave out. Not measured.


def restored_strips(
    photo: Photo, restored: np.ndarray, mask: np.ndarray, multiple: int = 1
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the restored samples of a photograph in strips from top to bottom, with the rows of each.

    Args:
        photo: the photograph.
        restored: (H, W, 3) RGB uint8, upright; may be `photo.rgb` itself after a change in place.
        mask: (H, W); pixels of value 0 keep their samples.
        multiple: each strip begins at a multiple of this many rows.

    Yields:
        the rows, and their samples (rows, W, C).

    Raises:
        ValueError: a shape or type differs from the photograph's.
    """
    height, width = photo.rgb.shape[:2]
    if restored.shape != (height, width, 3) or restored.dtype != np.uint8 or mask.shape != (height, width):
        raise ValueError(f"expected ({height}, {width}, 3) uint8 and a ({height}, {width}) mask, got {restored.shape}"
                         f" {restored.dtype} and {mask.shape}")  # fmt: skip
    alpha = _surrounding_alpha(photo, restored, mask) if photo.kind.alpha and photo.native is not None else None
    for rows in strips(height, width, multiple):
        new = restored[rows]
        if photo.native is not None:
            samples = restored_samples(photo.kind, photo.native[rows], new, mask[rows])
            if alpha is not None:
                samples = np.concatenate([samples[..., :-1], np.minimum(samples[..., -1], alpha[rows])[..., None]], -1)
            yield rows, samples
            continue
        if restored is not photo.rgb:
            new = np.where((mask[rows] != 0)[..., None], new, photo.rgb[rows])
        yield rows, luma(new)[..., None] if photo.kind.colour == "grey" else new


def _surrounding_alpha(photo: Photo, restored: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """(H, W) alpha of the surroundings where a letter stood over transparent ground, elsewhere the photograph's own.

    A pixel inside the mask counts as such a letter if the nearest pixel outside of it is transparent, and if the pixel
    is translucent or was restored to the colour of the ground. None if there is no such pixel.
    """
    assert photo.native is not None  # it has the alpha channel
    alpha, top = photo.native[..., -1], photo.kind.top
    left, top_row, width, height = cv2.boundingRect((mask != 0).astype(np.uint8))
    block = (
        slice(max(0, top_row - 2 * MARGIN), top_row + height + 2 * MARGIN),
        slice(max(0, left - 2 * MARGIN), left + width + 2 * MARGIN),
    )
    inside = (mask[block] != 0).astype(np.uint8)
    if not inside.any() or not (alpha[block][inside != 0] > 0).any():
        return None
    covered = cv2.dilate(inside, np.ones((2 * MARGIN + 1,) * 2, np.uint8))
    if covered.all():
        return None
    labels = cv2.distanceTransformWithLabels(covered, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    of_label = np.zeros(labels.max() + 1, alpha.dtype)
    of_label[labels[covered == 0]] = alpha[block][covered == 0]
    nearest = of_label[labels]
    to_ground = np.abs(restored[block].astype(np.int16) - photo.kind.ground).max(axis=-1) <= NEAR_GROUND
    to_ground &= (restored[block] != photo.rgb[block]).any(axis=-1)
    letter = (inside != 0) & (nearest <= CLEAR * top) & ((alpha[block] < top) | to_ground)
    if not letter.any():
        return None
    result = alpha.copy()
    result[block] = np.where(letter, np.minimum(nearest, alpha[block]), alpha[block])
    return result

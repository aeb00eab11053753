"""The network's prediction of a photograph as arrays, and arithmetic that all later steps use."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from wmremoval.model import ALPHA_MOST

# Mask probabilities up to which a pixel stays as it is, and from which it is replaced by the restored one; blended
# between. Tuned on validation photographs on 2026-11-22; the numbers were not kept.
GATE_FROM, GATE_FULL = 0.3, 0.7
CONTRAST_RADIUS = 4  # pixels to each side over which alpha is computed from a restoration. Not measured.


class Prediction(NamedTuple):
    """The prediction of a view, float32 arrays of one height and width."""

    photo: np.ndarray  # (h, w, 3) RGB in [0, 1]: the view as the network was given it
    image: np.ndarray  # (h, w, 3) RGB in [0, 1]: the restored photograph
    mask: np.ndarray  # (h, w) in [0, 1]: probability of a mark
    alpha: np.ndarray  # (h, w) in [0, 1]
    colour: np.ndarray  # (h, w, 3) RGB in [0, 1]: W, the mark's own colour
    # (h, w) in [0, 1]: share of the network's own fill in the image; None for a network without a mark head
    trust: np.ndarray | None = None

    def part(self, where: Any) -> "Prediction":
        """The prediction of a part of the view, an index of (h, w)."""
        return Prediction._make(None if x is None else x[where] for x in self)


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """A linear ramp: 0 up to `low`, 1 from `high` on."""
    return ((x - low) / (high - low)).clip(0.0, 1.0)


def box_around(found: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of the true pixels of (h, w), widened by `margin` pixels.

    Most marks fill only a part of a tile; work in the box saves time.
    """
    x, y, w, h = cv2.boundingRect(found.astype(np.uint8))
    return slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)


def unblend(photo: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """`model.invert` for arrays: photo and colour (h, w, 3), alpha (h, w); RGB in [0, 1]."""
    alpha = np.minimum(alpha, ALPHA_MOST)[..., None]
    return ((photo - alpha * colour) / (1.0 - alpha)).clip(0.0, 1.0)


def average(one: Prediction, other: Prediction) -> Prediction:
    """The average of two predictions of one view: plain for mask and image, weighted by the masks for the rest."""
    weight, other_weight = one.mask + 1e-3, other.mask + 1e-3
    share = weight / (weight + other_weight)

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        part = share if a.ndim == 2 else share[..., None]
        return part * a + (1.0 - part) * b

    alpha, colour, trust = (mix(getattr(one, name), getattr(other, name)) for name in ("alpha", "colour", "trust"))
    mask, image = (one.mask + other.mask) / 2, (one.image + other.image) / 2
    return one._replace(image=image, mask=mask, alpha=alpha, colour=colour, trust=trust)


def disagreement(one: Prediction, other: Prediction) -> np.ndarray:
    """The disagreement of two predictions of one view, (h, w): the squared difference of alpha plus that of colour."""
    return np.square(one.alpha - other.alpha) + np.square(one.colour - other.colour).mean(axis=-1)


def mark_from_contrast(photo: np.ndarray, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and colour of a mark, computed from a restoration alone, for networks that do not predict them.

    In a window, J = (1 - alpha) I + alpha W is a line over the restored I, and its slope is 1 - alpha.

    Args:
        photo, image: (h, w, 3) RGB float32 in [0, 1]: before and after restoration.
        mask: (h, w) in [0, 1], probability of a mark.

    Returns:
        alpha (h, w) and colour (h, w, 3), in [0, 1].
    """
    side = (2 * CONTRAST_RADIUS + 1,) * 2
    weight = mask[..., None] + 1e-4
    total = cv2.blur(weight, side)[..., None]
    mean_i, mean_j = (cv2.blur(x * weight, side) / total for x in (image, photo))
    variance = (cv2.blur(image * image * weight, side) / total - mean_i**2).sum(axis=-1)
    covariance = (cv2.blur(image * photo * weight, side) / total - mean_i * mean_j).sum(axis=-1)
    alpha = (1.0 - (covariance + 1e-4) / (variance + 1e-4)).clip(0.0, 1.0) * (mask > GATE_FROM)
    colour = (mean_j - (1.0 - alpha[..., None]) * mean_i) / np.maximum(alpha, 0.05)[..., None]
    return alpha.astype(np.float32), colour.clip(0.0, 1.0).astype(np.float32)

"""Repainting from the surroundings, and the composition of a result from it and from what is unblended."""

import cv2
import numpy as np

from .images import to_uint8
from .inpainting import carried_inwards
from .maps import GATE_FROM, GATE_FULL, Maps, ramp, unblend

INPAINT_PIXELS = 2_000_000  # above which a block is repainted on a shrunken view: bounds the memory to 0.5 GB
INPAINT_MARGIN = 64  # pixels around a block that it is repainted from
FILL_FOUND = 0.7  # mask probability of what is repainted from its surroundings
FILL_ALPHA = 0.6, 0.9  # alpha at which unblending begins to give way to repainting, and has
FILL_DOUBTED = 0.5, 0.8  # the same where the network is doubted: 1 / (1 - alpha) is what its errors grow by
OPAQUE = 0.85  # alpha from which a stroke's rim, missed by the mask, would be carried into it


def surroundings(maps: Maps) -> np.ndarray | None:
    """The photograph, (h, w, 3) RGB in [0, 1], with all that was found repainted from around it; None: nothing was found.

    Opaque strokes are widened by a pixel first.
    """
    found = (maps.mask > FILL_FOUND).astype(np.uint8)
    if not found.any():
        return None
    found |= cv2.dilate(found * (maps.alpha > OPAQUE).astype(np.uint8), np.ones((3, 3), np.uint8))
    return carried_inwards(maps.photo, found)


def compose(
    maps: Maps,
    around: np.ndarray,
    joined: np.ndarray | float = 0.0,
    doubt: np.ndarray | float = 1.0,
    edges: np.ndarray | None = None,
) -> Maps:
    """Compose the result again: unblended where the photograph shows through, else carried in, behind a gate that is firm.

    A network this small, briefly trained, repaints worse than diffusion does; and where the pixels of a mark
    agree on what it is, unblending is to be trusted more than either, but for the mark's edges.

    Args:
        maps: what the network said, with its trust.
        around: see `surroundings`.
        joined, doubt, edges: (h, w) in [0, 1]; see `consensus.Agreement`.
    """
    hidden = (1.0 - doubt) * ramp(maps.alpha, *FILL_ALPHA) + doubt * ramp(maps.alpha, *FILL_DOUBTED)
    share = np.maximum(maps.trust * (1.0 - joined), hidden)[..., None]
    inside = unblend(maps.photo, maps.alpha, maps.colour) * (1.0 - share) + around * share
    gate = ramp(maps.mask, GATE_FROM, GATE_FULL)[..., None]
    image = maps.photo + gate * (inside - maps.photo)
    if edges is not None:
        image += gate * edges[..., None] * (carried_inwards(image, edges) - image)
    return maps._replace(image=image)


def repaint(photo: np.ndarray, block: tuple[slice, slice], strength: np.ndarray) -> np.ndarray:
    """Repaint a block of a photograph, uint8, where `strength` (h, w) uint8 is not 0, from its surroundings: uint8."""
    wide = tuple(slice(max(0, part.start - INPAINT_MARGIN), part.stop + INPAINT_MARGIN) for part in block)
    view = photo[wide] / np.float32(255.0)
    hidden = np.zeros(view.shape[:2], np.uint8)
    cut = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(block, wide, strict=True))
    hidden[cut] = 255 * (strength > 0)
    factor = 1
    while hidden.size / factor**2 > INPAINT_PIXELS:
        factor *= 2
    if factor == 1:
        return to_uint8(carried_inwards(view, hidden)[cut])
    size = tuple(-(-side // factor) for side in hidden.shape[::-1])
    small, touched = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (view, hidden / np.float32(255.0)))
    filled = cv2.resize(carried_inwards(small, touched), hidden.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return to_uint8(filled[cut])

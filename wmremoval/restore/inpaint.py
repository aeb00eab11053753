"""Inpainting from the surroundings, and the composition of a result from it and from what is unblended."""

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, Prediction, ramp, unblend

INPAINT_PIXELS = (
    2_000_000  # pixels of a block above which it is inpainted on a shrunken view: bounds the memory to 0.5 GB
)
INPAINT_MARGIN = 64  # pixels around a block from which it is inpainted
FILL_THRESHOLD = 0.7  # mask probability of the pixels that are inpainted
FILL_ALPHA = 0.6, 0.9  # alpha at which unblending begins to give way to inpainting, and has given way
FILL_ALPHA_UNCERTAIN = (
    0.5,
    0.8,
)  # the same where the network is uncertain; unblending multiplies its errors by 1 / (1 - alpha)
OPAQUE_STROKE = 0.85  # alpha from which a stroke's rim, missed by the mask, would be carried into it
EDGE_SIGMA = 0.5  # pixels; of what calms grain before edges are looked for
DIRECTION_SIGMA = 5.0  # pixels over which the direction of edges is averaged: they run on through a stroke
FLAT_GRADIENT = (
    0.004  # gradient, of RGB in [0, 1] a pixel, from which nothing is carried across an edge: one grey level
)
JACOBI_SWEEPS = 24  # steps of diffusion at each level
INPAINT_REACH = 48  # pixels around what is hidden that are looked at
NEIGHBOURS = (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)  # row and column steps
COARSEST_SIDE = 2  # pixels; side of the coarsest level


def surroundings(maps: Prediction) -> np.ndarray | None:
    """The photograph, (h, w, 3) RGB in [0, 1], with the predicted mark inpainted from its surroundings; None: no pixel is marked.

    Opaque strokes are widened by a pixel first.
    """
    found = (maps.mask > FILL_THRESHOLD).astype(np.uint8)
    if not found.any():
        return None
    found |= cv2.dilate(found * (maps.alpha > OPAQUE_STROKE).astype(np.uint8), np.ones((3, 3), np.uint8))
    return inpaint(maps.photo, found)


def compose(
    maps: Prediction,
    around: np.ndarray,
    joined: np.ndarray | float = 0.0,
    doubt: np.ndarray | float = 1.0,
    edges: np.ndarray | None = None,
) -> Prediction:
    """Compose the result again: unblended where the photograph shows through, else carried in, behind a gate that is firm.

    Diffusion inpaints better than this small network; and where the pixels of a mark
    agree on what it is, unblending is to be trusted more than either, but for the mark's edges.

    Args:
        maps: what the network said, with its trust.
        around: see `surroundings`.
        joined, doubt, edges: (h, w) in [0, 1]; see `fit_mark.MarkFit`.
    """
    hidden = (1.0 - doubt) * ramp(maps.alpha, *FILL_ALPHA) + doubt * ramp(maps.alpha, *FILL_ALPHA_UNCERTAIN)
    share = np.maximum(maps.trust * (1.0 - joined), hidden)[..., None]
    inside = unblend(maps.photo, maps.alpha, maps.colour) * (1.0 - share) + around * share
    gate = ramp(maps.mask, GATE_FROM, GATE_FULL)[..., None]
    image = maps.photo + gate * (inside - maps.photo)
    if edges is not None:
        image += gate * edges[..., None] * (inpaint(image, edges) - image)
    return maps._replace(image=image)


def inpaint_block(photo: np.ndarray, block: tuple[slice, slice], strength: np.ndarray) -> np.ndarray:
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
        return to_uint8(inpaint(view, hidden)[cut])
    size = tuple(-(-side // factor) for side in hidden.shape[::-1])
    small, touched = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (view, hidden / np.float32(255.0)))
    filled = cv2.resize(inpaint(small, touched), hidden.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return to_uint8(filled[cut])


def inpaint(photo: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Fill what is hidden by edge-enhancing diffusion, begun on a shrunken view of itself.

    The hidden pixels are the steady state of a diffusion that runs along edges and hardly across them (Weickert,
    Anisotropic Diffusion in Image Processing, 1998, with the non-negative stencil of its section 3.4.2; for filling
    gaps: Weickert and Welk 2006). Without edges it is the membrane through the surroundings, the best guess for
    images whose spectrum falls as 1 / f^2.

    Args:
        photo: (h, w, 3) RGB float32 in [0, 1].
        hidden: (h, w), not 0 where the photograph is not to be seen.

    Returns:
        (h, w, 3) RGB float32 in [0, 1]; what is not hidden as it was. Where all is hidden, the photograph.
    """
    hidden = (hidden != 0).astype(np.uint8)
    if not hidden.any() or hidden.all():
        return photo.copy()
    left, top, width, height = cv2.boundingRect(hidden)
    box = (
        slice(max(0, top - INPAINT_REACH), top + height + INPAINT_REACH),
        slice(max(0, left - INPAINT_REACH), left + width + INPAINT_REACH),
    )
    part, filled = photo[box], photo.copy()
    filled[box] = _filled(np.dstack([part, np.zeros_like(part[..., :1])]), hidden[box])[..., :3]
    return filled


def _filled(photo: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The same for (h, w, 4), whose fourth channel only aligns pixels in memory: gathering them is twice as fast."""
    if not hidden.any():
        return photo
    height, width = hidden.shape
    if min(height, width) <= COARSEST_SIDE:
        filled = photo.copy()
        filled[hidden > 0] = photo[hidden == 0].mean(axis=0)
        return filled
    known = (1 - hidden).astype(np.float32)
    half = (-(-width // 2), -(-height // 2))
    weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(photo * known[..., None], half, interpolation=cv2.INTER_AREA) / (weight + 1e-12)[..., None]
    coarse = _filled(coarse, (weight <= 1e-6).astype(np.uint8))
    filled = photo.copy()
    cv2.copyTo(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), hidden, filled)
    return _diffused(filled, hidden)


def _diffused(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Sweeps of Jacobi's method over the hidden pixels of (h, w, 4); directions as they are at first."""
    height, width = hidden.shape
    rows, columns = np.nonzero(hidden)
    around = [
        (rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1) for down, right in NEIGHBOURS
    ]
    diffused = image.copy()
    pixels, here = diffused.reshape(-1, 4), rows * width + columns
    shares = _shares(image[..., :3], rows, columns)
    for _ in range(JACOBI_SWEEPS):
        mean = shares[0] * pixels.take(around[0], axis=0)
        for share, neighbour in zip(shares[1:], around[1:], strict=True):
            mean += share * pixels.take(neighbour, axis=0)
        pixels[here] = mean
    return diffused


def _shares(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The weight of each neighbour of some pixels: (8, n, 1), in the order of `NEIGHBOURS`, 1 in sum."""
    calm = cv2.GaussianBlur(image, (0, 0), EDGE_SIGMA)
    right, down = (cv2.Sobel(calm, -1, *axis) / 8.0 for axis in ((1, 0), (0, 1)))
    tensor = np.dstack([(a * b).sum(axis=-1) for a, b in ((right, right), (down, down), (right, down))])
    xx, yy, xy = cv2.GaussianBlur(tensor, (0, 0), DIRECTION_SIGMA)[rows, columns].T
    length = np.hypot(xx - yy, 2.0 * xy) + 1e-12
    across = 1.0 / (1.0 + (xx + yy + length) / 2.0 / FLAT_GRADIENT**2)  # diffusivity across the edge; 1 along it
    mean, lean = (1.0 + across) / 2.0, (1.0 - across) / 2.0 / length
    a, b, c = mean - lean * (xx - yy), -2.0 * lean * xy, mean + lean * (xx - yy)  # the diffusion tensor a, b; b, c
    level, upright = (np.maximum(x - np.abs(b), 0.0) for x in (a, c))
    falling, rising = np.maximum(b, 0.0), np.maximum(-b, 0.0)
    shares = np.stack([falling, upright, rising, level, level, rising, upright, falling])
    return (shares / shares.sum(axis=0))[..., None].astype(np.float32)

"""Inpainting from the surroundings, and the composition of a result from inpainted and unblended pixels."""

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, Prediction, ramp, unblend

# The whole step was measured ("inpainting from the surroundings" in outputs/measurements/README.md). Its single
# values were not measured, except where a comment names a measurement. "On validation" means the mean over validation
# photographs.
INPAINT_PIXELS = 2_000_000  # pixels of a block, above which it is inpainted in a shrunken view; limits memory to 0.5 GB
INPAINT_MARGIN = 64  # pixels; width of the border around a block from which the block is inpainted
# Mask probability above which a pixel is inpainted. Tuned on validation on 2026-11-23; the numbers were not kept.
FILL_THRESHOLD = 0.7
# Alpha at which unblending begins to give way to inpainting, and from which only inpainting counts. A tuning on
# validation gave 0.5 for the first (2026-11-22, numbers not kept). It went back to 0.6, since unblending is exact
# where alpha is.
FILL_ALPHA = 0.6, 0.9
# The same where the network is uncertain: unblending multiplies its errors by 1 / (1 - alpha). And the alpha above
# which strokes are widened by a pixel: inpainting would carry a rim that the mask has missed into the stroke.
# Together +0.17 dB on validation, 2026-11-23.
FILL_ALPHA_UNCERTAIN = 0.5, 0.8
OPAQUE_STROKE = 0.85
EDGE_SIGMA = 0.5  # pixels; standard deviation of the blur against grain, before edges are searched
DIRECTION_SIGMA = 5.0  # pixels; standard deviation of the mean over edge directions: edges run on through a stroke
FLAT_GRADIENT = 0.004  # RGB in [0, 1] per pixel, one grey level: gradient that halves the diffusion across an edge
JACOBI_SWEEPS = 24  # steps of the diffusion at each level
INPAINT_REACH = 48  # pixels; width of the border around the hidden pixels that the diffusion reads
NEIGHBOURS = (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)  # offsets: rows and columns
COARSEST_SIDE = 2  # pixels; shorter side of the coarsest level


def surroundings(prediction: Prediction) -> np.ndarray | None:
    """Inpaint the predicted mark from its surroundings; opaque strokes are widened by a pixel first.

    Returns:
        the photograph without the mark, (h, w, 3) RGB in [0, 1]; None if no pixel is marked.
    """
    found = (prediction.mask > FILL_THRESHOLD).astype(np.uint8)
    if not found.any():
        return None
    opaque = cv2.dilate(found * (prediction.alpha > OPAQUE_STROKE).astype(np.uint8), np.ones((3, 3), np.uint8))
    return inpaint(prediction.photo, np.maximum(found, opaque))


def compose(
    prediction: Prediction,
    inpainted: np.ndarray,
    joined: np.ndarray | float = 0.0,
    uncertainty: np.ndarray | float = 1.0,
    edges: np.ndarray | None = None,
) -> Prediction:
    """Compose the image again: unblended where the photograph shows through the mark, else inpainted.

    Diffusion inpaints better than this small network. Where the pixels of a mark agree on one colour and strength,
    unblending is more reliable than both, except at the mark's edges.

    Args:
        prediction: of the network or the fit, with trust.
        inpainted: (h, w, 3) RGB in [0, 1], from `surroundings`.
        joined, uncertainty, edges: (h, w) in [0, 1]; see `fit_mark.MarkFit`.
    """
    hidden = (1.0 - uncertainty) * ramp(prediction.alpha, *FILL_ALPHA)
    hidden = hidden + uncertainty * ramp(prediction.alpha, *FILL_ALPHA_UNCERTAIN)
    assert prediction.trust is not None
    share = np.maximum(prediction.trust * (1.0 - joined), hidden)[..., None]
    unblended = unblend(prediction.photo, prediction.alpha, prediction.colour)
    inside = unblended * (1.0 - share) + inpainted * share
    gate = ramp(prediction.mask, GATE_FROM, GATE_FULL)[..., None]
    image = prediction.photo + gate * (inside - prediction.photo)
    if edges is not None:
        image += gate * edges[..., None] * (inpaint(image, edges) - image)
    return prediction._replace(image=image)


def inpaint_block(photo: np.ndarray, block: tuple[slice, slice], strength: np.ndarray) -> np.ndarray:
    """Inpaint a block of a photograph from its surroundings.

    Args:
        photo: (H, W, 3) RGB uint8; not changed.
        block: rows and columns of the photograph.
        strength: (h, w) uint8; pixels are inpainted where it is not 0.

    Returns:
        the block, (h, w, 3) RGB uint8.
    """
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
    size = -(-view.shape[1] // factor), -(-view.shape[0] // factor)
    small, touched = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (view, hidden / np.float32(255.0)))
    filled = cv2.resize(inpaint(small, touched), hidden.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return to_uint8(filled[cut])


def inpaint(photo: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Fill the hidden pixels by edge-enhancing diffusion, coarse to fine.

    The hidden pixels become the steady state of a diffusion along edges that hardly crosses them (Weickert, Anisotropic
    Diffusion in Image Processing, 1998, with the non-negative stencil of section 3.4.2; for filling gaps: Weickert and
    Welk 2006). Without edges this is the membrane through the surroundings: the best guess for images whose spectrum
    falls as 1 / f^2.

    Args:
        photo: (h, w, 3) RGB float32 in [0, 1].
        hidden: (h, w); not 0 at the pixels to be filled.

    Returns:
        a copy, (h, w, 3) RGB float32 in [0, 1], in which only hidden pixels differ; none if all pixels are hidden.
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
    """`inpaint` for (h, w, 4). The fourth channel aligns pixels in memory, which makes gathering them twice as fast."""
    if not hidden.any():
        return photo
    height, width = hidden.shape
    if min(height, width) <= COARSEST_SIDE:
        filled = photo.copy()
        filled[hidden > 0] = photo[hidden == 0].mean(axis=0)
        return filled
    visible = (1 - hidden).astype(np.float32)
    half = (-(-width // 2), -(-height // 2))
    weight = cv2.resize(visible, half, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(photo * visible[..., None], half, interpolation=cv2.INTER_AREA) / (weight + 1e-12)[..., None]
    coarse = _filled(coarse, (weight <= 1e-6).astype(np.uint8))
    filled = photo.copy()
    cv2.copyTo(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), hidden, filled)
    return _diffused(filled, hidden)


def _diffused(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Diffuse the hidden pixels of (h, w, 4) by sweeps of Jacobi's method; the directions of edges stay fixed."""
    height, width = hidden.shape
    rows, columns = np.nonzero(hidden)
    neighbours = [
        (rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1) for down, right in NEIGHBOURS
    ]
    diffused = image.copy()
    pixels, positions = diffused.reshape(-1, 4), rows * width + columns
    weights = _neighbour_weights(image[..., :3], rows, columns)
    for _ in range(JACOBI_SWEEPS):
        mean = weights[0] * pixels.take(neighbours[0], axis=0)
        for weight, neighbour in zip(weights[1:], neighbours[1:], strict=True):
            mean += weight * pixels.take(neighbour, axis=0)
        pixels[positions] = mean
    return diffused


def _neighbour_weights(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The weights of the neighbours of n pixels, (8, n, 1) in the order of `NEIGHBOURS`; each pixel's sum is 1."""
    smooth = cv2.GaussianBlur(image, (0, 0), EDGE_SIGMA)
    right, down = (cv2.Sobel(smooth, -1, *axis) / 8.0 for axis in ((1, 0), (0, 1)))
    tensor = np.dstack([(a * b).sum(axis=-1) for a, b in ((right, right), (down, down), (right, down))])
    xx, yy, xy = cv2.GaussianBlur(tensor, (0, 0), DIRECTION_SIGMA)[rows, columns].T
    length = np.hypot(xx - yy, 2.0 * xy) + 1e-12
    across = 1.0 / (1.0 + (xx + yy + length) / 2.0 / FLAT_GRADIENT**2)  # diffusivity across the edge; along it: 1
    mean, half_difference = (1.0 + across) / 2.0, (1.0 - across) / 2.0 / length
    # The diffusion tensor is [[a, b], [b, c]].
    a, b, c = mean - half_difference * (xx - yy), -2.0 * half_difference * xy, mean + half_difference * (xx - yy)
    horizontal, vertical = (np.maximum(x - np.abs(b), 0.0) for x in (a, c))
    falling, rising = np.maximum(b, 0.0), np.maximum(-b, 0.0)  # along the two diagonals
    weights = np.stack([falling, vertical, rising, horizontal, horizontal, rising, vertical, falling])
    return (weights / weights.sum(axis=0))[..., None].astype(np.float32)

"""Fit one mark to all of its pixels: one strength and one colour around each of them, and edges where the photograph has them.

A mark is drawn in one colour at one opacity, and only its cover, 1 inside and less at the edges, changes from pixel to
pixel. The network judges each pixel by itself, so its errors differ where the truth does not. Where it does not err, as
far as two predictions of a mark can tell, it is left alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.restore.inpaint import inpaint
from wmremoval.restore.prediction import GATE_FROM, Prediction, box_around, ramp, unblend

FIT_WINDOW = 40  # pixels to each side over which a mark's strength and colour are taken for constant
FIT_THRESHOLD = 0.6  # mask probability of the pixels that are asked
CORE_SHARE = 0.8  # of the strongest alpha near by: pixels above it are covered whole
CORE_RADIUS = 2  # pixels that "near by" means: half of the width of a thin stroke
SURROUNDINGS_DEPTH = 4.0  # pixels into the mark over which its surroundings tell less and less of what is under it
PIXELS_A_MEASUREMENT = 22  # pixels of a mark whose surroundings err alike, and count as one measurement
ALPHA_DOUBT, COLOUR_DOUBT = 0.02, 0.08  # standard errors of the network's mean alpha and colour
SURROUNDINGS_NOISE = 0.012  # standard error of the surroundings at the least, of RGB in [0, 1]
SAME_MARK = 0.5  # difference in colour or alpha at which pixels are no longer of one mark
VIVID_RANGE = 0.4, 0.7  # range of a colour's channels from which the network hedges, and does in full
HEDGED_SHARE = 0.15  # share by which it then says too strong a mark of too pale a colour
HALF_TRUSTED = (
    0.005  # difference between two predictions, of alpha or colour in [0, 1], at which the network is half trusted
)
FEW_MEASUREMENTS = 1.0  # measurements that count for half
EDGE_COVER = 0.1, 0.95  # cover between which a pixel is of an edge
EDGE_CARRIED = 0.8  # share of what is under an edge that both sides tell, where the mark is strong
EDGE_FROM = 0.3, 0.7  # strength from which they tell some of it, and all of that
EDGE_WINDOW = 9  # pixels; side of the window in which edges are judged to be readable
BACKGROUND_DOUBT = 0.03  # standard error of what is carried into an edge, of RGB in [0, 1]
EDGE_READABLE = 0.6, 0.9  # strength from which edges are less to be read, and at which not at all
FAINTEST_ALPHA = 0.02, 0.06  # alpha below which a pixel is left alone, and from which it is of the mark
GUIDED_SIDE, GUIDED_EPS = 3, 3e-5  # pixels; squared RGB: cover follows the photograph's own edges
CHANNEL_PAIRS = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)  # of colours, whose covariances the guided filter needs


class MarkFit(NamedTuple):
    """The mark that fits all pixels of a window, float32."""

    prediction: Prediction  # with other alpha, colour and mask
    joined: np.ndarray  # (h, w) in [0, 1]: how far each pixel went with the others
    uncertainty: np.ndarray  # (h, w) in [0, 1]: how little the network is trusted around it
    edges: np.ndarray  # (h, w) in [0, 1]: how far the pixels under an edge of the mark are taken from both of its sides
    strength: np.ndarray  # (h, w) in [0, 1]: alpha of what is covered whole, around each pixel
    spread: np.ndarray  # (h, w): variance of the network's alpha and colour around each pixel


def fit_constant_mark(maps: Prediction, around: np.ndarray, disagreement: np.ndarray) -> MarkFit:
    """Fit a mark of constant strength and colour to the pixels of a sliding window.

    In a window J = (1 - alpha) I + alpha W is a line over I, and `around` is a guess at I whose error does not depend on
    it: a regression of J on it, in which the network's mean alpha and colour are the prior (Bayesian linear regression:
    Bishop 2006, section 3.3), says both. Windows slide, so that no seam can arise where tiles meet.

    Args:
        maps: what the network said, with alpha and colour.
        around: (h, w, 3) RGB in [0, 1]: the photograph with the mark inpainted from its surroundings.
        disagreement: (h, w): squared difference between two predictions of each pixel; see `prediction.disagreement`.
    """
    found = maps.mask > FIT_THRESHOLD
    if not found.any():
        return MarkFit(maps, *(np.zeros_like(maps.mask) for _ in range(5)))
    strokes = maps.alpha * found
    core = strokes > CORE_SHARE * cv2.dilate(strokes, np.ones((2 * CORE_RADIUS + 1,) * 2, np.uint8))
    depth = cv2.distanceTransform((maps.mask > GATE_FROM).astype(np.uint8), cv2.DIST_L2, 3)
    weight = core * strokes * np.exp(-depth / SURROUNDINGS_DEPTH)
    count = _window(core.astype(np.float32)) * ((2 * FIT_WINDOW + 1) ** 2 / PIXELS_A_MEASUREMENT) + 1e-3
    mean_alpha, mean_colour, spread = _means(maps, weight)
    strength, colour = _regress(maps.photo, around, weight, count, (mean_alpha, mean_colour))
    strength, colour = _vivid(_weighted(weight)(around), strength, colour)
    doubt = _weighted(weight)(disagreement)
    doubt /= doubt + HALF_TRUSTED**2

    cover = np.where(core, 1.0, (maps.alpha / np.maximum(mean_alpha, 0.02)).clip(0.0, 1.0))
    other = np.square(maps.colour - mean_colour).mean(axis=-1) + np.square(maps.alpha - cover * mean_alpha) + spread
    agreement = np.exp(-other / SAME_MARK**2) * (count / (count + FEW_MEASUREMENTS)) * found * doubt
    alpha = maps.alpha + agreement * (strength * cover - maps.alpha)
    colour = maps.colour + agreement[..., None] * (colour - maps.colour)
    box = box_around(found, EDGE_WINDOW)
    edges = np.zeros_like(maps.mask)
    part = Prediction(*(x[box] for x in maps))
    sharpened, edges[box] = _sharpened(part, *(x[box] for x in (alpha, strength, colour)), found[box])
    alpha[box] += doubt[box] * (sharpened - alpha[box])
    mask = maps.mask * (1.0 - doubt * (1.0 - ramp(alpha, *FAINTEST_ALPHA)))
    agreed = (x.astype(np.float32) for x in (mask, alpha, colour))
    maps = maps._replace(**dict(zip(("mask", "alpha", "colour"), agreed, strict=True)))
    return MarkFit(maps, agreement, doubt, edges * doubt, strength, spread)


def _window(x: np.ndarray) -> np.ndarray:
    return cv2.blur(x, (2 * FIT_WINDOW + 1,) * 2, borderType=cv2.BORDER_CONSTANT)


def _weighted(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The weighted mean over the window around each pixel, as a function of an array (h, w) or (h, w, 3)."""
    total = np.maximum(_window(weight), 1e-5)

    def mean(x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return _window(x * weight) / total
        return _window(np.ascontiguousarray(x * weight[..., None])) / total[..., None]

    return mean


def _means(maps: Prediction, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The network's mean alpha (h, w), mean colour (h, w, 3) and the variance of both around them (h, w)."""
    mean = _weighted(weight)
    alpha, colour = mean(maps.alpha), mean(maps.colour)
    spread = mean(maps.alpha**2) - alpha**2 + (mean(maps.colour**2) - colour**2).mean(axis=-1)
    return alpha, colour, np.maximum(spread, 0.0)


def _vivid(background: np.ndarray, strength: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength (h, w) and colour (h, w, 3) of vivid marks as they are when nobody hedges.

    A weak mark of a vivid colour and a stronger one of a paler look alike on a plain background. A network that does not
    know says the middle, so the truth is further on the line from the background through its colour, if that is in gamut.
    """
    away = colour - background
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0.0, (1.0 - background) / away, np.where(away < 0.0, background / -away, np.inf))
    hedged = HEDGED_SHARE * ramp(colour.max(axis=-1) - colour.min(axis=-1), *VIVID_RANGE)
    further = np.minimum(room.min(axis=-1).clip(1.0), 1.0 / (1.0 - hedged))
    return strength / further, background + further[..., None] * away


def _regress(
    photo: np.ndarray, around: np.ndarray, weight: np.ndarray, count: np.ndarray, prior: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The line J = s I + k of each window, alpha = 1 - s and W = k / alpha the posterior means.

    Args:
        photo, around: (h, w, 3): J, and what stands for I.
        weight, count: (h, w): of each pixel, and how many measurements its window holds.
        prior: mean alpha (h, w) and colour (h, w, 3) of the network.
    """
    alpha, colour = prior
    mean = _weighted(weight)
    mean_j, mean_i = mean(photo), mean(around)
    var_i = np.maximum(mean(around**2) - mean_i**2, 0.0).sum(axis=-1)
    var_j = np.maximum(mean(photo**2) - mean_j**2, 0.0).sum(axis=-1)
    both = (mean(around * photo) - mean_i * mean_j).sum(axis=-1)
    from_i, from_j = mean_i - colour, mean_j - colour  # the prior line goes through W: J - W = s (I - W)
    precision = 1.0 / np.maximum(alpha * COLOUR_DOUBT, 1e-3) ** 2  # of the prior
    slope = 1.0 - alpha
    for _ in range(3):  # the noise is known from the slope, the slope weighs by the noise
        noise = np.maximum((var_j - 2 * slope * both + slope**2 * var_i) / 3, SURROUNDINGS_NOISE**2)
        seen = count / noise
        level = seen * precision / (seen + precision)  # precision with which window means and W fix a point of the line
        wanted = seen * both + level * (from_i * from_j).sum(axis=-1) + (1.0 - alpha) / ALPHA_DOUBT**2
        slope = wanted / (seen * var_i + level * (from_i * from_i).sum(axis=-1) + 1.0 / ALPHA_DOUBT**2)
        slope = slope.clip(0.03, 0.98)
    seen, precision, s = seen[..., None], precision[..., None], slope[..., None]
    intercept = (seen * (mean_j - s * mean_i) + precision * (1.0 - s) * colour) / (seen + precision)
    return 1.0 - slope, (intercept / (1.0 - s)).clip(0.0, 1.0)


def _sharpened(
    maps: Prediction, alpha: np.ndarray, strength: np.ndarray, colour: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (h, w) with its edges read off the photograph, where the mark lets any of it through; and `MarkFit.edges`.

    Both sides of an edge are known, one as it is and one unblended. What is carried into the edge from them tells its
    cover, as in matting, as far as it can be read (a Wiener weight); then the cover follows the photograph
    (guided filter, He et al., ECCV 2010).
    """
    cover = (alpha / np.maximum(strength, 0.02)).clip(0.0, 1.0).astype(np.float32)
    edge = ((cover > EDGE_COVER[0]) & (cover < EDGE_COVER[1])).astype(np.float32)
    sides = np.where((cover >= EDGE_COVER[1])[..., None], unblend(maps.photo, strength, colour), maps.photo)
    background = inpaint(sides.astype(np.float32), edge)
    step = strength[..., None] * (colour - background)  # what full cover adds to the photograph
    contrast = np.square(step).sum(axis=-1) + 1e-3
    seen = ((maps.photo - background) * step).sum(axis=-1) / contrast
    side = (EDGE_WINDOW,) * 2
    error = cv2.blur(np.square(seen.clip(-0.5, 1.5) - cover) * edge, side) / (cv2.blur(edge, side) + 1e-3)
    doubt = np.maximum(cover * (1.0 - cover), 0.01)
    noise = 2.0 * error + BACKGROUND_DOUBT**2 / contrast
    cover += edge * doubt / (doubt + noise) * (seen.clip(0.0, 1.0) - cover)
    cover = _guided(maps.photo, cover)
    near = cv2.dilate(found.astype(np.uint8), np.ones((5, 5), np.uint8))
    near = near * (maps.mask > GATE_FROM)
    share = near * (1.0 - ramp(strength, *EDGE_READABLE))
    return alpha + share * (strength * cover.clip(0.0, 1.0) - alpha), EDGE_CARRIED * edge * ramp(strength, *EDGE_FROM)


def _guided(guide: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Guided filter: x (h, w), in each small window, as a linear function of the guide's colours (h, w, 3).

    As `kornia.filters.guided_blur`, which takes two seconds to import.
    """
    side = (GUIDED_SIDE,) * 2
    mean, mean_x = cv2.blur(guide, side), cv2.blur(x, side)
    both = cv2.blur(guide * x[..., None], side) - mean * mean_x[..., None]  # (h, w, 3) covariances with x
    spread = [cv2.blur(guide[..., i] * guide[..., j], side) - mean[..., i] * mean[..., j] for i, j in CHANNEL_PAIRS]
    slope = _solved(
        [part + np.float32(GUIDED_EPS * (i == j)) for part, (i, j) in zip(spread, CHANNEL_PAIRS, strict=True)], both
    )
    level = mean_x - (slope * mean).sum(axis=-1)
    return (cv2.blur(slope, side) * guide).sum(axis=-1) + cv2.blur(level, side)


def _solved(matrix: list[np.ndarray], right: np.ndarray) -> np.ndarray:
    """Solve a symmetric, positive 3 by 3 system at each pixel by L D L^T; `np.linalg.solve` would take most of the filter's time.

    Args:
        matrix: its six parts, (h, w) each, in the order of `CHANNEL_PAIRS`.
        right: (h, w, 3).
    """
    a, b, c, d, e, f = matrix
    x, y, z = (right[..., i] for i in range(3))
    u, v = b / a, c / a
    second = d - b * u
    t = e - c * u
    w = t / second
    y = y - u * x
    z = (z - v * x - w * y) / (f - c * v - t * w)
    y = y / second - w * z
    return np.stack([x / a - u * y - v * z, y, z], axis=-1)

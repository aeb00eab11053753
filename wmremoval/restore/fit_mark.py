"""Fit one mark to all of its pixels: one strength and one colour around each pixel, and edges read from the photograph.

A mark has one colour and one opacity. Only its cover varies: 1 inside, less at the edges. The network predicts each
pixel by itself. Its errors vary from pixel to pixel although the mark does not, so a fit to many pixels removes most
of them. Where two predictions of a mark agree, the network is taken to be right, and its prediction stays as it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.restore.inpaint import inpaint
from wmremoval.restore.prediction import GATE_FROM, Prediction, box_around, ramp, unblend

# The whole step was measured ("consensus" in outputs/measurements/README.md). Its single values were not measured,
# except where a comment names a measurement. "On validation" means the mean gain over validation photographs.
FIT_WINDOW = 40  # pixels to each side over which a mark's strength and colour are taken for constant
FIT_THRESHOLD = 0.6  # mask probability above which a pixel takes part in the fit
CORE_SHARE = 0.8  # share of the strongest alpha within CORE_RADIUS, above which a pixel counts as covered whole
CORE_RADIUS = 2  # pixels; half of the width of a thin stroke
INPAINTING_DEPTH = 4.0  # pixels inside the mark at which the weight has fallen to 1/e: inpainting is less exact there
PIXELS_PER_MEASUREMENT = 22  # pixels that count as one measurement, since inpainting errs alike at neighbouring pixels
ALPHA_STD, COLOUR_STD = 0.02, 0.08  # standard errors of the network's mean alpha and mean colour, in [0, 1]
LEAST_INPAINTING_STD = 0.012  # smallest assumed standard error of the inpainted photograph, RGB in [0, 1]
# Difference from the window's mean, of colour or alpha in [0, 1], at which a pixel's share in the fit has fallen to
# 1/e. Tuned on validation on 2026-11-23; the numbers were not kept.
SAME_MARK_DIFFERENCE = 0.5
# Greatest minus smallest channel of a colour, RGB in [0, 1], at which `_vivid` begins to correct it and corrects it
# fully; and the share by which a full correction lowers the strength. Together +2.6 dB on coloured marks on
# validation, 2026-11-25.
VIVID_RANGE = 0.4, 0.7
HEDGED_SHARE = 0.15
HALF_TRUSTED = 0.005  # difference of two predictions, of alpha or colour in [0, 1], at which the uncertainty is 1/2
FEW_MEASUREMENTS = 1.0  # measurements in a window with which the fit counts for half
EDGE_COVER = 0.1, 0.95  # a pixel of an edge has a cover between these
# Largest share of an edge pixel that is inpainted from both sides of the edge, and the strengths at which this share
# begins and is largest. Together +0.35 dB on validation, 2026-11-23.
EDGE_CARRIED = 0.8
EDGE_FROM = 0.3, 0.7
EDGE_WINDOW = 9  # pixels; side of the window in which the error of the measured cover is averaged
BACKGROUND_STD = 0.03  # standard error of the background that is inpainted under an edge, RGB in [0, 1]
EDGE_READABLE = 0.6, 0.9  # strengths from which the measured cover counts less, and from which it does not count
FAINTEST_ALPHA = 0.02, 0.06  # alpha up to which a pixel is left as it is, and from which it belongs to the mark
GUIDED_SIDE = 3  # pixels; side of the guided filter's window
GUIDED_EPS = 3e-5  # squared RGB in [0, 1]; regularisation of the guided filter
CHANNEL_PAIRS = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)  # colour channels whose covariances the filter needs


class MarkFit(NamedTuple):
    """The mark that fits all pixels of a window, float32."""

    prediction: Prediction  # with the fitted mask, alpha and colour
    joined: np.ndarray  # (h, w) in [0, 1]: share of the fitted mark in each pixel; the rest is the network's prediction
    uncertainty: np.ndarray  # (h, w) in [0, 1]: 0 where two predictions agree, near 1 where they differ
    edges: np.ndarray  # (h, w) in [0, 1]: share of each pixel to be inpainted from both sides of the mark's edge
    strength: np.ndarray  # (h, w) in [0, 1]: alpha of full cover around each pixel
    spread: np.ndarray  # (h, w): variance of the network's alpha and colour around each pixel


def fit_constant_mark(prediction: Prediction, inpainted: np.ndarray, disagreement: np.ndarray) -> MarkFit:
    """Fit a mark of constant strength and colour to the pixels of a sliding window.

    In a window, J = (1 - alpha) I + alpha W is a line over I. The inpainted photograph stands in for I, since its
    errors do not depend on I. A regression of J on it gives alpha and W. Its prior is the network's mean alpha and
    colour (Bayesian linear regression: Bishop 2006, section 3.3). The window slides, so that tiles meet without a seam.

    Args:
        prediction: of the network, with alpha and colour.
        inpainted: (h, w, 3) RGB in [0, 1]: the photograph with the mark inpainted from its surroundings.
        disagreement: (h, w): squared difference of two predictions of each pixel; see `prediction.disagreement`.
    """
    found = prediction.mask > FIT_THRESHOLD
    if not found.any():
        return MarkFit(prediction, *(np.zeros_like(prediction.mask) for _ in range(5)))
    strokes = prediction.alpha * found
    core = strokes > CORE_SHARE * cv2.dilate(strokes, np.ones((2 * CORE_RADIUS + 1,) * 2, np.uint8))
    depth = cv2.distanceTransform((prediction.mask > GATE_FROM).astype(np.uint8), cv2.DIST_L2, 3)
    weight = core * strokes * np.exp(-depth / INPAINTING_DEPTH)
    count = _window(core.astype(np.float32)) * ((2 * FIT_WINDOW + 1) ** 2 / PIXELS_PER_MEASUREMENT) + 1e-3
    mean_alpha, mean_colour, spread = _means(prediction, weight)
    strength, colour = _regress(prediction.photo, inpainted, weight, count, (mean_alpha, mean_colour))
    strength, colour = _vivid(_weighted(weight)(inpainted), strength, colour)
    uncertainty = _weighted(weight)(disagreement)
    uncertainty /= uncertainty + HALF_TRUSTED**2

    cover = np.where(core, 1.0, (prediction.alpha / np.maximum(mean_alpha, 0.02)).clip(0.0, 1.0))
    difference = np.square(prediction.colour - mean_colour).mean(axis=-1)
    difference = difference + np.square(prediction.alpha - cover * mean_alpha) + spread
    joined = np.exp(-difference / SAME_MARK_DIFFERENCE**2) * (count / (count + FEW_MEASUREMENTS)) * found * uncertainty
    alpha = prediction.alpha + joined * (strength * cover - prediction.alpha)
    colour = prediction.colour + joined[..., None] * (colour - prediction.colour)
    box = box_around(found, EDGE_WINDOW)
    edges = np.zeros_like(prediction.mask)
    part = prediction.part(box)
    sharpened, edges[box] = _sharpened(part, alpha[box], strength[box], colour[box], found[box])
    alpha[box] += uncertainty[box] * (sharpened - alpha[box])
    mask = prediction.mask * (1.0 - uncertainty * (1.0 - ramp(alpha, *FAINTEST_ALPHA)))
    fitted = (x.astype(np.float32) for x in (mask, alpha, colour))
    prediction = prediction._replace(**dict(zip(("mask", "alpha", "colour"), fitted, strict=True)))
    return MarkFit(prediction, joined, uncertainty, edges * uncertainty, strength, spread)


def _window(x: np.ndarray) -> np.ndarray:
    """The mean of (h, w) or (h, w, c) over the window around each pixel; pixels beyond the border are 0."""
    return cv2.blur(x, (2 * FIT_WINDOW + 1,) * 2, borderType=cv2.BORDER_CONSTANT)


def _weighted(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of an array (h, w) or (h, w, 3): its weighted mean over the window around each pixel."""
    total = np.maximum(_window(weight), 1e-5)

    def mean(x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return _window(x * weight) / total
        return _window(np.ascontiguousarray(x * weight[..., None])) / total[..., None]

    return mean


def _means(prediction: Prediction, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The network's mean alpha (h, w), mean colour (h, w, 3) and the variance of both around them (h, w)."""
    mean = _weighted(weight)
    alpha, colour = mean(prediction.alpha), mean(prediction.colour)
    spread = mean(prediction.alpha**2) - alpha**2 + (mean(prediction.colour**2) - colour**2).mean(axis=-1)
    return alpha, colour, np.maximum(spread, 0.0)


def _vivid(background: np.ndarray, strength: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength (h, w) and colour (h, w, 3) of a mark, corrected for vivid colours.

    On a plain background, a weak mark of a vivid colour and a stronger mark of a paler colour look alike. An uncertain
    network predicts a mean of both. The true colour lies further away, on the line from the background through the
    predicted colour. It is moved there as far as the result stays in [0, 1].
    """
    offset = colour - background
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # the room of a tiny offset has no end
        room = np.where(offset > 0.0, (1.0 - background) / offset, np.where(offset < 0.0, background / -offset, np.inf))
    hedged = HEDGED_SHARE * ramp(colour.max(axis=-1) - colour.min(axis=-1), *VIVID_RANGE)
    factor = np.minimum(room.min(axis=-1).clip(1.0), 1.0 / (1.0 - hedged))
    return strength / factor, background + factor[..., None] * offset


def _regress(
    photo: np.ndarray,
    inpainted: np.ndarray,
    weight: np.ndarray,
    count: np.ndarray,
    prior: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (h, w) and colour W (h, w, 3) of each window: the posterior means of the line J = (1 - alpha) I + alpha W.

    Args:
        photo, inpainted: (h, w, 3): J, and the estimate of I.
        weight, count: (h, w): the weight of each pixel, and the number of measurements in its window.
        prior: the network's mean alpha (h, w) and mean colour (h, w, 3).
    """
    alpha, colour = prior
    mean = _weighted(weight)
    mean_j, mean_i = mean(photo), mean(inpainted)
    var_i = np.maximum(mean(inpainted**2) - mean_i**2, 0.0).sum(axis=-1)
    var_j = np.maximum(mean(photo**2) - mean_j**2, 0.0).sum(axis=-1)
    covariance = (mean(inpainted * photo) - mean_i * mean_j).sum(axis=-1)
    from_i, from_j = mean_i - colour, mean_j - colour  # the prior line goes through W: J - W = slope (I - W)
    prior_precision = 1.0 / np.maximum(alpha * COLOUR_STD, 1e-3) ** 2
    slope = 1.0 - alpha
    for _ in range(3):  # the noise follows from the slope, and the slope from the noise
        noise = np.maximum((var_j - 2 * slope * covariance + slope**2 * var_i) / 3, LEAST_INPAINTING_STD**2)
        precision = count / noise  # of the window's means
        level = precision * prior_precision / (precision + prior_precision)  # of the line's level: W and the means
        numerator = precision * covariance + level * (from_i * from_j).sum(axis=-1) + (1.0 - alpha) / ALPHA_STD**2
        slope = numerator / (precision * var_i + level * (from_i * from_i).sum(axis=-1) + 1.0 / ALPHA_STD**2)
        slope = slope.clip(0.03, 0.98)
    precision, prior_precision, s = precision[..., None], prior_precision[..., None], slope[..., None]
    intercept = (precision * (mean_j - s * mean_i) + prior_precision * (1.0 - s) * colour) / (
        precision + prior_precision
    )
    return 1.0 - slope, (intercept / (1.0 - s)).clip(0.0, 1.0)


def _sharpened(
    prediction: Prediction, alpha: np.ndarray, strength: np.ndarray, colour: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (h, w) with edges read from the photograph where the mark is translucent; and `MarkFit.edges`.

    Both sides of an edge are known: outside, the photograph; inside, the unblended photograph. The background under the
    edge is inpainted from both. The photograph then gives the cover of each edge pixel, as in matting, weighted by its
    reliability (a Wiener filter). Last, the cover follows the photograph's edges (guided filter, He et al., ECCV 2010).
    """
    cover = (alpha / np.maximum(strength, 0.02)).clip(0.0, 1.0).astype(np.float32)
    edge = ((cover > EDGE_COVER[0]) & (cover < EDGE_COVER[1])).astype(np.float32)
    inside = (cover >= EDGE_COVER[1])[..., None]
    sides = np.where(inside, unblend(prediction.photo, strength, colour), prediction.photo)
    background = inpaint(sides.astype(np.float32), edge)
    step = strength[..., None] * (colour - background)  # the change of the photograph by full cover
    contrast = np.square(step).sum(axis=-1) + 1e-3
    measured = ((prediction.photo - background) * step).sum(axis=-1) / contrast  # cover by projection on the step
    side = (EDGE_WINDOW,) * 2
    error = cv2.blur(np.square(measured.clip(-0.5, 1.5) - cover) * edge, side) / (cv2.blur(edge, side) + 1e-3)
    variance = np.maximum(cover * (1.0 - cover), 0.01)  # of a cover that is either 0 or 1
    noise = 2.0 * error + BACKGROUND_STD**2 / contrast
    cover += edge * variance / (variance + noise) * (measured.clip(0.0, 1.0) - cover)
    cover = _guided(prediction.photo, cover)
    near = cv2.dilate(found.astype(np.uint8), np.ones((5, 5), np.uint8))
    near = near * (prediction.mask > GATE_FROM)
    share = near * (1.0 - ramp(strength, *EDGE_READABLE))
    return alpha + share * (strength * cover.clip(0.0, 1.0) - alpha), EDGE_CARRIED * edge * ramp(strength, *EDGE_FROM)


def _guided(guide: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The guided filter: x (h, w) as a linear function of the guide's colours (h, w, 3) in each small window.

    The same as `kornia.filters.guided_blur`, whose import takes two seconds.
    """
    side = (GUIDED_SIDE,) * 2
    mean, mean_x = cv2.blur(guide, side), cv2.blur(x, side)
    covariances = cv2.blur(guide * x[..., None], side) - mean * mean_x[..., None]  # (h, w, 3), of guide and x
    guide_covariances = [
        cv2.blur(guide[..., i] * guide[..., j], side) - mean[..., i] * mean[..., j] for i, j in CHANNEL_PAIRS
    ]
    matrix = [
        element + np.float32(GUIDED_EPS * (i == j))
        for element, (i, j) in zip(guide_covariances, CHANNEL_PAIRS, strict=True)
    ]
    slope = _solved(matrix, covariances)
    intercept = mean_x - (slope * mean).sum(axis=-1)
    return (cv2.blur(slope, side) * guide).sum(axis=-1) + cv2.blur(intercept, side)


def _solved(matrix: list[np.ndarray], right: np.ndarray) -> np.ndarray:
    """The solution (h, w, 3) of a symmetric, positive 3 by 3 system at each pixel, by L D L^T.

    `np.linalg.solve` would take most of the filter's time.

    Args:
        matrix: its six different elements, (h, w) each, in the order of `CHANNEL_PAIRS`.
        right: the right-hand side, (h, w, 3).
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

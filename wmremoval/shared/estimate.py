"""Estimate one mark from aligned photographs that carry it: J_k = (1 - a) I_k + a W, for all photographs k at once.

The mark is the only thing that is the same in all of them (Dekel, Rubinstein, Liu and Freeman, "On the effectiveness of
visible watermarks", CVPR 2017). The estimate here is the most probable mark: the restored photographs
I_k = g (J_k - W) + W, with the gain g = 1 / (1 - a), have the gradients that the photographs have outside of the mark.
A gradient is distributed as Student's t around 0; its scale is that of the surroundings. The density of what was
seen, J_k, has the Jacobian g of each pixel and channel, without which the least gradients would be those of g = 0.
For given weights of the gradients all this is quadratic in g but for the Jacobian, so sums over photographs suffice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.shared.grid import HEADS, TAILS, Grid, Quadratic
from wmremoval.shared.mark import ROUNDING

# Measured in tests of 30 and of 10 validation photographs of 288 x 432 under six marks on 2026-11-27, except where a
# comment says otherwise.
DEGREES = 2.0  # of freedom of Student's t. Not measured.
LEAST_GRADIENT = 0.006  # RGB in [0, 1] per pixel, over three channels: rounding alone leaves as much
FREE_ROUNDS, COLOUR_ROUNDS = 8, 6  # rounds with a colour of its own for each pixel, and with the colour known
# Rounds in which the mark has one strength, with its colour known or not. On validation photographs (2026-11-27) they are
# worth 0.3 to 5 dB with one colour, and with several -3 to 4, 1 in the mean; with 8 of 16 rounds 0.5 less.
STRENGTH_ROUNDS = {True: 3, False: 16}
STEPS = 2  # of mean and gain in turn in a round
NEWTON_STEPS = 4
FREE_UNKNOWNS, KNOWN_COLOUR_UNKNOWNS = 4, 1  # unknowns of a pixel, which take up as many of its measurements
# Difference of alpha between neighbours that is smooth, of an estimate from `MANY` photographs; more is an edge of the
# mark. With the colour known it is worth 1 to 3 dB; with free colours, or 0.03, at 10 photographs less than nothing.
SMOOTH, MANY = 0.01, 30
LARGEST_GAIN = 20.0  # of an alpha of 0.95
CORE_SHARE = 0.5  # share of the mark's largest alpha above which pixels tell its colour
# A mark has one colour if so large a share of its pixels differs by less from the median, RGB in [0, 1]. Not measured.
AGREEING, ONE_COLOUR = 0.8, 0.15
# A mark has one strength if so large a share of its pixels differs by less from the median, as a share of it. Chosen: the marks
# of one strength had 0.86 to 1 in all estimates, also in poor ones.
LEVEL_AGREEING, ONE_STRENGTH = 0.7, 0.2
COLOUR_SIGMA = 2.0  # pixels; colours are averaged over so many before they are compared. Not measured.
FAINTEST = 0.01, 0.03  # alpha up to which a pixel is not of the mark, and from which it is
# Luma and colour differences of RGB (ITU-R BT.601), which JPEG compresses apart: colour in blocks of 16 pixels, so that it
# runs over the edges of a mark. Its share of 0.1 is worth 0 to 7 dB over RGB on JPEGs, and 0.5 dB over 0.3 (2026-11-27).
CHROMA_SHARE = 0.1
LUMA_FIRST = np.sqrt(3) * np.array(
    [
        np.array([0.299, 0.587, 0.114], np.float32),
        CHROMA_SHARE * np.array([-0.169, -0.331, 0.5], np.float32),
        CHROMA_SHARE * np.array([0.5, -0.419, -0.081], np.float32),
    ]
)
ZERO = np.zeros((), np.float32)  # the start of sums of pictures
SCALES = (4.0, 1, 1.0), (12.0, 4, 0.1), (40.0, 8, 0.01)  # sigma in pixels, shrinking and weight of each surroundings


class Measured(NamedTuple):
    """An estimated mark."""

    alpha: np.ndarray  # (h, w) float32 in [0, 1]
    colour: np.ndarray  # (h, w, 3) RGB float32 in [0, 1]


class Sums(NamedTuple):
    """Weighted sums over photographs for each edge between neighbouring pixels, of what lies over the reference."""

    weight: np.ndarray  # (h', w')
    head: np.ndarray  # (h', w', 3) of the edge's first pixel
    tail: np.ndarray  # (h', w', 3) of its second pixel
    head_head: np.ndarray  # (h', w')
    tail_tail: np.ndarray
    head_tail: np.ndarray


def estimate_mark(
    photos: Sequence[np.ndarray], support: np.ndarray, alpha: np.ndarray, noise: Sequence[float]
) -> Measured:
    """Estimate the mark of aligned photographs.

    Args:
        photos: N arrays (h, w, 3) RGB uint8.
        support: (h, w) boolean; the mark lies within, and the photographs beside it are seen.
        alpha: (h, w) in [0, 1], to start from.
        noise: of each photograph, grey levels: standard deviation of what rounding or compression added.
    """
    problem = _Problem(photos, support, noise)
    gain = 1.0 / (1.0 - np.where(support, alpha, 0.0).clip(0.0, 0.9)).astype(np.float32)
    restored = problem.grid.solve(_harmonic(support.shape), problem.mean_photo)  # of the mean photograph
    for _ in range(FREE_ROUNDS):
        gain, restored = problem.round(gain, restored)
    colour, is_one = problem.colour(gain, restored)
    for _ in range(COLOUR_ROUNDS if is_one else 0):
        gain, restored = problem.round(gain, restored, colour)
        colour, _ = problem.colour(gain, restored)
    for _ in range(STRENGTH_ROUNDS[is_one]):
        problem.tied = whole_cover(gain, support)
        if not problem.tied.any():
            break
        gain, restored = problem.round(gain, restored, colour if is_one else None)
    colour = colour if is_one else problem.colour(gain, restored)[0]
    found = (1.0 - 1.0 / gain).clip(0.0, 1.0)
    low, high = FAINTEST
    found = (found * ((found - low) / (high - low)).clip(0.0, 1.0)).astype(np.float32)
    return Measured(found, colour.clip(0.0, 1.0))


def mark_colour(
    mean: np.ndarray, restored: np.ndarray, gain: np.ndarray, support: np.ndarray
) -> tuple[np.ndarray, bool]:
    """The colour (h, w, 3) of a mark, and True if it is one for all pixels; else each has its own.

    Args:
        mean: (h, w, 3) of the photographs with the mark.
        restored: (h, w, 3) of the photographs without it.
        gain: (h, w), 1 / (1 - alpha).
        support: (h, w) boolean, where the mark may lie.
    """
    alpha = (1.0 - 1.0 / gain).clip(0.0, 1.0) * support
    core = support & (alpha > CORE_SHARE * np.quantile(alpha[support], 0.95))
    colour = ((mean - restored) / np.maximum(alpha, 1e-3)[..., None] + restored).clip(-1.0, 2.0).astype(np.float32)
    weight = np.square(alpha)[..., None] * core[..., None] + 1e-9
    smooth = cv2.GaussianBlur(colour * weight, (0, 0), COLOUR_SIGMA)
    smooth /= cv2.GaussianBlur(weight, (0, 0), COLOUR_SIGMA)[..., None]
    middle = np.median(colour[core], axis=0)
    if np.quantile(np.abs(smooth[core] - middle).max(axis=-1), AGREEING) < ONE_COLOUR:
        return np.broadcast_to(middle, colour.shape).copy(), True
    return colour, False


def whole_cover(gain: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The pixels (h, w) that a mark of one strength covers whole; none where its strength varies, as of a soft shadow.

    Args:
        gain: (h, w), 1 / (1 - alpha).
        support: (h, w) boolean, where the mark may lie.
    """
    alpha = (1.0 - 1.0 / gain).clip(0.0, 1.0) * support
    level = np.median(alpha[alpha >= CORE_SHARE * np.quantile(alpha[support], 0.95)])
    strokes = (alpha > CORE_SHARE * level).astype(np.uint8)
    inside = cv2.erode(strokes, np.ones((3, 3), np.uint8)) > 0
    if not inside.any():
        return inside
    off = np.abs(cv2.blur(alpha, (3, 3))[inside] - level)
    return inside & bool(np.quantile(off, LEVEL_AGREEING) < ONE_STRENGTH * level)


class _Problem:
    """The photographs, the pixels that may be marked, and the scale of the gradients of the surroundings."""

    def __init__(self, photos: Sequence[np.ndarray], support: np.ndarray, noise: Sequence[float]):
        self.photos, self.support, self.grid = photos, support, Grid(support)
        self.tied = np.zeros_like(support)  # (h, w) boolean: pixels of one gain
        self.space = LUMA_FIRST if max(noise) > ROUNDING else np.eye(3, dtype=np.float32)  # from RGB
        outside = cv2.dilate(support.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
        self.outside = [
            (outside[head] & outside[tail]).astype(np.float32) for head, tail in zip(HEADS, TAILS, strict=True)
        ]
        self.noise = [6.0 * (level / 255.0) ** 2 for level in noise]  # of a difference of two pixels, three channels
        self.mean_photo = sum((self._seen(photo) for photo in photos), start=ZERO) / len(photos)
        self.scales = [self._scale(photo) for photo in photos]

    def _seen(self, photo: np.ndarray) -> np.ndarray:
        """A photograph (h, w, 3), RGB uint8, in the space of the estimate."""
        return (photo / np.float32(255.0)) @ self.space.T

    def _scale(self, photo: np.ndarray) -> np.ndarray:
        """The root mean square of the gradients (h, w) around each pixel, of those outside of the support."""
        total, count = (np.zeros(photo.shape[:2], np.float32) for _ in range(2))
        view = self._seen(photo)
        for head, tail, outside in zip(HEADS, TAILS, self.outside, strict=True):
            total[head] += outside * np.sqrt(np.sqrt(_squares(view, head, tail) + 1e-8))
            count[head] += outside
        mean: np.ndarray | float = 0.0
        weight: np.ndarray | float = 1e-9
        for sigma, factor, share in SCALES:
            mean = mean + share * _blurred(total, sigma, factor)
            weight = weight + share * _blurred(count, sigma, factor)
        # The mean of the square root of a gradient's length; its fourth power is 0.6 of the mean square.
        return np.sqrt((mean / weight) ** 4 / 0.6 + LEAST_GRADIENT**2).astype(np.float16)

    def round(
        self, gain: np.ndarray, restored: np.ndarray, colour: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A better gain (h, w) and mean restored photograph (h, w, 3), after new weights of the gradients.

        Args:
            gain, restored: the present ones.
            colour: (h, w, 3) RGB of the mark, if it is one and known; the restored photograph follows from it.
        """
        if colour is None:
            sums = self.sums(self.mean_photo, gain, restored)
            for _ in range(STEPS):
                restored = self.grid.solve(_mean_cost(sums, gain), self.mean_photo)
                gain = self.gain(sums, gain, restored, FREE_UNKNOWNS)
            return gain, restored
        colour = colour @ self.space.T
        sums = self.sums(colour, gain, colour)
        for _ in range(STEPS):
            gain = self.gain(sums, gain, colour, KNOWN_COLOUR_UNKNOWNS)
        return gain, gain[..., None] * (self.mean_photo - colour) + colour

    def colour(self, gain: np.ndarray, restored: np.ndarray) -> tuple[np.ndarray, bool]:
        """See `mark_colour`."""
        back = np.linalg.inv(self.space).T.astype(np.float32)
        return mark_colour(self.mean_photo @ back, restored @ back, gain, self.support)

    def sums(self, reference: np.ndarray, gain: np.ndarray, restored: np.ndarray) -> list[Sums]:
        """The sums over photographs for the present mark, downwards and to the right.

        Args:
            reference: (h, w, 3), what is taken off each photograph before the gain.
            gain: (h, w).
            restored: (h, w, 3), what is added after it.
        """
        sums = [_no_sums(outside.shape) for outside in self.outside]
        energy = 0.0
        for photo, scale, noise in zip(self.photos, self.scales, self.noise, strict=True):
            over = self._seen(photo) - reference
            image, spread = gain[..., None] * over + restored, np.square(scale.astype(np.float32))
            for head, tail, outside, total in zip(HEADS, TAILS, self.outside, sums, strict=True):
                squares = _squares(image, head, tail)
                louder = np.square(np.maximum(gain[head], gain[tail])) - 1.0  # the gain amplifies noise too
                expected = spread[head] + louder * np.minimum(spread[head], noise)
                weight = (DEGREES + 3.0) / (DEGREES * expected / 3.0 + squares)
                energy += float((outside * weight * squares).sum()) / max(1.0, float(outside.sum()))
                _add(total, weight, over[head], over[tail])
        calibrated = 3.0 * len(self.photos) / energy  # a pixel has three channels, thus an energy of 3
        return [Sums(*(calibrated * x for x in total)) for total in sums]

    def gain(self, sums: list[Sums], gain: np.ndarray, restored: np.ndarray, unknowns: int) -> np.ndarray:
        """The most probable gain (h, w) for a given mean of the restored photographs (h, w, 3)."""
        cost = _gain_cost(sums, restored)
        if unknowns == KNOWN_COLOUR_UNKNOWNS:
            cost = _smoothed(cost, gain, SMOOTH * np.sqrt(MANY / len(self.photos)))
        counts = np.maximum(1.0, 3.0 * len(self.photos) - unknowns + self.tied)  # tied pixels have no gain of their own
        return Grid(self.support, self.tied).solve_with_log(cost, gain, counts, NEWTON_STEPS).clip(0.9, LARGEST_GAIN)


def _no_sums(shape: tuple[int, int]) -> Sums:
    flat, coloured = (lambda: np.zeros(shape, np.float32)), (lambda: np.zeros((*shape, 3), np.float32))
    return Sums(flat(), coloured(), coloured(), flat(), flat(), flat())


def _add(sums: Sums, weight: np.ndarray, head: np.ndarray, tail: np.ndarray) -> None:
    """Add one photograph to the sums."""
    sums.weight[:] += weight
    sums.head[:] += weight[..., None] * head
    sums.tail[:] += weight[..., None] * tail
    sums.head_head[:] += weight * np.einsum("ijk,ijk->ij", head, head)
    sums.tail_tail[:] += weight * np.einsum("ijk,ijk->ij", tail, tail)
    sums.head_tail[:] += weight * np.einsum("ijk,ijk->ij", head, tail)


def _squares(image: np.ndarray, head: tuple, tail: tuple) -> np.ndarray:
    """The squared length of each gradient along one axis."""
    gradient = image[tail] - image[head]
    return np.einsum("ijk,ijk->ij", gradient, gradient)


def _blurred(x: np.ndarray, sigma: float, factor: int) -> np.ndarray:
    """A Gaussian blur (h, w), computed on a shrunken view."""
    size = tuple(max(1, side // factor) for side in x.shape[::-1])
    small = cv2.GaussianBlur(cv2.resize(x, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / factor)
    return cv2.resize(small, x.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _harmonic(shape: tuple[int, int]) -> Quadratic:
    """The cost of a membrane."""
    ones = np.ones(shape)
    return _laplacian((ones[HEADS[0]], ones[HEADS[1]]), np.zeros((*shape, 3)))


def _laplacian(weights: tuple[np.ndarray, np.ndarray], right: np.ndarray) -> Quadratic:
    diagonal = np.zeros(right.shape[:2])
    for head, tail, weight in zip(HEADS, TAILS, weights, strict=True):
        diagonal[head] += weight
        diagonal[tail] += weight
    return Quadratic(diagonal, weights, right)


def _mean_cost(sums: list[Sums], gain: np.ndarray) -> Quadratic:
    """The cost of the mean restored photograph (h, w, 3) for a given gain (h, w)."""
    right = np.zeros((*gain.shape, 3))
    for head, tail, total in zip(HEADS, TAILS, sums, strict=True):
        rise = gain[tail][..., None] * total.tail - gain[head][..., None] * total.head
        right[head] += rise
        right[tail] -= rise
    return _laplacian((sums[0].weight, sums[1].weight), right)


def _gain_cost(sums: list[Sums], restored: np.ndarray) -> Quadratic:
    """The cost of the gain for a given mean restored photograph (h, w, 3)."""
    diagonal, right = np.zeros(restored.shape[:2]), np.zeros(restored.shape[:2])
    for head, tail, total in zip(HEADS, TAILS, sums, strict=True):
        rise = restored[tail] - restored[head]
        diagonal[head] += total.head_head
        diagonal[tail] += total.tail_tail
        right[head] += np.einsum("ijk,ijk->ij", total.head, rise)
        right[tail] -= np.einsum("ijk,ijk->ij", total.tail, rise)
    return Quadratic(diagonal, (sums[0].head_tail, sums[1].head_tail), right)


def _smoothed(cost: Quadratic, gain: np.ndarray, smooth: float) -> Quadratic:
    """The cost with that of differences of alpha between neighbours: Cauchy's distribution, as weights for this gain."""
    alpha, weights = 1.0 - 1.0 / gain, []
    for head, tail in zip(HEADS, TAILS, strict=True):
        weight = 2.0 / (smooth**2 + np.square(alpha[tail] - alpha[head]))
        weights.append(weight / np.square(gain[head] * gain[tail]))
    membrane = _laplacian(tuple(weights), cost.right)
    couplings = tuple(one + other for one, other in zip(cost.couplings, membrane.couplings, strict=True))
    return Quadratic(cost.diagonal + membrane.diagonal, couplings, cost.right)

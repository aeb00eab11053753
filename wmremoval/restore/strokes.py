"""Find the strokes of a line of text by their colours, where the network does not see them.

Letters laid over a photograph have colours that their surroundings do not have. The colours of a line and of a ring around it
are put into clusters (k-means, Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 1982); clusters that are
much denser within the line than in the ring, and thin, are its strokes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.restore.pyramid import Block, shrink
from wmremoval.restore.regions import line_mask
from wmremoval.restore.text import Line

# Chosen on 181 drawn lines of 260 training photographs, of which a third is so faint or so mixed with texture that no
# setting finds it (2026-11-27). "IoU" is of strokes and true mask within the line.
CLUSTERS = 8  # of colours; with 6, 8 and 12 the mean IoU is 0.32, 0.36 and 0.36
CHROMA = 2.0  # weight of a and b of CIELAB beside L: with 1 the mean IoU is 0.33, with 2 0.36, with 3 0.36
BLUR = 0.6  # pixels; standard deviation of a blur against the grain of pixels: mean IoU 0.36 without, 0.37 with it
CLUSTER_DENSER = 3.0  # times as dense in the line as in the ring, from which a cluster belongs to the strokes
# Times as dense in the line as in the ring are all strokes together, from which they are trusted: with 5, 8 and 12 there are
# 89, 72 and 49 of the 181 lines, and 87%, 92% and 95% of their pixels are marked.
STROKES_DENSER = 8.0
# The same where the network sees a line and its own strokes do not do: from 8 to 20, 1 of 5 drawn lines gains over what the network
# made of it and the mean is -1.3 dB, from 20 on 6 of 9, +3.5 dB (2026-11-27).
SEEN_DENSER = 20.0
WIDEST = 0.4  # of a line's height; broader parts of a cluster are ground. 0.3 and 0.5 find as much.
LINE, RING = 0.15, (0.25, 0.8)  # of a line's height: margin of the line; beginning and end of its ring. Not measured.
LEAST_DENSITY = 0.01  # share of the ring's pixels; keeps the quotients finite. Not measured.
MOST_COLOURS = 10_000  # pixels that are clustered, taken at even distances. Not measured.
MOST_PIXELS = (
    2_000_000  # of a line and its ring; larger ones are looked at in a shrunken view, for memory. Not measured.
)
ITERATIONS = 15  # of k-means. Not measured.
# Of a line's height, pixels by which strokes are widened besides one: soft edges, blocks of a JPEG. Not measured.
GROWTH = 1 / 32


class Strokes(NamedTuple):
    """The strokes of a line of text."""

    block: Block  # around the line, with its ring
    mask: np.ndarray  # (h, w) boolean
    denser: float  # times as dense in the line as in its ring; more than `STROKES_DENSER` is trusted

    @property
    def trusted(self) -> bool:
        """True if the colours of the strokes are the line's alone."""
        return self.denser > STROKES_DENSER


def line_strokes(photo: np.ndarray, line: Line) -> Strokes:
    """The strokes of a line of text.

    Args:
        photo: (H, W, 3) RGB uint8.
        line: of text.
    """
    block, view, factor = _around(photo, line)
    own, wide, *ends = (line_mask(line, view, factor, margin) for margin in (0.0, LINE, *RING))
    ring = ends[1] & ~ends[0]
    soft = cv2.GaussianBlur(shrink(photo[block], factor), (3, 3), BLUR).astype(np.float32) / np.float32(255.0)
    lab = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB) * np.array((1.0, CHROMA, CHROMA), np.float32)
    clusters = _clusters(lab, own | ring)
    broad = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(3, int(WIDEST * line.height / factor) | 1),) * 2)
    strokes, beside = np.zeros_like(own), np.zeros_like(own)
    for number in range(int(clusters.max()) + 1):
        here = clusters == number
        if _denser(here, here, own, ring) > CLUSTER_DENSER:
            within = (here & wide).astype(np.uint8)
            strokes |= (within > 0) & (cv2.morphologyEx(within, cv2.MORPH_OPEN, broad) == 0)
            beside |= here
    grown = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (1 + round(GROWTH * line.height / factor)) + 1,) * 2)
    mask = (cv2.dilate(strokes.astype(np.uint8), grown) > 0) & wide
    height, width = photo[block].shape[:2]
    native = mask.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
    return Strokes(block, native, _denser(strokes, beside, own, ring))


def _around(photo: np.ndarray, line: Line) -> tuple[Block, Block, int]:
    """The block of a line with its ring; the same in the view in which it is small enough; the shrinking of that view."""
    quad = line.grown(RING[1])
    low, high = np.maximum(np.floor(quad.min(axis=0)), 0).astype(int), np.ceil(quad.max(axis=0)).astype(int) + 1
    factor = 1
    while np.prod(high - low) > MOST_PIXELS * factor**2:
        factor *= 2
    view = [slice(int(low[i]) // factor, -(-min(int(high[i]), photo.shape[1 - i]) // factor)) for i in (1, 0)]
    block = [slice(part.start * factor, min(part.stop * factor, photo.shape[i])) for i, part in enumerate(view)]
    return (block[0], block[1]), (view[0], view[1]), factor


def _denser(inside: np.ndarray, outside: np.ndarray, own: np.ndarray, ring: np.ndarray) -> float:
    """Times as dense as `outside` in the ring is `inside` in the line."""
    density = np.count_nonzero(inside & own) / max(1, int(np.count_nonzero(own)))
    return float(density / (np.count_nonzero(outside & ring) / max(1, int(np.count_nonzero(ring))) + LEAST_DENSITY))


def _clusters(lab: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The number of the colour cluster (h, w) of every pixel of (h, w, 3), of clusters of the pixels `there`."""
    pixels = lab[there]
    pixels = pixels[:: max(1, len(pixels) // MOST_COLOURS)]
    # The farthest pixel from all centres so far is the next one: no random numbers.
    centres = [pixels[np.square(pixels - np.median(pixels, axis=0)).sum(axis=1).argmin()]]
    distance = np.square(pixels - centres[0]).sum(axis=1)
    while len(centres) < CLUSTERS and distance.max() > 0:
        centres.append(pixels[distance.argmax()])
        distance = np.minimum(distance, np.square(pixels - centres[-1]).sum(axis=1))
    nearest = _nearest(pixels, centres)[:, None]
    stop = (cv2.TERM_CRITERIA_MAX_ITER, ITERATIONS, 0.0)
    _, _, means = cv2.kmeans(pixels, len(centres), nearest, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return _nearest(lab, list(means))


def _nearest(colours: np.ndarray, centres: Sequence[np.ndarray]) -> np.ndarray:
    """The number of the nearest centre of every colour (..., 3), int32."""
    return np.argmin([np.square(colours - centre).sum(axis=-1) for centre in centres], axis=0).astype(np.int32)

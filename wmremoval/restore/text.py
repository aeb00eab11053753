"""Find lines of text in a photograph with a general text detector, and read them.

Detector and recogniser are PP-OCRv6 (small), which the package `rapidocr` carries; nothing is downloaded. They were not
trained on watermarks. Source: Cui et al., "PaddleOCR 3.0 Technical Report", arXiv 2507.05595; the detector is a DB network
(Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from wmremoval.restore.pyramid import shrink

logger = logging.getLogger(__name__)

FINEST_PIXELS = 1_300_000  # pixels; photographs up to this size are searched at native size. Not measured.
FINEST_SHARE = 4  # of a larger photograph one pixel in so many is searched at most: 3 megapixels of 12. Not measured.
ENLARGED_PIXELS = (
    330_000  # pixels; smaller photographs are searched at twice their size too, for small letters. Not measured.
)
# Pixels of a view that the detector sees at once: it takes 200 bytes a pixel, 590 MB for 3 megapixels (2026-11-27).
MOST_SEEN = 1_500_000
OVERLAP = 256  # pixels that two parts of a view have in common; most lines of small letters are shorter. Not measured.
PART = 0.7  # share of a line's area that another one covers, of at most three times its height, from which it is a part of it. Not measured.
COARSEST_SIDE = 96  # pixels; the detector is shown no view with a shorter side below this. Not measured.
LEAST_SCORE = 0.5  # of the detector, its own default; lines below are dropped
SAME_LINE = 0.3  # intersection over union of two quadrilaterals from which both are one line. Not measured.
LEAST_HEIGHT = 5.0  # pixels; lower lines are dropped, since no letter of this height can be read. Not measured.
STRIP_HEIGHT = 48  # pixels; height of the recogniser's input, its own
MOST_READ = 60  # lines of a photograph that are read; a page of text has more. Not measured.
LEAST_READ = 0.5  # confidence of the recogniser, its own default; words below are not reported
LEAST_LETTERS = 3  # of a line. With all lines, 2 of 48 validation photographs were damaged by false ones ("67", "")

MISSING = (
    "text lines are not searched: the package rapidocr is missing; install it with `pip install rapidocr onnxruntime`"
)


@dataclass(frozen=True)
class Line:
    """One line of text."""

    quad: np.ndarray  # (4, 2) float32, x and y in native pixels, clockwise
    score: float  # of the detector, in [0, 1]
    words: str = ""  # as read; empty where nothing could be read
    confidence: float = 0.0  # of the recogniser, in [0, 1]

    @property
    def sides(self) -> tuple[float, float]:
        """Height and length, native pixels; the height is the shorter side."""
        one, other = (float(np.linalg.norm(self.quad[i + 1] - self.quad[i])) for i in (0, 1))
        return min(one, other), max(one, other)

    @property
    def height(self) -> float:
        return self.sides[0]

    @property
    def angle(self) -> float:
        """Of the longer side against the horizontal, degrees in [0, 90]."""
        first, second = self.quad[1] - self.quad[0], self.quad[2] - self.quad[1]
        along = first if np.linalg.norm(first) >= np.linalg.norm(second) else second
        return float(np.degrees(np.arctan2(abs(along[1]), abs(along[0]))))

    def grown(self, share: float) -> np.ndarray:
        """The quadrilateral with every side moved outwards by a share of the height, (4, 2) float32."""
        (x, y), (w, h), angle = cv2.minAreaRect(self.quad)
        more = 2 * share * self.height
        return cv2.boxPoints(((x, y), (w + more, h + more), angle)).astype(np.float32)


class TextFinder:
    """Finds and reads lines of text; its networks are loaded at the first use.

    Args:
        threads: of the networks; 0: as many as there are cores, or as OMP_NUM_THREADS says.
        most_seen: pixels of a view that the detector sees at once; larger views are searched in parts, for memory.

    Raises:
        ModuleNotFoundError: `rapidocr` or `onnxruntime` is not installed.
    """

    def __init__(self, threads: int = 0, most_seen: int = MOST_SEEN):
        from rapidocr import RapidOCR

        self.most_seen = most_seen

        threads = threads or int(os.environ.get("OMP_NUM_THREADS") or -1)
        self._engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.max_side_len": 1_000_000,  # views are resized here, not there
                "Global.use_cls": False,
                "Det.limit_side_len": 32,
                "Det.box_thresh": LEAST_SCORE,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            }
        )

    def find(self, photo: np.ndarray) -> list[Line]:
        """The lines of a photograph, (H, W, 3) RGB uint8, over several scales; the most certain first."""
        lines = [line for factor in text_factors(*photo.shape[:2]) for line in self._find_in(photo, factor)]
        return merge(lines)

    def find_near(self, photo: np.ndarray, line: Line) -> list[Line]:
        """The lines of the surroundings of a line, at a scale at which it was legible."""
        reach = 2.0 * line.height
        low = np.maximum(line.quad.min(axis=0) - reach, 0).astype(int)
        high = np.minimum(line.quad.max(axis=0) + reach, photo.shape[1::-1]).astype(int)
        part = np.ascontiguousarray(photo[low[1] : high[1], low[0] : high[0]])
        shift = low.astype(np.float32)
        return [Line(found.quad + shift, found.score) for found in self.find(part)]

    def read(self, photo: np.ndarray, lines: Sequence[Line]) -> list[Line]:
        """The same lines with their words, where the recogniser is confident of them; the first `MOST_READ` lines."""
        read = []
        for line in lines[:MOST_READ]:
            answer: Any = self._engine(_strip(photo, line), use_det=False, use_cls=False, use_rec=True)
            words, confidence = (answer.txts[0].strip(), float(answer.scores[0])) if answer.txts else ("", 0.0)
            read.append(Line(line.quad, line.score, words if confidence >= LEAST_READ else "", confidence))
        return [*read, *lines[MOST_READ:]]

    def _find_in(self, photo: np.ndarray, factor: float) -> list[Line]:
        """The lines of one view, shrunk by `factor`; a factor below 1 enlarges."""
        if factor < 1:
            view = cv2.resize(photo, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_CUBIC)
        else:
            view = shrink(photo, int(factor))
        parts, lines = view_parts(view.shape[0], view.shape[1], self.most_seen), []
        for rows, columns in parts:
            corner = np.array((columns.start, rows.start), np.float32)
            for line in self._find_at_once(view[rows, columns]):
                lines.append(Line((line.quad + corner) * np.float32(factor), line.score))
        lines = lines if len(parts) == 1 else whole_lines(lines)
        return [line for line in lines if line.height >= LEAST_HEIGHT]

    def _find_at_once(self, view: np.ndarray) -> list[Line]:
        found: Any = self._engine(np.ascontiguousarray(view[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
        if found.boxes is None:
            return []
        return [
            Line(np.array(quad, np.float32), float(score))
            for quad, score in zip(found.boxes, found.scores, strict=True)
        ]


def read_lines(finder: TextFinder, photo: np.ndarray) -> list[Line]:
    """The lines of a photograph in which at least `LEAST_LETTERS` letters are read; what has fewer may be a shape."""
    return [line for line in finder.read(photo, finder.find(photo)) if len(line.words) >= LEAST_LETTERS]


def load_text_finder(most_seen: int = MOST_SEEN) -> TextFinder | None:
    """A `TextFinder`, or None with a warning where its packages are not installed."""
    try:
        return TextFinder(most_seen=most_seen)
    except ModuleNotFoundError:
        logger.warning(MISSING)
        return None


def text_factors(height: int, width: int) -> list[float]:
    """The factors by which a photograph is shrunk for the detector, from the finest view to the coarsest.

    Example:
        >>> text_factors(400, 600), text_factors(3000, 4000)
        ([0.5, 1, 2, 4], [2, 4, 8, 16])
    """
    most, factor = max(FINEST_PIXELS, height * width / FINEST_SHARE), 1
    while height * width / factor**2 > most:
        factor *= 2
    factors: list[float] = [0.5] if height * width <= ENLARGED_PIXELS else []
    factors.append(factor)
    while min(height, width) / (2 * factors[-1]) >= COARSEST_SIDE:
        factors.append(2 * factors[-1])
    return factors


def view_parts(height: int, width: int, most: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the parts of a view, of at most about `most` pixels each, that overlap by `OVERLAP`.

    Example:
        >>> view_parts(400, 600, 1_000_000)
        [(slice(0, 400, None), slice(0, 600, None))]
        >>> [part.stop - part.start for part in view_parts(1500, 2000, 1_000_000)[0]]
        [756, 923]
    """
    if height * width <= most:
        return [(slice(0, height), slice(0, width))]
    core = max(OVERLAP, int(most**0.5) - OVERLAP)
    sides = [(size, -(-size // -(-size // core))) for size in (height, width)]
    rows, columns = (
        [slice(start, min(size, start + step + OVERLAP)) for start in range(0, size, step)] for size, step in sides
    )
    return [(row, column) for row in rows for column in columns]


def whole_lines(lines: Sequence[Line]) -> list[Line]:
    """Lines without those that are a part of another one, as a line at the edge of a part of a view is."""
    kept: list[Line] = []
    for line in sorted(lines, key=lambda line: -cv2.contourArea(line.quad)):
        if not any(other.height < 3.0 * line.height and _covered(line, other) > PART for other in kept):
            kept.append(line)
    return kept


def merge(lines: Sequence[Line]) -> list[Line]:
    """Lines without repetitions: of those that share most of their area the one with the higher score stays.

    A line within a much larger one stays: the larger may be a paragraph, or the whole photograph taken for a letter.
    """
    kept: list[Line] = []
    for line in sorted(lines, key=lambda line: -line.score):
        if not any(overlap(line.quad, other.quad) > SAME_LINE for other in kept):
            kept.append(line)
    return kept


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two quadrilaterals, in [0, 1].

    Example:
        >>> square = np.float32([(0, 0), (4, 0), (4, 4), (0, 4)])
        >>> round(overlap(square, square + np.float32((2, 0))), 2)
        0.33
    """
    if (one.max(axis=0) < other.min(axis=0)).any() or (other.max(axis=0) < one.min(axis=0)).any():
        return 0.0
    common, _ = cv2.intersectConvexConvex(one, other)
    return float(common / max(1e-6, cv2.contourArea(one) + cv2.contourArea(other) - common))


def _covered(line: Line, other: Line) -> float:
    """The share of a line's area that another one covers, in [0, 1]."""
    if (line.quad.max(axis=0) < other.quad.min(axis=0)).any() or (other.quad.max(axis=0) < line.quad.min(axis=0)).any():
        return 0.0
    common, _ = cv2.intersectConvexConvex(line.quad, other.quad)
    return float(common / max(1e-6, cv2.contourArea(line.quad)))


def _strip(photo: np.ndarray, line: Line) -> np.ndarray:
    """A line turned level, (STRIP_HEIGHT, w, 3) BGR uint8, as the recogniser reads it."""
    height, length = line.sides
    scale = STRIP_HEIGHT / height
    quad = _level(line.quad)
    size = max(1, round(length * scale)), STRIP_HEIGHT
    target = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    turn = cv2.getPerspectiveTransform(quad, target)
    return np.ascontiguousarray(cv2.warpPerspective(photo, turn, size, flags=cv2.INTER_AREA)[..., ::-1])


def _level(quad: np.ndarray) -> np.ndarray:
    """The corners in the order of reading: along the longer side, from left to right, or upwards where it is upright."""
    first, second = quad[1] - quad[0], quad[2] - quad[1]
    quad = quad if np.linalg.norm(first) >= np.linalg.norm(second) else np.roll(quad, -1, axis=0)
    along = quad[1] - quad[0]
    backwards = along[0] < 0 if abs(along[0]) > 0.2 * np.linalg.norm(along) else along[1] > 0
    return np.ascontiguousarray(np.roll(quad, 2, axis=0) if backwards else quad)

"""The lines of text of a mark that a detector of text still finds after a removal."""

import importlib.util
from collections.abc import Callable, Sequence

import cv2
import numpy as np

LINE_HEIGHT = 32.0  # pixels; each line is looked at in a view in which it is about as high. Not measured.
MARGIN = 1.5  # heights of the line; what a view shows around it. Not measured.
LARGEST_VIEW = 1280  # pixels; longer side of a view. Not measured.
MOST_LINES = 8  # of a mark are looked at, evenly chosen; tilings have hundreds
FOUND_SHARE = 0.5  # share of a line's box under the detector's boxes from which the line counts as found. Not measured.
NO_DETECTOR = "lines_left is missing, since no detector of text is installed: pip install 'rapidocr>=3.10' onnxruntime"

Detector = Callable[[np.ndarray], np.ndarray | None]  # of (H, W, 3) RGB uint8: corners (n, 4, 2), None without text


def load_detector() -> Detector | None:
    """The text detector of rapidocr, PP-OCR; None where rapidocr or onnxruntime is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime")):
        return None
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={"Global.log_level": "critical", "Det.limit_type": "max", "Det.limit_side_len": LARGEST_VIEW}
    )
    return lambda view: engine(view[..., ::-1], use_det=True, use_cls=False, use_rec=False).boxes


def lines_found(detector: Detector, photo: np.ndarray, lines: Sequence[np.ndarray]) -> np.ndarray:
    """Tell which lines a detector finds.

    Args:
        detector: see `load_detector`.
        photo: (H, W, 3) RGB uint8.
        lines: corners of each line, (4, 2) pixels; the first edge runs along the line, the second across.

    Returns:
        (n,) bool: the detector's boxes cover `FOUND_SHARE` of the line's box or more.
    """
    return np.array([_share_found(detector, photo, line) >= FOUND_SHARE for line in lines], bool)


def _share_found(detector: Detector, photo: np.ndarray, line: np.ndarray) -> float:
    """The share of a line's box that the detector's boxes cover, in a view of the line's surroundings."""
    tall = max(1.0, float(np.hypot(*(line[2] - line[1]))))
    size = photo.shape[1::-1]
    first = np.clip(np.floor(line.min(axis=0) - MARGIN * tall), 0, size).astype(int)
    last = np.clip(np.ceil(line.max(axis=0) + MARGIN * tall), 0, size).astype(int)
    if (last <= first).any():
        return 0.0
    view = photo[first[1] : last[1], first[0] : last[0]]
    scale = min(LINE_HEIGHT / tall, LARGEST_VIEW / max(view.shape[:2]))
    wide, high = (max(16, round(scale * n)) for n in view.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    boxes = detector(np.ascontiguousarray(cv2.resize(view, (wide, high), interpolation=how)))
    wanted = _filled([(line - first) * scale], (high, wide))
    found = _filled([] if boxes is None else boxes, (high, wide))
    return float(found[wanted].mean()) if wanted.any() else 0.0


def _filled(boxes: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels inside of any of the boxes, (H, W) bool."""
    sheet = np.zeros(shape, np.uint8)
    for box in boxes:
        cv2.fillPoly(sheet, [np.round(box).astype(np.int32)], 1)
    return sheet > 0

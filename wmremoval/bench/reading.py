"""The lines of text of a mark that a detector of text still finds after a removal."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

# Pixels; a line is looked at in views in which it is so high. Of 147 lines of web marks over three photographs 105 are
# found at the first height, 112 at the second, 115 at either.
LINE_HEIGHTS = (32.0, 48.0)
MARGIN = 1.5  # heights of the line; what a view shows around it. Not measured.
LARGEST_VIEW = 1280  # pixels; longer side of a view. Not measured.
MOST_LINES = 8  # of a mark are looked at, evenly chosen; tilings have hundreds
LARGEST_BOX = 3.0  # areas of the line's box; a larger box of the detector holds an object, not the line. Not measured.
FOUND_SHARE = 0.5  # share of a line's box under the detector's boxes from which the line counts as found. Not measured.
NO_DETECTOR = "lines_left is missing, since no detector of text is installed: pip install 'rapidocr>=3.10' onnxruntime"

Detector = Callable[[np.ndarray], np.ndarray | None]  # of (H, W, 3) RGB uint8: corners (n, 4, 2), None without text


def load_detector() -> Detector | None:
    """The text detector of rapidocr, PP-OCR; None where rapidocr or onnxruntime is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime")):
        return None
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(
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
    found = [any(_share_found(detector, photo, line, tall) >= FOUND_SHARE for tall in LINE_HEIGHTS) for line in lines]
    return np.array(found, bool)


def _share_found(detector: Detector, photo: np.ndarray, line: np.ndarray, tall: float) -> float:
    """The share of a line's box that the detector's boxes cover, where the line is shown level and `tall` px high."""
    height, length = (max(1.0, float(np.hypot(*(line[2] - line[end])))) for end in (1, 3))
    along, across = (line[1] - line[0]) / length, (line[3] - line[0]) / height
    pad = MARGIN * height
    frame = line + pad * np.array([-along - across, along - across, along + across, across - along], np.float32)
    first, last = (
        np.clip(corner, 0, photo.shape[1::-1]).astype(int)
        for corner in (np.floor(frame.min(axis=0)), np.ceil(frame.max(axis=0)))
    )
    if (last <= first).any():
        return 0.0
    view, scale = photo[first[1] : last[1], first[0] : last[0]], min(tall / height, LARGEST_VIEW / (length + 2 * pad))
    smaller = tuple(max(16, round(scale * n)) for n in view.shape[1::-1])
    view = cv2.resize(view, smaller, interpolation=cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC)
    wide, high = round(scale * (length + 2 * pad)), round(scale * (height + 2 * pad))
    level = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    turn = cv2.getAffineTransform(np.array((frame - first) * scale, np.float32)[:3], level[:3])
    view = cv2.warpAffine(view, turn, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    line = (line - first) * scale @ turn[:, :2].T + turn[:, 2]
    wanted, boxes = _filled([line], (high, wide)), detector(np.ascontiguousarray(view))
    small = [] if boxes is None else [box for box in boxes if cv2.contourArea(box) <= LARGEST_BOX * wanted.sum()]
    return float(_filled(small, (high, wide))[wanted].mean()) if wanted.any() else 0.0


def _filled(boxes: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels inside of any of the boxes, (H, W) bool."""
    sheet = np.zeros(shape, np.uint8)
    for box in boxes:
        cv2.fillPoly(sheet, [np.round(box).astype(np.int32)], 1)
    return sheet > 0

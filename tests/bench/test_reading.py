"""Lines that a detector of text finds: level views of any line, by a planted detector and by the real one."""

import cv2
import numpy as np
import pytest

from wmremoval.bench import reading
from wmremoval.bench.web_canvas import SANS, Canvas, Line
from wmremoval.data.marks import blend


def bar(angle, size=(300, 400), length=200, tall=20):
    """A white bar on black, turned by `angle` degrees, and its corners."""
    corners = np.float32([[-length, -tall], [length, -tall], [length, tall], [-length, tall]]) / 2
    turn = np.radians(angle)
    spin = np.float32([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = corners @ spin.T + np.float32([size[1] / 2, size[0] / 2])
    return cv2.fillPoly(np.zeros((*size, 3), np.uint8), [np.round(corners).astype(int)], (255, 255, 255)), corners


@pytest.mark.parametrize("angle", [0.0, 30.0, -75.0, 90.0])
def test_a_line_is_shown_level_and_of_the_wanted_height(angle):
    photo, line = bar(angle)
    seen = []

    def detector(view):
        y, x = np.nonzero(view[..., 0] > 127)
        seen.append(np.ptp(y) + 1)
        assert np.ptp(x) > 8 * np.ptp(y), "level"
        return np.float32([[[x.min(), y.min()], [x.max(), y.min()], [x.max(), y.max()], [x.min(), y.max()]]])

    assert reading.lines_found(detector, photo, [line]).tolist() == [True]
    assert seen[0] == pytest.approx(reading.LINE_HEIGHTS[0], abs=4)


def test_nothing_found_and_boxes_of_whole_objects_do_not_count():
    photo, line = bar(0.0)
    assert reading.lines_found(lambda view: None, photo, [line, line]).tolist() == [False, False]

    def whole(view):
        high, wide = view.shape[:2]
        return np.float32([[[0, 0], [wide, 0], [wide, high], [0, high]]])

    assert not reading.lines_found(whole, photo, [line]).any()
    assert not reading.lines_found(whole, photo, [line + 1000]).any(), "outside of the photograph"
    assert reading.lines_found(whole, photo, []).shape == (0,)


def test_without_the_package_there_is_no_detector(monkeypatch):
    monkeypatch.setattr(reading.importlib.util, "find_spec", lambda name: None)
    assert reading.load_detector() is None


def test_the_real_detector_finds_drawn_lines_of_any_tilt_and_none_without(capfd):
    for package in ("rapidocr", "onnxruntime"):
        pytest.importorskip(package)
    detector = reading.load_detector()
    x = np.linspace(60, 180, 500)
    photo = np.uint8(np.stack([np.broadcast_to(x, (400, 500)), np.full((400, 500), 90), np.full((400, 500), 70)], -1))
    canvas = Canvas(500, 400)
    canvas.write(Line("harbour lights", SANS, 28.0), (250, 60), "mm", (1.0, 1.0, 1.0), 0.7)
    canvas.write(Line("harbour lights", SANS, 28.0, 40.0), (250, 230), "mm", (0.0, 0.0, 0.0), 0.7)
    watermarked = blend(photo, canvas.mark())[0]
    assert reading.lines_found(detector, watermarked, canvas.lines).tolist() == [True, True]
    assert reading.lines_found(detector, photo, canvas.lines).tolist() == [False, False]
    assert capfd.readouterr().out == ""

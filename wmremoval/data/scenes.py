"""Hard unmarked pictures: scenes with text, lines or flat areas that networks take for marks.

Every scene is (side, side, 3) RGB uint8, made from one photograph of the same size.
"""

from collections.abc import Callable

import cv2
import numpy as np

from wmremoval.data.fonts import FontBook
from wmremoval.data.lettering import choose_line, write_line
from wmremoval.data.stamps import draw_sign
from wmremoval.images import to_uint8


def backdrop(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """A subject cut out of the photograph with a soft outline, before one colour or a gradient, as in a web shop."""
    side = len(photograph)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    ramp = (0.5 + 0.35 * (np.cos(direction) * x + np.sin(direction) * y))[..., None]
    ends = _light(rng) if rng.random() < 0.6 else rng.uniform(0, 1, 3), _light(rng)
    ground = ends[0] * (1 - ramp) + (ends[1] if rng.random() < 0.7 else ends[0]) * ramp
    if rng.random() < 0.3:  # a lamp gives a radial gradient
        ground = ground * (1 - rng.uniform(0.2, 0.6) * np.hypot(x, y)[..., None] / 1.5)
    reach, power = rng.uniform(0.25, 0.75, 2), rng.choice((2.0, 2.0, 4.0))
    centre = rng.uniform(-0.3, 0.3, 2)
    lobes = 1 + rng.uniform(0, 0.25) * np.sin(rng.integers(2, 7) * np.arctan2(y, x) + direction)
    distance = np.abs((x - centre[0]) / reach[0]) ** power + np.abs((y - centre[1]) / reach[1]) ** power
    subject = np.clip((lobes - distance) * rng.uniform(3, 40) + 0.5, 0, 1).astype(np.float32)[..., None]
    picture = photograph / np.float32(255.0) * subject + ground.astype(np.float32) * (1 - subject)
    grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(rng.choice((0.0, 0.004, 0.012)))
    return to_uint8((picture + grain).clip(0, 1))


def page(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """A page or a screen full of text lines, boxes and rules, more than half of the time with the photograph as a picture."""
    side = len(photograph)
    dark = rng.random() < 0.25
    ground = rng.uniform(0.0, 0.25, 3) if dark else _light(rng)
    picture = np.broadcast_to(np.float32(ground), photograph.shape).copy()
    ink = _light(rng) if dark or rng.random() < 0.1 else rng.uniform(0.0, 0.3, 3)
    em, margin = rng.uniform(8, 22), int(rng.integers(2, side // 8))
    y = margin
    while y < side - em:
        kind = rng.random()
        if kind < 0.75:
            heading = rng.random() < 0.12
            cover = _line(rng, fonts, em * (1.8 if heading else 1.0), side - 2 * margin)
            colour = rng.uniform(0, 1, 3) if heading or rng.random() < 0.08 else ink
            _print(picture, cover, colour, (y, margin))
        elif kind < 0.85:
            cv2.line(picture, (margin, y), (side - margin, y), ink.tolist(), int(rng.integers(1, 3)))
        else:  # a button or a field
            wide = int(rng.integers(side // 8, side - margin))
            filled = -1 if rng.random() < 0.5 else 1
            corner = margin + wide, y + round(1.3 * em)
            cv2.rectangle(picture, (margin, y), corner, rng.uniform(0, 1, 3).tolist(), filled)
        y += round(em * rng.uniform(1.3, 2.2))
    if rng.random() < 0.6:  # the picture hides the lines; lines over it would be a mark
        high, wide = (int(side * share) for share in rng.uniform(0.25, 0.6, 2))
        top, left = int(rng.integers(side - high)), int(rng.integers(side - wide))
        small = cv2.resize(photograph, (wide, high), interpolation=cv2.INTER_AREA)
        picture[top : top + high, left : left + wide] = small / np.float32(255.0)
    return to_uint8(picture.clip(0, 1))


def chart(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """A chart of bars or curves with a grid and labels, on a light or a dark background."""
    side, dark = len(photograph), rng.random() < 0.3
    picture = np.broadcast_to(np.float32(rng.uniform(0.0, 0.2, 3) if dark else _light(rng)), photograph.shape).copy()
    ink = _light(rng) if dark else rng.uniform(0.0, 0.5, 3)
    left, foot, count = (
        round(side * rng.uniform(0.08, 0.2)),
        round(side * rng.uniform(0.8, 0.92)),
        int(rng.integers(3, 12)),
    )
    for level in np.linspace(side * 0.08, foot, int(rng.integers(4, 10))).astype(int):
        cv2.line(picture, (left, int(level)), (side, int(level)), (0.6 * ink + 0.2).tolist(), 1)
        _print(picture, _line(rng, fonts, 9, left), ink, (int(level) - 5, 1))
    steps = np.linspace(left, side, count + 1).astype(int)
    values = foot - rng.uniform(0.1, 0.9, (2, count + 1)) * (foot - side * 0.08)
    if rng.random() < 0.5:
        colour = rng.uniform(0, 1, 3).tolist()
        for start, end, value in zip(steps, steps[1:], values[0].astype(int), strict=False):
            cv2.rectangle(picture, (int(start) + 2, int(value)), (int(end) - 2, foot), colour, -1)
    else:
        for curve in values:
            points = np.stack([steps, curve.astype(int)], axis=1).reshape(-1, 1, 2)
            cv2.polylines(picture, [points], False, rng.uniform(0, 1, 3).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    _print(picture, _line(rng, fonts, rng.uniform(10, 24), 0.9 * side), ink, (1, left))
    return to_uint8(picture.clip(0, 1))


def lettered(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """One or two opaque signs with letters, seen at an angle and in the light of the photograph."""
    side = len(photograph)
    picture = photograph / np.float32(255.0)
    light = cv2.GaussianBlur(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY), (0, 0), side / 12) / np.float32(255.0)
    light = (light / max(float(light.mean()), 0.05)).clip(0.4, 1.5)[..., None]
    for _ in range(int(rng.integers(1, 3))):
        covers = [_line(rng, fonts, side * rng.uniform(0.06, 0.25), 0.7 * side) for _ in range(rng.integers(1, 4))]
        pad = max(2, round(0.3 * covers[0].shape[0]))
        wide, high = (
            max(cover.shape[1] for cover in covers) + 2 * pad,
            sum(cover.shape[0] + pad for cover in covers) + pad,
        )
        board = np.broadcast_to(np.float32(rng.uniform(0.02, 0.95, 3)), (high, wide, 3)).copy()
        ink = (rng.uniform(0.5, 1.0, 3) if board[0, 0].mean() < 0.5 else rng.uniform(0.0, 0.35, 3)).astype(np.float32)
        y = pad
        for cover in covers:
            _print(board, cover, ink, (y, (wide - cover.shape[1]) // 2))
            y += cover.shape[0] + pad
        sheet = np.dstack([board, np.ones((high, wide), np.float32)])
        seen = cv2.warpPerspective(sheet, _random_homography(rng, high, wide, side), (side, side), flags=cv2.INTER_AREA)
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.2))
        grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(0.02)
        picture = picture * (1 - seen[..., 3:]) + seen[..., :3] * light + grain * seen[..., 3:]
    return to_uint8(picture.clip(0, 1))


def railing(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """Bars, a fence or a wire net before the photograph, each bar lit from one side."""
    side = len(photograph)
    sheet = np.zeros((2 * side, 2 * side, 4), np.float32)
    pitch, thick = side * rng.uniform(0.06, 0.25), max(2, round(side * rng.uniform(0.01, 0.035)))
    tone = np.float32(rng.uniform(0.7, 1.0) if rng.random() < 0.3 else rng.uniform(0.05, 0.4)) * (
        1 + 0.1 * rng.uniform(-1, 1, 3)
    )
    slope = rng.choice((0.0, 0.0, 1.0))  # 1 for a wire net, which is darker than marks
    tone = tone * 0.5 if slope else tone
    for place in np.arange(rng.uniform(0, pitch) - 2 * side * slope, 2 * side, pitch):
        for shade, off in ((0.6, 0), (1.0, max(1, thick // 3))):
            ends = (round(place) + off, 0), (round(place + 2 * side * slope) + off, 2 * side)
            cv2.line(sheet, *ends, (*(tone * shade).tolist(), 1.0), thick - (off and thick // 2))
            if slope:
                first, last = ((2 * side - x, y) for x, y in ends)
                cv2.line(sheet, first, last, (*(tone * shade).tolist(), 1.0), thick)
    for place in rng.uniform(0.2, 1.8, 0 if slope else rng.integers(1, 4)) * side:
        cv2.line(sheet, (0, round(place)), (2 * side, round(place)), (*tone.tolist(), 1.0), 2 * thick)
    return _behind(rng, photograph, sheet)


def windows(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """A facade with dark or lit windows over a part of the photograph, or the photograph behind a window's bars."""
    side = len(photograph)
    sheet = np.zeros((2 * side, 2 * side, 4), np.float32)
    wall = (rng.uniform(0.2, 0.95) * (1 + 0.1 * rng.uniform(-1, 1, 3))).astype(np.float32)
    sheet[..., :3], sheet[..., 3] = wall, 1.0
    through = rng.random() < 0.4
    pitch = side * (rng.uniform(0.3, 0.7, 2) if through else rng.uniform(0.08, 0.3, 2))
    gap = np.maximum(1.0, pitch * (rng.uniform(0.07, 0.16) if through else rng.uniform(0.15, 0.5, 2)))
    for top in np.arange(0, 2 * side, pitch[0]):
        for left in np.arange(0, 2 * side, pitch[1]):
            corners = (
                (round(left + gap[1]), round(top + gap[0])),
                (round(left + pitch[1]) - 1, round(top + pitch[0]) - 1),
            )
            glass = wall * np.float32(rng.uniform(0.1, 0.5) if rng.random() < 0.8 else rng.uniform(1.0, 1.4))
            colour = [0.0, 0.0, 0.0, 0.0] if through else [*glass.tolist(), 1.0]
            cv2.rectangle(sheet, corners[0], corners[1], colour, -1)
    return _behind(rng, photograph, sheet, whole=through)


# All scenes, each with equal probability.
SCENES: tuple[Callable[[np.random.Generator, np.ndarray, FontBook], np.ndarray], ...] = (
    backdrop,
    page,
    chart,
    lettered,
    railing,
    windows,
)


def draw_scene(rng: np.random.Generator, photograph: np.ndarray, fonts: FontBook) -> np.ndarray:
    """Draw one of `SCENES`.

    Args:
        rng: decides everything.
        photograph: (side, side, 3) RGB uint8; not changed.
        fonts: faces of the texts; without any, signs stand in for lines.

    Returns:
        (side, side, 3) RGB uint8.
    """
    return SCENES[rng.integers(len(SCENES))](rng, photograph, fonts)


def _light(rng: np.random.Generator) -> np.ndarray:
    """A light colour, (3,) RGB in [0, 1]: white or nearly so, or pale."""
    return np.full(3, rng.uniform(0.93, 1.0)) if rng.random() < 0.6 else rng.uniform(0.65, 1.0, 3)


def _line(rng: np.random.Generator, fonts: FontBook, em: float, width: float) -> np.ndarray:
    """The cover of a line of text, or of a sign without faces."""
    line = choose_line(rng, fonts)
    return write_line(line, em, max(8.0, width)) if line else draw_sign(rng, max(6, round(em)))


def _print(picture: np.ndarray, cover: np.ndarray, colour: np.ndarray, place: tuple[int, int]) -> None:
    """Print a cover in one colour onto a picture at (top, left), in place and cropped to it."""
    top, left = max(0, place[0]), max(0, place[1])
    part = picture[top : top + cover.shape[0], left : left + cover.shape[1]]
    cover = cover[: part.shape[0], : part.shape[1], None]
    part += cover * (np.float32(colour) - part)


def _random_homography(rng: np.random.Generator, high: int, wide: int, side: int) -> np.ndarray:
    """The homography of a board of high x wide pixels to a random place in a picture of `side` pixels, at an angle."""
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    scale = min(1.0, 0.9 * side / max(high, wide)) * rng.uniform(0.6, 1.1)
    turn = np.radians(rng.uniform(-12, 12))
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], np.float32)
    seen = (corners - (wide / 2, high / 2)) * scale @ spin.T
    seen *= 1 + rng.uniform(-0.22, 0.22, (4, 1))  # perspective: nearer corners lie further from the middle
    return cv2.getPerspectiveTransform(corners, np.array(seen + rng.uniform(0.25, 0.75, 2) * side, np.float32))


def _behind(rng: np.random.Generator, photograph: np.ndarray, sheet: np.ndarray, whole: bool = True) -> np.ndarray:
    """The photograph behind a sheet of twice its size, seen at an angle.

    With `whole` False the sheet lies on one side of a straight edge only.
    """
    side = len(photograph)
    corners = np.array([[0, 0], [2 * side, 0], [2 * side, 2 * side], [0, 2 * side]], np.float32)
    seen: np.ndarray = (corners - side) * (1 + rng.uniform(-0.3, 0.1, (4, 1))) * rng.uniform(0.8, 1.2) + side / 2
    matrix = cv2.getPerspectiveTransform(corners, np.array(seen, np.float32))
    sheet[..., :3] *= sheet[..., 3:]
    seen = cv2.warpPerspective(sheet, matrix, (side, side), flags=cv2.INTER_LINEAR)
    seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.0))
    if not whole:
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        seen *= (np.cos(angle) * x + np.sin(angle) * y > rng.uniform(-0.8, 0.2))[..., None]
    picture = photograph / np.float32(255.0) * (1 - seen[..., 3:]) + seen[..., :3]
    grain = rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(0.012)
    return to_uint8((picture + grain * seen[..., 3:]).clip(0, 1))

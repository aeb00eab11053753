"""Layouts of marks on the web, each drawn onto a `Sheet`: credits, tilings, crossed lines, stamps, banners, emblems.

A stamp is (h, w, 4) RGBA float32 in [0, 1], premultiplied; a cover is (h, w) float32 in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from wmremoval.data.fonts import FontBook
from wmremoval.data.lettering import bend, choose_line, seven_segments, write_block, write_line
from wmremoval.data.stamps import (
    box_stamp,
    centred,
    draw_sign,
    hollow,
    in_colour,
    joined,
    merge,
    over,
    paint,
    shadowed,
    softened,
    turned,
)
from wmremoval.data.strings import numeric_date

# Sizes and colours, chosen and not measured.
CREDIT_EM = (8.0, 14.0)  # pixels; range of the em of credit lines, for photographs of any size
LEAST_EM = 9.0  # pixels; smallest em of all other letters
LARGEST_EM_SHARE = 0.34  # largest em of all other letters, as a share of the photograph's shorter side
LINE_WIDTHS = (1, 2, 3)  # pixels; of crossing lines and of those between tiled words
LARGEST_RING = 110.0  # pixels; largest radius of a drawn ring stamp; larger ones are enlarged from it, for speed
# RGB in [0, 1]; of the dates of cameras.
DATE_COLOURS = (
    (1.0, 0.55, 0.1),
    (1.0, 0.75, 0.2),
    (1.0, 0.25, 0.1),
    (0.5, 1.0, 0.3),
)


@dataclass
class Sheet:
    """A transparent layer as large as a photograph, with the random generator, faces and logos of a layout."""

    rng: np.random.Generator
    height: int  # pixels
    width: int  # pixels
    fonts: FontBook
    logos: Sequence[np.ndarray] = ()  # (h, w, 4) RGBA uint8
    layer: np.ndarray = field(init=False)  # (height, width, 4) RGBA float32, premultiplied

    def __post_init__(self) -> None:
        self.layer = np.zeros((self.height, self.width, 4), np.float32)

    @property
    def side(self) -> int:
        """The shorter side, pixels."""
        return min(self.height, self.width)

    def em(self, largest: float = LARGEST_EM_SHARE) -> float:
        """A random em in pixels, log-uniform from `LEAST_EM` to a share of the shorter side."""
        return float(np.exp(self.rng.uniform(np.log(LEAST_EM), np.log(max(LEAST_EM + 1, largest * self.side)))))

    def lay(self, stamp: np.ndarray, top: int, left: int) -> None:
        """Put a stamp over the layer, its corner at (top, left) in pixels, cropped to the photograph."""
        high, wide = min(top + stamp.shape[0], self.height), min(left + stamp.shape[1], self.width)
        if high <= max(top, 0) or wide <= max(left, 0):
            return
        place = np.s_[max(top, 0) : high, max(left, 0) : wide]
        part = stamp[max(-top, 0) : high - top, max(-left, 0) : wide - left]
        self.layer[place] = over(part, self.layer[place])

    def put(self, stamp: np.ndarray) -> None:
        """Lay a stamp at random: in a corner, at an edge, in the middle, or anywhere, sometimes cut by the border."""
        rng, free = self.rng, (self.height - stamp.shape[0], self.width - stamp.shape[1])
        if rng.random() < 0.6:
            margin = rng.uniform(0.005, 0.06) * self.side
            place = (rng.choice((margin, n / 2, n - margin), p=(0.2, 0.2, 0.6)) for n in free)
        else:
            place = (rng.uniform(0.0, 1.0) * n + rng.uniform(-0.12, 0.12) * self.side for n in free)
        self.lay(stamp, *(round(v) for v in place))


def credit(sheet: Sheet) -> None:
    """A small credit line along an edge, most often white."""
    line = choose_line(sheet.rng, sheet.fonts)
    if line is None:
        return boxed_icon(sheet)
    cover = write_line(line, sheet.rng.uniform(*CREDIT_EM), 0.98 * sheet.width)
    stamp = softened(sheet.rng, _white(sheet.rng, cover))
    upright = sheet.rng.random() < 0.15  # along the side of the photograph
    stamp = np.ascontiguousarray(np.rot90(stamp, sheet.rng.choice((1, 3)))) if upright else stamp
    margin = sheet.rng.integers(1, 8, 2)
    ends = [(int(margin[i]), n - int(margin[i])) for i, n in enumerate(_free(sheet, stamp))]
    sheet.lay(stamp, *(end[sheet.rng.integers(2)] for end in ends))


def lockup(sheet: Sheet) -> None:
    """One to three lines, half of the time with an icon beside or above them, level or turned."""
    rng, em = sheet.rng, sheet.em()
    cover = write_block(rng, sheet.fonts, em, 0.95 * sheet.width)
    if cover is None:
        return boxed_icon(sheet)
    stamp = paint(rng, cover)
    if rng.random() < 0.5:
        beside = rng.random() < 0.6
        size = min(rng.uniform(0.8, 2.2) * (cover.shape[0] if beside else em), 0.6 * sheet.side)
        stamp = joined(_icon(sheet, size), stamp, round(em * rng.uniform(0.1, 0.5)), beside)
    if rng.random() < 0.3:
        stamp = shadowed(rng, stamp, em)
    if rng.random() < 0.3:
        stamp = turned(stamp, rng.choice((-45.0, -30.0, 30.0, 45.0, 90.0, rng.uniform(-40, 40))))
    sheet.put(softened(rng, stamp))


def tiled_words(sheet: Sheet) -> None:
    """A word or an icon repeated over the whole photograph, most often at an angle, half of the time with thin lines between."""
    rng, em = sheet.rng, sheet.em(0.12)
    cover = write_block(rng, sheet.fonts, em, 0.6 * sheet.width, 1)
    if cover is None or rng.random() < 0.2:
        cover = _icon(sheet, em * rng.uniform(1.0, 3.0))[..., 3]
    lines = rng.random() < 0.5
    gap_y, gap_x = round(em * rng.uniform(0.8, 5.0)), round(em * rng.uniform(0.5, 4.0))
    tile = np.pad(cover, ((gap_y // 2, gap_y - gap_y // 2), (gap_x // 2, gap_x - gap_x // 2)))
    if rng.random() < 0.7:
        tile = np.concatenate([tile, np.roll(tile, tile.shape[1] // 2, axis=1)])
    if lines:
        strength = np.float32(rng.uniform(0.4, 1.0))
        for start in range(0, tile.shape[0], cover.shape[0] + gap_y):
            tile[start : start + rng.choice(LINE_WIDTHS)] = strength
        if rng.random() < 0.3:
            tile[:, : rng.choice(LINE_WIDTHS)] = strength
    angle = rng.choice((0.0, 30.0, -30.0, 45.0, -45.0, rng.uniform(-60, 60)))
    matrix = cv2.getRotationMatrix2D((0, 0), angle, 1.0)
    matrix[:, 2] = rng.uniform(0, 1, 2) * tile.shape[::-1]
    size = (sheet.width, sheet.height)
    cover = cv2.warpAffine(tile, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    sheet.layer = paint(rng, cover)


def crossed(sheet: Sheet) -> None:
    """Thin lines from corner to corner, more than half of the time with a word or a boxed icon at the crossing."""
    rng, right, bottom = sheet.rng, sheet.width - 1, sheet.height - 1
    cover = np.zeros((sheet.height, sheet.width), np.uint8)
    ends = [((0, 0), (right, bottom)), ((0, bottom), (right, 0))]
    if rng.random() < 0.25:
        upright, level = ((right // 2, 0), (right // 2, bottom)), ((0, bottom // 2), (right, bottom // 2))
        ends = [*ends[: int(rng.integers(1, 3))], upright, level]
    thickness = int(rng.choice(LINE_WIDTHS))
    for start, end in ends:
        _draw_line(cover, start, end, thickness)
    middle = rng.random()
    stamp = None
    if middle < 0.3:
        text = write_block(rng, sheet.fonts, sheet.em(0.16), 0.8 * sheet.width)
        stamp = None if text is None else paint(rng, text)
    elif middle < 0.6:
        stamp = _boxed(sheet, _icon(sheet, sheet.side * rng.uniform(0.08, 0.25)))
    if stamp is not None:  # lines end at the word or box
        top, left = (n // 2 for n in _free(sheet, stamp))
        margin = int(0.02 * sheet.side)
        first = max(top - margin, 0), max(left - margin, 0)
        cover[first[0] : top + stamp.shape[0] + margin, first[1] : left + stamp.shape[1] + margin] = 0
    sheet.layer = paint(rng, cover.astype(np.float32) / np.float32(255.0))
    if stamp is not None:
        sheet.lay(stamp, top, left)


def boxed_icon(sheet: Sheet) -> None:
    """An icon in a rounded box."""
    icon = _icon(sheet, sheet.side * sheet.rng.uniform(0.06, 0.35))
    sheet.put(softened(sheet.rng, _boxed(sheet, icon)))


def ring_stamp(sheet: Sheet) -> None:
    """One or two rings with words along them and, most often, an icon or a year inside."""
    rng = sheet.rng
    wanted = sheet.side * rng.uniform(0.08, 0.34)  # pixels; radius on the photograph
    radius = min(wanted, LARGEST_RING)
    em, count = radius * rng.uniform(0.2, 0.36), int(rng.integers(1, 3))
    size = round(2 * (radius + 1.9 * em))
    whole = np.zeros((size, size), np.uint8)
    thickness = max(1, round(radius * rng.uniform(0.015, 0.08)))
    for ring in (radius + 1.5 * em, radius - 0.4 * em)[: int(rng.integers(1, 3))]:
        cv2.circle(whole, (size // 2, size // 2), round(ring), 255, thickness, cv2.LINE_AA)
    cover: np.ndarray = whole.astype(np.float32) / np.float32(255.0)
    for turn in range(count):  # a second line stands opposite the first
        line = choose_line(rng, sheet.fonts)
        if line is not None:
            text = bend(write_line(line, em, (5.2 if count == 1 else 2.8) * radius, rng.uniform(0.0, 0.15)), radius)
            merge(cover, text if turn == 0 else np.ascontiguousarray(np.rot90(text, 2)))
    if rng.random() < 0.7:
        merge(cover, _icon(sheet, radius * rng.uniform(0.6, 1.2))[..., 3])
    if wanted > radius:
        cover = cv2.resize(cover, None, fx=wanted / radius, fy=wanted / radius, interpolation=cv2.INTER_LINEAR)
    stamp = paint(rng, cover)
    sheet.put(softened(rng, turned(stamp, rng.uniform(-40, 40)) if rng.random() < 0.5 else stamp))


def banner(sheet: Sheet) -> None:
    """Words on a translucent band across the photograph or on a caption box, which the border may cut."""
    rng, em = sheet.rng, sheet.em(0.14)
    text = write_block(rng, sheet.fonts, em, 0.85 * sheet.width)
    if text is None:
        return boxed_icon(sheet)
    stamp = _white(rng, text) if rng.random() < 0.6 else paint(rng, text)
    tall, wide = (round(em * rng.uniform(*ends)) for ends in ((0.15, 0.9), (0.2, 1.5)))
    across = rng.random() < 0.4
    if across:
        wide = max(0, sheet.width - stamp.shape[1]) // 2 + 1
    stamp = np.pad(stamp, ((tall, tall), (wide, wide), (0, 0)))
    stamp = over(stamp, box_stamp(rng, stamp.shape[:2], 0.0 if across else rng.choice((0.0, 0.0, 0.15, 0.5))))
    if across:
        free = _free(sheet, stamp)
        sheet.lay(stamp, round(rng.choice((0.0, rng.uniform(0, 1), 1.0)) * free[0]), free[1] // 2)
    else:
        sheet.put(stamp)


def big_word(sheet: Sheet) -> None:
    """A single word or sign over half of the photograph."""
    rng = sheet.rng
    line = choose_line(rng, sheet.fonts)
    length = sheet.width * rng.uniform(0.5, 0.95)
    if line is None or rng.random() < 0.25:
        stamp = paint(rng, _icon(sheet, min(length, 0.9 * sheet.side))[..., 3])
    else:
        cover = write_line(line, 0.6 * sheet.height, length)
        stamp = paint(rng, hollow(rng, cover, cover.shape[0]) if rng.random() < 0.2 else cover)
    if rng.random() < 0.4:
        stamp = turned(stamp, rng.choice((-35.0, 35.0, rng.uniform(-45, 45))))
    off = rng.uniform(-0.1, 0.1, 2) * sheet.side
    sheet.lay(stamp, *(round(n / 2 + d) for n, d in zip(_free(sheet, stamp), off, strict=True)))


def emblem(sheet: Sheet) -> None:
    """An emblem of several colours: a logo in its own colours or a badge with an icon, half of the time with a name."""
    rng, size = sheet.rng, sheet.side * sheet.rng.uniform(0.1, 0.55)
    if len(sheet.logos) and rng.random() < 0.6:
        stamp = _logo(sheet, size)
    else:
        badge = box_stamp(rng, (round(size), round(size)), rng.choice((0.2, 0.5)))
        inner = _coloured(rng, _icon(sheet, 0.6 * size)[..., 3])
        stamp = over(centred(inner, badge.shape), badge)
    if rng.random() < 0.5:
        name = write_block(rng, sheet.fonts, size * rng.uniform(0.2, 0.6), 0.7 * sheet.width, 1)
        if name is not None:
            stamp = joined(stamp, _coloured(rng, name), round(0.1 * size), rng.random() < 0.6)
    sheet.put(softened(rng, stamp))


def raised(sheet: Sheet) -> None:
    """Embossed letters, lit from the top left and filled or not, or outlined letters."""
    rng, em = sheet.rng, sheet.em()
    cover = write_block(rng, sheet.fonts, em, 0.9 * sheet.width)
    if cover is None:
        cover = _icon(sheet, em * 2)[..., 3]
    depth = max(1, round(em * rng.uniform(0.02, 0.05)))
    cover = np.pad(cover, 2 * depth + 1)
    if rng.random() < 0.5:
        light, dark = (np.clip(cover - np.roll(cover, step, (0, 1)), 0, 1) for step in (depth, -depth))
        stamp = over(in_colour(light, np.ones(3)), in_colour(dark * rng.uniform(0.5, 1.0), np.zeros(3)))
        stamp = over(stamp, paint(rng, cover) * np.float32(rng.choice((0.0, rng.uniform(0.1, 0.5)))))
    else:
        stamp = over(paint(rng, cover), paint(rng, hollow(rng, cover, em)))
    sheet.put(turned(stamp, rng.uniform(-40, 40)) if rng.random() < 0.3 else stamp)


def camera_date(sheet: Sheet) -> None:
    """A date in seven segments as cameras burn it in, most often at the bottom right."""
    rng = sheet.rng
    text = numeric_date(rng, int(rng.integers(1990, 2031))).replace("/", " ")
    tall = round(np.clip(sheet.side * rng.uniform(0.03, 0.09), 8, 48))
    cover = seven_segments(text, tall)
    if cover.shape[1] > 0.95 * sheet.width:
        cover = cv2.resize(cover, None, fx=0.95 * sheet.width / cover.shape[1], fy=1.0, interpolation=cv2.INTER_AREA)
    stamp = in_colour(cover, np.array(DATE_COLOURS[rng.integers(len(DATE_COLOURS))]))
    if rng.random() < 0.5:  # it glows
        stamp = cv2.GaussianBlur(np.pad(stamp, ((3, 3), (3, 3), (0, 0))), (0, 0), rng.uniform(0.4, 1.2))
    off = rng.uniform(0.2, 2.5, 2) * tall
    top, left = (round(n - d) for n, d in zip(_free(sheet, stamp), off, strict=True))
    sheet.lay(stamp, top, left if rng.random() < 0.8 else round(off[1]))


# Layouts and their shares. Credits, names and tilings are the commonest on the web; the numbers were not measured.
LAYOUTS: dict[Callable[[Sheet], None], float] = {
    credit: 0.13,
    lockup: 0.17,
    tiled_words: 0.13,
    crossed: 0.10,
    boxed_icon: 0.06,
    ring_stamp: 0.07,
    banner: 0.11,
    big_word: 0.09,
    emblem: 0.06,
    raised: 0.05,
    camera_date: 0.03,
}


def draw_layout(sheet: Sheet) -> np.ndarray:
    """Draw one of `LAYOUTS` onto a sheet, each with its share.

    Returns:
        the sheet's layer, (H, W, 4) RGBA float32 in [0, 1], premultiplied.
    """
    shares = np.array(list(LAYOUTS.values()))
    list(LAYOUTS)[sheet.rng.choice(len(shares), p=shares / shares.sum())](sheet)
    return sheet.layer


def _draw_line(cover: np.ndarray, start: tuple[int, int], end: tuple[int, int], width: int) -> None:
    """A line from (x, y) to (x, y), `width` pixels wide; smooth lines of OpenCV are much wider from two pixels on."""
    flat = abs(end[0] - start[0]) > abs(end[1] - start[1])
    for step in range(width):
        first, last = ((x, y + step) if flat else (x + step, y) for x, y in (start, end))
        cv2.line(cover, first, last, 255, 1, cv2.LINE_AA)


def _free(sheet: Sheet, stamp: np.ndarray) -> tuple[int, int]:
    """Height and width of the photograph less those of a stamp, pixels; negative for a larger stamp."""
    return sheet.height - stamp.shape[0], sheet.width - stamp.shape[1]


def _white(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """The cover in white, one time in ten in black."""
    return in_colour(cover, np.full(3, 0.0 if rng.random() < 0.1 else rng.uniform(0.92, 1.0)))


def _coloured(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """The cover in a random colour."""
    return in_colour(cover, rng.uniform(0.0, 1.0, 3))


def _boxed(sheet: Sheet, icon: np.ndarray) -> np.ndarray:
    """An icon on a rounded box, or cut out of it, or in a rounded frame."""
    rng, margin = sheet.rng, round(max(icon.shape[:2]) * sheet.rng.uniform(0.15, 0.4))
    icon = np.pad(icon, ((margin, margin), (margin, margin), (0, 0)))
    box, kind = box_stamp(rng, icon.shape[:2], rng.uniform(0.1, 0.5)), rng.random()
    if kind < 0.6:
        return over(icon, box)
    if kind < 0.85:
        return box * (1.0 - icon[..., 3:])
    solid = (box[..., 3] > 0).astype(np.float32)
    width = 2 * max(1, margin // 8) + 1
    frame = np.clip(solid - cv2.erode(np.pad(solid, 1), np.ones((width, width)))[1:-1, 1:-1], 0, 1)
    return over(icon, paint(rng, frame))


def _logo(sheet: Sheet, size: float) -> np.ndarray:
    """A logo in its own colours, its longer side `size` pixels."""
    logo = sheet.logos[int(sheet.rng.integers(len(sheet.logos)))].astype(np.float32) / np.float32(255.0)
    logo[..., :3] *= logo[..., 3:]
    scale = size / max(logo.shape[:2])
    shape = max(1, round(logo.shape[1] * scale)), max(1, round(logo.shape[0] * scale))
    return cv2.resize(logo, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _icon(sheet: Sheet, size: float) -> np.ndarray:
    """A logo, in one colour half of the time, or a drawn sign; its longer side `size` pixels."""
    rng = sheet.rng
    if len(sheet.logos) and rng.random() < 0.6:
        logo = _logo(sheet, size)
        return paint(rng, logo[..., 3]) if rng.random() < 0.5 else logo
    return paint(rng, draw_sign(rng, max(6, round(size))))

"""Watermarks as people find them on the web, each a function that draws one onto a canvas.

They measure, so their faces, words and brands are none of training's, and no random number is in them. Sizes are
shares of the photograph's shorter side, chosen from marks on the web and not measured.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import ImageDraw

from wmremoval.bench.web_canvas import (
    BOLD,
    FINER,
    HAND,
    ITALIC,
    MONO,
    SANS,
    SERIF,
    Canvas,
    Colour,
    Line,
    Patch,
    Point,
    open_font,
)
from wmremoval.data.lettering import DIGIT_SEGMENTS, SEGMENTS, bend

WHITE, GREY, BLACK, ORANGE = (1.0, 1.0, 1.0), (0.35, 0.35, 0.35), (0.08, 0.08, 0.08), (1.0, 0.5, 0.12)
YELLOW, RED, BLUE, GOLD = (1.0, 0.93, 0.3), (0.75, 0.1, 0.16), (0.07, 0.24, 0.55), (0.88, 0.66, 0.2)
SLANT = 0.12  # horizontal over vertical; lean of the digits of a camera's clock


def credit(canvas: Canvas) -> None:
    """A small credit line with a © and a web address, at the bottom left."""
    em = 0.045 * canvas.side
    canvas.write(Line("© 2026 www.fotowald.eu", SANS, em), (em, canvas.height - em), "ld", WHITE, 0.6)


def signature(canvas: Canvas) -> None:
    """A photographer's name in italics with a soft shadow, at the bottom right."""
    em = 0.075 * canvas.side
    line, x, y = Line("Mia Keller", ITALIC, em), canvas.width - 0.6 * em, canvas.height - 0.7 * em
    shadow = canvas.text(line, (x + em / 15, y + em / 15), "rd")
    canvas.lay(_blurred(shadow, em / 20), BLACK, 0.5)
    canvas.write(line, (x, y), "rd", WHITE, 0.85)


def date(canvas: Canvas) -> None:
    """A date in printed digits: opaque, orange, at the bottom right."""
    em = 0.06 * canvas.side
    canvas.write(Line("'26 11 30", MONO, em), (canvas.width - em, canvas.height - em), "rd", ORANGE, 1.0)


def emblem(canvas: Canvas) -> None:
    """A translucent emblem of ring, peak and name, at the top right."""
    size = FINER * canvas.side / 6.0
    x, y = FINER * canvas.width - 1.3 * size, 0.2 * size

    def shapes(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse((x, y, x + size, y + size), outline=255, width=round(size / 14))
        pen.polygon([(x + share * size, y + down * size) for share, down in ((0.3, 0.7), (0.5, 0.25), (0.7, 0.7))], 255)

    canvas.lay(canvas.shapes(shapes), WHITE, 0.5)
    place = (x + size / 2) / FINER, (y + 1.05 * size) / FINER
    canvas.write(Line("NORDIC", BOLD, size / FINER / 5), place, "ma", WHITE, 0.5)


def crossed(canvas: Canvas) -> None:
    """Two lines from corner to corner, and a ring with a name in the middle."""
    x, y, radius = FINER * (canvas.width - 1) / 2, FINER * (canvas.height - 1) / 2, FINER * 0.16 * canvas.side
    thick = round(FINER * 0.018 * canvas.side)

    def ring(pen: ImageDraw.ImageDraw) -> None:
        _corner_lines(canvas, pen, 0.007 * canvas.side)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0, outline=255, width=thick)

    canvas.lay(canvas.shapes(ring), WHITE, 0.4)
    canvas.write(Line("alamo", BOLD, 0.085 * canvas.side), canvas.middle, "mm", WHITE, 0.4)


def corner_word(canvas: Canvas) -> None:
    """Two thin lines from corner to corner, which stop before a word in the middle."""
    em = 0.11 * canvas.side
    x, y = (FINER * v for v in canvas.middle)
    line = Line("viewfinder", SANS, em)
    wide = FINER * 0.4 * em + open_font(line).getlength(line.text) / 2

    def lines(pen: ImageDraw.ImageDraw) -> None:
        _corner_lines(canvas, pen, max(1.0, 0.0035 * canvas.side))
        pen.rectangle((x - wide, y - 0.8 * FINER * em, x + wide, y + 0.8 * FINER * em), fill=0)

    canvas.lay(canvas.shapes(lines), WHITE, 0.45)
    canvas.write(line, canvas.middle, "mm", WHITE, 0.45)


def preview(canvas: Canvas) -> None:
    """A faint word, rotated by 30 degrees and repeated over the whole photograph."""
    em = 0.05 * canvas.side
    for place in canvas.lattice((8.5 * em, 4.0 * em), 30.0):
        canvas.write(Line("pixelharbor", SANS, em, 30.0), place, "mm", WHITE, 0.3)


def tiled(canvas: Canvas) -> None:
    """A bold word with a thin dark edge, close together along falling diagonals, thin lines between the rows."""
    em, angle = 0.07 * canvas.side, -35.0
    turn = np.radians(angle)
    along = np.array([np.cos(turn), -np.sin(turn)]) * (canvas.width + canvas.height)
    between = 1.5 * em * np.array([np.sin(turn), np.cos(turn)])

    def lines(pen: ImageDraw.ImageDraw) -> None:
        for point in canvas.rows(3.0 * em, angle) + between:
            ends = [tuple(FINER * (point + way * along)) for way in (-1, 1)]
            pen.line(ends, fill=255, width=max(1, round(FINER * 0.002 * canvas.side)))

    canvas.lay(canvas.shapes(lines), WHITE, 0.3)
    for place in canvas.lattice((6.4 * em, 3.0 * em), angle):
        line = Line("Lumora", BOLD, em, angle)
        canvas.lay(canvas.text(line, place, "mm", em / 30), BLACK, 0.25)
        canvas.erase(canvas.text(line, place, "mm"))
        canvas.write(line, place, "mm", WHITE, 0.4)


def icons(canvas: Canvas) -> None:
    """Rounded boxes with an aperture cut out of them in a grid, and words half-way between."""
    size, step = 0.1 * canvas.side, 0.36 * canvas.side
    places = canvas.lattice((step, step), 0.0)

    def boxes(pen: ImageDraw.ImageDraw) -> None:
        for x, y in places:
            left, top, side = (FINER * v for v in (x - size / 2, y - size / 2, size))
            pen.rounded_rectangle((left, top, left + side, top + side), 0.2 * side, fill=255)
            middle, blade = np.array([left + side / 2, top + side / 2]), 0.4 * side
            pen.ellipse((*(middle - blade), *(middle + blade)), fill=0)
            for turn in np.arange(6) * np.pi / 3:
                tip, tangent = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
                ends = middle + 0.18 * side * tip, middle + blade * (0.75 * tip + 0.66 * tangent)
                pen.line([tuple(end) for end in ends], fill=255, width=max(1, round(0.05 * side)))

    canvas.lay(canvas.shapes(boxes), WHITE, 0.35)
    for x, y in places:
        canvas.write(Line("vistaleaf", SANS, 0.04 * canvas.side), (x + step / 2, y), "mm", WHITE, 0.35)


def copyright(canvas: Canvas) -> None:
    """A © of three quarters of the photograph's height, in the middle."""
    canvas.lay(canvas.text(Line("©", SANS, 0.8 * canvas.side), canvas.middle, "mm"), WHITE, 0.3)


def stamp(canvas: Canvas) -> None:
    """A blue ring stamp with words along the ring and a number inside; only the number counts as a line."""
    radius = 0.2 * canvas.side
    place = round(0.72 * canvas.width), round(0.62 * canvas.height)
    x, y = FINER * place[0], FINER * place[1]

    def rings(pen: ImageDraw.ImageDraw) -> None:
        for share, thick in ((1.3, 0.05), (0.9, 0.02)):
            reach = FINER * share * radius
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=255, width=round(FINER * thick * radius))

    canvas.lay(canvas.shapes(rings), BLUE, 0.65)
    for number, words in enumerate(("MERIDIAN LIGHT HOUSE", "SINCE 1987")):
        flat = canvas.text(Line(words, BOLD, 0.24 * radius), (0, 0), "lt").cover
        left, top, wide, high = cv2.boundingRect(np.array(flat > 0, np.uint8))
        bent = np.rot90(bend(flat[top : top + high, left : left + wide], 0.98 * radius), 2 * number)
        canvas.lay(Patch(bent, place[0] - bent.shape[1] // 2, place[1] - bent.shape[0] // 2), BLUE, 0.65)
    canvas.write(Line("No. 47", SERIF, 0.42 * radius), place, "mm", BLUE, 0.65)


def dark(canvas: Canvas) -> None:
    """Two lines of dark translucent letters, left of the middle."""
    em = min(0.1 * canvas.side, canvas.width / 12.0)
    for row, text in enumerate(("NOT FOR PRINT", "vertigo.imagery.eu")):
        place = 0.06 * canvas.width, 0.42 * canvas.height + 1.2 * row * em
        canvas.write(Line(text, BOLD if row == 0 else SANS, em * (1.0 - 0.4 * row)), place, "ls", BLACK, 0.6)


def handwriting(canvas: Canvas) -> None:
    """A name written by hand on a slight slope, with a stroke under it, at the bottom left."""
    em = 0.15 * canvas.side
    x, y = 0.05 * canvas.width, 0.9 * canvas.height
    canvas.write(Line("Runa Lindqvist", HAND, em, 6.0), (x, y), "ls", WHITE, 0.8)
    share = np.linspace(0.0, 1.0, 40)
    path = np.stack([x + em * (0.3 + 4.6 * share), y + em * (0.25 - 0.5 * share - 0.12 * np.sin(2 * np.pi * share))], 1)
    points = [tuple(FINER * point) for point in path]
    canvas.lay(canvas.shapes(lambda pen: pen.line(points, 255, max(1, round(FINER * em / 30)), "curve")), WHITE, 0.8)


def clock_orange(canvas: Canvas) -> None:
    """A film camera's date in seven segments: orange with a red glow, at the bottom right."""
    digits = _seven_segments(canvas, "'95 8 31", 0.05 * canvas.side)
    canvas.lay(_blurred(digits, 0.006 * canvas.side), (1.0, 0.2, 0.05), 0.5)
    canvas.lay(digits, (1.0, 0.55, 0.15), 0.95)


def clock_yellow(canvas: Canvas) -> None:
    """A video camera's date in seven segments: yellow with a thin dark edge, at the bottom right."""
    digits = _seven_segments(canvas, "30.11.2006", 0.045 * canvas.side)
    canvas.lay(_blurred(digits, 0.003 * canvas.side), BLACK, 0.8)
    canvas.lay(digits, YELLOW, 1.0)


def clock_white(canvas: Canvas) -> None:
    """A trail camera's date and time in seven segments: white and opaque, at the bottom right."""
    canvas.lay(_seven_segments(canvas, "2013-08-31 06:52", 0.035 * canvas.side), WHITE, 1.0)


def word(canvas: Canvas) -> None:
    """One large translucent word with a thin outline, in the middle."""
    em = min(0.22 * canvas.side, canvas.width / 5.0)
    line, place = Line("LUMORA", BOLD, em), canvas.middle
    canvas.lay(canvas.text(line, place, "mm", em / 50), GREY, 0.35)
    canvas.erase(canvas.text(line, place, "mm"))  # the outline is hollow
    canvas.write(line, place, "mm", WHITE, 0.4)


def wide(canvas: Canvas) -> None:
    """A faint word of 80% of the photograph's width, in the middle."""
    line = Line("fotowald", SANS, 100.0)
    em = 100.0 * 0.8 * canvas.width / (open_font(line).getlength(line.text) / FINER)
    canvas.write(line._replace(em=min(em, 0.9 * canvas.height)), canvas.middle, "mm", WHITE, 0.3)


def name(canvas: Canvas) -> None:
    """A name in a serif, at the top right."""
    em = 0.06 * canvas.side
    canvas.write(Line("Theo Brandt Fine Art", SERIF, em), (canvas.width - em, em), "ra", WHITE, 0.75)


def credit_10px(canvas: Canvas) -> None:
    """A credit line of 10 px, whatever the photograph's size, at the bottom right."""
    line = Line("Mia Keller / fotowald.eu", SANS, 10.0)
    canvas.write(line, (canvas.width - 5.0, canvas.height - 5.0), "rd", WHITE, 0.8)


def banner(canvas: Canvas) -> None:
    """A dark blue band across the photograph, below its middle, with white words."""
    em = min(0.075 * canvas.side, canvas.width / 24.0)
    middle = 0.72 * canvas.height
    ends = 0, FINER * (middle - 0.9 * em), FINER * canvas.width, FINER * (middle + 0.9 * em)
    canvas.lay(canvas.shapes(lambda pen: pen.rectangle(ends, fill=255)), BLUE, 0.55)
    canvas.write(Line("fotowald.eu | licence required", BOLD, em), (canvas.width / 2, middle), "mm", WHITE, 0.9)


def caption(canvas: Canvas) -> None:
    """Two lines in white on a dark translucent box."""
    em, left, top = min(0.07 * canvas.side, canvas.width / 21.0), canvas.width / 2.0, canvas.height * 0.6
    _captioned(canvas, em, (left, top), (left + 10.0 * em, top + 2.3 * em))


def cut_caption(canvas: Canvas) -> None:
    """The same caption in the bottom left corner, on a box that ends with the photograph."""
    em = min(0.07 * canvas.side, canvas.width / 21.0)
    _captioned(canvas, em, (0.0, canvas.height - 2.3 * em), (10.0 * em, canvas.height + 1.0))


def shield(canvas: Canvas) -> None:
    """An emblem of several colours, translucent, at the bottom left: a shield in two fields, a star and a ribbon."""
    _draw_shield(canvas, 0.55)


def shield_opaque(canvas: Canvas) -> None:
    """The same emblem, opaque."""
    _draw_shield(canvas, 1.0)


def product(canvas: Canvas) -> None:
    """A faint grey word across a product shot on white."""
    em = min(0.17 * canvas.side, canvas.width / 6.5)
    canvas.write(Line("homegrove", SANS, em), canvas.middle, "mm", (0.5, 0.5, 0.5), 0.3)


def grid(canvas: Canvas) -> None:
    """White lines of one pixel, level and upright, over the whole photograph."""
    step = round(0.11 * canvas.side)
    cover = np.zeros((canvas.height, canvas.width), np.float32)
    cover[step // 2 :: step] = cover[:, step // 2 :: step] = 1.0
    canvas.lay(Patch(cover), WHITE, 0.5)


def title(canvas: Canvas) -> None:
    """Two lines of white letters, right of the middle: for copies of a watermarked photograph."""
    em = min(0.09 * canvas.side, canvas.width / 12.0)
    for row, text in enumerate(("Quarry & Finch", "no licence given")):
        place = 0.95 * canvas.width, 0.45 * canvas.height + 1.1 * row * em
        canvas.write(Line(text, SERIF if row == 0 else SANS, em * (1.0 - 0.35 * row)), place, "rs", WHITE, 0.6)


def purple_word(canvas: Canvas) -> None:
    """A purple word on a slope in the middle: as ink, for the blending mode multiply."""
    em = min(0.2 * canvas.side, canvas.width / 6.0)
    canvas.write(Line("ATELIER", BOLD, em, 20.0), canvas.middle, "mm", (0.5, 0.25, 0.6), 0.8)


def grey_word(canvas: Canvas) -> None:
    """A grey word on a slope in the middle: as light, for the blending mode screen."""
    em = min(0.2 * canvas.side, canvas.width / 6.0)
    canvas.write(Line("ATELIER", BOLD, em, 20.0), canvas.middle, "mm", (0.45, 0.45, 0.42), 0.9)


DRAWINGS: tuple[Callable[[Canvas], None], ...] = (
    *(credit, signature, date, emblem, crossed, preview, word, caption),
    *(tiled, corner_word, icons, copyright, stamp, dark, handwriting, clock_orange, clock_yellow, clock_white),
    *(
        name,
        credit_10px,
        banner,
        cut_caption,
        shield,
        shield_opaque,
        product,
        grid,
        wide,
        title,
        purple_word,
        grey_word,
    ),
)


def _blurred(patch: Patch, sigma: float) -> Patch:
    """The patch through a Gaussian of `sigma` pixels, with room for its tails."""
    pad = int(np.ceil(4 * sigma))
    cover = cv2.GaussianBlur(np.pad(patch.cover, pad), (0, 0), sigma)
    return Patch(cover, patch.left - pad, patch.top - pad)


def _corner_lines(canvas: Canvas, pen: ImageDraw.ImageDraw, thick: float) -> None:
    right, bottom, width = FINER * (canvas.width - 1), FINER * (canvas.height - 1), round(FINER * thick)
    pen.line((0, 0, right, bottom), fill=255, width=width)
    pen.line((0, bottom, right, 0), fill=255, width=width)


def _captioned(canvas: Canvas, em: float, corner: Point, end: Point) -> None:
    """A headline and a credit on a dark box from `corner` to `end`; letters of one em."""
    left, top = corner
    box = tuple(FINER * side for side in (*corner, *end))
    canvas.lay(canvas.shapes(lambda pen: pen.rectangle(box, fill=255)), BLACK, 0.45)
    canvas.write(Line("gallery prints", BOLD, em), (left + 0.4 * em, top + 1.2 * em), "ls", WHITE, 0.9)
    canvas.write(Line("Credit: J. Smith", SANS, 0.55 * em), (left + 0.4 * em, top + 1.95 * em), "ls", WHITE, 0.9)


def _draw_shield(canvas: Canvas, alpha: float) -> None:
    """A shield in blue and red with a gold edge, a white star, and a gold ribbon with a name."""
    size = FINER * 0.3 * canvas.side
    x, y = 0.15 * size, FINER * canvas.height - 1.2 * size
    outline = [(0, 0), (1, 0), (1, 0.55), (0.85, 0.82), (0.5, 1.05), (0.15, 0.82), (0, 0.55)]
    turns = np.arange(10) * np.pi / 5 - np.pi / 2
    star = [(0.5 + r * np.cos(t), 0.36 + r * np.sin(t)) for t, r in zip(turns, 5 * (0.24, 0.1), strict=True)]
    parts = {
        GOLD: outline,
        BLUE: [(0.5 + 0.9 * (u - 0.5), 0.5 + 0.9 * (v - 0.5)) for u, v in outline],
        RED: [(0.5, 0.05), (0.95, 0.05), (0.95, 0.545), (0.815, 0.788), (0.5, 0.995)],
        WHITE: star,
        (0.97, 0.8, 0.35): [(-0.1, 0.66), (1.1, 0.66), (1.04, 0.76), (1.1, 0.86), (-0.1, 0.86), (-0.04, 0.76)],
    }
    for colour, corners in parts.items():
        points = [(x + (0.1 + u) * size, y + v * size) for u, v in corners]
        _replace(canvas, canvas.shapes(partial(_polygon, points)), colour, alpha)
    place = (x + 0.6 * size) / FINER, (y + 0.76 * size) / FINER
    line = Line("GRIFFIN CLUB", BOLD, 0.125 * size / FINER)
    canvas.erase(canvas.text(line, place, "mm"))
    canvas.write(line, place, "mm", BLACK, alpha)


def _polygon(points: list[tuple[float, float]], pen: ImageDraw.ImageDraw) -> None:
    pen.polygon(points, 255)


def _replace(canvas: Canvas, patch: Patch, colour: Colour, alpha: float) -> None:
    """Lay a patch in place of what lies under it, so that parts that overlap keep one opacity."""
    canvas.erase(patch)
    canvas.lay(patch, colour, alpha)


def _seven_segments(canvas: Canvas, text: str, tall: float) -> Patch:
    """Leaning digits of pointed segments that do not touch, `tall` pixels high, at the bottom right; noted as a line.

    Any character but digits, "-", ".", ":" and "'" is a blank.
    """
    wide, thick = FINER * tall / 2.0, FINER * 0.075 * tall  # half of the thickness
    step = 1.5 * wide
    left, top = FINER * (canvas.width - 1.2 * tall) - step * len(text), FINER * (canvas.height - 2.2 * tall)

    def at(number: int, x: float, y: float) -> np.ndarray:
        return np.array([left + number * step + wide * (0.85 * x + SLANT * (2 - y)), top + wide * y])

    def digits(pen: ImageDraw.ImageDraw) -> None:
        for number, letter in enumerate(text):
            for part in DIGIT_SEGMENTS.get(letter, ""):
                start, end = at(number, *SEGMENTS[part][:2]), at(number, *SEGMENTS[part][2:])
                way = (end - start) / np.hypot(*(end - start))
                side, start, end = (
                    thick * np.array([-way[1], way[0]]),
                    start + 0.3 * thick * way,
                    end - 0.3 * thick * way,
                )
                near, far = start + thick * way, end - thick * way
                pen.polygon([tuple(p) for p in (start, near + side, far + side, end, far - side, near - side)], 255)
            for height in {":": (0.6, 1.4), ".": (2.0,), "'": (0.1,)}.get(letter, ()):
                dot = at(number, 0.4, height)
                pen.ellipse((*(dot - 1.2 * thick), *(dot + 1.2 * thick)), fill=255)

    corners = [(left, top), (left + step * len(text), top)]
    corners += [(x, y + FINER * tall) for x, y in reversed(corners)]
    canvas.lines.append(np.array(corners, np.float32) / FINER)
    return canvas.shapes(digits)

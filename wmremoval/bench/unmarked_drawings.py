"""Drawn pictures without a watermark: pages, charts, screenshots, maps and lettered objects.

They measure, so nothing of them is training's. A drawing depends on its seed, a chart also on matplotlib's version.
"""

from collections.abc import Callable

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from wmremoval.bench.web_canvas import BOLD, ITALIC, MONO, SANS, SERIF, font_file
from wmremoval.images import to_uint8

PAGE = (880, 640)  # pixels; height and width of a page
SCREEN = (620, 960)  # pixels; height and width of a screenshot and of a map
TEXT = """The harbour lay quiet until the ferry came in at six. Nobody had told the baker that the road was closed, so
he waited with forty loaves under a cloth and counted the gulls. Of the nine boats that left in March, seven were back
before the first frost; the other two wintered further south. A good rope lasts four years if it is kept dry. The
committee agreed to paint the shed, though not on the colour, and to meet again in a month."""
STREETS = ("Weaver Lane", "Mill Road", "Station Street", "Birch Avenue", "Quay Side", "Hill Terrace", "Old Market")
SIGNS = (
    ("Ferry 2 km", (12, 60, 140)),
    ("Bakery", (120, 30, 30)),
    ("EXIT 14", (0, 95, 60)),
    ("No Entry", (160, 20, 25)),
)
WHITE, INK = (255, 255, 255), (25, 25, 28)


def page(seed: int) -> np.ndarray:
    """A printed page with a heading and paragraphs in one or two columns, (H, W, 3) RGB uint8; every third yellowed."""
    rng, (height, width) = np.random.default_rng([1, seed]), PAGE
    sheet = Image.new("RGB", (width, height), (243, 234, 210) if seed % 3 == 2 else WHITE)
    pen, columns, em = ImageDraw.Draw(sheet), 1 + seed % 2, int(rng.integers(12, 20))
    pen.text((60, 50), _words(rng, 5, 30), INK, _font(BOLD, 1.8 * em))
    pen.line((60, 62 + 2 * em, width - 60, 62 + 2 * em), INK, 1)
    wide = (width - 120 - 24 * (columns - 1)) / columns
    font = _font((ITALIC, SERIF, SANS)[seed % 3], em)
    for column in range(columns):
        y = 90 + 2 * em
        while y < height - 70:
            indent = 1.5 * em if rng.random() < 0.15 else 0
            text = _fitting(rng, font, wide - indent)
            pen.text((60 + column * (wide + 24) + indent, y), text, INK, font)
            y += round(1.45 * em) + (em if rng.random() < 0.08 else 0)
    pen.text((width / 2, height - 40), str(int(rng.integers(1, 400))), INK, _font(SANS, 11), "mm")
    return np.array(sheet)


def chart(seed: int) -> np.ndarray:
    """A chart of bars, curves, points or shares with title, labels and legend, (H, W, 3) RGB uint8."""
    rng, figure = np.random.default_rng([2, seed]), Figure(figsize=(7.2, 4.8), dpi=100, layout="constrained")
    axes, kind = figure.add_subplot(), seed % 4
    names = [str(name) for name in rng.permutation(STREETS)[:5]]
    if kind == 0:
        axes.bar(names, rng.uniform(5, 40, 5), color=f"C{seed % 10}")
        axes.tick_params(axis="x", rotation=25)
    elif kind == 1:
        for name in names[:3]:
            axes.plot(np.arange(24), np.cumsum(rng.standard_normal(24)) + 8, marker="o", markersize=3, label=name)
        axes.grid(True, alpha=0.4)
        axes.legend()
    elif kind == 2:
        for name in names[:2]:
            x, y = rng.normal(rng.uniform(0, 4, (2, 1)), 1.0, (2, 90))
            axes.scatter(x, y, s=14, alpha=0.6, label=name)
        axes.legend()
    else:
        axes.pie(rng.uniform(1, 5, 5), labels=names, autopct="%1.0f%%")
    axes.set_title(_words(rng, 4, 40))
    if kind != 3:
        axes.set_xlabel("Week of the year")
        axes.set_ylabel("Loaves a day")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def screenshot(seed: int) -> np.ndarray:
    """A window with a menu, a list, a table and buttons, (H, W, 3) RGB uint8; every second one dark."""
    rng, (height, width) = np.random.default_rng([3, seed]), SCREEN
    dark = bool(seed % 2)
    ground, ink, edge = (
        ((32, 34, 40), (215, 215, 220), (70, 74, 84)) if dark else ((250, 250, 250), INK, (205, 208, 214))
    )
    sheet = Image.new("RGB", (width, height), ground)
    pen, font, accent = ImageDraw.Draw(sheet), _font(SANS, 13), tuple(int(v) for v in rng.integers(40, 200, 3))
    pen.rectangle((0, 0, width, 34), edge)
    for place, colour in enumerate(((236, 95, 85), (244, 190, 80), (98, 196, 84))):
        pen.ellipse((12 + 22 * place, 10, 26 + 22 * place, 24), colour)
    pen.text((width / 2, 17), f"{_words(rng, 2, 20)} - Ledger", ink, font, "mm")
    for number, item in enumerate(("File", "Edit", "View", "Tools", "Help")):
        pen.text((14 + 64 * number, 44), item, ink, font)
    pen.line((210, 70, 210, height), edge)
    for row in range(16):
        y = 84 + 32 * row
        if row == seed % 7:
            pen.rounded_rectangle((6, y - 6, 204, y + 22), 5, accent)
        pen.text((18, y), _words(rng, 3, 22), WHITE if row == seed % 7 else ink, font)
        for column in range(4):
            value = _words(rng, 2, 16) if column == 0 else f"{rng.integers(1, 99999) / 100:,.2f}"
            pen.text((232 + 170 * column, y), value, ink, font if column == 0 else _font(MONO, 12))
        pen.line((222, y + 24, width - 14, y + 24), edge)
    for number, label in enumerate(("Cancel", "Apply", "Save")):
        left = width - 330 + 106 * number
        pen.rounded_rectangle((left, height - 46, left + 94, height - 14), 6, accent if number == 2 else edge)
        pen.text((left + 47, height - 30), label, WHITE if number == 2 else ink, font, "mm")
    return np.array(sheet)


def town_map(seed: int) -> np.ndarray:
    """A street map with water, a park, roads with pale casings and names along them, (H, W, 3) RGB uint8."""
    rng, (height, width) = np.random.default_rng([4, seed]), SCREEN
    sheet = Image.new("RGB", (width, height), (242, 239, 233))
    pen, x = ImageDraw.Draw(sheet), np.linspace(-20, width + 20, 60)
    shore = height * rng.uniform(0.65, 0.85) + 30 * np.sin(x / rng.uniform(70, 160)) + 12 * np.sin(x / 31)
    pen.polygon([*zip(x, shore, strict=True), (width + 20, height + 20), (-20, height + 20)], (168, 206, 226))
    left, top = rng.uniform(80, 600), rng.uniform(60, 220)
    pen.rounded_rectangle((left, top, left + 200, top + 130), 30, (196, 224, 178))
    pen.text((left + 100, top + 65), "Orchard Park", (60, 110, 60), _font(ITALIC, 15), "mm")
    named = []
    for number, street in enumerate(rng.permutation(STREETS)):
        angle, main = float(rng.uniform(-60, 60)), number < 2
        middle = rng.uniform(0.1, 0.9, 2) * (width, 0.65 * height)
        way = 1200 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        ends = [tuple(middle - way), tuple(middle + way)]
        pen.line(ends, (200, 170, 120) if main else (205, 203, 200), 20 if main else 12)
        pen.line(ends, (252, 222, 150) if main else WHITE, 16 if main else 9)
        named.append((str(street), angle, middle.tolist()))
    for text, turn, (across, down) in named:
        label = Image.new("L", (180, 180))
        ImageDraw.Draw(label).text((90, 90), text, 255, _font(SANS, 12), "mm")
        label = label.rotate(-turn, Image.Resampling.BICUBIC)
        sheet.paste((70, 70, 70), (int(across) - 90, int(down) - 90), label)
    for place in ("HAVENMOUTH", "Northgate"):
        pen.text(
            tuple(rng.uniform(0.15, 0.85, 2) * (width, 0.6 * height)),
            place,
            INK,
            _font(BOLD, 20),
            "mm",
            stroke_width=2,
            stroke_fill=WHITE,
        )
    return np.array(sheet)


def sign(seed: int, photo: np.ndarray) -> np.ndarray:
    """A painted road or shop sign with a white rim in a photograph, (H, W, 3) RGB uint8."""
    text, colour = SIGNS[seed % len(SIGNS)]
    board = Image.new("RGB", (420, 170), colour)
    pen = ImageDraw.Draw(board)
    pen.rounded_rectangle((10, 10, 410, 160), 16, outline=WHITE, width=5)
    pen.text((210, 85), text, WHITE, _font(BOLD, 62), "mm")
    return _hung(np.random.default_rng([5, seed]), photo, board, 0.42)


def plate(seed: int, photo: np.ndarray) -> np.ndarray:
    """A number plate with a blue band and pressed black letters in a photograph, (H, W, 3) RGB uint8."""
    rng = np.random.default_rng([6, seed])
    board = Image.new("RGB", (520, 112), WHITE if seed % 2 else (244, 200, 40))
    pen, letters = ImageDraw.Draw(board), "".join(chr(65 + v) for v in rng.integers(0, 26, 4))
    pen.rectangle((0, 0, 44, 112), (10, 50, 150))
    pen.rectangle((1, 1, 518, 110), outline=INK, width=3)
    text = f"{letters[:2]} {letters[2:]} {rng.integers(100, 9999)}"
    pen.text((284, 60), text, (150, 150, 150), _font(MONO, 74), "mm")  # the letters' raised rim
    pen.text((282, 58), text, INK, _font(MONO, 74), "mm")
    return _hung(rng, photo, board, 0.36)


def gauge(seed: int, photo: np.ndarray) -> np.ndarray:
    """A round gauge with numbers, a unit and a needle in a photograph, (H, W, 3) RGB uint8; every second one black."""
    rng, dark = np.random.default_rng([7, seed]), bool(seed % 2)
    face, ink = ((18, 18, 20), (235, 235, 230)) if dark else ((240, 238, 230), INK)
    board = Image.new("RGBA", (300, 300))
    pen = ImageDraw.Draw(board)
    pen.ellipse((0, 0, 299, 299), (90, 92, 96, 255))
    pen.ellipse((12, 12, 287, 287), (*face, 255))
    most = int(rng.integers(2, 17)) * 10
    for step in range(51):
        turn = np.radians(135 + 270 * step / 50)
        way = np.array([np.cos(turn), np.sin(turn)])
        inner = 104 if step % 5 == 0 else 116
        pen.line((*(150 + inner * way), *(150 + 126 * way)), (*ink, 255), 4 if step % 5 == 0 else 2)
        if step % 5 == 0:
            pen.text(tuple(150 + 82 * way), f"{most * step // 50}", (*ink, 255), _font(SANS, 22), "mm")
    pen.text((150, 205), ("bar", "km/h", "°C")[seed % 3], (*ink, 255), _font(SANS, 20), "mm")
    needle = np.radians(135 + rng.uniform(30, 240))
    way = np.array([np.cos(needle), np.sin(needle)])
    pen.line((*(150 - 24 * way), *(150 + 112 * way)), (200, 40, 30, 255), 7)
    pen.ellipse((138, 138, 162, 162), (60, 60, 62, 255))
    return _hung(rng, photo, board, 0.34)


PICTURES: dict[str, Callable[[int], np.ndarray]] = {
    "page": page,
    "chart": chart,
    "screenshot": screenshot,
    "map": town_map,
}
LETTERED: dict[str, Callable[[int, np.ndarray], np.ndarray]] = {"sign": sign, "plate": plate, "gauge": gauge}


def _font(face: str, em: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(face), em)


def _words(rng: np.random.Generator, count: int, longest: int) -> str:
    """`count` words of the text in a row, capitalised, cut to `longest` letters."""
    start = int(rng.integers(0, len(TEXT.split()) - count))
    return " ".join(TEXT.split()[start : start + count])[:longest].rstrip(" ,.;").capitalize()


def _fitting(rng: np.random.Generator, font: ImageFont.FreeTypeFont, wide: float) -> str:
    """As many words of the text as fit into `wide` pixels, from a random one on."""
    words, count = TEXT.split(), 1
    start = int(rng.integers(0, len(words)))
    rolled = words[start:] + words[:start]
    while count < len(rolled) and font.getlength(" ".join(rolled[: count + 1])) < wide:
        count += 1
    return " ".join(rolled[:count])


def _hung(rng: np.random.Generator, photo: np.ndarray, board: Image.Image, share: float) -> np.ndarray:
    """A board in a photograph: seen at an angle, lit from one side and by the photograph's light, over its own shadow.

    Args:
        share: width of the board as a share of the photograph's width.
    """
    height, width = photo.shape[:2]
    sheet: np.ndarray = np.array(board.convert("RGBA"), np.float32) / np.float32(255.0)
    high, wide = sheet.shape[:2]
    shade = np.linspace(rng.uniform(0.75, 0.9), 1.0, wide, dtype=np.float32)[None, :, None]
    sheet[..., :3] *= shade * sheet[..., 3:]
    yaw, pitch, scale = rng.uniform(-0.25, 0.25), rng.uniform(-0.15, 0.15), share * width / wide
    corners = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]], np.float32) / 2
    depth = 1.0 + (yaw * corners[:, :1] / wide + pitch * corners[:, 1:] / high)
    middle = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height])
    matrix = cv2.getPerspectiveTransform(
        corners + np.array([wide / 2, high / 2], np.float32), np.array(corners * scale / depth + middle, np.float32)
    )
    if scale < 1.0:
        sheet = cv2.GaussianBlur(sheet, (0, 0), 0.4 / scale)  # the warp samples four pixels only
    seen = cv2.warpPerspective(sheet, matrix, (width, height), flags=cv2.INTER_LINEAR)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.6)
    grey = cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.1 * width)
    light = np.clip(grey / max(float(grey.mean()), 1.0), 0.6, 1.2)[..., None]
    noise = 0.006 * rng.standard_normal(photo.shape, dtype=np.float32)
    shift = np.array([[1, 0, 0.012 * width], [0, 1, 0.02 * width]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(seen[..., 3], shift, (width, height)), (0, 0), 0.01 * width)
    picture = photo / np.float32(255.0) * (1 - 0.5 * shadow[..., None])
    return to_uint8(picture * (1 - seen[..., 3:]) + (seen[..., :3] * light + noise) * seen[..., 3:])

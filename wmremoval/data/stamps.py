"""Stamps, the parts of marks: phrases, shapes, logos, boxes and signs, their colours and their composition.

A stamp is (h, w, 4) RGBA float32 in [0, 1], premultiplied. Some functions return a scale with it, the factor to its size
in the photograph. A cover is (h, w) float32 in [0, 1]: the filled share of each pixel.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from wmremoval.data.fonts import PHRASES, FontBook, text_raster

BLACK_SHARE = 0.5  # share of boxes in black or nearly so. Not measured.
# Ems, pixels; text is written at the next larger one, cached and scaled down. Not measured.
RASTER_SIZES = (16, 32, 64, 128)


def text_stamp(
    rng: np.random.Generator, fonts: FontBook, em: float, outline_share: float, boxed_share: float = 0.0
) -> tuple[np.ndarray, float]:
    """A random phrase in a random face, sometimes with an outline or on a box.

    Args:
        rng: decides everything.
        fonts: faces of all languages.
        em: on the photograph, pixels.
        outline_share, boxed_share: probabilities of an outline and of a box.

    Returns:
        the stamp, and its scale to `em` pixels.
    """
    languages = list(fonts.faces)
    weights = np.array([2.0 if language == "en" else 1.0 for language in languages])
    language = languages[rng.choice(len(languages), p=weights / weights.sum())]
    phrase = PHRASES[language][rng.integers(len(PHRASES[language]))]
    face = fonts.faces[language][rng.integers(len(fonts.faces[language]))]
    size = next((size for size in RASTER_SIZES if size >= em), RASTER_SIZES[-1])
    cover = text_raster(phrase, language, face, size).astype(np.float32) / 255.0
    if rng.random() < outline_share:
        margin = max(1, round(size * rng.uniform(0.03, 0.08)))
        cover = np.pad(cover, margin + 1)
        stroke = cv2.dilate(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1)))
        hollow = rng.random() < 0.3
        outline = paint(rng, np.clip(stroke - cover, 0, 1) if hollow else stroke)
        stamp = outline if hollow else over(paint(rng, cover), outline)
    else:
        stamp = paint(rng, cover)
    if boxed_share and rng.random() < boxed_share:
        stamp = _on_box(rng, stamp, size)
    return stamp, em / size


def _on_box(rng: np.random.Generator, text: np.ndarray, em: int) -> np.ndarray:
    """The text over a translucent box, black half of the time; margins are a share of the em, in pixels of the stamp."""
    tall, wide = round(em * rng.uniform(0.1, 0.7)), round(em * rng.uniform(0.2, 1.5))
    text = np.pad(text, ((tall, tall), (wide, wide), (0, 0)))
    box = paint(rng, np.ones(text.shape[:2], np.float32))
    if rng.random() < BLACK_SHARE:
        box[..., :3] = np.float32(rng.uniform(0.0, 0.15))
    return over(text, box * np.float32(rng.uniform(0.25, 0.8)))


def shape_stamp(rng: np.random.Generator, side: int) -> np.ndarray:
    """A random shape for a photograph whose shorter side is `side` pixels: lines, rectangle, circle or cross."""
    extent = int(side * rng.uniform(0.25, 0.9))
    thickness = max(1, round(side * rng.uniform(0.006, 0.03)))
    cover = np.zeros((extent, extent), np.uint8)
    kind = rng.integers(4)
    if kind == 0:  # parallel or crossing lines
        for _ in range(rng.integers(1, 4)):
            first, last = (rng.integers(0, extent, 2).tolist() for _ in range(2))
            cv2.line(cover, first, last, 255, thickness, cv2.LINE_AA)
    elif kind == 1:  # rectangle, drawn or filled
        bottom = int(extent * rng.uniform(0.3, 1.0)) - thickness
        filled = rng.random() < 0.3
        cv2.rectangle(
            cover, (thickness, thickness), (extent - thickness, bottom), 255, -1 if filled else thickness, cv2.LINE_AA
        )
    elif kind == 2:  # circle, drawn or filled
        radius = max(2, int(extent * rng.uniform(0.25, 0.48)) - thickness)
        cv2.circle(cover, (extent // 2, extent // 2), radius, 255, -1 if rng.random() < 0.3 else thickness, cv2.LINE_AA)
    else:  # a cross from corner to corner, as preview lattices have
        cv2.line(cover, (0, 0), (extent, extent), 255, thickness, cv2.LINE_AA)
        cv2.line(cover, (0, extent), (extent, 0), 255, thickness, cv2.LINE_AA)
    return paint(rng, cover.astype(np.float32) / 255.0)


def logo_stamp(rng: np.random.Generator, logos: Sequence[np.ndarray], target: float) -> tuple[np.ndarray, float]:
    """A random logo, one in three in a single colour; the stamp, and its scale to a longer side of `target` pixels."""
    logo: np.ndarray = logos[int(rng.integers(len(logos)))].astype(np.float32) / 255.0
    logo[..., :3] *= logo[..., 3:]  # before any resampling, so that the colour of transparent pixels does not bleed in
    scale = target / max(logo.shape[:2])
    if scale < 0.5:  # average first, since the later warp reads only four pixels for each of its own
        size = (max(1, round(logo.shape[1] * scale)), max(1, round(logo.shape[0] * scale)))
        logo, scale = cv2.resize(logo, size, interpolation=cv2.INTER_AREA), 1.0
    if rng.random() < 0.35:
        return paint(rng, logo[..., 3]), scale
    return logo, scale


def paint(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Give a coverage map (h, w) one colour, or a gradient between two."""
    colour = one_colour(rng)
    stamp = np.empty((*cover.shape, 4), np.float32)
    if rng.random() < 0.12:
        ramp = np.linspace(0, 1, cover.shape[1], dtype=np.float32)[:, None]
        colour = (1 - ramp) * colour + ramp * one_colour(rng)  # (w, 3)
    stamp[..., :3] = cover[..., None] * colour
    stamp[..., 3] = cover
    return stamp


def one_colour(rng: np.random.Generator) -> np.ndarray:
    """A mark's colour, (3,) RGB float32 in [0, 1]: white, black, grey or any."""
    pick = rng.random()
    if pick < 0.5:
        return np.full(3, rng.uniform(0.88, 1.0), np.float32)  # white, by far the commonest in the wild
    if pick < 0.62:
        return np.full(3, rng.uniform(0.0, 0.12), np.float32)
    if pick < 0.75:
        return np.full(3, rng.uniform(0.3, 0.8), np.float32)
    return rng.uniform(0.0, 1.0, 3).astype(np.float32)


def jitter(rng: np.random.Generator, stamp: np.ndarray) -> np.ndarray:
    """Change brightness and contrast of a stamp's colours, but not its cover."""
    contrast, brightness = np.float32(rng.uniform(0.7, 1.3)), np.float32(rng.uniform(-0.15, 0.15))
    cover = stamp[..., 3:]
    colour = contrast * (stamp[..., :3] - 0.5 * cover) + (0.5 + brightness) * cover
    return np.concatenate([np.clip(colour, 0.0, cover), cover], axis=-1)


def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The operator "over" of Porter and Duff 1984, for premultiplied stamps of one size."""
    return top + bottom * (1.0 - top[..., 3:])


def in_colour(cover: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """A stamp of one colour, (3,) RGB in [0, 1]."""
    return cover[..., None].astype(np.float32) * np.append(np.float32(colour), np.float32(1.0))


def softened(rng: np.random.Generator, stamp: np.ndarray) -> np.ndarray:
    """Blur three in ten stamps slightly, as in photographs that were shrunk after marking."""
    if rng.random() >= 0.3:
        return stamp
    return cv2.GaussianBlur(np.pad(stamp, ((2, 2), (2, 2), (0, 0))), (5, 5), rng.uniform(0.3, 0.8))


def shadowed(rng: np.random.Generator, stamp: np.ndarray, em: float) -> np.ndarray:
    """The stamp over a dark blurred copy of itself."""
    reach = max(1, round(em * rng.uniform(0.02, 0.08)))
    stamp = np.pad(stamp, ((2 * reach, 3 * reach), (2 * reach, 3 * reach), (0, 0)))
    cover = cv2.GaussianBlur(np.roll(stamp[..., 3], reach, (0, 1)), (0, 0), max(0.4, 0.5 * reach))
    cover[cover < 1 / 255] = 0.0
    return over(stamp, in_colour(cover * np.float32(rng.uniform(0.3, 0.7)), np.zeros(3)))


def turned(stamp: np.ndarray, angle: float) -> np.ndarray:
    """The stamp turned counter-clockwise by `angle` degrees, in its new bounding box."""
    height, width = stamp.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    cosine, sine = np.abs(matrix[0, :2])
    size = int(height * sine + width * cosine) + 2, int(height * cosine + width * sine) + 2
    matrix[:, 2] = matrix[:, 2] + (np.array(size) - (width, height)) / 2
    return cv2.warpAffine(stamp, matrix, size, flags=cv2.INTER_LINEAR)


def joined(one: np.ndarray, other: np.ndarray, gap: int, beside: bool) -> np.ndarray:
    """Two stamps side by side or one above the other, centred on each other, with `gap` pixels between."""
    if not beside:
        one, other = (stamp.transpose(1, 0, 2) for stamp in (one, other))
        return joined(one, other, gap, True).transpose(1, 0, 2)
    height = max(one.shape[0], other.shape[0])
    parts = []
    for stamp, right in ((one, gap), (other, 0)):
        free = height - stamp.shape[0]
        parts.append(np.pad(stamp, ((free // 2, free - free // 2), (0, right), (0, 0))))
    return np.concatenate(parts, axis=1)


def centred(stamp: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A stamp or cover in the middle of an empty one of a larger shape."""
    before = [(shape[i] - stamp.shape[i]) // 2 for i in range(2)]
    pads = [(before[i], shape[i] - stamp.shape[i] - before[i]) for i in range(2)]
    return np.pad(stamp, [*pads, *[(0, 0)] * (stamp.ndim - 2)])


def merge(cover: np.ndarray, other: np.ndarray) -> None:
    """Add another cover to the middle of `cover`, in place and cropped to its size."""
    cut = [max(0, other.shape[i] - cover.shape[i]) for i in range(2)]
    other = other[cut[0] // 2 : other.shape[0] - (cut[0] + 1) // 2, cut[1] // 2 : other.shape[1] - (cut[1] + 1) // 2]
    np.maximum(cover, centred(other, cover.shape), out=cover)


def hollow(rng: np.random.Generator, cover: np.ndarray, em: float) -> np.ndarray:
    """The outline of a cover."""
    width = 2 * max(1, round(em * rng.uniform(0.01, 0.03))) + 1
    grown = cv2.dilate(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return np.clip(grown - cover, 0, 1)


def box_stamp(rng: np.random.Generator, shape: tuple[int, int], rounding: float) -> np.ndarray:
    """A translucent box, black half of the time; `rounding` is the radius of its corners as a share of the shorter side."""
    height, width = shape
    fine, radius = 2, int(2 * rounding * min(shape))
    cover: np.ndarray = np.zeros((fine * height, fine * width), np.uint8)
    high, wide = cover.shape
    cv2.rectangle(cover, (radius, 0), (wide - radius - 1, high - 1), 255, -1)
    cv2.rectangle(cover, (0, radius), (wide - 1, high - radius - 1), 255, -1)
    for x in (radius, wide - radius - 1):
        for y in (radius, high - radius - 1):
            cv2.circle(cover, (x, y), radius, 255, -1)
    cover = cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255.0)
    colour = np.full(3, rng.uniform(0.0, 0.15)) if rng.random() < BLACK_SHARE else one_colour(rng)
    return in_colour(cover * np.float32(rng.uniform(0.3, 1.0)), colour)


def draw_sign(rng: np.random.Generator, size: int) -> np.ndarray:
    """The cover (size, size) of a random sign: disc, ring, star, peaks, cross, camera, triangle or circled arc."""
    n = 4 * size
    cover, kind = np.zeros((n, n), np.uint8), rng.integers(7)
    thick = max(2, round(n * rng.uniform(0.05, 0.12)))
    middle, reach = (n // 2, n // 2), n // 2 - thick
    if kind == 0:
        cv2.circle(cover, middle, reach, 255, -1 if rng.random() < 0.4 else thick)
    elif kind == 1:
        points = int(rng.integers(4, 9))
        angles = np.arange(2 * points) * np.pi / points - np.pi / 2
        radii = reach * np.where(np.arange(2 * points) % 2, rng.uniform(0.3, 0.6), 1.0)
        corners = n / 2 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(cover, [corners.astype(np.int32)], 255)
    elif kind == 2:
        peaks = np.array([[0.02, 0.85], [0.35, 0.2], [0.55, 0.6], [0.7, 0.4], [0.98, 0.85]]) * n
        cv2.fillPoly(cover, [peaks.astype(np.int32)], 255)
    elif kind == 3:
        cv2.line(cover, (thick, thick), (n - thick, n - thick), 255, thick)
        cv2.line(cover, (thick, n - thick), (n - thick, thick), 255, thick)
    elif kind == 4:
        cv2.rectangle(cover, (0, n // 4), (n, n - n // 8), 255, -1)
        cv2.rectangle(cover, (n // 3, n // 8), (2 * n // 3, n // 4), 255, -1)
        cv2.circle(cover, (n // 2, n * 9 // 16), n // 4, 0, thick // 2 + 1)
    elif kind == 5:
        cv2.fillPoly(cover, [(np.array([[0.15, 0.05], [0.95, 0.5], [0.15, 0.95]]) * n).astype(np.int32)], 255)
    else:
        cv2.circle(cover, middle, reach, 255, thick)
        cv2.ellipse(cover, middle, (reach // 2, reach // 2), 0, 40, 320, 255, thick)
    return cv2.resize(cover, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255.0)

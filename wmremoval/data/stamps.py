"""What a mark is made of: a phrase, a shape or a logo as a small RGBA stamp with its colours.

A stamp is (h, w, 4) RGBA float32, premultiplied. Where a factor comes with it, that brings it to its size in the
photograph.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from wmremoval.data.fonts import PHRASES, FontBook, text_raster

BLACK_SHARE = 0.5  # of boxes: black or nearly so, whatever the colour drawn for them
RASTER_SIZES = (16, 32, 64, 128)  # em in pixels; text is written once at the next size up and scaled down


def text_stamp(
    rng: np.random.Generator, fonts: FontBook, em: float, outline_share: float, boxed_share: float = 0.0
) -> tuple[np.ndarray, float]:
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
    extent = int(side * rng.uniform(0.25, 0.9))
    thickness = max(1, round(side * rng.uniform(0.006, 0.03)))
    cover = np.zeros((extent, extent), np.uint8)
    kind = rng.integers(4)
    if kind == 0:  # parallel or crossing lines
        for _ in range(rng.integers(1, 4)):
            ends = [tuple(int(v) for v in rng.integers(0, extent, 2)) for _ in range(2)]
            cv2.line(cover, *ends, 255, thickness, cv2.LINE_AA)
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
    logo = logos[rng.integers(len(logos))].astype(np.float32) / 255.0
    logo[..., :3] *= logo[..., 3:]  # before any resampling: the colour of transparent pixels must not bleed in
    scale = target / max(logo.shape[:2])
    if scale < 0.5:  # the placing warp samples four pixels: shrink first, averaging
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
    """Brightness and contrast change of the mark's colours, its coverage untouched."""
    contrast, brightness = np.float32(rng.uniform(0.7, 1.3)), np.float32(rng.uniform(-0.15, 0.15))
    cover = stamp[..., 3:]
    colour = contrast * (stamp[..., :3] - 0.5 * cover) + (0.5 + brightness) * cover
    return np.concatenate([np.clip(colour, 0.0, cover), cover], axis=-1)


def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Porter and Duff 1984, operator "over"."""
    return top + bottom * (1.0 - top[..., 3:])

"""Draw a random visible watermark (text, shape or logo), distort it, blend it into a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.data.fonts import FontBook
from wmremoval.data.layouts import Sheet, draw_layout
from wmremoval.data.stamps import jitter, logo_stamp, one_colour, over, paint, shape_stamp, text_stamp
from wmremoval.images import as_jpeg, to_uint8
from wmremoval.settings import check_settings, setting, share

BLEND_MODES = ("multiply", "screen", "overlay")  # of image editors, beside plain alpha; W3C Compositing, section 10
# Range of the strongest alpha of faint marks; chosen, not measured. Marks of alpha 0.3 have the lowest mask IoU in
# the suite (outputs/measurements/README.md).
FAINT_OPACITY = (0.1, 0.4)
# Shares of marks, chosen and not measured.
DISTORTED_LAYOUT_SHARE = 0.1  # of layouts: blurred, noisy or through JPEG, as scanned or copied marks are
FADING_SHARE = 0.15  # of layouts: alpha varies across the mark
RECOLOURED_SHARE = 0.75  # of overlays: in a single colour
WHITE_SHARE = 0.6  # of the recoloured overlays: in white


@dataclass(frozen=True)
class WatermarkConfig:
    """Frequency and strength of each property of a mark; shares are probabilities in [0, 1]. No default was measured."""

    shape_share: float = share(0.12)  # lines, rectangles and circles: "a slight amount" in the document
    lattice_share: float = share(0.0)  # of the shapes: lines in one or two directions over the whole photograph
    logo_share: float = share(0.3)  # logos, where there are any
    tiled_share: float = share(0.15)  # repeated over the whole photograph, as stock previews are
    outline_share: float = share(0.2)  # text with a stroke of another colour
    shadow_share: float = share(0.2)  # a dark blurred copy underneath
    occluded_share: float = share(0.15)  # partly hidden
    distorted_share: float = share(0.35)  # blur, noise or JPEG, as a poor scan gives
    jitter_share: float = share(0.3)  # brightness and contrast change of the mark
    opacity: tuple[float, float] = setting(
        (0.2, 0.95), least=0, most=1
    )  # range of the strongest alpha of a translucent mark
    opaque_share: float = share(0.1)  # marks that hide the photograph completely
    text_height: tuple[float, float] = setting(
        (0.06, 0.26), least=0, most=1
    )  # em as a share of the photograph's shorter side
    logo_side: tuple[float, float] = setting(
        (0.15, 0.6), least=0, most=1
    )  # longer side as a share of the photograph's shorter side
    even: bool = False  # one opacity over the whole mark; False: the opacity of every second mark varies
    boxed_share: float = share(0.0)  # of texts: on a translucent box of another colour, as captions are
    overlay_share: float = share(0.0)  # of all marks: drawn with the changes of `overlay` to the shares above
    layout_share: float = share(
        0.0
    )  # of all marks: a layout of the web; of the settings above only the opacities count
    faint_share: float = share(0.0)  # of translucent layouts: strongest alpha in `FAINT_OPACITY` instead of `opacity`
    modes_share: float = share(0.0)  # of all marks: blended by one of `BLEND_MODES` in place of plain alpha

    def __post_init__(self) -> None:
        check_settings(self)


# Kinds of training marks by their name in the settings. Validation and test always use "standard". No share was
# measured alone; "standard" and "varied" were compared (training settings in outputs/measurements/README.md).
MARKS = {
    "standard": WatermarkConfig(),
    # More shapes and opaque marks, which a network trained on "standard" finds and restores worst.
    "varied": WatermarkConfig(shape_share=0.25, lattice_share=0.2, logo_share=0.4, opaque_share=0.18),
    # More plain, white and faint marks, which are the most frequent on the web and rare in "varied".
    "overlays": WatermarkConfig(
        shape_share=0.25, lattice_share=0.2, logo_share=0.4, opaque_share=0.18, overlay_share=0.6
    ),
    # Captions on boxes, larger words and more shadows; the kinds above have no boxes.
    "web": WatermarkConfig(
        shape_share=0.15,
        lattice_share=0.2,
        logo_share=0.2,
        opaque_share=0.15,
        shadow_share=0.35,
        text_height=(0.04, 0.34),
        boxed_share=0.45,
        overlay_share=0.5,
    ),
    # All layouts of the web, and rather more than half of the older kinds, whose marks are large and opaque more often. With
    # two fifths of them a long training lost plain words that the shipped weights remove (long_run.json).
    "full_web": WatermarkConfig(
        shape_share=0.15,
        lattice_share=0.2,
        logo_share=0.3,
        opaque_share=0.2,
        text_height=(0.04, 0.34),
        boxed_share=0.3,
        overlay_share=0.4,
        layout_share=0.45,
        faint_share=0.4,
        modes_share=0.05,
    ),
}


def overlay(config: WatermarkConfig) -> WatermarkConfig:
    """The same kinds of marks as watermarking programs draw them: without effects, in one opacity, often a low one."""
    return replace(
        config,
        overlay_share=0.0,
        layout_share=0.0,
        outline_share=0.0,
        shadow_share=0.0,
        occluded_share=0.0,
        distorted_share=0.0,
        jitter_share=0.0,
        boxed_share=0.0,
        opacity=(0.15, 0.8),
        even=True,
    )


class Mark(NamedTuple):
    """A watermark as large as its photograph."""

    alpha: np.ndarray  # (H, W) float32 in [0, 1]
    colour: np.ndarray  # (H, W, 3) RGB float32 in [0, 1]; W of the blending equation


def blend(image: np.ndarray, mark: Mark, mode: str = "normal") -> tuple[np.ndarray, np.ndarray]:
    """Blend a mark into an image: J = (1 - alpha) I + alpha B, rounded.

    B is the mark's colour W in the normal mode, and a function of I and W in the others (W3C Compositing, section 10).

    Args:
        image: (H, W, 3) RGB uint8; not changed.
        mark: alpha and colour of the same height and width.
        mode: "normal", or one of `BLEND_MODES`.

    Returns:
        the watermarked image, (H, W, 3) uint8, and the mask, (H, W) uint8, 1 where any channel changed.
        Outside the mask both images are bit-identical.

    Raises:
        ValueError: an unknown mode.
    """
    watermarked, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    x, y, w, h = cv2.boundingRect((mark.alpha > 0).view(np.uint8))
    box = np.s_[y : y + h, x : x + w]
    alpha, under, colour = mark.alpha[box][..., None], image[box] / np.float32(255.0), mark.colour[box]
    if mode == "multiply":
        colour = under * colour
    elif mode == "screen":
        colour = under + colour - under * colour
    elif mode == "overlay":
        colour = np.where(under <= 0.5, 2 * under * colour, 1 - 2 * (1 - under) * (1 - colour))
    elif mode != "normal":
        raise ValueError(f"mode must be normal, {', '.join(BLEND_MODES)}, got {mode!r}")
    watermarked[box] = to_uint8((1.0 - alpha) * under + alpha * colour)
    mask[box] = (watermarked[box] != image[box]).any(axis=-1)
    return watermarked, mask


def draw_blend_mode(rng: np.random.Generator, config: WatermarkConfig) -> str:
    """The blend mode of the next mark: "normal", or with probability `modes_share` one of `BLEND_MODES`.

    A share of 0 leaves the generator as it is.
    """
    if config.modes_share and rng.random() < config.modes_share:
        return BLEND_MODES[rng.integers(len(BLEND_MODES))]
    return "normal"


def draw_mark(
    rng: np.random.Generator,
    height: int,
    width: int,
    fonts: FontBook,
    logos: Sequence[np.ndarray] = (),
    config: WatermarkConfig = WatermarkConfig(),
) -> Mark:
    """Draw one random watermark for a photograph of height x width pixels.

    Args:
        rng: decides everything; equal generators give equal marks.
        height: of the photograph, pixels.
        width: of the photograph, pixels.
        fonts: faces of the texts; without any, only shapes and logos are drawn.
        logos: (h, w, 4) RGBA uint8 arrays.
        config: frequency of kinds and properties.
    """
    if config.layout_share and rng.random() < config.layout_share:
        return _draw_layout_mark(Sheet(rng, height, width, fonts, logos), config)
    if config.overlay_share and rng.random() < config.overlay_share:
        mark = draw_mark(rng, height, width, fonts, logos, overlay(config))
        return _recoloured(rng, mark) if rng.random() < RECOLOURED_SHARE else mark
    kind = rng.random()
    if kind < config.shape_share * config.lattice_share:
        layer = _draw_lattice(rng, height, width)  # (H, W, 4) premultiplied
    else:
        layer = _draw_stamp(rng, height, width, fonts, logos, config, kind)
    if rng.random() < config.shadow_share:
        layer = _with_shadow(rng, layer, min(height, width))
    if rng.random() < config.distorted_share:
        layer = _distort(rng, layer)
    alpha = layer[..., 3].clip(0.0, 1.0)
    colour = (layer[..., :3] / np.maximum(layer[..., 3:], 1e-4)).clip(0.0, 1.0)
    alpha = alpha * _opacity_map(rng, height, width, config)
    if rng.random() < config.occluded_share:
        _occlude(rng, alpha)
    return Mark(alpha, colour)


def _draw_layout_mark(sheet: Sheet, config: WatermarkConfig) -> Mark:
    """A mark of the web's layouts in the configured opacities; only its bounding box is computed."""
    rng, layer = sheet.rng, draw_layout(sheet)
    x, y, w, h = cv2.boundingRect((layer[..., 3] > 0).view(np.uint8))
    box = np.s_[y : y + h, x : x + w]
    part = layer[box]
    if part.size and rng.random() < DISTORTED_LAYOUT_SHARE:
        part = _distort(rng, np.ascontiguousarray(part))
    alpha, colour = np.zeros(layer.shape[:2], np.float32), np.zeros((*layer.shape[:2], 3), np.float32)
    colour[box] = (part[..., :3] / np.maximum(part[..., 3:], 1e-4)).clip(0.0, 1.0)
    faint = config.faint_share and rng.random() < config.faint_share
    opaque = 0.0 if faint else config.opaque_share
    even = rng.random() >= FADING_SHARE
    config = replace(config, opacity=FAINT_OPACITY if faint else config.opacity, opaque_share=opaque, even=even)
    alpha[box] = part[..., 3].clip(0.0, 1.0) * _opacity_map(rng, h, w, config) if part.size else 0.0
    return Mark(alpha, colour)


def _recoloured(rng: np.random.Generator, mark: Mark) -> Mark:
    """The mark in one colour, most often white."""
    colour = np.full(3, rng.uniform(0.92, 1.0), np.float32) if rng.random() < WHITE_SHARE else one_colour(rng)
    return Mark(mark.alpha, np.broadcast_to(colour, mark.colour.shape))


def _draw_stamp(
    rng: np.random.Generator,
    height: int,
    width: int,
    fonts: FontBook,
    logos: Sequence[np.ndarray],
    config: WatermarkConfig,
    kind: float,
) -> np.ndarray:
    """A layer (H, W, 4), premultiplied, with a shape, a logo or a phrase, once or tiled; `kind` in [0, 1) decides which."""
    tiled = rng.random() < config.tiled_share
    side = min(height, width)
    if kind < config.shape_share or not (fonts.faces or len(logos)):
        stamp, scale = shape_stamp(rng, max(32, side * 3 // 10) if tiled else side), 1.0
    elif len(logos) and (kind < config.shape_share + config.logo_share or not fonts.faces):
        stamp, scale = logo_stamp(rng, logos, side * rng.uniform(*config.logo_side) * (0.5 if tiled else 1.0))
    else:
        stamp, scale = text_stamp(
            rng,
            fonts,
            side * rng.uniform(*config.text_height) * (0.6 if tiled else 1.0),
            config.outline_share,
            config.boxed_share,
        )
    if rng.random() < config.jitter_share:
        stamp = jitter(rng, stamp)
    return _place(rng, stamp, scale, height, width, tiled)


def _place(
    rng: np.random.Generator, stamp: np.ndarray, scale: float, height: int, width: int, tiled: bool
) -> np.ndarray:
    """Scale, rotate and move the stamp into the photograph, once or as an endless brick pattern."""
    h, w = stamp.shape[:2]
    longest = w * scale / width
    if longest > 1.1:
        scale *= rng.uniform(0.7, 1.1) / longest
    turn = rng.random()
    angle = 0.0 if turn < 0.45 else rng.uniform(-35, 35) if turn < 0.85 else rng.uniform(-90, 90)
    if tiled:
        gap_y, gap_x = int(h * rng.uniform(0.6, 2.5)), int(w * rng.uniform(0.15, 0.8))
        row = np.pad(stamp, ((gap_y // 2, gap_y - gap_y // 2), (0, gap_x), (0, 0)))
        stamp = np.concatenate([row, np.roll(row, row.shape[1] // 2, axis=1)])
        h, w = stamp.shape[:2]
    centre = rng.uniform(0.08, 0.92, 2) * (width, height)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, scale)
    matrix[:, 2] += centre - (w / 2, h / 2)
    border = cv2.BORDER_WRAP if tiled else cv2.BORDER_CONSTANT
    return cv2.warpAffine(stamp, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _draw_lattice(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Parallel lines in one or two directions over the whole photograph, as stock previews have."""
    side = min(height, width)
    pitch, thickness = side * rng.uniform(0.12, 0.5), max(1, round(side * rng.uniform(0.004, 0.015)))
    angle, spread = rng.uniform(0, np.pi), rng.uniform(0.5, 1.5)
    cover = np.zeros((height, width), np.uint8)
    for direction in (angle, angle + spread)[: 2 if rng.random() < 0.8 else 1]:
        along = np.array([np.cos(direction), np.sin(direction)])
        across = np.array([-along[1], along[0]])
        reach = height + width  # pixels; longer than the way from any point of the photograph to its furthest corner
        for offset in np.arange(rng.uniform(-1, 0) * pitch - reach, reach, pitch):
            ends = (np.array([width, height]) / 2 + offset * across + step * reach * along for step in (-1, 1))
            first, last = ((int(x), int(y)) for x, y in ends)
            cv2.line(cover, first, last, 255, thickness, cv2.LINE_AA)
    return paint(rng, cover.astype(np.float32) / 255.0)


def _with_shadow(rng: np.random.Generator, layer: np.ndarray, side: int) -> np.ndarray:
    """The layer over a dark, blurred and shifted copy of itself."""
    offset = side * rng.uniform(0.006, 0.02)
    shift = np.array([[1, 0, offset], [0, 1, offset * rng.choice((-1.0, 1.0))]], np.float32)
    cover = cv2.warpAffine(layer[..., 3], shift, layer.shape[1::-1])
    cover = cv2.GaussianBlur(cover, (0, 0), max(0.4, offset / 2))
    cover[cover < 1 / 255] = 0.0  # the Gaussian's tail would put most of the photograph into the mask
    shadow = np.zeros_like(layer)
    shadow[..., 3] = cover * np.float32(rng.uniform(0.3, 0.7))
    return over(layer, shadow)


def _distort(rng: np.random.Generator, layer: np.ndarray) -> np.ndarray:
    """Blur, noise or JPEG, as of a poor scan or a camera."""
    kind = rng.integers(3)
    if kind == 0:
        layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 1.3))
        layer[layer[..., 3] < 1 / 255] = 0.0
        return layer
    cover = layer[..., 3]
    if kind == 1:
        noise = rng.standard_normal(cover.shape, dtype=np.float32) * np.float32(rng.uniform(0.03, 0.15))
        changed = np.clip(cover + noise * cover, 0.0, 1.0)
    else:
        quality = int(rng.integers(20, 70))
        changed = as_jpeg(to_uint8(cover), quality).astype(np.float32) / 255.0
        changed[cover == 0] = 0.0
    return layer * (changed / np.maximum(cover, 1e-4))[..., None]


def _opacity_map(rng: np.random.Generator, height: int, width: int, config: WatermarkConfig) -> np.ndarray:
    """A smooth factor on the coverage, (H, W) in [0, 1]."""
    if rng.random() < config.opaque_share:
        return np.ones((height, width), np.float32)
    least = 1.0 if config.even else rng.choice((0.6, 1.0))
    grid = rng.uniform(least, 1.0, (3, 3)).astype(np.float32)
    opacity = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return opacity * np.float32(rng.uniform(*config.opacity))


def _occlude(rng: np.random.Generator, alpha: np.ndarray) -> None:
    """Cut an ellipse out of the mark, in place, as if an object of the photograph stood before it."""
    x, y, w, h = cv2.boundingRect((alpha > 0).view(np.uint8))
    centre = int(x + w * rng.random()), int(y + h * rng.random())
    axes = int(w * rng.uniform(0.1, 0.3)) + 1, int(h * rng.uniform(0.3, 0.8)) + 1
    cv2.ellipse(alpha, centre, axes, float(rng.uniform(0, 180)), 0, 360, 0.0, -1)

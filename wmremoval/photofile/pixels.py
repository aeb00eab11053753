"""Pixel kinds: their samples, their conversion to RGB, and the restored colours converted back into samples.

A native array is (H, W, C) and holds the samples of the file: uint8, or uint16 if the kind has 16 bits. Grey has one
channel, RGB three, CMYK four (0 = no ink), a palette one (the index). An alpha channel adds one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

CHANNELS = {"grey": 1, "rgb": 3, "cmyk": 4, "palette": 1}
MODES = {
    "1": ("grey", 1, False),
    "L": ("grey", 8, False),
    "LA": ("grey", 8, True),
    "P": ("palette", 8, False),
    "RGB": ("rgb", 8, False),
    "RGBA": ("rgb", 8, True),
    "CMYK": ("cmyk", 8, False),
    "I;16": ("grey", 16, False),
    "I;16L": ("grey", 16, False),
    "I;16B": ("grey", 16, False),
    "I;16N": ("grey", 16, False),
}
NOT_SUPPORTED = {
    "F": "32-bit float pixels are",
    "I": "32-bit integer pixels are",
    "PA": "a palette with an alpha channel is",
    "La": "grey with premultiplied transparency is",
    "RGBa": "premultiplied transparency is",
    "LAB": "the Lab colour space is",
    "YCbCr": "the YCbCr colour space is",
    "HSV": "the HSV colour space is",
}
STRIP = 1 << 20  # pixels converted at a time: temporary arrays take some tens of megabytes. Chosen, not measured.


class NotSupported(ValueError):
    """An unsupported kind of picture. The message names the kind and a remedy, not the file."""


@dataclass(frozen=True, eq=False)
class PixelKind:
    """The storage of a pixel in a file.

    Attributes:
        colour: "grey", "rgb", "cmyk" or "palette".
        bits: bits per sample: 1, 2, 4, 8 or 16.
        alpha: True if there is an alpha channel.
        key: the one colour, in samples, that counts as transparent, or None.
        palette: (N, 4) uint8 RGBA, or None.
    """

    colour: str
    bits: int = 8
    alpha: bool = False
    key: tuple[int, ...] | None = None
    palette: np.ndarray | None = None

    @property
    def channels(self) -> int:
        """Samples per pixel."""
        return CHANNELS[self.colour] + self.alpha

    @property
    def top(self) -> int:
        """The largest value of a sample."""
        return (1 << self.bits) - 1

    @property
    def plain(self) -> bool:
        """True for 8-bit RGB or grey without transparency: the RGB view then loses nothing."""
        return self.colour in ("rgb", "grey") and self.bits == 8 and not self.alpha and self.key is None

    @property
    def transparent(self) -> bool:
        """True if pixels may be transparent."""
        return (
            self.alpha or self.key is not None or (self.palette is not None and bool((self.palette[:, 3] < 255).any()))
        )

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The type of the native array."""
        return np.uint16 if self.bits == 16 else np.uint8

    @property
    def mode(self) -> str:
        """Pillow's name of the mode; 16-bit colour, unknown to Pillow, is "RGB;16" or "RGBA;16"."""
        if self.colour == "palette":
            return "P"
        if self.colour == "cmyk":
            return "CMYK"
        if self.colour == "grey":
            return {1: "1", 16: "I;16"}.get(self.bits, "LA" if self.alpha else "L")
        return ("RGBA" if self.alpha else "RGB") + (";16" if self.bits == 16 else "")


def kind_of(mode: str, key: tuple[int, ...] | None = None, palette: np.ndarray | None = None) -> PixelKind:
    """The pixel kind of a Pillow mode.

    Raises:
        NotSupported: the mode is not supported, for example float.
    """
    if mode not in MODES:
        what = NOT_SUPPORTED.get(mode, f"the pixel mode {mode} is")
        raise NotSupported(f"{what} not supported: save it as RGB with 8 or 16 bits a channel")
    colour, bits, alpha = MODES[mode]
    return PixelKind(colour, bits, alpha, key, palette)


def strips(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Groups of rows of about a megapixel each, from top to bottom; each begins at a multiple of this many rows."""
    step = max(1, STRIP // max(width, 1) // multiple) * multiple
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def luma(rgb: np.ndarray) -> np.ndarray:
    """Convert (..., 3) uint8 RGB to (...) uint8 grey, with Pillow's weights and rounding; grey keeps its level."""
    weighted = rgb[..., 0] * np.uint32(19595) + rgb[..., 1] * np.uint32(38470) + rgb[..., 2] * np.uint32(7471)
    return ((weighted + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint8)


def to_rgb(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Convert (..., C) native samples to (..., 3) RGB uint8; transparency is laid over white."""
    if kind.colour == "palette":
        return _over_white(kind.palette[..., :3], kind.palette[..., 3:], 255)[_indices(kind, native)]
    if kind.colour == "cmyk":
        paper = 255 - native[..., 3:].astype(np.int32)
        ink = native[..., :3] * paper + 128
        return (paper - ((ink + (ink >> 8)) >> 8)).astype(np.uint8)  # Pillow's rounding
    colour = native[..., : CHANNELS[kind.colour]]
    if kind.alpha or kind.key is not None:
        seen = _over_white(colour, _alpha(kind, native)[..., None], kind.top)
    elif kind.bits == 8:
        seen = colour
    else:
        seen = ((colour.astype(np.uint32) * 255 + kind.top // 2) // kind.top).astype(np.uint8)
    return np.broadcast_to(seen, (*native.shape[:-1], 3))


def picture_to_rgb(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Convert (H, W, C) native samples to a contiguous (H, W, 3) RGB uint8 array, in strips to save memory."""
    rgb = np.empty((*native.shape[:2], 3), np.uint8)
    for rows in strips(*native.shape[:2]):
        rgb[rows] = to_rgb(kind, native[rows])
    return rgb


def converted(kind: PixelKind, native: np.ndarray, target: PixelKind) -> np.ndarray:
    """Convert (rows, W, C) native samples to another kind: 8-bit grey or RGB, with or without alpha.

    A target without alpha keeps the colours and drops the transparency; nothing is laid over white.
    """
    opaque = kind.palette
    if opaque is not None:
        opaque = opaque | np.array([0, 0, 0, 255], np.uint8)
    count = CHANNELS[kind.colour]
    colour = to_rgb(PixelKind(kind.colour, kind.bits, palette=opaque), native[..., :count])
    result = np.empty((*native.shape[:-1], target.channels), np.uint8)
    result[..., : CHANNELS[target.colour]] = luma(colour)[..., None] if target.colour == "grey" else colour
    if target.alpha:
        top = 255 if kind.colour == "palette" else kind.top
        result[..., -1] = (_alpha(kind, native).astype(np.uint32) * 255 + top // 2) // top
    return result


def has_transparency(kind: PixelKind, native: np.ndarray) -> bool:
    """True if any of the (H, W, C) native pixels is not fully opaque."""
    top = 255 if kind.colour == "palette" else kind.top
    return kind.transparent and any((_alpha(kind, native[rows]) < top).any() for rows in strips(*native.shape[:2]))


def restored_samples(kind: PixelKind, native: np.ndarray, restored: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Convert the restored colours to native samples.

    Args:
        native: (H, W, C); the array is not changed.
        restored: (H, W, 3) RGB uint8.
        mask: (H, W) uint8; pixels of value 0 keep their samples bit for bit.

    Returns:
        (H, W, C); `native` itself if nothing changes. Transparency is kept. Fully transparent pixels, and
        pixels whose RGB colour was not changed, keep their samples.
    """
    inside = mask != 0
    if not inside.any():
        return native
    old, wanted = native[inside], restored[inside]
    seen = to_rgb(kind, old)
    alpha = _alpha(kind, old)
    moved = (seen != wanted).any(axis=-1) & (alpha > 0)
    if not moved.any():
        return native
    if kind.colour == "palette":
        new = _nearest_entries(kind, old[moved], wanted[moved])
    elif kind.colour == "cmyk":
        new = _inks(old[moved], seen[moved], wanted[moved])
    else:
        new = _shifted(kind, old[moved], seen[moved], wanted[moved], alpha[moved])
    old[moved] = new
    result = native.copy()
    result[inside] = old
    return result


def _alpha(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Opacity (...) from 0 to the kind's largest sample value (255 for a palette)."""
    if kind.alpha:
        return native[..., -1]
    if kind.colour == "palette":
        return kind.palette[_indices(kind, native), 3]
    if kind.key is not None:
        return np.where((native == np.array(kind.key)).all(axis=-1), 0, kind.top)
    return np.full(native.shape[:-1], kind.top)


def _indices(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    return np.minimum(native[..., 0], len(kind.palette) - 1)  # a damaged file may point past its palette


def _over_white(colour: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    alpha = alpha.astype(np.float64) / top
    return np.rint((colour * alpha + top * (1.0 - alpha)) * (255.0 / top)).astype(np.uint8)


def _shifted(kind: PixelKind, old: np.ndarray, seen: np.ndarray, wanted: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Add the change of the RGB view to each sample, scaled to its range and divided by its opacity.

    Adding the change keeps the detail of 16-bit samples below one 8-bit level.
    """
    count = CHANNELS[kind.colour]
    if count == 1:
        seen, wanted = seen[..., :1], luma(wanted)[..., None]
    moved = (wanted.astype(np.float64) - seen) * (kind.top / 255.0) * (kind.top / alpha[..., None])
    new = old.copy()
    new[..., :count] = np.clip(np.rint(old[..., :count] + moved), 0, kind.top)
    if kind.key is not None:  # a visible pixel of the key's colour would turn transparent
        hit = (new == np.array(kind.key)).all(axis=-1)
        new[hit, -1] = kind.key[-1] + 1 if kind.key[-1] < kind.top else kind.key[-1] - 1
    return new


def _inks(old: np.ndarray, seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 4) CMYK for the wanted colours; black is kept, and reduced only where the wanted colour needs it."""
    black = np.minimum(old[:, 3], 255 - wanted.max(axis=1))
    paper = 255.0 - black[:, None]
    inks = np.rint((paper - wanted) * 255.0 / np.maximum(paper, 1.0))
    kept = (wanted == seen) & (black == old[:, 3])[:, None]
    new = old.copy()
    new[:, :3] = np.where(kept | (paper == 0), old[:, :3], np.clip(inks, 0, 255))
    new[:, 3] = black
    return new


def _nearest_entries(kind: PixelKind, old: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 1) palette indices: the colour nearest to the wanted one, among entries of the same opacity as before."""
    view = _over_white(kind.palette[:, :3], kind.palette[:, 3:], 255).astype(np.int32)
    opacity = _alpha(kind, old)
    new = old.copy()
    colours, inverse = np.unique(np.column_stack([wanted, opacity]), axis=0, return_inverse=True)
    best = np.empty(len(colours), np.uint8)
    for start in range(0, len(colours), 4096):
        part = colours[start : start + 4096].astype(np.int32)
        distance = ((part[:, None, :3] - view[None]) ** 2).sum(axis=-1)
        distance[part[:, 3:] != kind.palette[None, :, 3].astype(np.int32)] = np.iinfo(np.int32).max
        best[start : start + 4096] = distance.argmin(axis=1)
    new[:, 0] = best[inverse.reshape(-1)]
    return new


def native_strip(image: Image.Image, kind: PixelKind, rows: slice) -> np.ndarray:
    """(rows, W, C) native samples of a decoded Pillow image."""
    array = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    if kind.bits == 16:
        array = array.astype(np.uint16)  # to the machine's byte order
    elif kind.bits < 8:
        array = array if array.dtype == bool else array // (255 // kind.top)
    return array.astype(kind.dtype, copy=False).reshape(*array.shape[:2], kind.channels)


def image_strip(kind: PixelKind, native: np.ndarray, mode: str = "") -> Image.Image:
    """A Pillow image of (rows, W, C) native samples. 2- and 4-bit grey becomes 8-bit; 16-bit colour is not supported.

    `mode` is Pillow's name of the 16-bit grey mode; empty for "I;16".
    """
    array = native[..., 0] if native.shape[-1] == 1 else native
    size = (native.shape[1], native.shape[0])
    if kind.bits == 1:
        return Image.fromarray(array.astype(bool))
    if kind.bits in (2, 4):
        array = array * np.uint8(255 // kind.top)
    if kind.bits == 16:
        return Image.frombytes(mode or "I;16", size, array.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    return Image.frombytes(kind.mode, size, np.ascontiguousarray(array).tobytes())

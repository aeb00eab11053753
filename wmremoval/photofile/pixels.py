"""Pixel kinds: the storage of a pixel in a file, and samples in Pillow images.

A native array is (H, W, C) and holds the samples of the file: uint8, or uint16 if the kind has 16 bits. Grey has one
channel, RGB three, CMYK four (0 = no ink), a palette one (the index). An alpha channel adds one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
        space: the colour space of "rgb" (see `colourspace`), or None for sRGB.
        ground: grey level that transparent pixels show in the RGB view.
    """

    colour: str
    bits: int = 8
    alpha: bool = False
    key: tuple[int, ...] | None = None
    palette: np.ndarray | None = None
    space: Any = None
    ground: int = 255

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
        """True for 8-bit sRGB or grey without transparency: the RGB view then loses nothing."""
        opaque = not self.alpha and self.key is None
        return self.colour in ("rgb", "grey") and self.bits == 8 and opaque and self.space is None

    @property
    def deep(self) -> bool:
        """True for 16-bit colour and 16-bit grey with alpha, of which Pillow keeps only the high bytes."""
        return self.bits == 16 and (self.colour == "rgb" or self.alpha)

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
        """Pillow's name of the mode; kinds that Pillow lacks are "RGB;16", "RGBA;16" and "LA;16"."""
        if self.colour == "palette":
            return "P"
        if self.colour == "cmyk":
            return "CMYK"
        if self.colour == "grey":
            if self.alpha:
                return "LA;16" if self.bits == 16 else "LA"
            return {1: "1", 16: "I;16"}.get(self.bits, "L")
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

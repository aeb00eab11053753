"""What a pixel of each kind stores, how it looks as RGB, and how a restored colour goes back into it.

A native array is (H, W, C) in the file's own samples: uint8, or uint16 when the kind has 16 bits. Grey has one
channel, RGB three, CMYK four (0 = no ink), a palette one (the index); transparency adds one.
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
STRIP = 1 << 20  # pixels converted at a time, so that temporary arrays stay at some tens of megabytes


class NotSupported(ValueError):
    """A kind of picture the package does not handle; the message says which and what to do, without the file name."""


@dataclass(frozen=True, eq=False)
class PixelKind:
    """How pixels are stored: `colour` grey, rgb, cmyk or palette, at 1, 2, 4, 8 or 16 bits a sample.

    `key` is the one colour, in samples, that counts as transparent; `palette` is (N, 4) uint8 RGBA.
    """

    colour: str
    bits: int = 8
    alpha: bool = False
    key: tuple[int, ...] | None = None
    palette: np.ndarray | None = None

    @property
    def channels(self) -> int:
        """Samples a pixel."""
        return CHANNELS[self.colour] + self.alpha

    @property
    def top(self) -> int:
        """The largest sample."""
        return (1 << self.bits) - 1

    @property
    def plain(self) -> bool:
        """Whether the RGB view says all there is: 8-bit RGB or grey without transparency."""
        return self.colour in ("rgb", "grey") and self.bits == 8 and not self.alpha and self.key is None

    @property
    def transparent(self) -> bool:
        """Whether some pixels may be transparent."""
        return (
            self.alpha or self.key is not None or (self.palette is not None and bool((self.palette[:, 3] < 255).any()))
        )

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """Of the native array."""
        return np.uint16 if self.bits == 16 else np.uint8

    @property
    def mode(self) -> str:
        """Pillow's name for it; 16-bit colour, which Pillow lacks, is "RGB;16" or "RGBA;16"."""
        if self.colour == "palette":
            return "P"
        if self.colour == "cmyk":
            return "CMYK"
        if self.colour == "grey":
            return {1: "1", 16: "I;16"}.get(self.bits, "LA" if self.alpha else "L")
        return ("RGBA" if self.alpha else "RGB") + (";16" if self.bits == 16 else "")


def kind_of(mode: str, key: tuple[int, ...] | None = None, palette: np.ndarray | None = None) -> PixelKind:
    """The kind of a Pillow mode.

    Raises:
        NotSupported: a mode that is no photograph's, such as float.
    """
    if mode not in MODES:
        what = NOT_SUPPORTED.get(mode, f"the pixel mode {mode} is")
        raise NotSupported(f"{what} not supported: save it as RGB with 8 or 16 bits a channel")
    colour, bits, alpha = MODES[mode]
    return PixelKind(colour, bits, alpha, key, palette)


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows in groups of about a megapixel, top to bottom."""
    step = max(1, STRIP // max(width, 1))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def luma(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB to (...) uint8 grey, with Pillow's weights and rounding: grey stays the same grey."""
    weighted = rgb[..., 0] * np.uint32(19595) + rgb[..., 1] * np.uint32(38470) + rgb[..., 2] * np.uint32(7471)
    return ((weighted + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint8)


def see(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """(..., C) native samples to (..., 3) RGB uint8, transparency laid over white."""
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


def see_all(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """(H, W, C) native samples to a contiguous (H, W, 3) RGB uint8 array, in strips to save memory."""
    rgb = np.empty((*native.shape[:2], 3), np.uint8)
    for rows in strips(*native.shape[:2]):
        rgb[rows] = see(kind, native[rows])
    return rgb


def converted(kind: PixelKind, native: np.ndarray, target: PixelKind) -> np.ndarray:
    """(rows, W, C) native samples of one kind as those of another: 8-bit grey or RGB, with or without alpha.

    Transparency that the target lacks is dropped, not laid over anything.
    """
    opaque = kind.palette
    if opaque is not None:
        opaque = opaque | np.array([0, 0, 0, 255], np.uint8)
    count = CHANNELS[kind.colour]
    colour = see(PixelKind(kind.colour, kind.bits, palette=opaque), native[..., :count])
    result = np.empty((*native.shape[:-1], target.channels), np.uint8)
    result[..., : CHANNELS[target.colour]] = luma(colour)[..., None] if target.colour == "grey" else colour
    if target.alpha:
        top = 255 if kind.colour == "palette" else kind.top
        result[..., -1] = (_alpha(kind, native).astype(np.uint32) * 255 + top // 2) // top
    return result


def see_through(kind: PixelKind, native: np.ndarray) -> bool:
    """Whether any of the (H, W, C) native pixels is not fully opaque."""
    top = 255 if kind.colour == "palette" else kind.top
    return kind.transparent and any((_alpha(kind, native[rows]) < top).any() for rows in strips(*native.shape[:2]))


def put_back(kind: PixelKind, native: np.ndarray, restored: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Native samples with the restored colours in them.

    Args:
        native: (H, W, C); never changed.
        restored: (H, W, 3) RGB uint8.
        mask: (H, W) uint8; where it is 0 the samples stay, bit for bit.

    Returns:
        (H, W, C): `native` itself when nothing changes. Transparency stays as it is; fully transparent
        pixels, and those whose restored colour is the colour they had, keep their samples.
    """
    where = mask != 0
    if not where.any():
        return native
    old, wanted = native[where], restored[where]
    seen = see(kind, old)
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
    result[where] = old
    return result


def _alpha(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """(...) opacity, 0 to the kind's largest sample (255 for a palette)."""
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
    """Each sample moved as far as the view moved: 16-bit detail stays, and the colour under transparency is straight."""
    count = CHANNELS[kind.colour]
    if count == 1:
        seen, wanted = seen[..., :1], luma(wanted)[..., None]
    moved = (wanted.astype(np.float64) - seen) * (kind.top / 255.0) * (kind.top / alpha[..., None])
    new = old.copy()
    new[..., :count] = np.clip(np.rint(old[..., :count] + moved), 0, kind.top)
    if kind.key is not None:  # a visible pixel must not turn transparent by taking on the key's colour
        hit = (new == np.array(kind.key)).all(axis=-1)
        new[hit, -1] = kind.key[-1] + 1 if kind.key[-1] < kind.top else kind.key[-1] - 1
    return new


def _inks(old: np.ndarray, seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """CMY for the wanted colour under the black that is there; less black only where it hides the colour."""
    black = np.minimum(old[:, 3], 255 - wanted.max(axis=1))
    paper = 255.0 - black[:, None]
    inks = np.rint((paper - wanted) * 255.0 / np.maximum(paper, 1.0))
    kept = (wanted == seen) & (black == old[:, 3])[:, None]
    new = old.copy()
    new[:, :3] = np.where(kept | (paper == 0), old[:, :3], np.clip(inks, 0, 255))
    new[:, 3] = black
    return new


def _nearest_entries(kind: PixelKind, old: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 1) indices of the entries that look most like the wanted colours, among those equally transparent."""
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
    """(rows, W, C) native samples of a decoded Pillow image, in its own mode."""
    array = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    if kind.bits == 16:
        array = array.astype(np.uint16)  # big-endian images too
    elif kind.bits < 8:
        array = array if array.dtype == bool else array // (255 // kind.top)
    return array.astype(kind.dtype, copy=False).reshape(*array.shape[:2], kind.channels)


def image_strip(kind: PixelKind, native: np.ndarray, mode: str = "") -> Image.Image:
    """A Pillow image of (rows, W, C) native samples, not 16-bit colour; 2- and 4-bit grey becomes 8-bit.

    `mode` chooses among Pillow's names for 16-bit grey.
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

"""A watermark by itself: how strong it is, in which colour, and where on a photograph it lies; kept as an RGBA file."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from wmremoval.files import atomic_path
from wmremoval.images import DAMAGED, ImageError, to_uint8
from wmremoval.photofile.errors import quiet, shown

PLACEMENT = "wmremoval:placement"  # keyword of the text chunk that holds the place
SCALES = ("pixels", "width", "shorter side")  # what the size of a mark follows from photograph to photograph
# Grey levels: noise of lossless files, and of JPEG at a quality of 85, where 2 and 4 were tried (2026-11-27).
ROUNDING, COMPRESSION = 0.5, 4.0
MOST_PIXELS = 50_000_000  # of a file of a mark; chosen, not measured


@dataclass(frozen=True)
class Frame:
    """The rule by which marks lie on photographs of several sizes: from a fixed point, in pixels or scaled with the photograph."""

    scale: str = "pixels"  # of `SCALES`
    anchor: tuple[float, float] = (0.0, 0.0)  # the fixed point, across and down, as shares of the photograph's sides

    def unit(self, size: tuple[int, int]) -> float:
        """The unit of lengths on a photograph of `size` (width, height), pixels."""
        return {"pixels": 1.0, "width": float(size[0]), "shorter side": float(min(size))}[self.scale]

    def origin(self, size: tuple[int, int]) -> tuple[float, float]:
        """The fixed point on a photograph of `size` (width, height), pixels."""
        return self.anchor[0] * size[0], self.anchor[1] * size[1]


@dataclass(frozen=True)
class Place:
    """The place of a mark on one photograph: the mark's pixel (u, v) lies at (left + scale u, top + scale v)."""

    left: float
    top: float
    scale: float = 1.0


@dataclass(frozen=True)
class SharedMark:
    """A mark, measured on photographs of one size or read from a file.

    Args:
        alpha: (h, w) float32 in [0, 1].
        colour: (h, w, 3) RGB float32 in [0, 1].
        place: on a photograph of `size`; None: not known, so it is searched for.
        size: width and height of that photograph.
        frame: how the place follows from another size.
        photographs: number it was measured on; 0: read from a file of the user's own.
        noise: of the photographs it was measured on, grey levels; inversion amplifies it.
    """

    alpha: np.ndarray
    colour: np.ndarray
    place: Place | None = None
    size: tuple[int, int] = (0, 0)
    frame: Frame = Frame()
    photographs: int = 0
    noise: float = COMPRESSION

    def place_on(self, size: tuple[int, int]) -> Place | None:
        """The place on a photograph of `size` (width, height); None if it is not known."""
        if self.place is None:
            return None
        ratio = self.frame.unit(size) / self.frame.unit(self.size)
        own, other = self.frame.origin(self.size), self.frame.origin(size)
        left, top = (o + ratio * (p - q) for o, p, q in zip(other, (self.place.left, self.place.top), own, strict=True))
        return Place(left, top, ratio * self.place.scale)

    def scales_on(self, size: tuple[int, int]) -> list[float]:
        """The scales that the mark may have on a photograph of `size` (width, height)."""
        if self.place is None:
            longest = max(self.alpha.shape)
            return [share * min(size) / longest for share in SEARCHED_SHARES]
        return list(
            dict.fromkeys(Frame(name).unit(size) / Frame(name).unit(self.size) * self.place.scale for name in SCALES)
        )


# Lengths of a mark from a user's file that are searched for, as shares of the photograph's shorter side. Chosen, not measured.
SEARCHED_SHARES = tuple(float(share) for share in np.geomspace(0.06, 1.5, 40))


def drawn(mark: SharedMark, place: Place, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """A mark as it lies on a photograph.

    Args:
        mark: to be drawn.
        place: on the photograph.
        size: width and height of the photograph.

    Returns:
        rows and columns of the photograph, alpha (h, w) and colour (h, w, 3) there, float32; of no pixels if the mark
        lies outside.
    """
    height, width = mark.alpha.shape
    ends = np.array([[place.left, place.top], [place.left + place.scale * width, place.top + place.scale * height]])
    left, top = np.clip(np.floor(ends[0]).astype(int), 0, size)
    right, bottom = np.clip(np.ceil(ends[1]).astype(int), 0, size)
    block = slice(int(top), int(max(top, bottom))), slice(int(left), int(max(left, right)))
    shape = int(right - left), int(bottom - top)
    if min(shape) <= 0:
        return block, np.zeros((0, 0), np.float32), np.zeros((0, 0, 3), np.float32)
    premultiplied = np.dstack([mark.colour * mark.alpha[..., None], mark.alpha])
    scale, factor = place.scale, 1
    while scale < 0.5:  # shrinking by interpolation alone would skip pixels
        premultiplied = cv2.resize(premultiplied, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        scale, factor = 2 * scale, 2 * factor
    shift = [place.left + (scale - 1) / 2 - left, place.top + (scale - 1) / 2 - top]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
    layer = cv2.warpAffine(premultiplied, matrix, shape, flags=cv2.INTER_LINEAR if scale != 1.0 else cv2.INTER_CUBIC)
    alpha = layer[..., 3].clip(0.0, 1.0)
    return block, alpha, (layer[..., :3] / np.maximum(alpha, 1e-4)[..., None]).clip(0.0, 1.0)


def save_mark(mark: SharedMark, path: str | Path) -> None:
    """Write a mark as an RGBA PNG with straight alpha; its place stands in a text chunk.

    Raises:
        OSError: the file cannot be written; nothing half-written stays.
    """
    picture = Image.fromarray(np.dstack([to_uint8(mark.colour), to_uint8(mark.alpha)]), "RGBA")
    about = PngImagePlugin.PngInfo()
    if mark.place is not None:
        about.add_text(
            PLACEMENT,
            json.dumps(
                {
                    "size": mark.size,
                    "place": [mark.place.left, mark.place.top, mark.place.scale],
                    "scales with": mark.frame.scale,
                    "anchor": mark.frame.anchor,
                    "photographs": mark.photographs,
                    "noise": mark.noise,
                }
            ),
        )
    with atomic_path(Path(path)) as part:
        picture.save(part, format="PNG", pnginfo=about)


def load_mark(path: str | Path) -> SharedMark:
    """Read a mark: a file of `save_mark`, or a logo of the user's own with transparency.

    Raises:
        ImageError: one line: the file cannot be read, or is no mark.
    """
    name = shown(Path(path))
    try:
        with quiet(), Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels are too many for a mark")
            text = getattr(image, "text", {}).get(PLACEMENT)
            layer = np.asarray(image.convert("RGBA"))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: not a readable image ({reason}); name an RGBA PNG") from error
    try:
        known = _placed(json.loads(text)) if text else {}
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{name}: its placement is damaged ({error}); save the mark again") from error
    alpha = layer[..., 3].astype(np.float32) / 255.0
    if not alpha.any() or (alpha == alpha[0, 0]).all():
        raise ImageError(f"{name}: a mark needs transparency, opaque only where the mark is; save it as RGBA")
    return SharedMark(alpha, layer[..., :3].astype(np.float32) / 255.0, **known)


def _placed(about: dict) -> dict:
    """The fields of a `SharedMark` that a text chunk holds.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
    """
    scale, (width, height), numbers = about["scales with"], about["size"], [float(x) for x in about["place"]]
    if scale not in SCALES or not np.isfinite([*numbers, about["noise"], *about["anchor"]]).all() or numbers[2] <= 0:
        raise ValueError("values out of range")
    return {
        "place": Place(*numbers),
        "size": (int(width), int(height)),
        "frame": Frame(scale, (float(about["anchor"][0]), float(about["anchor"][1]))),
        "photographs": int(about["photographs"]),
        "noise": float(about["noise"]),
    }

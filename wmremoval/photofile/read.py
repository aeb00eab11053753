"""Reading a photograph with its metadata, and restored samples in the form in which the file stores them."""

import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from wmremoval.images import DAMAGED, ORIENTATION, ImageError
from wmremoval.photofile import exif, heif, png, xmp
from wmremoval.photofile.cutshort import read_cut_short
from wmremoval.photofile.errors import explained, quiet_codecs, shown
from wmremoval.photofile.formats import Photo, describe, image_kind, orientation_of
from wmremoval.photofile.kinds import ENDINGS, HEAD, advice, content_format, is_read
from wmremoval.photofile.pixels import (
    NotSupported,
    PixelKind,
    image_strip,
    luma,
    native_strip,
    picture_to_rgb,
    restored_samples,
    strips,
)

MAX_PIXELS = 250_000_000  # pixels; 750 MB as RGB. Chosen, not measured.
# Called directly, since Image.open applies a lower size limit, which is global to the process.
READERS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
# Pillow's names of the compressions of which OpenCV returns exactly the stored 16-bit samples; PNG has one only.
DEEP_COMPRESSIONS = ("png", "raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photograph with everything needed to write it back.

    Args:
        path: a JPEG, PNG, WebP, TIFF or BMP file, or an AVIF or HEIC where a library for it is installed. Its content
            tells the format; an ending that says otherwise gives a note.
        max_pixels: the largest accepted width times height; larger files are refused before decoding.

    Returns:
        The photograph, upright.

    Raises:
        ImageError: one line that names the file and the reason: missing, not a regular file, unreadable, empty,
            damaged, too large, several pictures, or an unsupported pixel kind.
    """
    with explained(path) as path:
        _check_regular(path)
        with path.open("rb") as file:
            return _read(file, path, max_pixels)


def _check_regular(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{shown(path)}: a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{shown(path)}: not a regular file")
    if status.st_size == 0:
        raise ImageError(f"{shown(path)}: the file is empty")


def _read(file: BinaryIO, path: Path, max_pixels: int) -> Photo:
    start = file.read(HEAD)
    name = content_format(start)
    if name is None:
        raise ImageError(f"{shown(path)}: not an image of a known format; give a JPEG, PNG, WebP, TIFF or BMP")
    if not is_read(name):
        raise ImageError(f"{shown(path)}: {name} is not read; {advice(name)}")
    if name == "WebP":
        _check_size(*_webp_size(start), path, max_pixels)  # Pillow allocates when it opens a WebP
    elif name == "PNG":
        header = png.read_header(start)
        _check_size(header.width, header.height, path, max_pixels)
        if header.bits == 16 and header.colour == 4:
            raise NotSupported("16-bit grey with transparency is not supported: save it as 16-bit RGBA")
    with quiet_codecs() if name == "TIFF" else nullcontext():
        photo = _read_known(file, path, name, max_pixels)
    if ENDINGS.get(path.suffix.lower(), name) != name:
        photo.note(f"the file is a {name} by its content, whatever its ending says, and is written as one")
    return photo


def _read_known(file: BinaryIO, path: Path, name: str, max_pixels: int) -> Photo:
    file.seek(0)
    with (READERS.get(name) or heif.reader(name))(file) as image:
        _check_size(*image.size, path, max_pixels)
        # A HEIC says which picture is the first; `describe` looks at the pages of a TIFF.
        frames = 1 if name in ("HEIC", "TIFF") else getattr(image, "n_frames", 1)
        if frames > 1:
            raise NotSupported(f"has {frames} frames: animations are not restored; save the frame you need as a PNG")
        photo = Photo(path, np.empty((0, 0, 3), np.uint8), name, PixelKind("rgb"))
        describe(photo, image, file)
        deep = photo.kind.bits == 16 and photo.kind.colour == "rgb"
        if deep:
            samples = _deep_samples(photo, file)
        elif not photo.details.get("complete", True):
            samples = _samples_there(photo, file)
        else:
            image.load()
            samples = _samples(image, photo.kind)
        image.close()  # frees Pillow's copy of the pixels; the end of the block alone would not
    _set_pixels(photo, samples)
    return photo


def _samples(image: Image.Image, kind: PixelKind) -> np.ndarray:
    """(H, W, C) samples of a decoded image."""
    array = np.empty((image.height, image.width, kind.channels), kind.dtype)
    for rows in strips(image.height, image.width):
        array[rows] = native_strip(image, kind, rows)
    return array


def _samples_there(photo: Photo, file: BinaryIO) -> np.ndarray:
    """(H, W, C) samples of a JPEG without its end, its missing part filled by the decoder."""
    file.seek(0)
    image, share = read_cut_short(file.read())
    photo.note(
        "the end of the file is missing: the picture is coarse in places"
        if image.info.get("progressive")
        else f"the end of the file is missing: the picture is complete down to {100 * share:.0f}% of its height"
    )
    return _samples(image, photo.kind)


def _deep_samples(photo: Photo, file: BinaryIO) -> np.ndarray:
    """(H, W, C) uint16 samples of 16-bit colour, decoded by OpenCV, since Pillow keeps only the high bytes.

    Raises:
        NotSupported: OpenCV has no decoder for the compression.
        ValueError: the pixels are damaged.
    """
    compression = photo.details.get("compression", "png")
    if compression not in DEEP_COMPRESSIONS:
        raise NotSupported(f"16-bit colour compressed by {compression} is not supported: save it with LZW or deflate")
    file.seek(0)
    with quiet_codecs():
        array = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 3 or array.dtype != np.uint16 or array.shape[2] < photo.kind.channels:
        raise ValueError("the pixels are damaged")
    # OpenCV adds a channel for a transparent colour, which the pixel kind holds already.
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: photo.kind.channels]])


def _set_pixels(photo: Photo, samples: np.ndarray) -> None:
    """Turn the samples upright, and store them and their RGB view without a second copy."""
    upright = np.ascontiguousarray(_turned(samples, photo.turn))
    if photo.kind.plain and photo.kind.colour == "rgb":
        photo.rgb = upright
        return
    photo.rgb = picture_to_rgb(photo.kind, upright)
    photo.native = None if photo.kind.plain else upright


def _turned(array: np.ndarray, orientation: int, back: bool = False) -> np.ndarray:
    """A view of (H, W, C) turned upright by its EXIF orientation; with `back`, turned the opposite way."""
    if back:
        orientation = {6: 8, 8: 6}.get(orientation, orientation)
    if orientation in (5, 7):
        array = array.swapaxes(0, 1)
    if orientation in (6, 8):
        return np.rot90(array, 3 if orientation == 6 else 1)
    steps = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 7: (-1, -1)}.get(orientation, (1, 1))
    return array[:: steps[0], :: steps[1]]


def restored_strips(
    photo: Photo, restored: np.ndarray, mask: np.ndarray, multiple: int = 1
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the restored samples of a photograph in strips from top to bottom, with the rows of each.

    Args:
        photo: the photograph.
        restored: (H, W, 3) RGB uint8, upright; may be `photo.rgb` itself after a change in place.
        mask: (H, W); pixels of value 0 keep their samples.
        multiple: each strip begins at a multiple of this many rows.

    Yields:
        the rows, and their samples (rows, W, C).

    Raises:
        ValueError: a shape or type differs from the photograph's.
    """
    height, width = photo.rgb.shape[:2]
    if restored.shape != (height, width, 3) or restored.dtype != np.uint8 or mask.shape != (height, width):
        raise ValueError(f"expected ({height}, {width}, 3) uint8 and a ({height}, {width}) mask, got {restored.shape}"
                         f" {restored.dtype} and {mask.shape}")  # fmt: skip
    for rows in strips(height, width, multiple):
        new = restored[rows]
        if photo.native is not None:
            yield rows, restored_samples(photo.kind, photo.native[rows], new, mask[rows])
            continue
        if restored is not photo.rgb:
            new = np.where((mask[rows] != 0)[..., None], new, photo.rgb[rows])
        yield rows, luma(new)[..., None] if photo.kind.colour == "grey" else new


def from_pil(image: Image.Image) -> Photo:
    """The photograph of a Pillow image; the image is not changed.

    Raises:
        ImageError: the mode is not supported, for example float, or the image has no pixels.
    """
    with explained("image"):
        _check_size(*image.size, Path("image"), sys.maxsize)
        turn = _exif_orientation(image)
        with quiet_codecs() if image.format == "TIFF" else nullcontext():
            image.load()
        photo = Photo(Path("image"), np.empty((0, 0, 3), np.uint8), "", image_kind(image), source=image)
        block, photo.icc = image.info.get("exif"), image.info.get("icc_profile") or b""
        photo.exif = block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else b""
        packet = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
        photo.xmp = packet.encode("utf-8", "surrogateescape") if isinstance(packet, str) else packet
        known = turn in range(1, 9)
        photo.turn = turn if known else orientation_of(photo.exif, photo.xmp)
        if known and isinstance(image, READERS["TIFF"]):
            photo.turn = 1  # Pillow turned it when it loaded it
        photo.exif, photo.xmp = exif.upright(photo.exif), xmp.upright(photo.xmp)
        _set_pixels(photo, _samples(image, photo.kind))
        return photo


def _exif_orientation(image: Image.Image) -> int:
    """The orientation that Pillow reads, which may have been set in memory; 0 if there is none."""
    try:
        return image.getexif().get(ORIENTATION, 0)
    except DAMAGED:  # damaged EXIF does not affect the pixels
        return 0


def to_pil(photo: Photo, restored: np.ndarray, mask: np.ndarray) -> Image.Image:
    """A new Pillow image with the mode, size, orientation and metadata of the source image.

    Args:
        photo: from `from_pil`.
        restored: (H, W, 3) RGB uint8, upright.
        mask: (H, W); pixels of value 0 stay as in the source.

    Raises:
        ValueError: the photograph came from a file, or an array has the wrong shape or type.
    """
    if photo.source is None:
        raise ValueError("the photograph came from a file: write_photo writes it")
    whole = np.concatenate([strip for _, strip in restored_strips(photo, restored, mask)])
    whole = np.ascontiguousarray(_turned(whole, photo.turn, back=True))
    result = photo.source.copy()
    for rows in strips(*whole.shape[:2]):
        result.paste(image_strip(photo.kind, whole[rows], result.mode), (0, rows.start))
    return result


def _check_size(width: int, height: int, path: Path, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{shown(path)}: {width} x {height} is no picture")
    if width * height > max_pixels:
        raise ImageError(f"{shown(path)}: {width} x {height} is over the limit of {max_pixels / 1e6:g} megapixels")


def _webp_size(start: bytes) -> tuple[int, int]:
    kind, body = start[12:16], start[20:30]
    if len(body) < 10:
        raise ValueError("the header is cut short")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ValueError("no WebP header")

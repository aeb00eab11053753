"""Decoding the samples of an opened photograph, and turning them upright."""

from dataclasses import replace
from typing import BinaryIO

import cv2
import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from wmremoval.photofile.convert import picture_to_rgb, turned
from wmremoval.photofile.cutshort import read_cut_short
from wmremoval.photofile.errors import quiet_codecs
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.pixels import NotSupported, PixelKind, native_strip, strips

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
LIGHT = 200  # grey levels; a translucent mark that is lighter cannot be seen over white. Not measured.
MID_GREY = 128  # ground of a photograph whose translucent pixels are light
OPAQUE = 0.95  # share of full opacity; edges and noise above it do not count as translucent. Not measured.


def decoded(photo: Photo, image: Image.Image, file: BinaryIO) -> np.ndarray:
    """(H, W, C) samples of a photograph.

    Args:
        photo: `describe` has filled it in; losses are added to its notes.
        image: the opened file, not decoded yet.
        file: the same file.

    Raises:
        NotSupported, ValueError, OSError: the pixels cannot be read.
    """
    if photo.kind.deep:
        return _deep_samples(photo, file)
    if not photo.details.get("complete", True):
        return _samples_there(photo, file)
    image.load()
    return samples_of(image, photo.kind)


def samples_of(image: Image.Image, kind: PixelKind) -> np.ndarray:
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
    return samples_of(image, photo.kind)


def _deep_samples(photo: Photo, file: BinaryIO) -> np.ndarray:
    """(H, W, C) uint16 samples, decoded by OpenCV, since Pillow keeps only the high bytes.

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
    # OpenCV gives grey with alpha as BGRA, and adds a channel for a transparent colour, which the pixel kind holds.
    order = [0, 3] if photo.kind.colour == "grey" else [2, 1, 0, 3][: photo.kind.channels]
    if array is None or array.ndim != 3 or array.dtype != np.uint16 or array.shape[2] <= max(order):
        raise ValueError("the pixels are damaged")
    return np.ascontiguousarray(array[..., order])


def set_pixels(photo: Photo, samples: np.ndarray) -> None:
    """Turn the samples upright, and store them and their RGB view without a second copy."""
    upright = np.ascontiguousarray(turned(samples, photo.turn))
    if photo.kind.alpha and _is_light(photo.kind, upright):
        photo.kind = replace(photo.kind, ground=MID_GREY)
    if photo.kind.plain and photo.kind.colour == "rgb":
        photo.rgb = upright
        return
    photo.rgb = picture_to_rgb(photo.kind, upright)
    photo.native = None if photo.kind.plain else upright


def _is_light(kind: PixelKind, native: np.ndarray) -> bool:
    """True if most translucent pixels of (H, W, C) native samples are so light that they cannot be seen over white."""
    light = total = 0
    for rows in strips(*native.shape[:2]):
        alpha = native[rows][..., -1]
        colours = native[rows][(alpha > 0) & (alpha < OPAQUE * kind.top)][:, :-1]
        light += int(np.count_nonzero(colours.mean(axis=1) >= LIGHT / 255 * kind.top)) if len(colours) else 0
        total += len(colours)
    return light * 2 > total

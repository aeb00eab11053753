"""Conversion between image files, uint8 arrays and float tensors; value ranges and size limits.

An image array is (H, W, 3) RGB uint8 in 0..255. An image tensor is (3, H, W) or (B, 3, H, W) RGB
float32 in [0, 1]. A mask is 1 inside the watermark and 0 outside.
"""

import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wmremoval.files import atomic_path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")  # suffixes of photographs, lower case
TURNS = {  # EXIF orientation, and the operation that turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF tag
DAMAGED = (  # errors that Pillow and its decoders raise for damaged files
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)
MIN_SIDE = 64  # pixels; smaller pictures are icons, not photographs. Chosen, not measured.
MAX_PIXELS = 100_000_000  # pixels; 300 MB decoded. Chosen, not measured.


class ImageError(ValueError):
    """A file that cannot be used as a photograph. The message is one line with the file name and the reason."""


def read_image(path: str | Path, min_side: int = 1, max_pixels: int = MAX_PIXELS, shrink_to: int = 0) -> np.ndarray:
    """Decode an image file and turn it upright by its EXIF orientation.

    Args:
        path: a file in any format that Pillow reads.
        min_side: smallest accepted length of the shorter side, pixels.
        max_pixels: largest accepted width times height; larger files are refused before decoding.
        shrink_to: pixels; if not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides
            keep at least this length (libjpeg's scaled decoding, several times faster).

    Returns:
        (H, W, 3) RGB uint8. Transparency is laid over white; of 16-bit grey the high byte is kept.

    Raises:
        ImageError: the file is not an image, is truncated, or its size is outside the limits.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` is checked below
            image = Image.open(path)
        with image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{path.name}: {width} x {height} is over the limit of {max_pixels / 1e6:g} megapixels"
                )
            if min(width, height) < min_side:
                raise ImageError(
                    f"{path.name}: {width} x {height} is too small, the shorter side must be {min_side} px"
                )
            if shrink_to:
                image.draft("RGB", (shrink_to, shrink_to))
            return np.array(_upright_rgb(image))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{path.name}: over the limit of {max_pixels / 1e6:g} megapixels") from None
    except DAMAGED as error:
        reason = str(error).replace(str(path), "").splitlines() or [type(error).__name__]
        raise ImageError(f"{path.name}: not a readable image ({reason[0].strip()})") from None


def _upright_rgb(image: Image.Image) -> Image.Image:
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # ImageOps rewrites the tags too, and fails on unusual ones
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert values in [0, 1] to uint8 in 0..255 by rounding; values outside are clipped.

    All code rounds by this function. Truncation would darken by half a level and cost 0.16 dB at 40 dB.

    Example:
        >>> to_uint8(np.array([-1.0, 0.0, 0.499 / 255, 0.5, 254.6 / 255, 2.0])).tolist()
        [0, 0, 0, 128, 255, 255]
    """
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert (H, W, 3) uint8 to (3, H, W) float32 in [0, 1]; a (H, W) uint8 map gives (1, H, W).

    Raises:
        TypeError: the array is not uint8.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"an image array is uint8, got {image.dtype}")
    array = np.atleast_3d(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array)).to(torch.float32).div_(255.0)


def to_image(tensor: Tensor) -> np.ndarray:
    """Convert (3, H, W) in [0, 1] to (H, W, 3) uint8, rounded; a (1, H, W) map gives (H, W)."""
    array = to_uint8(tensor.detach().cpu().float().numpy().transpose(1, 2, 0))
    return array[..., 0] if array.shape[-1] == 1 else array


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image, (H, W, 3) RGB or (H, W) grey uint8, after compression as a JPEG of a quality from 1 to 100."""
    channels = (
        image[..., ::-1] if image.ndim == 3 else image
    )  # JPEG computes luma from the channels as BGR, OpenCV's order
    coded = cv2.imencode(".jpg", channels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR if image.ndim == 3 else cv2.IMREAD_GRAYSCALE)
    assert decoded is not None  # OpenCV reads what it has written
    return np.ascontiguousarray(decoded[..., ::-1]) if image.ndim == 3 else decoded


def write_image(path: str | Path, image: np.ndarray, **options: Any) -> None:
    """Write an image array in the format of the path's ending; the file appears whole or not at all.

    Args:
        path: the output file.
        image: (H, W, 3) RGB or (H, W) grey, uint8.
        options: options of Pillow's `save`, for example `quality`.

    Raises:
        KeyError: Pillow does not know the ending.
    """
    format = Image.registered_extensions()[Path(path).suffix.lower()]
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=format, **options)

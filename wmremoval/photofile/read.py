"""Reading a photograph with its metadata, from a file or from memory, and giving one from memory back."""

import io
import stat
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from wmremoval.images import DAMAGED, ORIENTATION, ImageError
from wmremoval.photofile import colourspace, exif, heif, png, tiff, webp, xmp
from wmremoval.photofile.convert import turned
from wmremoval.photofile.decode import READERS, decoded, samples_of, set_pixels
from wmremoval.photofile.errors import explained, quiet_codecs, shown
from wmremoval.photofile.formats import SECONDARY_LOST, Photo, describe, image_kind, orientation_of
from wmremoval.photofile.kinds import ENDINGS, HEAD, advice, content_format, is_read
from wmremoval.photofile.pixels import NotSupported, PixelKind, image_strip, strips
from wmremoval.photofile.restored import restored_strips

MAX_PIXELS = 250_000_000  # pixels; 750 MB as RGB. Chosen, not measured.


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photograph with everything needed to write it back.

    Args:
        path: a JPEG, PNG, WebP, TIFF or BMP file, or an AVIF or HEIC where a library for it is installed. Its content
            tells the format; an ending that says otherwise gives a note.
        max_pixels: the largest accepted width times height; larger files are refused before decoding.

    Returns:
        The photograph, upright; of a TIFF of several pages the first one, which holds the others.

    Raises:
        ImageError: one line that names the file and the reason: missing, not a regular file, unreadable, empty,
            damaged, too large, an animation, or an unsupported pixel kind.
    """
    with explained(path) as path:
        _check_regular(path)
        with path.open("rb") as file:
            return _read(file, path, max_pixels)


def _check_regular(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{shown(path)}: a folder, not an image; name a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{shown(path)}: not a regular file; copy it to one")
    if status.st_size == 0:
        raise ImageError(f"{shown(path)}: the file is empty; fetch it again")


def _read(file: BinaryIO, path: Path, max_pixels: int) -> Photo:
    start = file.read(HEAD)
    name = content_format(start)
    if name is None:
        raise ImageError(f"{shown(path)}: not an image of a known format; give a JPEG, PNG, WebP, TIFF or BMP")
    if not is_read(name):
        raise ImageError(f"{shown(path)}: {name} is not read; {advice(name)}")
    if name == "WebP":
        _check_size(*webp.size(start), path, max_pixels)  # Pillow allocates when it opens a WebP
    elif name == "PNG":
        header = png.read_header(start)
        _check_size(header.width, header.height, path, max_pixels)
    with quiet_codecs() if name == "TIFF" else nullcontext():
        photo = _read_pages(file, path, max_pixels) if name == "TIFF" else _read_known(file, path, name, max_pixels)
    if ENDINGS.get(path.suffix.lower(), name) != name:
        photo.note(f"the file is a {name} by its content, whatever its ending says, and is written as one")
    return photo


def _read_pages(file: BinaryIO, path: Path, max_pixels: int) -> Photo:
    """The first full page of a TIFF, with the others in its `pages`; reduced pictures and masks are left out."""
    offsets = tiff.pages(file)
    full = [offset for offset, secondary in offsets.items() if not secondary]
    if len(full) < 2:
        return _read_known(file, path, "TIFF", max_pixels)
    file.seek(0)
    data = file.read()
    photos: list[Photo] = []
    for number, offset in enumerate(full, 1):
        left = max_pixels - sum(photo.size[0] * photo.size[1] for photo in photos)
        try:
            photos.append(_read_known(io.BytesIO(tiff.alone(data, offset)), path, "TIFF", left))
        except NotSupported as error:
            raise NotSupported(f"page {number}: {error}") from None
    if len(full) < len(offsets):
        photos[0].lose(SECONDARY_LOST)
    photos[0].pages = photos[1:]
    return photos[0]


def _opened(file: BinaryIO, name: str) -> Image.Image:
    try:
        reader: Callable[[BinaryIO], Image.Image] = READERS.get(name) or heif.reader(name)
        return reader(file)
    except SyntaxError as error:
        if "unknown pixel mode" not in str(error):  # Pillow's words for a TIFF of a layout that it does not know
            raise
        raise NotSupported("its kind of pixels is not supported: save it as RGB with 8 or 16 bits a channel") from None


def _read_known(file: BinaryIO, path: Path, name: str, max_pixels: int) -> Photo:
    file.seek(0)
    with _opened(file, name) as image:
        _check_size(*image.size, path, max_pixels)
        # A HEIC says which picture is the first; `describe` looks at the pages of a TIFF.
        frames = 1 if name in ("HEIC", "TIFF") else getattr(image, "n_frames", 1)
        if frames > 1:
            raise NotSupported(f"has {frames} frames: animations are not restored; save the frame you need as a PNG")
        photo = Photo(path, np.empty((0, 0, 3), np.uint8), name, PixelKind("rgb"))
        describe(photo, image, file)
        samples = decoded(photo, image, file)
        image.close()  # frees Pillow's copy of the pixels; the end of the block alone would not
    set_pixels(photo, samples)
    return photo


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
        if photo.kind.colour == "rgb":
            photo.kind = replace(photo.kind, space=colourspace.space_of_profile(photo.icc))
        known = turn in range(1, 9)
        photo.turn = turn if known else orientation_of(photo.exif, photo.xmp)
        if known and isinstance(image, READERS["TIFF"]):
            photo.turn = 1  # Pillow turned it when it loaded it
        photo.exif, photo.xmp = exif.upright(photo.exif), xmp.upright(photo.xmp)
        set_pixels(photo, samples_of(image, photo.kind))
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
    whole = np.ascontiguousarray(turned(whole, photo.turn, back=True))
    result = photo.source.copy()
    for rows in strips(*whole.shape[:2]):
        result.paste(image_strip(photo.kind, whole[rows], result.mode), (0, rows.start))
    return result


def _check_size(width: int, height: int, path: Path, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{shown(path)}: {width} x {height} is no picture; fetch it again")
    if width * height > max_pixels:
        limit = f"over the limit of {max_pixels / 1e6:g} megapixels; make it smaller, or raise --max-pixels"
        raise ImageError(f"{shown(path)}: {width} x {height} is {limit}")

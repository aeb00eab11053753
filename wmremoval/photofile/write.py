"""Writing a restored photograph, in its own format or converted; the file appears whole or not at all."""

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from wmremoval.files import atomic_path, remedy
from wmremoval.images import DAMAGED, ImageError
from wmremoval.photofile import tiff
from wmremoval.photofile.encode import Pieces, encode
from wmremoval.photofile.errors import one_line, quiet, shown
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.kinds import ENDINGS
from wmremoval.photofile.pixels import NotSupported

Restored = tuple[np.ndarray, np.ndarray]  # (H, W, 3) RGB uint8 upright, and its mask (H, W) uint8
FORMATS = {"png": ("PNG", ".png"), "jpeg": ("JPEG", ".jpg"), "webp": ("WebP", ".webp")}


def output_suffix(path: str | Path, format: str = "keep") -> str:
    """The file ending for `format`; the path's own ending is kept for "keep", and if it already names the format.

    Example:
        >>> output_suffix("a/Photo.JPEG", "keep"), output_suffix("photo.JPEG", "jpeg"), output_suffix("a.tif", "png")
        ('.JPEG', '.JPEG', '.png')
    """
    suffix = Path(path).suffix
    if format == "keep" or ENDINGS.get(suffix.lower()) == _format_and_ending(format)[0]:
        return suffix
    return FORMATS[format][1]


def _format_and_ending(format: str) -> tuple[str, str]:
    if format not in FORMATS:
        raise ValueError(f"the format must be keep, {', '.join(FORMATS)}, not {format!r}")
    return FORMATS[format]


def write_photo(
    photo: Photo,
    restored: np.ndarray,
    mask: np.ndarray,
    path: str | Path,
    format: str = "keep",
    quality: int | str = "keep",
    pages: Sequence[Restored] = (),
) -> None:
    """Write a restored photograph; the file appears whole or not at all.

    Args:
        photo: from `read_photo`. Losses of the output format are added to `photo.notes`.
        restored: (H, W, 3) RGB uint8, upright; may be `photo.rgb` itself, changed only inside the mask.
        mask: (H, W) uint8; pixels of value 0 stay bit for bit as in the input, unless the format is lossy.
        path: the output file; an existing file is replaced. It gets the time and permissions in `photo.times`.
        format: "keep" for the photograph's own format with its mode and metadata; "png", "jpeg" or "webp".
        quality: 1 to 100 for lossy formats, or "keep". With "keep":
            a JPEG keeps its quantisation tables;
            a lossy WebP keeps its quality, estimated from its quantisers;
            a conversion to JPEG uses 95;
            a conversion to WebP is lossless, unless the photograph is a JPEG.
            A lossless WebP stays lossless with any quality.
        pages: the same two arrays for each of `photo.pages`; without any, those pages are written as they are.

    Raises:
        ImageError: one line: the format cannot hold the photograph, or the file cannot be written.
        ValueError: the arrays do not fit the photograph, or the format or quality is unknown.
    """
    pieces = encoded(photo, [(restored, mask), *pages], path, format, quality)
    with _explained(Path(path), photo.format if format == "keep" else FORMATS[format][0]):
        _write_whole(Path(path), pieces, photo.times)


def encoded(photo: Photo, restored: Sequence[Restored], path: str | Path, format: str, quality: int | str) -> Pieces:
    """The pieces of the file that `write_photo` writes.

    Args:
        photo, path, format, quality: as there.
        restored: the restored photograph and its mask, and those of its further pages.

    Raises:
        ImageError, ValueError: as for `write_photo`.
    """
    path = Path(path)
    name = photo.format if format == "keep" else _format_and_ending(format)[0]
    if not name:
        raise ValueError("an image from memory has no format to keep: use to_pil, or name a format")
    if quality != "keep" and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise ValueError(f"the quality must be 1 to 100, or keep, not {quality!r}")
    whole = [photo, *photo.pages]
    unchanged = [(page.rgb, np.zeros(page.rgb.shape[:2], np.uint8)) for page in whole[len(restored) :]]
    given = list(zip(whole, [*restored, *unchanged], strict=True))
    for page, (image, mask) in given:
        if image.shape != page.rgb.shape or image.dtype != np.uint8 or mask.shape != page.rgb.shape[:2]:
            raise ValueError(
                f"the photograph is {page.rgb.shape}, the restoration {image.shape}, the mask {mask.shape}"
            )
    if photo.pages and name != "TIFF":
        raise ImageError(f"{shown(path)}: {name} cannot hold the {len(whole)} pages of the TIFF; leave the format out")
    with _explained(path, name), quiet():
        files = [encode(page, *arrays, name, quality if isinstance(quality, int) else None) for page, arrays in given]
        for number, page in enumerate(photo.pages, 2):
            for note in page.notes:
                photo.note(f"page {number}: {note}")
        return [*tiff.join([b"".join(file) for file in files])] if photo.pages else files[0]


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a (H, W) uint8 mask as an 8-bit grey PNG; the file appears whole or not at all.

    Raises:
        ImageError: one line: the file cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, np.uint8)).save(buffer, "PNG")
    with _explained(Path(path), "PNG"):
        _write_whole(Path(path), [buffer.getvalue()])


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except NotSupported as error:
        raise ImageError(f"{shown(path)}: {error}") from None
    except MemoryError:
        raise ImageError(
            f"{shown(path)}: not enough memory to encode it; close other programs, or make it smaller"
        ) from None
    except DAMAGED as error:
        raise ImageError(
            f"{shown(path)}: cannot be written as {name} ({one_line(error, path)}){remedy(error, 'choose another format')}"
        ) from None


def copy_file(source: str | Path, path: str | Path, times: os.stat_result | None = None) -> None:
    """Copy a file byte for byte; the copy appears whole or not at all, with `times` if they are given.

    Raises:
        ImageError: one line: the copy cannot be written.
    """
    with _explained(Path(path), "a copy"):
        _write_whole(Path(path), [Path(source).read_bytes()], times)


def _write_whole(path: Path, pieces: Iterable[bytes | memoryview], times: os.stat_result | None = None) -> None:
    with atomic_path(path) as temporary:
        with temporary.open("xb") as file:
            if times is not None:  # before the pixels: others may not be allowed to see them
                with suppress(OSError):  # a file system without permission bits
                    os.chmod(temporary, times.st_mode & 0o777 | stat.S_IWRITE)
            for piece in pieces:
                file.write(piece)
        if times is not None:
            with suppress(OSError):  # one that does not set times for this user
                os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
            with suppress(OSError):  # after the times: Windows sets none of a read-only file
                os.chmod(temporary, times.st_mode & 0o777)

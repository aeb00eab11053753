"""Encoding of a restored photograph: pixels by Pillow or OpenCV, metadata copied from the source."""

import io
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from wmremoval.files import first_line
from wmremoval.photofile import gainmap, heif, jpeg, png, tiff
from wmremoval.photofile.convert import converted, has_transparency
from wmremoval.photofile.errors import quiet_codecs
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.jpegblocks import Blocks, can_keep_blocks, is_picture
from wmremoval.photofile.pixels import NotSupported, PixelKind, image_strip
from wmremoval.photofile.png import Chunk
from wmremoval.photofile.restored import restored_strips
from wmremoval.photofile.update import Update

Pieces = list[bytes | memoryview]
LOSSY_QUALITY = 95  # 1 to 100; used if the source's quality is unknown. Chosen, not measured.
PNG_LEVEL = 4  # zlib level, 0 to 9; twice as fast as level 6, files a few percent larger (the measurement is not kept)
LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383}  # pixels; limits of libjpeg and of the WebP format
PREDICTED = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")  # compressions with a predictor
LOSSLESS_TIFF = ("raw", "packbits", "tiff_ccitt", "group3", "group4", *PREDICTED)  # Pillow's names
# Pillow's name of a compression and its number in the TIFF tag, for those that OpenCV writes.
OPENCV_TIFF = {"raw": 1, "tiff_lzw": 5, "tiff_adobe_deflate": 8, "tiff_deflate": 8, "packbits": 32773, "lzma": 34925}
PROFILE_SPACES = {"grey": b"GRAY", "rgb": b"RGB ", "palette": b"RGB ", "cmyk": b"CMYK"}  # bytes 16 to 19 of a profile


def encode(photo: Photo, restored: np.ndarray, mask: np.ndarray, name: str, quality: int | None) -> Pieces:
    """Encode the restored photograph.

    Args:
        photo, restored, mask: see `restored_strips`.
        name: "JPEG", "PNG", "WebP", or the photograph's own format.
        quality: 1 to 100, for lossy formats; None keeps the source's quality.

    Returns:
        The pieces of the file, in order.

    Raises:
        NotSupported: the format cannot hold the photograph.
    """
    target = _target(photo, name)
    for loss in photo.losses:
        photo.note(loss)
    if photo.signed:
        photo.note("the content credentials (C2PA) are not kept: they were signed for the picture as it was")
    if photo.trailer and name != "JPEG":
        photo.note(f"the video of the motion photo is not kept: {name} cannot hold it")
        photo.trailer = b""
    elif photo.trailer:
        photo.note("the video of the motion photo is kept as it is, and may still show the mark")
    pixels, update = _Pixels(photo, restored, mask, target), Update(photo, restored, mask)
    if photo.gain and name == "JPEG":
        update.keep_gain_map()
    elif photo.gain:
        photo.note(f"{gainmap.NAME} is not kept: {name} cannot hold it")
    encoders = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "TIFF": _tiff, "BMP": _bmp, "AVIF": _heif, "HEIC": _heif}
    return encoders[name](update, pixels, quality)


class _Pixels:
    """The restored samples, converted to the pixel kind of the output file."""

    def __init__(self, photo: Photo, restored: np.ndarray, mask: np.ndarray, target: PixelKind):
        self.photo, self.restored, self.mask, self.kind = photo, restored, mask, target

    def strips(self, multiple: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        for rows, strip in restored_strips(self.photo, self.restored, self.mask, multiple):
            same = self.kind is self.photo.kind
            yield rows, strip if same else converted(self.photo.kind, strip, self.kind)

    def image(self) -> Image.Image:
        """A Pillow image, pasted strip by strip: this avoids a second copy of the whole photograph."""
        width, height = self.photo.size
        image = Image.new(self.kind.mode, (width, height))
        for rows, strip in self.strips():
            image.paste(image_strip(self.kind, strip), (0, rows.start))
        if self.kind.palette is not None:
            image.putpalette(self.kind.palette[:, :3].tobytes())
        return image

    def opencv(self) -> np.ndarray:
        """(H, W, C) samples with the channels in OpenCV's order."""
        order = [2, 1, 0, 3][: self.kind.channels]
        array = np.empty((*self.photo.rgb.shape[:2], self.kind.channels), self.kind.dtype)
        for rows, strip in self.strips():
            array[rows] = strip[..., order]
        return array


def _target(photo: Photo, name: str) -> PixelKind:
    """The pixel kind of the output file; losses of the conversion are added to the photograph's notes."""
    kind = photo.kind
    if name == photo.format:
        return kind
    if max(photo.size) > LONGEST_SIDE.get(name, max(photo.size)):
        raise NotSupported(f"a {name} has at most {LONGEST_SIDE[name]} pixels on a side: choose PNG")
    coded = any(chunk.name == b"cICP" for chunk in photo.details.get("chunks", ()))
    if kind.space is not None and coded and name != "PNG":
        raise NotSupported(f"a {name} cannot say which colours the picture has (cICP): choose PNG")
    transparent = photo.native is not None and has_transparency(kind, photo.native)
    if name == "JPEG" and transparent:
        raise NotSupported("a JPEG cannot be transparent: choose PNG or WebP")
    if name == "PNG" and kind.colour != "cmyk":
        return kind
    if name == "JPEG" and kind.colour == "cmyk":
        return kind
    if kind.bits == 16:
        photo.note(f"16-bit samples are written with 8 bits, all that {name} holds")
    if kind.colour == "cmyk":
        photo.note(f"CMYK is written as RGB, without its colour profile: {name} has no CMYK")
    return PixelKind("grey" if kind.colour == "grey" and name == "JPEG" else "rgb", 8, transparent)


def _profile(photo: Photo, kind: PixelKind) -> bytes:
    """The colour profile if it fits the pixel kind, else no bytes."""
    if photo.icc and photo.icc[16:20] != PROFILE_SPACES[kind.colour]:
        photo.note("the colour profile is for other pixels than the new format stores, and is left out")
        return b""
    return photo.icc


def _saved(image: Image.Image, name: str, **options: Any) -> memoryview:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return memoryview(buffer.getvalue())  # getbuffer() would crash CPython 3.12 when it outlives its buffer


@contextmanager
def _larger_buffer(pixels: int) -> Iterator[None]:
    """Enlarge Pillow's buffer for a JPEG that is progressive or has tables of its own: libjpeg writes it in one piece."""
    before = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(before, 6 * pixels + 65536)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = before


def _jpeg(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo = update.photo
    details = photo.details if photo.format == "JPEG" else {}
    encoded = _jpeg_blocks(photo, pixels) if quality is None and can_keep_blocks(photo) else None
    if encoded is None:
        encoded = _whole_jpeg(photo, pixels, quality)
    segments = update.segments() if details else _new_segments(update, pixels.kind)
    marked = not details or pixels.kind.colour != "cmyk"  # a CMYK JPEG gets no Adobe segment that its source lacks
    pieces = jpeg.transplant(encoded, segments, marked)
    return [*(gainmap.with_index(pieces, update.gain) if update.gain else pieces), photo.trailer]


def _jpeg_blocks(photo: Photo, pixels: _Pixels) -> memoryview | None:
    """The JPEG of the source with new coefficients where the mask is; None, with a note, if that fails."""
    try:
        with tempfile.TemporaryDirectory(prefix="wmremoval-") as folder:
            blocks = Blocks(photo, Path(folder))
            for rows, strip in pixels.strips(blocks.rows):
                if pixels.mask[rows].any():
                    blocks.replace(rows.start, strip, pixels.mask[rows])
            encoded = blocks.encoded()
        if is_picture(encoded, photo.size):
            return memoryview(encoded)
        reason = "the result is not readable"
    except ImportError:
        reason = "the package jpeglib is not installed"
    except (OSError, ValueError) as error:
        reason = first_line(error)
    photo.note(f"the JPEG is coded anew as a whole, since its blocks could not be copied ({reason})")
    return None


def _whole_jpeg(photo: Photo, pixels: _Pixels, quality: int | None) -> memoryview:
    """All pixels coded anew by Pillow, with the tables, sampling and coding of the source."""
    details = photo.details if photo.format == "JPEG" else {}
    options = {"subsampling": details.get("sampling", 0 if quality is None else -1)}
    if details and details["sampling"] < 0 and len(details["components"]) == 3 and not details["rgb"]:
        photo.note("an unusual chroma subsampling is written as 4:4:4")
        options["subsampling"] = 0
    if quality is None and details:
        options["qtables"] = jpeg.tables_by_component(details["quantization"], details["components"])
    else:
        options["quality"] = quality or LOSSY_QUALITY
    if details.get("rgb"):
        options |= {"keep_rgb": True, "subsampling": -1}
    progressive, optimised = details.get("progressive", False), details.get("optimised", False)
    coarse = any(max(table) > 255 for table in options.get("qtables", ()))  # libjpeg warns: few decoders read these
    buffer = _larger_buffer(photo.rgb.shape[0] * photo.rgb.shape[1] if progressive or optimised else 0)
    with buffer, quiet_codecs() if coarse else nullcontext():
        return _saved(pixels.image(), "JPEG", progressive=progressive, optimize=optimised, **options)


def _new_segments(update: Update, kind: PixelKind) -> list[jpeg.Segment]:
    """JPEG segments with the metadata of a photograph in another format."""
    photo = update.photo
    across, down = (min(65535, max(1, round(value))) for value in photo.dpi or (72, 72))
    jfif = b"JFIF\0\x01\x01" + bytes([1]) + across.to_bytes(2, "big") + down.to_bytes(2, "big") + b"\0\0"
    segments = [(jpeg.JFIF_MARKER, jfif)] if kind.colour != "cmyk" else []
    for block, start, what in (
        (update.exif(photo.exif).removeprefix(jpeg.EXIF), jpeg.EXIF, "EXIF"),
        (update.xmp(photo.xmp), jpeg.XMP, "XMP"),
    ):
        if block and len(start) + len(block) <= jpeg.LARGEST:
            segments.append((0xE1, start + block))
        elif block:
            photo.note(f"{len(block)} bytes of {what} are more than a JPEG can hold, and are left out")
    icc, step = _profile(photo, kind), jpeg.LARGEST - 14
    parts = [icc[at : at + step] for at in range(0, len(icc), step)]
    if len(parts) > 255:
        photo.note("the colour profile is more than a JPEG can hold, and is left out")
        return segments
    return segments + [(0xE2, jpeg.ICC + bytes([index, len(parts)]) + part) for index, part in enumerate(parts, 1)]


def _png(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo, kind = update.photo, pixels.kind
    grey_bits = kind.bits if kind.colour == "grey" and kind.bits in (2, 4) else 0
    if kind.deep and kind.colour == "grey":
        samples = np.concatenate([strip for _, strip in pixels.strips()])
        encoded = memoryview(png.encoded_16_bit(samples, 4, PNG_LEVEL))
    elif kind.deep:
        encoded = _opencv(".png", pixels.opencv(), [])
    elif grey_bits:  # Pillow packs 2 or 4 bits only for palette images: the grey levels become palette indices
        image = Image.new("P", photo.size)
        for rows, strip in pixels.strips():
            image.paste(Image.frombytes("P", strip.shape[1::-1], strip.tobytes()), (0, rows.start))
        encoded = _packed(image, grey_bits)
    elif kind.colour == "palette":
        encoded = _packed(pixels.image(), photo.details["header"].bits if photo.format == "PNG" else 8)
    else:
        encoded = _saved(pixels.image(), "PNG", compress_level=PNG_LEVEL)
    chunks = update.chunks() if photo.format == "PNG" else _new_chunks(update, kind)
    return png.transplant(encoded, chunks, grey_bits)


def _packed(image: Image.Image, bits: int) -> memoryview:
    palette = list(image.getpalette() or [])[: 3 << bits]
    image.putpalette(palette + [0] * ((3 << bits) - len(palette)))
    return _saved(image, "PNG", bits=bits, compress_level=PNG_LEVEL)


def _new_chunks(update: Update, kind: PixelKind) -> list[Chunk]:
    """PNG chunks with the metadata of a photograph in another format."""
    photo, chunks = update.photo, []
    if icc := _profile(photo, kind):
        chunks.append(Chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if photo.dpi:
        per_metre = [min(0x7FFFFFFF, max(0, round(value / 0.0254))) for value in photo.dpi]
        chunks.append(Chunk(b"pHYs", b"".join(value.to_bytes(4, "big") for value in per_metre) + b"\x01"))
    if kind.palette is not None:
        chunks.append(Chunk(b"PLTE", kind.palette[:, :3].tobytes()))
        if kind.transparent:
            chunks.append(Chunk(b"tRNS", kind.palette[:, 3].tobytes()))
    if photo.exif:
        chunks.append(Chunk(b"eXIf", update.exif(photo.exif).removeprefix(jpeg.EXIF)))
    if photo.xmp:
        chunks.append(png.xmp_chunk(update.xmp(photo.xmp)))
    return chunks


def _webp(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo = update.photo
    own = photo.format == "WebP"
    lossless = photo.details["lossless"] if own else photo.format != "JPEG" and quality is None
    kept = photo.details["quality"] if own else None
    options = {"lossless": True} if lossless else {"quality": quality or kept or LOSSY_QUALITY}
    icc = photo.icc if own else _profile(photo, pixels.kind)
    exif, xmp = update.exif(photo.exif).removeprefix(jpeg.EXIF), update.xmp(photo.xmp)
    return [_saved(pixels.image(), "WEBP", icc_profile=icc, exif=exif, xmp=xmp, exact=True, **options)]


def _heif(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo = update.photo
    blocks = {"icc_profile": photo.icc, "exif": update.exif(photo.exif), "xmp": update.xmp(photo.xmp)}
    options = heif.encoder_options(photo.format, photo.details, quality)
    blocks = {name: data for name, data in blocks.items() if data}
    return [_saved(pixels.image(), heif.ENCODERS[photo.format], **blocks, **options)]


def _bmp(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo = update.photo
    if not pixels.kind.alpha:
        return [_saved(pixels.image(), "BMP", dpi=photo.dpi or (0, 0))]
    encoded = _opencv(".bmp", pixels.opencv(), [])  # Pillow's header would not declare the alpha channel
    per_metre = [min(0x7FFFFFFF, max(0, round(value * 39.3701))) for value in photo.dpi or (0, 0)]
    return [encoded[:38], struct.pack("<2I", *per_metre), encoded[46:]]


def _tiff(update: Update, pixels: _Pixels, quality: int | None) -> Pieces:
    photo = update.photo
    compression = photo.details["compression"]
    encoded = None
    if compression in LOSSLESS_TIFF or compression in ("jpeg", "tiff_jpeg"):
        encoded = _tiff_as(photo, pixels, compression, quality)
    if encoded is None:
        photo.note(f"the TIFF compression {compression} cannot be written here; deflate, which loses nothing, is used")
        encoded = _tiff_as(photo, pixels, "tiff_adobe_deflate", quality)
    if encoded is None:
        raise NotSupported("it cannot be written as TIFF: choose PNG")
    return tiff.transplant(encoded, update.tags())


def _tiff_as(photo: Photo, pixels: _Pixels, compression: str, quality: int | None) -> memoryview | None:
    """The pixels as a TIFF, or None if this compression cannot be written."""
    predictor = photo.details["predictor"] if compression in PREDICTED else 1
    kind = pixels.kind
    if kind.deep:
        if compression not in OPENCV_TIFF:
            return None
        import cv2

        options = [cv2.IMWRITE_TIFF_COMPRESSION, OPENCV_TIFF[compression]]
        if compression in PREDICTED:
            options += [cv2.IMWRITE_TIFF_PREDICTOR, 2 if predictor == 2 else 1]
        return _opencv(".tiff", pixels.opencv(), options)
    saving: dict[str, Any] = {"compression": compression}
    if predictor == 2 and kind.bits >= 8 and kind.colour != "palette":
        saving["tiffinfo"] = {317: 2}
    if compression in ("jpeg", "tiff_jpeg"):
        tables = jpeg.tables_in(photo.details["jpeg_tables"])
        saving["compression"] = "jpeg"  # libtiff no longer writes old-style JPEG
        saving["quality"] = quality or (jpeg.jpeg_quality(tables) if tables else LOSSY_QUALITY)
    try:
        with quiet_codecs():
            return _saved(pixels.image(), "TIFF", **saving)
    except (OSError, ValueError, RuntimeError, KeyError):  # libtiff was built without this codec
        return None


def _opencv(ending: str, array: np.ndarray, options: list[int]) -> memoryview:
    import cv2

    try:
        done, encoded = cv2.imencode(ending, array, options)
    except cv2.error as error:
        raise ValueError(f"OpenCV cannot write it: {error.err}") from None
    if not done:
        raise ValueError("OpenCV cannot write it")
    return encoded.reshape(-1).data

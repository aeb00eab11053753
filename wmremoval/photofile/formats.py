"""The photograph's pixel kind, metadata and encoding settings, read from the file of each format."""

import os
import struct
from dataclasses import dataclass, field, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from wmremoval.photofile import colourspace, exif, gainmap, heif, jpeg, motion, png, tiff, webp, xmp
from wmremoval.photofile.pixels import NotSupported, PixelKind, kind_of

SECONDARY_LOST = "the further pictures inside the file (reduced or mask) are not kept"


@dataclass
class Photo:
    """A photograph with everything needed to write it back in its own format.

    Attributes:
        path: the source file.
        rgb: (H, W, 3) sRGB uint8, upright, contiguous; transparency is laid over white, or over grey if the
            translucent pixels are light. A plain RGB or grey photograph has no other copy of its pixels, and a
            restoration may be written into this array.
        format: "JPEG", "PNG", "WebP", "TIFF", "BMP", "AVIF", "HEIC", or "" for an image from memory.
        kind: the pixel kind of the file.
        native: (H, W, C) samples of the file, upright; None if `rgb` holds all of them.
        turn: the original EXIF orientation, 1 to 8; `to_pil` turns an image from memory back by it.
        exif, icc, xmp: metadata blocks, empty if absent; the orientation in `exif` is 1.
        dpi: horizontal and vertical resolution, or None.
        details: settings of the format's encoder, and metadata to copy byte for byte.
        notes: remarks to report to the user, one sentence each.
        losses: parts that a written file will not have, one sentence each; `encode` adds them to the notes.
        source: the image from memory, or None.
        trailer: the video of a motion photo, to follow the new JPEG; empty if there is none.
        gain: the gain map of an Ultra HDR photograph, a JPEG; empty if there is none.
        signed: the file holds content credentials (C2PA).
        pages: the further full pages of a TIFF, each a photograph of its own.
        times: the status of a file whose time and permission bits the written file gets; None for the system's own.
    """

    path: Path
    rgb: np.ndarray
    format: str
    kind: PixelKind
    native: np.ndarray | None = None
    turn: int = 1
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    source: Image.Image | None = None
    trailer: bytes = b""
    gain: bytes = b""
    signed: bool = False
    pages: list["Photo"] = field(default_factory=list)
    times: os.stat_result | None = None

    @property
    def mode(self) -> str:
        """Pillow's name of the pixel mode; 16-bit colour, unknown to Pillow, is "RGB;16" or "RGBA;16"."""
        return self.kind.mode

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def quality(self) -> int | None:
        """Quality of a JPEG, 1 to 100, estimated from its quantisation tables; None for other formats."""
        tables = self.details.get("quantization")
        return jpeg.jpeg_quality(tables) if tables else None

    def note(self, text: str) -> None:
        """Add a note, unless the same note is already there."""
        if text not in self.notes:
            self.notes.append(text)

    def lose(self, text: str) -> None:
        """Add a loss, unless the same loss is already there."""
        if text not in self.losses:
            self.losses.append(text)


def describe(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    """Fill in the pixel kind, the metadata and the format's details of a photograph.

    Args:
        photo: has its path and format already.
        image: the opened file; its pixels need not be decoded.
        file: the same file; its position changes.

    Raises:
        NotSupported: the pixel kind is not supported.
        ValueError: the metadata is damaged.
    """
    photo.kind = image_kind(image)
    dpi = image.info.get("dpi")
    photo.dpi = (float(dpi[0]), float(dpi[1])) if isinstance(dpi, tuple) and len(dpi) == 2 else None
    photo.icc = image.info.get("icc_profile") or b""
    formats = {"JPEG": _describe_jpeg, "PNG": _describe_png, "WebP": _describe_webp, "TIFF": _describe_tiff}
    formats |= {"AVIF": _describe_heif, "HEIC": _describe_heif}
    if photo.format in formats:
        formats[photo.format](photo, image, file)
    photo.kind = replace(photo.kind, space=_space(photo))
    photo.turn = _turn(photo, image)
    photo.exif, photo.xmp = exif.upright(photo.exif), xmp.upright(photo.xmp)


def _space(photo: Photo) -> colourspace.ColourSpace | None:
    """The colour space of the samples; None for sRGB, and for anything but RGB."""
    if photo.kind.colour != "rgb":
        return None
    codes = [chunk.data for chunk in photo.details.get("chunks", ()) if chunk.name == b"cICP" and len(chunk.data) == 4]
    return colourspace.space_of_codes(*codes[0][:2]) if codes else colourspace.space_of_profile(photo.icc)


def orientation_of(block: bytes, packet: bytes) -> int:
    """The orientation of a picture, 1 to 8: EXIF decides; where it is silent, XMP; 1 if both are."""
    return exif.orientation(block) or xmp.orientation(packet) or 1


def _turn(photo: Photo, image: Image.Image) -> int:
    """The turn that is left to make after the decoder's own."""
    if photo.format != "TIFF":
        return orientation_of(photo.exif, photo.xmp)
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    stored: Any = image.tag_v2.get(tiff.ORIENTATION)
    turn = stored if stored in range(1, 9) else xmp.orientation(photo.xmp) or 1
    # OpenCV turns a picture by the tag, Pillow by XMP too.
    made = stored if photo.kind.deep else image.getexif().get(tiff.ORIENTATION)
    return 1 if made in range(2, 9) else turn


def image_kind(image: Image.Image) -> PixelKind:
    """The pixel kind of a decoded Pillow image.

    Raises:
        NotSupported: the image's mode is not supported.
    """
    if image.mode == "P":
        return kind_of("P", palette=palette_of(image))
    transparency = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparency, (tuple, list)) and len(transparency) == 3:
        return kind_of("RGB", key=tuple(int(value) for value in transparency))
    if image.mode in ("1", "L", "I;16", "I;16B") and isinstance(transparency, int):
        return kind_of(image.mode, key=(transparency,))
    return kind_of(image.mode)


def palette_of(image: Image.Image) -> np.ndarray:
    """The palette of a decoded Pillow image in mode P, (N, 4) uint8 RGBA with N at least 1, transparency included."""
    entries = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    entries = entries if len(entries) else np.array([[0, 0, 0, 255]], np.uint8)
    transparency = image.info.get("transparency")
    if isinstance(transparency, bytes):
        count = min(len(transparency), len(entries))
        entries[:count, 3] = np.frombuffer(transparency, np.uint8)[:count]
    elif isinstance(transparency, int) and 0 <= transparency < len(entries):
        entries[transparency, 3] = 0
    return entries


def _describe_jpeg(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    segments = jpeg.read_segments(file)
    photo.exif = jpeg.find(segments, 0xE1, jpeg.EXIF) or b""
    photo.xmp = jpeg.find(segments, 0xE1, jpeg.XMP) or b""
    photo.signed = len(jpeg.without_credentials(segments)) < len(segments)
    photo.details = {
        "segments": segments,
        "quantization": dict(image.quantization),
        "components": [layer[3] for layer in image.layer],
        "numbers": [layer[0] for layer in image.layer],
        "factors": [(layer[2], layer[1]) for layer in image.layer],
        "sampling": JpegImagePlugin.get_sampling(image),
        "progressive": bool(image.info.get("progressive")),
        "rgb": image.mode == "RGB" and [layer[0] for layer in image.layer] == [82, 71, 66],
    }
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        photo.details["optimised"] = jpeg.has_own_coding(data)
        _describe_rest(photo, segments, data)
    adobe = jpeg.find(segments, jpeg.ADOBE_MARKER, b"Adobe")
    transform = adobe[6] if adobe and len(adobe) > 6 else None
    jfif = jpeg.find(segments, jpeg.JFIF_MARKER, b"JFIF\0") is not None
    if image.mode == "RGB" and transform == 0 and not jfif:
        photo.details["rgb"] = True
    if image.mode == "CMYK" and transform == 2:
        photo.details["components"] = [photo.details["components"][0]]  # YCCK becomes CMYK: all use the luminance table


def _describe_rest(photo: Photo, segments: list[jpeg.Segment], data: mmap) -> None:
    """The data after the end of a JPEG's picture: it is kept, or there is a note."""
    photo.trailer, rest = motion.trailer_of(data, photo.xmp)
    photo.details["complete"] = rest is not None
    if motion.claims_video(photo.xmp) and not photo.trailer:
        photo.lose("the video of the motion photo is not kept: it is not where the file says")
    beside = (rest or 0) - len(photo.trailer)
    if gainmap.CLAIM in photo.xmp or jpeg.find(segments, 0xE2, jpeg.GAIN_MAP) is not None:
        photo.gain = gainmap.find(data, len(data) - (rest or 0), beside)
        if not photo.gain:
            photo.lose(f"{gainmap.NAME} is not kept: it is not where it should be")
    elif jpeg.find(segments, 0xE2, jpeg.MPF) is not None:
        photo.lose("the further pictures inside the file (depth or preview) are not kept")
    elif beside > jpeg.PADDING:
        photo.lose(f"{beside} bytes after the end of the picture are not kept")


def _describe_png(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    file.seek(0)
    header = png.read_header(file.read(32))
    chunks = png.read_chunks(file)
    photo.exif = next((chunk.data for chunk in chunks if chunk.name == b"eXIf"), b"") or _text_exif(image)
    photo.xmp = next((text for text in map(png.xmp_of, chunks) if text is not None), b"")
    photo.signed = any(chunk.name == png.CREDENTIALS for chunk in chunks)
    photo.details = {"chunks": chunks, "header": header}
    if image.info.get("interlace"):
        photo.lose("the PNG is written without interlacing")
    if header.colour == 4 and header.bits == 16:  # which Pillow opens as RGBA
        photo.kind = PixelKind("grey", 16, alpha=True)
    elif header.colour != 3:
        data = next((chunk.data for chunk in chunks if chunk.name == b"tRNS"), b"")
        key = struct.unpack(f">{len(data) // 2}H", data) if len(data) == {0: 2, 2: 6}.get(header.colour) else None
        photo.kind = PixelKind(photo.kind.colour, header.bits, photo.kind.alpha, key)


def _text_exif(image: Image.Image) -> bytes:
    """The EXIF block that ImageMagick writes as text: a name, a length, and hexadecimal digits, on lines of their own."""
    lines = str(image.info.get(png.TEXT_EXIF.decode(), "")).split("\n")[3:]
    try:
        return bytes.fromhex("".join(lines)).removeprefix(jpeg.EXIF)
    except ValueError:
        return b""


def _describe_webp(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    photo.exif = (image.info.get("exif") or b"").removeprefix(jpeg.EXIF)
    photo.xmp = image.info.get("xmp") or b""
    file.seek(12)
    names, quality = [], None
    while len(head := file.read(8)) == 8:
        names.append(head[:4])
        size = int.from_bytes(head[4:], "little")
        # The image of a frame is a chunk inside the frame's, after 16 bytes.
        inner = 16 if head[:4] == b"ANMF" else size + size % 2
        if head[:4] == b"VP8 " and quality is None:
            start = file.read(min(size, webp.ENOUGH))
            quality, inner = webp.quality_of(start), inner - len(start)
        file.seek(inner, 1)
    photo.signed = b"C2PA" in names
    photo.details = {"lossless": b"VP8 " not in names, "quality": quality}


def _describe_heif(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    photo.exif = (image.info.get("exif") or b"").removeprefix(jpeg.EXIF)
    photo.xmp = image.info.get("xmp") or b""
    photo.details = heif.describe(photo.format, image, file)
    for loss in photo.details["losses"]:
        photo.lose(loss)


def _describe_tiff(photo: Photo, image: Image.Image, file: BinaryIO) -> None:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    if len(tiff.pages(file)) > 1 or tiff.SUB_DIRECTORIES in image.tag_v2:
        photo.lose(SECONDARY_LOST)
    tags = tiff.read_tags(file)
    by_number = {tag.number: tag for tag in tags}
    if tiff.PHOTOSHOP_LAYERS in by_number:
        photo.lose("the Photoshop layers inside the file, which show the watermark, are not kept")
    photo.xmp = by_number[tiff.XMP].data if tiff.XMP in by_number else b""
    photo.signed = tiff.CREDENTIALS in by_number
    turned = tiff.ORIENTATION in by_number or b"tiff:Orientation" in photo.xmp
    dropped = (tiff.PHOTOSHOP_LAYERS, tiff.ORIENTATION)
    tags = [tag for tag in tags if tag.number not in dropped]
    if turned:
        tags.append(tiff.short(tiff.ORIENTATION, 1))
    photo.exif = tiff.exif_block([tag for tag in tags if tag.number not in (tiff.XMP, tiff.ICC)])
    stored = image.tag_v2
    bits = stored.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    bits = max(bits) if isinstance(bits, tuple) else bits
    photo.details = {
        "tags": tags,
        "compression": image.info.get("compression", "raw"),
        "predictor": stored.get(TiffImagePlugin.PREDICTOR, 1),
        "jpeg_tables": stored.get(TiffImagePlugin.JPEGTABLES, b""),
    }
    _check_tiff(photo, stored, bits)


def _check_tiff(photo: Photo, stored: Any, bits: int) -> None:
    extra = stored.get(TiffImagePlugin.EXTRASAMPLES, ())
    photometric = stored.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
    if bits == 16 and photo.kind.colour == "cmyk":
        raise NotSupported("16-bit CMYK is not supported: save it with 8 bits a channel")
    if bits == 16 and photo.kind.colour == "rgb":
        if 1 in extra:
            raise NotSupported("16-bit premultiplied transparency is not supported: save it with straight alpha")
        if stored.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2:
            raise NotSupported("16-bit colour planes stored apart are not supported: save it interleaved")
        photo.kind = PixelKind("rgb", 16, photo.kind.alpha)
    elif photo.kind.bits == 16 and (photometric == 0 or bits == 12):
        raise NotSupported("12-bit or white-is-zero 16-bit grey is not supported: save it as plain 16-bit grey")
    elif 1 < bits < 8:
        photo.lose(f"{bits}-bit samples are written with 8 bits")
    if 1 in extra:
        photo.lose("premultiplied transparency is written straight")
    if 0 in extra:
        photo.lose("channels beyond the colours are not kept")

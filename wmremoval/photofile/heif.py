"""HEIC by pillow-heif and AVIF by Pillow: the reader's class, the settings of the file, and those of the encoder.

Both encoders write a new container. The picture, alpha, EXIF, XMP, colour profile and the chroma sampling are kept;
a HEIC keeps its tiles' size and gets its thumbnails drawn anew. Depth and gain maps, and bits beyond 8, are not kept:
neither library writes them.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from wmremoval.photofile.pixels import NotSupported

ENCODERS = {"AVIF": "AVIF", "HEIC": "HEIF"}  # Pillow's names
LOSSY_QUALITY = {"AVIF": 90, "HEIC": 80}  # 1 to 100 of each encoder's own scale; see `encoder_options`
BOXES_IN = {b"meta": 12, b"iprp": 8, b"ipco": 8}  # boxes that hold boxes, and the bytes before those
MOST_BOXES = 10_000  # boxes looked at; a damaged file could hold millions
SRGB_CODES = (1, 2)  # colour primaries of BT.709 and "unspecified"; ITU-T H.273, table 2
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273, table 3


def reader(name: str) -> type[ImageFile.ImageFile]:
    """The class of Pillow's plug-in for "AVIF" or "HEIC"."""
    if name == "AVIF":
        from PIL.AvifImagePlugin import AvifImageFile

        return AvifImageFile
    import pillow_heif

    pillow_heif.register_heif_opener()
    return pillow_heif.HeifImageFile


def describe(name: str, image: Image.Image, file: BinaryIO) -> dict[str, Any]:
    """Settings of the file for its encoder ("options"), and what cannot be kept ("losses").

    Args:
        name: "AVIF" or "HEIC".
        image: opened by `reader`, and decoded.
        file: the same file; its position changes.

    Raises:
        NotSupported: the colours are of a kind that the encoder cannot write.
    """
    return _describe_avif(file) if name == "AVIF" else _describe_heic(image)


def _describe_heic(image: Image.Image) -> dict[str, Any]:
    info = image.info
    names = ("chroma", "nclx_profile", "icc_profile_type", "tiling", "thumbnails")
    losses = []
    if info.get("bit_depth", 8) > 8:
        losses.append(f"{info['bit_depth']}-bit samples are written with 8 bits")
    if info.get("depth_images") or info.get("aux"):
        losses.append("the further pictures inside the file (depth or gain map) are not kept")
    if (count := getattr(image, "n_frames", 1)) > 1:
        losses.append(f"only the first of {count} pictures in the file is kept")
    return {"options": {key: info[key] for key in names if info.get(key)}, "losses": losses}


def _describe_avif(file: BinaryIO) -> dict[str, Any]:
    options, losses = {}, []
    for kind, data in _boxes(file):
        if kind == b"av1C" and len(data) > 2:  # https://aomediacodec.github.io/av1-isobmff/#av1codecconfigurationbox
            deep, mono, across, down = data[2] & 0x40, data[2] & 0x10, data[2] & 0x08, data[2] & 0x04
            if deep and "10- or 12-bit samples are written with 8 bits" not in losses:
                losses.append("10- or 12-bit samples are written with 8 bits")
            if not mono:  # the alpha plane has a box of its own, which is monochrome
                options["subsampling"] = "4:2:0" if down else "4:2:2" if across else "4:4:4"
        elif kind == b"colr" and data[:4] == b"nclx" and len(data) >= 10:
            _check_colours(int.from_bytes(data[4:6], "big"), int.from_bytes(data[6:8], "big"))
        elif kind == b"tmap":
            losses.append("the gain map inside the file is not kept")
    return {"options": options, "losses": losses}


def _check_colours(primaries: int, transfer: int) -> None:
    """Pillow writes every AVIF as sRGB, so that other codes would be lost."""
    if transfer in HDR_TRANSFERS or primaries not in SRGB_CODES:
        what = HDR_TRANSFERS.get(transfer, "wide-gamut")
        raise NotSupported(f"AVIF with {what} colours cannot be written back: save it as PNG with 16 bits")


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The boxes (ISO/IEC 14496-12) of a file and inside `BOXES_IN`, with the first 64 bytes of each."""
    end = file.seek(0, 2)
    pending, seen = [(0, end)], 0
    while pending and seen < MOST_BOXES:
        at, end = pending.pop()
        while at + 8 <= end and seen < MOST_BOXES:
            file.seek(at)
            head = file.read(16)
            size, start = int.from_bytes(head[:4], "big"), 8
            if size == 1:
                size, start = int.from_bytes(head[8:16], "big"), 16
            size = end - at if size == 0 else size
            if size < start or at + size > end:
                break
            file.seek(at + start)
            yield head[4:8], file.read(min(64, size - start))
            seen += 1
            if head[4:8] in BOXES_IN:
                pending.append((at + start - 8 + BOXES_IN[head[4:8]], at + size))
            at += size


def encoder_options(name: str, details: dict[str, Any], quality: int | None) -> dict[str, Any]:
    """Options of Pillow's `save`. A file does not say its quality, so that None means `LOSSY_QUALITY`.

    Measured on one photograph of 512 x 512 of quality 75: AVIF becomes 1.4 times as large at 44 dB of PSNR, HEIC 1.1
    times as large at 47 dB.
    """
    return details["options"] | {"quality": quality or LOSSY_QUALITY[name]}

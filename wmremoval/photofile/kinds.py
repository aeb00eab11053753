"""The kind of a file by its content: formats that can be read here, and names for all others."""

import importlib.util
import stat
from functools import cache
from pathlib import Path

from PIL import features

from wmremoval.photofile import png

# Endings of photographs that may be read, and their formats. An ending only decides on names: the content decides
# on everything else.
ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jpg_large": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
    ".avif": "AVIF",
}
ALWAYS_READ = ("JPEG", "PNG", "WebP", "TIFF", "BMP")
NOT_WRITTEN = (".gif", ".jxl", ".jp2", ".psd", ".pdf", ".svg", ".dng")  # endings that look like a wish for a format
ADVICE = {
    "HEIC": "install pillow-heif to have it read: pip install pillow-heif",
    "AVIF": "install Pillow 11.3 or later to have it read: pip install -U pillow",
    "camera raw": "develop it and give the JPEG or TIFF",
}
# Raw files of cameras that begin like a TIFF; read as one they would show their small preview.
RAW_ENDINGS = (".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".nef",
               ".nrw", ".pef", ".rwl", ".sr2", ".srf", ".srw")  # fmt: skip
HEAD = 64  # bytes of a file's start that tell its kind
LONGEST_ENDING = 6  # letters; longer endings of unknown files are not named
AVIF_BRANDS = (b"avif", b"avis")  # https://aomediacodec.github.io/av1-avif/#brands
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")  # ISO/IEC 23008-12, annex B
BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    png.SIGNATURE: "PNG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"IIRO": "camera raw",
    b"IIRS": "camera raw",
    b"IIU\0": "camera raw",
}


def content_format(start: bytes) -> str | None:
    """The kind of a file according to its first `HEAD` bytes, or None for one that is not known."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "camera raw" if start[8:10] == b"CR" else "TIFF"
    if start[4:8] == b"ftyp":
        return _brand(start)
    return next((name for magic, name in BEGINNINGS.items() if start.startswith(magic)), None)


def _brand(start: bytes) -> str:
    """The kind of an ISO base media file, by the brands in its first box."""
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))]
    for names, kind in ((AVIF_BRANDS, "AVIF"), (HEIC_BRANDS, "HEIC"), ((b"crx ",), "camera raw")):
        if any(brand in names for brand in brands):
            return kind
    return "HEIC" if brands[0] in (b"mif1", b"msf1") else "video"


def file_kind(path: Path) -> str:
    """The kind of a file: a format, "special file", "empty file", or the ending of an unknown one.

    Raises:
        OSError: the file cannot be opened.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "folder" if stat.S_ISDIR(status.st_mode) else "special file"
    if status.st_size == 0:
        return "empty file"
    with path.open("rb") as file:
        kind = content_format(file.read(HEAD))
    ending = path.suffix.lower()
    if kind == "TIFF" and ending in RAW_ENDINGS:
        return "camera raw"
    return kind or ending_kind(ending)


def ending_kind(ending: str) -> str:
    """The kind of an unknown file by its ending: the ending itself, in lower case, if it looks like one."""
    return ending if 1 < len(ending) <= LONGEST_ENDING and ending.isascii() else "other file"


@cache
def is_read(kind: str) -> bool:
    """True for a format that can be read and written with what is installed."""
    if kind == "AVIF":
        return "avif" in features.modules and bool(features.check("avif"))
    if kind == "HEIC":
        return importlib.util.find_spec("pillow_heif") is not None
    return kind in ALWAYS_READ


def advice(kind: str) -> str:
    """The remedy for a file of a kind that cannot be read."""
    return ADVICE.get(kind, "save it as JPEG or PNG")


def bare_name(name: str) -> str:
    """A file's name without the ending of a photograph; other endings are part of the name.

    Example:
        >>> bare_name("beach.JPG"), bare_name("beach.v2"), bare_name("beach.jpg.png")
        ('beach', 'beach.v2', 'beach.jpg')
    """
    ending = Path(name).suffix
    return name[: -len(ending)] if ending.lower() in ENDINGS else name

"""PNG chunks: metadata copied byte for byte into a new file.

Pillow's `PngInfo` was tried for the 8-bit files that Pillow encodes: it loses the chunks mDCV, cLLI, pHYs, oFFs, pCAL,
sTER, eXIf, iCCP and dSIG, and compresses a colour profile anew under another name. OpenCV writes no metadata but EXIF.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_METADATA = 64 << 20  # bytes of metadata held in memory; chosen, not measured
LEFT_OUT = (b"IHDR", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"iDOT")  # pixels, animation, an index into the pixels
BEFORE_PALETTE = (b"cHRM", b"cICP", b"gAMA", b"iCCP", b"mDCV", b"cLLI", b"sBIT", b"sRGB")  # as the PNG standard orders

FILTER_UP = 2  # each byte less the one above
CREDENTIALS = b"caBX"  # content credentials (C2PA), signed for the pixels of the file
TEXT_EXIF = b"Raw profile type exif"  # keyword of a text chunk
XMP_KEYWORD = b"XML:com.adobe.xmp\0"


class Chunk(NamedTuple):
    """A chunk's four-letter name and its data."""

    name: bytes
    data: bytes


class PngHeader(NamedTuple):
    """Size, bits per sample and colour type from the IHDR chunk."""

    width: int
    height: int
    bits: int
    colour: int  # 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha


def read_header(start: bytes) -> PngHeader:
    """The header from a file's first 26 bytes.

    Raises:
        ValueError: the file does not begin with a PNG header.
    """
    if len(start) < 26 or start[:8] != SIGNATURE or start[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    return PngHeader(*struct.unpack(">IIBB", start[16:26]))


def read_chunks(file: BinaryIO) -> list[Chunk]:
    """The metadata chunks in the file's order: all but header, pixels, animation and end.

    Raises:
        ValueError: a chunk is cut short, or critical and unknown, or has a wrong checksum; the end is missing; or
            the chunks are over 64 MB together.
    """
    file.seek(len(SIGNATURE))
    chunks: list[Chunk] = []
    total = 0
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            return chunks
        if not name.isalpha() or (name[:1].isupper() and name not in (b"IHDR", b"PLTE", b"IDAT")):
            raise ValueError("a broken chunk")
        if name in LEFT_OUT:
            file.seek(length + 4, 1)
            continue
        total += length
        if total > MOST_METADATA:
            raise ValueError("over 64 MB of metadata")
        data, checksum = file.read(length), file.read(4)
        if len(data) < length or len(checksum) < 4:
            raise ValueError("a chunk is cut short")
        if zlib.crc32(name + data) != int.from_bytes(checksum, "big"):
            raise ValueError("the checksum of a chunk is wrong")
        chunks.append(Chunk(name, data))
    raise ValueError("the file ends before its last chunk")


def xmp_of(chunk: Chunk) -> bytes | None:
    """The XMP packet of an iTXt chunk, unpacked; None for any other chunk.

    Raises:
        ValueError: the packet is damaged, or over 64 MB.
    """
    if chunk.name != b"iTXt" or not chunk.data.startswith(XMP_KEYWORD):
        return None
    flags, rest = chunk.data[len(XMP_KEYWORD) :][:2], chunk.data[len(XMP_KEYWORD) + 2 :]
    parts = rest.split(b"\0", 2)  # language, translated keyword, text
    if len(flags) < 2 or len(parts) < 3:
        raise ValueError("a damaged XMP chunk")
    return _inflated(parts[2]) if flags[0] else parts[2]


def xmp_chunk(xmp: bytes) -> Chunk:
    """The iTXt chunk of an XMP packet, not compressed, as the XMP specification asks (part 3, PNG)."""
    return Chunk(b"iTXt", XMP_KEYWORD + bytes(4) + xmp)


def _inflated(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, MOST_METADATA)
    except zlib.error:
        raise ValueError("a damaged XMP chunk") from None
    if decompressor.unconsumed_tail:
        raise ValueError("over 64 MB of metadata")
    return text


def _walk(png: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = len(SIGNATURE)
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        yield bytes(png[position + 4 : position + 8]), png[position : position + 12 + length]
        position += 12 + length


def pack(chunk: Chunk) -> bytes:
    """The bytes of a chunk in a file."""
    checksum = zlib.crc32(chunk.name + chunk.data)
    return struct.pack(">I", len(chunk.data)) + chunk.name + chunk.data + struct.pack(">I", checksum)


def transplant(encoded: memoryview, chunks: list[Chunk], grey_bits: int = 0) -> list[bytes | memoryview]:
    """Combine the pixels of one PNG with the metadata of another.

    Args:
        encoded: a PNG; its header and pixels are used.
        chunks: chunks of the other file; its palette and transparency replace those of `encoded`.
        grey_bits: if not 0, the palette indices of `encoded` are grey levels of this many bits, and its palette
            is dropped.

    Returns:
        The pieces of the new file, in order. `BEFORE_PALETTE` lists the chunks before the palette; the others follow.
    """
    header, pixels = b"", []
    own: list[bytes] = []
    for name, whole in _walk(encoded):
        if name == b"IHDR":
            data = bytes(whole[8:-4])
            header = pack(Chunk(name, data[:8] + bytes([grey_bits, 0]) + data[10:])) if grey_bits else bytes(whole)
        elif name == b"IDAT":
            pixels.append(whole)
        elif name in (b"PLTE", b"tRNS") and not grey_bits:
            own.append(bytes(whole))
    first = [pack(chunk) for chunk in chunks if chunk.name in BEFORE_PALETTE]
    palette = [pack(chunk) for chunk in chunks if chunk.name == b"PLTE"]
    rest = [pack(chunk) for chunk in chunks if chunk.name not in (*BEFORE_PALETTE, b"PLTE")]
    if palette:
        own = []
    return [SIGNATURE, header, *first, *palette, *own, *rest, *pixels, pack(Chunk(b"IEND", b""))]


def encoded_16_bit(samples: np.ndarray, colour: int, level: int) -> bytes:
    """A PNG of 16-bit samples; neither Pillow nor OpenCV writes grey with alpha.

    Args:
        samples: (H, W, C) uint16.
        colour: the colour type of the header, which has C channels.
        level: of zlib, 0 to 9.
    """
    height, width = samples.shape[:2]
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    lines = np.empty((height, rows.shape[1] + 1), np.uint8)
    lines[:, 0] = FILTER_UP
    lines[0, 1:], lines[1:, 1:] = rows[0], rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    pixels = zlib.compress(lines.tobytes(), level)
    chunks = (Chunk(b"IHDR", header), Chunk(b"IDAT", pixels), Chunk(b"IEND", b""))
    return SIGNATURE + b"".join(map(pack, chunks))

"""JPEG segments: metadata copied byte for byte into a new file, and an estimate of a file's quality."""

import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from mmap import mmap
from typing import BinaryIO

import numpy as np
from PIL import Image

EXIF, XMP, ICC, MPF = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"
MORE_XMP, PHOTOSHOP = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"  # ISO 21496-1: says that the file holds a gain map
COMMENT, JFIF_MARKER, ADOBE_MARKER, JUMBF_MARKER, SCAN, HUFFMAN = 0xFE, 0xE0, 0xEE, 0xEB, 0xDA, 0xC4
# Any marker but stuffed bytes, restarts and fill bytes, as found in coded pixels.
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
LARGEST = 65533  # bytes of data in one segment
PADDING = 64  # bytes after the end of a picture that are not worth a note; not measured
MOST_METADATA = 64 << 20  # bytes of metadata held in memory; chosen, not measured
# Luminance table of the JPEG standard, annex K, row by row; libjpeg scales it by the quality.
LUMINANCE = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
             14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
             49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99)  # fmt: skip

Segment = tuple[int, bytes]  # the marker's second byte, and the data without its length


def read_segments(file: BinaryIO) -> list[Segment]:
    """The APPn and COM segments before the pixels, in the file's order.

    Raises:
        ValueError: the file is not a valid JPEG, or has over 64 MB of metadata.
    """
    file.seek(0)
    segments: list[Segment] = []
    total = 0
    if file.read(2) != b"\xff\xd8":
        raise ValueError("no JPEG header")
    while True:
        marker = _next_marker(file)
        if marker in (0xDA, 0xD9):  # start of the pixels, end of the file
            return segments
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without data
            continue
        length = int.from_bytes(file.read(2), "big")
        data = file.read(length - 2) if length >= 2 else b""
        if len(data) != length - 2:
            raise ValueError("a segment is cut short")
        if marker == COMMENT or 0xE0 <= marker <= 0xEF:
            total += length
            if total > MOST_METADATA:
                raise ValueError("over 64 MB of metadata")
            segments.append((marker, data))


def _next_marker(file: BinaryIO) -> int:
    while byte := file.read(1):  # stray bytes between segments are skipped, as decoders do
        if byte != b"\xff":
            continue
        while (byte := file.read(1)) == b"\xff":
            pass
        if byte and byte != b"\0":
            return byte[0]
    raise ValueError("the file ends before its pixels")


def markers(data: bytes | mmap) -> Iterator[tuple[int, int]]:
    """The markers of the first picture of a JPEG: their second byte, and the position after it. The end is the last."""
    position = 2
    while found := MARKER.search(data, position):
        marker, position = found[0][1], found.end()
        yield marker, position
        if marker == 0xD9:
            return
        if marker not in (0x01, 0xD8):  # all others are followed by a length
            position += int.from_bytes(data[position : position + 2], "big")


def picture_end(data: bytes | mmap) -> int | None:
    """The number of bytes of the first picture of a JPEG, its end marker included; None if it has no end."""
    return next((position for marker, position in markers(data) if marker == 0xD9), None)


def has_own_coding(data: bytes | mmap) -> bool:
    """True if the Huffman tables of a JPEG are not those of the standard, annex K, which most cameras use."""
    tables = set()
    for marker, at in markers(data):
        if marker == SCAN:
            break
        if marker == HUFFMAN:
            tables |= _huffman_tables(data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")])
    return not tables <= _standard_tables()


def _huffman_tables(body: bytes) -> set[bytes]:
    tables, at = set(), 0
    while at + 17 <= len(body):
        end = at + 17 + sum(body[at + 1 : at + 17])
        tables.add(body[at:end])
        at = end
    return tables


@cache
def _standard_tables() -> frozenset[bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = buffer.getvalue()
    places = [at for marker, at in markers(data) if marker == HUFFMAN]
    bodies = (data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")] for at in places)
    return frozenset(table for body in bodies for table in _huffman_tables(body))


def picture_only(data: bytes) -> bytes:
    """The first picture of a JPEG without metadata; the segments that tell its colours, JFIF and Adobe, are kept."""
    pieces, start = [], 0
    for marker, position in markers(data):
        if marker == COMMENT or (0xE0 <= marker <= 0xEF and marker not in (JFIF_MARKER, ADOBE_MARKER)):
            pieces.append(data[start : position - 2])
            start = position + int.from_bytes(data[position : position + 2], "big")
        elif marker == 0xD9:
            pieces.append(data[start:position])
    return b"".join(pieces)


def with_component_numbers(data: bytes, numbers: Sequence[int]) -> bytes:
    """The same JPEG, whose components are numbered from 0, with these numbers in frame and scans."""
    new = bytearray(data)
    for marker, at in markers(data):
        if marker in (0xC0, 0xC1, 0xC2):
            for index, number in enumerate(numbers):
                new[at + 8 + 3 * index] = number
        elif marker == SCAN:
            for place in range(at + 3, at + 3 + 2 * data[at + 2], 2):
                new[place] = numbers[data[place]]
    return bytes(new)


def without_credentials(segments: Sequence[Segment]) -> list[Segment]:
    """The segments without content credentials (C2PA), which are signed for other pixels.

    Source: C2PA technical specification 2.1, section A.3.1: JUMBF boxes in APP11 segments, by ISO 19566-5.
    """
    boxes = {data[2:4] for marker, data in segments if _is_box(marker, data) and b"c2pa" in data[:100]}
    return [(marker, data) for marker, data in segments if not (_is_box(marker, data) and data[2:4] in boxes)]


def _is_box(marker: int, data: bytes) -> bool:
    return marker == JUMBF_MARKER and data.startswith(b"JP")


def without_jfif_thumbnail(segment: Segment) -> Segment | None:
    """The segment itself, or a JFIF header without its thumbnail; None for a JFXX segment, a thumbnail only."""
    marker, data = segment
    if marker == JFIF_MARKER and data.startswith(b"JFXX\0"):
        return None
    if marker == JFIF_MARKER and data.startswith(b"JFIF\0") and len(data) > 14:
        return marker, data[:12] + b"\0\0"
    return segment


def pack(segment: Segment) -> bytes:
    """The bytes of a segment in a file."""
    marker, data = segment
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def find(segments: Sequence[Segment], marker: int, start: bytes) -> bytes | None:
    """The data after `start` of the first segment with this marker and start; None if there is none."""
    return next((data[len(start) :] for kind, data in segments if kind == marker and data.startswith(start)), None)


def transplant(encoded: memoryview, segments: Sequence[Segment], marked: bool = True) -> list[bytes | memoryview]:
    """Combine the pixels of one JPEG with the metadata of another.

    Args:
        encoded: a JPEG written by libjpeg; its tables and pixels are used.
        segments: segments of the other file. An index of further pictures (MPF) is left out with those pictures.
        marked: if True and the other file has no Adobe segment, the one of `encoded` is kept.

    Returns:
        The pieces of the new file, in order. Its Adobe segment names the colour transform of `encoded`.
    """
    position, own_adobe = 2, None
    while 0xE0 <= encoded[position + 1] <= 0xEF or encoded[position + 1] == COMMENT:
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        if encoded[position + 1] == ADOBE_MARKER:
            own_adobe = bytes(encoded[position + 4 : position + 2 + length])
        position += 2 + length
    kept = []
    adobe_kept = False
    for marker, data in segments:
        if marker == ADOBE_MARKER and data.startswith(b"Adobe") and len(data) >= 12:
            transform = own_adobe[11:12] if own_adobe else b"\x01"
            kept.append(pack((marker, data[:11] + transform + data[12:])))
            adobe_kept = True
        elif not (marker == 0xE2 and data.startswith(MPF)):
            kept.append(pack((marker, data)))
    if own_adobe and marked and not adobe_kept:
        kept.append(pack((ADOBE_MARKER, own_adobe)))
    return [b"\xff\xd8", *kept, encoded[position:]]


def tables_by_component(quantization: Mapping[int, Sequence[int]], used: Sequence[int]) -> list[list[int]]:
    """Quantisation tables in the order in which Pillow's encoder assigns them to components.

    The encoder uses the last table for all remaining components.

    Args:
        quantization: Pillow's `image.quantization`.
        used: table number of each component.
    """
    order = list(dict.fromkeys(used))
    if [order.index(number) for number in used] == [min(i, len(order) - 1) for i in range(len(used))]:
        return [list(quantization[number]) for number in order]
    return [list(quantization[number]) for number in used]


def tables_in(abbreviated: bytes) -> list[list[int]]:
    """The quantisation tables of a JPEG, or of the JPEGTables tag of a TIFF."""
    tables, position = [], 2
    while position + 4 <= len(abbreviated) and abbreviated[position] == 0xFF:
        length = int.from_bytes(abbreviated[position + 2 : position + 4], "big")
        body = abbreviated[position + 4 : position + 2 + length]
        while abbreviated[position + 1] == 0xDB and body:
            width = 2 if body[0] >> 4 else 1
            table, body = body[1 : 1 + 64 * width], body[1 + 64 * width :]
            if len(table) == 64 * width:
                tables.append([int.from_bytes(table[at : at + width], "big") for at in range(0, 64 * width, width)])
        position += 2 + max(length, 2)
    return tables


def jpeg_quality(quantization: Mapping[int, Sequence[int]] | Sequence[Sequence[int]]) -> int:
    """Estimate the libjpeg quality, 1 to 100: the one whose luminance table is nearest to a file's first table.

    Args:
        quantization: Pillow's `image.quantization`, or a list of at least one table of 64 values.
    """
    tables = [quantization[key] for key in sorted(quantization)] if isinstance(quantization, Mapping) else quantization
    table = np.sort(np.asarray(tables[0], np.int64))  # the order of the 64 values differs between sources
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    scaled = np.clip((np.sort(LUMINANCE)[None] * scale[:, None] + 50) // 100, 1, 255)
    return int(qualities[np.abs(scaled - table).sum(axis=1).argmin()])

"""TIFF tags: descriptive tags copied into a new TIFF or EXIF block."""

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

ORIENTATION, XMP, ICC = 0x0112, 700, 34675
SHORT, LONG = 3, 4
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes per value, by type
# Bytes per number, by type: a change of the byte order reverses this many. A rational (5, 10) is two numbers.
SWAPPED = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
POINTERS = (34665, 34853, 40965)  # to the EXIF, GPS and interoperability directories
# Tags of the pixel storage, which the new file writes itself, and tags that point at data that is not copied.
STORAGE = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 297,
     301, 317, 318, 319, 320, 322, 323, 324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 338, 339, 340, 341, 342, 343,
     344, 345, 346, 347, *range(512, 522), *range(529, 533), 34016, 34017, 34018, 34019, 34020, 34022, 34023, 34024,
     34025, 34026, 34027, 34028, 34029, 34030, 37724)
)  # fmt: skip
PHOTOSHOP_RESOURCES, PHOTOSHOP_LAYERS, CREDENTIALS = 34377, 37724, 52545
NEW_SUBFILE, OLD_SUBFILE, SUB_DIRECTORIES = 254, 255, 330
REDUCED, MASK, OLD_REDUCED = 1, 4, 2  # values of the two subfile tags; the first two are bits
STRIP_OFFSETS, TILE_OFFSETS = 273, 324  # tags that point at the pixels
MOST_PAGES = 1000  # that a file may have. Not measured.
MOST_METADATA = 64 << 20  # bytes of values held in memory; chosen, not measured


@dataclass(frozen=True)
class Tag:
    """One tag: number, type, count and little-endian values, or the tags of the directory it points to (`inside`)."""

    number: int
    type: int
    count: int
    data: bytes
    inside: tuple["Tag", ...] = ()


def short(number: int, *values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag(number, SHORT, len(values), struct.pack(f"<{len(values)}H", *values))


def long(number: int, *values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(number, LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def read_tags(file: BinaryIO) -> list[Tag]:
    """Read the descriptive tags of a TIFF or an EXIF block: first directory, with its EXIF and GPS directories.

    Classic TIFF and BigTIFF of either byte order are read. `STORAGE` tags, and tags with values outside the file,
    are left out.

    Raises:
        ValueError: the file is not a TIFF, or has over 64 MB of values.
    """
    order, big, offset = _header(file)
    return _directory(file, order, big, offset, [MOST_METADATA], 0)


def _header(file: BinaryIO) -> tuple[str, bool, int]:
    """Byte order for `struct`, True for a BigTIFF, and the position of the first directory."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    if big and len(head) < 16:
        raise ValueError("no TIFF header")
    return order, big, struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]


def pages(file: BinaryIO) -> dict[int, bool]:
    """The pages of a TIFF by their position: True for a reduced picture or a mask of another page.

    Pillow was tried: it cannot go past a page whose pixels it cannot read, such as a mask.
    Source: TIFF 6.0, NewSubfileType and SubfileType.

    Raises:
        ValueError: the file is not a TIFF, or has over `MOST_PAGES` pages.
    """
    order, big, offset = _header(file)
    secondary: dict[int, bool] = {}
    while offset and offset not in secondary:
        if len(secondary) == MOST_PAGES:
            raise ValueError(f"over {MOST_PAGES} pages")
        entries, following = _entries(file, order, big, offset)
        secondary[offset] = False
        for entry in entries:
            number, kind = struct.unpack_from(order + "HH", entry)
            value = struct.unpack_from(order + ("H" if kind == SHORT else "I"), entry, 12 if big else 8)[0]
            secondary[offset] |= number == NEW_SUBFILE and value & (REDUCED | MASK) != 0
            secondary[offset] |= number == OLD_SUBFILE and value == OLD_REDUCED
        offset = following
    return secondary


def alone(data: bytes, offset: int) -> bytes:
    """A TIFF with one of its pages alone: the header leads to this page, and no other follows.

    Args:
        data: the file.
        offset: of the page; see `pages`.

    Raises:
        ValueError: the page lies outside of the file.
    """
    order, big, _ = _header(io.BytesIO(data))
    single, size, count_form, word = bytearray(data), *((20, "Q", "Q") if big else (12, "H", "I"))
    struct.pack_into(order + word, single, 8 if big else 4, offset)
    if offset + struct.calcsize(count_form) > len(data):
        raise ValueError("a page lies outside of the file")
    count = struct.unpack_from(order + count_form, single, offset)[0]
    link = offset + struct.calcsize(count_form) + count * size
    if link + struct.calcsize(word) <= len(single):
        struct.pack_into(order + word, single, link, 0)
    return bytes(single)


def _entries(file: BinaryIO, order: str, big: bool, offset: int) -> tuple[list[bytes], int]:
    """The entries of the directory at an offset, and the offset of the following page; 0 if there is none."""
    size, count_form, word = (20, order + "Q", order + "Q") if big else (12, order + "H", order + "I")
    file.seek(min(offset, 1 << 60))
    head = file.read(struct.calcsize(count_form))
    if len(head) < struct.calcsize(count_form):
        return [], 0
    count = min(struct.unpack(count_form, head)[0], 65535)
    body = file.read(count * size)
    link = file.read(struct.calcsize(word))
    following = struct.unpack(word, link)[0] if len(link) == struct.calcsize(word) else 0
    return [body[at : at + size] for at in range(0, len(body) - size + 1, size)], following


def _directory(file: BinaryIO, order: str, big: bool, offset: int, budget: list[int], depth: int) -> list[Tag]:
    word = 8 if big else 4
    tags = []
    for entry in _entries(file, order, big, offset)[0]:
        number, kind = struct.unpack_from(order + "HH", entry)
        values = struct.unpack_from(order + ("Q" if big else "I"), entry, 4)[0]
        size = values * SIZES.get(kind, 0)
        if (number in STORAGE and number != PHOTOSHOP_LAYERS) or not size:
            continue
        place = entry[-word:]
        pointer = struct.unpack(order + ("Q" if big else "I"), place)[0]
        if number in POINTERS:
            if depth < 2:
                inside = _directory(file, order, big, pointer, budget, depth + 1)
                tags += [Tag(number, LONG, 1, b"", tuple(inside))] if inside else []
            continue
        if number == PHOTOSHOP_LAYERS:
            tags.append(Tag(number, kind, 0, b""))  # records only that layers exist
            continue
        data = place[:size] if size <= word else _values(file, pointer, size, budget)
        if len(data) == size:
            tags.append(Tag(number, kind, values, _little(data, kind, order)))
    return tags


def _values(file: BinaryIO, offset: int, size: int, budget: list[int]) -> bytes:
    end = file.seek(0, io.SEEK_END)
    if offset + size > end:
        return b""
    budget[0] -= size
    if budget[0] < 0:
        raise ValueError("over 64 MB of metadata")
    file.seek(offset)
    return file.read(size)


def _little(data: bytes, kind: int, order: str) -> bytes:
    width = SWAPPED.get(kind, 1)
    if order == "<" or width == 1:
        return data
    return b"".join(data[at : at + width][::-1] for at in range(0, len(data), width))


def pack(tags: Iterable[Tag], offset: int) -> bytes:
    """The bytes of a little-endian directory at the even file position `offset`, followed by its values."""
    tags = sorted(tags, key=lambda tag: tag.number)
    values_at = offset + 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for tag in tags:
        if tag.inside:
            where = values_at + len(values)
            values += pack(tag.inside, where)
            field = struct.pack("<I", where)
        elif len(tag.data) <= 4:
            field = tag.data.ljust(4, b"\0")
        else:
            field = struct.pack("<I", values_at + len(values))
            values += tag.data
        values += b"\0" * (len(values) % 2)
        entries.append(struct.pack("<HHI", tag.number, tag.type, tag.count) + field)
    return struct.pack("<H", len(tags)) + b"".join(entries) + b"\0\0\0\0" + values


def exif_block(tags: Sequence[Tag]) -> bytes:
    """The tags as an EXIF block without the leading `Exif`; no bytes for no tags."""
    return b"II*\0\x08\0\0\0" + pack(tags, 8) if tags else b""


def join(files: Sequence[bytes]) -> list[bytes]:
    """The pages of several files as one file.

    Args:
        files: little-endian classic TIFFs of one page each, as `transplant` makes them.

    Returns:
        The pieces of the new file, in order.

    Raises:
        ValueError: the result would be over 4 GB.
    """
    bodies = [data[8:] + b"\0" * (len(data) % 2) for data in files]
    pieces, at, link = [struct.pack("<2sHI", b"II", 42, 8 + len(bodies[0]))], 8, 0
    for i, (data, body) in enumerate(zip(files, bodies, strict=True)):
        tags = [_shifted(tag, at - 8) for tag in _all_tags(data, struct.unpack_from("<I", data, 4)[0])]
        directory = bytearray(pack(tags, at + len(body)))
        at += len(body) + len(directory)
        link = at + len(bodies[i + 1]) if i + 1 < len(files) else 0
        struct.pack_into("<I", directory, 2 + 12 * len(tags), link)
        pieces += [body, bytes(directory)]
    if at >= 1 << 32:
        raise ValueError("over 4 GB, more than a TIFF can hold")
    return pieces


def _all_tags(data: bytes | memoryview, offset: int) -> list[Tag]:
    """All tags of a directory of a little-endian classic TIFF, the pixels' own included."""
    tags = []
    for at in range(offset + 2, offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0], 12):
        number, kind, count = struct.unpack_from("<HHI", data, at)
        size = count * SIZES[kind]
        where = at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        inside = number in POINTERS and tuple(_all_tags(data, struct.unpack_from("<I", data, at + 8)[0]))
        tags.append(Tag(number, kind, count, bytes(data[where : where + size]), inside or ()))
    return tags


def _shifted(tag: Tag, by: int) -> Tag:
    """The tag as it is, but pointers to pixels moved by so many bytes."""
    if tag.number not in (STRIP_OFFSETS, TILE_OFFSETS):
        return tag
    form = "<%d" + {SHORT: "H", LONG: "I"}[tag.type]
    return long(tag.number, *(place + by for place in struct.unpack(form % tag.count, tag.data)))


def transplant(encoded: memoryview, tags: Sequence[Tag]) -> list[bytes | memoryview]:
    """Combine the pixels of one little-endian classic TIFF with the descriptive tags of another.

    Args:
        encoded: a TIFF; its pixels and its `STORAGE` tags are used.
        tags: the other tags of the new file; they replace tags of `encoded` with the same number.

    Returns:
        The pieces of the new file, in order.

    Raises:
        ValueError: `encoded` is not a little-endian classic TIFF, or the result would be over 4 GB.
    """
    if bytes(encoded[:4]) != b"II*\0":
        raise ValueError("not a little-endian TIFF")
    start = struct.unpack_from("<I", encoded, 4)[0]
    merged = {tag.number: tag for tag in _all_tags(encoded, start) if tag.number in STORAGE}
    merged |= {tag.number: tag for tag in tags}
    offset = len(encoded) + len(encoded) % 2
    directory = pack(merged.values(), offset)
    if offset + len(directory) >= 1 << 32:
        raise ValueError("over 4 GB, more than a TIFF can hold")
    head = encoded[:4].tobytes() + struct.pack("<I", offset)
    return [head, encoded[8:], b"\0" * (len(encoded) % 2), directory]

"""EXIF blocks: orientation, pixel sizes and thumbnail made to fit the restored picture, every other byte kept.

Pillow's `Image.Exif` was tried: it writes the block anew, without the thumbnail, and with the maker note at another
position, so that the offsets inside the note are wrong.
Source of the tags: CIPA DC-008 (Exif 2.32), sections 4.6.2 to 4.6.5.
"""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from wmremoval.images import DAMAGED, ORIENTATION

EXIF_POINTER = 0x8769
MAIN_SIZES = {256: 0, 257: 1}  # ImageWidth and ImageLength: 0 is the width, 1 the height
EXIF_SIZES = {0xA002: 0, 0xA003: 1}  # PixelXDimension and PixelYDimension
THUMBNAIL_START, THUMBNAIL_LENGTH = 0x0201, 0x0202
SHORT, LONG = 3, 4
THUMBNAIL_SIDE = 1024  # pixels; a larger thumbnail is not drawn anew. Not measured.
THUMBNAIL_QUALITIES = (85, 70, 50, 30, 15)  # tried in turn until the new thumbnail fits in the place of the old one


class Field(NamedTuple):
    """A tag of an EXIF block: its number and type, its count, and the position of its value or offset."""

    number: int
    type: int
    count: int  # type: ignore[assignment]  # hides `tuple.count`
    at: int


class Block:
    """A copy of an EXIF block that can be changed in place.

    Args:
        exif: with or without the leading `Exif\\0\\0`.

    Raises:
        ValueError: it has no TIFF header.
    """

    def __init__(self, exif: bytes):
        self.start = 6 if exif.startswith(b"Exif\0\0") else 0
        order = {b"II": "<", b"MM": ">"}.get(exif[self.start : self.start + 2])
        if order is None or len(exif) < self.start + 10:
            raise ValueError("no TIFF header")
        self.order, self.data = order, bytearray(exif)

    def _number(self, form: str, at: int) -> int:
        return struct.unpack_from(self.order + form, self.data, at)[0]

    def fields(self, directory: int) -> Iterator[Field]:
        """The tags of a directory; none for an offset outside the block."""
        start = self.start + directory
        if not directory or start + 2 > len(self.data):
            return
        last = min(start + 2 + 12 * self._number("H", start), len(self.data) - 11)
        for at in range(start + 2, last, 12):
            number, kind, count = struct.unpack_from(self.order + "HHI", self.data, at)
            yield Field(number, kind, count, at + 8)

    def value(self, field: Field) -> int | None:
        """The value of a tag with one number of 16 or 32 bits; None for any other tag."""
        form = {SHORT: "H", LONG: "I"}.get(field.type)
        return self._number(form, field.at) if form and field.count == 1 else None

    def set(self, field: Field, value: int) -> None:
        """Replace the value of a tag; one that is not a single number, or is too small for the value, is left."""
        if self.value(field) is not None and (field.type == LONG or value < 1 << 16):
            struct.pack_into(self.order + ("I" if field.type == LONG else "H"), self.data, field.at, value)

    @property
    def main(self) -> int:
        """Offset of the directory of the main picture."""
        return self._number("I", self.start + 4)

    @property
    def link(self) -> int | None:
        """Position of the offset of the thumbnail's directory; None if the main directory is cut short."""
        start = self.start + self.main
        if not self.main or start + 2 > len(self.data):
            return None
        at = start + 2 + 12 * self._number("H", start)
        return at if at + 4 <= len(self.data) else None

    @property
    def second(self) -> int:
        """Offset of the thumbnail's directory, 0 if there is none."""
        return 0 if self.link is None else self._number("I", self.link)


def orientation(exif: bytes) -> int | None:
    """The EXIF orientation, 1 to 8; None if it is missing or invalid."""
    try:
        block = Block(exif)
    except ValueError:
        return None
    found = [block.value(field) for field in block.fields(block.main) if field.number == ORIENTATION]
    return found[0] if found and found[0] in range(1, 9) else None


def upright(exif: bytes) -> bytes:
    """The same block with an orientation of 1, also of the thumbnail; a missing orientation is not added."""
    try:
        block = Block(exif)
    except ValueError:
        return exif
    for directory in (block.main, block.second):
        for field in block.fields(directory):
            if field.number == ORIENTATION and field.type == SHORT:
                block.set(field, 1)
    return bytes(block.data)


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """The same block with the pixel sizes of the picture; missing sizes are not added."""
    try:
        block = Block(exif)
    except ValueError:
        return exif
    for directory, sizes in ((block.main, MAIN_SIZES), (_exif_directory(block), EXIF_SIZES)):
        for field in block.fields(directory):
            if field.number in sizes:
                block.set(field, (width, height)[sizes[field.number]])
    return bytes(block.data)


def _exif_directory(block: Block) -> int:
    values = (block.value(field) for field in block.fields(block.main) if field.number == EXIF_POINTER)
    return next((value for value in values if value is not None), 0)


def with_thumbnail(exif: bytes, view: np.ndarray, sideways: bool) -> tuple[bytes, bool]:
    """The same block with its thumbnail drawn anew.

    Args:
        exif: an EXIF block.
        view: (H, W, 3) uint8, the restored picture, upright.
        sideways: the picture was turned by 90 degrees, and its thumbnail was not.

    Returns:
        The block, and False if there was a thumbnail that had to be dropped. The new thumbnail has the size of the old
        one, its sides swapped if `sideways`.
    """
    try:
        block = Block(exif)
    except ValueError:
        return exif, True
    fields = {field.number: field for field in block.fields(block.second)}
    if not fields:
        return exif, True
    place = _thumbnail_place(block, fields)
    new, size = redrawn(exif[place], view, sideways) if place else (b"", (0, 0))
    if place:  # zeros, since a reader that ignores the link must not find the old one
        block.data[place] = new.ljust(place.stop - place.start, b"\0")
    if not new:
        assert block.link is not None  # the directory of the thumbnail was found by it
        struct.pack_into(block.order + "I", block.data, block.link, 0)
        return bytes(block.data), False
    block.set(fields[THUMBNAIL_LENGTH], len(new))
    for number in MAIN_SIZES.keys() & fields.keys():
        block.set(fields[number], size[MAIN_SIZES[number]])
    return bytes(block.data), True


def _thumbnail_place(block: Block, fields: dict[int, Field]) -> slice | None:
    """The bytes of a JPEG thumbnail; None if there is none inside the block."""
    if not {THUMBNAIL_START, THUMBNAIL_LENGTH} <= fields.keys():
        return None
    at, length = (block.value(fields[number]) for number in (THUMBNAIL_START, THUMBNAIL_LENGTH))
    if at is None or length is None or block.start + at + length > len(block.data):
        return None
    return slice(block.start + at, block.start + at + length)


def redrawn(thumbnail: bytes, view: np.ndarray, sideways: bool) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of the view with the size of another JPEG and at most its length in bytes.

    Returns:
        The JPEG, no bytes if that fails; and its width and height.
    """
    try:
        with Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as old:
            size = old.size[::-1] if sideways else old.size
    except DAMAGED:
        return b"", (0, 0)
    if max(size) <= THUMBNAIL_SIDE:
        small = Image.fromarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA))
        for quality in THUMBNAIL_QUALITIES:
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= len(thumbnail):
                return buffer.getvalue(), size
    return b"", size

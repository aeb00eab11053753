"""Photoshop image resources: their thumbnail drawn anew, every other resource kept byte for byte.

Pillow was tried: it reads the resources, but cannot write them.
Source: Adobe Photoshop File Formats Specification, "Image Resources Section".
"""

import struct
from collections.abc import Iterator

import numpy as np

from wmremoval.photofile.exif import redrawn

THUMBNAIL, OLD_THUMBNAIL = 1036, 1033  # numbers of the resources; the old one stores its colours as BGR
HEADER = ">6I2H"  # of a thumbnail: format, width, height, bytes per row, bytes in all, bytes of the JPEG, bits, planes
RAW_JPEG = 1  # the format of a thumbnail that is a JPEG


def _resources(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, head and content of each resource; the last may have number 0 and no head, and be what was not understood."""
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        number, name = struct.unpack_from(">HB", data, at + 4)
        start = at + 6 + (name + 2) // 2 * 2 + 4
        if start > len(data):
            break
        size = struct.unpack_from(">I", data, start - 4)[0]
        if start + size > len(data):
            break
        yield number, data[at : start - 4], data[start : start + size]
        at = start + size + size % 2
    if at < len(data):
        yield 0, b"", data[at:]


def with_thumbnail(data: bytes, view: np.ndarray, sideways: bool) -> tuple[bytes, bool]:
    """The resources with their thumbnail drawn anew from the view, or without it.

    Args:
        data: a sequence of resources; bytes that are none are kept.
        view, sideways: see `redrawn`.

    Returns:
        The resources, and False if a thumbnail had to be dropped.
    """
    pieces, kept = [], True
    for number, head, content in _resources(data):
        if number in (THUMBNAIL, OLD_THUMBNAIL):
            content = _thumbnail(content, view, sideways) if number == THUMBNAIL else b""
            if not content:
                kept = False
                continue
        if head:
            pieces += [head, struct.pack(">I", len(content))]
        pieces += [content, b"\0" * (len(content) % 2 if head else 0)]
    return b"".join(pieces), kept


def _thumbnail(content: bytes, view: np.ndarray, sideways: bool) -> bytes:
    size = struct.calcsize(HEADER)
    if len(content) < size or struct.unpack_from(">I", content)[0] != RAW_JPEG:
        return b""
    jpeg, (width, height) = redrawn(content[size:], view, sideways)
    row = (width * 24 + 31) // 32 * 4
    return struct.pack(HEADER, RAW_JPEG, width, height, row, row * height, len(jpeg), 24, 1) + jpeg if jpeg else b""

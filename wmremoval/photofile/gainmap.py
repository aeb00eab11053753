"""The gain map of an Ultra HDR photograph: found after the end of a JPEG, repaired under the mask, written back.

Pillow was tried: it writes several pictures in one file, but without the metadata of the second. Sources: Ultra HDR image
format 1.1, https://developer.android.com/media/platform/hdr-image-format; CIPA DC-007 (Multi-Picture Format), section 5.
"""

import io
import struct
from mmap import mmap

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from wmremoval.images import DAMAGED
from wmremoval.photofile import jpeg
from wmremoval.photofile.convert import turned

NAME = "the gain map, which brightens the picture on HDR displays,"
CLAIM = b"hdrgm:Version"
MOST_COVERED = 0.25  # share of the picture; under a larger mask too little is left of the gain map. Not measured.
REACH = 3  # pixels of the gain map that OpenCV's inpainting looks at around a point
LARGEST = 64 << 20  # bytes; a larger one is not held in memory. Not measured.
PRIMARY = 0x030000  # attribute of the first picture in the index: "baseline MP primary image"


def find(data: bytes | mmap, end: int, rest: int) -> bytes:
    """The gain map that follows the first picture of a JPEG; no bytes if there is none, or further pictures follow.

    Args:
        data: the file.
        end: the position of the first picture's end.
        rest: the number of bytes after it that may belong to a gain map.
    """
    start = data.find(b"\xff\xd8\xff", end, end + jpeg.PADDING)
    if start < 0 or rest > LARGEST:
        return b""
    found = data[start : end + rest]
    size = jpeg.picture_end(found)
    if size is None or len(found) - size > jpeg.PADDING:
        return b""
    try:
        segments = jpeg.read_segments(io.BytesIO(found))
    except ValueError:
        return b""
    described = any(data.startswith(jpeg.GAIN_MAP) or CLAIM in data for _, data in segments)
    return found[:size] if described else b""


def repaired(gain: bytes, mask: np.ndarray, orientation: int) -> bytes:
    """The gain map turned upright, with the mask's pixels inpainted from their surroundings, by Telea; its metadata is kept.

    Args:
        gain: a JPEG, grey or RGB.
        mask: (H, W) uint8 of the upright photograph.
        orientation: the photograph's before it was turned, which is also the gain map's.

    Returns:
        No bytes if the mask covers too much, or the gain map is damaged.
    """
    if not mask.any() and orientation == 1:
        return gain
    if np.count_nonzero(mask) > MOST_COVERED * mask.size:
        return b""
    try:
        with Image.open(io.BytesIO(gain), formats=("JPEG",)) as image:
            image.load()
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            tables = jpeg.tables_by_component(image.quantization, [layer[3] for layer in image.layer])
        if image.mode not in ("L", "RGB"):
            return b""
        values = np.ascontiguousarray(turned(np.asarray(image), orientation))
        covered = cv2.resize((mask != 0).astype(np.float32), values.shape[1::-1], interpolation=cv2.INTER_AREA) > 0
        covered = cv2.dilate(
            covered.astype(np.uint8), np.ones((3, 3), np.uint8)
        )  # the gain map was blurred by its coding
        values = cv2.inpaint(values, covered, REACH, cv2.INPAINT_TELEA)
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "JPEG", qtables=tables, subsampling=0)
        segments = jpeg.read_segments(io.BytesIO(gain))
    except DAMAGED:
        return b""
    return b"".join(jpeg.transplant(memoryview(buffer.getvalue()), segments))


def with_index(pieces: list[bytes | memoryview], gain: bytes) -> list[bytes | memoryview]:
    """The pieces of a JPEG, the last of which are its tables and pixels, with an index of both pictures, and the gain map."""
    before = sum(map(len, pieces[:-1]))
    size = sum(map(len, pieces)) + len(_index(0, 0, 0))
    header = before + 8  # offsets count from the header in the index: after its marker, length and name
    return [*pieces[:-1], _index(size, len(gain), size - header), pieces[-1], gain]


def _index(primary: int, secondary: int, offset: int) -> bytes:
    """The segment that lists two pictures: their sizes, and the offset of the second."""
    tags = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, 2)
    tags += struct.pack("<HHII", 0xB002, 7, 32, 50)
    entries = struct.pack("<IIIHH", PRIMARY, primary, 0, 0, 0) + struct.pack("<IIIHH", 0, secondary, offset, 0, 0)
    return jpeg.pack((0xE2, jpeg.MPF + b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + tags + bytes(4) + entries))

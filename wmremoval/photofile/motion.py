"""Motion photos: the video after the end of a JPEG, found by the XMP packet that announces it.

Source: Motion Photo format 1.0, https://developer.android.com/media/platform/motion-photo-format
"""

import re
from mmap import mmap

from wmremoval.photofile import jpeg, xmp

CLAIMS = (r"GCamera:MotionPhoto\w*", r"GCamera:MicroVideo\w*", r"Camera:MotionPhoto\w*", r"Camera:MicroVideo\w*")
CLAIM = re.compile(rb"""Camera:(?:MotionPhoto|MicroVideo)(?:\s*=\s*["']|>)\s*1""")
OFFSET = re.compile(rb"""Camera:MicroVideoOffset(?:\s*=\s*["']|>)\s*(\d+)""")
LENGTH = re.compile(rb"""Item:Length(?:\s*=\s*["']|>)\s*(\d+)""")
MOST_TRAILER = 256 << 20  # bytes; a longer video is not held in memory and not kept. Not measured.


def claims_video(packet: bytes) -> bool:
    """True if the XMP packet says that a video follows the picture."""
    return CLAIM.search(packet) is not None


def without_video(packet: bytes) -> bytes:
    """The XMP packet without the announcement of a video."""
    return xmp.without_item(xmp.without(packet, *CLAIMS), "MotionPhoto")


def trailer_of(data: bytes | mmap, packet: bytes) -> tuple[bytes, int | None]:
    """The video after the end of a JPEG, and the number of bytes after the picture's end; None if it has no end.

    The offset in the packet counts from the end of the file, so that it stays right if the video stays last.

    Returns:
        No bytes for the video if the packet announces none, or a wrong place.
    """
    end = jpeg.picture_end(data)
    if end is None:
        return b"", None
    rest = len(data) - end
    items = xmp.items(packet, "MotionPhoto") if claims_video(packet) else []
    lengths = [int(found[1]) for item in items for found in LENGTH.finditer(item)]
    lengths += [int(found[1]) for found in OFFSET.finditer(packet) if claims_video(packet)]
    for length in lengths:
        start = len(data) - length
        if 8 <= length <= min(rest, MOST_TRAILER) and data[start + 4 : start + 8] == b"ftyp":
            return data[start:], rest
    return b"", rest

"""JPEGs whose end is missing: the rows that are there, and the picture as viewers show it.

Pillow's `LOAD_TRUNCATED_IMAGES` was tried: it is global to the process, and does not say which rows are missing. An end
marker after the last byte makes libjpeg fill the missing part, in grey or with the last colour, as viewers do.
"""

import io

from PIL import Image, ImageChops, JpegImagePlugin

from wmremoval.images import DAMAGED
from wmremoval.photofile import jpeg

END = b"\xff\xd9"
LEAST_ROWS = 0.5  # share of the rows that must be there; required, not measured
LEAST_BYTES = 1 / 1024  # bytes per pixel; half of a flat picture takes more: a bit for each block of 64 pixels


def read_cut_short(data: bytes) -> tuple[Image.Image, float]:
    """Decode a JPEG without its end.

    Args:
        data: the file; `jpeg.picture_end` finds no end in it.

    Returns:
        The decoded picture, and the share of its rows that were read, in [0, 1]. Of a progressive JPEG that is 1 if the
        coarse picture is complete, else 0.

    Raises:
        ValueError: less than `LEAST_ROWS` of the picture is there.
        OSError: the picture is damaged in another way.
    """
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as header:
        if len(data) < LEAST_BYTES * header.width * header.height:
            raise ValueError("less than half of the picture is there")
    image = _decoded(data)
    share = _coarse_share(data, image) if image.info.get("progressive") else _row_share(data, image)
    if share < LEAST_ROWS:
        raise ValueError("less than half of the picture is there")
    return image, share


def _decoded(data: bytes) -> Image.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data.removesuffix(b"\xff") + END))
    image.load()
    return image


def _row_share(data: bytes, image: Image.Image) -> float:
    """The share of complete rows: above the first row that changes if a few more bytes are missing."""
    cut = 2
    while cut < len(data):
        try:
            difference = ImageChops.difference(image, _decoded(data[:-cut])).getbbox()
        except DAMAGED:  # the header is reached
            return 0.0
        if difference:
            return difference[1] / image.height
        cut *= 2
    return 0.0


def _coarse_share(data: bytes, image: Image.Image) -> float:
    """1 if the coarse scans of all components are followed by another scan, else 0."""
    scans = [at for marker, at in jpeg.markers(data) if marker == jpeg.SCAN]
    components = sum(data[at + 2] for at in scans[:-1] if at + 2 < len(data))
    return float(components >= len(image.getbands()))

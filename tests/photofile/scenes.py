"""Small photographs of every mode and kind of file, and the way through reader and writer."""

import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

WIDTH, HEIGHT = 41, 30
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CMYK_PROFILE = PROFILE[:16] + b"CMYK" + PROFILE[20:]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf>caption \xc3\xa9</rdf></x:xmpmeta>'


def scene(*shape, top=255, dtype=np.uint8, seed=0):
    """A smooth picture with some noise."""
    height, width = shape[:2]
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.2, 0.7, height)[:, None] * np.linspace(0.6, 1.0, width)[None]
    ramp = ramp.reshape(height, width, *[1] * (len(shape) - 2)) + rng.uniform(0, 0.2, shape)
    return (ramp * top).astype(dtype)


def picture(mode, size=(WIDTH, HEIGHT)):
    """A Pillow image of the mode."""
    width, height = size
    rgb = Image.fromarray(scene(height, width, 3))
    if mode == "P":
        return rgb.quantize(23)
    if mode == "I;16":
        return Image.fromarray(scene(height, width, top=65535, dtype=np.uint16))
    if mode in ("LA", "RGBA"):
        image = rgb.convert(mode)
        alpha = scene(height, width, seed=5)
        alpha[:5], alpha[5:20] = 0, 255
        image.putalpha(Image.fromarray(alpha))
        return image
    if mode == "CMYK":
        return Image.fromarray(scene(height, width, 4, top=200), "CMYK")
    return rgb.convert(mode)


def exif_bytes(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = orientation, "Maker", "Somebody"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def restoration(photo, box=(8, 6, 30, 24)):
    """Another picture inside a box, and the box's mask."""
    left, top, right, bottom = box
    mask = np.zeros(photo.rgb.shape[:2], np.uint8)
    mask[top:bottom, left:right] = 200
    restored = photo.rgb.copy()
    shift = [-90, -90, -90] if photo.mode == "1" else [30, -20, 10]
    restored[mask != 0] = np.clip((restored[mask != 0] // (2 if photo.mode == "1" else 1)).astype(int) + shift, 0, 255)
    return restored, mask


def through(path, out=None, **options):
    """Read, restore and write; returns the photo, the restoration, the mask and the new path."""
    photo = read_photo(path)
    restored, mask = restoration(photo)
    out = out or path.with_name("out" + path.suffix)
    write_photo(photo, restored, mask, out, **options)
    return photo, restored, mask, out


def png(width, height, bits=8, colour=2, extra=b""):
    """A PNG header over next to no pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")

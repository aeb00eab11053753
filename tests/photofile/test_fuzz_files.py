"""Damaged files of every format: each is read and written back, or refused in one line, and nothing else happens."""

import io
import random
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scenes import scene

from wmremoval.images import ImageError
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

WIDTH, HEIGHT = 40, 30
LONGEST = 5.0  # seconds a file may take


def seeds():
    """Small good files of every format and mode, and of several pages, as (ending, bytes)."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    images = {mode: rgb.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK")}
    images |= {"P": rgb.quantize(20), "I;16": Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16))}
    wanted = [(".jpg", "JPEG", mode, {"exif": exif}) for mode in ("L", "RGB", "CMYK")]
    wanted += [(".jpg", "JPEG", "RGB", {"progressive": True, "icc_profile": b"p" * 200, "comment": b"c"})]
    wanted += [(".png", "PNG", mode, {"exif": exif, "dpi": (300, 300)}) for mode in images if mode != "CMYK"]
    wanted += [
        (".png", "PNG", "P", {"transparency": 3, "bits": 8}),
        (".png", "PNG", "RGB", {"transparency": (1, 2, 3)}),
    ]
    wanted += [(".webp", "WEBP", mode, {"lossless": lossless, "exif": exif.tobytes()})
               for mode in ("RGB", "RGBA") for lossless in (True, False)]  # fmt: skip
    wanted += [(".tif", "TIFF", mode, {"exif": exif}) for mode in images]
    wanted += [(".tif", "TIFF", "RGB", {"compression": name, "exif": exif})
               for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]  # fmt: skip
    wanted += [(".tif", "TIFF", "1", {"compression": "group4"})]
    wanted += [(".bmp", "BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")]
    for ending, name, mode, options in wanted:
        buffer = io.BytesIO()
        images[mode].save(buffer, name, **options)
        yield ending, buffer.getvalue()
    for options in ({}, {"bigtiff": True}):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, **options) as writer:
            for step, kind in ((1, 0), (2, 1), (1, 0), (3, 0)):
                writer.write(np.asarray(rgb)[::step, ::step], photometric="rgb", subfiletype=kind, metadata=None)
        yield ".tif", buffer.getvalue()
    yield from deep_seeds(rng)
    yield from parted_seeds()


def parted_seeds():
    """JPEGs with a video, a gain map, previews and signatures, and PNGs with colours of their own."""
    import test_colours_and_transparency as colours
    import test_parts_beside_the_picture as parts

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        parts.save_hdr(path, parts.gain_map(), extra=parts.VIDEO, exif=parts.exif_with_thumbnail(6))
        yield ".jpg", path.read_bytes()
        parts.credentials(path)
        yield ".jpg", path.read_bytes()
        path = Path(folder) / "a.png"
        colours.png_with_codes(path, 9, 16, scene(HEIGHT, WIDTH, 3, top=40000, dtype=np.uint16))
        yield ".png", path.read_bytes()
        Image.fromarray(scene(HEIGHT, WIDTH, 3)).save(path, icc_profile=colours.profile("p3"))
        yield ".png", path.read_bytes()


def deep_seeds(rng):
    """16-bit colour."""
    import cv2

    values = rng.integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)
    for channels in (3, 4):
        yield ".png", cv2.imencode(".png", values[..., :channels])[1].tobytes()
        for options in ({}, {"byteorder": ">", "compression": "zlib"}, {"bigtiff": True, "tile": (16, 16)}):
            buffer = io.BytesIO()
            extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
            tifffile.imwrite(buffer, values[..., :channels], photometric="rgb", **extra, **options)
            yield ".tif", buffer.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One or a few injuries: bits, runs of bytes, numbers in the header, missing or doubled parts."""
    data = bytearray(data)
    header = min(len(data), rng.choice([30, 64, 200, len(data)]))
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(header)
        how = rng.randrange(7)
        if how == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place] = rng.choice([0, 1, 127, 128, 254, 255])
        elif how == 2:
            number = rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)])
            data[place : place + 4] = struct.pack(rng.choice("<>") + "I", number)[: max(0, len(data) - place)]
        elif how == 3:
            data[place : place + 2] = struct.pack(rng.choice("<>") + "H", rng.getrandbits(16))[: len(data) - place]
        elif how == 4 and len(data) > 64:
            del data[rng.randrange(20, len(data)) :]
            header = min(header, len(data))
        elif how == 5:
            end = min(len(data), place + rng.randrange(1, 40))
            data[place:place] = data[place:end]
        else:
            end = min(len(data), place + rng.randrange(1, 12))
            data[place:end] = bytes(rng.getrandbits(8) for _ in range(end - place))
    data = bytes(data)
    return repaired(data) if rng.random() < 0.7 else data


def repaired(data: bytes) -> bytes:
    """A PNG with its checksums made right, so that the injury behind them is met; other files as they are."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if len(body) < length + 4:
            break
        pieces.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(pieces) + data[at:]


def check(path, out):
    """Read, write and read again; True if the file could be read."""
    try:
        photo = read_photo(path, max_pixels=4_000_000)
    except ImageError as error:
        line = str(error)
        assert line.isprintable() and path.name in line and str(path) not in line, line
        return False
    assert photo.rgb.dtype == np.uint8 and photo.rgb.flags.c_contiguous
    mask = np.zeros(photo.rgb.shape[:2], np.uint8)
    mask[: len(mask) // 2 + 1] = 255
    restored = np.where(mask[..., None] != 0, 255 - photo.rgb, photo.rgb)
    write_photo(photo, restored, mask, out)
    again = read_photo(out)
    assert again.mode == photo.mode and again.size == photo.size
    if photo.kind.colour != "palette" and path.suffix in (
        ".png",
        ".bmp",
    ):  # an index past the palette may show otherwise
        assert np.array_equal(again.rgb[mask == 0], photo.rgb[mask == 0])
    return True


@pytest.mark.parametrize("round", range(6))
def test_a_damaged_file_is_read_or_refused(tmp_path, round, capfd, recwarn):
    rng = random.Random(round)
    good = list(seeds())
    for number, (ending, data) in enumerate(good):
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(mutated(data, rng))
        start = time.perf_counter()
        check(path, tmp_path / f"{number}-out{ending}")
        assert time.perf_counter() - start < LONGEST
    assert capfd.readouterr() == ("", "")
    # Files that other tests left to the garbage collector may be collected, and warned about, just now.
    assert [str(warning.message) for warning in recwarn if not issubclass(warning.category, ResourceWarning)] == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_good_files_are_read(tmp_path):
    for number, (ending, data) in enumerate(seeds()):
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(data)
        assert check(path, tmp_path / f"{number}-out{ending}")

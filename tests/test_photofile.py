"""Photographs read and written back: mode, size, metadata and untouched pixels, against Pillow, tifffile and bytes."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from wmremoval import photowrite
from wmremoval.images import ImageError
from wmremoval.jpegsegments import jpeg_quality
from wmremoval.photofile import from_pil, read_mask, read_photo, to_pil
from wmremoval.photowrite import output_suffix, write_mask, write_photo

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


SAVED = [
    ("JPEG", ".jpg", "RGB", {}), ("JPEG", ".JPEG", "L", {}), ("JPEG", ".jpg", "CMYK", {}),
    *[("PNG", ".png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    ("PNG", ".Png", "P", {"transparency": 3}), ("PNG", ".png", "P", {"transparency": bytes([90, 255] * 11)}),
    ("PNG", ".png", "RGB", {"transparency": (60, 70, 80)}), ("PNG", ".png", "L", {"transparency": 60}),
    ("WEBP", ".webp", "RGB", {"lossless": True}), ("WEBP", ".webp", "RGBA", {"lossless": True, "exact": True}),
    ("WEBP", ".WEBP", "RGB", {"quality": 80}),
    *[("TIFF", ".tif", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")],
    *[("TIFF", ".TIFF", "RGB", {"compression": name})
      for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma")],
    ("TIFF", ".tif", "1", {"compression": "group4"}), ("TIFF", ".tif", "I;16", {"compression": "tiff_lzw"}),
    *[("BMP", ".bmp", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
]  # fmt: skip
LOSSY = ({"quality": 80}, {"compression": "jpeg"})


@pytest.mark.parametrize(("name", "ending", "mode", "options"), SAVED, ids=str)
def test_mode_format_size_and_untouched_pixels_are_kept(tmp_path, name, ending, mode, options):
    path = tmp_path / f"photo{ending}"
    picture(mode).save(path, name, **options)
    photo, restored, mask, out = through(path)
    with Image.open(path) as old, Image.open(out) as new:
        assert (new.format, new.mode, new.size) == (old.format, old.mode, old.size)
        assert new.info.get("compression") == old.info.get("compression")
        assert new.info.get("transparency") == old.info.get("transparency")
        assert new.getpalette() == old.getpalette()
        before, after = np.array(old), np.array(new)
    assert photo.rgb.dtype == np.uint8 and photo.rgb.flags.c_contiguous and photo.notes == []
    again = read_photo(out)
    if name == "JPEG" or options in LOSSY:
        assert np.abs(again.rgb.astype(int) - restored)[mask == 0].mean() < 6
        return
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert not np.array_equal(after[mask != 0], before[mask != 0])
    if mode not in ("1", "P") and "transparency" not in options:
        assert np.abs(again.rgb.astype(int).mean(-1) - restored.mean(-1)).mean() < (12 if "A" in mode else 8)
    if "A" in again.mode:
        assert np.array_equal(after[..., -1], before[..., -1])
        assert np.array_equal(after[before[..., -1] == 0], before[before[..., -1] == 0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_the_view_is_what_pillow_shows_over_white(tmp_path, mode):
    path = tmp_path / "photo.tif"
    picture(mode).save(path)
    with Image.open(path) as image:
        if mode == "I;16":
            wanted = np.repeat(np.rint(np.array(image) / 257)[..., None], 3, axis=-1)
        else:
            rgba = image.convert("RGBA")
            wanted = np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    assert np.abs(read_photo(path).rgb.astype(int) - wanted).max() <= (1 if "A" in mode else 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (53, 1), (3, 5), (17, 16)])
@pytest.mark.parametrize(("ending", "mode"), [(".jpg", "RGB"), (".png", "P"), (".webp", "RGBA"), (".tif", "1"), (".bmp", "RGB")])  # fmt: skip
def test_odd_sizes(tmp_path, size, ending, mode):
    path, out = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    picture(mode, size).save(path, **({"lossless": True} if ending == ".webp" else {}))
    photo = read_photo(path)
    assert photo.size == size
    write_photo(photo, 255 - photo.rgb, np.full(size[::-1], 255, np.uint8), out)
    with Image.open(out) as image:
        assert image.size == size


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour", ["grey", "palette"])
def test_few_bits_a_pixel_stay_few(tmp_path, bits, colour):
    path = tmp_path / "a.png"
    palette = Image.fromarray(scene(HEIGHT, WIDTH, top=(1 << bits) - 1), "L").convert("P")
    palette.putpalette([value for level in range(1 << bits) for value in [level * 255 // ((1 << bits) - 1)] * 3])
    palette.save(path, bits=bits)
    if colour == "grey":  # the same packed samples under a header that says grey
        data = bytearray(path.read_bytes())
        data[25] = 0
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        start = data.index(b"PLTE") - 4
        del data[start : start + 12 + 3 * (1 << bits)]
        path.write_bytes(data)
    _, restored, mask, out = through(path)
    with Image.open(path) as old, Image.open(out) as new:
        assert new.mode == old.mode and out.read_bytes()[24:26] == path.read_bytes()[24:26]
        assert np.array_equal(np.array(new)[mask == 0], np.array(old)[mask == 0])
    step = 255 / ((1 << bits) - 1)
    assert np.abs(read_photo(out).rgb.astype(float).mean(-1) - restored.mean(-1)).max() <= step


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("how", ["png", "tif", "tif zlib", "tif big-endian", "tif tiled", "tif big", "tif lzw"])
def test_16_bit_colour_keeps_16_bits(tmp_path, channels, how):
    import cv2

    values = scene(HEIGHT, WIDTH, channels, top=65535, dtype=np.uint16)
    path = tmp_path / ("a.png" if how == "png" else "a.tif")
    if how in ("png", "tif lzw"):
        order = [2, 1, 0, 3][:channels]
        cv2.imwrite(str(path), values[..., order], [cv2.IMWRITE_TIFF_COMPRESSION, 5] if how == "tif lzw" else [])
    else:
        options = {"zlib": {"compression": "zlib"}, "big-endian": {"byteorder": ">"}, "tiled": {"tile": (16, 16)},
                   "big": {"bigtiff": True}}.get(how[4:], {})  # fmt: skip
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(path, values, photometric="rgb", **extra, **options)
    photo, restored, mask, out = through(path)
    assert photo.mode == ("RGB;16", "RGBA;16")[channels - 3]
    if channels == 3:
        assert np.array_equal(photo.rgb, np.rint(values / 257).astype(np.uint8))
    after = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3][:channels]]
    assert after.dtype == np.uint16 and np.array_equal(after[mask == 0], values[mask == 0])
    if channels == 3:
        moved = values.astype(int) + 257 * (restored.astype(int) - photo.rgb)
        assert np.array_equal(after[mask != 0], np.clip(moved, 0, 65535)[mask != 0])
    else:
        assert np.array_equal(after[..., 3], values[..., 3])
    if path.suffix == ".tif":
        with Image.open(path) as old, Image.open(out) as new:
            assert old.info["compression"] == new.info["compression"]
            assert new.tag_v2[258] == (16,) * channels


def test_restored_colours_reach_straight_transparent_pixels(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    values = np.full((4, 4, 4), 100, np.uint8)
    values[..., 3] = [0, 85, 170, 255]
    Image.fromarray(values).save(path)
    photo = read_photo(path)
    restored = photo.rgb - np.uint8(10)
    write_photo(photo, restored, np.ones((4, 4), np.uint8), out)
    assert np.array(Image.open(out))[0].tolist() == [[100, 100, 100, 0], [70, 70, 70, 85], [85, 85, 85, 170], [90, 90, 90, 255]]  # fmt: skip
    assert np.array_equal(read_photo(out).rgb[:, 1:], restored[:, 1:])


def test_a_visible_pixel_never_takes_on_the_transparent_colour(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    values = np.full((2, 2, 3), 50, np.uint8)
    values[0, 0] = 9
    Image.fromarray(values).save(path, transparency=(9, 9, 9))
    photo = read_photo(path)
    assert photo.rgb[0, 0].tolist() == [255, 255, 255]
    write_photo(photo, np.full((2, 2, 3), 9, np.uint8), np.ones((2, 2), np.uint8), out)
    after = np.array(Image.open(out))
    assert after[0, 0].tolist() == [9, 9, 9] and after[1, 1].tolist() == [9, 9, 10]


def test_a_palette_pixel_takes_the_nearest_entry(tmp_path):
    path, out = tmp_path / "a.bmp", tmp_path / "b.bmp"
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, 255, 255, 255])
    image.putdata([0, 3, 3])
    image.save(path)
    photo = read_photo(path)
    write_photo(
        photo, np.array([[[1, 2, 3], [180, 30, 0], [0, 220, 40]]], np.uint8), np.array([[0, 9, 9]], np.uint8), out
    )
    assert np.array(Image.open(out)).tolist() == [[0, 1, 2]]


def test_cmyk_keeps_the_black_and_shows_the_restored_colour(tmp_path):
    path, out = tmp_path / "a.tif", tmp_path / "b.tif"
    image = picture("CMYK")
    image.save(path)
    _, restored, mask, _ = through(path, out)
    before, after = np.array(image), np.array(Image.open(out))
    reachable = restored.max(-1) <= 255 - before[..., 3]
    assert np.array_equal(after[mask == 0], before[mask == 0]) and np.array_equal(
        after[reachable, 3], before[reachable, 3]
    )
    assert np.abs(np.array(Image.open(out).convert("RGB")).astype(int) - restored).max() <= 1


# Metadata.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_the_output_is_upright_and_says_so(tmp_path, ending, orientation):
    path = tmp_path / f"a{ending}"
    options = {"lossless": True} if ending == ".webp" else {"quality": 95} if ending == ".jpg" else {}
    picture("RGB").save(path, exif=exif_bytes(orientation), **options)
    photo, _, mask, out = through(path)
    with Image.open(path) as image:
        wanted = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(photo.rgb, wanted)
    with Image.open(out) as image:
        exif = image.getexif()
        assert exif[0x0112] == 1 and exif[0x010F] == "Maker" and exif[0x8298] == "Somebody"
        assert exif.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05" and exif.get_ifd(0x8825)[1] == "N"
        assert image.size == photo.size
        if ending != ".jpg":
            assert np.array_equal(np.array(image)[mask == 0], wanted[mask == 0])


def segments_of(path):
    """(marker, data) of a JPEG up to its pixels, read here independently."""
    data, at, found = path.read_bytes(), 2, []
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found


@pytest.mark.parametrize("quality", [35, 75, 91, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_tables_sampling_and_every_segment(tmp_path, quality, subsampling, progressive):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, quality=quality, subsampling=subsampling, progressive=progressive, dpi=(300, 200),
                        exif=exif_bytes(1), icc_profile=PROFILE * 30, comment=b"a comment")  # fmt: skip
    data = path.read_bytes()
    photoshop = b"Photoshop 3.0\0" + bytes(range(50))
    more = b"".join(
        struct.pack(">BBH", 255, marker, len(body) + 2) + body
        for marker, body in [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), (0xED, photoshop)]
    )
    path.write_bytes(data[:20] + more + data[20:])
    photo, _, _, out = through(path)
    metadata = [0xFE, *range(0xE0, 0xF0)]
    old, new = segments_of(path), segments_of(out)
    assert [item for item in old if item[0] in metadata] == [item for item in new if item[0] in metadata]
    assert [item for item in old if item[0] in (0xDB, 0xC0, 0xC2)] == [
        item for item in new if item[0] in (0xDB, 0xC0, 0xC2)
    ]
    assert photo.quality == quality and photo.xmp == XMP and photo.icc == PROFILE * 30
    with Image.open(path) as before, Image.open(out) as after:
        assert after.quantization == before.quantization and after.info.get("progressive") == before.info.get(
            "progressive"
        )
        assert JpegImagePlugin.get_sampling(after) == subsampling
        assert after.info["dpi"] == (300, 200) and after.info["comment"] == b"a comment"


def test_a_progressive_jpeg_of_noise_at_full_quality(tmp_path):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=100, subsampling=0)
    data = path.read_bytes()
    photo = read_photo(path)
    photo.details["progressive"] = True
    write_photo(photo, photo.rgb, np.zeros((300, 300), np.uint8), path)
    assert len(path.read_bytes()) > 0.7 * len(data) and Image.open(path).info["progressive"] == 1


@pytest.mark.parametrize("tables", [[[1] * 64], [[2] * 64, [3] * 64, [4] * 64], [[5] * 64, [300] * 64]])
def test_unusual_quantisation_tables_are_kept(tmp_path, tables, capfd):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, qtables=tables)
    capfd.readouterr()  # libjpeg's own caution at coarse tables
    out = through(path)[3]
    assert capfd.readouterr() == ("", "")
    assert [item for item in segments_of(out) if item[0] == 0xDB] == [
        item for item in segments_of(path) if item[0] == 0xDB
    ]


def test_a_cmyk_jpeg_without_adobe_marker_gets_none(tmp_path):
    path = tmp_path / "a.jpg"
    picture("CMYK").save(path, quality=97)
    data = path.read_bytes()
    start = data.index(b"\xff\xee")
    path.write_bytes(data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :])
    _, _, mask, out = through(path)
    assert 0xEE not in dict(segments_of(out))
    difference = np.array(Image.open(out)).astype(int) - np.array(Image.open(path))
    assert np.abs(difference[mask == 0]).mean() < 4


def test_a_given_quality_replaces_the_tables(tmp_path):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, quality=95, subsampling=1)
    _, _, _, out = through(path, quality=40)
    with Image.open(out) as image:
        assert jpeg_quality(image.quantization) == 40 and JpegImagePlugin.get_sampling(image) == 1


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 80, 99, 100])
def test_the_quality_is_estimated_from_the_tables(quality):
    buffer = io.BytesIO()
    picture("RGB").save(buffer, "JPEG", quality=quality)
    assert jpeg_quality(Image.open(buffer).quantization) == quality


def test_a_cmyk_jpeg_keeps_its_adobe_marker_profile_and_inks(tmp_path):
    path = tmp_path / "a.jpg"
    picture("CMYK").save(path, quality=97, icc_profile=CMYK_PROFILE)
    _, _, mask, out = through(path)
    old, new = dict(segments_of(path)), dict(segments_of(out))
    assert new[0xEE] == old[0xEE] and new[0xE2] == old[0xE2] and new[0xDB] == old[0xDB]
    difference = np.array(Image.open(out)).astype(int) - np.array(Image.open(path))
    assert np.abs(difference[mask == 0]).mean() < 4


def test_a_jpeg_stored_as_rgb_keeps_its_colours(tmp_path):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, quality=95, keep_rgb=True)
    _, restored, mask, out = through(path)
    assert dict(segments_of(out))[0xEE] == dict(segments_of(path))[0xEE]
    assert np.abs(np.array(Image.open(out)).astype(int) - restored)[mask == 0].mean() < 2


def test_a_phone_picture_of_several_parts_is_written_as_a_plain_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path, "MPO", save_all=True, append_images=[picture("RGB", (8, 8))])
    assert Image.open(path).format == "MPO"
    photo, _, _, out = through(path)
    assert Image.open(out).format == "JPEG" and photo.mode == "RGB" and len(photo.notes) == 1


def chunks_of(path):
    """(name, data) of a PNG, read here independently."""
    data, at, found = path.read_bytes(), 8, []
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        found.append((body[:4], body[4:]))
        at += 12 + length
    return found


@pytest.mark.parametrize("mode", ["RGB", "P", "LA"])
def test_every_chunk_of_a_png_is_kept_byte_for_byte(tmp_path, mode):
    path = tmp_path / "a.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title")
    info.add_text("Long", "words " * 100, zip=True)
    info.add_itxt("Author", "Zoë", lang="de", tkey="Autor")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    for name, data in [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", struct.pack(">8I", *range(8))),
                       (b"tIME", bytes([7, 229, 1, 2, 3, 4, 5])), (b"prIv", b"private")]:  # fmt: skip
        info.add(name, data)
    options = {"transparency": 2} if mode == "P" else {}
    picture(mode).save(path, pnginfo=info, icc_profile=PROFILE, dpi=(300, 300), exif=exif_bytes(1), **options)
    photo, _, _, out = through(path)
    pixels = (b"IDAT", b"IHDR")
    old, new = chunks_of(path), chunks_of(out)
    assert sorted(item for item in old if item[0] not in pixels) == sorted(
        item for item in new if item[0] not in pixels
    )
    names = [name for name, _ in new]
    assert names[0] == b"IHDR" and names[-1] == b"IEND" and photo.xmp == XMP
    assert all(names.index(name) < names.index(b"IDAT") for name in names if name not in (b"IDAT", b"IEND"))
    if mode == "P":
        assert names.index(b"iCCP") < names.index(b"PLTE") < names.index(b"tRNS")


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_metadata_and_losslessness_are_kept(tmp_path, lossless):
    path = tmp_path / "a.webp"
    picture("RGBA").save(path, lossless=lossless, exact=True, icc_profile=PROFILE, exif=exif_bytes(3), xmp=XMP)
    _, _, _, out = through(path, quality=60)
    with Image.open(out) as image:
        assert image.info["icc_profile"] == PROFILE and image.info["xmp"] == XMP and image.getexif()[0x010F] == "Maker"
    assert (b"VP8L" in out.read_bytes()) is lossless


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "16 bits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_tags_are_kept(tmp_path, compression, byteorder):
    path = tmp_path / "a.tif"
    text = "Füße".encode()
    tags = [(270, 2, len(text) + 1, text + b"\0", True), (33432, 2, 0, "(c) me", True), (700, 1, len(XMP), XMP, True),
            (34675, 7, len(PROFILE), PROFILE, True), (33723, 7, 12, bytes(12), True), (37386, 5, 1, (35, 2), True),
            (65000, 4, 3, (1, 2, 70000), True)]  # fmt: skip
    values = scene(HEIGHT, WIDTH, 3, **({"top": 65535, "dtype": np.uint16} if compression == "16 bits" else {}))
    options = {"photometric": "rgb", "metadata": None, "resolution": (240, 120), "software": "maker"}
    tifffile.imwrite(path, values, extratags=tags, byteorder=byteorder, **options)
    if compression == "tiff_lzw":
        photo = read_photo(path)
        photo.details["compression"] = compression
        out = tmp_path / "out.tif"
        write_photo(photo, *restoration(photo), out)
    else:
        photo, _, _, out = through(path)
    with tifffile.TiffFile(path) as old, tifffile.TiffFile(out) as new:
        for number in (270, 282, 283, 296, 305, 33432, 700, 34675, 33723, 37386, 65000):
            assert new.pages[0].tags[number].value == old.pages[0].tags[number].value, number
    assert photo.xmp == XMP and photo.icc == PROFILE and photo.notes == []


@pytest.mark.parametrize("compression", ["webp", "group4", "tiff_thunderscan"])
def test_a_compression_that_cannot_be_written_is_replaced_and_noted(tmp_path, compression, capfd):
    path, out = tmp_path / "a.tif", tmp_path / "b.tif"
    picture("RGB").save(path)
    photo = read_photo(path)
    photo.details["compression"] = compression  # as a file would say whose codec this libtiff can read but not write
    restored, mask = restoration(photo)
    write_photo(photo, restored, mask, out)
    assert capfd.readouterr() == ("", "")
    assert Image.open(out).info["compression"] == "tiff_adobe_deflate" and np.array_equal(
        np.array(Image.open(out)), restored
    )
    assert len(photo.notes) == 1 and compression in photo.notes[0]


def test_a_bmp_with_transparency_keeps_it(tmp_path):
    import cv2

    path = tmp_path / "a.bmp"
    values = np.array(picture("RGBA"))
    cv2.imwrite(str(path), values[..., [2, 1, 0, 3]])
    photo, _, mask, out = through(path)
    with Image.open(path) as old, Image.open(out) as new:
        assert photo.mode == old.mode == new.mode == "RGBA" and new.info.get("dpi") == old.info.get("dpi")
        assert np.array_equal(np.array(new)[mask == 0], values[mask == 0])


def test_bmp_resolution_is_kept(tmp_path):
    path = tmp_path / "a.bmp"
    picture("RGB").save(path, dpi=(300, 150))
    out = through(path)[3]
    assert out.read_bytes()[38:46] == path.read_bytes()[38:46]


# Conversion.


@pytest.mark.parametrize("target", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(("ending", "mode"), [(".jpg", "RGB"), (".png", "RGB"), (".tif", "RGB"), (".png", "L"), (".bmp", "P"), (".webp", "RGB")])  # fmt: skip
def test_a_conversion_carries_the_metadata_over(tmp_path, ending, mode, target):
    path = tmp_path / f"a{ending}"
    plain = ending == ".bmp" or mode == "L"
    metadata = {} if plain else {"exif": exif_bytes(6), "icc_profile": PROFILE}
    if ending != ".webp":
        metadata["dpi"] = (300, 300)
    picture(mode).save(path, **metadata, **({"lossless": True} if ending == ".webp" else {}))
    out = tmp_path / f"b{output_suffix(path, target)}"
    photo, restored, _, _ = through(path, out, format=target)
    with Image.open(out) as image:
        assert image.format == target.upper() and image.size == photo.size
        difference = np.abs(np.array(image.convert("RGB")).astype(int) - restored).mean()
        exact = mode == "RGB" and target != "jpeg" and (ending, target) != (".jpg", "webp")
        assert difference == 0 if exact else difference < 12
        if not plain:
            assert image.getexif()[0x010F] == "Maker" and image.getexif()[0x0112] == 1
            assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
            assert image.info["icc_profile"] == PROFILE
        if target != "webp" and ending != ".webp":
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_a_conversion_loses_is_noted_or_refused(tmp_path):
    cases = [("RGBA", ".png", "jpeg", None), ("CMYK", ".jpg", "png", "RGB"), ("I;16", ".png", "jpeg", "L"),
             ("I;16", ".tif", "png", "I;16"), ("I;16", ".png", "webp", "RGB"), ("P", ".png", "jpeg", "RGB")]  # fmt: skip
    for mode, ending, target, wanted in cases:
        path, out = tmp_path / f"a{ending}", tmp_path / f"b.{target}"
        picture(mode).save(path, **({"icc_profile": CMYK_PROFILE} if mode == "CMYK" else {}))
        photo = read_photo(path)
        if wanted is None:
            with pytest.raises(ImageError, match=r"^b\.jpeg: a JPEG cannot be transparent: choose PNG or WebP$"):
                write_photo(photo, *restoration(photo), out, format=target)
            assert not out.exists()
            continue
        write_photo(photo, *restoration(photo), out, format=target)
        with Image.open(out) as image:
            assert image.mode == wanted and "icc_profile" not in image.info
        assert bool(photo.notes) == (mode == "CMYK" or (mode != "P" and target != "png"))


@pytest.mark.parametrize(("target", "side"), [("jpeg", 65501), ("webp", 16384)])
def test_a_picture_too_long_for_the_format_is_refused(tmp_path, target, side, capfd):
    path = tmp_path / "a.png"
    Image.new("L", (side, 1)).save(path)
    photo = read_photo(path)
    with pytest.raises(ImageError, match=f"has at most {side - 1} pixels on a side: choose PNG"):
        write_photo(photo, photo.rgb, np.zeros((1, side), np.uint8), tmp_path / "b.x", format=target)
    assert capfd.readouterr() == ("", "")


def test_xmp_survives_every_conversion(tmp_path):
    source = tmp_path / "a.webp"
    picture("RGB").save(source, lossless=True, xmp=XMP)
    for target in ("jpeg", "png"):
        out = tmp_path / f"b{output_suffix(source, target)}"
        through(source, out, format=target)
        assert read_photo(out).xmp == XMP


# Images in memory.


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_an_image_in_memory_comes_back_as_it_was_but_for_the_restoration(mode, orientation):
    image = picture(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info |= {"exif": exif.tobytes(), "note": "mine"}
    before = image.copy()
    photo = from_pil(image)
    assert photo.size == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    restored, mask = restoration(photo)
    result = to_pil(photo, restored, mask)
    assert image == before and image.info == before.info
    assert (result.mode, result.size, result.info) == (image.mode, image.size, image.info)
    assert result.getpalette() == image.getpalette()
    flag = Image.fromarray(mask)
    flag.info["exif"] = exif.tobytes()
    back = {5: 5, 6: 8, 8: 6, 3: 3, 1: 1}[orientation]
    inverse = Image.Exif()
    inverse[0x0112] = back
    flag.info["exif"] = inverse.tobytes()
    where = np.array(ImageOps.exif_transpose(flag)) != 0
    assert np.array_equal(np.array(result)[~where], np.array(image)[~where])
    assert not np.array_equal(np.array(result)[where], np.array(image)[where])


def test_damaged_exif_does_not_keep_an_image_in_memory_out():
    image = picture("RGB")
    image.info["exif"] = b"Exif\0\0YM\0*\0\0\0\x08"
    photo = from_pil(image)
    assert photo.turn == 1 and to_pil(photo, photo.rgb, np.zeros((HEIGHT, WIDTH), np.uint8)) == image


@pytest.mark.parametrize("mode", ["F", "I", "LAB", "HSV", "PA"])
def test_an_image_in_memory_of_another_mode_is_refused(mode):
    with pytest.raises(ImageError, match="not supported: save it as RGB"):
        from_pil(Image.new(mode, (4, 4)))


def test_the_callers_restoration_outside_the_mask_is_not_used(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    picture("RGB").save(path)
    photo = read_photo(path)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3, 4] = 1
    write_photo(photo, np.zeros_like(photo.rgb), mask, out)
    assert ((np.array(Image.open(out)) == 0).all(-1) == (mask != 0)).all()


# Masks.


def test_masks_are_written_and_read(tmp_path):
    mask = scene(HEIGHT, WIDTH)
    write_mask(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L" and np.array_equal(np.array(image), mask)
    assert np.array_equal(read_mask(tmp_path / "mask.png", (WIDTH, HEIGHT)), mask)
    with pytest.raises(ImageError, match=r"^mask.png: the mask is 41 x 30 and the photograph 30 x 41; make"):
        read_mask(tmp_path / "mask.png", (HEIGHT, WIDTH))
    picture("LA").save(tmp_path / "clear.png")
    with pytest.raises(ImageError, match="transparent in places"):
        read_mask(tmp_path / "clear.png", (WIDTH, HEIGHT))


# Bad files.


def png(width, height, bits=8, colour=2, extra=b""):
    """A PNG header over next to no pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bad_files(folder):
    """Files that cannot be used, and a piece of the message each must give."""
    buffer = io.BytesIO()
    picture("RGB").save(buffer, "JPEG")
    text = zlib.compress(b"a" * (1 << 24))
    bomb = struct.pack(">I", len(text) + 3) + b"zTXtk\0\0" + text
    bomb += struct.pack(">I", zlib.crc32(bomb[4:]))
    contents = {
        "empty.jpg": (b"", "the file is empty"),
        "short.jpg": (buffer.getvalue()[:-300], "not a readable image"),
        "stub.jpg": (buffer.getvalue()[:4], "not a readable image"),
        "text.png": (b"no picture at all, only words", "not an image of a known format"),
        "huge.png": (png(60000, 60000), "60000 x 60000 is over the limit of 250 megapixels"),
        "huge16.png": (png(60000, 60000, 16), "over the limit of 250 megapixels"),
        "big.png": (png(15000, 15000), "not a readable image"),
        "none.png": (png(0, 5), "0 x 5 is no picture"),
        "grey16.png": (png(5, 5, 16, 4), "16-bit grey with transparency is not supported"),
        "text bomb.png": (png(5, 5, extra=bomb), "not a readable image"),
        "huge.webp": (b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(8), "over the limit"),
        "huge.bmp": (b"BM" + bytes(8) + struct.pack("<IIIIHHIIIIII", 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0), "over the limit"),
    }  # fmt: skip
    for name, (data, message) in contents.items():
        (folder / name).write_bytes(data)
        yield name, message
    picture("RGB").save(folder / "a.jpg", "PNG")
    yield "a.jpg", "a.jpg is a PNG file: rename it to .png"
    picture("RGB").save(folder / "noend", "JPEG")
    yield "noend", "noend is a JPEG file: rename it to .jpg"
    frames = {"save_all": True, "append_images": [picture("RGB").rotate(9), picture("RGB").rotate(20)]}
    for name, what in [("moving.png", "frames"), ("moving.webp", "frames"), ("pages.tif", "pages")]:
        picture("RGB").save(folder / name, **frames)
        yield name, f"{name}: has 3 {what}"
    Image.new("F", (4, 4)).save(folder / "float.tif")
    yield "float.tif", "32-bit float pixels are not supported: save it as RGB with 8 or 16 bits a channel"
    Image.new("I", (4, 4)).save(folder / "integer.tif")
    yield "integer.tif", "32-bit integer pixels are not supported"
    (folder / "folder.jpg").mkdir()
    yield "folder.jpg", "a folder, not an image"
    os.mkfifo(folder / "pipe.jpg")
    yield "pipe.jpg", "not a regular file"
    yield "missing.jpg", "there is no such file"
    for name in ("line\nbreak.jpg", "\x1b[31mred.jpg", "\U0001f600.jpg", os.fsdecode(b"\xff\xfe.jpg")):
        (folder / name).write_bytes(b"\xff\xd8\xff\xe0")
        yield name, "not a readable image"


def test_a_bad_file_gives_one_line_that_names_it(tmp_path, capfd, recwarn):
    for name, message in bad_files(tmp_path):
        with pytest.raises(ImageError) as raised:
            read_photo(tmp_path / name)
        line = str(raised.value)
        assert message in line and line.isprintable() and len(line.splitlines()) == 1, line
        assert not line.isascii() or Path(name).name.encode("ascii", "ignore").decode().strip("\n\x1b")[:3] in line
        assert str(tmp_path) not in line and raised.value.__cause__ is None
    assert capfd.readouterr() == ("", "") and len(recwarn) == 0


def test_every_truncation_is_refused(tmp_path, capfd):
    for ending, options in [(".jpg", {}), (".png", {}), (".webp", {"lossless": True}), (".tif", {}), (".bmp", {}),
                            (".tif", {"compression": "tiff_lzw"}), (".tif", {"compression": "jpeg"})]:  # fmt: skip
        buffer = io.BytesIO()
        picture("RGB").save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(ending, ending[1:]), **options)
        data = buffer.getvalue()
        for length in (1, 10, 30, 60, len(data) // 2, len(data) - 100):
            (tmp_path / f"a{ending}").write_bytes(data[:length])
            with pytest.raises(ImageError):
                read_photo(tmp_path / f"a{ending}")
    assert capfd.readouterr() == ("", "")


def test_a_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path)
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ImageError, match=r"^a\.jpg: no permission to read it$"):
        read_photo(path)


# Failing writes.


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    picture("RGB", (300, 300)).save(tmp_path / "a.bmp")
    code = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from wmremoval.images import ImageError
from wmremoval.photofile import read_photo
from wmremoval.photowrite import write_photo
folder = Path(sys.argv[1])
photo = read_photo(folder / "a.bmp")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    write_photo(photo, photo.rgb, np.zeros((300, 300), np.uint8), folder / "b.bmp")
except ImageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "b.bmp: cannot be written as BMP (File too large)\n" and done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a.bmp"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    data = path.read_bytes()
    photo = read_photo(path)

    def fail(*_):
        assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".") and item.suffix == ".part"]
        raise error

    monkeypatch.setattr(photowrite.os, "replace", fail)
    with pytest.raises((ImageError, KeyboardInterrupt)):
        write_photo(photo, *restoration(photo), path)
    assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_said_in_one_line(tmp_path):
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    photo = read_photo(path)
    with pytest.raises(ImageError, match=r"^b\.png: cannot be written as PNG \(No such file or directory\)$"):
        write_photo(photo, *restoration(photo), tmp_path / "nowhere" / "b.png")


def test_reading_needs_no_more_memory_than_the_header_allows(tmp_path):
    """A header of 240 megapixels over no data must not fill the memory."""
    (tmp_path / "a.png").write_bytes(png(16000, 15000, 16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError):
        read_photo(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_300_000  # KB


@pytest.mark.parametrize(("path", "format", "wanted"), [("a.JPG", "keep", ".JPG"), ("a.jpeg", "jpeg", ".jpeg"), ("a.png", "jpeg", ".jpg"), ("a.tif", "webp", ".webp")])  # fmt: skip
def test_output_suffix(path, format, wanted):
    assert output_suffix(path, format) == wanted


def test_an_index_into_the_pixels_of_a_png_is_left_out_and_a_file_without_end_refused(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    picture("L").save(path)
    data = path.read_bytes()
    index = b"iDOT" + bytes(28)
    path.write_bytes(data[:33] + struct.pack(">I", 28) + index + struct.pack(">I", zlib.crc32(index)) + data[33:])
    through(path, out)
    assert b"iDOT" in path.read_bytes() and b"iDOT" not in out.read_bytes()
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ImageError, match="the file ends before its last chunk"):
        read_photo(path)


def test_an_image_in_memory_is_written_with_its_profile(tmp_path):
    image = picture("RGB")
    image.info |= {"icc_profile": PROFILE, "exif": exif_bytes(6)}
    photo = from_pil(image)
    write_photo(photo, photo.rgb, np.zeros(photo.rgb.shape[:2], np.uint8), tmp_path / "a.png", format="png")
    with Image.open(tmp_path / "a.png") as new:
        assert new.info["icc_profile"] == PROFILE and new.getexif()[0x010F] == "Maker" and new.getexif()[0x0112] == 1
        assert np.array_equal(np.array(new), photo.rgb)
    with pytest.raises(ValueError, match="no format to keep"):
        write_photo(photo, photo.rgb, np.zeros(photo.rgb.shape[:2], np.uint8), tmp_path / "b.png")


def test_two_bit_grey_keeps_its_key_colour_apart(tmp_path):
    """Levels, key and samples of few bits are in the file's own scale."""
    from wmremoval.pixelkinds import PixelKind, put_back, see

    kind = PixelKind("grey", 2, key=(3,))
    native = np.array([[[0], [3], [2]]], np.uint8)
    assert see(kind, native)[0, :, 0].tolist() == [0, 255, 170]
    white = np.full((1, 3, 3), 255, np.uint8)
    assert put_back(kind, native, white, np.ones((1, 3), np.uint8))[0, :, 0].tolist() == [2, 3, 2]

"""Metadata, tables and sampling come back byte for byte."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin
from scenes import CMYK_PROFILE, HEIGHT, PROFILE, WIDTH, XMP, exif_bytes, picture, restoration, scene, through

from wmremoval.images import ImageError
from wmremoval.photofile.jpeg import jpeg_quality
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo


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


def tables_of(segments):
    """The quantisation tables, however they are spread over segments."""
    return b"".join(data for marker, data in segments if marker == 0xDB)


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
    assert [item for item in old if item[0] in (0xC0, 0xC2)] == [item for item in new if item[0] in (0xC0, 0xC2)]
    assert tables_of(old) == tables_of(new)
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
    assert tables_of(segments_of(out)) == tables_of(segments_of(path))


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

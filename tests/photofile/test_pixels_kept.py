"""What a photograph file holds comes back in its own pixels: modes, sizes, bits, transparency."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from scenes import HEIGHT, WIDTH, picture, scene, through

from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

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


def test_two_bit_grey_keeps_its_key_colour_apart(tmp_path):
    """Levels, key and samples of few bits are in the file's own scale."""
    from wmremoval.photofile.convert import restored_samples, to_rgb
    from wmremoval.photofile.pixels import PixelKind

    kind = PixelKind("grey", 2, key=(3,))
    native = np.array([[[0], [3], [2]]], np.uint8)
    assert to_rgb(kind, native)[0, :, 0].tolist() == [0, 255, 170]
    white = np.full((1, 3, 3), 255, np.uint8)
    assert restored_samples(kind, native, white, np.ones((1, 3), np.uint8))[0, :, 0].tolist() == [2, 3, 2]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def grey_with_alpha(path, values):
    """A PNG of 16-bit grey with alpha, written here independently."""
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 4, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def test_16_bit_grey_with_alpha_keeps_its_samples(tmp_path):
    import cv2

    path = tmp_path / "a.png"
    values = scene(HEIGHT, WIDTH, 2, top=65535, dtype=np.uint16)
    values[:8, :, 1], values[8:20, :, 1] = 0, 65535
    grey_with_alpha(path, values)
    photo, restored, mask, out = through(path)
    assert photo.mode == "LA;16" and photo.notes == []
    after = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert out.read_bytes()[24:26] == bytes([16, 4]) and after.dtype == np.uint16
    assert np.array_equal(after[..., [0, 3]][mask == 0], values[mask == 0])
    assert np.array_equal(after[..., 3], values[..., 1])
    opaque = (mask != 0) & (values[..., 1] == 65535)
    wanted = np.asarray(Image.fromarray(restored).convert("L"))[opaque].astype(int)
    assert np.abs(after[..., 0][opaque] / 257 - wanted).max() <= 1.1 and opaque.sum() > 100


@pytest.mark.parametrize("quality", [1, 30, 60, 75, 80, 90, 100])
def test_a_lossy_webp_keeps_its_quality(tmp_path, quality):
    path, out = tmp_path / "a.webp", tmp_path / "b.webp"
    picture("RGB", (160, 120)).save(path, quality=quality)
    photo = read_photo(path)
    assert abs(photo.details["quality"] - quality) <= 1 and not photo.details["lossless"]
    write_photo(photo, photo.rgb, np.zeros((120, 160), np.uint8), out)
    assert abs(read_photo(out).details["quality"] - quality) <= 1
    assert 0.75 < out.stat().st_size / path.stat().st_size < 1.1


def test_an_interlaced_png_is_read_and_written_without_interlacing(tmp_path):
    path = tmp_path / "a.png"
    values = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(
        b"\0" + row.tobytes() for top, left, down, across in passes for row in values[top::down, left::across]
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    photo = read_photo(path)
    assert np.array_equal(photo.rgb, values)
    write_photo(photo, values, np.ones((8, 8), np.uint8), tmp_path / "b.png")
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), values)
    assert photo.notes == ["the PNG is written without interlacing"]

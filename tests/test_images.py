"""Reading, converting and writing images, against hand-made pixels."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from wmremoval.images import ImageError, as_jpeg, read_image, to_image, to_tensor, to_uint8, write_image

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 70, 3), dtype=np.uint8)  # no symmetry, so that any wrong turn shows

# EXIF orientation to what brings the stored pixels upright (EXIF 2.32, table 6)
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def oriented(orientation, **tags):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(width, height, body=b""):
    """A PNG whose header declares any size, however little data follows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def refusal(path, **options) -> str:
    """What is said of a file that is refused: one line that names it, and no warning besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            read_image(path, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path.parent) not in message
    name, reason = message.split(": ", 1)
    assert name == path.name
    return reason


# Reading


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_the_pixels_upright(tmp_path, orientation):
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=oriented(orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), UPRIGHT[orientation](NOISE))
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=oriented(orientation))
    Image.fromarray(NOISE).save(tmp_path / "plain.jpg")
    stored = np.asarray(Image.open(tmp_path / "plain.jpg"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), UPRIGHT[orientation](stored))


def test_a_wrongly_typed_exif_tag_does_not_keep_a_photograph_from_being_read(tmp_path):
    # An orientation of 6 and a text where tag 262 wants a number: Pillow's exif_transpose cannot write such tags back.
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHI4s", 262, 2, 4, b"cam\0")
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + struct.pack(">I", 0)
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=block)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), UPRIGHT[6](NOISE))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_the_three_formats_decode_to_the_pixels_that_were_written(tmp_path, ending):
    smooth = np.ascontiguousarray(data.chelsea()[:96, :128])
    Image.fromarray(smooth).save(tmp_path / f"a.{ending}", quality=95)
    image = read_image(tmp_path / f"a.{ending}")
    assert image.dtype == np.uint8 and image.shape == (96, 128, 3)
    assert np.abs(image.astype(int) - smooth).mean() < (1e-9 if ending == "png" else 4)


def test_cmyk_jpeg_gives_the_colours_it_prints(tmp_path):
    # red, green, black, white
    inks = np.array([[0, 255, 255, 0], [255, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]], np.uint8)
    cmyk = np.repeat(inks, 32, axis=0)[None].repeat(32, axis=0)  # (32, 128, 4)
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.jpg", quality=95)
    seen = read_image(tmp_path / "a.jpg")[16, 16::32].astype(int)
    np.testing.assert_allclose(seen, [[255, 0, 0], [0, 255, 0], [0, 0, 0], [255, 255, 255]], atol=4)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_greyscale_gives_three_equal_channels(tmp_path, ending):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    Image.fromarray(ramp).save(tmp_path / f"a.{ending}", quality=100)
    image = read_image(tmp_path / f"a.{ending}")
    assert (image == image[..., :1]).all()
    np.testing.assert_allclose(image[..., 0].astype(int), ramp, atol=0 if ending == "png" else 2)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (8, 1))  # the 16-bit twin of level k is 257 k
    Image.fromarray(ramp).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode != "L"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), (ramp // 257)[..., None].repeat(3, axis=2))


def test_palette_pictures_show_their_colours(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    picture.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == (10, 200, 30)).all()
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "b.png", transparency=0)
    image = read_image(tmp_path / "b.png")
    assert image[0, 0].tolist() == [255, 255, 255] and image[1, 1].tolist() == [10, 200, 30]


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((4, 3, 4), np.uint8)
    rgba[..., :3] = (200, 100, 0)
    rgba[:, 0, 3], rgba[:, 1, 3], rgba[:, 2, 3] = 0, 102, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    # at alpha 102 / 255 = 0.4: 0.4 c + 0.6 * 255
    row = read_image(tmp_path / "a.png")[0].astype(int)
    np.testing.assert_allclose(row, [[255, 255, 255], [233, 193, 153], [200, 100, 0]], atol=1)
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "grey.png")
    np.testing.assert_allclose(read_image(tmp_path / "grey.png")[0, :, 0].astype(int), [255, 153, 0], atol=1)


@pytest.mark.parametrize("size", [(640, 401), (401, 640), (1000, 333), (90, 90)])
@pytest.mark.parametrize("shrink_to", [32, 50, 100, 101, 200])
def test_shrinking_never_goes_below_the_requested_size(tmp_path, size, shrink_to):
    Image.new("RGB", size).save(tmp_path / "a.jpg", exif=oriented(6))
    height, width = read_image(tmp_path / "a.jpg", shrink_to=shrink_to).shape[:2]
    assert min(height, width) >= min(shrink_to, *size)
    assert (width >= height) == (size[1] >= size[0])  # upright, so the sides are exchanged
    if min(size) >= 2 * shrink_to:
        assert min(height, width) < 2.1 * shrink_to  # libjpeg rounds up


def test_a_shrunken_photograph_is_the_photograph_averaged(tmp_path):
    cat = np.ascontiguousarray(data.chelsea()[:256, :448])
    Image.fromarray(cat).save(tmp_path / "a.jpg", quality=95)
    shrunken = read_image(tmp_path / "a.jpg", shrink_to=60)
    averaged = cat.reshape(64, 4, 112, 4, 3).mean(axis=(1, 3))
    assert shrunken.shape == averaged.shape
    assert np.abs(shrunken - averaged).mean() < 3


# Refusing


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_truncated_files_are_refused(tmp_path, ending):
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    Image.fromarray(NOISE).save(whole)
    content = whole.read_bytes()
    for share in (0.02, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        assert refusal(path)
    assert read_image(whole).shape == NOISE.shape


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"no photograph\nbut two lines\n", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"]
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_files_that_are_no_images_are_refused(tmp_path, content, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    assert refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert refusal(tmp_path / "nothing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert refusal(tmp_path / "folder.jpg")


def test_pictures_below_the_shortest_side_are_refused(tmp_path):
    Image.new("RGB", (200, 63)).save(tmp_path / "a.png")
    reason = refusal(tmp_path / "a.png", min_side=64)
    assert "200 x 63" in reason and "64" in reason
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", min_side=64).shape == (64, 64, 3)


def test_pictures_over_the_pixel_limit_are_refused(tmp_path):
    Image.new("RGB", (100, 51)).save(tmp_path / "a.jpg")
    assert "100 x 51" in refusal(tmp_path / "a.jpg", max_pixels=5099)
    assert read_image(tmp_path / "a.jpg", max_pixels=5100).shape == (51, 100, 3)


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])  # over ours; over Pillow's warning; over Pillow's error
def test_an_absurd_size_is_refused_by_the_header_alone(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png(side, side))  # has no pixels: decoding would say so instead
    assert "over the limit of 100 megapixels" in refusal(tmp_path / "bomb.png")


def test_random_damage_gives_an_image_or_an_image_error(tmp_path):
    plain, rng = {}, np.random.default_rng(1)
    for ending in ("jpg", "png", "webp"):
        Image.fromarray(NOISE).save(tmp_path / f"a.{ending}", exif=oriented(6))
        plain[ending] = np.frombuffer((tmp_path / f"a.{ending}").read_bytes(), np.uint8)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about corrupt EXIF
        for trial in range(600):
            ending = ("jpg", "png", "webp")[trial % 3]
            content = plain[ending].copy()
            places = rng.integers(0, min(len(content), 300 if trial % 2 else len(content)), rng.integers(1, 5))
            content[places] = rng.integers(0, 256, len(places))
            (tmp_path / f"a.{ending}").write_bytes(content.tobytes())
            try:
                image = read_image(tmp_path / f"a.{ending}")
            except ImageError:
                refused += 1
            else:
                assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert 60 < refused < 600


# Converting


def test_rounding_goes_to_the_nearest_level_and_clips():
    levels = np.arange(256)
    for shift in (-0.49, -0.1, 0.0, 0.1, 0.49):
        np.testing.assert_array_equal(to_uint8((levels + shift) / 255), levels)
    assert to_uint8(np.array([-np.inf, -0.2, 1.2, np.inf])).tolist() == [0, 0, 255, 255]


def test_rounding_costs_a_quarter_of_what_truncation_would():
    """At 40 dB rounding leaves 39.94 dB, truncation 39.78: the error grows by 1/12 or by 1/3 of a squared level."""
    clean = RNG.uniform(0.2, 0.8, (500, 500))
    noisy = clean + RNG.normal(0, 0.01, clean.shape)
    measured = -10 * np.log10(np.mean((to_uint8(noisy) / 255.0 - clean) ** 2))
    assert measured == pytest.approx(-10 * np.log10(1e-4 + 1 / 12 / 255**2), abs=0.04)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_levels_survive_rounding_in_every_precision(dtype):
    levels = np.arange(256)
    np.testing.assert_array_equal(to_uint8((levels / 255.0).astype(dtype)), levels)


def test_all_levels_survive_the_way_to_a_tensor_and_back():
    levels = np.arange(256, dtype=np.uint8)
    image = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1).reshape(8, 32, 3)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32 and tensor.shape == (3, 8, 32) and tensor.is_contiguous()
    assert tensor[1, 2, 5].item() == np.float32(image[2, 5, 1]) / np.float32(255)
    assert tensor.min() == 0.0 and tensor.max() == 1.0
    np.testing.assert_array_equal(to_image(tensor), image)


def test_grey_maps_keep_their_shape_there_and_back():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert to_tensor(grey).shape == (1, 2, 3)
    np.testing.assert_array_equal(to_image(to_tensor(grey)), grey)


def test_a_tensor_does_not_share_memory_with_its_image():
    image = NOISE.copy()
    to_tensor(image).zero_()
    np.testing.assert_array_equal(image, NOISE)


def test_images_come_out_of_any_float_tensor():
    tensor = to_tensor(NOISE)
    np.testing.assert_array_equal(to_image(tensor.clone().requires_grad_()), NOISE)
    np.testing.assert_array_equal(to_image(tensor.half()), NOISE)
    np.testing.assert_array_equal(to_image(tensor.flip(-1)), NOISE[:, ::-1])


def test_views_with_negative_strides_become_tensors():
    np.testing.assert_array_equal(to_image(to_tensor(NOISE[..., ::-1])), NOISE[..., ::-1])


def test_float_images_are_refused():
    with pytest.raises(TypeError, match="float64"):
        to_tensor(NOISE / 255.0)


# Writing


def test_a_written_image_reads_back_and_nothing_else_is_left(tmp_path):
    for name in ("a.png", "b.PNG", "c.jpg"):
        write_image(tmp_path / name, NOISE)
    write_image(str(tmp_path / "d.webp"), NOISE, lossless=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.PNG", "c.jpg", "d.webp"]
    for name in ("a.png", "b.PNG", "d.webp"):
        np.testing.assert_array_equal(read_image(tmp_path / name), NOISE)
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.format == "JPEG"


def test_options_reach_the_encoder(tmp_path):
    write_image(tmp_path / "fine.jpg", NOISE, quality=95)
    write_image(tmp_path / "coarse.jpg", NOISE, quality=10)
    assert (tmp_path / "fine.jpg").stat().st_size > 2 * (tmp_path / "coarse.jpg").stat().st_size


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_image(tmp_path / "old.png", NOISE)

    def fail(self, path, *args, **options):
        with open(path, "wb") as file:
            file.write(b"half an image")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    for name in ("old.png", "new.png"):
        with pytest.raises(OSError, match="disk full"):
            write_image(tmp_path / name, 255 - NOISE)
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "old.png"), NOISE)


def test_a_file_is_replaced_only_by_a_whole_one_in_the_same_folder(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.png", []
    write_image(path, NOISE)
    replace = os.replace

    def watch(source, target):
        seen.append(1)
        assert os.path.dirname(source) == os.path.dirname(target)
        np.testing.assert_array_equal(np.asarray(Image.open(source, formats=["PNG"])), 255 - NOISE)
        np.testing.assert_array_equal(read_image(target), NOISE)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_image(path, 255 - NOISE)
    assert len(seen) == 1
    np.testing.assert_array_equal(read_image(path), 255 - NOISE)


def test_a_jpeg_of_an_image_is_near_pillows_and_keeps_the_order_of_the_channels():
    image = data.astronaut()[:64, 100:180]
    for picture in (image, np.ascontiguousarray(image[..., 1])):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=80)
        wanted = np.asarray(Image.open(buffer)).astype(int)
        compressed = as_jpeg(picture, 80)
        assert compressed.shape == picture.shape and compressed.dtype == np.uint8
        assert np.abs(compressed - wanted).mean() < 1.0 < np.abs(as_jpeg(picture, 10) - wanted).mean()

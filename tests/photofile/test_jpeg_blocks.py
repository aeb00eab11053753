"""JPEG in, JPEG out: blocks that the mask does not touch keep their coefficients; size, sampling and coding stay."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from scenes import exif_bytes, restoration, scene

from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

SIZE = (147, 106)  # no multiple of a block
BOX = (37, 21, 81, 60)
SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:1:1": 0x411111, "4:4:0": 0x121111}


def smooth(size=SIZE):
    """A picture whose colours vary slowly, with some noise."""
    values = cv2.GaussianBlur(scene(size[1], size[0], 3), (0, 0), 2).astype(int)
    return np.clip(values + np.random.default_rng(3).integers(-6, 7, values.shape), 0, 255).astype(np.uint8)


def save(path, sampling, size=SIZE, **options):
    if sampling in SAMPLINGS:
        flags = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], cv2.IMWRITE_JPEG_QUALITY, 88]
        flags += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(options.get("progressive", False))]
        cv2.imwrite(str(path), smooth(size)[..., ::-1], flags)
    else:
        image = Image.fromarray(smooth(size))
        image = image.convert("L") if sampling == "grey" else image
        image.save(path, quality=88, **options, **({"keep_rgb": True} if sampling == "rgb" else {}))


def around(mask, sampling):
    """The pixels of the blocks that a mask touches, and one more that chroma is spread to."""
    step = {"4:4:4": 8, "grey": 8, "rgb": 8}.get(sampling, 32 if sampling == "4:1:1" else 16)
    touched = np.zeros_like(mask)
    for top in range(0, mask.shape[0], step):
        for left in range(0, mask.shape[1], step):
            block = np.s_[top : top + step, left : left + step]
            touched[block] = 255 * mask[block].any()
    return cv2.dilate(touched, np.ones((5, 5), np.uint8)) != 0


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey", "rgb"])
def test_pixels_outside_the_touched_blocks_are_the_same(tmp_path, sampling, progressive):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    save(path, sampling, progressive=progressive)
    photo = read_photo(path)
    restored, mask = restoration(photo, BOX)
    write_photo(photo, restored, mask, out)
    with Image.open(path) as old, Image.open(out) as new:
        assert new.mode == old.mode and new.layer == old.layer and new.quantization == old.quantization
        assert new.info.get("progressive") == old.info.get("progressive")
        assert JpegImagePlugin.get_sampling(new) == JpegImagePlugin.get_sampling(old)
        before, after = np.asarray(old), np.asarray(new)
    touched = around(mask, sampling)
    assert np.array_equal(before[~touched], after[~touched]) and not touched.all()
    again = read_photo(out)
    step = 8 if sampling in ("4:4:4", "grey", "rgb") else 16
    left, top, right, bottom = BOX
    inner = np.s_[top + step : bottom - step, left + step : right - step]
    wanted = restored[inner].astype(int)
    if sampling == "grey":
        wanted = np.asarray(Image.fromarray(restored).convert("L").convert("RGB"))[inner].astype(int)
    assert np.abs(again.rgb[inner] - wanted).mean() < 4
    assert photo.notes == []


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_keeps_its_blocks_if_it_fills_them(tmp_path, orientation, progressive):
    path, out, size = tmp_path / "a.jpg", tmp_path / "b.jpg", (160, 112)
    Image.fromarray(smooth(size)).save(
        path, quality=88, subsampling=1, progressive=progressive, exif=exif_bytes(orientation)
    )
    photo = read_photo(path)
    restored, mask = restoration(photo, BOX)
    write_photo(photo, restored, mask, out)
    again = read_photo(out)
    touched = around(mask, "4:2:2")
    difference = np.abs(again.rgb.astype(int) - photo.rgb)
    # Turned coefficients are exact; decoders round pixels and spread chroma not quite alike in all directions.
    assert difference[~touched].max() <= 3 and difference[~touched].mean() < 0.25
    assert np.abs(again.rgb.astype(int) - restored)[mask != 0].mean() < 5
    with Image.open(path) as old, Image.open(out) as new:
        assert new.size == photo.size and new.info.get("progressive") == old.info.get("progressive")
        tables = np.array([old.quantization[0], new.quantization[0]]).reshape(2, 8, 8)
        assert np.array_equal(tables[1], tables[0].T if orientation >= 5 else tables[0])
    assert photo.notes == []


def test_a_turned_picture_that_does_not_fill_its_blocks_is_coded_anew(tmp_path):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(smooth()).save(path, quality=88, exif=exif_bytes(6))
    photo = read_photo(path)
    restored, mask = restoration(photo, BOX)
    write_photo(photo, restored, mask, out)
    assert np.abs(read_photo(out).rgb.astype(int) - restored).mean() < 4


def test_writing_the_result_again_changes_nothing(tmp_path):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    save(path, "4:2:0")
    photo = read_photo(path)
    write_photo(photo, photo.rgb, np.zeros(photo.rgb.shape[:2], np.uint8), out)
    assert np.array_equal(read_photo(out).rgb, photo.rgb)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_noisy_file_keeps_its_size(tmp_path, progressive):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=85, optimize=True, progressive=progressive)
    photo = read_photo(path)
    write_photo(photo, *restoration(photo, BOX), out)
    assert 0.9 < out.stat().st_size / path.stat().st_size < 1.03
    assert bool(Image.open(out).info.get("progressive")) == progressive


def without_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "jpeglib", None)


@pytest.mark.parametrize("optimised", [False, True])
def test_without_the_library_the_whole_file_is_coded_anew_with_a_note(tmp_path, monkeypatch, optimised):
    without_library(monkeypatch)
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=85, optimize=optimised)
    photo = read_photo(path)
    restored, mask = restoration(photo, BOX)
    write_photo(photo, restored, mask, out)
    assert photo.notes == [
        "the JPEG is coded anew as a whole, since its blocks could not be copied (the package jpeglib is not installed)"
    ]
    assert 0.9 < out.stat().st_size / path.stat().st_size < 1.03
    assert Image.open(out).quantization == Image.open(path).quantization


def test_restored_blocks_are_as_good_as_those_of_pillow(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(path, quality=88, subsampling=0)
    errors = []
    for index in range(2):
        photo = read_photo(path)
        restored, mask = restoration(photo, BOX)
        write_photo(photo, restored, mask, tmp_path / f"{index}.jpg")
        errors.append(
            np.mean((read_photo(tmp_path / f"{index}.jpg").rgb[mask != 0].astype(float) - restored[mask != 0]) ** 2)
        )
        without_library(monkeypatch)
    assert errors[0] <= 1.2 * errors[1]  # mean squares of about 3 grey levels


def test_a_large_plain_photograph_restored_in_place_keeps_its_blocks(tmp_path):
    """The original pixels are gone by then: the caller may have written into them."""
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    save(path, "4:2:0")
    photo = read_photo(path)
    before = photo.rgb.copy()
    restored, mask = restoration(photo, BOX)
    photo.rgb[...] = restored
    write_photo(photo, photo.rgb, mask, out)
    touched = around(mask, "4:2:0")
    assert np.array_equal(read_photo(out).rgb[~touched], before[~touched])


def test_only_the_picture_goes_through_the_library(tmp_path):
    from wmremoval.photofile.jpeg import picture_only

    buffer = io.BytesIO()
    Image.fromarray(smooth()).save(buffer, "JPEG", exif=exif_bytes(1), icc_profile=b"p" * 90000, comment=b"c")
    data = picture_only(buffer.getvalue() + b"more")
    assert b"Exif" not in data and b"ICC_PROFILE" not in data and data.endswith(b"\xff\xd9")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(Image.open(buffer)))

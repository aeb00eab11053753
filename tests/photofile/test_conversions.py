"""Other formats, images in memory, and masks."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from scenes import CMYK_PROFILE, HEIGHT, PROFILE, WIDTH, XMP, exif_bytes, picture, restoration, scene, through

from wmremoval.images import ImageError
from wmremoval.photofile.read import from_pil, read_photo, to_pil
from wmremoval.photofile.write import output_suffix, write_mask, write_photo


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


def test_masks_are_written_as_8_bit_grey(tmp_path):
    mask = scene(HEIGHT, WIDTH)
    write_mask(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L" and np.array_equal(np.array(image), mask)


@pytest.mark.parametrize(("path", "format", "wanted"), [("a.JPG", "keep", ".JPG"), ("a.jpeg", "jpeg", ".jpeg"), ("a.png", "jpeg", ".jpg"), ("a.tif", "webp", ".webp")])  # fmt: skip
def test_output_suffix(path, format, wanted):
    assert output_suffix(path, format) == wanted


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

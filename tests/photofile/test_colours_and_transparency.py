"""Wide gamut, HDR and translucent marks: seen as sRGB over a ground they stand out from, restored in the file's own space."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageDraw
from scenes import PROFILE, restoration, scene, through

from wmremoval.images import ImageError
from wmremoval.photofile.colourspace import space_of_codes, space_of_profile
from wmremoval.photofile.read import from_pil, read_photo, to_pil
from wmremoval.photofile.write import write_photo

# Colorants adapted to D50, and gamma: Apple's Display P3 (with the curve of sRGB), Adobe RGB (1998), ROMM RGB (ProPhoto).
SPACES = {
    "p3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 0),
    "adobe": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 563 / 256),
    "prophoto": ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491), 1.8),
}


def profile(name, points=0):
    """An ICC profile of three colorants, and a gamma, a table of points, or the curve of sRGB."""
    *colorants, gamma = SPACES[name]
    if points:
        values = np.rint(65535 * np.linspace(0, 1, points) ** gamma).astype(">u2").tobytes()
        curve = b"curv\0\0\0\0" + struct.pack(">I", points) + values
    elif gamma:
        curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    else:
        numbers = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]
        curve = b"para\0\0\0\0" + struct.pack(">HH5i", 3, 0, *(round(n * 65536) for n in numbers))
    tags = [(a, b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in c)))
            for a, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)]  # fmt: skip
    tags += [(a, curve) for a in (b"rTRC", b"gTRC", b"bTRC")]
    tags += [(b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))]
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", tag, at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def lcms(values, icc):
    """uint8 sRGB of uint8 samples, by Little CMS."""
    there = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = ImageCms.profileToProfile(Image.fromarray(values), there, ImageCms.createProfile("sRGB"), 1)
    return np.asarray(image)


@pytest.mark.parametrize(("name", "points"), [("p3", 0), ("adobe", 0), ("prophoto", 0), ("prophoto", 1024)])
def test_the_view_is_that_of_little_cms_and_the_way_back_is_its_inverse(name, points):
    icc = profile(name, points)
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    space = space_of_profile(icc)
    view = space.to_srgb(values, 255)
    assert np.abs(view.astype(int) - lcms(values, icc)).max() <= 2
    inside = ((view > 0) & (view < 255)).all(-1)
    back = space.from_srgb(view)[inside] * 255
    assert np.abs(back - values[inside]).mean() < 0.6 and inside.sum() > 500
    deep = values.astype(np.uint16) * 257
    assert np.array_equal(space.to_srgb(deep, 65535), view)


def test_srgb_and_its_likes_and_damaged_profiles_are_taken_as_srgb():
    for icc in (PROFILE, b"", b"x" * 200, profile("p3")[:140], PROFILE[:16] + b"GRAY" + PROFILE[20:]):
        assert space_of_profile(icc) is None


@pytest.mark.parametrize("name", ["p3", "adobe", "prophoto"])
@pytest.mark.parametrize("how", ["png", "tif 16", "png 16", "jpg", "webp", "memory"])
def test_wide_gamut_is_restored_in_its_own_space_and_depth(tmp_path, how, name):
    icc, deep = profile(name), how.endswith("16")
    ending = how.split()[0]
    path, out = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    values = scene(80, 96, 3, top=65535 if deep else 255, dtype=np.uint16 if deep else np.uint8)
    values = cv2.GaussianBlur(values, (0, 0), 3)
    if how == "tif 16":
        tifffile.imwrite(path, values, photometric="rgb", iccprofile=icc, metadata=None)
    elif how == "png 16":
        data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
        body = b"iCCP" + b"p\0\0" + zlib.compress(icc)
        path.write_bytes(
            data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
        )
    elif how != "memory":
        Image.fromarray(values).save(
            path, icc_profile=icc, **{"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}.get(how, {})
        )
    if how == "memory":
        image = Image.fromarray(values)
        image.info["icc_profile"] = icc
        photo = from_pil(image)
        restored, mask = restoration(photo)
        again = from_pil(to_pil(photo, restored, mask))
    else:
        photo = read_photo(path)
        restored, mask = restoration(photo)
        write_photo(photo, restored, mask, out)
        again = read_photo(out)
    assert again.icc == icc and again.mode == photo.mode == ("RGB;16" if deep else "RGB")
    if how != "jpg":
        assert np.array_equal(again.native[mask == 0], values[mask == 0])
        assert np.abs(photo.rgb.astype(int) - lcms((values >> 8).astype(np.uint8) if deep else values, icc)).max() <= 4
    inner = (mask != 0) & (restored > 2).all(-1) & (restored < 253).all(-1)
    difference = np.abs(again.rgb.astype(int) - restored)[inner]
    assert difference.mean() < (2.5 if how == "jpg" else 0.2 if deep else 1.0) and inner.sum() > 200


def png_with_codes(path, primaries, transfer, values):
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    body = b"cICP" + bytes([primaries, transfer, 0, 1])
    path.write_bytes(data[:33] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:])


def pq(nits):
    """SMPTE ST 2084, the inverse of the curve in the code."""
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def test_the_view_of_hdr_has_its_white_at_203_nits():
    space = space_of_codes(9, 16)
    levels = [0.0, *(pq(nits) for nits in (10, 100, 203, 1000))]
    seen = [int(space.to_srgb(np.full((1, 1, 3), round(65535 * level), np.uint16), 65535)[0, 0, 1]) for level in levels]
    linear = np.array([0, 10 / 203, 100 / 203])
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.array(seen[:3]) - wanted).max() <= 1 and seen[3:] == [255, 255]
    hlg = space_of_codes(9, 18).to_srgb(np.full((1, 1, 3), round(0.75 * 65535), np.uint16), 65535)
    assert abs(int(hlg[0, 0, 0]) - 255) <= 1  # BT.2408: HLG reference white at 75%


@pytest.mark.parametrize("transfer", [16, 18, 13])
def test_a_png_of_hdr_or_wide_gamut_by_codes_is_restored_in_its_own_space(tmp_path, transfer):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    values = cv2.GaussianBlur(scene(60, 70, 3, top=36000, dtype=np.uint16), (0, 0), 2)
    png_with_codes(path, 9 if transfer != 13 else 12, transfer, values)
    photo, restored, mask, _ = through(path, out)
    again = read_photo(out)
    assert np.array_equal(again.native[mask == 0], values[mask == 0]) and b"cICP" in out.read_bytes()
    inner = (mask != 0) & (restored > 2).all(-1) & (restored < 253).all(-1)
    assert inner.sum() > 50 and np.abs(again.rgb.astype(int) - restored)[inner].mean() < 0.2
    with pytest.raises(ImageError, match="a JPEG cannot say which colours the picture has"):
        write_photo(photo, restored, mask, tmp_path / "c.jpg", format="jpeg")


def test_unknown_codes_are_refused_with_a_remedy(tmp_path):
    png_with_codes(tmp_path / "a.png", 5, 16, scene(8, 8, 3, dtype=np.uint16))
    with pytest.raises(ImageError, match=r"cICP codes 5 and 16 are not supported: convert to sRGB$"):
        read_photo(tmp_path / "a.png")


def translucent_text(text=255, alpha=160):
    """A photograph over the left half of transparent ground, and letters across both: RGBA, the letters, the photograph."""
    height, width = 90, 240
    photo = cv2.GaussianBlur(scene(height, width, 3), (0, 0), 3).astype(float)
    letters = Image.new("L", (width, height))
    ImageDraw.Draw(letters).text((20, 20), "WATERMARK", 255, font_size=40)
    cover = np.asarray(letters) / 255.0 * alpha / 255.0
    ground = (np.arange(width) < width // 2)[None].repeat(height, 0).astype(float)
    total = cover + ground * (1 - cover)
    colour = (text * cover[..., None] + photo * (ground * (1 - cover))[..., None]) / np.maximum(total, 1e-6)[..., None]
    return np.dstack([np.rint(colour), np.rint(total * 255)]).astype(np.uint8), cover > 0, photo


@pytest.mark.parametrize(
    ("ending", "options"), [(".png", {}), (".webp", {"lossless": True, "exact": True}), (".tif", {})]
)
def test_translucent_white_text_is_seen_and_taken_off_transparent_ground(tmp_path, ending, options):
    path, out = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    values, letters, clean = translucent_text()
    Image.fromarray(values).save(path, **options)
    photo = read_photo(path)
    left = np.arange(values.shape[1])[None] < values.shape[1] // 2
    right = letters & ~left
    assert np.median(np.abs(photo.rgb.astype(int) - photo.kind.ground)[right]) > 60
    assert (photo.rgb[~letters & ~left] == photo.kind.ground).all()
    restored = np.where(left[..., None], np.rint(clean), photo.kind.ground).astype(np.uint8)
    write_photo(photo, restored, letters.astype(np.uint8) * 255, out)
    after = np.asarray(Image.open(out))
    assert (after[..., 3][right] == 0).all() and (after[..., 3][left & letters] == 255).all()
    assert np.array_equal(after[~letters], values[~letters])
    assert np.abs(after[..., :3].astype(int) - clean)[left & letters].max() <= 2


def test_opaque_letters_restored_to_the_ground_become_transparent(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    values, letters, _ = translucent_text(text=0, alpha=255)
    Image.fromarray(values).save(path)
    photo = read_photo(path)
    assert photo.kind.ground == 255
    write_photo(
        photo, np.where(letters[..., None], 255, photo.rgb).astype(np.uint8), letters.astype(np.uint8) * 255, out
    )
    after = np.asarray(Image.open(out))[..., 3]
    assert (after[:, 130:] == 0).all() and (after[:, :110] == 255).all()


def test_alpha_is_kept_where_the_surroundings_are_not_transparent(tmp_path):
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    values = np.full((60, 80, 4), 120, np.uint8)
    values[20:40, 20:60] = (255, 255, 255, 200)
    Image.fromarray(values).save(path)
    photo = read_photo(path)
    mask = np.zeros((60, 80), np.uint8)
    mask[18:42, 18:62] = 255
    write_photo(photo, np.where(mask[..., None], 99, photo.rgb).astype(np.uint8), mask, out)
    assert np.array_equal(np.asarray(Image.open(out))[..., 3], values[..., 3])

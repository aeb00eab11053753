"""Files known by their content: what an ending may say, HEIC and AVIF, and the names of what is left out."""

import io
import os

import numpy as np
import pytest
from PIL import Image, features
from scenes import PROFILE, exif_bytes, picture, restoration, through

from wmremoval.images import ImageError
from wmremoval.photofile import kinds
from wmremoval.photofile.kinds import bare_name, content_format, file_kind, is_read
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">caption \xc3\xa9</x:xmpmeta>'
HEIC, AVIF = (
    pytest.param("HEIC", marks=pytest.mark.skipif(not is_read("HEIC"), reason="pillow-heif is not installed")),
    pytest.param("AVIF", marks=pytest.mark.skipif(not is_read("AVIF"), reason="this Pillow has no AVIF")),
)


def coded(image, name, **options):
    """The bytes of a Pillow image in a format."""
    if name in ("HEIC", "HEIF"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, {"HEIC": "HEIF"}.get(name, name), **options)
    return buffer.getvalue()


def box(brand, *others):
    """The first box of an ISO base media file."""
    body = brand + b"\0\0\0\0" + b"".join(others)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body


CONTENTS = {
    b"GIF89a": "GIF",
    b"\xff\x0a\0\0": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"8BPS\0\1": "Photoshop",
    b"%PDF-1.7": "PDF",
    b"II*\0\x10\0\0\0CR\2\0": "camera raw",
    box(b"crx ", b"isom"): "camera raw",
    box(b"isom", b"mp41"): "video",
    box(b"qt  "): "video",
    box(b"heic", b"mif1"): "HEIC",
    box(b"mif1", b"heic"): "HEIC",
    box(b"mif1", b"avif"): "AVIF",
    box(b"avif", b"mif1", b"miaf"): "AVIF",
    b"II*\0\x08\0\0\0": "TIFF",
    b"no picture": None,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_the_first_bytes_tell_the_kind(content):
    assert content_format(content) == CONTENTS[content]


def test_files_have_kinds_and_unknown_ones_their_ending(tmp_path):
    made = {
        "a.GIF": b"GIF89a",
        "b.xmp": b"<x>",
        "c.jpg": b"",
        "photo.dng": b"II*\0\x08\0\0\0",
        "LICENCE": b"text",
        "d.photograph": b"text",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    wanted = ["GIF", ".xmp", "empty file", "camera raw", "other file", "other file"]
    assert [file_kind(tmp_path / name) for name in made] == wanted
    os.mkfifo(tmp_path / "pipe")
    assert file_kind(tmp_path / "pipe") == "special file" and file_kind(tmp_path) == "folder"
    with pytest.raises(OSError):
        file_kind(tmp_path / "missing")


@pytest.mark.parametrize(("name", "bare"), [("a.JPG", "a"), ("a.jpg_large", "a"), ("a.tar.png", "a.tar"), ("a.v2", "a.v2"), ("a", "a")])  # fmt: skip
def test_only_a_photographs_ending_is_taken_off_a_name(name, bare):
    assert bare_name(name) == bare


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jpg_large", ".JPG", ""])
def test_other_endings_of_a_jpeg_are_no_matter(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(coded(picture("RGB"), "JPEG"))
    photo, *_, out = through(path, tmp_path / f"out{ending}")
    assert photo.format == "JPEG" and photo.notes == []
    assert content_format(out.read_bytes()) == "JPEG"


@pytest.mark.parametrize(("ending", "format"), [(".jpg", "PNG"), (".png", "JPEG"), (".jpg", "WebP"), (".tif", "BMP"), (".webp", "TIFF")])  # fmt: skip
def test_a_file_with_the_ending_of_another_format_is_written_as_what_it_is(tmp_path, ending, format):
    path = tmp_path / f"a{ending}"
    path.write_bytes(coded(picture("RGB"), format, **({"lossless": True} if format == "WebP" else {})))
    photo, _restored, mask, out = through(path)
    assert out.suffix == ending and content_format(out.read_bytes()) == format
    assert len(photo.notes) == 1 and f"is a {format} by its content" in photo.notes[0]
    if format != "JPEG":
        np.testing.assert_array_equal(read_photo(out).rgb[mask == 0], photo.rgb[mask == 0])


@pytest.mark.parametrize("format", [HEIC, AVIF])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_and_avif_come_back_as_their_own_format(tmp_path, format, mode):
    """Smooth pictures, so that the quality decides on the error; twice the measured one is allowed."""
    large = picture(mode, (160, 120)).resize((160, 120), Image.Resampling.BICUBIC)
    icc = {} if mode == "L" else {"icc_profile": PROFILE}
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(coded(large, format, quality=90, exif=exif_bytes(6), xmp=XMP, **icc))
    photo, restored, _mask, out = through(path)
    assert photo.format == format and photo.notes == [] and out.stat().st_size < 4 * path.stat().st_size
    again = read_photo(out)
    assert (again.format, again.mode, again.size) == (format, photo.mode, photo.size)
    assert again.icc == photo.icc and again.xmp == XMP and photo.icc == icc.get("icc_profile", b"")
    with Image.open(io.BytesIO(out.read_bytes())) as image:
        exif = image.getexif()
        assert exif[0x010F] == "Maker" and exif.get(0x0112, 1) == 1 and exif.get_ifd(0x8825)[1] == "N"
    error = np.abs(again.rgb.astype(int) - restored)
    assert error.mean() < 8
    if mode == "RGBA":
        assert np.abs(again.native[..., 3].astype(int) - photo.native[..., 3]).mean() < 4


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.skipif(not is_read("AVIF"), reason="this Pillow has no AVIF")
def test_an_avif_is_turned_upright(tmp_path, turn):
    image = Image.fromarray(np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[:, None], 80, axis=1))
    (tmp_path / "a.avif").write_bytes(coded(image, "AVIF", exif=exif_bytes(turn)))
    photo = read_photo(tmp_path / "a.avif")
    means = photo.rgb[..., 0].mean(axis=1 if turn in (1, 3) else 0)
    assert photo.size == ((80, 120) if turn in (1, 3) else (120, 80))
    assert (means[0] < means[-1]) == (turn in (1, 8)), "dark is at the top, the bottom, the right, the left"


@pytest.mark.skipif(not is_read("AVIF"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_sampling_of_an_avif_is_kept(tmp_path, sampling):
    path = tmp_path / "a.avif"
    path.write_bytes(coded(picture("RGB", (64, 64)), "AVIF", subsampling=sampling))
    *_, out = through(path)
    assert read_photo(path).details["options"] == read_photo(out).details["options"] == {"subsampling": sampling}


@pytest.mark.skipif(not is_read("HEIC"), reason="pillow-heif is not installed")
def test_a_heic_keeps_tiles_thumbnails_and_says_what_it_loses(tmp_path):
    import pillow_heif

    pillow_heif.register_heif_opener()
    first = picture("RGB", (300, 200))
    path = tmp_path / "a.heic"
    first.save(path, "HEIF", save_all=True, append_images=[picture("RGB", (90, 60))], tile_size=128, thumbnails=[64])
    photo, *_, out = through(path)
    assert photo.notes == ["only the first of 2 pictures in the file is kept"] and photo.size == (300, 200)
    with Image.open(out) as image:
        assert image.info["tiling"]["tile_width"] == 128 and image.info["thumbnails"] == [64]


@pytest.mark.skipif(not is_read("AVIF"), reason="this Pillow has no AVIF")
def test_an_avif_of_hdr_colours_is_refused_since_it_would_come_back_as_srgb(tmp_path):
    data = coded(picture("RGB", (64, 64)), "AVIF")
    at = data.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(data[:at] + (9).to_bytes(2, "big") + (16).to_bytes(2, "big") + data[at + 4 :])
    with pytest.raises(ImageError, match=r"^a\.avif: AVIF with PQ colours cannot be written back: save it as PNG"):
        read_photo(tmp_path / "a.avif")


@pytest.mark.parametrize(("kind", "module"), [("HEIC", "pillow-heif"), ("AVIF", "Pillow 11.3")])
def test_a_format_without_its_library_is_refused_with_the_remedy(tmp_path, monkeypatch, kind, module):
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(features, "check", lambda name: False)
    is_read.cache_clear()
    try:
        (tmp_path / "a.jpg").write_bytes(box(kind.lower().encode(), b"mif1") + bytes(99))
        with pytest.raises(ImageError, match=f"^a.jpg: {kind} is not read; install {module}"):
            read_photo(tmp_path / "a.jpg")
    finally:
        is_read.cache_clear()


def test_every_file_gets_the_times_it_is_given_and_no_others(tmp_path):
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    os.chmod(path, 0o600)
    os.utime(path, (1_000_000_000, 1_100_000_000))
    photo = read_photo(path)
    restored, mask = restoration(photo)
    write_photo(photo, restored, mask, tmp_path / "without.png")
    photo.times = path.stat()
    write_photo(photo, restored, mask, tmp_path / "with.png")
    status = (tmp_path / "with.png").stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1_100_000_000, 0o600)
    assert (tmp_path / "without.png").stat().st_mtime > 1_500_000_000

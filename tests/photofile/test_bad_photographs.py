"""Damaged files, failing writes, and what they leave behind: one clear line and nothing else."""

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
from PIL import Image
from scenes import picture, png, restoration

from wmremoval.images import ImageError
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo


def bad_files(folder):
    """Files that cannot be used, and a piece of the message each must give."""
    buffer = io.BytesIO()
    picture("RGB", (200, 160)).save(buffer, "JPEG")
    text = zlib.compress(b"a" * (1 << 24))
    bomb = struct.pack(">I", len(text) + 3) + b"zTXtk\0\0" + text
    bomb += struct.pack(">I", zlib.crc32(bomb[4:]))
    contents = {
        "empty.jpg": (b"", "the file is empty"),
        "short.jpg": (buffer.getvalue()[: len(buffer.getvalue()) // 3], "less than half of the picture is there"),
        "stub.jpg": (buffer.getvalue()[:4], "not a readable image"),
        "text.png": (b"no picture at all, only words", "not an image of a known format"),
        "huge.png": (png(60000, 60000), "60000 x 60000 is over the limit of 250 megapixels"),
        "huge16.png": (png(60000, 60000, 16), "over the limit of 250 megapixels"),
        "big.png": (png(15000, 15000), "not a readable image"),
        "none.png": (png(0, 5), "0 x 5 is no picture"),
        "grey16.png": (png(5, 5, 16, 4), "the pixels are damaged"),
        "text bomb.png": (png(5, 5, extra=bomb), "not a readable image"),
        "huge.webp": (b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(8), "over the limit"),
        "huge.bmp": (b"BM" + bytes(8) + struct.pack("<IIIIHHIIIIII", 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0), "over the limit"),
    }  # fmt: skip
    for name, (data, message) in contents.items():
        (folder / name).write_bytes(data)
        yield name, message
    frames = {"save_all": True, "append_images": [picture("RGB").rotate(9), picture("RGB").rotate(20)]}
    for name in ("moving.png", "moving.webp"):
        picture("RGB").save(folder / name, **frames)
        yield name, f"{name}: has 3 frames: "
    picture("P").save(folder / "still.gif")
    yield "still.gif", "GIF is not read; save it as JPEG or PNG"
    values = np.zeros((4, 4, 2), np.uint16)
    tifffile.imwrite(folder / "grey16.tif", values, photometric="minisblack", extrasamples=["unassalpha"])
    yield "grey16.tif", "its kind of pixels is not supported: save it as RGB with 8 or 16 bits a channel"
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
        for length in (1, 10, 30, 60, len(data) // 2, *([] if ending == ".jpg" else [len(data) - 100])):
            (tmp_path / f"a{ending}").write_bytes(data[:length])
            with pytest.raises(ImageError):
                read_photo(tmp_path / f"a{ending}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("missing", [1, 2, 100, 0.1, 0.4])
def test_a_jpeg_without_its_end_is_read_as_far_as_it_goes(tmp_path, missing, mode, progressive):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    picture(mode, (200, 160)).save(path, quality=90, progressive=progressive)
    whole, data = read_photo(path), path.read_bytes()
    path.write_bytes(data[: -int(missing if missing >= 1 else missing * len(data))])
    photo = read_photo(path)
    assert photo.size == (200, 160) and len(photo.notes) == 1 and "the end of the file is missing" in photo.notes[0]
    if not progressive:
        share = int(photo.notes[0].split("%")[0].split()[-1]) / 100
        assert share >= (0.5 if missing == 0.4 else 0.75)  # ten rows of blocks
        top = slice(0, int(160 * share) - 16)  # the last rows of blocks are mixed with the fill
        assert np.array_equal(photo.rgb[top], whole.rgb[top])
    else:
        assert np.abs(photo.rgb.astype(int) - whole.rgb).mean() < 25
    restored, mask = restoration(photo)
    write_photo(photo, restored, mask, out)
    with Image.open(out) as image:
        image.load()
        assert image.size == (200, 160) and np.abs(read_photo(out).rgb.astype(int) - restored).mean() < 8


def test_a_jpeg_with_a_black_lower_half_is_not_taken_for_one_cut_short(tmp_path):
    path = tmp_path / "a.jpg"
    image = picture("RGB", (400, 320))
    image.paste(0, (0, 100, 400, 320))
    image.save(path, quality=90)
    path.write_bytes(path.read_bytes()[:-2])
    assert "complete down to" in read_photo(path).notes[0]


def test_a_huge_jpeg_header_over_few_bytes_is_refused_before_decoding(tmp_path):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path)
    data = bytearray(path.read_bytes()[:-2])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 15000, 16000)
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="less than half of the picture is there"):
        read_photo(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_file_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path)
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ImageError, match=r"^a\.jpg: no permission to read it; change its permissions$"):
        read_photo(path)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    picture("RGB", (300, 300)).save(tmp_path / "a.bmp")
    code = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from wmremoval.images import ImageError
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo
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
    assert (
        done.stdout == "b.bmp: cannot be written as BMP (File too large); name a place that takes larger files\n"
        and done.stderr == ""
    )
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

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((ImageError, KeyboardInterrupt)):
        write_photo(photo, *restoration(photo), path)
    assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    photo = read_photo(path)
    with pytest.raises(
        ImageError, match=r"^b\.png: cannot be written as PNG \(File exists\); name another, or delete it$"
    ):
        write_photo(photo, *restoration(photo), path / "b.png")


def test_reading_needs_no_more_memory_than_the_header_allows(tmp_path):
    """A header of 240 megapixels over no data must not fill the memory."""
    (tmp_path / "a.png").write_bytes(png(16000, 15000, 16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError):
        read_photo(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_300_000  # KB

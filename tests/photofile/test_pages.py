"""TIFFs of several full pages: each page is a photograph, and the new file has them all."""

import struct

import numpy as np
import pytest
import tifffile
from scenes import PROFILE, restoration, scene

from wmremoval.images import ImageError
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_photo

KINDS = {
    "colour": (scene(30, 44, 3), {"photometric": "rgb"}),
    "grey": (scene(25, 31), {"photometric": "minisblack"}),
    "deep": (scene(28, 40, 3, top=65535, dtype=np.uint16), {"photometric": "rgb"}),
    "alpha": (scene(30, 44, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "tiles": (scene(70, 90, 3), {"photometric": "rgb", "tile": (32, 32)}),
    "strips": (scene(300, 44, 3), {"photometric": "rgb", "rowsperstrip": 7}),
}


def write(path, names, **options) -> list[np.ndarray]:
    """A TIFF of pages from `KINDS`, each with a description of its own."""
    with tifffile.TiffWriter(path, **options) as writer:
        for name in names:
            values, about = KINDS[name]
            writer.write(
                values, metadata=None, description=f"this is {name}", iccprofile=PROFILE, compression="zlib", **about
            )
    return [KINDS[name][0] for name in names]


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_every_page_comes_back_with_its_pixels_and_tags(tmp_path, options):
    values = write(tmp_path / "a.tif", KINDS, **options)
    photo = read_photo(tmp_path / "a.tif")
    assert len(photo.pages) == len(KINDS) - 1
    whole = [photo, *photo.pages]
    restored = [restoration(page, (3, 4, 20, 20)) for page in whole]
    write_photo(photo, *restored[0], tmp_path / "b.tif", pages=restored[1:])
    with tifffile.TiffFile(tmp_path / "b.tif") as new:
        assert len(new.pages) == len(KINDS)
        for page, name, old, (_, mask) in zip(new.pages, KINDS, values, restored, strict=True):
            pixels = page.asarray()
            np.testing.assert_array_equal(pixels[mask == 0], old[mask == 0])
            assert pixels.shape == old.shape and (pixels[mask > 0] != old[mask > 0]).any()
            assert page.tags[270].value == f"this is {name}" and page.tags[34675].value == PROFILE


def test_pages_without_a_result_are_written_as_they_are(tmp_path):
    values = write(tmp_path / "a.tif", ["colour", "grey", "strips"])
    photo = read_photo(tmp_path / "a.tif")
    write_photo(photo, *restoration(photo), tmp_path / "b.tif")
    again = read_photo(tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as new:
        assert (new.pages[0].asarray() != values[0]).any()
        np.testing.assert_array_equal(new.pages[1].asarray(), values[1])
        np.testing.assert_array_equal(new.pages[2].asarray(), values[2])
    assert [page.size for page in [again, *again.pages]] == [(44, 30), (31, 25), (44, 300)]


def test_reduced_pages_between_full_ones_are_dropped_with_a_note(tmp_path):
    values = scene(40, 48, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for step, kind in ((1, 0), (4, 1), (1, 0)):
            writer.write(values[::step, ::step], photometric="rgb", subfiletype=kind, metadata=None)
    photo = read_photo(tmp_path / "a.tif")
    write_photo(photo, *restoration(photo), tmp_path / "b.tif")
    assert photo.notes == ["the further pictures inside the file (reduced or mask) are not kept"]
    with tifffile.TiffFile(tmp_path / "b.tif") as new:
        assert [page.shape for page in new.pages] == [(40, 48, 3)] * 2


def test_a_page_that_cannot_be_read_is_named_and_so_is_a_format_without_pages(tmp_path):
    values = scene(20, 20, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values, photometric="rgb", metadata=None)
        writer.write(np.float32(values[..., 0]), photometric="minisblack", metadata=None)
    with pytest.raises(ImageError, match=r"^a\.tif: page 2: 32-bit float pixels are not supported"):
        read_photo(tmp_path / "a.tif")
    write(tmp_path / "b.tif", ["colour", "grey"])
    photo = read_photo(tmp_path / "b.tif")
    with pytest.raises(ImageError, match=r"^c\.png: PNG cannot hold the 2 pages of the TIFF; leave the format out$"):
        write_photo(photo, *restoration(photo), tmp_path / "c.png", "png")
    assert not (tmp_path / "c.png").exists()


def test_the_limit_of_pixels_counts_all_pages(tmp_path):
    write(tmp_path / "a.tif", ["colour", "alpha"])
    assert len(read_photo(tmp_path / "a.tif", 2 * 30 * 44).pages) == 1
    with pytest.raises(ImageError, match="over the limit"):
        read_photo(tmp_path / "a.tif", 2 * 30 * 44 - 1)


def test_pages_in_a_circle_and_endless_ones_end(tmp_path):
    write(tmp_path / "a.tif", ["colour", "grey"])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, link)[0]
    last = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    data[last : last + 4] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(data)
    assert len(read_photo(tmp_path / "a.tif").pages) == 1
    empty = [struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(1001)]
    (tmp_path / "long.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(empty) + bytes(6))
    with pytest.raises(ImageError, match="over 1000 pages"):
        read_photo(tmp_path / "long.tif")

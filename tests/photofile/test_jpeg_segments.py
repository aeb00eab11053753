"""Segments and markers of a JPEG, of bytes that are put together here, and the standard's table against libjpeg's."""

import io

import numpy as np
import pytest
from PIL import Image

from wmremoval.photofile.jpeg import (
    LUMINANCE,
    jpeg_quality,
    picture_end,
    read_segments,
    tables_in,
    transplant,
    with_component_numbers,
)

START, PIXELS, END = b"\xff\xd8", b"\xff\xda\x00\x02", b"\xff\xd9"
COMMENT = b"\xff\xfe\x00\x07hello"
TABLE = b"\xff\xdb\x00\x04ab"


def read(*parts: bytes):
    return read_segments(io.BytesIO(b"".join(parts)))


def test_segments_of_metadata_are_read_up_to_the_pixels():
    stray, fill = b"x\xff\0y", b"\xff\xff"
    alone = b"".join(bytes([0xFF, marker]) for marker in (0x01, *range(0xD0, 0xD9)))  # markers without data
    parts = (START, stray, b"\xff\xe1\x00\x04ab", TABLE, alone, fill, COMMENT, PIXELS, COMMENT, END)
    assert read(*parts) == [(0xE1, b"ab"), (0xFE, b"hello")]
    assert read(START, b"\xff\xfe\x00\x02", END) == [(0xFE, b"")]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"\x89PNG"], "no JPEG header"),
        ([START, COMMENT[:-1]], "cut short"),
        ([START, b"\xff\xfe\x00\x01", PIXELS], "cut short"),
        ([START, COMMENT], "ends before"),
        ([START, *[b"\xff\xe1\xff\xff" + bytes(65533)] * 1025, PIXELS], "64 MB"),
    ],
)
def test_a_damaged_segment_is_refused_with_its_fault(parts, reason):
    with pytest.raises(ValueError, match=reason):
        read(*parts)


def test_64_mb_of_metadata_are_read_and_one_byte_more_is_refused():
    large = b"\xff\xe1\xff\xff" + bytes(65533)  # 65535 bytes with its length, of which 1024 more are 64 MB
    *_, (_, last) = read(START, *[large] * 1024, b"\xff\xe1\x04\x00" + bytes(1022), PIXELS)
    assert len(last) == 1022
    with pytest.raises(ValueError, match="64 MB"):
        read(START, *[large] * 1024, b"\xff\xe1\x04\x01" + bytes(1023), PIXELS)


def test_markers_that_stand_alone_have_no_length_that_would_be_skipped():
    for alone in (b"\xff\x01", START):
        data = START + alone + TABLE + PIXELS + b"\x12" + END
        assert picture_end(data + b"trailer") == len(data)


def test_a_picture_ends_after_its_own_end_and_not_after_that_of_a_picture_inside_a_segment():
    inner = b"\xff\xe1\x00\x06" + START + END
    data = START + inner + TABLE + PIXELS + b"\x12\xff\x00\xff\xd0\x34" + END
    assert picture_end(data + b"trailer") == len(data) and picture_end(data[:-1]) is None


@pytest.mark.parametrize("frame", [0xC0, 0xC1, 0xC2])
def test_components_are_numbered_anew_in_the_frame_and_in_every_scan(frame):
    """Marker, length, bits, height, width, number of components, and three bytes for each; scans have two for each."""

    def numbered(first, second, third):
        size = b"\x08\0\x10\0\x20\x03"
        parts = (bytes([first, 0x22, 0]), bytes([second, 0x11, 1]), bytes([third, 0x11, 1]))
        both = b"\xff\xda\0\x0a\x02" + bytes([third, 0x11, second, 0x11]) + b"\0\x3f\0" + b"\x12\xff\0"
        one = b"\xff\xda\0\x08\x01" + bytes([first, 0]) + b"\0\x3f\0" + b"\0\x01\x02"
        return START + bytes([0xFF, frame]) + b"\0\x11" + size + b"".join(parts) + both + one + END

    assert with_component_numbers(numbered(0, 1, 2), (7, 5, 200)) == numbered(7, 5, 200)


def test_pixels_are_given_the_metadata_of_another_file_in_place_of_their_own():
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(buffer, "JPEG", comment=b"of the pixels", dpi=(300, 300))
    data = b"".join(transplant(memoryview(buffer.getvalue()), [(0xFE, b"of the other")]))
    image = Image.open(io.BytesIO(data))
    assert image.info == {"comment": b"of the other"} and read(data) == [(0xFE, b"of the other")]
    np.testing.assert_array_equal(np.asarray(image), 90)


@pytest.mark.parametrize("more", [b"", b"\0"])
def test_the_adobe_segment_of_another_file_is_kept_once_with_the_colours_of_the_pixels(more):
    """Its last of twelve bytes names the transform of the colours: 2 for YCCK; Pillow writes CMYK, which is 0."""
    buffer = io.BytesIO()
    picture = Image.new("CMYK", (8, 8), (10, 200, 90, 30))
    picture.save(buffer, "JPEG", quality=100)
    version_and_flags = b"\0\x65\x80\0\0\0"
    data = b"".join(transplant(memoryview(buffer.getvalue()), [(0xEE, b"Adobe" + version_and_flags + b"\2" + more)]))
    assert read(data) == [(0xEE, b"Adobe" + version_and_flags + b"\0" + more)]
    difference = np.asarray(Image.open(io.BytesIO(data))).astype(int) - np.asarray(picture)
    assert np.abs(difference).max() <= 2


def test_the_table_is_that_of_libjpeg_at_quality_50_and_tells_the_quality():
    for quality in (1, 30, 50, 75, 90, 100):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, "JPEG", quality=quality)
        tables = Image.open(buffer).quantization
        if quality == 50:
            assert tuple(tables[0]) == LUMINANCE
        assert jpeg_quality(tables) == quality


def test_all_tables_of_a_picture_are_read_in_one_byte_a_value_or_two():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG", quality=60)
    wanted = Image.open(buffer).quantization
    assert [sorted(table) for table in tables_in(buffer.getvalue())] == [sorted(wanted[0]), sorted(wanted[1])]
    wide = bytes([0x11]) + b"".join(value.to_bytes(2, "big") for value in range(300, 364))
    both = b"\xff\xdb" + (2 + 65 + 129).to_bytes(2, "big") + bytes(range(65)) + wide
    assert tables_in(START + both) == [list(range(1, 65)), list(range(300, 364))]
    assert tables_in(START + both[:-1]) == [list(range(1, 65))], "one that is cut short is none"
    pixels = b"\0" + both[1:]  # like a table, but without a marker
    assert tables_in(START + both + pixels) == tables_in(START + both)

"""Chunks of a PNG, of files that are put together here: what is read, what is left out, and what is refused."""

import io
import struct
import zlib

import pytest

from wmremoval.photofile.png import MOST_METADATA, SIGNATURE, Chunk, pack, read_chunks, xmp_of

END = struct.pack(">I4s", 0, b"IEND") + b"\xaeB`\x82"  # as the specification prints it (PNG 1.2, section 4.1.4)


def read(*parts: bytes) -> list[Chunk]:
    return read_chunks(io.BytesIO(SIGNATURE + b"".join(parts)))


def test_a_packed_chunk_is_read_as_it_was_and_the_pixels_are_left_out():
    text = Chunk(b"tEXt", b"Comment\0hello")
    assert pack(text) == struct.pack(">I", 13) + b"tEXt" + text.data + struct.pack(
        ">I", zlib.crc32(b"tEXt" + text.data)
    )
    assert pack(Chunk(b"IEND", b"")) == END
    assert read(pack(text), pack(Chunk(b"IDAT", b"pixels")), pack(Chunk(b"eXIf", b"II")), END) == [
        text,
        Chunk(b"eXIf", b"II"),
    ]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (pack(Chunk(b"tEXt", b"hello"))[:-1] + b"\0" + END, "checksum"),
        (struct.pack(">I", 100) + b"tEXt" + b"hello", "cut short"),
        (pack(Chunk(b"tEXt", b"hello"))[:-2], "cut short"),
        (pack(Chunk(b"NEWx", b"hello")) + END, "broken chunk"),
        (pack(Chunk(b"t3Xt", b"hello")) + END, "broken chunk"),
        (struct.pack(">I", MOST_METADATA + 1) + b"tEXt", "64 MB"),
        (pack(Chunk(b"tEXt", b"hello")), "ends before"),
    ],
)
def test_a_damaged_chunk_is_refused_with_its_fault(part, reason):
    with pytest.raises(ValueError, match=reason):
        read(part)


XMP = b"XML:com.adobe.xmp\0"


def test_xmp_is_the_text_after_flags_language_and_translated_keyword():
    packet = b"<x:xmpmeta/>"
    assert xmp_of(Chunk(b"iTXt", XMP + b"\0\0" + b"en\0XMP\0" + packet)) == packet
    assert xmp_of(Chunk(b"iTXt", XMP + b"\1\0" + b"\0\0" + zlib.compress(packet))) == packet
    assert xmp_of(Chunk(b"tEXt", XMP + b"\0\0\0\0" + packet)) is None
    assert xmp_of(Chunk(b"iTXt", b"Author\0\0\0\0\0" + packet)) is None


@pytest.mark.parametrize(
    "rest", [b"\0", b"\0\0en\0no text", b"\1\0\0\0not compressed"], ids=["no flags", "no text", "not compressed"]
)
def test_damaged_xmp_is_refused(rest):
    with pytest.raises(ValueError, match="damaged XMP"):
        xmp_of(Chunk(b"iTXt", XMP + rest))


def test_a_small_chunk_that_unpacks_to_more_than_64_mb_is_refused():
    packed = zlib.compress(bytes(MOST_METADATA + 1), 1)
    with pytest.raises(ValueError, match="64 MB"):
        xmp_of(Chunk(b"iTXt", XMP + b"\1\0\0\0" + packed))

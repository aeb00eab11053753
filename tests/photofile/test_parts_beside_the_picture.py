"""Videos, gain maps, previews and signatures inside a file: kept where they stay true, else dropped with a note."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, MpoImagePlugin
from scenes import picture, png, restoration, scene, through
from test_metadata_kept import chunks_of, segments_of
from test_orientation_and_previews import erased, exif_with_thumbnail, marked

from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import copy_file, write_photo

VIDEO = struct.pack(">I", 24) + b"ftypmp42" + bytes(range(200))
ITEMS = """<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg"
 Item:Semantic="Primary"/></rdf:li>%s</rdf:Seq></Container:Directory>"""
ITEM = """<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="a/b" Item:Semantic="%s" Item:Length="%d"/></rdf:li>"""


def segment(marker, data):
    return struct.pack(">BBH", 255, marker, len(data) + 2) + data


def packet(attributes, inside=""):
    return f'<rdf:Description xmp:Rating="5" {attributes}>{inside}</rdf:Description>'.encode()


def save(path, *segments, end=b"", **options):
    """A JPEG with segments after its JFIF header and bytes after its end."""
    buffer = io.BytesIO()
    picture("RGB", (64, 48)).save(buffer, "JPEG", **options)
    data = buffer.getvalue()
    path.write_bytes(data[:20] + b"".join(segments) + data[20:] + end)


def xmp_segment(xmp):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)


NEW = packet('GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', ITEMS % (ITEM % ("MotionPhoto", len(VIDEO))))
OLD = packet(f'GCamera:MicroVideo="1" GCamera:MicroVideoOffset="{len(VIDEO)}"')


@pytest.mark.parametrize("xmp", [NEW, OLD])
@pytest.mark.parametrize("between", [b"", b"\0" * 9])
def test_the_video_of_a_motion_photo_stays_at_its_offset_from_the_end(tmp_path, xmp, between):
    path = tmp_path / "a.jpg"
    save(path, xmp_segment(xmp), end=between + VIDEO)
    photo, _, _, out = through(path)
    assert out.read_bytes().endswith(b"\xff\xd9" + VIDEO) and read_photo(out).xmp == xmp
    assert photo.notes == ["the video of the motion photo is kept as it is, and may still show the mark"]
    assert Image.open(out).size == (64, 48)


@pytest.mark.parametrize("xmp", [NEW, OLD])
def test_a_motion_photo_without_its_video_no_longer_claims_it(tmp_path, xmp):
    path = tmp_path / "a.jpg"
    save(path, xmp_segment(xmp), end=b"something else")
    photo, _, _, out = through(path)
    after = read_photo(out).xmp
    assert photo.notes == ["the video of the motion photo is not kept: it is not where the file says"]
    assert b"Motion" not in after and b"MicroVideo" not in after and b'xmp:Rating="5"' in after
    assert (b"Primary" in after) == (b"Primary" in xmp)


def test_a_conversion_says_that_the_video_is_lost(tmp_path):
    path = tmp_path / "a.jpg"
    save(path, xmp_segment(NEW), end=VIDEO)
    photo, _, _, out = through(path, tmp_path / "b.png", format="png")
    assert photo.notes == ["the video of the motion photo is not kept: PNG cannot hold it"]
    assert b"Motion" not in read_photo(out).xmp and b"ftyp" not in out.read_bytes()


def test_other_bytes_after_the_end_are_noted(tmp_path):
    save(tmp_path / "a.jpg", end=b"x" * 500)
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.losses == ["500 bytes after the end of the picture are not kept"]
    assert photo.notes == []  # a copy of the file loses nothing
    write_photo(photo, *restoration(photo), tmp_path / "c.jpg")
    assert photo.notes == photo.losses
    save(tmp_path / "b.jpg", end=bytes(20), progressive=True)
    assert read_photo(tmp_path / "b.jpg").losses == []


def gain_map(iso=False):
    """A gain map of a smooth gradient, with its metadata."""
    buffer = io.BytesIO()
    values = np.linspace(40, 200, 32)[None].repeat(24, 0).astype(np.uint8)
    Image.fromarray(values).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    inner = segment(0xE2, ISO + bytes(40)) if iso else xmp_segment(packet('hdrgm:Version="1.0" hdrgm:GainMapMax="2.3"'))
    return data[:20] + inner + data[20:]


ISO = b"urn:iso:std:iso:ts:21496:-1\0"


def save_hdr(path, gain, iso=False, extra=b"", exif=None):
    items = ITEM % ("GainMap", len(gain)) + (ITEM % ("MotionPhoto", len(VIDEO)) if extra else "")
    claim = ('GCamera:MotionPhoto="1" ' if extra else "") + ("" if iso else 'hdrgm:Version="1.0"')
    segments = [xmp_segment(packet(claim, ITEMS % items)), segment(0xE2, b"MPF\0" + bytes(30))]
    save(
        path,
        *segments,
        *([segment(0xE2, ISO + bytes(4))] if iso else []),
        end=gain + extra,
        **({"exif": exif} if exif else {}),
    )


@pytest.mark.parametrize("extra", [b"", VIDEO])
@pytest.mark.parametrize("iso", [False, True])
def test_the_gain_map_of_an_hdr_photo_is_kept_and_repaired_under_the_mask(tmp_path, iso, extra):
    path, gain = tmp_path / "a.jpg", gain_map(iso)
    save_hdr(path, gain, iso, extra)
    _, _, _, out = through(path)
    data, after = out.read_bytes(), read_photo(out)
    assert not after.losses and (b"hdrgm:Version" in after.xmp) is not iso and data.endswith(extra)
    assert f'Item:Semantic="GainMap" Item:Length="{len(after.gain)}"'.encode() in after.xmp
    with MpoImagePlugin.MpoImageFile(out) as image:  # which finds it by the index alone
        assert image.n_frames == 2
        image.seek(1)
        new = np.asarray(image).astype(int)
    old = np.asarray(Image.open(io.BytesIO(gain))).astype(int)
    difference = np.abs(new - old)
    assert new.shape == old.shape == (24, 32) and difference.max() <= 40 and 0 < difference.mean() < 6
    assert difference[15:].max() <= 3  # below the mask
    assert dict(segments_of(path))[0xDB] == dict(segments_of(out))[0xDB]


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_gain_map_is_turned_with_the_picture(tmp_path, orientation):
    path, gain = tmp_path / "a.jpg", gain_map()
    save_hdr(path, gain, exif=exif_with_thumbnail(orientation))
    photo = read_photo(path)
    write_photo(photo, photo.rgb, np.zeros(photo.rgb.shape[:2], np.uint8), tmp_path / "b.jpg")
    old = np.asarray(Image.open(io.BytesIO(gain))).astype(int)
    new = np.asarray(Image.open(io.BytesIO(read_photo(tmp_path / "b.jpg").gain)))
    assert np.abs(new - np.rot90(old, 2 if orientation == 3 else 3)).max() <= 3 and photo.notes == []


def test_a_mark_in_the_gain_map_is_taken_off(tmp_path):
    path = tmp_path / "a.jpg"
    values = np.full((48, 64), 90, np.uint8)
    values[6:24, 8:30] = 250  # where `restoration` has its mask
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    save_hdr(path, data[:20] + segment(0xE2, ISO + bytes(40)) + data[20:], iso=True)
    _, _, _, out = through(path)
    assert np.abs(np.asarray(Image.open(io.BytesIO(read_photo(out).gain))).astype(int) - 90).max() <= 8


def test_a_gain_map_is_dropped_with_its_claim_where_it_cannot_be_kept(tmp_path):
    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for reason in ("the mask covers too much of it", "it is not where it should be", "PNG cannot"):
        gain = gain_map() if reason[:2] != "it" else b"no picture"
        save_hdr(path, gain, extra=VIDEO)
        photo = read_photo(path)
        mask = restoration(photo)[1]
        mask[:] = 255 if "mask" in reason else mask
        write_photo(photo, photo.rgb // 2, mask, out, "png" if "PNG" in reason else "keep")
        after = read_photo(out)
        assert [note for note in photo.notes if "gain map" in note and reason in note], photo.notes
        assert b"hdrgm" not in after.xmp and b"GainMap" not in after.xmp and after.gain == b""
        assert "PNG" in reason or out.read_bytes().endswith(b"\xff\xd9" + VIDEO)


def boxes(number, label, parts=2):
    """A JUMBF box over several APP11 segments."""
    head = b"JP" + struct.pack(">H", number)
    first = b"\0\0\1\0jumb\0\0\0\x20jumd" + label + bytes(16)
    return b"".join(
        segment(0xEB, head + struct.pack(">I", part) + (first if part == 1 else b"\0\0\1\0jumb") + b"z" * 30)
        for part in range(1, parts + 1)
    )


def credentials(path):
    """A file with content credentials, and a bytes that only they have."""
    if path.suffix == ".jpg":
        link = packet('dcterms:provenance="self#jumbf=c2pa/x"')
        save(path, boxes(1, b"c2pa"), boxes(2, b"depth"), xmp_segment(link))
    elif path.suffix == ".png":
        picture("RGB").save(path)
        data = path.read_bytes()
        chunk = png(1, 1)[:0] + struct.pack(">I", 8) + b"caBX" + b"jumbc2pa"
        import zlib

        path.write_bytes(data[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[33:])
    else:
        tags = [(52545, 7, 8, b"jumbc2pa", True)]
        tifffile.imwrite(path, scene(30, 41, 3), photometric="rgb", extratags=tags, metadata=None)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_content_credentials_are_dropped_with_a_note_and_kept_in_a_copy(tmp_path, ending):
    path, copy = tmp_path / f"a{ending}", tmp_path / f"copy{ending}"
    credentials(path)
    photo, _, _, out = through(path)
    assert photo.notes == ["the content credentials (C2PA) are not kept: they were signed for the picture as it was"]
    assert b"c2pa" in path.read_bytes() and b"c2pa" not in out.read_bytes()
    if ending == ".jpg":
        assert sum(marker == 0xEB for marker, _ in segments_of(out)) == 2  # the other box
        assert b'xmp:Rating="5"' in read_photo(out).xmp
    elif ending == ".png":
        assert b"caBX" not in [name for name, _ in chunks_of(out)]
    copy_file(path, copy)
    assert copy.read_bytes() == path.read_bytes()


def photoshop(number, content):
    content += b"\0" * (len(content) % 2)
    return b"8BIM" + struct.pack(">HH", number, 0) + struct.pack(">I", len(content)) + content


@pytest.mark.parametrize("ending", [".jpg", ".tif"])
def test_the_thumbnail_of_photoshop_is_drawn_anew(tmp_path, ending):
    path, out, buffer = tmp_path / f"a{ending}", tmp_path / f"b{ending}", io.BytesIO()
    marked((80, 48)).save(buffer, "JPEG", quality=90)
    head = struct.pack(">6I2H", 1, 80, 48, 240, 240 * 48, len(buffer.getvalue()), 24, 1)
    first, last = photoshop(1028, b"caption"), photoshop(1061, bytes(range(16)))
    old = first + photoshop(1036, head + buffer.getvalue()) + photoshop(1033, bytes(30)) + last
    if ending == ".jpg":
        marked().save(path, quality=95)
        data = path.read_bytes()
        path.write_bytes(data[:20] + segment(0xED, b"Photoshop 3.0\0" + old) + data[20:])
    else:
        values = np.asarray(marked())
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(34377, 7, len(old), old, True)], metadata=None)
    photo = read_photo(path)
    write_photo(photo, *erased(photo), out)
    data = out.read_bytes()
    new = data[data.index(first) + len(first) : data.index(last)]
    assert struct.unpack(">H", new[4:6])[0] == 1036 and photo.notes == [
        "Photoshop's thumbnail is not kept: it could not be drawn anew"  # the old kind, 1033
    ]
    size = struct.unpack(">I", new[8:12])[0]
    assert struct.unpack(">6I2H", new[12:40])[:3] == (1, 80, 48) and 12 + size + size % 2 == len(new)
    small = np.asarray(Image.open(io.BytesIO(new[40 : 12 + size]))).astype(int)
    assert small.shape == (48, 80, 3) and (small[..., 0] - small[..., 1]).max() < 60


def test_the_thumbnail_of_a_jfif_header_is_dropped(tmp_path):
    path = tmp_path / "a.jpg"
    picture("RGB").save(path)
    data = path.read_bytes()
    jfif = data[6:18] + bytes([2, 2]) + bytes(12)
    path.write_bytes(data[:2] + segment(0xE0, jfif) + segment(0xE0, b"JFXX\0\x10abc") + data[20:])
    _, _, _, out = through(path)
    assert [item for item in segments_of(out) if item[0] == 0xE0] == [(0xE0, jfif[:12] + b"\0\0")]


def test_a_second_part_of_xmp_with_a_preview_is_dropped(tmp_path):
    path = tmp_path / "a.jpg"
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40 + b'<x GImage:Data="AAAA"/>'
    save(path, xmp_segment(packet('xmpNote:HasExtendedXMP="00"')), segment(0xE1, more))
    photo, _, _, out = through(path)
    assert photo.notes == ["the previews in the XMP packet are not kept"]
    assert b"GImage" not in out.read_bytes() and b"HasExtended" not in out.read_bytes()
    photo = read_photo(path)
    write_photo(photo, photo.rgb, restoration(photo)[1] * 0, out)
    assert b"GImage" in out.read_bytes()


def test_a_thumbnail_with_a_broken_offset_is_left_out_of_the_new_block():
    from wmremoval.photofile.exif import with_thumbnail

    block = bytearray(exif_with_thumbnail(1))
    at = block.index(struct.pack("<HHI", 0x0201, 4, 1)) + 8
    block[at : at + 4] = b"\xff\xff\xff\x7f"
    new, kept = with_thumbnail(bytes(block), np.zeros((40, 60, 3), np.uint8), False)
    assert not kept and len(new) == len(block)


def pages(path, *kinds, **options):
    """A TIFF with a full page and further pages of these subfile types."""
    values = scene(40, 48, 3)
    with tifffile.TiffWriter(path, **options) as writer:
        writer.write(values, photometric="rgb", metadata=None)
        for kind in kinds:
            page = values[..., 0] > 90 if kind == 4 else values[::4, ::4] if kind == 1 else values
            writer.write(page, photometric="mask" if kind == 4 else None, subfiletype=kind, metadata=None)
    return values


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_reduced_pages_and_masks_of_a_tiff_are_dropped_with_a_note(tmp_path, options):
    path = tmp_path / "a.tif"
    values = pages(path, 1, 4, **options)
    photo, _, mask, out = through(path)
    assert photo.notes == ["the further pictures inside the file (reduced or mask) are not kept"]
    with tifffile.TiffFile(out) as new:
        assert len(new.pages) == 1 and np.array_equal(new.pages[0].asarray()[mask == 0], values[mask == 0])


def test_pages_in_a_circle_end(tmp_path):
    path = tmp_path / "a.tif"
    pages(path, 1)
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, link)[0]
    last = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    data[last : last + 4] = struct.pack("<I", first)
    path.write_bytes(data)
    assert len(read_photo(path).losses) == 1

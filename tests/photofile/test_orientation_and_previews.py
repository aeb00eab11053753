"""Orientation, pixel sizes and previews fit the restored picture, wherever the file states them."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from scenes import scene, through

from wmremoval.photofile.read import from_pil, read_photo
from wmremoval.photofile.write import write_photo

SIZE = (200, 120)
THUMBNAIL = (160, 120)


def marked(size=SIZE):
    """A smooth picture with a red square, its mark."""
    values = (np.linspace(60, 180, size[0])[None] + np.linspace(0, 60, size[1])[:, None]).astype(np.uint8)
    values = np.stack([values] * 3, -1)
    values[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = (255, 0, 0)
    return Image.fromarray(values)


def entry(order, number, kind, value, form):
    return struct.pack(order + "HHI", number, kind, 1) + struct.pack(order + form, value).ljust(4, b"\0")


def exif_with_thumbnail(orientation, order="<", quality=90):
    """An EXIF block as cameras write it: orientation, sizes, a private directory, and a JPEG thumbnail at the end."""
    buffer = io.BytesIO()
    marked(THUMBNAIL).save(buffer, "JPEG", quality=quality)
    jpeg = buffer.getvalue()
    main = entry(order, 0x0112, 3, orientation, "H") + entry(order, 0x8769, 4, 38, "I")
    inner = entry(order, 0xA002, 4, SIZE[0], "I") + entry(order, 0xA003, 3, SIZE[1], "H")
    second = entry(order, 0x0112, 3, orientation, "H") + entry(order, 0x0201, 4, 110, "I")
    second += entry(order, 0x0202, 4, len(jpeg), "I")
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    block += struct.pack(order + "H", 2) + main + struct.pack(order + "I", 68)
    block += struct.pack(order + "H", 2) + inner + struct.pack(order + "I", 0)
    block += struct.pack(order + "H", 3) + second + struct.pack(order + "I", 0)
    return b"Exif\0\0" + block + jpeg


def directories(block):
    """{tag: value} of the main, the Exif and the thumbnail's directory, read here independently."""
    order = {b"II": "<", b"MM": ">"}[block[:2]]

    def directory(at):
        count, tags = struct.unpack_from(order + "H", block, at)[0], {}
        for place in range(at + 2, at + 2 + 12 * count, 12):
            number, kind = struct.unpack_from(order + "HH", block, place)
            tags[number] = struct.unpack_from(order + {3: "H", 4: "I"}[kind], block, place + 8)[0]
        return tags, struct.unpack_from(order + "I", block, at + 2 + 12 * count)[0]

    main, second = directory(struct.unpack_from(order + "I", block, 4)[0])
    return main, directory(main[0x8769])[0], directory(second)[0] if second else {}


def erased(photo):
    """A restoration in which the red square is grey, and its mask."""
    red = (photo.rgb[..., 0] > 200) & (photo.rgb[..., 1] < 90)
    restored = photo.rgb.copy()
    restored[red] = 120
    return restored, red.astype(np.uint8) * 255


def restored_file(path, out=None):
    photo = read_photo(path)
    out = out or path.with_name("out" + path.suffix)
    write_photo(photo, *erased(photo), out)
    return photo, out


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_thumbnail_and_sizes_are_of_the_restored_picture(tmp_path, ending, orientation, order):
    path = tmp_path / f"a{ending}"
    marked().save(path, exif=exif_with_thumbnail(orientation, order), quality=95)
    photo, out = restored_file(path)
    turned = orientation >= 5
    assert photo.size == (SIZE[::-1] if turned else SIZE) and photo.notes == []
    with Image.open(out) as image:
        block = image.info["exif"].removeprefix(b"Exif\0\0")
        main, inner, second = directories(block)
        assert main[0x0112] == second[0x0112] == 1 and (inner[0xA002], inner[0xA003]) == photo.size == image.size
        with Image.open(io.BytesIO(block[second[0x0201] :][: second[0x0202]])) as thumbnail:
            assert thumbnail.size == (THUMBNAIL[::-1] if turned else THUMBNAIL)
            small = np.asarray(thumbnail.convert("RGB")).astype(int)
        whole = np.asarray(image.convert("RGB").resize(thumbnail.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(small - whole).mean() < 6
    assert (small[..., 0] - small[..., 1]).max() < 60  # nothing of the red mark


def test_a_thumbnail_is_kept_byte_for_byte_where_nothing_changes(tmp_path):
    path, exif = tmp_path / "a.png", exif_with_thumbnail(1)
    Image.new("RGB", SIZE, "grey").save(path, exif=exif)
    assert Image.open(restored_file(path)[1]).info["exif"] == exif


def test_a_thumbnail_that_cannot_be_drawn_anew_is_dropped_with_a_note(tmp_path):
    path = tmp_path / "a.jpg"
    exif = exif_with_thumbnail(6)
    at = exif.index(b"\xff\xd8\xff")
    marked().save(path, exif=exif[:at] + b"\0" * 40 + exif[at + 40 :])
    photo, out = restored_file(path)
    assert photo.notes == ["the thumbnail in the EXIF block is not kept: it could not be drawn anew"]
    main, _, second = directories(Image.open(out).info["exif"][6:])
    assert second == {} and main[0x0112] == 1
    assert exif_with_thumbnail(6)[-60:] not in out.read_bytes()


PACKETS = {
    "attribute": '<rdf:Description tiff:Orientation="%d" dc:a="b"/>',
    "quoted": "<rdf:Description tiff:Orientation='%d'/>",
    "element": "<rdf:Description><tiff:Orientation>%d</tiff:Orientation></rdf:Description>",
}


def save_with_xmp(path, packet, exif=None):
    """The picture with an XMP packet, by each format's own way."""
    image, options = Image.fromarray(scene(30, 41, 3)), {} if exif is None else {"exif": exif}
    if path.suffix == ".tif":
        tags = [(700, 1, len(packet), packet, True)]
        tags += [(274, 3, 1, exif[0x0112], True)] if exif else []
        tifffile.imwrite(path, np.asarray(image), photometric="rgb", extratags=tags, metadata=None)
    elif path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
        image.save(path, pnginfo=info, **options)
    else:
        image.save(path, xmp=packet, **options, **({"lossless": True} if path.suffix == ".webp" else {}))


@pytest.mark.parametrize("form", PACKETS)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(("in_exif", "wanted"), [(None, 6), (1, 1), (3, 3), (0, 6)])
def test_exif_decides_on_the_turn_and_where_it_is_silent_xmp(tmp_path, ending, form, in_exif, wanted):
    path = tmp_path / f"a{ending}"
    exif = Image.Exif()
    if in_exif is not None:
        exif[0x0112] = in_exif
    save_with_xmp(path, (PACKETS[form] % 6).encode(), exif if in_exif is not None else None)
    photo, _, mask, out = through(path)
    assert photo.size == ((30, 41) if wanted == 6 else (41, 30))
    with Image.open(path) as image:
        memory = from_pil(image)
    assert np.array_equal(memory.rgb, photo.rgb)
    again = read_photo(out)
    assert again.size == photo.size and again.turn == 1 and again.xmp == (PACKETS[form] % 1).encode()
    with Image.open(out) as image:
        assert image.getexif().get(0x0112, 1) == 1 or in_exif == 0
        assert np.array_equal(from_pil(image).rgb[mask == 0], again.rgb[mask == 0])


def test_previews_in_xmp_are_dropped_with_a_note(tmp_path):
    path = tmp_path / "a.jpg"
    before = b'<rdf:Description xmp:Rating="3" '
    preview = (
        b"<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>AAAA</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    )
    packet = before + b">" + preview + b"<dc:title>t</dc:title></rdf:Description>"
    save_with_xmp(path, packet)
    photo, _, _, out = through(path)
    assert photo.notes == ["the previews in the XMP packet are not kept"]
    assert read_photo(out).xmp == before + b"><dc:title>t</dc:title></rdf:Description>"


def test_the_exif_block_that_imagemagick_writes_as_text_is_read_and_becomes_a_chunk(tmp_path):
    path = tmp_path / "a.png"
    exif = exif_with_thumbnail(6)
    digits = exif.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{lines}\n", zip=True)
    marked().save(path, pnginfo=info)
    photo, out = restored_file(path)
    assert photo.size == SIZE[::-1] and np.array_equal(from_pil(Image.open(path)).rgb, photo.rgb)
    with Image.open(out) as image:
        assert "Raw profile type exif" not in image.info and image.getexif()[0x0112] == 1

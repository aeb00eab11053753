"""XMP packets: the orientation, and properties that are no longer true of the restored picture.

The packet is changed as text, so that its other properties, its order and its padding stay. Libraries that were tried:
`xml.etree` renames the prefixes, and loses the packet's frame and its comments; python-xmp-toolkit needs the C library
Exempi, which has no wheel.
"""

import re

ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)([0-9])""")
LENGTH = re.compile(rb"""(Item:Length\s*(?:=\s*["']|>)\s*)\d+""")
VALUE = rb"""\s*=\s*(?:"[^"]*"|'[^']*')"""
ITEM = rb"""<rdf:li\b(?:(?!<rdf:li\b)(?!</rdf:li>).)*?Semantic(?:\s*=\s*["']|>)\s*%s(?:(?!</rdf:li>).)*</rdf:li>\s*"""


def orientation(xmp: bytes) -> int | None:
    """The orientation, 1 to 8; None if it is missing or invalid."""
    found = ORIENTATION.search(xmp)
    value = int(found[2]) if found else 0
    return value if value in range(1, 9) else None


def upright(xmp: bytes) -> bytes:
    """The same packet with an orientation of 1, of the same length; a missing orientation is not added."""
    return ORIENTATION.sub(rb"\g<1>1", xmp)


def without(xmp: bytes, *names: str) -> bytes:
    """The same packet without the properties whose names match, as attributes or as elements.

    Args:
        xmp: the packet, UTF-8.
        names: patterns of prefixed names, such as `GCamera:MicroVideo\\w*`.
    """
    name = b"(?:" + "|".join(names).encode() + b")"
    xmp = re.sub(rb"<(" + name + rb")(?:\s[^>]*?)?(?:/>|>.*?</\1\s*>)", b"", xmp, flags=re.DOTALL)
    return re.sub(rb"\s" + name + VALUE, b"", xmp)


def items(xmp: bytes, semantic: str) -> list[bytes]:
    """The entries of a container directory that have this semantic, such as `MotionPhoto`."""
    return re.findall(ITEM % semantic.encode(), xmp, flags=re.DOTALL)


def without_item(xmp: bytes, semantic: str) -> bytes:
    """The same packet without the entry of a container directory that has this semantic, such as `GainMap`.

    Source: Ultra HDR image format, https://developer.android.com/media/platform/hdr-image-format
    """
    return re.sub(ITEM % semantic.encode(), b"", xmp, flags=re.DOTALL)


def with_length(xmp: bytes, semantic: str, length: int) -> bytes:
    """The same packet with this number of bytes in the entry of a container directory that has this semantic."""
    for item in items(xmp, semantic):
        xmp = xmp.replace(item, LENGTH.sub(rb"\g<1>%d" % length, item))
    return xmp

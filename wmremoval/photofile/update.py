"""Metadata made true for the restored picture: orientation, pixel sizes, previews and claims."""

from functools import cached_property

import cv2
import numpy as np

from wmremoval.photofile import exif, gainmap, jpeg, motion, photoshop, png, tiff, xmp
from wmremoval.photofile.formats import Photo

PREVIEW_SIDE = 1024  # pixels; longest side of the picture from which previews are drawn. Not measured.


class Update:
    """The restored picture, and the metadata blocks that fit it; losses are added to the photograph's notes.

    Args:
        photo, restored, mask: see `restored_strips`.
    """

    def __init__(self, photo: Photo, restored: np.ndarray, mask: np.ndarray):
        self.photo, self._restored, self._mask = photo, restored, mask
        self.gain = b""  # the gain map of the restored picture
        self.changed = photo.turn != 1 or bool(mask.any())  # previews of the file show another picture

    def keep_gain_map(self) -> None:
        """Repair the gain map under the mask; a note says if that cannot be done."""
        self.gain = gainmap.repaired(self.photo.gain, self._mask, self.photo.turn)
        if not self.gain:
            self.photo.note(f"{gainmap.NAME} is not kept: it is damaged, or the mask covers too much of it")

    @cached_property
    def preview(self) -> np.ndarray:
        """The restored picture, upright, (h, w, 3) uint8, at most `PREVIEW_SIDE` long."""
        scale = min(1.0, PREVIEW_SIDE / max(self.photo.size))
        size = tuple(max(1, round(side * scale)) for side in self.photo.size)
        views = (self.photo.rgb, self._restored, self._mask)
        before, after, mask = (cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in views)
        return np.where(mask[..., None] > 0, after, before)  # outside the mask nothing is used of the restoration

    @cached_property
    def _stale_extension(self) -> bool:
        """True if the second part of the XMP packet holds a picture of the mark."""
        parts = [data for _, data in self.photo.details.get("segments", ()) if data.startswith(jpeg.MORE_XMP)]
        return self.changed and any(name in part for part in parts for name in (b"GImage:Data", b"xmpGImg:image"))

    def exif(self, block: bytes) -> bytes:
        """The EXIF block with orientation, pixel sizes and thumbnail of the restored picture."""
        block = exif.with_size(exif.upright(block), *self.photo.size)
        if not self.changed:
            return block
        block, kept = exif.with_thumbnail(block, self.preview, self.photo.turn >= 5)
        if not kept:
            self.photo.note("the thumbnail in the EXIF block is not kept: it could not be drawn anew")
        return block

    def xmp(self, packet: bytes) -> bytes:
        """The XMP packet with the orientation of the restored picture, without what is no longer in the file."""
        packet = motion.without_video(packet) if motion.claims_video(packet) and not self.photo.trailer else packet
        packet = xmp.upright(packet)
        if self.gain:
            packet = xmp.with_length(packet, "GainMap", len(self.gain))
        else:
            packet = xmp.without_item(xmp.without(packet, r"hdrgm:\w+"), "GainMap")
        if self.photo.signed:
            packet = xmp.without(packet, "dcterms:provenance")
        pruned = xmp.without(packet, "xmp:Thumbnails", "xap:Thumbnails") if self.changed else packet
        if self._stale_extension:
            pruned = xmp.without(pruned, "xmpNote:HasExtendedXMP")
        if pruned != packet:
            self.photo.note("the previews in the XMP packet are not kept")
        return pruned

    def photoshop(self, resources: bytes) -> bytes:
        """Photoshop's resources with their thumbnail drawn anew."""
        if not self.changed:
            return resources
        resources, kept = photoshop.with_thumbnail(resources, self.preview, self.photo.turn >= 5)
        if not kept:
            self.photo.note("Photoshop's thumbnail is not kept: it could not be drawn anew")
        return resources

    def segments(self) -> list[jpeg.Segment]:
        """The segments of a JPEG, with metadata that fits the restored picture."""
        result = []
        for marker, data in jpeg.without_credentials(self.photo.details["segments"]):
            if marker == 0xE1 and data.startswith(jpeg.EXIF):
                data = self.exif(data)
            elif marker == 0xE1 and data.startswith(jpeg.XMP):
                data = jpeg.XMP + self.xmp(data.removeprefix(jpeg.XMP))
            elif marker == 0xED and data.startswith(jpeg.PHOTOSHOP):
                data = jpeg.PHOTOSHOP + self.photoshop(data.removeprefix(jpeg.PHOTOSHOP))
            elif (data.startswith(jpeg.GAIN_MAP) and not self.gain) or (
                data.startswith(jpeg.MORE_XMP) and self._stale_extension
            ):
                continue
            segment = jpeg.without_jfif_thumbnail((marker, data)) if self.changed else (marker, data)
            result += [segment] if segment else []
        return result

    def chunks(self) -> list[png.Chunk]:
        """The chunks of a PNG, with metadata that fits the restored picture."""
        chunks = (self._chunk(chunk) for chunk in self.photo.details["chunks"])
        return [chunk for chunk in chunks if chunk.name != png.CREDENTIALS]

    def _chunk(self, chunk: png.Chunk) -> png.Chunk:
        if chunk.name == b"eXIf":
            return png.Chunk(b"eXIf", self.exif(chunk.data))
        if chunk.data.startswith(png.TEXT_EXIF + b"\0") and self.photo.exif:
            return png.Chunk(b"eXIf", self.exif(self.photo.exif))
        packet = png.xmp_of(chunk)
        updated = None if packet is None else self.xmp(packet)
        return chunk if updated is None or updated == packet else png.xmp_chunk(updated)

    def tags(self) -> list[tiff.Tag]:
        """The tags of a TIFF, with metadata that fits the restored picture."""
        width, height = self.photo.size
        sizes = {0xA002: tiff.long(0xA002, width), 0xA003: tiff.long(0xA003, height)}
        rewritten = {tiff.XMP: self.xmp, tiff.PHOTOSHOP_RESOURCES: self.photoshop}
        result = []
        for tag in self.photo.details["tags"]:
            if tag.number in rewritten:
                data = rewritten[tag.number](tag.data)
                tag = tiff.Tag(tag.number, tag.type, len(data) // tiff.SIZES[tag.type], data)
            elif tag.inside:
                inside = tuple(sizes.get(inner.number, inner) for inner in tag.inside)
                tag = tiff.Tag(tag.number, tag.type, tag.count, tag.data, inside)
            result += [] if tag.number == tiff.CREDENTIALS else [tag]
        return result

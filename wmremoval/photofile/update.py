"""Metadata made true for the restored picture: orientation, pixel sizes, previews and claims."""

from functools import cached_property

import cv2
import numpy as np

from wmremoval.photofile import exif, xmp
from wmremoval.photofile.formats import Photo

PREVIEW_SIDE = 1024  # pixels; longest side of the picture from which previews are drawn. Not measured.


class Update:
    """The restored picture, and the metadata blocks that fit it; losses are added to the photograph's notes.

    Args:
        photo, restored, mask: see `restored_strips`.
    """

    def __init__(self, photo: Photo, restored: np.ndarray, mask: np.ndarray):
        self.photo, self._restored, self._mask = photo, restored, mask
        self.changed = photo.turn != 1 or bool(mask.any())  # previews of the file show another picture

    @cached_property
    def preview(self) -> np.ndarray:
        """The restored picture, upright, (h, w, 3) uint8, at most `PREVIEW_SIDE` long."""
        scale = min(1.0, PREVIEW_SIDE / max(self.photo.size))
        size = tuple(max(1, round(side * scale)) for side in self.photo.size)
        views = (self.photo.rgb, self._restored, self._mask)
        before, after, mask = (cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in views)
        return np.where(mask[..., None] > 0, after, before)  # outside the mask nothing is used of the restoration

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
        """The XMP packet with the orientation of the restored picture, without previews of the old one."""
        packet = xmp.upright(packet)
        if not self.changed:
            return packet
        pruned = xmp.without(packet, "xmp:Thumbnails", "xap:Thumbnails", "GImage:Data", "GImage:Mime")
        if pruned != packet:
            self.photo.note("the previews in the XMP packet are not kept")
        return pruned

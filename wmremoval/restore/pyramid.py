"""A photograph and its shrunken views: their sizes, pixels and boxes in one place."""

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # top, left, bottom, right, pixels of a view; bottom and right are excluded
Block = tuple[slice, slice]  # rows and columns, pixels

# Chosen, not measured.
VIEW_SIDE = 96  # pixels; shorter side below which no view is shrunk: the smallest size of training
SEARCH_PIXELS = 1_000_000  # pixels; a view of up to so many is always searched whole
SEARCH_SHARE = 16  # native pixels for each searched pixel of a larger photograph, and the factor of the time saved
STRIP = 512  # native rows that are shrunk at once; limits the memory of padded copies


class Pyramid:
    """The views of a photograph, each shrunk by a whole factor 1, 2, 4, ...

    Args:
        photo: (H, W, 3) RGB uint8; never changed.
    """

    def __init__(self, photo: np.ndarray):
        self.photo = photo
        self.factors = view_factors(*photo.shape[:2])
        self.search_factor = min(search_factor(*photo.shape[:2]), self.factors[-1])  # of the finest view searched whole

    def size(self, factor: int) -> tuple[int, int]:
        """Height and width of a view, pixels."""
        return -(-self.photo.shape[0] // factor), -(-self.photo.shape[1] // factor)

    def pixels(self, factor: int, block: Block) -> np.ndarray:
        """A block of a view, (h, w, 3) RGB uint8."""
        return shrink(self.photo, factor, *block)

    def box(self, box: Box, factor: int) -> Box:
        """Convert a box of the searched view to the smallest box of another view that covers it."""
        height, width = self.size(factor)
        top, left, bottom, right = (side * self.search_factor for side in box)  # native pixels
        return top // factor, left // factor, min(-(-bottom // factor), height), min(-(-right // factor), width)

    def native(self, box: Box) -> Block:
        """Convert a box of the searched view to rows and columns of the photograph."""
        return box_slices(self.box(box, 1))


def view_factors(height: int, width: int, side: int = VIEW_SIDE) -> list[int]:
    """The factors 1, 2, 4, ... of the views: 1, and those whose view has a shorter side of at least `side` pixels.

    Example:
        >>> view_factors(3000, 4000)
        [1, 2, 4, 8, 16]
    """
    factors = [1]
    while min(height, width) // (2 * factors[-1]) >= side:
        factors.append(2 * factors[-1])
    return factors


def search_factor(height: int, width: int) -> int:
    """The factor of the finest view that is searched whole: 1 up to a megapixel, 4 for 12 megapixels.

    Example:
        >>> search_factor(800, 1000), search_factor(3000, 4000), search_factor(10000, 10000)
        (1, 4, 4)
    """
    most, factor = max(SEARCH_PIXELS, height * width / SEARCH_SHARE), 1
    while height * width / factor**2 > most:
        factor *= 2
    return factor


def shrink(photo: np.ndarray, factor: int, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
    """Shrink a photograph by a whole factor; each pixel is the mean of a square, and borders are repeated.

    Args:
        photo: (H, W) or (H, W, 3) uint8.
        factor: 1, 2, 4, ...
        rows, columns: part of the shrunken view, pixels; None: all.

    Returns:
        (ceil(H / factor), ceil(W / factor), ...) uint8, or the given part of it; a view of `photo` if `factor` is 1.
    """
    height, width = (-(-side // factor) for side in photo.shape[:2])
    rows, columns = rows or slice(0, height), columns or slice(0, width)
    if factor == 1:
        return photo[rows, columns]
    view = np.empty((rows.stop - rows.start, columns.stop - columns.start, *photo.shape[2:]), photo.dtype)
    strip = max(1, STRIP // factor)  # rows of the view
    for top in range(rows.start, rows.stop, strip):
        bottom = min(top + strip, rows.stop)
        part = photo[top * factor : bottom * factor, columns.start * factor : columns.stop * factor]
        missing = ((bottom - top) * factor - part.shape[0], (view.shape[1]) * factor - part.shape[1])
        if any(missing):
            part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        size = (view.shape[1], bottom - top)
        view[top - rows.start : bottom - rows.start] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return view


def box_slices(box: Box) -> Block:
    """Convert a box to rows and columns."""
    return slice(box[0], box[2]), slice(box[1], box[3])

"""A restored JPEG whose blocks outside of the mask keep their coefficients.

The coefficients are read and written by jpeglib, a binding of libjpeg. Others that were looked at: Pillow and OpenCV give
no coefficients; `jpegtran -drop` and PyTurboJPEG need a program or a library that the user must install. jpeglib 1.0.2
does not write the black component of a CMYK file, which is therefore coded anew by Pillow, and writes a progressive file
only with its mozjpeg, at 5 MP/s on one core of an AMD EPYC (24 MP, 4.3 s).
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wmremoval.images import DAMAGED
from wmremoval.photofile import jpeg
from wmremoval.photofile.errors import quiet_codecs
from wmremoval.photofile.formats import Photo

LIBRARY = {False: "turbo210", True: "mozjpeg403"}  # jpeglib's names, for a sequential and a progressive file
# Pixels; larger files are coded anew, to stay within the memory. Measured at 24 MP: 10 MB per MP, 3 MB with Pillow.
MOST_PIXELS = 64_000_000
# Orientation: rows and columns are exchanged, then rows are reversed, then columns are reversed.
TURNS = {1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
         5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}  # fmt: skip
# RGB to YCbCr, JFIF 1.02; the chroma is around 0.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])
DCT = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) / (2 if u else 8**0.5) for x in range(8)] for u in range(8)])
LARGEST_COEFFICIENT = 1023  # of 8-bit samples: coefficients of more bits cannot be coded; ITU-T T.81, table F.1 and F.2


def can_keep_blocks(photo: Photo) -> bool:
    """True if the blocks of a photograph can be kept: a complete JPEG, not CMYK, that can be turned block by block.

    A JPEG of more than `MOST_PIXELS` is too large.
    """
    details, (width, height) = photo.details, photo.size
    if photo.format != "JPEG" or photo.kind.colour == "cmyk" or not details["complete"] or width * height > MOST_PIXELS:
        return False
    most = np.max(details["factors"], axis=0)  # down, across
    if (most % details["factors"]).any():
        return False
    exchanged, reverse_rows, reverse_columns = TURNS[photo.turn]
    down, across = 8 * (most[::-1] if exchanged else most)
    # A picture that does not fill its last blocks cannot begin with them.
    whole = (not reverse_rows or height % down == 0) and (not reverse_columns or width % across == 0)
    return photo.turn == 1 or (bool(whole) and not details["rgb"])


class Blocks:
    """The coefficients of a photograph's JPEG, upright.

    Args:
        photo: `can_keep_blocks` is true for it.
        folder: an empty folder for the files that jpeglib reads and writes.

    Raises:
        OSError: jpeglib cannot read the file.
    """

    def __init__(self, photo: Photo, folder: Path):
        self._path = folder / "blocks.jpg"
        self._path.write_bytes(jpeg.picture_only(photo.path.read_bytes()))
        self.progressive, self.size = photo.details["progressive"], photo.size
        self.is_rgb, self.numbers = photo.details["rgb"], photo.details["numbers"]
        self._file = self._read()
        names = ("Y", "Cb", "Cr")[: self._file.num_components]
        self.components = [getattr(self._file, name) for name in names]
        self.factors = [tuple(int(value) for value in pair) for pair in self._file.samp_factor]  # down, across
        self.tables = [self._file.qt[number] for number in self._file.quant_tbl_no]
        if photo.turn != 1:
            self._turn(photo.turn)
        for name, component in zip(names, self.components, strict=True):
            setattr(self._file, name, component)

    def _turn(self, orientation: int) -> None:
        self.components = [turned(component, orientation) for component in self.components]
        if orientation >= 5:
            self.factors = [factors[::-1] for factors in self.factors]
            self.tables = [table.T for table in self.tables]
            self._file.qt = self._file.qt.swapaxes(1, 2)
        self._file.samp_factor = np.array(self.factors)
        self._file.block_dims = np.array([component.shape[:2] for component in self.components])
        self._file.width, self._file.height = self.size
        self._file.content = None  # which would overrule all of this

    def replace(self, top: int, rgb: np.ndarray, mask: np.ndarray) -> None:
        """Code some rows of pixels into the blocks that the mask touches; the others stay.

        Args:
            top: the first row, a multiple of `rows`.
            rgb: (rows, W, 3) or (rows, W, 1) uint8.
            mask: (rows, W); not 0 where the pixel is new.
        """
        planes = rgb.astype(np.float32)
        if planes.shape[2] == 3 and not self.is_rgb:
            planes = planes @ YCBCR.T.astype(np.float32) + np.array([0, 128, 128], np.float32)
        most = np.max(self.factors, axis=0)
        for index, (component, factors) in enumerate(zip(self.components, self.factors, strict=True)):
            step = int(most[0] // factors[0]), int(most[1] // factors[1])
            new = _reduced(planes[..., index], step, np.mean)
            inside = _reduced(mask != 0, step, np.any)
            first = top // step[0] // 8
            part = component[first : first + -(-new.shape[0] // 8)]
            part[...] = _coded(part, self.tables[index], new, inside)

    @property
    def rows(self) -> int:
        """Rows of pixels in a row of blocks of every component."""
        return 8 * max(down for down, _ in self.factors)

    def encoded(self) -> bytes:
        """The JPEG, without the metadata of the photograph.

        Raises:
            OSError: jpeglib cannot write it.
        """
        if self._file.content is None:
            self._write(LIBRARY[False])
            self._path.write_bytes(jpeg.with_component_numbers(self._path.read_bytes(), self.numbers))
            if not self.progressive:
                return self._path.read_bytes()
            self._file = self._read()
        self._file.qt = 0  # jpeglib then takes the tables, and the numbers of the components, from the file it has read
        self._write(LIBRARY[self.progressive])
        return self._path.read_bytes()

    def _read(self) -> Any:
        import jpeglib

        with quiet_codecs(), jpeglib.version(LIBRARY[False]):
            file = jpeglib.read_dct(str(self._path))
            file.load()
        return file

    def _write(self, library: str) -> None:
        import jpeglib

        with quiet_codecs(), jpeglib.version(library):
            self._file.write_dct(str(self._path), flags=["+OPTIMIZE_CODING"])


def turned(component: np.ndarray, orientation: int) -> np.ndarray:
    """(rows, columns, 8, 8) coefficients turned upright by the EXIF orientation of their picture."""
    exchanged, reverse_rows, reverse_columns = TURNS[orientation]
    sign = np.where(np.arange(8) % 2, -1, 1).astype(component.dtype)
    if exchanged:
        component = component.swapaxes(0, 1).swapaxes(2, 3)
    if reverse_rows:
        component = component[::-1] * sign[:, None]
    if reverse_columns:
        component = component[:, ::-1] * sign
    return np.ascontiguousarray(component)


def _reduced(plane: np.ndarray, step: tuple[int, int], how: Any) -> np.ndarray:
    """A plane of one value for each `step` of pixels; the edge is repeated to fill the last one."""
    down, across = step
    if step == (1, 1):
        return plane
    plane = np.pad(plane, ((0, -plane.shape[0] % down), (0, -plane.shape[1] % across)), "edge")
    return how(plane.reshape(plane.shape[0] // down, down, plane.shape[1] // across, across), axis=(1, 3))


def _in_blocks(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(rows, columns, 8, 8) blocks of a plane; the edge is repeated to fill the last ones."""
    rows, columns = shape
    plane = np.pad(plane, ((0, rows * 8 - plane.shape[0]), (0, columns * 8 - plane.shape[1])), "edge")
    return plane.reshape(rows, 8, columns, 8).swapaxes(1, 2)


def _coded(old: np.ndarray, table: np.ndarray, new: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(rows, columns, 8, 8) coefficients: those of `old`, and new ones for the blocks that the mask touches.

    In a touched block, samples outside of the mask keep the values that the old coefficients give, before rounding.
    """
    result = old.copy()
    inside = _in_blocks(inside, old.shape[:2])
    touched = inside.any(axis=(2, 3))
    if not touched.any():
        return result
    kept = DCT.T @ (old[touched] * table.astype(np.float64)) @ DCT + 128
    samples = np.where(inside[touched], _in_blocks(new, old.shape[:2])[touched], kept)
    coefficients = np.rint(DCT @ (samples - 128) @ DCT.T / table)
    result[touched] = np.clip(coefficients, -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    return result


def is_picture(encoded: bytes, size: tuple[int, int]) -> bool:
    """True if Pillow reads the header of a JPEG, and its size is this."""
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            return image.size == size
    except DAMAGED:
        return False

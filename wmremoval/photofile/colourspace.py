"""Colour spaces of RGB photographs: the view in sRGB, and colours of sRGB back in the photograph's own space.

A space of three primaries and curves is computed here, since Pillow's binding of Little CMS converts 8 bits only; Little
CMS converts by profiles that hold tables. Sources: ICC.1:2022, sections 8.3, 10.6, 10.18 and 10.31; ITU-T H.273, tables 2
and 3; ITU-R BT.2100, tables 4 and 5, and BT.2408, section 5.1, for white.
"""

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageCms

from wmremoval.photofile.pixels import NotSupported

LEVELS = 65536  # entries of a curve; enough for 16-bit samples
# Grey levels; a space whose view differs by no more from the samples is taken as sRGB. Measured: 9 for a camera's "sRGB
# Profile" with a plain gamma, 135 for Adobe RGB.
NEAR_SRGB = 10
HDR_WHITE = 203.0  # cd/m2 of a diffuse white, which becomes white in the view; BT.2408
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # cd/m2 and system gamma of the nominal HLG display; BT.2100
# Linear sRGB in XYZ of the profile connection space, D50 (IEC 61966-2-1, adapted by Bradford), one primary a column.
SRGB_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D65 = (0.3127, 0.3290)
PRIMARIES = {  # chromaticities of red, green and blue by their code in H.273
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709, sRGB
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)  # sRGB, BT.709 and its like, which viewers show as sRGB
CURVES = (b"rTRC", b"gTRC", b"bTRC")
COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values in [0, 1]; IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """sRGB values of linear light in [0, 1]; IEC 61966-2-1."""
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055)


SRGB_LEVELS = np.rint(linear_to_srgb(np.linspace(0, 1, LEVELS)) * 255).astype(np.uint8)


class PrimarySpace:
    """A space of three primaries and three curves.

    Args:
        matrix: (3, 3), linear light of the space to linear sRGB.
        curves: (3, `LEVELS`), linear light for each value of a sample, rising; 1 is white.
    """

    def __init__(self, matrix: np.ndarray, curves: np.ndarray):
        self.matrix, self.curves = matrix, np.asarray(curves, np.float64)
        self._inverse = np.linalg.inv(matrix)
        self._tables = self.curves.astype(np.float32)

    def to_srgb(self, samples: np.ndarray, top: int) -> np.ndarray:
        """(..., 3) uint8 sRGB of (..., 3) samples from 0 to `top`, 255 or 65535; colours outside sRGB are clipped."""
        index = samples if top == LEVELS - 1 else samples * np.uint16((LEVELS - 1) // top)
        linear = np.stack([self._tables[channel][index[..., channel]] for channel in range(3)], axis=-1)
        linear = cv2.transform(linear.reshape(1, -1, 3), self.matrix.astype(np.float32)).reshape(samples.shape)
        return SRGB_LEVELS[np.rint(np.clip(linear, 0, 1) * (LEVELS - 1)).astype(np.uint16)]

    def from_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """(..., 3) float64 samples in [0, 1] of (..., 3) sRGB from 0 to 255."""
        linear = srgb_to_linear(np.asarray(rgb, np.float64) / 255.0) @ self._inverse.T
        grid = np.linspace(0, 1, LEVELS)
        return np.stack([np.interp(linear[..., i], self.curves[i], grid) for i in range(3)], axis=-1)


class ProfileSpace:
    """The space of an ICC profile with tables; 8 bits.

    Raises:
        NotSupported: the profile converts one way only.
        ImageCms.PyCMSError: the profile is damaged.
    """

    def __init__(self, icc: bytes):
        profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        self._there = ImageCms.buildTransform(profile, srgb, "RGB", "RGB", intent)
        try:
            self._back = ImageCms.buildTransform(srgb, profile, "RGB", "RGB", intent)
        except ImageCms.PyCMSError:
            raise NotSupported("its colour profile has no way back from sRGB: convert the picture to sRGB") from None

    def to_srgb(self, samples: np.ndarray, top: int) -> np.ndarray:
        """(..., 3) uint8 sRGB of (..., 3) samples from 0 to `top`."""
        levels = samples if top == 255 else np.rint(samples * (255.0 / top)).astype(np.uint8)
        return _transformed(levels, self._there)

    def from_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """(..., 3) float64 samples in [0, 1] of (..., 3) sRGB from 0 to 255."""
        return _transformed(np.rint(rgb).astype(np.uint8), self._back) / 255.0


ColourSpace = PrimarySpace | ProfileSpace


def _transformed(levels: np.ndarray, transform: ImageCms.ImageCmsTransform) -> np.ndarray:
    rows = np.ascontiguousarray(levels.reshape(1, -1, 3))
    if not rows.size:
        return levels
    return np.asarray(ImageCms.applyTransform(Image.fromarray(rows), transform)).reshape(levels.shape)


def space_of_profile(icc: bytes) -> ColourSpace | None:
    """The space of an ICC profile for RGB; None for sRGB and its near likes, for no profile, and for a damaged one.

    Raises:
        NotSupported: the profile converts one way only.
    """
    if icc[16:20] != b"RGB ":
        return None
    try:
        tags = _tags(icc)
        tables = b"A2B0" in tags or icc[20:24] != b"XYZ "
        space = ProfileSpace(icc) if tables else _primary_space(tags)
    except (ImageCms.PyCMSError, LookupError, OSError, struct.error, np.linalg.LinAlgError):
        return None  # viewers ignore a damaged profile, too
    return None if _is_near_srgb(space) else space


def _is_near_srgb(space: ColourSpace) -> bool:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return bool(np.abs(space.to_srgb(grid, 255).astype(int) - grid).max() <= NEAR_SRGB)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    count = min(struct.unpack_from(">I", icc, 128)[0], 200)
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(count))
    return {name: icc[start : start + size] for name, start, size in entries}


def _primary_space(tags: dict[bytes, bytes]) -> PrimarySpace:
    colorants = np.array([struct.unpack_from(">3i", tags[name], 8) for name in COLORANTS]).T / 65536.0
    curves = np.stack([np.maximum.accumulate(_curve(tags[name])) for name in CURVES])
    return PrimarySpace(np.linalg.inv(SRGB_D50) @ colorants, curves)


def _curve(tag: bytes) -> np.ndarray:
    """(`LEVELS`,) linear light of a curve tag."""
    grid = np.linspace(0, 1, LEVELS)
    if tag[:4] == b"curv":
        count = struct.unpack_from(">I", tag, 8)[0]
        if count == 0:
            return grid
        if count == 1:
            return grid ** (struct.unpack_from(">H", tag, 12)[0] / 256.0)
        points = np.frombuffer(tag, ">u2", min(count, 65536), 12) / 65535.0
        return np.interp(grid, np.linspace(0, 1, len(points)), points)
    kind = struct.unpack_from(">H", tag, 8)[0]
    g, *more = np.array(struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)) / 65536.0
    a, b, c, d, e, f = [*more, *[0.0] * (6 - len(more))] if more else (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    power = np.maximum(a * grid + b, 0) ** g
    if kind == 0:
        return power
    if kind in (1, 2):  # a power above -b / a, a constant below
        return np.where(grid >= -b / a, power + c, c)
    return np.where(grid >= d, power + e, c * grid + f)


def space_of_codes(primaries: int, transfer: int) -> ColourSpace | None:
    """The space of code points of ITU-T H.273, as in a PNG's cICP; None for sRGB.

    Raises:
        NotSupported: unknown codes.
    """
    if primaries in (1, 2) and transfer in SRGB_TRANSFERS:
        return None
    curves: dict[int, Callable[[np.ndarray], np.ndarray]] = dict.fromkeys(SRGB_TRANSFERS, srgb_to_linear)
    curves |= {8: lambda values: values, 16: _pq, 18: _hlg}
    if primaries not in PRIMARIES or transfer not in curves:
        raise NotSupported(f"colours of the cICP codes {primaries} and {transfer} are not supported: convert to sRGB")
    matrix = np.linalg.inv(_to_xyz(PRIMARIES[1])) @ _to_xyz(PRIMARIES[primaries])
    return PrimarySpace(matrix, np.stack([curves[transfer](np.linspace(0, 1, LEVELS))] * 3))


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(3, 3) linear light of primaries with white D65 to XYZ."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y]))


def _pq(values: np.ndarray) -> np.ndarray:
    """Light of PQ values, 1 at `HDR_WHITE`; BT.2100, table 4."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    return 10000.0 / HDR_WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg(values: np.ndarray) -> np.ndarray:
    """Light of HLG values on the nominal display, 1 at `HDR_WHITE`, by channel; BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return HLG_PEAK / HDR_WHITE * scene**HLG_GAMMA

"""Logos, read and split by brand, so that training never sees a variant of a test logo."""

import logging
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from wmremoval.images import DAMAGED

logger = logging.getLogger(__name__)


LOGO_FILES = (".png", ".webp")  # formats with transparency
LOGO_SIDE = 256  # pixels; longer side of a logo at most. Chosen, not measured.
TEST_PERCENT = 15  # percent of the brands, for the test only. Chosen, not measured.
# Words for the variants of a logo at the end of a file name.
VARIANT = re.compile(r"(-(color|white|black|icon|brand|text|wordmark|original|plain|line))+$")


def brand_of(path: str | Path) -> str:
    """The brand of a logo's file: its stem in lower case, without the prefix of the source and words for variants.

    Example:
        >>> brand_of("lobehub_Baidu-brand-color.png"), brand_of("devicon_git-original-wordmark.png")
        ('baidu', 'git')
    """
    return VARIANT.sub("", Path(path).stem.split("_", 1)[-1].lower())


def split_logos(folder: str | Path) -> dict[str, list[Path]]:
    """Split the logo files of a folder by a checksum of their brand; more files do not move a brand.

    Returns:
        {"train": [...], "test": [...]}, each sorted by name, together every PNG and WebP of the folder.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; give a folder of logos, PNG or WebP files with transparency")
    split: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in LOGO_FILES):
        test = zlib.crc32(brand_of(path).encode()) % 100 < TEST_PERCENT
        split["test" if test else "train"].append(path)
    return split


def logos_by_part(folder: str | Path) -> dict[str, list[np.ndarray]]:
    """The logos of each part of the photographs: training and validation share brands, the test has its own.

    A folder with too few brands for a test part gives all of its logos to every part, and logs it.

    Returns:
        {"train": [...], "val": [...], "test": [...]}, each of (h, w, 4) RGBA uint8 arrays.

    Raises:
        ValueError: there is no such folder, or it holds no picture with transparency.
    """
    split = split_logos(folder)
    if not (split["train"] and split["test"]):
        logger.info(f"{folder}: too few brands to keep some for the test, so all logos are trained on and tested with")
        logos = load_logos(folder)
        return {"train": logos, "val": logos, "test": logos}
    train = load_logo_part(folder, "train")
    return {"train": train, "val": train, "test": load_logo_part(folder, "test")}


def load_logo_part(folder: str | Path, part: str) -> list[np.ndarray]:
    """Read one part of `split_logos`, at most `LOGO_SIDE` pixels long: (h, w, 4) RGBA uint8 arrays, sorted by name.

    Raises:
        ValueError: the part holds no picture with transparency.
    """
    logos = read_logos(split_logos(folder)[part])
    if not logos:
        raise ValueError(
            f"no RGBA logos of the {part} brands in {folder}; give a folder of more logos, or leave it out"
        )
    return logos


def load_logos(folder: str | Path) -> list[np.ndarray]:
    """Read every RGBA PNG or WebP of a folder, sorted by name, at most `LOGO_SIDE` pixels long: (h, w, 4) uint8 arrays.

    Raises:
        ValueError: the folder holds no picture with transparency.
    """
    paths = sorted(path for path in Path(folder).expanduser().glob("*") if path.suffix.lower() in LOGO_FILES)
    logos = read_logos(paths)
    if not logos:
        raise ValueError(f"no RGBA logos in {folder}; give a folder of PNG or WebP files with transparency")
    return logos


def read_logos(paths: Sequence[Path]) -> list[np.ndarray]:
    """Read logos, at most `LOGO_SIDE` pixels long; files without transparency and damaged ones are left out.

    Returns:
        (h, w, 4) RGBA uint8 arrays.
    """
    logos = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.thumbnail((LOGO_SIDE, LOGO_SIDE))
                array = np.array(image.convert("RGBA"))
        except (*DAMAGED, Image.DecompressionBombError) as error:
            logger.info(f"skipped logo {path.name}: {(str(error) or type(error).__name__).splitlines()[0]}")
            continue
        if np.ptp(array[..., 3]):  # a rectangle of one alpha is no logo
            logos.append(array)
    return logos

"""Phrases in ten languages, the font faces that can write them, and written text as rasters."""

import importlib.util
import pkgutil
import string
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fontTools.ttLib import TTCollection, TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont, features

# Usual texts of watermarks, by language code.
PHRASES: dict[str, tuple[str, ...]] = {
    "en": (
        "SAMPLE",
        "Do Not Copy",
        "© All Rights Reserved",
        "Proof Only",
        "CONFIDENTIAL",
        "Stock Photo",
        "www.example.com",
    ),
    "es": ("Muestra", "No copiar", "Derechos reservados", "Fotografía de archivo"),
    "fr": ("Échantillon", "Ne pas copier", "Tous droits réservés", "Aperçu"),
    "de": ("Entwurf", "Nicht kopieren", "Alle Rechte vorbehalten", "Musterbild für Prüfung"),
    "zh": ("样品", "请勿复制", "版权所有", "内部资料"),
    "ja": ("サンプル", "複製禁止", "無断転載を禁じます", "見本"),
    "ko": ("견본", "복사 금지", "저작권 보호", "무단 전재 금지"),
    "ru": ("Образец", "Не копировать", "Все права защищены", "Черновик"),
    "ar": ("عينة", "ممنوع النسخ", "جميع الحقوق محفوظة", "مسودة"),
    "hi": ("नमूना", "प्रतिलिपि न करें", "सर्वाधिकार सुरक्षित", "गोपनीय"),
}
RIGHT_TO_LEFT = ("ar",)  # languages
# Languages whose letters join or reorder, and their OpenType scripts.
SHAPED = {
    "ar": ("arab",),
    "hi": ("deva", "dev2"),
}
CJK_FACES = {"zh": "SC", "ja": "JP", "ko": "KR"}  # suffix of each language's own face in a pan-CJK collection
FONT_PACKAGES = (  # modules with font files, all of them in the requirements
    "manimgx_fonts",
    "manimgx_fonts_cjk",
    "fontpkg_bebas_neue",
    "fontpkg_caveat",
    "fontpkg_great_vibes",
    "fontpkg_pacifico",
    "fontpkg_permanent_marker",
    "fontpkg_playfair_display",
)
FONT_PREFIX = "fontpkg_"  # prefix of packages with one family each; training uses all installed ones
# Families that training with installed faces leaves out. Marks in them test a network on unseen letters.
# DejaVu comes with matplotlib. Playfair, a serif for headlines, and Caveat, a handwriting, come with the requirements.
# Bitstream Vera has the letters of DejaVu.
KEPT_OUT = ("DejaVu", "Bitstream Vera", "Playfair", "Caveat")
FACES = ("packaged", "installed", "kept_out")  # sets of faces that `load_fonts` gives
# Characters of names, domains, numbers and dates.
LETTERS = frozenset(string.ascii_letters + string.digits + "©@#&'.,:/-_|")
FONT_FILES = (".ttf", ".otf", ".ttc", ".otc")  # suffixes
MAX_SYSTEM_FILES = 48  # font files of the system at most; reading hundreds would take minutes. Not measured.
WEIGHTS = (400.0, 700.0)  # OpenType weights taken from a variable font: regular and bold
MOST_SHARED = 50  # characters; a glyph shared by so many is a placeholder. Not measured.
RASTERS_KEPT = 384  # rasters in the cache; at most 60 MB with the largest em of 128 pixels (tests/data/test_fonts.py)


@dataclass(frozen=True)
class Face:
    """A font face: a file, the index of the face in it, and a weight for variable fonts."""

    path: str
    index: int = 0
    weight: float | None = None  # OpenType units; None where the file has one weight


@dataclass(frozen=True)
class FontBook:
    """The faces that write each language."""

    faces: dict[str, tuple[Face, ...]]  # by language
    missing: dict[str, str] = field(default_factory=dict)  # languages without a face here, and the reason of each
    families: tuple[tuple[Face, ...], ...] = ()  # faces that have all `LETTERS`, those of one folder together

    def phrases(self) -> list[tuple[str, str]]:
        """All phrases that can be written, as (language, phrase)."""
        return [(language, phrase) for language in self.faces for phrase in PHRASES[language]]


@lru_cache(maxsize=4)
def load_fonts(system: bool = False, faces: str = "packaged") -> FontBook:
    """Find faces for every language.

    Languages without a face are left out, and so are those that need shaping where Pillow lacks Raqm or FriBiDi. One
    warning names them, except for the kept-out families, which write Western languages only.

    Args:
        system: True: the system's fonts too.
        faces: one of `FACES`. "packaged": those of `FONT_PACKAGES`, the same on every machine. "installed": those and
            every other installed font package, less the families of `KEPT_OUT`. "kept_out": these families alone.

    Raises:
        ValueError: `faces` is none of `FACES`.
    """
    files = _font_files(system, faces)
    shaping = features.check("raqm")
    by_language, missing = {}, {}
    for language, phrases in PHRASES.items():
        if language in SHAPED and not shaping:
            missing[language] = "Pillow finds no FriBiDi for shaping (install the system's fribidi library)"
            continue
        letters = frozenset("".join(phrases))
        found = tuple(face for path in files for face in _faces_of(path, language, letters) if _draws(face, phrases[0]))
        if found:
            by_language[language] = found
        else:
            missing[language] = "no font has its letters (pip install manimgx-fonts manimgx-fonts-cjk)"
    if missing and faces != "kept_out":
        reasons = "; ".join(f"{language}: {reason}" for language, reason in missing.items())
        warnings.warn(f"watermark phrases left out: {reasons}", stacklevel=2)
    families: dict[Path, tuple[Face, ...]] = {}
    for path in files:
        found = tuple(face for face in _faces_of(path, "en", LETTERS) if _draws(face, "A"))
        families[path.parent] = families.get(path.parent, ()) + found
    return FontBook(by_language, missing, tuple(family for family in families.values() if family))


def _font_files(system: bool, faces: str) -> list[Path]:
    if faces not in FACES:
        raise ValueError(f"faces must be one of {', '.join(FACES)}, got {faces!r}")
    if faces == "packaged":
        return _package_files(FONT_PACKAGES) + (_system_files() if system else [])
    found = {module.name for module in pkgutil.iter_modules() if module.name.startswith(FONT_PREFIX)}
    files = _package_files((*FONT_PACKAGES, *sorted(found - set(FONT_PACKAGES)))) + (_system_files() if system else [])
    if faces == "installed":
        return [path for path in files if not is_kept_out(path)]
    return [path for path in dict.fromkeys([*_matplotlib_files(), *files]) if is_kept_out(path)]


def is_kept_out(path: str | Path) -> bool:
    """True if a font file holds a face of a family that is kept out of training, see `KEPT_OUT`."""
    return any(family.startswith(KEPT_OUT) for family, *_ in _describe(Path(path)))


def _package_files(packages: Iterable[str]) -> list[Path]:
    folders: list[str] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        folders += (spec.submodule_search_locations if spec else None) or []
    return [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in FONT_FILES]


def _matplotlib_files() -> list[Path]:
    import matplotlib

    return sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))


def _system_files() -> list[Path]:
    from matplotlib import font_manager

    return sorted(Path(path) for path in font_manager.findSystemFonts())[:MAX_SYSTEM_FILES]


def _faces_of(path: Path, language: str, letters: frozenset[str]) -> list[Face]:
    """The faces of a file that have all letters: the language's own of a pan-CJK collection, two weights of a variable font."""
    found = []
    for index, (family, characters, scripts, variable) in enumerate(_describe(path)):
        regional = family.rsplit(" ", 1)[-1]
        if regional in ("JP", "KR", "SC", "TC", "HK") and regional != CJK_FACES.get(language):
            continue
        if not characters.issuperset(map(ord, letters - {" "})):
            continue
        if language in SHAPED and not scripts.intersection(SHAPED[language]):
            continue
        found += [Face(str(path), index, weight) for weight in (WEIGHTS if variable else (None,))]
    return found


def _draws(face: Face, phrase: str) -> bool:
    """True if FreeType opens the face and draws with it; only drawing reveals a damaged outline table."""
    try:
        return bool(_open_face(face, 16).getmask(phrase).getbbox())
    except (OSError, ValueError):
        return False


@cache
def _describe(path: Path) -> tuple[tuple[str, frozenset[int], frozenset[str], bool], ...]:
    """(family, code points, OpenType scripts, has a weight axis) of each face in a file; () for a damaged file."""
    try:
        collection = (
            TTCollection(path, lazy=True).fonts
            if path.suffix.lower() in (".ttc", ".otc")
            else [TTFont(path, lazy=True)]
        )
        return tuple(_describe_face(font) for font in collection)
    except (TTLibError, OSError, AssertionError, KeyError, ValueError):
        return ()


def _describe_face(font: TTFont) -> tuple[str, frozenset[int], frozenset[str], bool]:
    scripts = font["GSUB"].table.ScriptList if "GSUB" in font else None
    tags = frozenset(record.ScriptTag for record in scripts.ScriptRecord) if scripts else frozenset()
    weight = "fvar" in font and any(
        axis.axisTag == "wght" and axis.maxValue >= WEIGHTS[-1] for axis in font["fvar"].axes
    )
    letters = font.getBestCmap() or {}
    shared = Counter(letters.values())  # a last-resort font shows one box for thousands of letters
    drawn = frozenset(letter for letter, glyph in letters.items() if shared[glyph] < MOST_SHARED)
    return font["name"].getDebugName(1) or "", drawn, tags, weight


@lru_cache(maxsize=128)
def _open_face(face: Face, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(face.path, size, index=face.index)
    if face.weight is not None:
        axes = [
            face.weight if axis["name"] in (b"Weight", "Weight") else axis["default"] or 0
            for axis in font.get_variation_axes()
        ]
        font.set_variation_by_axes(axes)
    return font


@lru_cache(maxsize=RASTERS_KEPT)
def text_raster(phrase: str, language: str, face: Face, size: int) -> np.ndarray:
    """Write a phrase and keep the result in a cache; see `write`.

    Returns:
        (h, w) uint8 coverage, tightly cropped, read-only.
    """
    raster = write(phrase, language, face, size)
    raster.flags.writeable = False
    return raster


def write(text: str, language: str, face: Face, size: int, spacing: float = 0.0) -> np.ndarray:
    """Write one line of text.

    Args:
        text: with at least one visible letter.
        language: decides the order and shaping of the letters.
        face: has all letters of the text.
        size: the em, pixels.
        spacing: extra space between letters, ems; only for scripts whose letters stand alone.

    Returns:
        (h, w) uint8 coverage, tightly cropped.
    """
    font = _open_face(face, size)
    options: dict[str, Any] = {}
    if features.check("raqm"):
        options = {"direction": "rtl" if language in RIGHT_TO_LEFT else "ltr", "language": language}
    left, top, right, bottom = (int(v) for v in font.getbbox(text, **options))
    gap = round(spacing * size)
    canvas = Image.new("L", (right - left + 4 + gap * len(text), bottom - top + 4))
    pen = ImageDraw.Draw(canvas)
    if not gap:
        pen.text((2 - left, 2 - top), text, fill=255, font=font, **options)
        return np.array(canvas)
    place = 2.0 - left
    for letter in text:
        pen.text((round(place), 2 - top), letter, fill=255, font=font, **options)
        place += font.getlength(letter, **options) + gap
    return np.array(canvas.crop((0, 0, min(canvas.width, round(place) - gap + 2), canvas.height)))

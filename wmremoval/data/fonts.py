"""Phrases in ten languages, the font faces that can write each of them, and cached rasters of the written text."""

import importlib.util
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTCollection, TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont, features

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
RIGHT_TO_LEFT = ("ar",)
SHAPED = {
    "ar": ("arab",),
    "hi": ("deva", "dev2"),
}  # languages whose letters join or reorder, and their OpenType scripts
CJK_FACES = {"zh": "SC", "ja": "JP", "ko": "KR"}  # the face of a pan-CJK collection that draws each language's forms
FONT_PACKAGES = (
    "manimgx_fonts",
    "manimgx_fonts_cjk",
    "fontpkg_bebas_neue",
    "fontpkg_caveat",
    "fontpkg_great_vibes",
    "fontpkg_pacifico",
    "fontpkg_permanent_marker",
    "fontpkg_playfair_display",
)
FONT_FILES = (".ttf", ".otf", ".ttc", ".otc")
MAX_SYSTEM_FILES = 48  # font files; reading the character tables of hundreds would take minutes
WEIGHTS = (400.0, 700.0)  # OpenType weights taken from a variable font: regular and bold
MOST_SHARED = 50  # letters; a glyph that stands for as many is a placeholder
RASTERS_KEPT = 384  # rasters; at most about 60 MB, since the largest size is 128 px


@dataclass(frozen=True)
class Face:
    """One way of writing: a font file, the index of the face inside it, and a weight for variable fonts."""

    path: str
    index: int = 0
    weight: float | None = None  # OpenType units; None where the file has one weight


@dataclass(frozen=True)
class FontBook:
    """Which faces write which language. `missing` tells why a language cannot be written here."""

    faces: dict[str, tuple[Face, ...]]
    missing: dict[str, str] = field(default_factory=dict)

    def phrases(self) -> list[tuple[str, str]]:
        """(language, phrase) of everything that can be written."""
        return [(language, phrase) for language in self.faces for phrase in PHRASES[language]]


@lru_cache(maxsize=2)
def load_fonts(system: bool = False) -> FontBook:
    """Find faces for every language in the packaged fonts and, if asked, in those of the system.

    Packaged fonts alone give the same marks on every machine. A language without a face, or one that
    needs shaping where Pillow lacks Raqm or FriBiDi, is left out with one warning.
    """
    files = _packaged_files() + (_system_files() if system else [])
    shaping = features.check("raqm")
    faces, missing = {}, {}
    for language, phrases in PHRASES.items():
        if language in SHAPED and not shaping:
            missing[language] = "Pillow finds no FriBiDi for shaping (install the system's fribidi library)"
            continue
        letters = frozenset("".join(phrases))
        found = tuple(face for path in files for face in _faces_of(path, language, letters) if _draws(face, phrases[0]))
        if found:
            faces[language] = found
        else:
            missing[language] = "no font has its letters (pip install manimgx-fonts manimgx-fonts-cjk)"
    if missing:
        reasons = "; ".join(f"{language}: {reason}" for language, reason in missing.items())
        warnings.warn(f"watermark phrases left out: {reasons}", stacklevel=2)
    return FontBook(faces, missing)


def _packaged_files() -> list[Path]:
    folders = []
    for package in FONT_PACKAGES:
        spec = importlib.util.find_spec(package)
        folders += spec.submodule_search_locations if spec else []
    return [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in FONT_FILES]


def _system_files() -> list[Path]:
    from matplotlib import font_manager

    return sorted(Path(path) for path in font_manager.findSystemFonts())[:MAX_SYSTEM_FILES]


def _faces_of(path: Path, language: str, letters: frozenset[str]) -> list[Face]:
    """The faces of a file that hold all letters: of a pan-CJK collection the language's own, of a variable font two weights."""
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
    """Whether FreeType opens the face and draws with it; a damaged outline table shows only then."""
    try:
        return bool(_open_face(face, 16).getmask(phrase).getbbox())
    except (OSError, ValueError):
        return False


@cache
def _describe(path: Path) -> tuple[tuple[str, frozenset[int], frozenset[str], bool], ...]:
    """(family, code points, OpenType scripts, has a weight axis) of each face in a file; nothing for a damaged file."""
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
            face.weight if axis["name"] in (b"Weight", "Weight") else axis["default"]
            for axis in font.get_variation_axes()
        ]
        font.set_variation_by_axes(axes)
    return font


@lru_cache(maxsize=RASTERS_KEPT)
def text_raster(phrase: str, language: str, face: Face, size: int) -> np.ndarray:
    """Write a phrase tightly cropped: (h, w) uint8 coverage, read-only since it is cached; `size` is the em in pixels."""
    font = _open_face(face, size)
    options = {}
    if features.check("raqm"):
        options = {"direction": "rtl" if language in RIGHT_TO_LEFT else "ltr", "language": language}
    left, top, right, bottom = (int(v) for v in font.getbbox(phrase, **options))
    canvas = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), phrase, fill=255, font=font, **options)
    raster = np.asarray(canvas)
    raster.flags.writeable = False
    return raster

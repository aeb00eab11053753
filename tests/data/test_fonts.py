"""Every phrase is written with real letters: none missing, joined, reordered and regional where its script asks for it."""

import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, features

from wmremoval.data.fonts import KEPT_OUT, PHRASES, RASTERS_KEPT, WEIGHTS, Face, load_fonts, text_raster

LANGUAGES = ("en", "es", "fr", "de", "zh", "ja", "ko", "ru", "ar", "hi")
SCRIPTS = {
    **{language: {"LATIN"} for language in ("en", "es", "fr", "de")},
    "zh": {"CJK"},
    "ja": {"CJK", "HIRAGANA", "KATAKANA"},
    "ko": {"HANGUL"},
    "ru": {"CYRILLIC"},
    "ar": {"ARABIC"},
    "hi": {"DEVANAGARI"},
}
NOWHERE = "\U0010fffd"  # private use: no font of ours has it, so it is written as the face's .notdef


def plain_font(face, size):
    """The face as Pillow opens it, one glyph a code point in the order given: no shaping, no reordering."""
    font = ImageFont.truetype(face.path, size, index=face.index, layout_engine=ImageFont.Layout.BASIC)
    if face.weight is not None:
        font.set_variation_by_axes([face.weight])
    return font


def plain_raster(text, face, size):
    font = plain_font(face, size)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), text, fill=255, font=font)
    return np.asarray(canvas)


def ink_box(raster):
    rows, columns = np.nonzero(raster > 40)
    return raster[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(float)


def likeness(first, second):
    """Correlation of two rasters cut to their ink, the second stretched to the size of the first."""
    first, second = ink_box(first), ink_box(second)
    return np.corrcoef(first.ravel(), cv2.resize(second, first.shape[::-1]).ravel())[0, 1]


def fresh_fonts(system=False):
    """`load_fonts` past its cache, and the warnings it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        book = load_fonts.__wrapped__(system)
    return book, [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


# Which phrases and faces there are


def test_there_are_ten_languages_and_at_least_25_different_phrases():
    assert set(PHRASES) == set(LANGUAGES)
    texts = [phrase for phrases in PHRASES.values() for phrase in phrases]
    assert len(texts) == len(set(texts)) >= 25
    assert all(len(phrases) >= 2 for phrases in PHRASES.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_are_written_in_their_language_s_script(language):
    for phrase in PHRASES[language]:
        assert {unicodedata.name(letter).split()[0] for letter in phrase if letter.isalpha()} <= SCRIPTS[language]


def test_the_packaged_fonts_write_every_language(fonts):
    assert fonts.missing == {}
    assert all(fonts.faces[language] for language in LANGUAGES)
    expected = {language: len(phrases) for language, phrases in PHRASES.items()}
    assert Counter(language for language, _ in fonts.phrases()) == expected
    assert len({face.path for face in fonts.faces["en"]}) >= 5  # plain, display and signature faces


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_letter_of_any_phrase_is_missing_from_any_face(fonts, language):
    letters = sorted(set("".join(PHRASES[language])) - {" "})
    for face in fonts.faces[language]:
        font = plain_font(face, 48)
        box = bytes(font.getmask(NOWHERE))
        for letter in letters:
            glyph = bytes(font.getmask(letter))
            assert glyph != box, f"{face} writes a box for {letter!r}"
            assert any(glyph), f"{face} writes nothing for {letter!r}"


@pytest.mark.parametrize("language", ["ar", "hi"])
def test_shaping_puts_no_box_into_a_phrase(fonts, language):
    for face in fonts.faces[language]:
        box = ink_box(plain_raster(NOWHERE, face, 64)).astype(np.float32)

        def boxed(phrase, face=face, box=box):
            raster = text_raster(phrase, language, face, 64).astype(np.float32)
            raster = np.pad(raster, box.shape[0])
            return cv2.matchTemplate(raster, box, cv2.TM_CCOEFF_NORMED).max()

        assert boxed(PHRASES[language][0] + " " + NOWHERE) > 0.95  # a box would be seen
        for phrase in PHRASES[language]:
            assert boxed(phrase) < 0.8


def test_every_phrase_has_ink_and_none_is_cut_off_at_its_border(fonts):
    for language, phrase in fonts.phrases():
        for face in fonts.faces[language]:
            raster = text_raster(phrase, language, face, 32)
            assert raster.dtype == np.uint8 and raster.ndim == 2
            assert raster.max() == 255 or raster.sum() > 255 * 32, f"{face} leaves {phrase!r} faint"
            assert not (raster[0].any() or raster[-1].any() or raster[:, 0].any() or raster[:, -1].any())


def test_the_em_is_the_size_asked_for(fonts):
    """Noto Sans: capitals are 714 units of 1000 high."""
    face = next(face for face in fonts.faces["en"] if "NotoSans[wght]" in face.path and face.weight == WEIGHTS[0])
    for size in (32, 64, 128):
        assert ink_box(text_raster("H", "en", face, size)).shape[0] == pytest.approx(0.714 * size, abs=1.5)


# Scripts that need shaping


def joined(word):
    """An Arabic word in explicit presentation forms, left to right as it is seen: joining without any shaping engine."""
    forms = {}
    for code in range(0xFE70, 0xFEFD):
        kind, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        if len(letters) == 1:
            forms[chr(int(letters[0], 16)), kind.strip("<>")] = chr(code)
    seen = ""
    for i, letter in enumerate(word):
        before = i > 0 and (word[i - 1], "initial") in forms
        after = i + 1 < len(word) and (letter, "initial") in forms
        kind = ("medial" if after else "final") if before else ("initial" if after else "isolated")
        seen = forms[letter, kind] + seen
    return seen


@pytest.mark.parametrize("phrase", PHRASES["ar"])
def test_arabic_is_joined_and_runs_from_right_to_left(fonts, phrase):
    for face in fonts.faces["ar"]:
        raster = text_raster(phrase, "ar", face, 64)
        by_hand = plain_raster(" ".join(joined(word) for word in reversed(phrase.split())), face, 64)
        assert likeness(by_hand, raster) > 0.9
        assert likeness(by_hand, raster[:, ::-1]) < 0.7
        assert likeness(by_hand, plain_raster(phrase[::-1], face, 64)) < 0.7  # unjoined
        isolated = sum(plain_font(face, 64).getlength(letter) for letter in phrase)
        assert ink_box(raster).shape[1] < 0.95 * isolated


def test_the_first_arabic_letter_stands_at_the_right(fonts):
    for face in fonts.faces["ar"]:
        raster = text_raster("اببب", "ar", face, 64)  # a tall stroke, then three low letters
        column = np.nonzero(raster > 128)[1][0]  # of the topmost ink
        assert column > 0.8 * raster.shape[1]


def test_a_sign_at_the_end_of_an_arabic_phrase_stands_at_its_left(fonts):
    for face in fonts.faces["ar"]:
        tall = plain_font(face, 64).getbbox("!")[3] - plain_font(face, 64).getbbox("!")[1]
        raster = ink_box(text_raster("ببب !", "ar", face, 64))
        assert raster.shape[0] >= tall and np.nonzero(raster[0])[0].max() < 0.2 * raster.shape[1]


def test_devanagari_is_shaped(fonts):
    for face in fonts.faces["hi"]:
        # The vowel sign I is written before the consonant it follows in memory.
        raster = text_raster("कि", "hi", face, 64)
        assert likeness(plain_raster("िक", face, 64), raster) > 0.9
        assert likeness(plain_raster("कि", face, 64), raster) < 0.7
        reshaped = [phrase for phrase in PHRASES["hi"] if {"ि", "्"} & set(phrase)]  # reordered vowels, conjuncts
        assert len(reshaped) >= 2
        for phrase in reshaped:
            shaped, unshaped = map(ink_box, (text_raster(phrase, "hi", face, 64), plain_raster(phrase, face, 64)))
            assert shaped.shape != unshaped.shape or np.abs(shaped - unshaped).mean() > 5


def test_accents_and_latin_words_are_left_to_right(fonts):
    for language in ("en", "de", "ru"):
        face = fonts.faces[language][0]
        for phrase in PHRASES[language]:
            assert likeness(plain_raster(phrase, face, 64), text_raster(phrase, language, face, 64)) > 0.8


@pytest.mark.parametrize("language, region", [("ja", "JP"), ("zh", "SC"), ("ko", "KR")])
def test_each_east_asian_language_is_written_with_its_own_regional_face(fonts, language, region):
    for face in fonts.faces[language]:
        family = TTCollection(face.path, lazy=True).fonts[face.index]["name"].getDebugName(1)
        assert family.split()[-1] == region


def test_the_same_ideograph_looks_different_in_japanese_and_chinese(fonts):
    faces = {language: fonts.faces[language][0] for language in ("ja", "zh")}
    japanese, chinese = (ink_box(text_raster("直", language, face, 128)) for language, face in faces.items())
    assert japanese.shape != chinese.shape or np.abs(japanese - chinese).mean() > 10


def test_variable_fonts_are_written_in_two_weights(fonts):
    pairs = 0
    for language, faces in fonts.faces.items():
        for face in faces:
            if face.weight == WEIGHTS[0]:
                bold = Face(face.path, face.index, WEIGHTS[1])
                assert bold in faces
                light, heavy = (text_raster(PHRASES[language][0], language, each, 64) for each in (face, bold))
                assert heavy.sum(dtype=float) > 1.15 * light.sum(dtype=float)
                pairs += 1
    assert pairs >= 10


# What is left out, and how it is told


def test_all_languages_present_give_no_warning():
    book, told = fresh_fonts()
    assert told == [] and book.missing == {}


def test_without_raqm_shaped_languages_are_left_out_with_one_warning(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "raqm")
    book, told = fresh_fonts()
    assert set(book.missing) == {"ar", "hi"}
    assert set(book.faces) == set(LANGUAGES) - {"ar", "hi"}
    assert {language for language, _ in book.phrases()} == set(book.faces)
    assert len(told) == 1 and len(told[0].splitlines()) == 1
    assert "ar: " in told[0] and "hi: " in told[0] and "fribidi" in told[0].lower()
    # the others are still written, without the options that only Raqm takes
    assert text_raster.__wrapped__("Muestra", "es", book.faces["es"][0], 32).max() > 200


def test_languages_without_a_font_are_left_out_with_one_warning(monkeypatch):
    monkeypatch.setattr("wmremoval.data.fonts.FONT_PACKAGES", ("manimgx_fonts", "a_package_nobody_has_installed"))
    book, told = fresh_fonts()
    assert set(book.missing) == {"zh", "ja", "ko"} == set(LANGUAGES) - set(book.faces)
    assert len(told) == 1 and len(told[0].splitlines()) == 1
    assert all(f"{language}: " in told[0] for language in ("zh", "ja", "ko"))


def test_no_fonts_at_all_leave_out_every_language_with_one_warning(monkeypatch):
    monkeypatch.setattr("wmremoval.data.fonts.FONT_PACKAGES", ())
    book, told = fresh_fonts()
    assert book.faces == {} and set(book.missing) == set(LANGUAGES) and book.phrases() == []
    assert len(told) == 1


def test_fonts_are_found_once_and_equally_every_time():
    assert load_fonts() is load_fonts()
    assert fresh_fonts()[0] == load_fonts()


# The system's fonts


def test_system_fonts_are_added_to_the_packaged_ones(monkeypatch, tmp_path, fonts):
    copy = tmp_path / "system.ttf"
    copy.write_bytes(Path(fonts.faces["en"][0].path).read_bytes())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *a, **k: [str(copy)])
    book, _ = fresh_fonts(system=True)
    assert set(book.faces["en"]) > set(fonts.faces["en"])
    assert {face.path for face in book.faces["en"]} - {face.path for face in fonts.faces["en"]} == {str(copy)}
    assert book.faces["ja"] == fonts.faces["ja"]  # it has no such letters


def test_damaged_system_fonts_are_left_aside(monkeypatch, tmp_path, fonts):
    whole = Path(fonts.faces["en"][0].path).read_bytes()
    contents = [b"", b"no font", whole[:3], whole[:100], whole[:1000], whole[: len(whole) // 2], b"ttcf" + whole[4:]]
    files = [tmp_path / f"{i}.{ending}" for i in range(len(contents)) for ending in ("ttf", "ttc")]
    for file in files:
        file.write_bytes(contents[int(file.stem)])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *a, **k: [*map(str, files), str(tmp_path / "gone.ttf")])
    book, told = fresh_fonts(system=True)
    assert book.faces == fonts.faces and told == []


def test_a_font_that_shows_one_box_for_all_letters_is_left_aside(monkeypatch, tmp_path):
    """macOS has such a font among its system fonts, LastResort.otf: a character table with everything, no letters."""
    pen = TTGlyphPen(None)
    for turn in ([(50, 0), (50, 700), (450, 700), (450, 0)], [(100, 50), (400, 50), (400, 650), (100, 650)]):
        pen.moveTo(turn[0])
        for point in turn[1:]:
            pen.lineTo(point)
        pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "box"])
    builder.setupCharacterMap(dict.fromkeys(range(33, 0xD7FF), "box"), allowFallback=True)
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "box": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "box": (500, 50)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "LastResort", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "LastResort.ttf")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *a, **k: [str(tmp_path / "LastResort.ttf")])
    book, _ = fresh_fonts(system=True)
    used = {language for language, faces in book.faces.items() for face in faces if "LastResort" in face.path}
    assert used == set()


# Kept-out families


def family(face):
    """The name of a face's family, read by another library than the package's."""
    return ImageFont.truetype(face.path, 16, index=face.index).getname()[0]


def faces_of(book):
    return {face for faces in (*book.faces.values(), *book.families) for face in faces}


def test_kept_out_families_are_never_trained_on_and_only_they_are_kept_out():
    trained, kept = faces_of(load_fonts(True, "installed")), faces_of(load_fonts(faces="kept_out"))
    assert not any(family(face).startswith(KEPT_OUT) for face in trained)
    assert all(family(face).startswith(KEPT_OUT) for face in kept)
    assert {face.path for face in trained}.isdisjoint(face.path for face in kept)
    names = {family(face) for face in kept}
    assert {"DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "Playfair Display", "Caveat"} <= names


def test_a_copy_of_a_kept_out_face_under_another_name_stays_out(monkeypatch, tmp_path):
    source = next(face.path for face in faces_of(load_fonts(faces="kept_out")) if family(face) == "Caveat")
    copy = tmp_path / "Harmless.ttf"
    copy.write_bytes(Path(source).read_bytes())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *a, **k: [str(copy)])
    assert str(copy) not in {face.path for face in faces_of(load_fonts.__wrapped__(True, "installed"))}
    assert str(copy) in {face.path for face in faces_of(load_fonts.__wrapped__(True, "kept_out"))}


def test_every_installed_font_package_is_trained_on(monkeypatch, tmp_path, fonts):
    """A package that no list names, made here."""
    folder = tmp_path / "fontpkg_never_heard_of" / "files"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    source = next(face for face in fonts.families[0] if "Noto" in face.path)
    (folder / "new.ttf").write_bytes(Path(source.path).read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    found = {face.path for face in faces_of(load_fonts.__wrapped__(False, "installed"))}
    assert str(folder / "new.ttf") in found
    assert str(folder / "new.ttf") not in {face.path for face in faces_of(load_fonts.__wrapped__())}


def test_kept_out_faces_give_no_warning_for_the_languages_they_lack():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        book = load_fonts.__wrapped__(False, "kept_out")
    assert {"en", "es", "fr", "de"} <= set(book.faces) and "zh" in book.missing


def test_an_unknown_choice_of_faces_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="faces must be one of packaged, installed, kept_out, got 'all'"):
        load_fonts(faces="all")


# The cache of rasters


def test_rasters_are_kept_and_read_only(fonts):
    raster = text_raster("SAMPLE", "en", fonts.faces["en"][0], 32)
    assert text_raster("SAMPLE", "en", fonts.faces["en"][0], 32) is raster
    with pytest.raises(ValueError, match="read-only"):
        raster[0, 0] = 1


def test_the_cache_never_holds_more_rasters_than_it_says(fonts):
    for i in range(RASTERS_KEPT + 50):
        text_raster(f"{i}", "en", fonts.faces["en"][0], 8)
    assert text_raster.cache_info().currsize == RASTERS_KEPT


def test_the_largest_rasters_together_stay_under_60_megabytes(fonts):
    sizes = [
        text_raster.__wrapped__(phrase, language, face, 128).nbytes
        for language, phrase in fonts.phrases()
        for face in fonts.faces[language]
    ]
    assert 0 < sum(sorted(sizes)[-RASTERS_KEPT:]) < 60e6

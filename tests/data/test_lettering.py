"""Strings that marks bear, and how they are written: lines, blocks, rings, seven segments."""

import re
from pathlib import Path

import numpy as np
import pytest

from wmremoval.data.fonts import LETTERS, FontBook, load_fonts, write
from wmremoval.data.lettering import DIGIT_SEGMENTS, bend, choose_line, seven_segments, stacked, write_block, write_line
from wmremoval.data.strings import numeric_date, random_string


@pytest.fixture(scope="module")
def book():
    return load_fonts(faces="installed")


def strings(count):
    return [random_string(np.random.default_rng(seed)) for seed in range(count)]


def test_strings_are_names_domains_numbers_dates_and_copyright_lines():
    drawn = strings(1500)
    forms = {
        "domain": r"^(www\.)?[a-z]+\.[a-z.]+$",
        "copyright": r"^© ",
        "number": r"^#?\d{2,}$",
        "date": r"\d[-./ ]\d",
        "name": r"^[A-Z][a-z]+ [A-Z][a-z]+$",
        "handle": r"^@[a-z]+_[a-z]+$",
    }
    for name, form in forms.items():
        assert np.mean([bool(re.search(form, text)) for text in drawn]) > 0.02, name
    assert len(set(drawn)) > 1200 and all(2 <= len(text) <= 45 for text in drawn)


def test_every_letter_of_a_string_is_one_that_faces_are_chosen_for():
    assert set("".join(strings(3000))) - {" "} <= LETTERS
    assert set("".join(text.upper() for text in strings(3000))) - {" "} <= LETTERS


def test_dates_are_dates():
    for seed in range(100):
        figures = [int(part) for part in re.findall(r"\d+", numeric_date(np.random.default_rng(seed), 2024))]
        assert figures and all(0 <= figure <= 59 or figure == 2024 for figure in figures)


def test_every_family_is_as_likely_whatever_the_number_of_its_faces(book):
    small = FontBook({}, {}, (book.families[0] * 5, book.families[1][:1]))
    drawn = [choose_line(np.random.default_rng(seed), small).face for seed in range(400)]
    assert np.mean([face == book.families[1][0] for face in drawn]) == pytest.approx(0.5, abs=0.08)


def test_three_quarters_of_the_lines_are_made_up_and_phrases_come_in_all_languages(book):
    drawn = [choose_line(np.random.default_rng(seed), book) for seed in range(800)]
    in_english = np.mean([line.language == "en" for line in drawn])
    assert in_english == pytest.approx(0.75 + 0.25 / len(book.faces), abs=0.05)
    assert {line.language for line in drawn} == set(book.faces)
    assert choose_line(np.random.default_rng(0), FontBook({})) is None


def test_lines_are_as_high_as_asked_for_and_never_wider(book):
    for seed in range(60):
        line = choose_line(np.random.default_rng(seed), book)
        for em, width in ((12, 1000), (40, 1000), (40, 120), (300, 600)):
            cover = write_line(line, em, width)
            assert cover.dtype == np.float32 and cover.min() >= 0 and cover.max() <= 1
            assert cover.shape[1] <= width + 1 and cover.shape[0] < 2.6 * em + 8
            assert cover.max() > 0.3


def test_letters_of_two_hundred_pixels_are_that_large(book):
    line = choose_line(np.random.default_rng(0), FontBook({}, {}, book.families))._replace(text="H")
    small, large = (write_line(line, em, 2000) for em in (100, 300))
    assert large.shape[0] / small.shape[0] == pytest.approx(3.0, rel=0.06)


def test_spacing_puts_blank_columns_between_the_letters(book):
    face = next(face for family in book.families for face in family if "NotoSans[" in Path(face.path).name)
    close, wide = (write("HIH", "en", face, 40, spacing) for spacing in (0.0, 0.5))

    def blank(raster):
        columns = raster.max(axis=0) < 20
        return columns[2:-2].sum()

    assert blank(wide) >= blank(close) + 2 * 18
    assert wide.shape[1] - close.shape[1] == pytest.approx(40, abs=6)
    inked = np.nonzero(wide.max(axis=0))[0]
    assert inked[0] >= 1 and inked[-1] <= wide.shape[1] - 2


def test_blocks_have_one_to_three_lines(book):
    def lines(cover):
        rows = np.concatenate([[False], cover.max(axis=1) > 0.15, [False]])
        return int((np.diff(rows.astype(int)) == 1).sum())

    single = FontBook({}, {}, book.families)
    one = [write_block(np.random.default_rng(seed), single, 30, 2000, 1).shape[0] for seed in range(40)]
    three = [write_block(np.random.default_rng(seed), single, 30, 2000, 3) for seed in range(40)]
    assert np.median([cover.shape[0] for cover in three]) > 1.8 * np.median(one)
    assert np.mean([lines(cover) >= 3 for cover in three]) > 0.6
    assert write_block(np.random.default_rng(0), FontBook({}), 30, 200) is None


def test_covers_are_stacked_at_the_side_that_is_asked_for():
    covers = [np.ones((2, 6), np.float32), np.ones((1, 2), np.float32)]
    rows = {end: np.nonzero(stacked(covers, end, 3)[-1])[0].tolist() for end in (0.0, 0.5, 1.0)}
    assert rows == {0.0: [0, 1], 0.5: [2, 3], 1.0: [4, 5]}
    assert stacked(covers, 0.0, 3).shape == (6, 6)


def test_a_bent_line_lies_between_its_circle_and_its_height_and_its_middle_is_on_top():
    bar = np.zeros((10, 80), np.float32)
    bar[1:-1, 1:-1] = 1
    ring = bend(bar, 40.0)
    middle = (len(ring) - 1) / 2
    y, x = np.argwhere(ring > 0.5).T - middle
    distance = np.hypot(x, y)
    assert distance.min() > 39.5 and distance.max() < 50.5
    angle = np.degrees(np.arctan2(x, -y))
    assert abs(angle.mean()) < 1 and np.ptp(angle) == pytest.approx(np.degrees(78 / 45), abs=4)


def test_a_bent_line_is_read_clockwise():
    line = np.zeros((10, 80), np.float32)
    line[:, :20] = 1  # the beginning of it
    x = np.argwhere(bend(line, 60.0) > 0.5)[:, 1]
    assert x.max() < (bend(line, 60.0).shape[1] - 1) / 2, "left of the top"


def test_figures_light_the_segments_of_a_display():
    lit = {figure: seven_segments(figure, 60).sum() for figure in DIGIT_SEGMENTS}
    order = sorted("1234567890-", key=lambda figure: lit[figure])
    assert order[0] == "-" and order[1] == "1" and order[2] == "7" and order[-1] == "8"
    per_segment = [lit[figure] / len(segments) for figure, segments in DIGIT_SEGMENTS.items()]
    assert max(per_segment) < 1.5 * min(per_segment)
    eight, zero = (seven_segments(figure, 60) for figure in "80")
    rows = slice(len(eight) // 2 - 3, len(eight) // 2 + 3)
    columns = slice(eight.shape[1] // 2 - 4, eight.shape[1] // 2 + 1)
    assert eight[rows, columns].mean() > 0.5 > 0.05 > zero[rows, columns].mean()


def test_blanks_and_points_have_their_place_in_a_display():
    assert seven_segments("1 1", 40).shape == seven_segments("1:1", 40).shape
    assert seven_segments("1:1", 40).sum() > seven_segments("1.1", 40).sum() > seven_segments("1 1", 40).sum()

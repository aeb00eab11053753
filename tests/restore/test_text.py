"""Lines of text are found at every size and angle, read, and looked for again; without the package one line says so."""

import logging
import socket
import sys

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from wmremoval.restore import text
from wmremoval.restore.text import Line, TextFinder, load_text_finder, merge, overlap, read_lines, text_factors

FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


@pytest.fixture(scope="module")
def finder():
    return TextFinder(threads=1)


def written(words: str, em: int, angle: float = 0.0, size=(480, 640), place=None) -> tuple[np.ndarray, np.ndarray]:
    """A photograph with a line of white text, and the pixels of its box."""
    photo = Image.fromarray(cv2.resize(data.coffee(), size[::-1]))
    font = ImageFont.truetype(FONT, em)
    left, top, right, bottom = font.getbbox(words)
    layers = []
    for fill in ("text", "box"):
        layer = Image.new("L", (size[1], size[0]))
        at = place or ((size[1] - right) // 2, (size[0] - bottom) // 2)
        pen = ImageDraw.Draw(layer)
        if fill == "text":
            pen.text(at, words, fill=230, font=font)
        else:
            pen.rectangle((at[0] + left, at[1] + top, at[0] + right, at[1] + bottom), fill=255)
        layers.append(layer.rotate(angle, Image.BICUBIC))
    photo.paste(Image.new("RGB", photo.size, "white"), mask=layers[0])
    return np.asarray(photo), np.asarray(layers[1]) > 127


def covered(lines: list[Line], box: np.ndarray) -> float:
    """The share of a box that lines cover, without those more than four times as large."""
    found = np.zeros(box.shape, np.uint8)
    for line in lines:
        if cv2.contourArea(line.quad) < 4 * box.sum():
            cv2.fillConvexPoly(found, line.quad.astype(np.int32), 1)
    return float(found[box].mean())


@pytest.mark.parametrize(
    "words, em, angle",
    [
        ("Copyrighted Image", 40, 0),
        ("Copyrighted Image", 40, 30),
        ("Copyrighted", 60, 90),
        ("SAMPLE", 150, 0),
        ("SAMPLE", 130, -25),
    ],
)
def test_a_line_of_text_is_found_at_its_place(finder, words, em, angle):
    photo, box = written(words, em, angle)
    assert covered(finder.find(photo), box) > 0.6


def test_a_credit_line_of_13_pixels_is_found(finder):
    photo, box = written("photo by Lena Brandt", 13, place=(20, 440))
    assert covered(finder.find(photo), box) > 0.8


def test_a_line_that_the_border_cuts_is_found(finder):
    photo, box = written("www.gallery.example", 40, place=(-60, 440))
    assert covered(finder.find(photo), box) > 0.5


def test_text_along_an_arc_is_found_in_part(finder):
    photo = Image.fromarray(cv2.resize(data.coffee(), (640, 480)))
    for i, letter in enumerate("CERTIFIED COPY"):
        angle = np.radians(200 + 140 / 13 * i)
        sheet = Image.new("L", (80, 80))
        ImageDraw.Draw(sheet).text((40, 40), letter, fill=255, font=ImageFont.truetype(FONT, 36), anchor="mm")
        sheet = sheet.rotate(-np.degrees(angle) - 90, Image.BICUBIC)
        at = int(320 + 170 * np.cos(angle)) - 40, int(260 + 170 * np.sin(angle)) - 40
        photo.paste(Image.new("RGB", sheet.size, "white"), at, sheet)
    found = finder.find(np.asarray(photo))
    assert sum(line.sides[1] for line in found) > 150, "of about 410 pixels along the arc"


def test_words_are_read_whatever_the_angle(finder):
    for words, em, angle in (("Copyrighted Image", 40, 0), ("Gallery Images 2026", 30, 30), ("SAMPLE", 120, 0)):
        photo, box = written(words, em, angle)
        lines = [line for line in finder.read(photo, finder.find(photo)) if line.words]
        best = max(lines, key=lambda line: covered([line], box))
        assert best.words.replace(" ", "").lower() == words.replace(" ", "").lower()


def test_a_line_is_found_again_only_where_it_is(finder):
    photo, _ = written("Copyrighted Image", 40)
    plain = np.ascontiguousarray(cv2.resize(data.coffee(), (640, 480)))
    line = max(finder.find(photo), key=lambda line: line.sides[1])
    assert any(overlap(found.quad, line.quad) > 0.5 for found in finder.find_near(photo, line))
    assert not any(overlap(found.quad, line.quad) > 0.2 for found in finder.find_near(plain, line))


def test_a_line_across_the_parts_of_a_view_is_found_once_and_whole(finder, monkeypatch):
    """Parts of 300 x 300 pixels or so; the line is 300 pixels long and lies over an edge between two of them."""
    photo, box = written("Copyrighted Image", 30)
    height, width = photo.shape[:2]
    monkeypatch.setattr(finder, "most_seen", height * width // 2)
    assert len(text.view_parts(height, width, finder.most_seen)) > 1
    lines = finder._find_in(photo, 1)
    assert covered(lines, box) > 0.6
    assert len([line for line in lines if covered([line], box) > 0.1]) == 1


@pytest.mark.parametrize(("height", "width"), [(1500, 2000), (3000, 257), (2048, 4096), (700, 5000)])
def test_the_parts_of_a_view_cover_it_and_keep_to_their_size(height, width):
    seen = np.zeros((height, width), np.uint8)
    for rows, columns in text.view_parts(height, width, 500_000):
        seen[rows, columns] += 1
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= 550_000
    assert seen.min() == 1


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*about, **more):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    fresh = TextFinder(threads=1)
    photo, box = written("Copyrighted Image", 40)
    lines = fresh.read(photo, fresh.find(photo))
    assert covered(lines, box) > 0.6 and any(line.words for line in lines)


def test_lines_of_fewer_than_three_letters_are_no_lines():
    words = ("", "67", "ABC", "Sample")
    lines = [Line(np.float32([(0, 0), (40, 0), (40, 9), (0, 9)]) + 20 * i, 0.9, word) for i, word in enumerate(words)]

    class Finder:
        def find(self, photo):
            return lines

        def read(self, photo, found):
            return found

    assert [line.words for line in read_lines(Finder(), np.zeros((9, 9, 3), np.uint8))] == ["ABC", "Sample"]


def test_without_the_package_one_line_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with caplog.at_level(logging.WARNING):
        assert load_text_finder() is None
    assert [record.getMessage() for record in caplog.records] == [text.MISSING] and "pip install" in text.MISSING


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.float32([(left, top), (right, top), (right, bottom), (left, bottom)])


def test_of_lines_that_share_their_area_the_surer_stays_and_a_paragraph_around_stays_too():
    sure, doubtful = Line(quad(0, 0, 100, 20), 0.9), Line(quad(2, 1, 104, 21), 0.6)
    paragraph, other = Line(quad(0, 0, 110, 90), 0.7), Line(quad(0, 40, 100, 60), 0.8)
    assert merge([doubtful, sure, paragraph, other]) == [sure, other, paragraph]


def test_the_height_is_the_shorter_side_and_the_angle_that_of_the_longer():
    upright = Line(quad(0, 0, 20, 100), 1.0)
    assert upright.sides == (20, 100) and upright.angle == pytest.approx(90)
    turn = cv2.getRotationMatrix2D((0, 0), 30, 1.0)[:, :2].astype(np.float32)
    turned = Line(quad(0, 0, 100, 20) @ turn.T, 1.0)
    assert turned.sides == pytest.approx((20, 100), rel=1e-4) and turned.angle == pytest.approx(30, abs=1e-3)


def test_a_line_grows_by_a_share_of_its_height_on_all_sides():
    grown = Line(quad(10, 10, 110, 30), 1.0).grown(0.25)
    np.testing.assert_allclose(sorted(map(tuple, grown)), sorted([(5, 5), (115, 5), (115, 35), (5, 35)]), atol=1e-3)


def test_large_photographs_are_searched_shrunken():
    assert text_factors(400, 600)[0] == 0.5 and text_factors(1000, 1200)[0] == 1
    assert text_factors(3000, 4000)[0] == 2 and min(3000 / text_factors(3000, 4000)[-1], 4000) >= text.COARSEST_SIDE

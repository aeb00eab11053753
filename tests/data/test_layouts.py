"""The web's layouts: each is drawn at its sizes, in its places and in its colours, whatever the photograph's shape."""

from collections import Counter

import cv2
import numpy as np
import pytest

from wmremoval.data import layouts
from wmremoval.data.fonts import FontBook, load_fonts
from wmremoval.data.layouts import CREDIT_EM, LAYOUTS, Sheet, draw_layout
from wmremoval.data.stamps import draw_sign

EACH = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


@pytest.fixture(scope="module")
def book():
    return load_fonts(faces="installed")


def logo():
    rgba = np.zeros((60, 80, 4), np.uint8)
    rgba[10:50, 5:40] = (200, 30, 30, 255)
    rgba[10:50, 40:75] = (30, 30, 200, 255)
    return rgba


def drawn(layout, seed, book, height=160, width=200):
    sheet = Sheet(np.random.default_rng(seed), height, width, book, [logo()])
    layout(sheet)
    return sheet.layer


def box_of(layer):
    return cv2.boundingRect((layer[..., 3] > 0.05).astype(np.uint8))


@EACH
def test_layers_are_premultiplied_in_range_and_keyed(layout, book):
    seen = set()
    for seed in range(12):
        layer = drawn(layout, seed, book)
        assert layer.shape == (160, 200, 4) and layer.dtype == np.float32 and np.isfinite(layer).all()
        assert layer.min() >= -1e-6 and layer.max() <= 1 + 1e-4
        assert (layer[..., :3] <= layer[..., 3:] + 1e-4).all()
        np.testing.assert_array_equal(layer, drawn(layout, seed, book))
        seen.add(layer.tobytes())
    assert len(seen) >= 11


@EACH
@pytest.mark.parametrize("height, width", [(40, 40), (48, 300), (300, 48)])
def test_layouts_fit_any_shape_and_need_neither_fonts_nor_logos(layout, book, height, width):
    for fonts in (book, FontBook({})):
        marked = 0
        for seed in range(8):
            sheet = Sheet(np.random.default_rng(seed), height, width, fonts)
            layout(sheet)
            marked += (sheet.layer[..., 3] > 0.05).any()
        assert marked >= 6


def test_layouts_come_by_their_shares(monkeypatch):
    calls = Counter()
    fakes = {(lambda sheet, name=layout.__name__: calls.update([name])): share for layout, share in LAYOUTS.items()}
    monkeypatch.setattr(layouts, "LAYOUTS", fakes)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        draw_layout(Sheet(rng, 8, 8, FontBook({})))
    total = sum(LAYOUTS.values())
    assert total == pytest.approx(1.0)
    for layout, share in LAYOUTS.items():
        assert calls[layout.__name__] / 3000 == pytest.approx(share, abs=0.025)


def test_credits_are_small_and_at_an_edge_whatever_the_photograph_s_size(book):
    for side in (160, 700):
        white, heights = 0, []
        for seed in range(40):
            x, y, w, h = box_of(layer := drawn(layouts.credit, seed, book, side, side))
            assert min(x, y, side - x - w, side - y - h) <= 10
            heights.append(min(w, h))
            strongest = layer.reshape(-1, 4)[layer[..., 3].argmax()]
            white += strongest[:3].min() > 0.9 * strongest[3]
        assert max(heights) <= 1.7 * CREDIT_EM[1] and np.median(heights) < CREDIT_EM[1] + 3
        assert white >= 30


def test_crossing_lines_run_from_corner_to_corner_and_are_one_to_three_pixels_wide(book):
    widths = []
    for seed in range(30):
        cover = drawn(layouts.crossed, seed, book, 200, 200)[..., 3]
        assert cover[:4, :4].any() and cover[-4:, -4:].any()
        column = cover[5:30, 20]  # the falling diagonal alone, at a slope of one
        widths.append(column.sum() / np.sqrt(2))
    assert 0.9 < min(widths) < 1.3 and 2.2 < max(widths) < 3.2


def test_more_than_half_of_the_crossings_bear_something_in_the_middle_and_no_line_runs_through_it(book):
    y, x = np.mgrid[70:130, 70:130]
    beside = (np.abs(y - x) > 5) & (np.abs(y + x - 199) > 5) & (np.abs(y - 100) > 4) & (np.abs(x - 100) > 4)
    drawings = [drawn(layouts.crossed, seed, book, 200, 200)[..., 3] for seed in range(80)]
    borne = np.array([(cover[70:130, 70:130][beside] > 0.1).any() for cover in drawings])
    assert 0.45 < borne.mean() < 0.75
    through = [np.diag(cover)[20:180].min() > 0.3 for cover in drawings]
    assert np.mean(np.array(through)[~borne]) > 0.8 and np.mean(np.array(through)[borne]) < 0.25


def test_tilings_are_all_over_the_photograph_and_some_have_lines(book):
    spread = []
    for seed in range(30):
        cover = drawn(layouts.tiled_words, seed, book, 256, 256)[..., 3] > 0.1
        spread.append(sum(part.any() for row in np.split(cover, 2) for part in np.split(row, 2, axis=1)))
    assert np.mean(np.array(spread) == 4) > 0.85


def test_big_words_span_half_of_the_photograph_or_more(book):
    spans = []
    for seed in range(40):
        _, _, w, h = box_of(drawn(layouts.big_word, seed, book, 200, 200))
        spans.append(np.hypot(w, h) / 200)
    assert np.mean(np.array(spans) > 0.5) > 0.8


def test_banners_have_words_on_a_box_and_some_are_cut_by_the_border(book):
    cut = full = 0
    for seed in range(60):
        layer = drawn(layouts.banner, seed, book, 160, 200)
        x, y, w, h = box_of(layer)
        filled = (layer[y : y + h, x : x + w, 3] > 0.05).mean()
        assert filled > 0.6, "a box fills its rectangle"
        full += w == 200
        cut += w < 200 and (x == 0 or x + w == 200 or y == 0 or y + h == 160)
    assert full > 10 and cut > 3


def test_emblems_have_several_colours(book):
    several = 0
    for seed in range(40):
        layer = drawn(layouts.emblem, seed, book)
        colours = layer[layer[..., 3] > 0.25]
        colours = colours[:, :3] / colours[:, 3:]
        several += np.ptp(np.percentile(colours, (5, 95), axis=0), axis=0).max() > 0.15
    assert several > 30


def test_embossed_letters_are_light_on_one_side_and_dark_on_the_other(book):
    both = 0
    for seed in range(40):
        layer = drawn(layouts.raised, seed, book, 200, 260)
        solid = layer[layer[..., 3] > 0.5]
        if len(solid):
            tone = solid[:, :3].mean(axis=1) / solid[:, 3]
            both += (tone > 0.95).mean() > 0.1 and (tone < 0.05).mean() > 0.1
    assert both > 5


def test_ring_stamps_are_round(book):
    round_ones = 0
    for seed in range(40):
        x, y, w, h = box_of(drawn(layouts.ring_stamp, seed, book, 300, 300))
        whole = x > 0 and y > 0 and x + w < 300 and y + h < 300
        round_ones += whole and abs(w - h) <= 0.12 * max(w, h)
    assert round_ones > 20


def test_camera_dates_are_in_the_colours_of_displays(book):
    for seed in range(20):
        layer = drawn(layouts.camera_date, seed, book, 200, 300)
        core = layer[layer[..., 3] > 0.8]
        if len(core):
            colour = core[:, :3].mean(axis=0) / core[:, 3].mean()
            assert min(np.abs(colour - np.array(led)).max() for led in layouts.DATE_COLOURS) < 0.05


def test_letters_of_a_large_view_reach_from_tiny_to_two_hundred_pixels(book):
    """192 px crops are windows of views of up to 691 px, in which letters are drawn."""
    ems = [Sheet(np.random.default_rng(seed), 691, 691, book).em() for seed in range(400)]
    assert 8 < min(ems) < 11 and 200 < max(ems) < 240
    assert np.mean(np.array(ems) < 30) > 0.3 and np.mean(np.array(ems) > 100) > 0.15


def test_a_stamp_beyond_the_border_is_cut_off_there():
    sheet = Sheet(np.random.default_rng(0), 10, 12, FontBook({}))
    stamp = np.ones((4, 5, 4), np.float32)
    for top, left in ((-2, -3), (8, 10), (-9, 3), (3, 40)):
        sheet.lay(stamp, top, left)
    assert np.argwhere(sheet.layer[..., 3] > 0).tolist() == [[y, x] for y, x in [*((y, x) for y in (0, 1) for x in (0, 1)), *((y, x) for y in (8, 9) for x in (10, 11))]]  # fmt: skip


def test_signs_fill_a_part_of_their_square():
    for seed in range(40):
        cover = draw_sign(np.random.default_rng(seed), 24)
        assert cover.shape == (24, 24) and cover.min() >= 0 and cover.max() <= 1 and 0.08 < cover.mean() < 0.9

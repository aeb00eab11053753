"""Blending against its equation, and marks against what their configuration promises."""

import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from wmremoval.data import marks as marks_module
from wmremoval.data.fonts import PHRASES, FontBook, text_raster
from wmremoval.data.logos import LOGO_SIDE, load_logos
from wmremoval.data.marks import BLEND_MODES, MARKS, Mark, WatermarkConfig, blend, draw_blend_mode, draw_mark, overlay

NO_FONTS = FontBook({})
# Marks as they are placed, whole and opaque: their alpha is the coverage itself.
PLAIN = WatermarkConfig(
    tiled_share=0, outline_share=0, shadow_share=0, occluded_share=0, distorted_share=0, jitter_share=0, opaque_share=1
)
TEXT = replace(PLAIN, shape_share=0, logo_share=0)
LOGO = replace(PLAIN, shape_share=0, logo_share=1)
SHAPE = replace(PLAIN, shape_share=1)


def disc(red, green, blue, height=100, width=120):
    """An elliptic logo of one colour."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    logo = np.zeros((height, width, 4), np.uint8)
    logo[y**2 + x**2 < 0.95] = (red, green, blue, 255)
    return logo


RED = disc(255, 0, 0)


def marks(count, config, fonts=NO_FONTS, logos=(RED,), height=128, width=128):
    return [draw_mark(np.random.default_rng(seed), height, width, fonts, logos, config) for seed in range(count)]


def inside(mark):
    """The mark does not touch the border of its photograph."""
    return not any(edge.any() for edge in (mark.alpha[0], mark.alpha[-1], mark.alpha[:, 0], mark.alpha[:, -1]))


@pytest.fixture
def one_face(fonts, monkeypatch):
    """A font book that can only write the letter F, in Noto Sans."""
    monkeypatch.setitem(PHRASES, "en", ("F",))
    (face,) = (face for face in fonts.faces["en"] if "NotoSans[wght]" in face.path and face.weight == 400)
    return FontBook({"en": (face,)})


# Blending


@pytest.fixture
def photograph():
    return np.ascontiguousarray(data.astronaut()[:200, 100:228])  # (200, 128, 3)


def test_blending_follows_its_equation(photograph, fonts):
    for mark in marks(40, WatermarkConfig(), fonts, height=200):
        watermarked, _ = blend(photograph, mark)
        alpha, colour = mark.alpha[..., None].astype(np.float64), mark.colour.astype(np.float64)
        exact = (1 - alpha) * photograph + alpha * 255 * colour
        assert watermarked.dtype == np.uint8
        assert np.abs(watermarked - exact).max() <= 0.5 + 1e-3  # rounded to the nearest level, float32's error aside


def test_a_blended_pixel_is_what_one_computes_by_hand():
    photograph = np.full((3, 4, 3), 100, np.uint8)
    alpha, colour = np.zeros((3, 4), np.float32), np.zeros((3, 4, 3), np.float32)
    alpha[1, 2], colour[1, 2] = 0.25, (1.0, 0.0, 0.5)
    watermarked, mask = blend(photograph, Mark(alpha, colour))
    assert watermarked[1, 2].tolist() == [139, 75, 107]  # 75 + 63.75, 75 + 0, 75 + 31.875
    assert np.argwhere(mask).tolist() == [[1, 2]]


def test_outside_the_mask_not_a_bit_changes_and_inside_every_pixel_does(photograph, fonts):
    for mark in marks(60, WatermarkConfig(), fonts, height=200):
        watermarked, mask = blend(photograph, mark)
        assert mask.dtype == np.uint8 and mask.shape == photograph.shape[:2]
        np.testing.assert_array_equal(mask, (watermarked != photograph).any(axis=2))
        assert not mask[mark.alpha == 0].any()


def test_a_change_that_rounding_swallows_is_not_in_the_mask():
    photograph = np.full((2, 2, 3), 100, np.uint8)
    alpha, colour = np.full((2, 2), 0.01, np.float32), np.full((2, 2, 3), 120 / 255, np.float32)
    alpha[0, 0] = 0.03  # 100 + 0.6 rounds to 101, 100 + 0.2 does not
    watermarked, mask = blend(photograph, Mark(alpha, colour))
    assert mask.tolist() == [[1, 0], [0, 0]]
    assert watermarked[..., 0].tolist() == [[101, 100], [100, 100]]


def test_a_change_of_one_channel_is_in_the_mask():
    photograph = np.full((1, 1, 3), 255, np.uint8)
    mark = Mark(np.full((1, 1), 0.5, np.float32), np.array([[[1.0, 1.0, 0.0]]], np.float32))
    watermarked, mask = blend(photograph, mark)
    assert watermarked.tolist() == [[[255, 255, 128]]] and mask.tolist() == [[1]]


def test_blending_leaves_its_inputs_as_they_are(photograph, fonts):
    mark = marks(1, TEXT, fonts, height=200)[0]
    before = photograph.copy(), mark.alpha.copy(), mark.colour.copy()
    watermarked, _ = blend(photograph, mark)
    assert (watermarked != photograph).any() and not np.shares_memory(watermarked, photograph)
    for array, kept in zip((photograph, *mark), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_zero_alpha_changes_nothing(photograph):
    mark = Mark(np.zeros((200, 128), np.float32), np.ones((200, 128, 3), np.float32))
    watermarked, mask = blend(photograph, mark)
    np.testing.assert_array_equal(watermarked, photograph)
    assert not mask.any() and not np.shares_memory(watermarked, photograph)


def test_full_alpha_leaves_the_mark_alone(photograph):
    colour = np.random.default_rng(0).random((200, 128, 3), dtype=np.float32)
    watermarked, _ = blend(photograph, Mark(np.ones((200, 128), np.float32), colour))
    np.testing.assert_array_equal(watermarked, np.rint(colour * np.float32(255)))


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("multiply", (16, 80, 200)),  # I W
        ("screen", (112, 208, 255)),  # I + W - I W
        ("overlay", (32, 160, 255)),  # 2 I W, where I is at most a half; else 1 - 2 (1 - I) (1 - W)
    ],
)
def test_other_modes_by_hand(mode, expected):
    """I is 64, 160 and 200 of 255; W is a quarter, a half and all."""
    under, colour = np.array([[[64, 160, 200]]], np.uint8), np.float32([[[0.25, 0.5, 1.0]]])
    whole, _ = blend(under, Mark(np.ones((1, 1), np.float32), colour), mode)
    assert np.abs(whole[0, 0].astype(int) - expected).max() <= 1
    half, mask = blend(under, Mark(np.full((1, 1), 0.5, np.float32), colour), mode)
    assert np.abs(half.astype(float) - (under.astype(float) + whole) / 2).max() <= 1 and mask.all()


def test_an_unknown_mode_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="mode must be normal, multiply, screen, overlay, got 'burn'"):
        blend(np.zeros((2, 2, 3), np.uint8), Mark(np.ones((2, 2), np.float32), np.ones((2, 2, 3), np.float32)), "burn")


# All marks


def test_equal_generators_give_equal_marks_and_others_do_not(fonts):
    first, again = (marks(30, WatermarkConfig(), fonts) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.alpha, other.alpha)
        np.testing.assert_array_equal(one.colour, other.colour)
    assert len({mark.alpha.tobytes() for mark in first}) == 30


@pytest.mark.parametrize("height, width", [(64, 64), (64, 200), (200, 64), (128, 128), (33, 47)])
def test_marks_stay_in_range_at_any_size(fonts, height, width):
    drawn = marks(80, WatermarkConfig(), fonts, (RED, disc(0, 80, 160, 30, 200)), height, width)
    for mark in drawn:
        assert mark.alpha.shape == (height, width) and mark.colour.shape == (height, width, 3)
        assert mark.alpha.dtype == mark.colour.dtype == np.float32
        for values in mark:
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert np.mean([mark.alpha.any() for mark in drawn]) > 0.95


def test_no_colour_is_rounded_to_more_than_one():
    """A white mark over its shadow: each colour is the quotient of two numbers that are equal but for rounding."""
    for mark in marks(50, replace(LOGO, shadow_share=1), logos=[disc(255, 255, 255)], height=64, width=64):
        assert mark.colour.max() <= 1


def test_marks_cover_a_part_of_the_photograph(fonts):
    shares = [np.mean(mark.alpha > 0.02) for mark in marks(200, WatermarkConfig(), fonts)]
    assert 0.02 < np.median(shares) < 0.25
    assert max(shares) < 0.9


def test_positions_and_colours_vary(fonts):
    drawn = [mark for mark in marks(150, TEXT, fonts) if inside(mark)]
    centres = np.array([np.argwhere(mark.alpha > 0.5).mean(axis=0) for mark in drawn]) / 128
    assert (centres.min(axis=0) < 0.25).all() and (centres.max(axis=0) > 0.75).all()
    colours = np.array([mark.colour[mark.alpha > 0.9].mean(axis=0) for mark in drawn if (mark.alpha > 0.9).any()])
    light, dark, vivid = colours.min(axis=1) > 0.85, colours.max(axis=1) < 0.2, np.ptp(colours, axis=1) > 0.3
    assert 0.3 < light.mean() < 0.7 and dark.any() and 0.05 < vivid.mean() < 0.5


def test_rotations_vary_and_many_marks_stand_upright():
    bar = np.zeros((20, 200, 4), np.uint8)
    bar[2:-2, 2:-2] = 255
    angles = []
    for mark in marks(120, LOGO, logos=[bar]):
        if inside(mark):
            spread = np.cov(np.argwhere(mark.alpha > 0.5).T)
            angles.append(np.degrees(0.5 * np.arctan2(2 * spread[0, 1], spread[1, 1] - spread[0, 0])))
    turned = np.abs(angles) > 2
    assert 0.3 < turned.mean() < 0.8
    assert max(angles) > 45 and min(angles) < -45  # a few are turned by up to a right angle, to either side


def test_drawing_leaves_logos_as_they_are():
    logos = [RED.copy(), disc(1, 2, 3)]
    marks(30, replace(LOGO, jitter_share=1, shadow_share=1, distorted_share=1), logos=logos)
    np.testing.assert_array_equal(logos[0], RED)
    np.testing.assert_array_equal(logos[1], disc(1, 2, 3))


# Shares


def test_kinds_appear_as_often_as_configured(fonts):
    """Marks that change with the logos are logos, those that change with the fonts are texts, the others are shapes."""
    config, count, seen = WatermarkConfig(), 700, {"shape": 0, "logo": 0, "text": 0}
    ring = RED.copy()
    ring[30:70, 40:80] = 0
    for seed in range(count):

        def alpha(book, logo, seed=seed):
            return draw_mark(np.random.default_rng(seed), 48, 48, book, [logo], replace(config, tiled_share=0)).alpha

        mark = alpha(fonts, RED)
        if (mark != alpha(fonts, ring)).any():
            seen["logo"] += 1
        elif (mark != alpha(NO_FONTS, RED)).any():
            seen["text"] += 1
        else:
            seen["shape"] += 1
    assert seen["shape"] / count == pytest.approx(config.shape_share, abs=0.045)
    assert seen["logo"] / count == pytest.approx(config.logo_share, abs=0.06)
    assert seen["text"] / count == pytest.approx(1 - config.shape_share - config.logo_share, abs=0.06)


@pytest.mark.parametrize("name", ["tiled_share", "occluded_share", "distorted_share", "shadow_share"])
def test_properties_appear_as_often_as_configured(name):
    """A draw whose mark changes when the property is forbidden had the property."""
    config, count = WatermarkConfig(shape_share=0, logo_share=1), 500
    forbidden = replace(config, **{name: 0})
    with_it = marks(count, config, height=48, width=48)
    without = marks(count, forbidden, height=48, width=48)
    changed = np.mean([(one.alpha != other.alpha).any() for one, other in zip(with_it, without, strict=True)])
    # An ellipse cut out beside the mark does not show.
    lowest = 0.3 if name == "occluded_share" else 1.0
    assert lowest * getattr(config, name) - 0.05 < changed < getattr(config, name) + 0.05


def test_shares_of_one_and_none_are_kept(fonts):
    for config, kept in ((SHAPE, "shape"), (LOGO, "logo"), (TEXT, "text")):
        for seed in range(25):

            def alpha(book, logos, seed=seed, config=config):
                return draw_mark(np.random.default_rng(seed), 64, 64, book, logos, config).alpha

            full = alpha(fonts, [RED])
            assert (full != alpha(fonts, [RED[:, :40]])).any() == (kept == "logo")
            if kept == "shape":
                np.testing.assert_array_equal(full, alpha(NO_FONTS, []))
            if kept == "text":
                np.testing.assert_array_equal(full, alpha(fonts, []))
                assert (full != alpha(NO_FONTS, [])).any()


# Properties


def test_opaque_marks_hide_the_photograph_somewhere(fonts):
    big = replace(TEXT, text_height=(0.4, 0.6))
    assert np.mean([mark.alpha.max() > 0.98 for mark in marks(60, big, fonts)]) > 0.9
    assert all(mark.alpha.max() == 1 for mark in marks(30, LOGO))
    assert np.mean([mark.alpha.max() == 1 for mark in marks(60, SHAPE)]) > 0.4  # others are thin lines


def test_translucent_marks_stay_within_the_configured_opacity():
    for lowest, highest in ((0.5, 0.5), (0.2, 0.3)):
        config = replace(LOGO, opaque_share=0, opacity=(lowest, highest))
        peaks = [mark.alpha.max() for mark in marks(60, config)]
        assert max(peaks) <= highest + 1e-6
        assert min(peaks) >= 0.6 * lowest  # the map may fall to this much of its strongest
        assert np.median(peaks) > 0.8 * lowest


def test_alpha_varies_within_many_translucent_marks():
    spreads = []
    for mark in marks(60, replace(LOGO, opaque_share=0)):
        core = cv2.erode((mark.alpha > 0).astype(np.uint8), np.ones((5, 5)))  # without the antialiased rim
        values = mark.alpha[core > 0]
        spreads.append(np.ptp(values) / values.max() if values.size else 0)
    assert 0.2 < np.mean(np.array(spreads) > 0.03) < 0.9  # some are flat, as the commonest marks are


def test_text_is_as_high_as_configured(one_face):
    unit = text_raster("F", "en", one_face.faces["en"][0], 128).sum(dtype=float) / 255 / 128**2  # ink of an em of 1 px
    for lowest, highest in (TEXT.text_height, (0.3, 0.4)):
        drawn = [mark for mark in marks(120, replace(TEXT, text_height=(lowest, highest)), one_face) if inside(mark)]
        ems = np.sqrt([mark.alpha.sum() / unit for mark in drawn]) / 128
        assert len(ems) > 60
        assert lowest - 0.02 < ems.min() < lowest + 0.03 and highest - 0.03 < ems.max() < highest + 0.02


def test_logos_are_as_large_as_configured():
    unit = (RED[..., 3] > 0).sum() / 120**2
    drawn = [mark for mark in marks(150, LOGO) if inside(mark)]
    sides = np.sqrt([mark.alpha.sum() / unit for mark in drawn]) / 128
    lowest, highest = LOGO.logo_side
    assert len(sides) > 60
    assert lowest - 0.02 < sides.min() < lowest + 0.06 and highest - 0.12 < sides.max() < highest + 0.02


def test_long_text_fits_the_photograph(fonts, monkeypatch):
    monkeypatch.setitem(PHRASES, "en", ("A very long phrase that no photograph could ever hold in one line",))
    book = FontBook({"en": fonts.faces["en"][:1]})
    for height, width in ((128, 128), (200, 64)):
        widths = []
        for mark in marks(40, TEXT, book, height=height, width=width):
            columns = np.nonzero((mark.alpha > 0.1).any(axis=0))[0]
            widths.append(np.ptp(columns) / width)
        assert np.mean(np.array(widths) < 0.97) > 0.3  # cut at both sides, all would span the whole width


def test_drawn_text_is_never_mirrored(one_face):
    """However an F is turned, it looks more like a turned F than like a turned mirrored F."""

    def turned(picture, angle):
        weights = picture / picture.sum()
        y, x = (np.mgrid[: picture.shape[0], : picture.shape[1]] * weights).sum(axis=(1, 2))
        matrix = cv2.getRotationMatrix2D((float(x), float(y)), angle, 12 / np.sqrt(picture.sum()))
        matrix[:, 2] += 24 - np.array([x, y])
        return cv2.warpAffine(picture, matrix, (48, 48)).ravel()

    letter = text_raster("F", "en", one_face.faces["en"][0], 64).astype(np.float32) / 255
    right, wrong = ([turned(view, angle) for angle in range(-92, 93, 4)] for view in (letter, letter[:, ::-1].copy()))
    drawn = [mark for mark in marks(60, replace(TEXT, text_height=(0.3, 0.5)), one_face) if inside(mark)]
    assert len(drawn) > 20
    for mark in drawn:
        seen = turned(mark.alpha, 0)
        as_it_is, mirrored = (max(np.corrcoef(seen, view)[0, 1] for view in views) for views in (right, wrong))
        assert as_it_is > 0.9 > mirrored


@pytest.mark.parametrize("config", [TEXT, LOGO, SHAPE], ids=["text", "logo", "shape"])
def test_tiled_marks_are_all_over_the_photograph(fonts, config):
    def everywhere(mark):
        return all(half.any() for row in np.split(mark.alpha > 0.1, 2) for half in np.split(row, 2, axis=1))

    assert np.mean([everywhere(mark) for mark in marks(100, replace(config, tiled_share=1), fonts)]) > 0.9
    assert np.mean([everywhere(mark) for mark in marks(100, config, fonts)]) < 0.5


def test_tiled_marks_repeat(fonts):
    """The autocorrelation of a tiled mark has a second peak nearly as high as its first."""

    def second_peak(alpha):
        power = [np.abs(np.fft.fft2(values, (256, 256))) ** 2 for values in (alpha - alpha.mean(), np.ones_like(alpha))]
        overlap, shared = (np.fft.ifft2(values).real for values in power)
        shared /= shared[0, 0]
        y, x = (np.mgrid[:256, :256] + 128) % 256 - 128
        far = (np.hypot(y, x) > 12) & (shared > 0.25)
        return (overlap[far] / shared[far]).max() / overlap[0, 0]

    for config in (TEXT, LOGO):
        tiled = [second_peak(mark.alpha) for mark in marks(60, replace(config, tiled_share=1), fonts)]
        single = [second_peak(mark.alpha) for mark in marks(60, config, fonts)]
        assert np.mean(np.array(tiled) > 0.85) > 0.8
        assert np.mean(np.array(single) > 0.85) < 0.2


def test_a_shadow_enlarges_the_mark_and_is_dark(fonts):
    for config in (TEXT, LOGO):
        plain, shadowed = (marks(40, replace(config, shadow_share=share), fonts) for share in (0, 1))
        grown = 0
        for mark, dark in zip(plain, shadowed, strict=True):
            assert (dark.alpha >= mark.alpha - 1e-6).all()
            only = (mark.alpha == 0) & (dark.alpha > 0)
            assert not dark.colour[only].any()
            grown += only.sum() > 20
        assert grown > 36
        assert max(np.mean(mark.alpha > 0) for mark in shadowed) < 0.8  # its tail ends


def test_the_shadow_is_part_of_the_mask(photograph):
    plain, shadowed = (marks(20, replace(LOGO, shadow_share=share), height=200) for share in (0, 1))
    for mark, dark in zip(plain, shadowed, strict=True):
        bright = np.maximum(photograph, 60)
        assert blend(bright, dark)[1].sum() > blend(bright, mark)[1].sum()


def test_occlusion_takes_a_piece_away():
    plain, occluded = (marks(60, replace(LOGO, occluded_share=share)) for share in (0, 1))
    lost = []
    for mark, cut in zip(plain, occluded, strict=True):
        assert (cut.alpha <= mark.alpha).all()
        assert (cut.alpha[cut.alpha != mark.alpha] == 0).all()
        lost.append(1 - cut.alpha.sum() / mark.alpha.sum())
    assert np.mean(np.array(lost) > 0.05) > 0.2  # the others are missed by the piece
    assert np.mean(np.array(lost) > 0.98) < 0.1  # partly hidden, not away


def test_distortions_change_the_mark_where_it_is():
    plain, distorted = (marks(60, replace(LOGO, distorted_share=share)) for share in (0, 1))
    for mark, poor in zip(plain, distorted, strict=True):
        assert (mark.alpha != poor.alpha).any()
        near = cv2.dilate(mark.alpha, np.ones((15, 15)))
        assert not poor.alpha[near == 0].any()
        assert np.corrcoef(mark.alpha.ravel(), poor.alpha.ravel())[0, 1] > 0.9


def test_outlined_text_has_two_colours(fonts):
    """Without outline and gradient the colour is one; seen at the letters' cores and at their rims alike."""

    def two_coloured(mark):
        colours = mark.colour[mark.alpha > 0.95]
        return len(colours) > 20 and np.ptp(np.percentile(colours, (10, 90), axis=0), axis=0).max() > 0.1

    big = replace(TEXT, text_height=(0.3, 0.5))
    drawn = [marks(100, replace(big, outline_share=share), fonts) for share in (0, 1)]
    plain, outlined = (np.mean([two_coloured(mark) for mark in each]) for each in drawn)
    assert plain < 0.25 and outlined > plain + 0.15


def test_jitter_changes_brightness_and_contrast_and_nothing_else():
    colours = np.array([[90, 128, 166], [150, 110, 140]])
    logo = disc(*colours[0])
    logo[:, 60:, :3] = colours[1]
    found = 0
    for mark in marks(60, replace(LOGO, jitter_share=1, logo_side=(0.5, 0.5)), logos=[logo]):
        solid = mark.colour[mark.alpha > 0.999].astype(float)
        # c' = contrast (c - 0.5) + 0.5 + brightness, the same for all channels; of two nearly pure groups of pixels
        order = np.argsort(solid @ [1, -0.3, -0.5])
        quarter = len(solid) // 4
        ends = [np.median(solid[part], axis=0) for part in (order[:quarter], order[-quarter:])]
        before = np.concatenate(colours / 255 - 0.5)
        (contrast, shift), residual, *_ = np.linalg.lstsq(
            np.stack([before, np.ones(6)], axis=1), np.concatenate(ends) - 0.5, rcond=None
        )
        if residual[0] < 1e-3 and contrast > 0.5:  # others were painted over with a colour of their own
            found += 1
            assert 0.68 < contrast < 1.32 and -0.16 < shift < 0.16
            assert abs(contrast - 1) > 1e-4 or abs(shift) > 1e-4
    assert found > 20


def test_logos_keep_their_colours_and_some_are_painted_over():
    grey, kept = np.full((128, 128, 3), 128, np.uint8), []
    for mark in marks(100, LOGO):
        seen = blend(grey, mark)[0][mark.alpha > 0.999]
        assert len(seen) > 10
        kept.append(np.abs(seen.astype(int) - (255, 0, 0)).max() <= 2)
    assert 0.5 < np.mean(kept) < 0.8


def test_colours_do_not_fade_where_the_mark_does(fonts):
    """A rim darker than the mark would be a line around every letter that no real watermark has."""
    faint = 0
    for mark in marks(60, LOGO):
        core, rim = mark.alpha > 0.999, (mark.alpha > 0.05) & (mark.alpha < 0.7)
        if np.ptp(mark.colour[core], axis=0).max() < 0.01:  # others are painted with a gradient
            np.testing.assert_allclose(
                mark.colour[rim], np.broadcast_to(mark.colour[core][0], (rim.sum(), 3)), atol=0.02
            )
            faint += rim.sum()
    assert faint > 1000


def test_without_fonts_shapes_and_logos_are_drawn():
    for config in (WatermarkConfig(), TEXT):
        drawn = marks(40, config, NO_FONTS, logos=())
        assert np.mean([mark.alpha.any() for mark in drawn]) > 0.8
    assert all(mark.alpha.max() == 1 for mark in marks(20, TEXT, NO_FONTS, [RED]))  # filled, so these are the logos


# Reading logos


def test_logos_are_read_in_the_order_of_their_names(tmp_path):
    for i, name in enumerate(["b.png", "a.webp", "c.PNG"]):
        Image.fromarray(disc(50 * i, 0, 0)).save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").write_text("not a picture")
    Image.new("RGB", (50, 50)).save(tmp_path / "d.jpg")
    logos = load_logos(str(tmp_path))
    assert [logo[50, 60].tolist() for logo in logos] == [[50, 0, 0, 255], [0, 0, 0, 255], [100, 0, 0, 255]]
    assert all(logo.dtype == np.uint8 and logo.shape == (100, 120, 4) for logo in logos)


def test_large_logos_are_shrunk_and_keep_their_proportions(tmp_path):
    Image.fromarray(disc(255, 0, 0, 300, 900)).save(tmp_path / "a.png")
    (logo,) = load_logos(tmp_path)
    assert logo.shape[1] == LOGO_SIDE and logo.shape[0] == pytest.approx(LOGO_SIDE / 3, abs=1)


def test_pictures_without_transparency_are_no_logos(tmp_path):
    Image.fromarray(RED).save(tmp_path / "a.png")
    Image.new("RGB", (50, 50), "red").save(tmp_path / "filled.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "nothing.png")
    assert len(load_logos(tmp_path)) == 1


def test_a_logo_that_is_translucent_throughout_is_a_logo(tmp_path):
    faded = RED.copy()
    faded[..., 3] //= 3  # ready-made watermark files are often like this
    Image.fromarray(faded).save(tmp_path / "a.png")
    assert len(load_logos(tmp_path)) == 1


def test_a_folder_without_logos_is_one_clear_line(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="no RGBA logos") as caught:
            load_logos(folder)
        assert len(str(caught.value).splitlines()) == 1 and str(folder) in str(caught.value)


def test_damaged_logos_are_skipped_each_with_a_line(tmp_path, log):
    Image.fromarray(RED).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    header = struct.pack(">I", 4) + b"IHDR" + whole[16:20] + struct.pack(">I", zlib.crc32(b"IHDR" + whole[16:20]))
    contents = {
        "cut.png": whole[: len(whole) // 2],
        "empty.png": b"",
        "short_header.png": whole[:8] + header + whole[33:],
        "text.webp": b"text",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert len(load_logos(tmp_path)) == 1
    lines = log.messages
    assert len(lines) == len(contents)
    for line, name in zip(lines, sorted(contents), strict=True):
        assert name in line


# Kinds of marks for training


def test_a_lattice_crosses_the_whole_photograph_in_thin_lines():
    lattices = marks(20, replace(SHAPE, lattice_share=1.0), height=160, width=240)
    for mark in lattices:
        share = (mark.alpha > 0).mean()
        quarters = [mark.alpha[:80, :120], mark.alpha[:80, 120:], mark.alpha[80:, :120], mark.alpha[80:, 120:]]
        assert all(quarter.any() for quarter in quarters) and 0.005 < share < 0.5
        assert cv2.erode((mark.alpha > 0).astype(np.uint8), np.ones((15, 15), np.uint8)).sum() == 0  # no areas
    assert np.ptp([(mark.alpha > 0).mean() for mark in lattices]) > 0.05  # of many pitches


def test_the_lines_of_most_lattices_cross():
    """The structure tensor's coherence is 1 for parallel lines, and |cos a| for as many lines at an angle a to them."""

    def coherence(mark):
        soft = cv2.GaussianBlur(mark.alpha, (0, 0), 1.5)
        gradient = cv2.Sobel(soft, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        return np.abs((gradient**2).sum()) / (np.abs(gradient) ** 2).sum()

    drawn = [coherence(mark) for mark in marks(60, replace(SHAPE, lattice_share=1.0), height=160, width=160)]
    assert 0.08 < np.mean(np.array(drawn) > 0.93) < 0.4, "a fifth has lines in one direction"
    assert np.mean(np.array(drawn) < 0.5) > 0.2, "others cross at 60 degrees and more"


def test_a_share_of_the_shapes_are_lattices_and_texts_never_are(fonts):
    some = marks(60, replace(SHAPE, lattice_share=0.4))
    every, none = marks(60, replace(SHAPE, lattice_share=1.0)), marks(60, SHAPE)
    lattices = sum(np.array_equal(a.alpha, b.alpha) for a, b in zip(some, every, strict=True))
    shapes = sum(np.array_equal(a.alpha, b.alpha) for a, b in zip(some, none, strict=True))
    assert lattices + shapes == 60 and 12 <= lattices <= 36
    texts = (marks(10, replace(TEXT, lattice_share=share), fonts=fonts) for share in (0.0, 1.0))
    assert all(np.array_equal(a.alpha, b.alpha) for a, b in zip(*texts, strict=True))


def test_the_standard_marks_are_the_documents_and_the_varied_have_more_of_the_rare():
    standard, varied = MARKS["standard"], MARKS["varied"]
    assert standard == WatermarkConfig() and standard.lattice_share == 0
    assert varied.shape_share > standard.shape_share and varied.opaque_share > standard.opaque_share
    assert varied.lattice_share > 0 and varied.shape_share + varied.logo_share < 1


def test_without_their_overlays_overlay_marks_are_the_varied():
    assert replace(MARKS["overlays"], overlay_share=0.0) == MARKS["varied"]


def test_overlays_have_one_opacity_and_most_are_of_one_colour():
    drawn = marks(80, replace(MARKS["overlays"], overlay_share=1.0, shape_share=0.0, logo_share=1.0, tiled_share=0.0))
    strengths, flat, white = [], [], []
    for mark in drawn:
        within = cv2.erode((mark.alpha > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # of the disc
        assert mark.alpha.max() - np.quantile(mark.alpha[within], 0.1) < 1e-3
        strengths.append(mark.alpha.max())
        flat.append(np.ptp(mark.colour[within], axis=0).max() < 1e-3)
        white.append(mark.colour[within].min() > 0.85)
    faint = np.array([strength for strength in strengths if strength < 0.99])
    assert 0.08 < 1 - len(faint) / 80 < 0.3  # opaque ones
    assert faint.min() < 0.25 and faint.max() <= 0.8 and 0.25 < (faint < 0.4).mean() < 0.55
    assert np.mean(flat) > 0.9 and 0.45 < np.mean(white) < 0.75


def test_a_share_of_the_marks_are_overlays():
    config = replace(MARKS["overlays"], overlay_share=0.5)
    every = marks(60, replace(config, overlay_share=1.0))
    some = marks(60, config)
    same = sum(
        np.array_equal(a.alpha, b.alpha) and np.array_equal(a.colour, b.colour)
        for a, b in zip(some, every, strict=True)
    )
    assert 18 <= same <= 42


@pytest.mark.parametrize("name", ["overlays", "web"])
def test_an_overlay_is_nothing_but_the_stamp(name):
    config = overlay(MARKS[name])
    shares = ("outline", "shadow", "occluded", "distorted", "jitter", "boxed", "overlay")
    assert all(getattr(config, f"{share}_share") == 0 for share in shares) and config.even
    assert config.shape_share == MARKS[name].shape_share and config.logo_share == MARKS[name].logo_share


def test_overlays_keep_the_kinds_of_the_varied():
    config = overlay(MARKS["overlays"])
    assert (config.shape_share, config.logo_share, config.opaque_share) == (0.25, 0.4, 0.18)


def filled(mark):
    """The share of the smallest rectangle around a mark, turned with it, that the mark covers."""
    cover = (mark.alpha > 0.02).astype(np.uint8)
    outlines = cv2.findContours(cover, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    _, (width, height), _ = cv2.minAreaRect(np.concatenate(outlines))
    return cover.sum() / ((width + 1) * (height + 1))


def test_text_on_a_box_is_a_translucent_rectangle_with_letters_on_it(fonts):
    boxed, plain = (
        list(filter(inside, marks(100, replace(TEXT, boxed_share=share), fonts, height=256, width=256)))
        for share in (1.0, 0.0)
    )
    assert len(boxed) > 20 and np.quantile([filled(mark) for mark in boxed], 0.1) > 0.9
    assert np.quantile([filled(mark) for mark in plain], 0.9) < 0.8
    for mark in boxed:
        within = mark.alpha[cv2.erode((mark.alpha > 0.02).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0]
        assert within.max() > 0.95 and 0.2 < np.quantile(within, 0.2) < 0.85, "the letters are opaque, the box is not"


def test_half_of_the_boxes_are_black_and_only_the_configured_share_of_texts_has_one(one_face):
    drawn = list(filter(inside, marks(300, replace(TEXT, boxed_share=0.3), one_face)))
    boxes = [mark for mark in drawn if filled(mark) > 0.9]
    assert 0.2 < len(boxes) / len(drawn) < 0.4
    colours = [np.median(mark.colour[(mark.alpha > 0.2) & (mark.alpha < 0.85)], axis=0) for mark in boxes]
    dark = np.mean([colour.max() < 0.16 for colour in colours])
    assert 0.4 < dark < 0.75  # and every eighth of the others


def test_no_box_is_of_the_colour_of_its_letters_because_its_mark_is_an_overlay(one_face):
    """Overlays are given one colour: a caption would be white on white. So none of them has a box."""
    boxed, overlays = (
        list(filter(inside, marks(150, replace(TEXT, boxed_share=1.0, overlay_share=share), one_face)))
        for share in (0.0, 1.0)
    )
    assert np.mean([filled(mark) > 0.9 for mark in boxed]) > 0.9
    assert not any(filled(mark) > 0.9 for mark in overlays)


def test_the_webs_marks_have_more_text_larger_and_on_boxes():
    web, overlays = MARKS["web"], MARKS["overlays"]
    assert 1 - web.shape_share - web.logo_share > 1 - overlays.shape_share - overlays.logo_share
    assert web.text_height[0] < overlays.text_height[0] and web.text_height[1] > overlays.text_height[1]
    assert web.shadow_share > overlays.shadow_share and web.boxed_share > 0
    assert all(MARKS[name].boxed_share == 0 for name in ("standard", "varied", "overlays"))


# Layouts of the web


def test_layouts_come_as_often_as_configured(fonts, monkeypatch):
    """Layouts are drawn on a sheet; what draws them is replaced by a layer that is marked all over."""
    monkeypatch.setattr(marks_module, "draw_layout", lambda sheet: np.ones((sheet.height, sheet.width, 4), np.float32))
    drawn = marks(600, MARKS["full_web"], fonts, height=32, width=32)
    assert np.mean([(mark.alpha > 0).mean() > 0.95 for mark in drawn]) == pytest.approx(0.45, abs=0.06)


def test_faint_marks_are_as_many_as_configured_and_as_faint():
    config = WatermarkConfig(layout_share=1.0, faint_share=1.0, opacity=(0.9, 0.9))
    peaks = np.array([mark.alpha.max() for mark in marks(150, config) if mark.alpha.any()])
    assert peaks.max() <= 0.4 and np.mean((peaks > 0.09) & (peaks < 0.25)) > 0.3 < np.mean(peaks > 0.25)
    some = marks(300, replace(config, faint_share=0.4, opaque_share=0.0))
    assert np.mean([mark.alpha.max() <= 0.4 for mark in some]) == pytest.approx(0.4, abs=0.12)


def test_the_full_mix_holds_more_faint_marks_than_the_web_mix_and_opaque_ones_too(fonts):
    faint, opaque = {}, {}
    for name in ("web", "full_web"):
        peaks = np.array([mark.alpha.max() for mark in marks(400, MARKS[name], fonts, height=96, width=96)])
        faint[name], opaque[name] = np.mean(peaks < 0.4), np.mean(peaks > 0.99)
    assert faint["full_web"] > faint["web"] + 0.08 and faint["full_web"] > 0.35
    assert opaque["full_web"] > 0.06


def test_modes_are_drawn_as_often_as_configured_and_off_they_draw_nothing():
    rng = np.random.default_rng(0)
    drawn = [draw_blend_mode(rng, MARKS["full_web"]) for _ in range(4000)]
    shares = {mode: drawn.count(mode) / 4000 for mode in ("normal", *BLEND_MODES)}
    assert shares["normal"] == pytest.approx(0.95, abs=0.012)
    assert all(shares[mode] == pytest.approx(0.05 / 3, abs=0.008) for mode in BLEND_MODES)
    for name in ("standard", "varied", "overlays", "web"):
        state = rng.bit_generator.state
        assert draw_blend_mode(rng, MARKS[name]) == "normal" and rng.bit_generator.state == state

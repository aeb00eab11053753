"""After the network: two opinions merged, one strength and colour agreed on, edges sharpened, the result composed."""

import cv2
import numpy as np
import pytest
import torch
from kornia.filters import guided_blur
from scipy.optimize import minimize

from wmremoval.restore import fit_mark
from wmremoval.restore.fit_mark import fit_constant_mark
from wmremoval.restore.inpaint import compose, surroundings
from wmremoval.restore.prediction import Prediction, average, disagreement, unblend

RNG = 7
SIDE = 160


def maps_of(photo: np.ndarray, alpha: float, mask: np.ndarray, trust: float = 0.0) -> Prediction:
    """What a network that knows all says of white marks of one alpha, its own repainting being black."""
    strength = (alpha * mask).astype(np.float32)
    shown = (1 - strength[..., None]) * photo + strength[..., None]
    trusted = np.full(mask.shape, trust, np.float32)
    return Prediction(shown, np.zeros_like(photo), mask.astype(np.float32), strength, np.ones_like(photo), trusted)


def repainted(maps: Prediction) -> np.ndarray:
    return compose(maps, surroundings(maps)).image


def test_what_an_opaque_mark_hides_is_carried_inwards_and_the_rest_is_inverted():
    photo = np.tile(np.linspace(0.2, 0.4, 64, dtype=np.float32)[None, :, None], (64, 1, 3))
    mask = np.zeros((64, 64))
    mask[20:44, 20:28] = 1
    for alpha in (0.5, 1.0):
        painted = repainted(maps_of(photo, alpha, mask))
        assert np.abs(painted - photo).max() < 0.02, alpha
    np.testing.assert_array_equal(painted[mask == 0], photo[mask == 0])


def test_the_network_decides_how_much_is_repainted_where_the_mark_is_translucent():
    photo = np.full((48, 48, 3), 0.25, np.float32)
    photo[20:28, 20:28] = 0.5  # hidden from what repaints, not from what inverts
    mask = np.zeros((48, 48))
    mask[16:32, 16:32] = 1
    inverted, mixed, painted = (repainted(maps_of(photo, 0.5, mask, trust)) for trust in (0.0, 0.5, 1.0))
    assert np.abs(inverted - photo).max() < 1e-5
    assert np.abs(painted - 0.25).max() < 2 / 255
    np.testing.assert_allclose(mixed, (inverted + painted) / 2, atol=1e-6)


@pytest.mark.parametrize(("alpha", "doubt", "share"), [(0.6, 0.0, 0.0), (0.65, 0.0, 1 / 6), (0.65, 1.0, 0.5), (0.65, 0.5, 1 / 3), (0.8, 1.0, 1.0)])  # fmt: skip
def test_a_doubted_network_is_repainted_at_lower_alpha(alpha, doubt, share):
    photo, around = np.full((8, 8, 3), 0.25, np.float32), np.full((8, 8, 3), 0.75, np.float32)
    image = compose(maps_of(photo, alpha, np.ones((8, 8)), trust=0.0), around, 1.0, doubt).image
    np.testing.assert_allclose(image, 0.25 + share * 0.5, atol=1e-5)


def test_the_missed_rim_of_an_opaque_stroke_is_not_carried_into_it():
    photo = np.full((40, 40, 3), 0.25, np.float32)
    drawn = np.zeros((40, 40))
    drawn[14:26, 10:30] = 1
    found = cv2.erode(drawn, np.ones((3, 3)))
    maps = maps_of(photo, 1.0, drawn)
    missed = maps._replace(mask=found.astype(np.float32), alpha=found.astype(np.float32))
    assert np.abs(repainted(missed) - photo)[found > 0].max() < 0.02


def test_nothing_found_is_nothing_repainted():
    maps = maps_of(np.full((16, 16, 3), 0.5, np.float32), 0.5, np.zeros((16, 16)))
    assert surroundings(maps) is None


def test_two_opinions_are_averaged_by_how_much_of_a_mark_each_sees():
    photo = np.full((1, 2, 3), 0.5, np.float32)
    one, other = (maps_of(photo, alpha, np.array([[1.0, seen]])) for alpha, seen in ((0.2, 1.0), (0.6, 0.0)))
    merged = average(one, other._replace(alpha=np.full((1, 2), 0.6, np.float32)))
    np.testing.assert_allclose(merged.mask, [[1.0, 0.5]])
    np.testing.assert_allclose(merged.alpha, [[0.4, 0.2]], atol=1e-3)  # where the other sees nothing it has no say


# One mark for all pixels


def textured(side: int = SIDE) -> np.ndarray:
    """A smooth, colourful photograph that varies over every window: (side, side, 3) in [0.1, 0.7]."""
    noise = np.random.default_rng(RNG).random((side, side, 3), dtype=np.float32)
    photo = cv2.GaussianBlur(noise, (0, 0), 12)
    low, high = photo.min(axis=(0, 1)), photo.max(axis=(0, 1))
    return 0.1 + 0.6 * (photo - low) / (high - low)


def strokes(side: int = SIDE) -> np.ndarray:
    """Antialiased cover (side, side) of a few lines of letters."""
    large = np.zeros((4 * side, 4 * side), np.uint8)
    for row in range(4):
        cv2.putText(large, "Sample", (24, 4 * side * (row + 1) // 4 - 60), cv2.FONT_HERSHEY_SIMPLEX, 4.2, 255, 22)
    return cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255)


def judged(photo, cover, alpha, colour, noise=0.08, bias=0.0, tint=0.0) -> Prediction:
    """What a network says that finds every pixel, but misjudges the alpha and colour of each, and of all, by a little."""
    rng = np.random.default_rng(RNG + 1)
    colour = np.broadcast_to(np.asarray(colour, np.float32), photo.shape)
    true = (alpha * cover)[..., None]
    shown = (1 - true) * photo + true * colour
    said = (cover * (alpha + bias + noise * rng.standard_normal(cover.shape))).clip(0, 1)
    tinted = (colour + tint + noise * rng.standard_normal(photo.shape)).clip(0, 1)
    mask = (cover > 0.02).astype(np.float32)
    maps = (shown, np.zeros_like(photo), mask, said, tinted, np.full(mask.shape, 0.3))
    return Prediction(*(x.astype(np.float32) for x in maps))


def differ(maps: Prediction) -> np.ndarray:
    """Two predictions that differ by a tenth everywhere."""
    return np.full(maps.mask.shape, 0.01, np.float32)


def psnr_inside(image: np.ndarray, photo: np.ndarray, cover: np.ndarray) -> float:
    return -10 * np.log10(np.square(image - photo)[cover > 0.02].mean())


@pytest.mark.parametrize("alpha", (0.3, 0.5, 0.7))
def test_pixels_that_agree_restore_what_each_by_itself_does_not(alpha):
    photo, cover = textured(), strokes()
    maps = judged(photo, cover, alpha, (0.95, 0.95, 0.9))
    around = surroundings(maps)
    agreed, agreement, *_ = fit_constant_mark(maps, around, differ(maps))
    alone, together = compose(maps, around).image, compose(agreed, around, agreement).image
    assert psnr_inside(together, photo, cover) > psnr_inside(alone, photo, cover) + 4
    inside = cover > 0.99
    assert np.abs(agreed.alpha - alpha)[inside].mean() < 0.3 * np.abs(maps.alpha - alpha)[inside].mean()
    assert agreement[inside].mean() > 0.7 and agreement[cover == 0].max() == 0
    np.testing.assert_array_equal(
        together[cv2.dilate(cover, np.ones((3, 3))) == 0], photo[cv2.dilate(cover, np.ones((3, 3))) == 0]
    )


def test_a_colour_that_all_pixels_misjudge_alike_is_read_off_the_photograph():
    photo, cover = textured(), strokes()
    maps = judged(photo, cover, 0.5, (0.5, 0.6, 0.9), tint=-0.1)
    agreed, *_ = fit_constant_mark(maps, surroundings(maps), differ(maps))
    inside = cover > 0.99
    said, mended = (np.abs(x.colour[inside].mean(axis=0) - (0.5, 0.6, 0.9)).mean() for x in (maps, agreed))
    assert said > 0.08 and mended < 0.03


def test_the_regression_is_least_squares_where_the_network_has_no_say(monkeypatch):
    monkeypatch.setattr(fit_mark, "ALPHA_STD", 1e3)
    monkeypatch.setattr(fit_mark, "COLOUR_STD", 1e3)
    rng = np.random.default_rng(RNG)
    around = textured(41)
    photo = (0.6 * around + 0.4 * np.float32([0.9, 0.5, 0.2]) + 0.02 * rng.standard_normal(around.shape)).astype(
        np.float32
    )
    weight = (rng.random(around.shape[:2]) < 0.5).astype(np.float32)
    count = np.full(weight.shape, 1e4, np.float32)
    prior = np.full(weight.shape, 0.7, np.float32), np.full(around.shape, 0.5, np.float32)
    alpha, colour = fit_mark._regress(photo, around, weight, count, prior)

    used = weight > 0  # the window around the middle pixel holds all of them
    rows = [np.column_stack([around[used][:, c], np.eye(3)[np.full(used.sum(), c)]]) for c in range(3)]
    wanted = np.linalg.lstsq(np.concatenate(rows), photo[used].T.ravel(), rcond=None)[0]
    assert alpha[20, 20] == pytest.approx(1 - wanted[0], abs=1e-3)
    np.testing.assert_allclose(colour[20, 20], wanted[1:] / (1 - wanted[0]), atol=2e-3)
    assert alpha[20, 20] == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("grain", [0.0, 0.1])
def test_the_regression_is_what_a_general_optimiser_finds_between_the_network_and_the_photograph(grain):
    rng = np.random.default_rng(RNG)
    around = textured(41)
    photo = 0.6 * around + 0.4 * np.float32([0.9, 0.5, 0.2]) + grain * rng.standard_normal(around.shape)
    photo = photo.astype(np.float32)
    count, said_alpha, said_colour = 50.0, 0.5, np.array([0.7, 0.6, 0.4])
    plane = np.ones(around.shape[:2], np.float32)
    prior = said_alpha * plane, np.float32(said_colour) * plane[..., None]
    alpha, colour = fit_mark._regress(photo, around, plane, count * plane, prior)

    def cost(x, noise):  # minus the logarithm of the posterior, of slope and intercepts
        slope, intercept = x[0], x[1:]
        misfit = np.square(photo - slope * around - intercept).mean(axis=(0, 1)).sum()
        from_alpha = np.square((slope - 1 + said_alpha) / fit_mark.ALPHA_STD)
        from_colour = np.square((intercept - (1 - slope) * said_colour) / (said_alpha * fit_mark.COLOUR_STD)).sum()
        return count * misfit / noise + from_alpha + from_colour

    found = np.array([0.5, 0.3, 0.3, 0.3])
    for _ in range(8):  # the noise is what the line leaves, a mean of the three channels
        noise = max((photo - found[0] * around).var(axis=(0, 1)).mean(), fit_mark.LEAST_INPAINTING_STD**2)
        found = minimize(cost, found, (noise,)).x
    assert alpha[20, 20] == pytest.approx(1 - found[0], abs=2e-3)
    np.testing.assert_allclose(colour[20, 20], found[1:] / (1 - found[0]), atol=5e-3)
    assert abs(alpha[20, 20] - 0.4) < 0.03 if grain == 0 else alpha[20, 20] > 0.45, "grain makes it trust the network"


@pytest.mark.parametrize(
    "true, hedged",
    [
        ((1.0, 0.0, 0.0), True),  # red on grey: 0.15 too strong, of a paler red
        ((0.0, 1.0, 1.0), True),
        ((1.0, 1.0, 1.0), False),  # white is no vivid colour
        ((0.62, 0.4, 0.5), False),
    ],
)
def test_a_vivid_mark_is_weaker_and_more_vivid_than_a_network_that_hedges_says(true, hedged):
    background = np.full((1, 1, 3), 0.5, np.float32)
    colour = background + 0.85 * (np.float32([[true]]) - background)
    strength, vivid = fit_mark._vivid(background, np.full((1, 1), 0.5 / 0.85, np.float32), colour)
    np.testing.assert_allclose(strength, 0.5 if hedged else 0.5 / 0.85, rtol=1e-5)
    np.testing.assert_allclose(vivid[0, 0], true if hedged else colour[0, 0], atol=1e-5)
    # Either way the photograph under it, if it is as plain as the background, is the same.
    watermarked = background + 0.5 * (np.float32([[true]]) - background)
    np.testing.assert_allclose(unblend(watermarked, strength, vivid), background, atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_colour_that_hardly_differs_from_its_background_has_endless_room_without_a_warning():
    """An offset of 1e-42 in float32: what it divides overflows, and the other channels decide."""
    background = np.float32([[[0.0, 0.5, 0.5]]])
    colours = [np.float32([[[tiny, 0.9, 0.4]]]) for tiny in (0.0, 1e-42)]
    (none, expected), (strength, vivid) = (
        fit_mark._vivid(background, np.full((1, 1), 0.5, np.float32), colour) for colour in colours
    )
    np.testing.assert_array_equal(strength, none)
    np.testing.assert_allclose(vivid, expected, atol=1e-40)


def test_a_vivid_colour_stays_within_what_can_be_shown():
    background = np.float32([[[0.5, 0.5, 0.5], [0.0, 0.9, 0.2]]])
    colour = np.float32([[[0.97, 0.1, 0.1], [1.0, 0.0, 0.0]]])
    strength, vivid = fit_mark._vivid(background, np.full((1, 2), 0.6, np.float32), colour)
    assert vivid.min() >= -1e-6 and vivid.max() <= 1 + 1e-6
    np.testing.assert_allclose(strength, [[0.6 * 0.47 / 0.5, 0.6]], rtol=1e-5)  # red ends at 1, after 0.5 of 0.47


def test_marks_of_other_colours_keep_them():
    photo = textured(240)
    cover = np.zeros((240, 240), np.float32)
    cover[20:220, 40:60] = cover[20:220, 180:200] = 1  # further apart than a window reaches
    cover[20:220, 62:66] = 1  # close to the first, but dark
    colour = np.full((240, 240, 3), 0.95, np.float32)
    colour[:, 62:66] = 0.05
    colour[:, 180:200] = (0.9, 0.1, 0.1)
    maps = judged(photo, cover, 0.5, colour, noise=0.02)
    agreed, agreement, *_ = fit_constant_mark(maps, surroundings(maps), differ(maps))
    for columns, wanted in ((slice(42, 58), 0.95), (slice(63, 65), 0.05), (slice(182, 198), (0.9, 0.1, 0.1))):
        found = np.median(agreed.colour[40:200, columns].reshape(-1, 3), axis=0)
        np.testing.assert_allclose(found, np.broadcast_to(wanted, 3), atol=0.12)
    assert agreement[40:200, 63:65].mean() < 0.2 < 0.7 < agreement[40:200, 182:198].mean()


def test_a_tile_agrees_with_the_whole_where_its_windows_lie_inside():
    photo, cover = textured(240), np.tile(strokes(120), (2, 2))
    maps = judged(photo, cover, 0.5, (1, 1, 1))
    around = surroundings(maps)
    whole, *_ = fit_constant_mark(maps, around, differ(maps))
    cut = np.s_[:, 60:]
    part, *_ = fit_constant_mark(
        Prediction(*(np.ascontiguousarray(x[cut]) for x in maps)), np.ascontiguousarray(around[cut]), differ(maps)[cut]
    )
    inner = np.s_[:, fit_mark.FIT_WINDOW + 12 :]  # its windows, and what edges look at
    for name in ("alpha", "colour", "mask"):
        np.testing.assert_allclose(getattr(part, name)[inner], getattr(whole, name)[cut][inner], atol=2e-3)


def test_edges_are_read_off_the_photograph():
    photo, cover = textured(), strokes()
    maps = judged(photo, cover, 0.5, (1, 1, 1), noise=0.0)
    soft = maps._replace(alpha=cv2.GaussianBlur(maps.alpha, (0, 0), 0.8))
    agreed, *_ = fit_constant_mark(soft, surroundings(maps), differ(soft))
    edge = (cover > 0.05) & (cover < 0.95)
    blurred, sharp = (np.abs(x.alpha - 0.5 * cover)[edge].mean() for x in (soft, agreed))
    assert sharp < 0.6 * blurred


def test_pixels_too_faint_to_be_seen_are_left_alone():
    photo, cover = np.full((64, 64, 3), 0.4, np.float32), np.zeros((64, 64), np.float32)
    cover[20:40, 20:40] = 1
    maps = judged(photo, cover, 0.5, (1, 1, 1), noise=0.0)
    wide = maps._replace(mask=cv2.dilate(maps.mask, np.ones((9, 9), np.uint8)))  # a mask that reaches too far
    agreed, *_ = fit_constant_mark(wide, surroundings(wide), differ(wide))
    assert agreed.mask[24:36, 24:36].min() == 1 and agreed.mask[16:18].max() < 0.1


def test_a_network_whose_two_looks_are_alike_is_believed():
    maps = judged(textured(), strokes(), 0.5, (1, 1, 1), noise=0.02)
    agreed, agreement, *_ = fit_constant_mark(maps, surroundings(maps), np.zeros_like(maps.mask))
    for name in ("alpha", "colour", "mask"):
        np.testing.assert_allclose(getattr(agreed, name), getattr(maps, name), atol=1e-6)
    assert not agreement.any()


def test_two_looks_are_as_far_apart_as_their_alpha_and_colour():
    one = maps_of(np.full((1, 2, 3), 0.5, np.float32), 0.2, np.ones((1, 2)))
    other = one._replace(alpha=one.alpha + np.float32([[0.0, 0.3]]), colour=one.colour - np.float32([0.3, 0, 0]))
    np.testing.assert_allclose(disagreement(one, other), [[0.03, 0.12]], atol=1e-6)


def test_the_guided_filter_is_that_of_kornia():
    guide, x = textured(40) + 0.05 * np.random.default_rng(1).random((40, 40, 3), dtype=np.float32), strokes(40)
    wanted = guided_blur(torch.from_numpy(guide).permute(2, 0, 1)[None], torch.from_numpy(x)[None, None], 3, 3e-5)
    np.testing.assert_allclose(fit_mark._guided(guide, x), wanted[0, 0].numpy(), atol=2e-3)


def test_without_a_sure_pixel_nothing_is_agreed_on():
    maps = judged(textured(32), np.ones((32, 32), np.float32), 0.5, (1, 1, 1))
    maps = maps._replace(mask=np.full((32, 32), 0.55, np.float32))
    agreed, agreement, *_ = fit_constant_mark(maps, maps.photo, differ(maps))
    assert agreed is maps and not agreement.any()


def test_unblending_gives_the_photograph_back():
    photo = textured(16)
    alpha, colour = np.full((16, 16), 0.6, np.float32), np.full((16, 16, 3), 0.3, np.float32)
    np.testing.assert_allclose(unblend(0.4 * photo + 0.6 * colour, alpha, colour), photo, atol=1e-6)


def test_nothing_is_read_through_an_opaque_mark(monkeypatch):
    photo, cover = textured(), strokes()
    maps = judged(photo, cover, 0.97, (1, 1, 1), noise=0.02)
    around = surroundings(maps)
    read, *_ = fit_constant_mark(maps, around, differ(maps))
    monkeypatch.setattr(fit_mark, "_sharpened", lambda maps, alpha, *rest: (alpha, 0.0 * alpha))
    np.testing.assert_array_equal(read.alpha, fit_constant_mark(maps, around, differ(maps)).prediction.alpha)


def test_what_both_sides_tell_of_an_edge_is_used_where_the_mark_is_strong():
    """A cover that is a quarter of a pixel off at every edge: what is unblended there is a line, its sides are not."""
    photo, cover = textured(), strokes()
    for alpha, gain in ((0.2, 0.0), (0.65, 2.0)):
        maps = judged(photo, np.roll(cover, 1, axis=1) * 0.25 + cover * 0.75, alpha, (0.95, 0.95, 0.9), noise=0.02)
        true = (alpha * cover)[..., None]
        maps = maps._replace(photo=((1 - true) * photo + true * np.float32((0.95, 0.95, 0.9))).astype(np.float32))
        around = surroundings(maps)
        agreed = fit_constant_mark(maps, around, differ(maps))
        edge = (cover > 0.1) & (cover < 0.95)
        without, within = (
            compose(agreed.prediction, around, agreed.joined, agreed.uncertainty, edges).image
            for edges in (None, agreed.edges)
        )
        assert psnr_inside(within, photo, edge) >= psnr_inside(without, photo, edge) + gain

"""The fewest edges: strength, colour and cover of a mark mended together, and where that is not tried."""

import cv2
import numpy as np
import pytest
import torch
from test_fit_mark import RNG, differ, judged, psnr_inside, strokes, textured

from wmremoval.restore import sparse_edges
from wmremoval.restore.fit_mark import fit_constant_mark
from wmremoval.restore.inpaint import compose, surroundings
from wmremoval.restore.sparse_edges import MarkEstimate, fewest_edges, separate


def marked(photo: np.ndarray, cover: np.ndarray, alpha: float, colour) -> np.ndarray:
    share = (alpha * cover)[..., None]
    return ((1 - share) * photo + share * np.float32(colour)).astype(np.float32)


def guess(cover: np.ndarray, strength: float, colour) -> MarkEstimate:
    whole = np.broadcast_to(np.float32(colour), (*cover.shape, 3))
    return MarkEstimate(cover, np.full(cover.shape, strength, np.float32), np.ascontiguousarray(whole))


def restored(maps):
    """What the remover makes of maps, before and after."""
    around = surroundings(maps)
    agreed = fit_constant_mark(maps, around, differ(maps))
    composed = compose(agreed.prediction, around, agreed.joined, agreed.uncertainty, agreed.edges)
    return composed, agreed, separate(composed, agreed)


@pytest.mark.parametrize("alpha", (0.3, 0.5, 0.65))
def test_what_is_under_a_mark_is_found_from_a_wrong_strength_and_colour(alpha):
    photo, cover = textured(), strokes()
    shown = marked(photo, cover, alpha, (0.95, 0.9, 0.85))
    first = guess(cover, alpha + 0.04, (0.85, 0.8, 0.75))

    def error(mark):  # over a smooth photograph less of a brighter white is the same, so that alpha alone tells nothing
        share = (mark.cover * mark.strength)[..., None]
        return np.abs((shown - share * mark.colour) / (1 - share) - photo)[cover > 0.99].mean()

    assert error(fewest_edges(shown, first)) < 0.4 * error(first)


def test_a_cover_that_is_guessed_softly_is_sharpened():
    photo, cover = textured(), strokes()
    soft = cv2.GaussianBlur(cover, (0, 0), 0.8)
    found = fewest_edges(marked(photo, cover, 0.5, (1, 1, 1)), guess(soft, 0.5, (1, 1, 1)))
    edge = (cover > 0.05) & (cover < 0.95)
    assert np.abs(found.cover - cover)[edge].mean() < 0.6 * np.abs(soft - cover)[edge].mean()


def test_the_slopes_are_those_of_autograd(monkeypatch):
    photo, cover = textured(72), strokes(72) * 0.9
    shown, first = marked(photo, cover, 0.5, (0.9, 0.9, 0.9)), guess(cover, 0.55, (0.8, 0.9, 1.0))
    said = []
    monkeypatch.setattr(sparse_edges._Adam, "direction", lambda self, x: said.append(x.copy()) or np.zeros_like(x))
    monkeypatch.setattr(sparse_edges, "DESCENT_STEPS", 1)
    monkeypatch.setattr(sparse_edges, "CELL_SIGMA", 1e4)  # cells; one strength and colour for all
    fewest_edges(shown, first)

    near = sparse_edges._distance_outside(cover) < sparse_edges.CANDIDATE_REACH
    c = torch.from_numpy(cover).requires_grad_()
    other = torch.zeros(4, requires_grad=True)
    alpha = torch.where(torch.from_numpy(near), c * (torch.from_numpy(first.strength) + other[0]), 0.0)[..., None]
    under = (torch.from_numpy(shown) - alpha * (torch.from_numpy(first.colour) + other[1:])) / (1 - alpha)
    energy = 0.0
    for axis in (0, 1):
        length = under.diff(dim=axis).square().sum(-1) + sparse_edges.LEAST_EDGE**2
        change = c.diff(dim=axis).square() + sparse_edges.LEAST_CHANGE**2
        energy += sparse_edges.EDGE_COST * (length ** (sparse_edges.EDGE_POWER / 2)).sum()
        energy += sparse_edges.PERIMETER_COST * change.sqrt().sum()
    energy.backward()
    by_cover, by_mark = said
    np.testing.assert_allclose(by_cover, c.grad.numpy()[near], atol=2e-3 * np.abs(by_cover).max())
    height, width, _ = by_mark.shape
    middle = by_mark[height // 2, width // 2] / (2 * np.pi * sparse_edges.CELL_SIGMA**2)
    assert by_mark.shape == (9, 9, 4) and middle.any()
    # A Gaussian far wider than the grid weighs all cells alike, and is cut off at the grid's edge.
    np.testing.assert_allclose(middle / np.linalg.norm(middle), (other.grad / other.grad.norm()).numpy(), atol=1e-2)


def test_a_cover_may_change_most_within_the_distances_named_and_where_it_is_soft():
    cover = np.zeros((9, 16), np.float32)
    cover[:, 8:] = 1.0
    cover[4, 13] = 0.9
    said = sparse_edges._cover_std(cover, sparse_edges._distance_outside(cover))
    out, inside, edge = sparse_edges.COVER_STD_OUTSIDE, sparse_edges.COVER_STD_INSIDE, sparse_edges.COVER_STD_EDGE
    row = np.float32([out] * 6 + [edge] * 3 + [inside] * 7)  # two pixels lie within 2 outside, one within 1.5 inside
    np.testing.assert_array_equal(said[0], row)
    assert said[4, 13] == np.float32(edge) and said[4, 12] == np.float32(inside)


def test_where_there_are_no_edges_only_deviations_from_the_estimate_cost(monkeypatch):
    """A plain photograph wholly under a mark: from the second step on, the slopes are those of the deviations alone."""
    said = []
    monkeypatch.setattr(sparse_edges._Adam, "direction", lambda self, x: said.append(x.copy()) or np.ones_like(x))
    monkeypatch.setattr(sparse_edges, "DESCENT_STEPS", 2)
    cover = np.ones((24, 24), np.float32)
    plain = np.full((24, 24, 3), 0.4, np.float32)
    fewest_edges(marked(plain, cover, 0.5, (0.9, 0.8, 0.7)), guess(cover, 0.5, (0.9, 0.8, 0.7)))
    first_cover, first_mark, by_cover, by_mark = said
    assert np.abs(first_cover).max() < 1e-4 and np.abs(first_mark).max() < 1e-4
    # The slope of cost * (deviation / std)^2; cover, strength and colour have each been lowered by one rate.
    wanted = -2 * sparse_edges.COVER_COST * sparse_edges.COVER_RATE / sparse_edges.COVER_STD_INSIDE**2
    np.testing.assert_allclose(by_cover, wanted, rtol=1e-4)
    std = np.float32(sparse_edges.MARK_STD)
    wanted = -2 * sparse_edges.MARK_COST * sparse_edges.MARK_RATE / std**2
    np.testing.assert_allclose(by_mark, np.broadcast_to(wanted, by_mark.shape), rtol=1e-4)


@pytest.mark.parametrize("alpha", (0.3, 0.5, 0.65))
def test_what_pixels_agree_on_wrongly_is_mended(alpha):
    photo, cover = textured(), strokes()
    grain = 0.02 * np.random.default_rng(RNG).standard_normal(photo.shape).astype(np.float32)
    photo = (photo + grain).clip(0, 1)
    maps = judged(photo, cover, alpha, (1, 1, 1), bias=0.05, tint=-0.1)
    composed, _, mended = restored(maps)
    assert psnr_inside(mended.image, photo, cover) > psnr_inside(composed.image, photo, cover) + 1
    away = cv2.dilate(cover, np.ones((3, 3))) == 0
    np.testing.assert_array_equal(mended.image[away], photo[away])
    assert mended.mask.min() >= 0 and (mended.mask <= composed.mask + 1e-6).all(), "nothing more is found"
    inside = cover > 0.99
    assert np.abs(mended.alpha - alpha)[inside].mean() < np.abs(composed.alpha - alpha)[inside].mean()


def test_marks_that_hide_nearly_all_are_left_as_they_were():
    photo, cover = textured(), strokes()
    composed, _, mended = restored(judged(photo, cover, 0.95, (1, 1, 1), noise=0.01))
    np.testing.assert_array_equal(mended.image, composed.image)
    np.testing.assert_array_equal(mended.mask, composed.mask)


@pytest.mark.parametrize(("name", "value"), [("uncertainty", 0.0), ("spread", 1.0)])
def test_a_network_that_is_believed_and_marks_of_many_colours_are_left_as_they_were(name, value):
    photo, cover = textured(), strokes()
    composed, agreed, mended = restored(judged(photo, cover, 0.5, (1, 1, 1), bias=0.05, tint=-0.1))
    assert np.abs(mended.image - composed.image).max() > 0.02
    left = separate(composed, agreed._replace(**{name: np.full_like(agreed.uncertainty, value)}))
    np.testing.assert_allclose(left.image, composed.image, atol=1e-6)


def test_nothing_found_is_nothing_changed_and_what_is_given_stays():
    maps = judged(textured(64), np.zeros((64, 64), np.float32), 0.5, (1, 1, 1))
    assert separate(maps, fit_constant_mark(maps, maps.photo, differ(maps))) is maps
    nothing = guess(np.zeros((32, 32), np.float32), 0.5, (1, 1, 1))
    assert fewest_edges(textured(32), nothing) is nothing

    photo, cover = textured(), strokes()
    shown, first = marked(photo, cover, 0.5, (1, 1, 1)), guess(cover, 0.55, (0.9, 0.9, 0.9))
    copies = shown.copy(), *(x.copy() for x in first)
    fewest_edges(shown, first)
    for given, copy in zip((shown, *first), copies, strict=True):
        np.testing.assert_array_equal(given, copy)


def test_a_tile_is_separated_nearly_as_the_whole():
    photo, cover = textured(320), np.tile(strokes(160), (2, 2))
    shown, first = marked(photo, cover, 0.5, (1, 1, 1)), guess(cover, 0.54, (0.9, 0.9, 0.9))
    whole = fewest_edges(shown, first)
    part = fewest_edges(
        np.ascontiguousarray(shown[:, 160:]), MarkEstimate(*(np.ascontiguousarray(x[:, 160:]) for x in first))
    )
    inner = np.s_[:, 64:]  # what a tile shows beside what is kept of it

    def under(mark, rest):
        alpha = (mark.cover * mark.strength)[..., None]
        return (rest - alpha * mark.colour) / (1 - alpha)

    one, other = under(part, shown[:, 160:])[inner], under(whole, shown)[:, 160:][inner]
    assert np.abs(one - other).mean() < 0.5 / 255 and np.abs(one - other).max() < 4 / 255

"""A known mark: where it is, whether it is there, and the photograph without it."""

import numpy as np
import pytest
from crops import crops, psnr, under, words

from wmremoval.data.marks import blend
from wmremoval.shared.mark import Frame, Place, SharedMark, drawn
from wmremoval.shared.removal import find_anywhere, find_near, is_there, settle, strength, take_off
from wmremoval.shared.remover import found_on

WHERE = Place(0.0, 0.0)


def shared(alpha: float, place: Place | None = WHERE, **about) -> SharedMark:
    mark = words(alpha)
    return SharedMark(mark.alpha, mark.colour, place, (160, 120), noise=0.5, **about)


@pytest.mark.parametrize("alpha", [0.3, 0.6])
def test_a_known_mark_is_taken_off_and_nothing_else_changes(alpha):
    for photo, marked in zip(photos := crops(6), under(words(alpha), photos), strict=True):
        restored, mask = take_off(marked, shared(alpha), WHERE)
        assert psnr(restored, photo) > 45
        np.testing.assert_array_equal(restored[words(alpha).alpha == 0], photo[words(alpha).alpha == 0])
        assert not mask[words(alpha).alpha == 0].any() and mask.any()


def test_an_opaque_mark_is_inpainted():
    photo, marked = crops(1)[0], under(words(1.0), crops(1))[0]
    restored, _ = take_off(marked, shared(1.0), WHERE)
    assert psnr(restored, photo) > psnr(marked, photo) + 6


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_strength_of_a_mark_is_measured(share):
    """The photographs carry the mark with a share of the strength that is asked for."""
    photos = crops(12)
    given = [blend(photo, words(0.5 * share))[0] if share else photo for photo in photos]
    found = [strength(photo, shared(0.5), WHERE)[0] for photo in given]
    if share == 0.5:
        assert 0.3 < np.median(found) < 0.75
    else:
        np.testing.assert_allclose(found, share, atol=0.25)
        assert [is_there(photo, shared(0.5), WHERE) for photo in given] == [share == 1.0] * len(given)


def test_a_shift_of_a_few_pixels_is_found():
    for photo in crops(6):
        marked = blend(photo, words(0.5, origin=(27, 70)))[0]  # 3 to the right, 2 up
        match = find_near(marked, shared(0.5), WHERE)
        assert (match.place.left, match.place.top) == (3, -2)


def test_a_scaled_mark_is_settled_to_a_part_of_a_pixel():
    true = Place(11.3, 7.6, 0.8)
    for photo in crops(4):
        block, alpha, colour = drawn(shared(0.5), true, (160, 120))
        marked = photo.copy()
        view = marked[block] / 255.0
        marked[block] = np.round(255 * (view + alpha[..., None] * (colour - view)))
        found = settle(marked, shared(0.5), Place(11.0, 8.0, 0.8))
        assert abs(found.left - true.left) < 0.35 and abs(found.top - true.top) < 0.35


def test_a_mark_without_a_place_is_found_anywhere():
    mark = words(0.6)
    rows, columns = (slice(int(side.min()), int(side.max()) + 1) for side in np.nonzero(mark.alpha))
    logo = SharedMark(mark.alpha[rows, columns], mark.colour[rows, columns])
    found = [find_anywhere(photo, logo).place for photo in under(mark, crops(4))]
    assert max(abs(place.left - columns.start) for place in found) < 6
    assert max(abs(place.top - rows.start) for place in found) < 6


def test_a_mark_beside_the_photograph_is_not_there():
    assert not is_there(crops(1)[0], shared(0.5), Place(500.0, 0.0))


def test_places_follow_the_size_of_the_photograph():
    fixed = shared(0.5, Place(100.0, 80.0), frame=Frame("pixels", (1.0, 1.0)))
    assert fixed.place_on((260, 220)) == Place(200.0, 180.0, 1.0)
    scaled = shared(0.5, Place(40.0, 30.0), frame=Frame("width", (0.0, 0.0)))
    assert scaled.place_on((320, 240)) == Place(80.0, 60.0, 2.0)


def test_a_mark_drawn_at_its_own_size_is_itself():
    mark = words(0.5)
    block, alpha, colour = drawn(shared(0.5), WHERE, (160, 120))
    assert block == (slice(0, 120), slice(0, 160))
    np.testing.assert_allclose(alpha, mark.alpha, atol=1e-6)
    np.testing.assert_allclose(colour[alpha > 0.1], 1.0, atol=1e-5)


@pytest.mark.parametrize(("scale", "alpha"), [(0.7, 0.5), (0.93, 0.35)])
def test_a_logo_of_the_users_own_is_found_sized_and_taken_off(scale, alpha):
    """The file is opaque; the photographs carry it smaller and fainter, somewhere."""
    mark = words(1.0)
    rows, columns = (slice(int(side.min()), int(side.max()) + 1) for side in np.nonzero(mark.alpha))
    logo = SharedMark(mark.alpha[rows, columns], mark.colour[rows, columns], noise=0.5)
    true, gains = Place(21.0, 34.0, scale), []
    for photo in crops(6):
        block, cover, colour = drawn(logo, true, (160, 120))
        marked, view = photo.copy(), photo[block] / 255.0
        marked[block] = np.round(255 * (view + alpha * cover[..., None] * (colour - view)))
        found = found_on(marked, logo)
        gains.append(0.0 if found is None else psnr(take_off(marked, *found)[0], photo) - psnr(marked, photo))
    assert np.median(gains) > 6 and min(gains) >= 0


def test_a_strong_mark_that_is_scaled_is_left_to_the_ordinary_way():
    strong = shared(0.8, Place(0.0, 0.0), frame=Frame("width", (0.0, 0.0)))
    photo = crops(1, (320, 240))[0]
    block, cover, colour = drawn(strong, strong.place_on((320, 240)), (320, 240))
    marked, view = photo.copy(), photo[block] / 255.0
    marked[block] = np.round(255 * (view + cover[..., None] * (colour - view)))
    assert is_there(marked, strong, strong.place_on((320, 240))) and found_on(marked, strong) is None


def test_a_grey_photograph_stays_grey_under_a_mark_whose_measured_colour_is_nearly_white():
    grey = [np.repeat(photo[..., :1], 3, axis=-1) for photo in crops(2)]
    mark = words(0.5)
    known = SharedMark(mark.alpha, mark.colour * np.float32([1.0, 0.99, 0.97]), WHERE, (160, 120), noise=0.5)
    for photo, marked in zip(grey, under(mark, grey), strict=True):
        restored, _ = take_off(marked, known, WHERE)
        assert (restored == restored[..., :1]).all() and psnr(restored, photo) > psnr(marked, photo) + 10

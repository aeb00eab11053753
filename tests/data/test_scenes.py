"""Hard unmarked scenes: each shows its photograph where it should, is keyed, and leaves its photograph alone."""

import numpy as np
import pytest
from skimage import data

from wmremoval.data import scenes
from wmremoval.data.fonts import FontBook
from wmremoval.data.scenes import SCENES, draw_scene

EACH = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
PHOTOGRAPH = np.ascontiguousarray(data.astronaut()[:128, 160:288])


def unchanged(picture, levels=12):
    """Where a picture still shows its photograph."""
    return (np.abs(picture.astype(int) - PHOTOGRAPH).max(axis=2) <= levels).mean()


@EACH
@pytest.mark.parametrize("side", [32, 128])
def test_scenes_are_pictures_of_the_same_size_keyed_and_their_photograph_stays(scene, side, fonts):
    photograph = np.ascontiguousarray(PHOTOGRAPH[:side, :side])
    before, seen = photograph.copy(), set()
    for seed in range(10):
        picture, again = (scene(np.random.default_rng(seed), photograph, fonts) for _ in range(2))
        assert picture.shape == photograph.shape and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, again)
        seen.add(picture.tobytes())
    np.testing.assert_array_equal(photograph, before)
    assert len(seen) == 10


@EACH
def test_scenes_need_no_fonts(scene):
    assert scene(np.random.default_rng(0), PHOTOGRAPH, FontBook({})).std() > 0


@pytest.mark.parametrize(
    "scene, least, most",
    [(scenes.backdrop, 0.05, 0.75), (scenes.lettered, 0.3, 0.97), (scenes.railing, 0.25, 0.97)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_how_much_of_the_photograph_is_still_seen(scene, least, most, fonts):
    shares = [unchanged(scene(np.random.default_rng(seed), PHOTOGRAPH, fonts)) for seed in range(30)]
    assert least < np.median(shares) < most


def test_no_letters_stand_on_the_picture_of_a_page(fonts, monkeypatch):
    """With a picture of one colour, what of the page has that colour is one whole rectangle."""
    green = np.full((128, 128, 3), (0, 255, 0), np.uint8)
    found = 0
    for seed in range(30):
        picture = scenes.page(np.random.default_rng(seed), green, fonts)
        rows, columns = np.nonzero((picture == (0, 255, 0)).all(axis=2))
        if len(rows):
            found += 1
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert found > 10


def test_boards_hide_what_is_behind_them(fonts):
    """Two photographs of equal light look the same where a board is."""
    grey = np.full((128, 128, 3), 128, np.uint8)
    tinted = np.full((128, 128, 3), (152, 116, 129), np.uint8)  # of the same luma
    hidden = []
    for seed in range(20):
        one, other = (scenes.lettered(np.random.default_rng(seed), photo, fonts) for photo in (grey, tinted))
        hidden.append((np.abs(one.astype(int) - other).max(axis=2) <= 2).mean())
    assert np.median(hidden) > 0.05


def test_every_scene_is_drawn(fonts, monkeypatch):
    seen = set()
    monkeypatch.setattr(scenes, "SCENES", tuple(lambda *_, name=name: seen.add(name) for name in range(len(SCENES))))
    for seed in range(60):
        draw_scene(np.random.default_rng(seed), PHOTOGRAPH, fonts)
    assert seen == set(range(len(SCENES)))

"""Lists of places that a network took for marks: read or refused, and views that show them."""

from pathlib import Path

import numpy as np
import pytest

from wmremoval.data.places import Place, read_places, view_place
from wmremoval.files import write_json

PATHS = [Path("photos/a.jpg"), Path("more/b.png")]


def written(tmp_path, entries):
    write_json(tmp_path / "places.json", entries)
    return tmp_path / "places.json"


def test_places_are_read_with_the_paths_of_their_photographs(tmp_path):
    file = written(
        tmp_path, [{"file": "b.png", "box": [0, 0.25, 0.5, 1], "pixels": 7}, {"file": "a.jpg", "box": [0, 0, 1, 1]}]
    )
    assert read_places(file, PATHS) == (Place(PATHS[1], (0.0, 0.25, 0.5, 1.0)), Place(PATHS[0], (0.0, 0.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    "entries, words",
    [
        ([{"file": "test.jpg", "box": [0, 0, 1, 1]}], "names test.jpg, which is not among the photographs of training"),
        ([{"file": "a.jpg"}], "is no list of"),
        (["a.jpg"], "is no list of"),
        ([{"file": "a.jpg", "box": [0, 0, 0, 1]}], "it must be shares"),
        ([{"file": "a.jpg", "box": [0, 0, 40, 30]}], "it must be shares"),
        ([{"file": "a.jpg", "box": [0, 0, 1]}], "it must be shares"),
    ],
)
def test_other_files_are_refused_in_one_line_that_names_them(tmp_path, entries, words):
    file = written(tmp_path, entries)
    with pytest.raises(ValueError, match=words) as caught:
        read_places(file, PATHS)
    assert str(file) in str(caught.value) and len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"cannot read .*gone\.json"):
        read_places(tmp_path / "gone.json", PATHS)


@pytest.mark.parametrize(
    "height, width, box",
    [(300, 400, (0.4, 0.5, 0.5, 0.6)), (120, 90, (0.0, 0.8, 0.3, 1.0)), (200, 500, (0.1, 0.2, 0.9, 0.4))],
)
def test_views_show_the_place_whole_or_as_much_as_the_photograph_s_shape_lets_them(height, width, box):
    photograph = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = (np.array(box) * (width, height, width, height)).astype(int)
    photograph[top:bottom, left:right] = 255
    for seed in range(40):
        view = view_place(np.random.default_rng(seed), photograph, Place(Path("a"), box), 96)
        assert view.shape == (96, 96, 3) and view.dtype == np.uint8
        reach = min(max(right - left, bottom - top) * 2.5, height, width)
        assert (view > 127).mean() > 0.6 * min((right - left) * (bottom - top), reach**2 / 4) / max(reach, 48) ** 2


def test_views_differ_and_are_keyed():
    photograph = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    place = Place(Path("a"), (0.3, 0.3, 0.5, 0.5))
    views = [view_place(np.random.default_rng(seed), photograph, place, 64).tobytes() for seed in range(20)]
    assert len(set(views)) == 20
    assert views[3] == view_place(np.random.default_rng(3), photograph, place, 64).tobytes()

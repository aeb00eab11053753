"""The benchmark of one mark on many photographs: where its marks lie, and one row scored with a known remover."""

import numpy as np
import pytest
from crops import crops
from planted import planted

from wmremoval.bench import same_mark
from wmremoval.bench.same_mark import same_mark_table, score
from wmremoval.bench.same_mark_drawings import DATE, NATIVE, SERIES, SHADOW, SIZE, Setting, settings


def test_marks_lie_in_the_lower_right_corner_and_follow_the_width_if_scaled():
    boxes = {}
    for place in ("corner", "scaled"):
        for size in (SIZE, (SIZE[0] // 2, SIZE[1])):
            rows, columns = np.nonzero(Setting("text", 0.5, place=place).mark_on(size).alpha > 0.1)
            boxes[place, size[0]] = columns.max() - columns.min(), size[0] - columns.max(), size[1] - rows.max()
    assert boxes["corner", SIZE[0]] == boxes["corner", SIZE[0] // 2]
    assert boxes["scaled", SIZE[0] // 2][0] == pytest.approx(boxes["scaled", SIZE[0]][0] / 2, abs=2)
    assert max(edge for box in boxes.values() for edge in box[1:]) < 20


def test_the_largest_alpha_is_the_one_that_is_asked_for():
    for setting in settings(with_natives=False):
        if setting.place == "fixed" and setting.mark != SHADOW:
            assert setting.mark_on(SIZE).alpha.max() == np.float32(setting.alpha)
    assert not any(setting.place == "native" for setting in settings(with_natives=False))
    assert [setting.mark_on(NATIVE).alpha.shape for setting in settings(True) if setting.place == "native"] == [
        (800, 1200)
    ]


def test_a_shadow_lies_around_the_mark_and_darkens_it_nowhere():
    plain, shaded = Setting("one colour", 0.5).mark_on(SIZE), Setting(SHADOW, 0.5).mark_on(SIZE)
    assert (shaded.alpha >= plain.alpha - 1e-6).all() and (shaded.alpha > 0.05).sum() > 1.1 * (plain.alpha > 0.05).sum()
    beside = (plain.alpha == 0) & (shaded.alpha > 0.05)
    assert shaded.colour[beside].max() < 0.01


def test_every_photograph_has_a_date_of_its_own_in_one_place():
    marks = [Setting(DATE, 1.0).mark_on(SIZE, number) for number in range(4)]
    assert len({mark.alpha.tobytes() for mark in marks}) == 4
    corners = [tuple(int(side.max()) for side in np.nonzero(mark.alpha > 0.5)) for mark in marks]
    assert np.ptp(corners, axis=0).max() <= 3


def test_a_row_counts_marked_and_bare_photographs_and_is_printed(monkeypatch):
    monkeypatch.setattr(same_mark, "BARE", 2)
    photos = [photo * np.uint8([1, 1, 0]) for photo in crops(2, SIZE)]  # without blue, as the planted remover needs
    row = score(planted(), Setting("text", 0.5, 2), photos)
    assert (row["marked"], row["bare"], row["used"], row["bare_changed"]) == (1, 1, 0, 0)  # too few to share a mark
    assert row["ordinary"] == row["shared"] > row["input"] + 6
    series = [{"series": "border", "photographs": 5, "marks": 0, "changed": 0}]
    text = same_mark_table({"rows": [row], "unmarked": series})
    assert "border: 0 of 5 changed" in text and f"{row['shared']:.1f}" in text


@pytest.mark.parametrize("name", SERIES)
def test_a_series_has_its_place_in_common(name):
    given = [SERIES[name](photo.copy()) for photo in crops(2, SIZE)]
    (one, place), (other, same) = given
    np.testing.assert_array_equal(place, same)
    assert (one == other).all(axis=-1)[place > 0].mean() > 0.8  # all but the soft edges
    assert 0 < place.mean() < 1

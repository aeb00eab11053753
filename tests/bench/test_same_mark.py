"""The benchmark of one mark on many photographs: where its marks lie, and one row scored with a known remover."""

import numpy as np
import pytest
from crops import crops
from planted import planted

from wmremoval.bench.same_mark import SERIES, SIZE, Setting, same_mark_table, score, settings


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
    assert {setting.mark_on(SIZE).alpha.max() for setting in settings() if setting.place == "fixed"} == {
        np.float32(0.3), np.float32(0.5), np.float32(0.7)
    }  # fmt: skip


def test_a_row_counts_marked_and_bare_photographs_and_is_printed():
    photos = [photo * np.uint8([1, 1, 0]) for photo in crops(5, SIZE)]  # without blue, as the planted remover needs
    row = score(planted(), Setting("text", 0.5, 5), photos)
    assert (row["marked"], row["bare"], row["used"], row["bare_changed"]) == (4, 1, 0, 0)  # too few to share a mark
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

"""Places of lines of text, such as dates, that many photographs share."""

import numpy as np
import pytest
from crops import crops, psnr
from planted import planted
from skimage.color import rgb2lab

from wmremoval.bench.same_mark_drawings import DATE, Setting
from wmremoval.bench.web_drawings import ORANGE
from wmremoval.data.marks import blend
from wmremoval.restore.remover import Result
from wmremoval.restore.repaint import FoundText
from wmremoval.restore.text import Line
from wmremoval.shared.learn import Evidence, Shared, learn_shared
from wmremoval.shared.lines import LEAST_PHOTOGRAPHS, SharedLine, TextFind, inpaint_lines, learn_lines, text_find
from wmremoval.shared.mark import Place, SharedMark
from wmremoval.shared.remover import INPAINTED, SharedRemover

SIZE = 320, 240


def dated(sizes: list[tuple[int, int]]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Line]]:
    """Photographs without and with a date of their own, the date's alpha, and its line."""
    found = []
    for number, size in enumerate(sizes):
        [clean], mark = crops(number + 1, size)[number:], Setting(DATE, 1.0).mark_on(size, number)
        rows, columns = np.nonzero(mark.alpha > 0.1)
        (left, right), (top, bottom) = ((side.min(), side.max() + 1) for side in (columns, rows))
        line = Line(np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32), 1.0)
        found.append((clean, blend(clean, mark)[0], mark.alpha, line))
    return found


def learned(photos: list) -> list:
    finds = [(one.shape[1::-1], text_find(one, line)) for _, one, _, line in photos]
    return learn_lines([(size, [find]) for size, find in finds if find is not None])


def inpainted(photo: np.ndarray, shared: SharedLine) -> tuple[np.ndarray, np.ndarray]:
    """The photograph without the lines of a shared place, and the mask of changes."""
    result = Result(photo.copy(), np.zeros(photo.shape[:2], np.uint8), 0.0)
    assert inpaint_lines(photo, result, [shared]) == bool(result.mask_uint8.any())
    return result.image, result.mask_uint8


@pytest.fixture(scope="module")
def photos():
    return dated([SIZE] * 9)


def test_the_colour_of_strokes_is_that_of_the_ink(photos):
    ink = rgb2lab(np.array([[ORANGE]]))[0, 0]
    for _, watermarked, _, line in photos:
        assert np.linalg.norm(np.array(text_find(watermarked, line).colour) - ink) < 3.0


def test_dates_in_one_place_are_inpainted_and_nothing_else_changes(photos):
    [shared] = learned(photos)
    assert shared.photographs == len(photos)
    for clean, watermarked, alpha, _ in photos:
        restored, changed = inpainted(watermarked, shared)
        assert (changed > 0)[alpha > 0.5].mean() > 0.95
        assert psnr(restored, clean) > psnr(watermarked, clean) + 5
        np.testing.assert_array_equal(restored[changed == 0], watermarked[changed == 0])
        untouched, bare = inpainted(clean, shared)
        assert not bare.any() and np.array_equal(untouched, clean)


def test_a_line_that_was_left_for_the_scenes_own_is_told_as_removed(photos):
    [shared] = learned(photos)
    _, watermarked, _, line = photos[0]
    corners = tuple((float(x), float(y)) for x, y in line.quad)
    elsewhere = tuple((x - 150, y) for x, y in corners)
    texts = [FoundText("'94", "left: part of the scene", quad) for quad in (corners, elsewhere)]
    result = Result(watermarked.copy(), np.zeros(watermarked.shape[:2], np.uint8), 0.0, texts=texts)
    assert inpaint_lines(watermarked, result, [shared])
    assert [text.fate for text in result.texts] == ["removed", "left: part of the scene"]


def test_a_date_that_is_to_be_kept_stays(photos):
    [shared] = learned(photos)
    _, watermarked, _, line = photos[0]
    corners = tuple((float(x), float(y)) for x, y in line.quad)
    texts = [FoundText("'94", "kept: as asked for", corners)]
    result = Result(watermarked.copy(), np.zeros(watermarked.shape[:2], np.uint8), 0.0, texts=texts)
    assert not inpaint_lines(watermarked, result, [shared])
    np.testing.assert_array_equal(result.image, watermarked)
    assert not result.mask_uint8.any() and result.texts == texts


def test_dates_follow_the_corner_of_photographs_of_several_sizes():
    sizes = [SIZE, (240, 240), (280, 240), SIZE, (260, 240), SIZE]
    photos = dated(sizes)
    [shared] = learned(photos)
    assert shared.frame.anchor[0] == 1.0 and shared.photographs == len(sizes)
    for _, watermarked, alpha, _ in photos:
        assert (inpainted(watermarked, shared)[1] > 0)[alpha > 0.5].mean() > 0.95


def test_too_few_photographs_and_lines_of_other_colours_or_places_share_nothing(photos):
    assert learned(photos[: LEAST_PHOTOGRAPHS - 1]) == []
    one = TextFind((200.0, 210.0, 290.0, 230.0), (60.0, 40.0, 60.0))
    colours = [(SIZE, [TextFind(one.box, (10.0 * i, 0.0, 30.0 * (i % 2)))]) for i in range(10)]
    places = [(SIZE, [TextFind((20.0 * i, 10.0, 20.0 * i + 30, 24.0), one.colour)]) for i in range(10)]
    several = [(SIZE, [one] * 10)]  # all on one photograph
    assert learn_lines(colours) == learn_lines(places) == learn_lines(several) == learn_lines([]) == []
    assert [shared.photographs for shared in learn_lines([(SIZE, [one])] * 6)] == [6]


def test_the_words_of_a_shared_mark_are_no_line_of_their_own(photos, monkeypatch):
    alpha = np.full((20, 90), 0.5, np.float32)
    mark = SharedMark(alpha, np.ones((20, 90, 3), np.float32), Place(200.0, 210.0), SIZE)
    text = TextFind((205.0, 212.0, 285.0, 228.0), (60.0, 40.0, 60.0))
    found = [Evidence(SIZE, np.zeros(SIZE[0] * SIZE[1] // 8, np.uint8), texts=(text,)) for _ in range(8)]
    assert [line.photographs for line in learn_shared(found).lines] == [8]
    monkeypatch.setattr("wmremoval.shared.learn.learn_marks", lambda found, memory: [mark])
    assert learn_shared(found) == Shared((mark,), ())


def test_a_photograph_with_a_date_and_a_mark_loses_both(photos):
    """The planted remover sees white letters on photographs without blue; the date is none of its."""
    without_blue = np.uint8([1, 1, 0])
    [shared] = learned([(clean, one * without_blue, alpha, line) for clean, one, alpha, line in photos])
    _, watermarked, alpha, _ = photos[0]
    photo = watermarked * without_blue
    photo[30:34, 40:120] = 255
    result = SharedRemover(planted(), Shared((), (shared,)))(photo)
    assert INPAINTED in result.notes
    assert (result.mask_uint8 > 0)[alpha > 0.5].mean() > 0.95 and (result.mask_uint8[30:34, 40:120] > 0).all()
    kept = result.mask_uint8 == 0
    np.testing.assert_array_equal(result.image[kept], photo[kept])
    assert (result.image != photo).any(axis=-1)[~kept].all()
    assert (
        INPAINTED
        not in SharedRemover(planted(), Shared((), (shared,)))(photo, mask=np.ones(photo.shape[:2], bool)).notes
    )

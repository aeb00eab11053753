"""Learning the marks that photographs share, and files of marks."""

import json

import cv2
import numpy as np
import pytest
from crops import SIZE, crops, psnr, under, words
from PIL import Image, PngImagePlugin

from wmremoval.images import ImageError
from wmremoval.shared import learn
from wmremoval.shared.learn import LEAST_PHOTOGRAPHS, Evidence, learn_marks, memory_share
from wmremoval.shared.mark import PLACEMENT, Frame, Place, SharedMark, drawn, load_mark, save_mark
from wmremoval.shared.removal import take_off
from wmremoval.shared.remover import found_on


def evidence(photo: np.ndarray, mask: np.ndarray) -> Evidence:
    return Evidence(photo.shape[1::-1], np.packbits(mask > 0), lambda: photo)


def folder(count: int, without: int = 0, alpha: float = 0.5) -> list[Evidence]:
    """`count` photographs under a mark that the network found, and some without it."""
    photos, mark = crops(count + without), words(alpha)
    marked = [evidence(photo, mark.alpha) for photo in under(mark, photos[:count])]
    return marked + [evidence(photo, np.zeros(photo.shape[:2])) for photo in photos[count:]]


def test_a_shared_mark_is_measured_and_photographs_without_it_are_left_out():
    [mark] = learn_marks(folder(12, 3))
    assert mark.photographs == 12
    assert abs(float(np.quantile(mark.alpha, 0.97)) - 0.5) < 0.06
    places = [found_on(photo, mark) for photo in crops(15)[12:]]
    assert places == [None] * 3


def test_a_photograph_on_which_the_network_missed_it_takes_part():
    found = folder(12)
    missed = [evidence(one.read(), np.zeros((120, 160))) for one in found[:5]]
    [mark] = learn_marks(missed + found[5:])
    assert mark.photographs == 12


def test_a_part_that_a_first_estimate_lacks_comes_back(monkeypatch):
    """The first estimate is made to lose the right half of the mark, as it does now and then in JPEGs of a faint one."""
    estimate, calls = learn.estimate_mark, []

    def poor(photos, support, alpha, noise):
        found = estimate(photos, support, alpha, noise)
        calls.append(support)
        if len(calls) == 1:
            found.alpha[:, found.alpha.shape[1] // 2 :] = 0.0
        return found

    monkeypatch.setattr(learn, "estimate_mark", poor)
    [mark] = learn_marks(folder(12))
    true = words(0.5).alpha
    measured = np.zeros_like(true)
    block, alpha, _ = drawn(mark, mark.place, SIZE)
    measured[block] = alpha
    assert np.abs(measured - true)[true > 0.475].mean() < 0.03


def test_too_few_photographs_share_nothing():
    assert learn_marks(folder(LEAST_PHOTOGRAPHS - 1)) == [] and learn_marks([]) == []


def test_marks_at_different_places_are_not_shared():
    photos = crops(8)
    marks = [words(0.5, origin=(5 + 3 * i, 20 + 12 * i)) for i in range(8)]
    found = [evidence(under(mark, [photo])[0], mark.alpha) for mark, photo in zip(marks, photos, strict=True)]
    assert learn_marks(found) == []


def test_a_border_in_common_is_no_mark():
    place = np.ones((120, 160), np.uint8)
    place[10:-10, 10:-10] = 0
    photos = crops(8)
    for photo in photos:
        photo[place > 0] = (30, 40, 60)
    assert learn_marks([evidence(photo, place) for photo in photos]) == []


def test_a_mark_in_the_corner_of_photographs_of_several_sizes():
    sizes = [(160 + 8 * i, 120 + 6 * (i % 3)) for i in range(10)]
    found, clean = [], []
    for i, size in enumerate(sizes):
        photo = crops(i + 1, size)[i]
        mark = words(0.5, size, (size[0] - 136, size[1] - 14))
        clean.append(photo)
        found.append(evidence(under(mark, [photo])[0], mark.alpha))
    [mark] = learn_marks(found)
    assert mark.frame == Frame("pixels", (1.0, 1.0)) and mark.photographs == 10


def test_a_saved_mark_comes_back(tmp_path):
    mark = words(0.5)
    kept = SharedMark(mark.alpha, mark.colour, Place(3.0, 4.0), (160, 120), Frame("width", (1.0, 0.0)), 12, 0.5)
    save_mark(kept, tmp_path / "mark.png")
    back = load_mark(tmp_path / "mark.png")
    assert (back.place, back.size, back.frame, back.photographs, back.noise) == (
        kept.place, kept.size, kept.frame, kept.photographs, kept.noise
    )  # fmt: skip
    np.testing.assert_allclose(back.alpha, kept.alpha, atol=0.5 / 255 + 1e-6)


def test_a_bad_file_of_a_mark_is_named_in_one_line(tmp_path):
    (tmp_path / "no.png").write_bytes(b"nothing")
    Image.new("RGB", (20, 20)).save(tmp_path / "opaque.png")
    about = PngImagePlugin.PngInfo()
    about.add_text(PLACEMENT, json.dumps({"size": [3, 4], "place": [0, 0, -1], "scales with": "width"}))
    layer = np.zeros((20, 20, 4), np.uint8)
    cv2.circle(layer, (10, 10), 6, (255, 255, 255, 128), -1)
    Image.fromarray(layer, "RGBA").save(tmp_path / "damaged.png", pnginfo=about)
    for name, reason in (
        ("no", "readable"),
        ("opaque", "transparency"),
        ("damaged", "placement"),
        ("none", "readable"),
    ):
        with pytest.raises(ImageError, match=f"{name}.png.*{reason}"):
            load_mark(tmp_path / f"{name}.png")


def test_a_mark_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("wmremoval.shared.mark.MOST_PIXELS", 100)
    Image.new("RGBA", (20, 20), (255, 255, 255, 0)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"large.png.*20 x 20 pixels are too many"):
        load_mark(tmp_path / "large.png")


def test_what_is_restored_with_a_learned_mark_is_near_the_clean_photograph():
    photos = crops(14)
    marked = under(words(0.5), photos)
    [mark] = learn_marks([evidence(photo, words(0.5).alpha) for photo in marked])
    gains = [
        psnr(take_off(one, *found_on(one, mark))[0], photo) - psnr(one, photo)
        for one, photo in zip(marked, photos, strict=True)
    ]
    assert min(gains) > 8


def test_less_memory_measures_fewer_pixels():
    assert [memory_share(megabytes) for megabytes in (100, 800, 2000, 9000)] == [0.1, 0.1, 1.0, 1.0]
    assert 0.1 < memory_share(1200) < 1.0
    photos = crops(6)
    found = [evidence(photo, words(0.5).alpha) for photo in under(words(0.5), photos)]
    [shrunk] = learn_marks(found, memory=0.005)
    assert shrunk.place.scale == 2.0  # with all of the memory it is 1
    assert abs(float(np.quantile(shrunk.alpha, 0.97)) - 0.5) < 0.1


def test_a_large_mark_is_measured_on_shrunken_photographs(monkeypatch):
    monkeypatch.setattr(learn, "MOST_PIXELS", 6_000)  # the mark's part has about 15,000
    photos = crops(10)
    marked = under(words(0.5), photos)
    [mark] = learn_marks([evidence(photo, words(0.5).alpha) for photo in marked])
    assert mark.place.scale == 2.0 and mark.alpha.size < 6_000
    gains = [
        psnr(take_off(one, *found_on(one, mark))[0], photo) - psnr(one, photo)
        for one, photo in zip(marked, photos, strict=True)
    ]
    assert np.mean(gains) > 4

"""The translucent plate behind a caption: found where one was laid, nowhere else, and what is under it given back."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from planted import photograph, planted, psnr_inside, text_mark
from skimage import data

from wmremoval.data.marks import Mark, blend
from wmremoval.restore.boxes import Pairs, Plate, find_plate, find_plates, fit, take_off

SCENES = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}
BOX = 140, 90, 196, 330  # top, left, bottom, right
LETTERS = 152, 105, 184, 300


def plated(clean: np.ndarray, alpha: float, colour, box=BOX, radius: float = 0.0, finer: int = 4) -> np.ndarray:
    """A photograph under a rectangle, drawn by Pillow four times as large and shrunk: its edges may lie within pixels."""
    height, width = clean.shape[:2]
    canvas = Image.new("L", (finer * width, finer * height))
    top, left, bottom, right = (round(finer * side) for side in box)
    ImageDraw.Draw(canvas).rounded_rectangle((left, top, right - 1, bottom - 1), finer * radius, fill=255)
    cover = np.asarray(canvas.resize((width, height), Image.BOX)) / 255.0
    strength = (alpha * cover)[..., None]
    return np.rint(clean * (1.0 - strength) + 255.0 * strength * np.asarray(colour)).astype(np.uint8)


def untouched(photo: np.ndarray) -> np.ndarray:
    return np.zeros(photo.shape[:2], np.uint8)


def without(photo: np.ndarray, plate: Plate) -> np.ndarray:
    result = photo.copy()
    for block, image, cover in take_off(photo, plate):
        result[block][cover > 0] = np.rint(255 * image[cover > 0]).astype(np.uint8)
    return result


# Found


@pytest.mark.parametrize(
    "scene, alpha, colour",
    [
        ("coffee", 0.3, (0, 0, 0)),
        ("chelsea", 0.45, (0.08, 0.08, 0.08)),
        ("astronaut", 0.6, (1, 1, 1)),
        ("coffee", 0.6, (1, 1, 1)),
        ("coffee", 0.5, (0.1, 0.3, 0.8)),
        ("chelsea", 0.5, (0.1, 0.3, 0.8)),
    ],
)
def test_a_plate_is_found_where_it_lies_with_its_opacity_and_colour(scene, alpha, colour):
    clean = SCENES[scene]()
    plate = find_plate(plated(clean, alpha, colour), untouched(clean), LETTERS)
    np.testing.assert_allclose(plate.box, BOX, atol=2)
    assert plate.alpha == pytest.approx(alpha, abs=0.05)
    under = np.mean(clean[BOX[0] : BOX[2], BOX[1] : BOX[3]], axis=(0, 1)) / 255
    laid, found = ((1 - a) * under + a * np.asarray(w) for a, w in ((alpha, colour), (plate.alpha, plate.colour)))
    np.testing.assert_allclose(found, laid, atol=0.012)  # where they differ, they differ along the line they share


@pytest.mark.parametrize("radius", [0, 14, 22])
def test_round_corners_are_told_from_square_ones(radius):
    clean = data.coffee()
    plate = find_plate(plated(clean, 0.5, (0, 0, 0), radius=radius), untouched(clean), LETTERS)
    assert plate.radius == pytest.approx(radius, abs=4)
    corner = np.s_[BOX[0] : BOX[0] + 8, BOX[1] : BOX[1] + 8]
    restored = without(plated(clean, 0.5, (0, 0, 0), radius=radius), plate)
    assert np.abs(restored[corner].astype(float) - clean[corner]).mean() < 10


def test_it_is_found_through_jpeg():
    clean = data.coffee()
    buffer = io.BytesIO()
    Image.fromarray(plated(clean, 0.5, (0, 0, 0))).save(buffer, "JPEG", quality=80)
    watermarked = np.asarray(Image.open(buffer))
    plate = find_plate(watermarked, untouched(clean), LETTERS)
    np.testing.assert_allclose(plate.box, BOX, atol=2)
    assert plate.alpha == pytest.approx(0.5, abs=0.05)


def test_letters_missed_on_it_do_not_hide_it():
    clean = data.coffee()
    watermarked = plated(clean, 0.5, (0, 0, 0))
    cv2.putText(watermarked, "Sample", (110, 182), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
    assert find_plate(watermarked, untouched(clean), LETTERS) is not None


def test_captions_have_a_plate_each_and_none_twice():
    clean = data.coffee()
    other = 300, 350, 350, 560
    watermarked = plated(plated(clean, 0.5, (0, 0, 0)), 0.4, (1, 1, 1), other)
    boxes = [(152, 105, 184, 200), (152, 210, 184, 300), (310, 370, 340, 540)]
    plates = find_plates(watermarked, untouched(clean), boxes)
    assert len(plates) == 2
    for plate, box in zip(sorted(plates, key=lambda plate: plate.box), (BOX, other), strict=True):
        np.testing.assert_allclose(plate.box, box, atol=2)


# Not found


@pytest.mark.parametrize("scene", SCENES)
def test_a_photograph_has_none(scene):
    clean = SCENES[scene]()
    rng = np.random.default_rng(0)
    for _ in range(12):
        height = int(rng.integers(12, 50))
        width = int(height * rng.uniform(2, 6))
        top, left = rng.integers(0, clean.shape[0] - height), rng.integers(0, clean.shape[1] - width)
        assert find_plate(clean, untouched(clean), (int(top), int(left), int(top) + height, int(left) + width)) is None


@pytest.mark.parametrize("colour", [(30, 40, 90), (230, 230, 230)])
def test_an_opaque_sign_is_none(colour):
    sign = data.coffee().copy()
    sign[BOX[0] : BOX[2], BOX[1] : BOX[3]] = colour
    noise = np.random.default_rng(0).normal(0, 4, sign.shape)
    sign = (sign + noise).clip(0, 255).astype(np.uint8)
    assert find_plate(sign, untouched(sign), LETTERS) is None


def test_a_rectangle_of_another_photograph_is_none():
    pasted = data.coffee().copy()
    pasted[BOX[0] : BOX[2], BOX[1] : BOX[3]] = data.astronaut()[60:116, 100:340] // 2
    assert find_plate(pasted, untouched(pasted), LETTERS) is None


def test_one_that_ends_with_the_photograph_is_left():
    clean = data.coffee()[:196]
    assert find_plate(plated(clean, 0.5, (0, 0, 0)), untouched(clean), LETTERS) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 20), (64, 64)])
def test_small_photographs_are_no_error(size):
    photo = photograph(*size)
    assert find_plates(photo, np.full(size, 255, np.uint8), [(0, 0, *size)]) == []


# Taken off


def test_what_is_under_it_comes_back():
    clean = data.coffee()
    watermarked = plated(clean, 0.45, (0.08, 0.08, 0.08))
    restored = without(watermarked, find_plate(watermarked, untouched(clean), LETTERS))
    laid = (watermarked != clean).any(axis=-1)
    assert psnr_inside(watermarked, clean, laid) < 22
    assert psnr_inside(restored, clean, laid) > 34
    assert (restored != watermarked).any(axis=-1)[~laid].sum() < 100


def test_soft_edges_come_back_too():
    clean = data.coffee()
    box = 140.5, 90.25, 196.5, 330.75
    watermarked = plated(clean, 0.5, (0, 0, 0), box)
    restored = without(watermarked, Plate((140, 90, 197, 331), 0.5, np.zeros(3, np.float32)))
    error = np.abs(restored.astype(float) - clean)[138:200, 88:334]
    inside = error[4:-5, 4:-5]
    assert inside.max() <= 2
    assert error.mean() < 1.0
    assert np.abs(watermarked.astype(float) - clean)[138:200, 88:334].mean() > 20


def test_take_off_inverts_the_blend_exactly_by_hand():
    photo = np.full((40, 80, 3), (101, 51, 201), np.uint8)  # 0.5 * (200, 100, 150) + 0.5 * 255 * (0.01, 0.01, 0.99)
    colour = np.array([2 / 255, 2 / 255, 252 / 255], np.float32)
    rows, image, cover = zip(*take_off(photo, Plate((10, 10, 30, 70), 0.5, colour)), strict=True)
    assert len(rows) == 1 and cover[0].max() == 1
    np.testing.assert_allclose(255 * image[0][cover[0] == 1].mean(axis=0), (200, 100, 150), atol=0.01)


# The line


def test_the_slope_is_the_ratio_of_both_deviations():
    rng = np.random.default_rng(0)
    outside = rng.uniform(0.2, 0.8, (1, 300, 3))
    near = outside + rng.normal(0, 0.05, outside.shape)
    near = (near - near.mean(axis=1)) * outside.std() / near.std() + outside.mean(axis=1)
    inside = 0.6 * near + 0.4 * np.array([0.1, 0.5, 0.9])
    line, told = fit([Pairs(outside, inside, np.ones((1, 300), bool))])
    least_squares = np.polyfit(outside.ravel(), inside.ravel(), 1)[0]
    assert abs(line.slope[0] - 0.6) < 0.02 < abs(least_squares - 0.6)
    np.testing.assert_allclose(line.level[0] / (1 - line.slope[0]), (0.1, 0.5, 0.9), atol=0.03)
    assert told[0, 0] > 0.9


def test_a_third_of_a_side_may_be_anything():
    rng = np.random.default_rng(1)
    outside = rng.uniform(0, 1, (1, 300, 3))
    inside = 0.5 * outside + 0.1
    inside[:, :80] = rng.uniform(0, 1, (80, 3))
    line, _ = fit([Pairs(outside, inside, np.ones((1, 300), bool))])
    assert line.slope[0] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(line.level, 0.1, atol=1e-3)


# In the remover


def captioned() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(watermarked, clean, cover of the letters) of a photograph without blue, under a black plate and white letters."""
    clean = photograph(400, 640)
    box = np.zeros((400, 640), np.float32)
    box[200:270, 120:420] = 0.45
    laid, _ = blend(clean, Mark(box, np.zeros((400, 640, 3), np.float32)))
    letters = text_mark(400, 640, 1.6, origin=(150, 250))
    watermarked, mask = blend(laid, letters)
    return watermarked, clean, mask


def test_letters_and_plate_both_go_and_nothing_else_changes():
    watermarked, clean, _ = captioned()
    result = planted()(watermarked)
    inside = np.zeros(clean.shape[:2], bool)
    inside[204:266, 124:416] = True
    assert psnr_inside(watermarked, clean, inside) < 20 and psnr_inside(result.image, clean, inside) > 35
    assert result.notes == ["took a translucent plate off from behind letters"]
    kept = result.mask_uint8 == 0
    np.testing.assert_array_equal(result.image[kept], watermarked[kept])
    far = np.ones(clean.shape[:2], bool)
    far[196:274, 116:424] = False
    assert kept[far].all() and kept[inside & (clean.max(axis=-1) > 20)].mean() < 0.001


def test_a_users_mask_of_letters_leaves_the_plate_and_a_box_around_it_does_not():
    watermarked, clean, letters = captioned()
    only = planted()(watermarked, cv2.dilate(letters, np.ones((5, 5), np.uint8)))
    assert not only.notes
    np.testing.assert_array_equal(only.image[205:215, 125:145], watermarked[205:215, 125:145])
    box = np.zeros(letters.shape, np.uint8)
    box[190:280, 110:430] = 255
    whole = planted()(watermarked, box)
    assert whole.notes and psnr_inside(whole.image, clean, box) > 35
    np.testing.assert_array_equal(whole.image[box == 0], watermarked[box == 0])

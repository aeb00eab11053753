"""Masks as editors write them: all kinds give the mask that was drawn, or one clear line."""

import cv2
import numpy as np
import pytest
from PIL import Image
from planted import photograph

from wmremoval.batch.user_mask import GROW, read_user_mask
from wmremoval.images import TURNS, ImageError
from wmremoval.photofile.read import read_photo

WIDTH, HEIGHT = 120, 80


def drawn():
    """A mask with a box and letters, (80, 120) uint8 of 0 and 255 alone."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:30, 20:90] = 255
    letters = cv2.putText(np.zeros_like(mask), "ab", (30, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 6)
    return np.where(letters > 127, 255, mask).astype(np.uint8)  # OpenCV 5 draws letters with soft edges


@pytest.fixture
def photo(tmp_path):
    """A photograph that is stored as it is seen."""
    Image.fromarray(photograph(HEIGHT, WIDTH)).save(tmp_path / "photo.png")
    return read_photo(tmp_path / "photo.png")


def coloured(ink, ground, alpha=None):
    """The mask as RGB of two colours, or RGBA."""
    mask = drawn()
    rgb = np.where(mask[..., None] > 0, np.array(ink, np.uint8), np.array(ground, np.uint8))
    return Image.fromarray(rgb if alpha is None else np.dstack([rgb, alpha]))


FORMS = {
    "white on black": (lambda: Image.fromarray(drawn()), "mask.png", {}),
    "1 bit": (lambda: Image.fromarray(drawn()).convert("1"), "mask.png", {}),
    "palette": (lambda: coloured((255, 255, 255), (0, 0, 0)).quantize(2), "mask.png", {}),
    "red on black": (lambda: coloured((255, 0, 0), (0, 0, 0)), "mask.bmp", {}),
    "near-black ground": (lambda: coloured((250, 252, 251), (18, 18, 18)), "mask.png", {}),
    "16 bits": (lambda: Image.fromarray(drawn().astype(np.uint16) * 257), "mask.tif", {}),
    "alpha over white": (lambda: coloured((255,) * 3, (255,) * 3, drawn()), "mask.png", {}),
    "alpha over black": (lambda: coloured((0,) * 3, (0,) * 3, drawn()), "mask.png", {}),
    "black ink on nothing": (
        lambda: coloured((0,) * 3, (90,) * 3, drawn()),
        "mask.webp",
        {"lossless": True, "exact": True},
    ),
    "white ink, RGBA opaque": (lambda: coloured((255,) * 3, (0,) * 3, np.full_like(drawn(), 255)), "mask.png", {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_mask_that_was_drawn(photo, tmp_path, form):
    image, name, options = FORMS[form]
    image().save(tmp_path / name, **options)
    mask, notes = read_user_mask(tmp_path / name, photo, grow=0)
    np.testing.assert_array_equal(mask, drawn())
    assert notes == []


def test_a_jpeg_of_quality_75_with_noise_in_its_black_differs_at_the_edge_alone(photo, tmp_path):
    ground = np.random.default_rng(0).integers(1, 19, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(np.maximum(drawn(), ground)).convert("RGB").save(tmp_path / "mask.jpg", quality=75)
    mask, _ = read_user_mask(tmp_path / "mask.jpg", photo, grow=0)
    kernel = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(drawn(), kernel) != cv2.erode(drawn(), kernel)
    np.testing.assert_array_equal(mask[~edge], drawn()[~edge])
    assert (mask != drawn()).mean() < 0.01


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_mask_in_the_stored_orientation_is_turned_upright(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = Image.fromarray(photograph(HEIGHT, WIDTH))
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(turn, TURNS.get(turn))
    stored = upright.transpose(back) if back is not None else upright
    stored.save(tmp_path / "photo.jpg", exif=exif)
    photo = read_photo(tmp_path / "photo.jpg")
    assert photo.size == (WIDTH, HEIGHT)
    Image.fromarray(drawn()).save(tmp_path / "upright.png")
    mask, notes = read_user_mask(tmp_path / "upright.png", photo, grow=0)
    np.testing.assert_array_equal(mask, drawn())
    assert notes == []
    if turn >= 5:  # for the others both have the same size, and upright is the rule
        Image.fromarray(drawn()).transpose(back).save(tmp_path / "stored.png")
        mask, notes = read_user_mask(tmp_path / "stored.png", photo, grow=0)
        np.testing.assert_array_equal(mask, drawn())
        assert len(notes) == 1 and "turned" in notes[0]


@pytest.mark.parametrize("factor", [0.5, 0.25, 2])
def test_a_mask_of_another_size_is_scaled(photo, tmp_path, factor):
    small = Image.fromarray(drawn()).resize((round(WIDTH * factor), round(HEIGHT * factor)), Image.Resampling.BOX)
    small.save(tmp_path / "mask.png")
    mask, notes = read_user_mask(tmp_path / "mask.png", photo, grow=0)
    both, either = (mask > 0) & (drawn() > 0), (mask > 0) | (drawn() > 0)
    assert mask.shape == (HEIGHT, WIDTH) and both.sum() / either.sum() > (0.75 if factor < 0.5 else 0.9)
    assert notes == [f"the mask was scaled from {small.width} x {small.height} to 120 x 80"]


@pytest.mark.parametrize("size", [(80, 120), (120, 90), (60, 50), (130, 80)])
def test_other_proportions_are_refused_with_both_sizes(photo, tmp_path, size):
    Image.new("L", size).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=f"^mask.png: the mask is {size[0]} x {size[1]} and the photograph 120 x 80"):
        read_user_mask(tmp_path / "mask.png", photo)


def test_a_mask_tight_around_soft_letters_covers_them_after_it_has_grown(photo, tmp_path):
    soft = cv2.putText(np.zeros((HEIGHT, WIDTH), np.uint8), "ab", (30, 60), 0, 1.5, 255, 3, cv2.LINE_AA)
    tight = np.where(soft > 200, 255, 0).astype(np.uint8)
    Image.fromarray(tight).save(tmp_path / "mask.png")
    assert (read_user_mask(tmp_path / "mask.png", photo, grow=0)[0][soft > 0] == 0).any()
    assert read_user_mask(tmp_path / "mask.png", photo)[0][soft > 0].all()


@pytest.mark.parametrize("grow", [0, 1, GROW, 5])
def test_growing_reaches_so_far_and_no_further(photo, tmp_path, grow):
    dot = np.zeros((HEIGHT, WIDTH), np.uint8)
    dot[40, 60] = 255
    Image.fromarray(dot).save(tmp_path / "mask.png")
    mask, _ = read_user_mask(tmp_path / "mask.png", photo, grow)
    distance = np.hypot(*np.mgrid[-40 : HEIGHT - 40, -60 : WIDTH - 60])
    assert not mask[distance > grow + 0.5].any() and mask[distance <= grow - 0.5].all() and mask[40, 60 + grow]


@pytest.mark.parametrize(("level", "said"), [(0, "black all over"), (255, "covers 100%")])
def test_a_mask_of_all_or_nothing_gives_a_note(photo, tmp_path, level, said):
    Image.new("L", (WIDTH, HEIGHT), level).save(tmp_path / "mask.png")
    mask, notes = read_user_mask(tmp_path / "mask.png", photo)
    assert (mask == level).all() and len(notes) == 1 and said in notes[0]

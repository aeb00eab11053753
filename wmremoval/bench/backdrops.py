"""Studio pictures: a subject cut out of a photograph through a soft ellipse, before a colour, gradient or vignette."""

from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.images import to_uint8

GRAIN = 1.2  # grey levels; standard deviation of the noise, about that of a camera in good light. Not measured.
SOFT = 0.04  # share of the ellipse's radius over which its edge fades. Not measured.
# RGB grey levels. Networks took each of the first four for a mark and repainted most of it.
GROUNDS = {
    "blue": ((20, 60, 220),) * 2,
    "cyan": ((0, 200, 220),) * 2,
    "green": ((0, 177, 64),) * 2,
    "yellow gradient": ((250, 225, 5), (255, 200, 60)),
}
# Grey levels in the middle and in the corners.
VIGNETTES = {"white": (253, 228), "grey": (168, 84), "black": (40, 4)}


class Ellipse(NamedTuple):
    """A place in a photograph, as shares of its width and height."""

    x: float
    y: float
    across: float  # radius
    down: float  # radius


MIDDLE = Ellipse(0.5, 0.5, 0.3, 0.36)
# Subjects among scikit-image's photographs: a cat's head, a cup, an astronaut's head and shoulders.
SUBJECTS = {
    "chelsea": Ellipse(0.48, 0.43, 0.33, 0.45),
    "coffee": Ellipse(0.48, 0.5, 0.33, 0.5),
    "astronaut": Ellipse(0.45, 0.3, 0.27, 0.33),
}


def cut_out(photo: np.ndarray, place: Ellipse, ground: np.ndarray, seed: int | None = None) -> np.ndarray:
    """A subject before another ground.

    Args:
        photo: (H, W, 3) RGB uint8; not changed.
        place: of the subject; its edge fades over `SOFT` of the radius.
        ground: (H, W, 3) grey levels.
        seed: of the noise; None: without noise.

    Returns:
        (H, W, 3) RGB uint8.
    """
    height, width = photo.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot((x / width - place.x) / place.across, (y / height - place.y) / place.down)
    cover = np.clip((1.0 - distance) / SOFT, 0.0, 1.0)[..., None]
    picture = photo * cover + ground * (1.0 - cover)
    if seed is not None:
        picture = picture + GRAIN * np.random.default_rng(seed).standard_normal(photo.shape)
    return to_uint8(picture / 255.0)


def gradient(shape: tuple[int, ...], top: tuple[int, ...], bottom: tuple[int, ...]) -> np.ndarray:
    """A ground that runs from one colour at the top to another at the bottom, (H, W, 3) grey levels."""
    share = np.linspace(0.0, 1.0, shape[0])[:, None, None]
    return np.broadcast_to((1.0 - share) * np.array(top, np.float64) + share * np.array(bottom, np.float64), shape)


def vignette(shape: tuple[int, ...], middle: int, corner: int) -> np.ndarray:
    """A grey ground that a lamp lights in the middle, (H, W, 3) grey levels."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    share = np.clip((x**2 + y**2) / 2.0, 0.0, 1.0)[..., None]
    return np.broadcast_to((1.0 - share) * middle + share * corner, shape)


def product_shot(photo: np.ndarray) -> np.ndarray:
    """The middle of a photograph on white, with a soft shadow under it, as in a web shop; without noise."""
    height, width = photo.shape[:2]
    ground: np.ndarray = np.full(photo.shape, 255, np.uint8)
    foot = round(width * MIDDLE.x), round(height * (MIDDLE.y + MIDDLE.down))
    radii = round(0.8 * width * MIDDLE.across), round(0.05 * height)
    cv2.ellipse(ground, foot, radii, 0.0, 0.0, 360.0, (205, 205, 205), -1)
    ground = cv2.GaussianBlur(ground, (0, 0), 0.02 * min(height, width))
    return cut_out(photo, MIDDLE, ground)

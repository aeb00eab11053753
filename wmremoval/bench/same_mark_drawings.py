"""The marks, the dates and the unmarked series of the benchmark of one mark on many photographs."""

from dataclasses import dataclass

import cv2
import numpy as np

from wmremoval.bench.web_canvas import MONO, Canvas, Line
from wmremoval.bench.web_drawings import ORANGE
from wmremoval.bench.web_marks import web_mark
from wmremoval.data.marks import Mark, blend
from wmremoval.data.stamps import over

SIZE, NATIVE = (384, 288), (1200, 800)  # width and height that photographs are cut to; smaller ones are left out
MARKS = {"one colour": "copyright", "text": "wide", "colours": "shield"}  # web marks that cover 6 to 8%
SHADOW, DATE = "shadow", "date"  # the © with a soft shadow; a camera's date, another one on every photograph
ALPHAS = 0.3, 0.5, 0.7, 1.0
JPEG_ALPHAS = 0.3, 0.5, 0.7
FEW, USUAL, MANY = (3, 10), 30, 80  # photographs
NATIVES = 20  # photographs of native size
SEED = 0
SHORTEST = 0.7  # least share of its sides that a photograph of another size keeps
DARK, FALL, SOFT = 0.6, 0.012, 0.008  # of a shadow: alpha; offset and blur as shares of the photograph's height
DATE_EM = 0.08  # of the photograph's height


@dataclass(frozen=True)
class Setting:
    """One row of the benchmark."""

    mark: str  # of `MARKS`, or `SHADOW`, or `DATE`
    alpha: float
    number: int = USUAL
    # "fixed"; "corner" and "scaled": at the lower right, on photographs of several sizes; "native": fixed, of native size.
    place: str = "fixed"
    lossy: bool = False

    @property
    def same_size(self) -> bool:
        """True if all photographs have one size."""
        return self.place in ("fixed", "native")

    def mark_on(self, size: tuple[int, int], number: int = 0) -> Mark:
        """The mark of the photograph with a number, of `size` (width, height)."""
        if self.mark == DATE:
            return _date(size, number)
        own = web_mark(MARKS.get(self.mark, MARKS["one colour"]), *(size if self.same_size else SIZE)[::-1])
        alpha = own.alpha * np.float32(self.alpha / own.alpha.max())
        if self.mark == SHADOW:
            return _with_shadow(Mark(alpha, own.colour))
        return Mark(alpha, own.colour) if self.same_size else self._in_corner(Mark(alpha, own.colour), size)

    def _in_corner(self, mark: Mark, size: tuple[int, int]) -> Mark:
        """A mark of a photograph of `SIZE`, at the lower right of one of another size."""
        x, y, w, h = cv2.boundingRect((mark.alpha > 0).astype(np.uint8))
        layer: np.ndarray = np.dstack([mark.colour * mark.alpha[..., None], mark.alpha])[y : y + h, x : x + w]
        scale = 0.6 * (size[0] / SIZE[0] if self.place == "scaled" else 1.0)
        layer = cv2.resize(layer, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        whole, margin = np.zeros((*size[::-1], 4), np.float32), round(12 * scale)
        bottom, right = size[1] - margin, size[0] - margin
        whole[bottom - len(layer) : bottom, right - layer.shape[1] : right] = layer
        return _straight(whole)


def settings(with_natives: bool) -> list[Setting]:
    """All rows; those of native size only on demand."""
    rows = [Setting("one colour", alpha) for alpha in ALPHAS]
    rows += [Setting("text", 0.5), Setting("colours", 0.5), Setting(SHADOW, 0.5), Setting(DATE, 1.0)]
    rows += [Setting("one colour", alpha, lossy=True) for alpha in JPEG_ALPHAS]
    rows += [Setting("one colour", 0.3, FEW[0])] + [Setting("one colour", alpha, FEW[1]) for alpha in (0.3, 0.7)]
    rows += [Setting("one colour", 0.3, MANY)]
    rows += [Setting("text", 0.5, place=place) for place in ("corner", "scaled")]
    return rows + [Setting("text", 0.5, NATIVES, "native")] * with_natives


def cropped(photo: np.ndarray, number: int) -> np.ndarray:
    """A photograph of another size; the number decides which."""
    height, width = photo.shape[:2]
    shares = np.random.default_rng((SEED, number)).uniform(SHORTEST, 1.0, 2)
    return np.ascontiguousarray(photo[: int(height * shares[0]), : int(width * shares[1])])


def _date(size: tuple[int, int], number: int) -> Mark:
    """A date of the years 1990 to 1999 in printed digits: opaque, orange, at the bottom right."""
    rng, canvas = np.random.default_rng((SEED, number)), Canvas(*size)
    year, month, day = (int(rng.integers(low, high)) for low, high in ((90, 100), (1, 13), (1, 29)))
    em = DATE_EM * canvas.height
    place = canvas.width - em, canvas.height - em
    canvas.write(Line(f"'{year} {month:2d} {day:2d}", MONO, em), place, "rd", ORANGE, 1.0)
    return canvas.mark()


def _with_shadow(mark: Mark) -> Mark:
    """A mark over its own shadow, which is black and blurred and lies below it to the right."""
    height = len(mark.alpha)
    fall = FALL * height
    moved = cv2.warpAffine(
        mark.alpha / mark.alpha.max(), np.array([[1, 0, fall], [0, 1, fall]]), mark.alpha.shape[::-1]
    )
    shadow = np.zeros((*mark.alpha.shape, 4), np.float32)
    shadow[..., 3] = DARK * mark.alpha.max() * cv2.GaussianBlur(moved, (0, 0), SOFT * height)
    return _straight(over(np.dstack([mark.colour * mark.alpha[..., None], mark.alpha]), shadow))


def _straight(layer: np.ndarray) -> Mark:
    """A layer (h, w, 4), premultiplied, as a mark."""
    return Mark(layer[..., 3], (layer[..., :3] / np.maximum(layer[..., 3:], 1e-4)).clip(0.0, 1.0))


def _border(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.ones(photo.shape[:2], np.uint8)
    place[14:-14, 14:-14] = 0
    photo[place > 0] = (24, 30, 60)
    return photo, place


def _product_logo(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mark = web_mark("shield_opaque", *photo.shape[:2])
    return blend(photo, mark)[0], (mark.alpha > 0).astype(np.uint8)


def _backdrop(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photograph's middle before one gradient, as a subject in a studio."""
    height, width = photo.shape[:2]
    place = np.ones((height, width), np.uint8)
    cv2.ellipse(place, (width // 2, height // 2), (width // 4, height // 3), 0, 0, 360, 0, -1)
    ramp = np.linspace(90, 220, height, dtype=np.float32)[:, None, None] * np.array([0.8, 0.9, 1.0], np.float32)
    photo[place > 0] = np.broadcast_to(ramp, photo.shape)[place > 0].astype(np.uint8)
    return photo, place


def _prop(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ball with a highlight, the same on every photograph."""
    height, width = photo.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius, across, down = height / 6, width / 4, 0.75 * height
    place = (np.hypot(x - across, y - down) < radius).astype(np.uint8)
    light = 1.0 - np.hypot(x - across + radius / 3, y - down + radius / 3) / (2 * radius)
    ball = (light.clip(0.1, 1.0)[..., None] * np.array([220, 60, 40], np.float32)).astype(np.uint8)
    photo[place > 0] = ball[place > 0]
    return photo, place


# Drawings of what a series of photographs has in common that is no mark: the picture, and the true place (h, w) of it.
SERIES = {"border": _border, "product logo": _product_logo, "backdrop": _backdrop, "prop": _prop}

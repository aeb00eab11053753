"""Find a known mark on a photograph, tell whether it is there, and take it off by inversion."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.canvas import Canvas
from wmremoval.restore.inpaint import inpaint
from wmremoval.restore.prediction import ramp, unblend
from wmremoval.shared.grid import HEADS, TAILS
from wmremoval.shared.mark import Place, SharedMark, drawn

REACH = 4  # pixels; a mark is looked for so far around its usual place. Chosen, not measured.
SMOOTH_SHARE = 0.15  # of a mark's shorter side: sigma of the blur that its contrast is measured against. Not measured.
LEAST_CONTRAST = 0.02  # squared RGB in [0, 1]; a mark with less contrast to the photograph does not tell its place
CANDIDATES = 6  # scales at which a mark is looked at closely. Not measured.
SEARCH_SIDE = 640  # pixels; longest side of the view in which a mark without a known place is sought. Chosen.
# Strength of a mark that is there, as a share of its own, and in standard errors at least. On validation photographs (2026-11-27)
# 42 of 45 marked ones had 0.57 to 1.45 and three 0.24 to 0.28, where mark and photograph are alike; eight without the mark
# -0.03 to 0.03, at most 2 standard errors.
STRENGTH, LEAST_RATIO = (0.2, 1.8), 6.0
SEARCHED_RATIO = 15.0  # the same for a mark that was searched for: false finds reach 8 on six photographs
LEAST_EDGE = 0.01  # RGB in [0, 1]; gradients of so much are noise
TEXTURE_SIGMA = 4.0  # pixels over which texture is averaged. Not measured.
RESAMPLING = 12.0  # grey levels; noise of a mark that was scaled, whose edges are less exact; at 4 an alpha of 0.7 loses 5 dB more
CLEAR = 0.02  # alpha below which the photograph is seen
LEAST_SHARE = 0.05  # of inpainting; a smaller one is not worth its time
HIDDEN = 0.85, 0.97  # alpha from which inpainting replaces inversion, and replaces it wholly. Not measured.
# Of a logo of the user's own: steps of its scale, the alpha to start from, the steps to its alpha, and the least and largest
# alpha. Not measured.
RESIZING, FIRST_STRENGTH, STRENGTH_STEPS, STRENGTHS = (0.04, 0.02, 0.01, 0.005, 0.0025), 0.5, 8, (0.05, 0.95)
SETTLING = 0.5, 0.25, 0.1  # pixels; steps in which a scaled mark's place is settled
MARGIN = 24  # pixels around a mark from which opaque parts are inpainted


class Match(NamedTuple):
    """The best place of a mark on a photograph."""

    place: Place
    correlation: float  # of the mark with what stands out there, in [-1, 1]


def take_off(photo: np.ndarray, mark: SharedMark, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """Take a known mark off.

    Args:
        photo: (H, W, 3) RGB uint8; not changed.
        mark: that it carries.
        place: of the mark.

    Returns:
        the restored photograph, (H, W, 3) uint8, and the mask of changes, (H, W) uint8.
    """
    canvas = Canvas(photo)
    block, alpha, colour = drawn(mark, place, photo.shape[1::-1])
    if not alpha.size:
        return canvas.restored, canvas.changed
    wide = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in block)
    inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(block, wide, strict=True))
    view = photo[wide] / np.float32(255.0)
    cover = np.zeros(view.shape[:2], np.float32)
    cover[inner] = alpha
    view[inner] = unblend(view[inner], alpha, colour)
    share = inpainted_share(view, cover, mark.noise if place.scale == 1.0 else max(mark.noise, RESAMPLING))
    if share.any():
        view += share[..., None] * (inpaint(view, (share > 0).astype(np.uint8)) - view)
    canvas.write(block, to_uint8(view[inner]), np.where(alpha > 0, np.maximum(1, to_uint8(alpha)), 0).astype(np.uint8))
    return canvas.restored, canvas.changed


def inpainted_share(view: np.ndarray, alpha: np.ndarray, noise: float) -> np.ndarray:
    """The share of inpainting in the best mean of it and of inversion: each counts by the inverse of its variance.

    Inversion errs by the noise of the photograph times 1 / (1 - alpha). Inpainting errs as a random walk from the edge of
    what is hidden, whose steps are the gradients of the surroundings.

    Args:
        view: (h, w, 3) RGB in [0, 1], inverted.
        alpha: (h, w).
        noise: of the photograph, grey levels.
    """
    clear = (alpha < CLEAR).astype(np.uint8)
    inversion = np.square(noise / 255.0 / (1.0 - np.minimum(alpha, HIDDEN[1])))
    squares = np.square(np.diff(view, axis=1, append=view[:, -1:])).mean(axis=-1) * clear
    texture = cv2.GaussianBlur(squares, (0, 0), 3 * TEXTURE_SIGMA)
    texture /= cv2.GaussianBlur(clear.astype(np.float32), (0, 0), 3 * TEXTURE_SIGMA) + 1e-6
    depth = cv2.distanceTransform(1 - clear, cv2.DIST_L2, 3)
    inpainting = texture * depth + LEAST_EDGE**2 / 4
    share = inversion / (inversion + inpainting)
    share = np.maximum(share * (share > LEAST_SHARE), ramp(alpha, *HIDDEN))
    return (share * (1 - clear)).astype(np.float32)


def is_there(photo: np.ndarray, mark: SharedMark, place: Place, least: float = LEAST_RATIO) -> bool:
    """True if the photograph carries the mark at this place, by at least `least` standard errors."""
    share, error = strength(photo, mark, place)
    return STRENGTH[0] < share < STRENGTH[1] and share > least * error


def strength(photo: np.ndarray, mark: SharedMark, place: Place) -> tuple[float, float]:
    """The strength of a mark on a photograph as a share of its own, and its standard error.

    J = I + a (W - I), so a gradient of J is (1 - a) times that of I, plus (W - I) times that of alpha. A regression on the
    second term, weighted by the texture around each pixel, gives 1 where the mark is, and about 0 where it is not.

    Returns:
        0 and infinity where the mark does not lie on the photograph.
    """
    block, alpha, colour = drawn(mark, place, photo.shape[1::-1])
    if min(alpha.shape) < 2 or not alpha.any():
        return 0.0, float("inf")
    view = photo[block] / np.float32(255.0)
    over = colour - unblend(view, alpha, colour)  # of the mark over the restored photograph
    explained = energy = 0.0
    for head, tail in zip(HEADS, TAILS, strict=True):
        step, expected = view[tail] - view[head], (alpha[tail] - alpha[head])[..., None] * (over[head] + over[tail]) / 2
        texture = cv2.GaussianBlur(np.square(step - expected).sum(axis=-1), (0, 0), TEXTURE_SIGMA)
        weight = 1.0 / (texture + LEAST_EDGE**2)
        explained += float((weight * (expected * step).sum(axis=-1)).sum())
        energy += float((weight * np.square(expected).sum(axis=-1)).sum())
    return explained / (energy + 1e-9), 1.0 / np.sqrt(energy + 1e-9)


def find_near(photo: np.ndarray, mark: SharedMark, place: Place, reach: int = REACH) -> Match:
    """The best place within `reach` pixels of a place; to a tenth of a pixel where the mark is scaled, else whole pixels away."""
    block, alpha, _ = drawn(mark, place, photo.shape[1::-1])
    if min(alpha.shape) < 2 * reach or not alpha.any():
        return Match(place, -1.0)
    wide = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in block)
    sigma = _sigma(alpha)
    shown = standing_out(photo[wide], _mean_colour(mark), sigma)
    before = [reach - (b.start - w.start) for b, w in zip(block, wide, strict=True)]
    shown = np.pad(shown, [(side, 2 * reach) for side in before])[
        : alpha.shape[0] + 2 * reach, : alpha.shape[1] + 2 * reach
    ]
    surface = cv2.matchTemplate(shown, _template(alpha, sigma), cv2.TM_CCOEFF_NORMED)
    _, best, _, (right, down) = cv2.minMaxLoc(surface)
    shift = np.array([right - reach, down - reach], float)
    if place.scale != 1.0:
        shift += [_vertex(surface[down], right), _vertex(surface[:, right], down)]
    return Match(Place(place.left + shift[0], place.top + shift[1], place.scale), float(best))


def place_near(photo: np.ndarray, mark: SharedMark) -> Place | None:
    """The place of a mark of known place that is there, or a few pixels beside it; else None."""
    usual = mark.place_on(photo.shape[1::-1])
    assert usual is not None  # the mark has a place
    places = find_near(photo, mark, usual).place, usual
    return next((place for place in places if is_there(photo, mark, place)), None)


def settle(photo: np.ndarray, mark: SharedMark, place: Place) -> Place:
    """The place to a tenth of a pixel, and the scale: those at which the mark explains most, by coordinate descent.

    A mark that is not scaled was laid on whole pixels; its place is given back.
    """
    if place.scale == 1.0:
        return place
    width = mark.alpha.shape[1]
    best = _evidence(photo, mark, place)
    for step in SETTLING:
        moves = [(step, 0, 0), (-step, 0, 0), (0, step, 0), (0, -step, 0), (0, 0, step), (0, 0, -step)]
        for _ in range(2):
            for right, down, wider in moves:
                scale = place.scale + wider / width
                moved = Place(place.left + right - wider / 2, place.top + down, scale)
                value = _evidence(photo, mark, moved)
                if value > best:
                    best, place = value, moved
    return place


def _evidence(photo: np.ndarray, mark: SharedMark, place: Place) -> float:
    """The strength of a mark in standard errors."""
    share, error = strength(photo, mark, place)
    return share / error


def find_anywhere(photo: np.ndarray, mark: SharedMark) -> Match:
    """The best place and scale on the whole photograph."""
    size = photo.shape[1::-1]
    shrunk = min(1.0, SEARCH_SIDE / max(size))
    view = cv2.resize(photo, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA) if shrunk < 1.0 else photo
    found = []
    for scale in mark.scales_on(size):
        _, alpha, _ = drawn(mark, Place(0.0, 0.0, scale * shrunk), (10**6, 10**6))
        if min(alpha.shape) < 4 or any(a >= v for a, v in zip(alpha.shape, view.shape, strict=False)):
            continue
        sigma = _sigma(alpha)
        shown = standing_out(view, _mean_colour(mark), sigma)
        surface = cv2.matchTemplate(shown, _template(alpha, sigma), cv2.TM_CCOEFF_NORMED)
        _, value, _, (left, top) = cv2.minMaxLoc(surface)
        found.append(Match(Place(round(left / shrunk), round(top / shrunk), scale), float(value)))
    found.sort(key=lambda match: -match.correlation * match.place.scale)  # by chance a small one correlates more
    reach = REACH + int(1 / shrunk)
    near = [find_near(photo, mark, match.place, reach) for match in found[:CANDIDATES]]
    if mark.place is None:  # its alpha is not known either: what the mark explains then tells more than the correlation
        near = [_resized(photo, mark, match) for match in near]
        near.sort(key=lambda match: -_evidence(photo, at_its_strength(photo, mark, match.place), match.place))
        return near[0] if near else Match(Place(0.0, 0.0), -1.0)
    return max(near, key=lambda match: match.correlation, default=Match(Place(0.0, 0.0), -1.0))


def _resized(photo: np.ndarray, mark: SharedMark, best: Match) -> Match:
    """A better scale than one of the few that were searched: the correlation decides, around the middle of the mark."""
    height, width = mark.alpha.shape
    for step in RESIZING:
        for factor in (1.0 + step, 1.0 - step):
            wider = (factor - 1.0) * best.place.scale
            place = Place(
                best.place.left - wider * width / 2, best.place.top - wider * height / 2, factor * best.place.scale
            )
            match = find_near(photo, mark, place)
            best = match if match.correlation > best.correlation else best
    return best


def at_its_strength(photo: np.ndarray, mark: SharedMark, place: Place) -> SharedMark:
    """A logo of a user's file with the alpha that it has on a photograph; a measured mark stays as it is."""
    if mark.place is not None:
        return mark
    share = FIRST_STRENGTH
    for _ in range(STRENGTH_STEPS):
        share *= strength(photo, replace(mark, alpha=share * mark.alpha), place)[0]
        share = float(np.clip(share, *STRENGTHS))
    return replace(mark, alpha=share * mark.alpha)


def standing_out(photo: np.ndarray, colour: np.ndarray, sigma: float) -> np.ndarray:
    """The move of each pixel from its surroundings towards a colour: (h, w) float32, alpha where a mark is.

    Args:
        photo: (h, w, 3) RGB uint8.
        colour: (3,) RGB in [0, 1], of the mark.
        sigma: pixels, of the surroundings.
    """
    view = photo / np.float32(255.0)
    around = cv2.GaussianBlur(view, (0, 0), sigma)
    step = colour.astype(np.float32) - around
    moved = ((view - around) * step).sum(axis=-1) / (np.square(step).sum(axis=-1) + LEAST_CONTRAST)
    return moved.clip(-1.0, 1.0)


def _template(alpha: np.ndarray, sigma: float) -> np.ndarray:
    return alpha - cv2.GaussianBlur(alpha, (0, 0), sigma)


def _sigma(alpha: np.ndarray) -> float:
    return max(2.0, SMOOTH_SHARE * min(alpha.shape))


def _mean_colour(mark: SharedMark) -> np.ndarray:
    return (mark.colour * mark.alpha[..., None]).sum(axis=(0, 1)) / mark.alpha.sum()


def _vertex(values: np.ndarray, at: int) -> float:
    """The offset of a parabola's vertex from the greatest of equidistant values, in [-0.5, 0.5]; 0 at an end."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(x) for x in values[at - 1 : at + 2])
    bend = before - 2.0 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0

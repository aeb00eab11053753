"""Upsampling: from the prediction of a shrunken photograph to the restored photograph at native size."""

from collections.abc import Iterator

import cv2
import numpy as np

from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, Prediction, ramp, unblend
from wmremoval.restore.pyramid import Block, Box, Pyramid
from wmremoval.restore.tiles import Tile

# Not measured, except for the memory of a block.
DETAIL_FADE = (0.85, 0.97)  # alpha at which native detail begins to fade out, and from which none can be left
STRENGTH_RADIUS = 2  # pixels of the shrunken view within which a stroke reaches its full strength
EDGE_BLUR = 0.3  # pixels of the shrunken view; standard deviation of the blur against texture before the cover is read
SHARP_SHARE = 0.2  # share of the variance left to unblurred pixels; more sharpens edges, but lets texture into alpha
COLOUR_RADIUS = 2  # pixels of the shrunken view over which the mark's colour is averaged
BLOCK_CONTEXT = 5  # pixels of the shrunken view around a block on which its restoration depends
BLOCK_SIDE = 1280  # native pixels; side of a block with its context; limits memory to 250 MB


def native_blocks(
    tile: Tile, prediction: Prediction, pyramid: Pyramid, factor: int, box: Box
) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """Upsample a solved tile of a view to native size, block by block.

    Args:
        tile: of the view.
        prediction: of the tile's `shown` part, solved.
        pyramid: the photograph and its views.
        factor: by which the view is shrunk.
        box: of the view; nothing outside of it is returned.

    Yields:
        rows and columns in the photograph, the restored block, (h, w, 3) RGB float32 in [0, 1], and the strength of the
        change, (h, w) in [0, 1].
    """
    photo, shown = pyramid.photo, tile.shown
    kept = tuple(slice(max(k.start, box[i]), min(k.stop, box[i + 2])) for i, k in enumerate(tile.kept))
    step = max(4, BLOCK_SIDE // factor - 2 * BLOCK_CONTEXT)
    for top in range(kept[0].start, kept[0].stop, step):
        for left in range(kept[1].start, kept[1].stop, step):
            part = slice(top, min(top + step, kept[0].stop)), slice(left, min(left + step, kept[1].stop))
            if factor == 1:
                inner = tuple(slice(p.start - s.start, p.stop - s.start) for p, s in zip(part, shown, strict=True))
                yield part, prediction.image[inner], ramp(prediction.mask[inner], GATE_FROM, GATE_FULL)
                continue
            wide = [
                slice(max(p.start - BLOCK_CONTEXT, s.start), min(p.stop + BLOCK_CONTEXT, s.stop))
                for p, s in zip(part, shown, strict=True)
            ]
            inner = tuple(slice(w.start - s.start, w.stop - s.start) for w, s in zip(wide, shown, strict=True))
            native = _native(photo, (wide[0], wide[1]), factor)
            restored, gate = upsample_restoration(prediction.part(inner), native, factor)
            block = [
                slice(p.start * factor, min(p.stop * factor, side))
                for p, side in zip(part, photo.shape[:2], strict=True)
            ]
            cut = tuple(
                slice(b.start - w.start * factor, b.stop - w.start * factor) for b, w in zip(block, wide, strict=True)
            )
            yield (block[0], block[1]), restored[cut], gate[cut]


def _native(photo: np.ndarray, part: tuple[slice, slice], factor: int) -> np.ndarray:
    """The native pixels under a part of a view, float32 in [0, 1]; the photograph's border is repeated beyond it."""
    native = photo[tuple(slice(p.start * factor, p.stop * factor) for p in part)]
    missing = [(p.stop - p.start) * factor - side for p, side in zip(part, native.shape[:2], strict=True)]
    if any(missing):
        native = cv2.copyMakeBorder(native, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    return native / np.float32(255.0)


def upsample_restoration(prediction: Prediction, photo: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Restore a native photograph from the prediction of the same view shrunk by `factor`.

    Alpha is upsampled with the photograph as guide, and the blending is inverted at native size. The coarse frequencies
    of the result are replaced by those of the restored view. Fine detail thus comes from the photograph itself, never
    from an enlarged picture, except under opaque marks, which hide it.

    Args:
        prediction: of the shrunken view, (h, w).
        photo: (h * factor, w * factor, 3) RGB float32 in [0, 1].
        factor: 2, 4, 8, ...

    Returns:
        the restored view, as large as `photo`, and the strength of the change (H, W), both in [0, 1].
    """
    height, width = photo.shape[:2]
    colour = _spread_colour(prediction, (width, height))  # (H, W, 3)
    alpha = _native_alpha(prediction, photo, colour, factor)  # (H, W)
    inverted = unblend(photo, alpha, colour)
    coarse = cv2.resize(inverted, prediction.alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    detail = inverted - cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    detail = detail * (1.0 - ramp(alpha, *DETAIL_FADE)[..., None])
    restored = cv2.resize(prediction.image, (width, height), interpolation=cv2.INTER_LINEAR) + detail
    # The mask is widened by a pixel of the shrunken view, since the mark's edge may lie anywhere in that pixel.
    near = cv2.dilate(prediction.mask, np.ones((3, 3), np.uint8))
    gate = ramp(cv2.resize(near, (width, height), interpolation=cv2.INTER_LINEAR), GATE_FROM, GATE_FULL)
    restored = photo + gate[..., None] * (restored.clip(0.0, 1.0) - photo)
    return restored, gate


def _native_alpha(prediction: Prediction, photo: np.ndarray, colour: np.ndarray, factor: int) -> np.ndarray:
    """Alpha (H, W) at native size, with the edges of the native photograph.

    Alpha is strength times cover: the strength varies slowly, the cover is 1 on a stroke and 0 beside it. Where the
    shrunken view gives a cover of 0 or 1, this cover stays. At edges it is read from the photograph: by projection on
    the line from the restored background to the mark's colour, as in matting. Texture makes this reading noisy, so
    its weight falls with the noise (a Wiener filter).
    """
    size = photo.shape[1::-1]
    reach = np.ones((2 * STRENGTH_RADIUS + 1,) * 2, np.uint8)
    strength = cv2.blur(cv2.dilate(prediction.alpha, reach), reach.shape)  # (h, w)
    cover = prediction.alpha / np.maximum(strength, 0.02)
    cover = cv2.resize(cover, size, interpolation=cv2.INTER_CUBIC).clip(0.0, 1.0)
    strength = cv2.resize(strength, size, interpolation=cv2.INTER_LINEAR)  # (H, W) from here on
    background = cv2.resize(prediction.image, size, interpolation=cv2.INTER_CUBIC)
    step = strength[..., None] * (colour - background)  # the change of the photograph by full cover
    contrast = (step * step).sum(axis=-1)
    measured = ((photo - background) * step).sum(axis=-1) / (contrast + 1e-3)  # cover
    confidence = np.square(1.0 - 4.0 * cover * (1.0 - cover)) + 1e-3
    side = (4 * factor + 1,) * 2
    total = cv2.blur(confidence, side)
    for sigma, share in ((EDGE_BLUR * factor, 1.0), (0.0, SHARP_SHARE)):  # blurred first, then unblurred
        variance = share * cover * (1.0 - cover)  # of a cover that is either 0 or 1
        view = (cv2.GaussianBlur(measured, (0, 0), max(0.5, sigma)) if sigma else measured).clip(-0.5, 1.5)
        noise = cv2.blur(np.square(view - cover) * confidence, side) / total
        cover += variance / (variance + noise + 1e-4) * (view.clip(0.0, 1.0) - cover)
    return strength * cover


def _spread_colour(prediction: Prediction, size: tuple[int, int]) -> np.ndarray:
    """The mark's colour at native size, (H, W, 3); strokes give their colour to their faint edges.

    This is a normalised convolution with alpha times mask as weight.
    """
    weight = prediction.alpha * prediction.mask + 1e-4
    side = (2 * COLOUR_RADIUS + 1,) * 2
    blurred = cv2.blur(prediction.colour * weight[..., None], side) / cv2.blur(weight, side)[..., None]
    return cv2.resize(blurred, size, interpolation=cv2.INTER_LINEAR)

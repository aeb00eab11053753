"""Samples of every pixel kind converted to RGB, restored colours converted back into samples, and pictures turned."""

import numpy as np

from wmremoval.photofile.pixels import CHANNELS, PixelKind, strips


def luma(rgb: np.ndarray) -> np.ndarray:
    """Convert (..., 3) uint8 RGB to (...) uint8 grey, with Pillow's weights and rounding; grey keeps its level."""
    weighted: np.ndarray = (
        rgb[..., 0] * np.uint32(19595) + rgb[..., 1] * np.uint32(38470) + rgb[..., 2] * np.uint32(7471)
    )
    return ((weighted + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint8)


def to_rgb(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Convert (..., C) native samples to (..., 3) RGB uint8; transparency is laid over the kind's ground."""
    if kind.colour == "palette":
        return _over_ground(kind, _palette(kind)[..., :3], _palette(kind)[..., 3:], 255)[_indices(kind, native)]
    if kind.colour == "cmyk":
        paper = 255 - native[..., 3:].astype(np.int32)
        ink = native[..., :3] * paper + 128
        return (paper - ((ink + (ink >> 8)) >> 8)).astype(np.uint8)  # Pillow's rounding
    colour = native[..., : CHANNELS[kind.colour]]
    top = kind.top
    if kind.space is not None:
        colour, top = kind.space.to_srgb(colour, top), 255
    if kind.alpha or kind.key is not None:
        seen = _over_ground(kind, colour, _alpha(kind, native)[..., None], top)
    elif top == 255:
        seen = colour
    else:
        seen = ((colour.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    return np.broadcast_to(seen, (*native.shape[:-1], 3))


def picture_to_rgb(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Convert (H, W, C) native samples to a contiguous (H, W, 3) RGB uint8 array, in strips to save memory."""
    rgb = np.empty((*native.shape[:2], 3), np.uint8)
    for rows in strips(*native.shape[:2]):
        rgb[rows] = to_rgb(kind, native[rows])
    return rgb


def converted(kind: PixelKind, native: np.ndarray, target: PixelKind) -> np.ndarray:
    """Convert (rows, W, C) native samples to another kind: 8-bit grey or RGB, with or without alpha.

    A target without alpha keeps the colours and drops the transparency; nothing is laid over white.
    """
    opaque = kind.palette
    if opaque is not None:
        opaque = opaque | np.array([0, 0, 0, 255], np.uint8)
    count = CHANNELS[kind.colour]
    colour = to_rgb(PixelKind(kind.colour, kind.bits, palette=opaque), native[..., :count])
    result = np.empty((*native.shape[:-1], target.channels), np.uint8)
    result[..., : CHANNELS[target.colour]] = luma(colour)[..., None] if target.colour == "grey" else colour
    if target.alpha:
        top = 255 if kind.colour == "palette" else kind.top
        result[..., -1] = (_alpha(kind, native).astype(np.uint32) * 255 + top // 2) // top
    return result


def has_transparency(kind: PixelKind, native: np.ndarray) -> bool:
    """True if any of the (H, W, C) native pixels is not fully opaque."""
    top = 255 if kind.colour == "palette" else kind.top
    return kind.transparent and any((_alpha(kind, native[rows]) < top).any() for rows in strips(*native.shape[:2]))


def restored_samples(kind: PixelKind, native: np.ndarray, restored: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Convert the restored colours to native samples.

    Args:
        native: (H, W, C); the array is not changed.
        restored: (H, W, 3) RGB uint8.
        mask: (H, W) uint8; pixels of value 0 keep their samples bit for bit.

    Returns:
        (H, W, C); `native` itself if nothing changes. Transparency is kept. Fully transparent pixels, and
        pixels whose RGB colour was not changed, keep their samples.
    """
    inside = mask != 0
    if not inside.any():
        return native
    old, wanted = native[inside], restored[inside]
    seen = to_rgb(kind, old)
    alpha = _alpha(kind, old)
    moved = (seen != wanted).any(axis=-1) & (alpha > 0)
    if not moved.any():
        return native
    if kind.colour == "palette":
        new = _nearest_entries(kind, old[moved], wanted[moved])
    elif kind.colour == "cmyk":
        new = _inks(old[moved], seen[moved], wanted[moved])
    else:
        new = _shifted(kind, old[moved], seen[moved], wanted[moved], alpha[moved])
    old[moved] = new
    result = native.copy()
    result[inside] = old
    return result


def _alpha(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    """Opacity (...) from 0 to the kind's largest sample value (255 for a palette)."""
    if kind.alpha:
        return native[..., -1]
    if kind.colour == "palette":
        return _palette(kind)[_indices(kind, native), 3]
    if kind.key is not None:
        return np.where((native == np.array(kind.key)).all(axis=-1), 0, kind.top)
    return np.full(native.shape[:-1], kind.top)


def _palette(kind: PixelKind) -> np.ndarray:
    """The palette of a kind that has one, (N, 4) uint8 RGBA."""
    assert kind.palette is not None
    return kind.palette


def _indices(kind: PixelKind, native: np.ndarray) -> np.ndarray:
    return np.minimum(native[..., 0], len(_palette(kind)) - 1)  # a damaged file may point past its palette


def _over_ground(kind: PixelKind, colour: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    """uint8 colours laid over the kind's ground; `top` is the largest value of `colour`."""
    alpha = alpha.astype(np.float64) / (255 if kind.colour == "palette" else kind.top)
    return np.rint((colour * alpha + kind.ground / 255.0 * top * (1.0 - alpha)) * (255.0 / top)).astype(np.uint8)


def _shifted(kind: PixelKind, old: np.ndarray, seen: np.ndarray, wanted: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Add the change of the RGB view to each sample, scaled to its range and divided by its opacity.

    Adding the change keeps the detail of 16-bit samples below one 8-bit level.
    """
    count = CHANNELS[kind.colour]
    if count == 1:
        seen, wanted = seen[..., :1], luma(wanted)[..., None]
    moved = (wanted.astype(np.float64) - seen) * (kind.top / alpha[..., None])
    if kind.space is None:
        moved *= kind.top / 255.0
    else:
        colour = kind.space.to_srgb(old[..., :count], kind.top).astype(np.float64)
        moved = kind.top * (kind.space.from_srgb(np.clip(colour + moved, 0, 255)) - kind.space.from_srgb(colour))
    new = old.copy()
    new[..., :count] = np.clip(np.rint(old[..., :count] + moved), 0, kind.top)
    if kind.key is not None:  # a visible pixel of the key's colour would turn transparent
        hit = (new == np.array(kind.key)).all(axis=-1)
        new[hit, -1] = kind.key[-1] + 1 if kind.key[-1] < kind.top else kind.key[-1] - 1
    return new


def _inks(old: np.ndarray, seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 4) CMYK for the wanted colours; black is kept, and reduced only where the wanted colour needs it."""
    black = np.minimum(old[:, 3], 255 - wanted.max(axis=1))
    paper = 255.0 - black[:, None]
    inks = np.rint((paper - wanted) * 255.0 / np.maximum(paper, 1.0))
    kept = (wanted == seen) & (black == old[:, 3])[:, None]
    new = old.copy()
    new[:, :3] = np.where(kept | (paper == 0), old[:, :3], np.clip(inks, 0, 255))
    new[:, 3] = black
    return new


def _nearest_entries(kind: PixelKind, old: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 1) palette indices: the colour nearest to the wanted one, among entries of the same opacity as before."""
    palette = _palette(kind)
    view = _over_ground(kind, palette[:, :3], palette[:, 3:], 255).astype(np.int32)
    opacity = _alpha(kind, old)
    new = old.copy()
    colours, inverse = np.unique(np.column_stack([wanted, opacity]), axis=0, return_inverse=True)
    best = np.empty(len(colours), np.uint8)
    for start in range(0, len(colours), 4096):
        part = colours[start : start + 4096].astype(np.int32)
        distance = ((part[:, None, :3] - view[None]) ** 2).sum(axis=-1)
        distance[part[:, 3:] != palette[None, :, 3].astype(np.int32)] = np.iinfo(np.int32).max
        best[start : start + 4096] = distance.argmin(axis=1)
    new[:, 0] = best[inverse.reshape(-1)]
    return new


def turned(array: np.ndarray, orientation: int, back: bool = False) -> np.ndarray:
    """A view of (H, W) or (H, W, C) turned upright by its EXIF orientation; with `back`, turned the opposite way."""
    if back:
        orientation = {6: 8, 8: 6}.get(orientation, orientation)
    if orientation in (5, 7):
        array = array.swapaxes(0, 1)
    if orientation in (6, 8):
        return np.rot90(array, 3 if orientation == 6 else 1)
    steps = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 7: (-1, -1)}.get(orientation, (1, 1))
    return array[:: steps[0], :: steps[1]]

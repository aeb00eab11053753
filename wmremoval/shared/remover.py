"""A remover of photographs that share a mark: what is known is taken off, the rest is restored in the ordinary way."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from wmremoval.images import ImageError
from wmremoval.photofile.read import MAX_PIXELS, read_photo
from wmremoval.restore.remover import Remover, Result
from wmremoval.restore.text import Line
from wmremoval.shared.learn import Evidence, Shared, learn_shared
from wmremoval.shared.lines import inpaint_lines, text_find
from wmremoval.shared.mark import COMPRESSION, ROUNDING, Place, SharedMark
from wmremoval.shared.removal import (
    SEARCHED_RATIO,
    at_its_strength,
    find_anywhere,
    is_there,
    place_near,
    settle,
    take_off,
)

LOSSLESS = "PNG", "TIFF", "BMP"  # formats; all others lose pixels
LEARNED_FROM = 40  # photographs at most; 16 measure alpha within 0.03, 30 within 0.01
# Alpha of marks that are scaled from photograph to photograph: of 20 validation photographs 0.7 loses 3 dB against the ordinary
# way, 0.5 and 0.3 gain 4 and 8 (2026-11-27).
MOST_SCALED = 0.6
INPAINTED = "inpainted a line of text in a place that the photographs share"
TAKEN_OFF = "took off the mark that the photographs share"


class SharedRemover(Remover):
    """Takes known marks off; photographs without them are restored in the ordinary way.

    There, lines of text such as dates, of which the place and the colour are known, are inpainted.

    Args:
        remover: the ordinary one.
        shared: what photographs share; its marks are tried in their order.
    """

    def __init__(self, remover: Remover, shared: Shared):
        vars(self).update(vars(remover))
        self.shared = shared

    def restore(self, photo: np.ndarray, mask: np.ndarray | None = None) -> Result:
        """As `Remover.restore`; with a mask of the user's it is the same."""
        started = time.perf_counter()
        for mark in self.shared.marks if mask is None else ():
            found = found_on(photo, mark)
            if found is not None:
                image, changed = take_off(photo, *found)
                return Result(image, changed, time.perf_counter() - started, notes=[TAKEN_OFF])
        result = super().restore(photo, mask)
        if mask is None and inpaint_lines(photo, result, self.shared.lines):
            result.notes.append(INPAINTED)
            result.seconds = time.perf_counter() - started
        return result


def found_on(photo: np.ndarray, mark: SharedMark) -> tuple[SharedMark, Place] | None:
    """A mark as it is on (H, W, 3) RGB uint8, and its place; None if it is not there."""
    usual = mark.place_on(photo.shape[1::-1])
    if usual is not None and mark.place is not None:
        if usual.scale != mark.place.scale and mark.alpha.max() > MOST_SCALED:
            return None
        place = place_near(photo, mark)
        if place is not None:
            return mark, place if photo.shape[1::-1] == mark.size else settle(photo, mark, place)
    place = find_anywhere(photo, mark).place
    own = at_its_strength(photo, mark, place)
    place = settle(photo, own, place)
    own = at_its_strength(photo, replace(own, alpha=mark.alpha), place)
    return (own, place) if is_there(photo, own, place, SEARCHED_RATIO) else None


def some_of(paths: Sequence[Path]) -> list[Path]:
    """At most `LEARNED_FROM` of the paths, evenly spaced."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(LEARNED_FROM, len(paths))).astype(int))]


def evidence_of(remover: Remover, paths: Iterable[str | Path], max_pixels: int = MAX_PIXELS) -> Iterator[Evidence]:
    """The finds of the ordinary remover on each photograph; files that cannot be read are left out."""
    for path in paths:
        try:
            photo = read_photo(path, max_pixels)
        except (ImageError, OSError):
            continue  # the run itself says what is wrong with it
        result = Remover.restore(remover, photo.rgb)
        noise = ROUNDING if photo.format in LOSSLESS else COMPRESSION
        yield evidence_from(photo.rgb, result, partial(_rgb, path, max_pixels), noise)


def evidence_from(photo: np.ndarray, result: Result, read: Callable[[], np.ndarray], noise: float) -> Evidence:
    """The finds of the ordinary remover on one photograph, (H, W, 3) RGB uint8; see `Evidence`."""
    lines = [Line(np.array(text.quad, np.float32), 1.0) for text in result.texts if text.fate == "removed"]
    texts = tuple(find for line in lines if (find := text_find(photo, line)) is not None)
    return Evidence(photo.shape[1::-1], np.packbits(result.mask_uint8 > 0), read, noise, texts)


def _rgb(path: str | Path, max_pixels: int) -> np.ndarray:
    return read_photo(path, max_pixels).rgb


def learn_watermarks(remover: Remover, paths: Sequence[str | Path]) -> SharedRemover:
    """A remover of what photographs share; `shared` holds it.

    Args:
        remover: from `load_remover`.
        paths: photographs, of which at most `LEARNED_FROM` are read; those that cannot be read are left out.
    """
    chosen = some_of([Path(path) for path in paths])
    return SharedRemover(remover, learn_shared(list(evidence_of(remover, chosen))))

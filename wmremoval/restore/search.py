"""Look at a whole photograph on shrunken views, and keep what the network says of them for restoring from it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from wmremoval.images import to_uint8
from wmremoval.restore.prediction import Prediction
from wmremoval.restore.regions import Findings, Region, look_factor, views
from wmremoval.restore.tiles import Tile, TileRunner, shrink

KEPT_PIXELS = 1_500_000  # pixels of a view whose answers are kept until its regions are restored: 66 MB


@dataclass
class Look:
    """What a search over the shrunken views of a photograph leaves."""

    factor: int  # shrinking of the finest view that was searched
    factors: list[int]  # shrinkings of all views
    probability: np.ndarray | None = None  # (h, w) uint8 of that view: the greatest mask probability, times 255
    maps: dict[int, list[tuple[Tile, Prediction]]] = field(
        default_factory=dict
    )  # of the smaller views: all that was said
    finished: set[tuple[int, int]] = field(default_factory=set)  # (factor, number) of those ready to restore from
    again: dict[float, tuple[tuple, np.ndarray]] = field(default_factory=dict)  # by the size that a place is shown in,
    # 1 or less: the last place that was looked at once more, and the mask seen there

    def concerned(self, factor: int, box: tuple[int, int, int, int]) -> list[int]:
        """Which of the kept answers of a view are of a box of it."""
        return [
            i
            for i, (tile, _) in enumerate(self.maps.get(factor, []))
            if all(part.start < box[n + 2] and part.stop > box[n] for n, part in enumerate(tile.kept))
        ]


def search(runner: TileRunner, photo: np.ndarray) -> Look:
    """Look at a photograph, (H, W, 3) uint8, on all its views that are cheap enough."""
    factors = views(*photo.shape[:2])
    look = Look(min(look_factor(*photo.shape[:2]), factors[-1]), factors)
    for factor in (factor for factor in factors if factor >= look.factor):
        height, width = size_of_view(photo, factor)
        found = np.zeros((height, width), np.uint8)
        kept: list[tuple[Tile, Prediction]] = []
        for tile, maps in runner.cover((0, 0, height, width), _pixels_of(photo, factor), height, width):
            found[tile.kept] = to_uint8(maps.mask[tile.inner])
            if height * width <= KEPT_PIXELS:
                kept.append((tile, maps))
        if kept:
            look.maps[factor] = kept
        if look.probability is None:
            look.probability = found
        else:
            size = look.probability.shape[::-1]
            np.maximum(look.probability, cv2.resize(found, size, interpolation=cv2.INTER_LINEAR), out=look.probability)
    return look


def answers(runner: TileRunner, photo: np.ndarray, look: Look, factor: int, box) -> Iterator[tuple[Tile, Prediction]]:
    """The tiles of a box of a view, finished; those that are kept are finished once for all regions."""
    kept = look.maps.get(factor)
    if not kept:
        for tile, maps in runner.cover(box, _pixels_of(photo, factor), *size_of_view(photo, factor)):
            yield tile, runner.finished(maps)
        return
    for i in look.concerned(factor, box):
        if (factor, i) not in look.finished:
            look.finished.add((factor, i))
            kept[i] = kept[i][0], runner.finished(kept[i][1])
        yield kept[i]


def size_of_view(photo: np.ndarray, factor: int) -> tuple[int, int]:
    """Height and width of a view shrunk by `factor`, pixels."""
    return -(-photo.shape[0] // factor), -(-photo.shape[1] // factor)


def box_in_view(photo: np.ndarray, findings: Findings, region: Region, factor: int) -> tuple[int, int, int, int]:
    """A region's box in the view shrunk by `factor`: top, left, bottom, right."""
    height, width = size_of_view(photo, factor)
    top, left, bottom, right = (side * findings.factor for side in region.box)  # native pixels
    return top // factor, left // factor, min(-(-bottom // factor), height), min(-(-right // factor), width)


def _pixels_of(photo: np.ndarray, factor: int):
    return lambda rows, columns: shrink(photo, factor, rows, columns)

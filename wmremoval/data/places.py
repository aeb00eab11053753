"""Places in unmarked photographs that a network took for marks: their list in a file, and views of them to train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from wmremoval.files import read_json

AROUND = (1.1, 2.5)  # range of the ratio of a view's side to the longer side of its box. Not measured.


class Place(NamedTuple):
    """A box in a photograph."""

    path: Path
    box: tuple[float, float, float, float]  # left, top, right, bottom; shares of the width and the height


def read_places(file: str | Path, paths: Sequence[Path]) -> tuple[Place, ...]:
    """Read places from JSON: a list of {"file": name, "box": [left, top, right, bottom]}.

    Args:
        file: the list; boxes are shares of width and height, in [0, 1].
        paths: photographs of training. Places in others are errors.

    Raises:
        ValueError: the file is missing or is not such a list, or it names a photograph that is not in `paths`.
    """
    known, places = {path.name: path for path in paths}, []
    for entry in read_json(Path(file)):
        try:
            name, box = entry["file"], tuple(float(value) for value in entry["box"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f'{file} is no list of {{"file": name, "box": [left, top, right, bottom]}}') from None
        if name not in known:
            raise ValueError(f"{file} names {name}, which is not among the photographs of training; take it out")
        if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise ValueError(f"{file} has a box {list(box)} for {name}; it must be shares: left, top, right, bottom")
        places.append(Place(known[name], box))
    return tuple(places)


def view_place(rng: np.random.Generator, photograph: np.ndarray, place: Place, side: int) -> np.ndarray:
    """A square view of a photograph around a place, sometimes mirrored: (side, side, 3) RGB uint8.

    Args:
        rng: decides the margin around the box, its position in the view, and the mirroring.
        photograph: (H, W, 3) RGB uint8, of any scale.
        place: a box in it.
        side: of the view, pixels.
    """
    height, width = photograph.shape[:2]
    left, top, right, bottom = np.array(place.box) * (width, height, width, height)
    longest = max(right - left, bottom - top)
    reach = int(min(max(longest * rng.uniform(*AROUND), side / 2), height, width))
    corner = [
        int(np.clip(rng.uniform(*sorted((high - reach, low))), 0, size - reach))
        for low, high, size in ((top, bottom, height), (left, right, width))
    ]
    view = photograph[corner[0] : corner[0] + reach, corner[1] : corner[1] + reach]
    view = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA if reach > side else cv2.INTER_CUBIC)
    return np.ascontiguousarray(view[:, ::-1]) if rng.random() < 0.5 else view

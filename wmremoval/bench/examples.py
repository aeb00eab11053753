"""Examples for the decision: the lines of text of marked and unmarked photographs, with their true share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm.auto import tqdm

from wmremoval.data.fonts import FontBook
from wmremoval.data.marks import MARKS, blend, draw_blend_mode, draw_mark
from wmremoval.images import as_jpeg, read_image
from wmremoval.restore.decision import is_seen
from wmremoval.restore.ensemble import Ensemble
from wmremoval.restore.figures import line_figures
from wmremoval.restore.pyramid import Pyramid, shrink
from wmremoval.restore.regions import line_mask, line_region
from wmremoval.restore.remover import Remover
from wmremoval.restore.search import search
from wmremoval.restore.text import Line, read_lines

MIX = {"full_web": 0.6, "standard": 0.4}  # share of each kind of marks. Chosen, not measured.
LONGEST = (400, 1100)  # pixels; range of the longer side to which larger photographs are shrunk. Not measured.
UNMARKED_LONGEST = (560, 1000)  # pixels; longer sides at which an unmarked photograph is shown
MOST_WEIGHT = 3.0  # lines; a page of fifty lines counts no more than three. Not measured.
SEEN_FROM = 6  # levels of 255; weaker changes are hardly seen. Not measured.
COVERED = (0.01, 0.08)  # share of a line's area: below the first it is no mark, from the second on it is one
RING = (0.2, 0.8)  # of a line's height; the surroundings of a line begin and end there. Not measured.
LEAST_RATIO = 1.5  # the mark covers a line so many times as densely as its surroundings, else it only crosses the line


class Examples(NamedTuple):
    """Lines of text with their figures."""

    figures: np.ndarray  # (n, len(FIGURES)) float32
    is_mark: np.ndarray  # (n,) boolean
    photo: np.ndarray  # (n,) int: number of the photograph
    weight: np.ndarray  # (n,) float: in the fit


@dataclass(frozen=True)
class Source:
    """The material of the examples of one part."""

    paths: Sequence[Path]  # photographs
    fonts: FontBook
    logos: Sequence[np.ndarray]
    marked: int  # the first so many photographs come under a mark, too
    seed: int = 0


def pictures(source: Source) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """The number of a photograph, a picture of it (H, W, 3) uint8, and its true mask (H, W) or None without a mark.

    The true mask holds the pixels that the mark changes by more than `SEEN_FROM`.
    """
    for number, path in enumerate(source.paths):
        rng = np.random.default_rng([source.seed, number])
        photo = read_image(path)
        for longest in UNMARKED_LONGEST:
            yield number, _shrunk(photo, longest), None
        if number < source.marked:
            clean = _shrunk(photo, int(np.exp(rng.uniform(*np.log(LONGEST)))))
            config = MARKS["full_web" if rng.random() < MIX["full_web"] else "standard"]
            mark = draw_mark(rng, clean.shape[0], clean.shape[1], source.fonts, source.logos, config)
            watermarked, mask = blend(clean, mark, draw_blend_mode(rng, config))
            seen = cv2.absdiff(watermarked, clean).max(axis=-1) > SEEN_FROM
            yield number, _perhaps_coded(rng, watermarked), (seen & (mask > 0)).astype(np.uint8)


def gather(remover: Remover, source: Source) -> Examples:
    """The examples of a source; lines that are a mark in part are left out."""
    rows: list[tuple] = []
    total = 2 * len(source.paths) + source.marked
    for number, picture, mask in tqdm(pictures(source), desc="Examples", total=total):
        for figures, share in lines_of(remover, picture, mask):
            if share < COVERED[0] or share >= COVERED[1]:
                rows.append((figures, share >= COVERED[1], number))
    columns = list(zip(*rows, strict=True))
    examples = Examples(np.stack(columns[0]), np.array(columns[1]), np.array(columns[2]), np.ones(len(rows)))
    return examples._replace(weight=photo_weights(examples))


def photo_weights(examples: Examples) -> np.ndarray:
    """Weights (n,) by which the lines of one photograph that are marks, or are none, count as `MOST_WEIGHT` at most."""
    weight = np.ones(len(examples.photo))
    for number in np.unique(examples.photo):
        for is_mark in (True, False):
            here = (examples.photo == number) & (examples.is_mark == is_mark)
            weight[here] = min(1.0, MOST_WEIGHT / max(1, int(np.count_nonzero(here))))
    return weight


def lines_of(remover: Remover, picture: np.ndarray, mask: np.ndarray | None) -> Iterator[tuple[np.ndarray, float]]:
    """The figures of every line of text of a picture, and its share in a true mask."""
    assert remover.text is not None  # without a finder of text there is nothing to learn from
    lines = read_lines(remover.text, picture)
    if not lines:
        return
    ensemble = Ensemble(remover.net, search(remover.net, Pyramid(picture)))
    searched = ensemble.searched
    pyramid, size = searched.pyramid, searched.probability.shape
    truth = np.zeros(size, np.uint8) if mask is None else shrink((mask > 0).astype(np.uint8), pyramid.search_factor)
    regions = [line_region(line, pyramid.search_factor, pyramid.factors, size) for line in lines]
    for region in regions:
        if is_seen(ensemble, region):
            share = _true_share(region.text_line, truth, pyramid.search_factor)
            yield line_figures(ensemble, region, regions), share


def _shrunk(photo: np.ndarray, longest: int) -> np.ndarray:
    scale = min(1.0, longest / max(photo.shape[:2]))
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else photo


def _perhaps_coded(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The image itself, or a third of the time as it comes out of a JPEG file."""
    if rng.random() >= 1 / 3:
        return image
    return as_jpeg(image, int(rng.integers(60, 96)))


def _true_share(line: Line, truth: np.ndarray, factor: int) -> float:
    """The true share of a line; halfway between no mark and a mark where a mark only crosses it."""
    whole = (slice(0, truth.shape[0]), slice(0, truth.shape[1]))
    inside = line_mask(line, whole, factor, 0.0)
    ring = line_mask(line, whole, factor, RING[1]) & ~line_mask(line, whole, factor, RING[0])
    share, around = (float(truth[here].mean()) if here.any() else 0.0 for here in (inside, ring))
    return sum(COVERED) / 2 if share >= COVERED[1] and share < LEAST_RATIO * (around + 0.01) else share

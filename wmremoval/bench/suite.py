"""A fixed benchmark of removers: marks of one kind, opacity, size and colour a cell, and the scores of each photograph.

The cells of one kind take the same photographs, and the same draw from (seed, kind, index) decides their marks: of one
size and arrangement they differ in alpha and colour alone, of others in the phrase or logo not at all. A new cell
therefore changes no other.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from wmremoval.data.dataset import resize_and_crop
from wmremoval.data.fonts import FontBook, load_fonts
from wmremoval.data.logos import load_logo_part
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_mark
from wmremoval.data.photos import find_photos, split_photos
from wmremoval.images import read_image, to_tensor
from wmremoval.metrics import PSNR_CAP, mask_f1, mask_iou, psnr, rmse, ssim
from wmremoval.restore.remover import Result

ALPHAS = (0.3, 0.5, 0.7, 1.0)
KINDS = ("text", "shape", "logo", "unmarked")  # each begins at another quarter of the photographs
SPLIT_SEED = 0  # of the photographs; training's default, so that nobody is tested on what they were trained on
LEAST_SHARE = 0.003  # of the view that the faintest mark must change; less is a speck that no score is about
MOST_TRIES = 50  # marks drawn for one photograph; on a blank white one no white mark ever shows
TELEA_RADIUS, TELEA_REACH = 3, 1  # pixels; neighbourhood it paints from, and how far the true mask is widened for it

# No property is left to chance; alpha and colour are replaced afterwards.
PLAIN = WatermarkConfig(
    shape_share=0.0,
    logo_share=0.0,
    tiled_share=0.0,
    outline_share=0.0,
    shadow_share=0.0,
    occluded_share=0.0,
    distorted_share=0.0,
    jitter_share=0.0,
    opaque_share=1.0,
)
# Shares of the view's side, within what training draws.
TEXT_HEIGHT = {"small": (0.06, 0.08), "middle": (0.11, 0.15), "large": (0.20, 0.26)}
LOGO_LENGTH = {"small": (0.15, 0.2), "middle": (0.3, 0.4), "large": (0.5, 0.6)}


@dataclass(frozen=True)
class Cell:
    """What the marks of one cell have in common."""

    kind: str  # one of KINDS
    alpha: float = 0.5  # of the whole mark, but for its anti-aliased edge; constant, as the blending equation has it
    size: str = "middle"  # small, middle or large; of shapes the middle is any
    tiled: bool = False  # repeated over the whole photograph
    colour: str = "white"  # or "colour": one saturated colour a mark; or "own colours", of a logo

    @property
    def name(self) -> str:
        """Kind, alpha and what differs from the plain cells: "text 0.5 small"."""
        if self.kind == "unmarked":
            return self.kind
        variants = (self.size != "middle" and self.size, self.tiled and "tiled", self.colour != "white" and self.colour)
        return " ".join([self.kind, str(self.alpha), *filter(None, variants)])

    @property
    def plain(self) -> bool:
        """Whether the cell counts for the gains by alpha: middle-sized, single, white."""
        return self.kind != "unmarked" and self == Cell(self.kind, self.alpha)


@dataclass(frozen=True)
class SuiteConfig:
    """Which photographs are marked, and how many."""

    seed: int = 0  # of the marks
    part: str = "test"  # of the photographs; "val" to tune on, with the logos of training
    side: int = 256  # pixels; of the square view: small enough for hundreds of them, large enough for small type
    per_cell: int = 24  # photographs; four kinds take 96 different ones, about what a split of a thousand has


@dataclass(frozen=True)
class Sample:
    """A photograph of a cell."""

    cell: Cell
    file: str
    clean: np.ndarray  # (side, side, 3) RGB uint8
    watermarked: np.ndarray  # the same
    mask: np.ndarray  # (side, side) uint8, 1 where the mark changed anything


@dataclass(frozen=True)
class Suite:
    """The photographs, logos and letters that a suite is built from."""

    paths: Sequence[Path]  # photographs of the part, in the order of the split
    logos: Sequence[np.ndarray]  # (h, w, 4) RGBA uint8; empty: no logo cells
    fonts: FontBook
    config: SuiteConfig = SuiteConfig()

    def cells(self) -> tuple[Cell, ...]:
        """Every cell, in the order of the tables."""
        marked = [kind for kind in KINDS[:3] if kind != "logo" or len(self.logos)]
        return (
            *(Cell(kind, alpha) for kind in marked for alpha in ALPHAS),
            Cell("text", colour="colour"),
            Cell("text", size="small"),
            Cell("text", size="large"),
            Cell("text", tiled=True),
            Cell("shape", tiled=True),
            *([Cell("logo", colour="own colours")] if len(self.logos) else []),
            Cell("unmarked", alpha=0.0),
        )

    def views(self) -> list[tuple[str, int]]:
        """(kind, index) of every photograph that is marked, none twice within a kind."""
        count = min(self.config.per_cell, len(self.paths))
        kinds = dict.fromkeys(cell.kind for cell in self.cells())
        return [(kind, index) for kind in kinds for index in range(count)]

    def samples(self, kind: str, index: int) -> Iterator[Sample]:
        """The photograph number `index` of a kind in every cell of it, less those in which no mark shows on it."""
        start = KINDS.index(kind) * len(self.paths) // len(KINDS)
        path = self.paths[(start + index) % len(self.paths)]
        clean = resize_and_crop(read_image(path), self.config.side)
        for cell in self.cells():
            if cell.kind == kind == "unmarked":
                yield Sample(cell, path.name, clean, clean, np.zeros(clean.shape[:2], np.uint8))
            elif cell.kind == kind:
                mark = self.draw(cell, index, clean)
                if mark is not None:
                    yield Sample(cell, path.name, clean, *blend(clean, mark))

    def draw(self, cell: Cell, index: int, clean: np.ndarray) -> Mark | None:
        """The mark of a cell for one photograph: constant alpha on its full coverage, one colour unless it is a logo's own.

        Redrawn from the next key until it changes at least `LEAST_SHARE` of the view at the faintest alpha, so that
        the cells of all alphas share one mark; None where `MOST_TRIES` marks did not.
        """
        config = replace(
            PLAIN,
            shape_share=float(cell.kind == "shape"),
            logo_share=float(cell.kind == "logo"),
            tiled_share=float(cell.tiled),
            text_height=TEXT_HEIGHT[cell.size],
            logo_side=LOGO_LENGTH[cell.size],
        )
        key = [self.config.seed, zlib.crc32(cell.kind.encode()), index]
        colour = np.ones(3, np.float32) if cell.colour == "white" else saturated(np.random.default_rng(key))
        paint = np.broadcast_to(colour, clean.shape)
        for attempt in range(MOST_TRIES):
            rng = np.random.default_rng([*key, attempt])
            cover, drawn = draw_mark(rng, *clean.shape[:2], self.fonts, self.logos, config)
            if not cover.max():
                continue
            cover /= cover.max()
            paint = drawn if cell.colour == "own colours" else paint
            if blend(clean, Mark(cover * np.float32(min(ALPHAS)), paint))[1].mean() >= LEAST_SHARE:
                return Mark(cover * np.float32(cell.alpha), paint)
        return None


def saturated(rng: np.random.Generator) -> np.ndarray:
    """A colour of random hue, saturation and value 1: (3,) RGB float32 in [0, 1]."""
    hue = np.float32(rng.uniform(0.0, 360.0))
    return cv2.cvtColor(np.float32([[[hue, 1.0, 1.0]]]), cv2.COLOR_HSV2RGB)[0, 0]


def open_suite(
    photos: str | Path,
    logos: str | Path | None = None,
    config: SuiteConfig = SuiteConfig(),
    fonts: FontBook | None = None,
) -> Suite:
    """The suite of a folder of photographs and, if given, one of logos.

    Args:
        photos: the folder that is split as for training.
        logos: the folder of logos; None: no logo cells.
        config: see `SuiteConfig`.
        fonts: who writes the marks; None: the packaged faces, as in all published tables. `load_fonts(faces="kept_out")`
            gives faces that no network has been trained on.

    Raises:
        ValueError: too few photographs, no logos of the part, or settings that make no sense.
    """
    if config.part not in ("val", "test"):
        raise ValueError(f"the suite is built from part test or val, got {config.part!r}")
    if config.per_cell < 1:
        raise ValueError(f"a cell needs at least one photograph, got {config.per_cell}")
    marks = load_logo_part(logos, "test" if config.part == "test" else "train") if logos else []
    paths = split_photos(find_photos(photos).paths, SPLIT_SEED)[config.part]
    fonts = load_fonts() if fonts is None else fonts
    if not fonts.faces:
        raise ValueError("no font writes any phrase here: pip install manimgx-fonts")
    return Suite(paths, marks, fonts, config)


def telea(watermarked: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Telea 2004 inpainting, (H, W, 3) uint8, given the true mask (H, W), which no user has: an oracle."""
    reach = np.ones((2 * TELEA_REACH + 1, 2 * TELEA_REACH + 1), np.uint8)
    return cv2.inpaint(watermarked, cv2.dilate(mask, reach), TELEA_RADIUS, cv2.INPAINT_TELEA)


def score_sample(sample: Sample, restored: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Score one restored photograph as a user gets it: 8 bits.

    Args:
        sample: with the clean photograph and the true mask.
        restored: (H, W, 3) RGB uint8.
        found: (H, W) uint8; the remover's mask, 0..255.

    Returns:
        `psnr`, `masked_psnr` (dB, at most `PSNR_CAP`), `masked_rmse` (grey levels), `ssim`, `changed_outside` (share
        of the pixels outside the true mask), each also as `input_` (do nothing) and `telea_`; `mask_area`,
        `mask_iou`, `mask_f1`; `untouched`, 1 where not a bit of an unmarked photograph has changed. NaN where there
        is nothing to score.
    """
    marked = bool(sample.mask.any())
    clean, mask = to_tensor(sample.clean)[None], torch.from_numpy(sample.mask)[None, None].float()
    views = {"": restored, "input_": sample.watermarked}
    if marked:
        views["telea_"] = telea(sample.watermarked, sample.mask)
    scores = {"mask_area": mask.mean().item()}
    for prefix, view in views.items():
        image = to_tensor(view)[None]
        changed = (view != sample.watermarked).any(axis=-1)[sample.mask == 0]
        scores[f"{prefix}psnr"] = psnr(image, clean).clamp_max(PSNR_CAP).item()
        scores[f"{prefix}ssim"] = ssim(image, clean).item()
        scores[f"{prefix}masked_psnr"] = psnr(image, clean, mask).clamp_max(PSNR_CAP).item()
        scores[f"{prefix}masked_rmse"] = rmse(image, clean, mask).item()
        scores[f"{prefix}changed_outside"] = float(changed.mean()) if changed.size else np.nan
    there = torch.from_numpy(found > 127)[None, None].float()
    scores["mask_iou"] = mask_iou(there, mask).item() if marked else np.nan
    scores["mask_f1"] = mask_f1(there, mask).item() if marked else np.nan
    scores["untouched"] = np.nan if marked else float(np.array_equal(restored, sample.clean))
    return scores


def score_suite(remover: Callable[[np.ndarray], Result], suite: Suite) -> tuple[list[dict], dict[str, tuple]]:
    """Run a remover over every sample.

    Returns:
        rows, one a photograph and cell, in the order of the cells; and of each cell, by name, its first sample with
        the restored photograph and its row.
    """
    rows: list[dict] = []
    examples: dict[str, tuple[Sample, np.ndarray, dict]] = {}
    for kind, index in tqdm(suite.views(), desc="Suite", unit="photo", leave=False):
        for sample in suite.samples(kind, index):
            result = remover(sample.watermarked)
            about = {"cell": sample.cell.name, **asdict(sample.cell), "plain": sample.cell.plain, "file": sample.file}
            row = about | score_sample(sample, result.image, result.mask_uint8) | {"seconds": result.seconds}
            rows.append(row)
            examples.setdefault(sample.cell.name, (sample, result.image, row))
    order = [cell.name for cell in suite.cells()]
    rows.sort(key=lambda row: order.index(row["cell"]))
    return rows, {name: examples[name] for name in order if name in examples}


def summarise_cells(rows: Sequence[dict]) -> list[dict]:
    """Means over the photographs of each cell, NaN left out: a row a cell."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["cell"], []).append(row)
    return [{"cell": name, "photographs": len(group)} | _means(group) for name, group in groups.items()]


def _means(rows: Sequence[dict]) -> dict[str, float]:
    means = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if isinstance(rows[0].get(name), float):
            values = np.array([row[name] for row in rows if name in row and np.isfinite(row[name])])
            means[name] = float(values.mean()) if values.size else np.nan
    return means


def gains(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """What restoring gains, by alpha and over all, in dB: over the plain cells of text, shape and logo.

    Returns:
        of "0.3", ... and "all": `photographs`, `psnr` and `masked_psnr` over the input left as it is, and
        `masked_psnr_telea` over Telea's inpainting with the true mask.
    """
    plain = [row for row in rows if row["plain"]]
    groups = {str(alpha): [row for row in plain if row["alpha"] == alpha] for alpha in ALPHAS} | {"all": plain}
    against = {
        "psnr": ("psnr", "input_psnr"),
        "masked_psnr": ("masked_psnr", "input_masked_psnr"),
        "masked_psnr_telea": ("masked_psnr", "telea_masked_psnr"),
    }
    return {
        label: {"photographs": len(group)}
        | {name: float(np.mean([row[ours] - row[other] for row in group])) for name, (ours, other) in against.items()}
        for label, group in groups.items()
        if group
    }

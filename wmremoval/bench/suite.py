"""The suite, a fixed benchmark of removers. All marks of a cell have one kind, alpha, size and colour.

Cells of one kind share their photographs. The random numbers of a mark depend on (seed, kind, index) alone, so that
cells of one kind also share the phrase or logo, and cells of one size and arrangement differ only in alpha and colour.
A new cell therefore does not change the others.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from wmremoval.config import choose_device
from wmremoval.data.dataset import resize_and_crop
from wmremoval.data.fonts import FontBook, load_fonts
from wmremoval.data.logos import load_logo_part
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_mark
from wmremoval.data.photos import find_photos, split_photos
from wmremoval.images import read_image, to_tensor
from wmremoval.metrics import PSNR_CAP, mask_f1, mask_iou, psnr, rmse, ssim
from wmremoval.restore.remover import Result
from wmremoval.settings import check_settings, setting

ALPHAS = (0.3, 0.5, 0.7, 1.0)
KINDS = ("text", "shape", "logo", "unmarked")  # each kind starts at another quarter of the photographs
SPLIT_SEED = 0  # seed of the photographs' split; the default of training, so that test photographs are not trained on
LEAST_SHARE = 0.003  # share of the view that the faintest mark must change; smaller marks are specks. Not measured.
MOST_TRIES = 50  # marks drawn for one photograph at most: on a white photograph no white mark shows. Not measured.
TELEA_RADIUS, TELEA_REACH = 3, 1  # pixels; radius of the inpainting, and widening of the true mask. Not measured.

# Settings without random properties; alpha and colour are replaced afterwards.
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
# Shares of the view's side, within the range of training. Chosen, not measured.
TEXT_HEIGHT = {"small": (0.06, 0.08), "middle": (0.11, 0.15), "large": (0.20, 0.26)}
LOGO_LENGTH = {"small": (0.15, 0.2), "middle": (0.3, 0.4), "large": (0.5, 0.6)}


@dataclass(frozen=True)
class Cell:
    """The common properties of all marks of one cell."""

    kind: str  # one of KINDS
    alpha: float = 0.5  # constant over the mark except its anti-aliased edge, as in the blending equation
    size: str = "middle"  # small, middle or large; for shapes, middle means any size
    tiled: bool = False  # repeated over the whole photograph
    colour: str = "white"  # "white"; "colour": one saturated colour per mark; "own colours": those of the logo

    @property
    def name(self) -> str:
        """Kind, alpha and the differences from a plain cell, for example "text 0.5 small"."""
        if self.kind == "unmarked":
            return self.kind
        size = [self.size] if self.size != "middle" else []
        colour = [self.colour] if self.colour != "white" else []
        return " ".join([self.kind, str(self.alpha), *size, *["tiled"] * self.tiled, *colour])

    @property
    def plain(self) -> bool:
        """True for cells of middle-sized, single, white marks; only these count for the gains by alpha."""
        return self.kind != "unmarked" and self == Cell(self.kind, self.alpha)


@dataclass(frozen=True)
class ScoreOptions:
    """Options that all scored benchmarks share."""

    weights: str | Path | None = None  # a `.safetensors`, a `.pth` or a run's folder; None for the package's weights
    device: str = "auto"  # "auto", "cpu" or "cuda"
    folder: str | Path | None = None  # folder for the reports; None writes nothing
    limit: int | None = setting(
        None, least=1
    )  # photographs at most, in the suite per cell; None for the benchmark's own number

    def __post_init__(self) -> None:
        check_settings(self)
        choose_device(self.device)


@dataclass(frozen=True)
class SuiteConfig:
    """The choice and number of photographs."""

    seed: int = setting(0, least=0)  # seed of the marks
    part: str = setting(
        "test", choices=("test", "val")
    )  # part of the split; "val" for tuning, with the logos of training
    # Pixels; side of the square views, small enough for hundreds of them and large enough for small type.
    side: int = setting(256, least=1)
    per_cell: int = setting(24, least=1)  # photographs; four kinds use 96, about the test part of a thousand

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Sample:
    """A photograph under a mark of a cell."""

    cell: Cell
    file: str
    clean: np.ndarray  # (side, side, 3) RGB uint8
    watermarked: np.ndarray  # (side, side, 3) RGB uint8
    mask: np.ndarray  # (side, side) uint8, 1 on every pixel that the mark changed


@dataclass(frozen=True)
class Suite:
    """The photographs, logos and fonts of a suite."""

    paths: Sequence[Path]  # photographs, in the order of the split
    logos: Sequence[np.ndarray]  # (h, w, 4) RGBA uint8; empty: no logo cells
    fonts: FontBook
    config: SuiteConfig = SuiteConfig()

    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order of the tables."""
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
        """(kind, index) of every photograph, none twice within a kind."""
        count = min(self.config.per_cell, len(self.paths))
        kinds = dict.fromkeys(cell.kind for cell in self.cells())
        return [(kind, index) for kind in kinds for index in range(count)]

    def samples(self, kind: str, index: int) -> Iterator[Sample]:
        """Photograph number `index` of a kind, in each cell of that kind; cells without a visible mark are skipped."""
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
        """Draw the mark of a cell for one photograph; None if none of `MOST_TRIES` marks is visible.

        The mark has constant alpha on fully covered pixels, and one colour unless a logo keeps its own. Marks are drawn
        until one changes at least `LEAST_SHARE` of the view at the faintest alpha. The test uses the faintest alpha in
        every cell, so that cells of all alphas share one mark.
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
            cover, drawn = draw_mark(rng, clean.shape[0], clean.shape[1], self.fonts, self.logos, config)
            if not cover.max():
                continue
            cover /= cover.max()
            paint = drawn if cell.colour == "own colours" else paint
            if blend(clean, Mark(cover * np.float32(min(ALPHAS)), paint))[1].mean() >= LEAST_SHARE:
                return Mark(cover * np.float32(cell.alpha), paint)
        return None


def saturated(rng: np.random.Generator) -> np.ndarray:
    """A colour of random hue with saturation and value of 1; (3,) RGB float32 in [0, 1]."""
    hue = np.float32(rng.uniform(0.0, 360.0))
    return cv2.cvtColor(np.array([[[hue, 1.0, 1.0]]], np.float32), cv2.COLOR_HSV2RGB)[0, 0]


def open_suite(
    photos: str | Path,
    logos: str | Path | None = None,
    config: SuiteConfig = SuiteConfig(),
    fonts: FontBook | None = None,
) -> Suite:
    """Build the suite of a folder of photographs.

    Args:
        photos: folder of photographs, split as for training.
        logos: folder of RGBA logos; None leaves out the logo cells.
        config: see `SuiteConfig`.
        fonts: fonts of the text marks; None for the kept-out faces, on which no network has been trained.

    Raises:
        ValueError: too few photographs, no logos in this part, or no fonts.
    """
    marks = load_logo_part(logos, "test" if config.part == "test" else "train") if logos else []
    paths = split_photos(find_photos(photos).paths, SPLIT_SEED)[config.part]
    fonts = load_fonts(faces="kept_out") if fonts is None else fonts
    if not fonts.faces:
        raise ValueError("no font writes any phrase here: pip install manimgx-fonts")
    return Suite(paths, marks, fonts, config)


def telea(watermarked: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Inpaint a photograph (H, W, 3) uint8 by Telea's method of 2004, with the true mask (H, W).

    The result is an oracle baseline, since users do not have the true mask.
    """
    kernel = np.ones((2 * TELEA_REACH + 1, 2 * TELEA_REACH + 1), np.uint8)
    return cv2.inpaint(watermarked, cv2.dilate(mask, kernel), TELEA_RADIUS, cv2.INPAINT_TELEA)


def score_sample(sample: Sample, restored: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Score one restored photograph in 8 bits, the form that users get.

    Args:
        sample: holds the clean photograph and the true mask.
        restored: (H, W, 3) RGB uint8.
        found: (H, W) uint8, 0 to 255; the remover's mask.

    Returns:
        scores by name, NaN if undefined:
        `psnr`, `masked_psnr` (dB, at most `PSNR_CAP`), `masked_rmse` (grey levels), `ssim`, and `changed_outside`
        (changed share of the pixels outside the true mask), each also with the prefix `input_` (the input left as it
        is) and, for marked photographs, `telea_`; `mask_area`, `mask_iou`, `mask_f1`; and `untouched`: 1 if an
        unmarked photograph is unchanged bit for bit, else 0.
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
    predicted = torch.from_numpy(found > 127)[None, None].float()
    scores["mask_iou"] = mask_iou(predicted, mask).item() if marked else np.nan
    scores["mask_f1"] = mask_f1(predicted, mask).item() if marked else np.nan
    scores["untouched"] = np.nan if marked else float(np.array_equal(restored, sample.clean))
    return scores


def score_suite(remover: Callable[[np.ndarray], Result], suite: Suite) -> tuple[list[dict], dict[str, tuple]]:
    """Run a remover over every sample.

    Returns:
        the scores, one row per photograph and cell, in the order of the cells; and an example of each cell by name:
        its first sample, the restored photograph and the row.
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
    """One row per cell: the mean of each score over the photographs, without NaN."""
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
    """Mean gains of the restoration over the plain cells, in dB, by alpha and over all.

    Returns:
        for "0.3", ... and "all": the number of `photographs`; the gains `psnr` and `masked_psnr` over the unrestored
        input; the gain `masked_psnr_telea` over Telea's inpainting with the true mask.
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

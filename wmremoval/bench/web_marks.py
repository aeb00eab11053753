"""Score a remover on watermarks typical of the web, on photographs of full size: samples, scores and tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from wmremoval.bench.backdrops import product_shot
from wmremoval.bench.reading import MOST_LINES, NO_DETECTOR, Detector, lines_found, load_detector
from wmremoval.bench.suite import Cell, Sample, ScoreOptions, score_sample, summarise_cells
from wmremoval.bench.suite_report import weights_of
from wmremoval.bench.web_canvas import STAND_INS, Canvas, missing_faces
from wmremoval.bench.web_drawings import DRAWINGS, grey_word, product, purple_word, title
from wmremoval.data.marks import Mark, blend
from wmremoval.data.photos import find_photos, sample_scenes
from wmremoval.files import write_csv, write_json
from wmremoval.images import as_jpeg, read_image, to_tensor
from wmremoval.report.style import image_grid, image_panel, save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import Result, load_remover
from wmremoval.training.environment import environment

PANEL = 3.0  # inches; width of a photograph in the picture
LIFTED = 6.0  # dB; PSNR gain inside the mark from which it counts as lifted: a quarter of the squared error is left
JPEG_QUALITY = 75  # of the copies; a usual default of programs and web sites
NOTES = [
    "Each photograph is scored at its own size under each mark, and once without a mark. Scores are means of per-photograph "
    "values on 8-bit images.",
    "input_* scores the watermarked photograph left as it is; telea_* OpenCV's inpainting with the true mask, which users do not have.",
    "masked_* counts only the pixels that the mark changed; gain is masked_psnr minus input_masked_psnr; "
    "changed_outside is the changed share of all other pixels.",
    f"lifted is the share of photographs that gain {LIFTED:g} dB or more inside the mark; untouched is the share of unmarked "
    "photographs that are unchanged bit for bit.",
    f"lines_left: of the mark's lines of text within the photograph (at most {MOST_LINES}) that a detector finds "
    "in the watermarked and not in the clean photograph, the share that it still finds in the restored one; "
    "lines_found is their mean number.",
    f"jpeg and shrunk are copies of a watermarked photograph, by JPEG at quality {JPEG_QUALITY} and at half of the "
    "size; their reference is the clean photograph, copied alike. product lies on a product shot "
    "made of the photograph's middle.",
    "The weights must not be trained on the folder's photographs; the package's weights are not trained on scikit-image's.",
]


def _as_it_is(photo: np.ndarray) -> np.ndarray:
    return photo


def _jpeg(photo: np.ndarray) -> np.ndarray:
    """The photograph after JPEG with halved colour, as most programs write it."""
    return as_jpeg(photo, JPEG_QUALITY)


def _halved(photo: np.ndarray) -> np.ndarray:
    """The photograph at half of its size."""
    return cv2.resize(photo, (photo.shape[1] // 2, photo.shape[0] // 2), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class WebMark:
    """A kind of mark: its drawing, its blending, and what becomes of the photograph before and after it."""

    draw: Callable[[Canvas], None]
    mode: str = "normal"  # of `data.marks.blend`
    before: Callable[[np.ndarray], np.ndarray] = _as_it_is  # of the photograph, to be marked
    after: Callable[[np.ndarray], np.ndarray] = _as_it_is  # of the watermarked and of the clean photograph alike


@dataclass(frozen=True)
class WebSample(Sample):
    """A photograph under a web mark, with the lines of text of the mark."""

    lines: Sequence[np.ndarray] = ()  # corners (4, 2), pixels


_PLAIN = {draw.__name__: WebMark(draw) for draw in DRAWINGS if draw not in (title, purple_word, grey_word, product)}
WEB_MARKS = _PLAIN | {
    "product": WebMark(product, before=product_shot),
    "jpeg": WebMark(title, after=_jpeg),
    "shrunk": WebMark(title, after=_halved),
    "multiply": WebMark(purple_word, "multiply"),
    "screen": WebMark(grey_word, "screen"),
}
UNMARKED = "unmarked"  # the cell of photographs without a mark


def draw_web_mark(name: str, height: int, width: int) -> Canvas:
    """One of `WEB_MARKS`, drawn for a photograph of `height` x `width` pixels."""
    canvas = Canvas(width, height)
    WEB_MARKS[name].draw(canvas)
    return canvas


def web_mark(name: str, height: int, width: int) -> Mark:
    """One of `WEB_MARKS` for a photograph of `height` x `width` pixels.

    Example:
        >>> web_mark("date", 300, 400).alpha.max()
        np.float32(1.0)
    """
    return draw_web_mark(name, height, width).mark()


def web_sample(name: str, file: str, photo: np.ndarray) -> WebSample:
    """A photograph, (H, W, 3) RGB uint8, under one of `WEB_MARKS`; the mask holds every pixel that differs."""
    kind = WEB_MARKS[name]
    clean = kind.before(photo)
    canvas = draw_web_mark(name, *clean.shape[:2])
    watermarked = kind.after(blend(clean, canvas.mark(), kind.mode)[0])
    reference = kind.after(clean)
    mask = (watermarked != reference).any(axis=-1).astype(np.uint8)
    scale = np.array(
        [new / old for new, old in zip(reference.shape[1::-1], clean.shape[1::-1], strict=True)], np.float32
    )
    return WebSample(Cell(name), file, reference, watermarked, mask, [line * scale for line in canvas.lines])


def web_samples(file: str, photo: np.ndarray, names: Sequence[str] = (*WEB_MARKS, UNMARKED)) -> Iterator[WebSample]:
    """A photograph, (H, W, 3) RGB uint8, under each of the named web marks; "unmarked" leaves it as it is."""
    for name in names:
        if name == UNMARKED:
            yield WebSample(Cell(name), file, photo, photo, np.zeros(photo.shape[:2], np.uint8))
        else:
            yield web_sample(name, file, photo)


def run_web_marks(photos: str | Path | None, options: ScoreOptions, only: Sequence[str] = ()) -> dict:
    """Score a remover, and write `web_marks.json`, `web_marks.csv` and `web_marks.png`.

    Args:
        photos: folder of photographs; None for those that ship with scikit-image.
        options: see `ScoreOptions`.
        only: names from `WEB_MARKS`, or "unmarked"; without any, all.

    Returns:
        the content of `web_marks.json`.

    Raises:
        ValueError: there are no photographs or no weights, the limit is below 1, or a name is unknown.
    """
    names = choose((*WEB_MARKS, UNMARKED), only)
    remover, detector = load_remover(options.weights, options.device), load_detector()
    opened = open_folder(photos)[: options.limit]
    rows, examples = score_web_marks(remover, opened, names, detector)
    notes = NOTES + ([] if detector else [NO_DETECTOR])
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(options.weights),
        "photographs": {"source": "scikit-image" if photos is None else Path(photos).name, "count": len(opened)},
        "marks": summarise_cells(rows),
        "environment": environment(),
        "notes": notes
        + [f"{face} is not installed: its lines are set in {STAND_INS[face]}" for face in missing_faces()],
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "web_marks.json", results)
        write_csv(Path(options.folder) / "web_marks.csv", rows)
        save_figure(draw_web_marks(examples), Path(options.folder) / "web_marks.png")
    return results


def choose(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """The names that are wanted, in their order; all if `only` is empty.

    Raises:
        ValueError: `only` has an unknown name.
    """
    if unknown := set(only) - set(names):
        raise ValueError(f"unknown kind {min(unknown)!r}; choose from {', '.join(names)}")
    return [name for name in names if not only or name in only]


def open_folder(photos: str | Path | None) -> list[tuple[str, Callable[[], np.ndarray]]]:
    """Names of photographs and functions that read them, (H, W, 3) RGB uint8; None: those of scikit-image.

    Raises:
        ValueError: no such folder, or no photographs in it.
    """
    if photos is None:
        return [(name, partial(np.ascontiguousarray, scene)) for name, scene in sample_scenes().items()]
    return [(path.name, partial(read_image, path)) for path in find_photos(photos, least=1).paths]


def web_table(results: dict) -> str:
    """The scores of the marks as text, PSNR in dB."""
    heads = {"PSNR in": "input_psnr", "restored": "psnr", "inside: in": "input_masked_psnr", "restored ": "masked_psnr"}
    heads |= {"Telea*": "telea_masked_psnr", "gain": "gain"}
    shares = {"lifted": "lifted", "lines left": "lines_left"}
    rows, foot = [], ["* with the true mask, which users do not have."]
    for mark in results["marks"]:
        marked = mark["cell"] != UNMARKED
        row = {"mark": mark["cell"], "photos": mark["photographs"]}
        for head, name in heads.items():
            row[head] = f"{mark[name]:.1f}" if name in mark and (marked or name == "psnr") else ""
        for head, name in shares.items():
            row[head] = f"{mark[name]:.0%}" if np.isfinite(mark.get(name, np.nan)) else ""
        rows.append(row | {"changed outside": f"{mark['changed_outside']:.2%}"})
        if not marked:
            foot.insert(0, f"Unmarked photographs unchanged bit for bit: {mark['untouched']:.1%}")
    return "\n\n".join([format_table(rows), *foot, *(note for note in results["notes"] if note not in NOTES)])


def draw_web_marks(examples: dict[str, tuple[Sample, np.ndarray, dict]]) -> Figure:
    """One photograph per mark, watermarked and restored."""
    widest = max(
        (sample.clean for sample, _, _ in examples.values()), key=lambda photo: photo.shape[1] / photo.shape[0]
    )
    figure, panels = image_grid(-(-len(examples) // 2), 4, to_tensor(widest), PANEL)
    for axes in panels[2 * len(examples) :]:
        axes.set_axis_off()
    for i, (name, (sample, restored, row)) in enumerate(examples.items()):
        image_panel(panels[2 * i], to_tensor(sample.watermarked), f"{name}: {row['input_psnr']:.1f} dB")
        image_panel(panels[2 * i + 1], to_tensor(restored), f"restored: {row['psnr']:.1f} dB")
    return figure


def score_web_marks(
    remover: Callable[[np.ndarray], Result], opened: list, names: Sequence[str], detector: Detector | None
) -> tuple[list[dict], dict[str, tuple]]:
    """Score all photographs under all marks.

    Args:
        remover: takes and gives whole photographs.
        opened: of `open_folder`.
        names: from `WEB_MARKS`, or "unmarked".
        detector: of lines of text; None: lines are not counted.

    Returns:
        one row per mark and photograph, sorted by mark; and an example of each mark by name: the sample, the restored
        photograph and the row. The examples use different photographs as far as there are enough.
    """
    rows, examples = [], {}
    for number, (file, read) in enumerate(tqdm(opened, desc="Web marks", unit="photo", leave=False)):
        for turn, sample in enumerate(web_samples(file, read(), names)):
            result = remover(sample.watermarked)
            rows.append(_row(sample, result) | _lines_row(detector, sample, result.image))
            if turn % len(opened) == number:
                examples[sample.cell.kind] = sample, result.image, rows[-1]
    rows.sort(key=lambda row: names.index(row["cell"]))
    return rows, {name: examples[name] for name in names}


def _row(sample: WebSample, result: Result) -> dict:
    """The scores of one restored photograph."""
    scores = score_sample(sample, result.image, result.mask_uint8)
    gain = scores["masked_psnr"] - scores["input_masked_psnr"] if sample.mask.any() else np.nan
    lifted = float(gain >= LIFTED) if sample.mask.any() else np.nan
    about = {"cell": sample.cell.kind, "file": sample.file}
    about |= {"height": sample.clean.shape[0], "width": sample.clean.shape[1]}
    return about | scores | {"gain": gain, "lifted": lifted, "seconds": result.seconds}


def _lines_row(detector: Detector | None, sample: WebSample, restored: np.ndarray) -> dict[str, float]:
    """`lines_found`, the number of the mark's lines that can be read, and `lines_left`, the share that still can."""
    if detector is None:
        return {}
    size = sample.clean.shape[1::-1]
    lines = [line for line in sample.lines if (line.min(axis=0) >= 0).all() and (line.max(axis=0) <= size).all()]
    if lines:
        lines = [lines[i] for i in np.unique(np.linspace(0, len(lines) - 1, MOST_LINES).astype(int))]
    lines = [line for line, found in zip(lines, lines_found(detector, sample.watermarked, lines), strict=True) if found]
    natural = lines_found(detector, sample.clean, lines)
    lines = [line for line, found in zip(lines, natural, strict=True) if not found]
    left = lines_found(detector, restored, lines)
    return {"lines_found": float(len(lines)), "lines_left": float(left.mean()) if lines else np.nan}

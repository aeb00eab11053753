"""A remover on everyday watermarks, on photographs of their own size: scores by mark as JSON, CSV, a picture and a table.

The suite's views have 256 pixels, and its marks one opacity; this is nearer to what a user brings.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from .everydaymarks import EVERYDAY, everyday_mark
from .images import read_image, to_tensor
from .inference import Result, load_remover
from .panels import image_grid, image_panel
from .photos import find_photos, sample_scenes
from .reports import format_table
from .runs import environment, save_figure, write_csv, write_json
from .suite import Cell, Sample, score_sample, summarise_cells
from .suitereport import weights_of
from .watermarks import blend

PANEL = 3.0  # inches; width of a photograph in the picture
LIFTED = 6.0  # dB inside the mark: of what it did to the photograph a quarter is left, in squares
NOTES = [
    "Every photograph, at its own size, under every mark, and once without one; means of per-photograph values on 8-bit images.",
    "input_* scores the watermarked photograph left as it is; telea_* OpenCV's inpainting given the true mask, which no user has.",
    "masked_* counts only the pixels the mark changed; changed_outside is the share of all others changed; lifted is the share of "
    f"photographs that gain {LIFTED:g} dB or more inside the mark; untouched the share of unmarked ones given back bit for bit.",
    "The folder's photographs must not be those the weights were trained on; scikit-image's are not.",
]


def run_everyday(
    photos: str | Path | None,
    weights: str | Path | None,
    device: str,
    folder: str | Path | None,
    limit: int | None = None,
) -> dict:
    """Score a remover, print the table, and leave `everyday.json`, `everyday.csv` and `everyday.png`.

    Args:
        photos: folder of photographs; None: those that ship with scikit-image.
        weights: a `.safetensors`, a `.pth` or a run's folder; None: the package's.
        device: "auto", "cpu" or "cuda".
        folder: where the files go; None: nowhere.
        limit: photographs at most.

    Returns:
        what `everyday.json` holds.

    Raises:
        ValueError: no photographs, no weights, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be 1 or more, got {limit}")
    remover = load_remover(weights, device)
    if photos is None:
        opened = [(name, lambda scene=scene: scene) for name, scene in sample_scenes().items()][:limit]
    else:
        opened = [
            (path.name, lambda path=path: read_image(path)) for path in find_photos(photos, least=1).paths[:limit]
        ]
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    rows, examples = _score(remover, opened)
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(weights),
        "photographs": {"source": "scikit-image" if photos is None else Path(photos).name, "count": len(opened)},
        "marks": summarise_cells(rows),
        "environment": environment(),
        "notes": NOTES,
    }
    print(everyday_table(results))
    if folder is not None:
        write_json(Path(folder) / "everyday.json", results)
        write_csv(Path(folder) / "everyday.csv", rows)
        save_figure(draw_everyday(examples), Path(folder) / "everyday.png")
    return results


def everyday_samples(file: str, clean: np.ndarray) -> Iterator[Sample]:
    """A photograph, (H, W, 3) RGB uint8, under each everyday mark, and last without one."""
    for name in EVERYDAY:
        yield Sample(Cell(name), file, clean, *blend(clean, everyday_mark(name, *clean.shape[:2])))
    yield Sample(Cell("unmarked"), file, clean, clean, np.zeros(clean.shape[:2], np.uint8))


def everyday_table(results: dict) -> str:
    """The marks as a table, PSNR in dB."""
    heads = {"PSNR in": "input_psnr", "restored": "psnr", "inside: in": "input_masked_psnr", "restored ": "masked_psnr"}
    heads |= {"Telea*": "telea_masked_psnr"}
    rows = []
    for mark in results["marks"]:
        marked = mark["cell"] != "unmarked"
        row = {"mark": mark["cell"], "photos": mark["photographs"]}
        row |= {
            head: f"{mark[name]:.1f}" if name in mark and (marked or head == "restored") else ""
            for head, name in heads.items()
        }
        row["lifted"] = f"{mark['lifted']:.0%}" if marked else ""
        rows.append(row | {"changed outside": f"{mark['changed_outside']:.2%}"})
    given_back = results["marks"][-1]["untouched"]
    return "\n\n".join(
        [
            format_table(rows),
            f"Unmarked photographs given back bit for bit: {given_back:.1%}",
            "* is given the true mask, which a user does not have.",
        ]
    )


def draw_everyday(examples: dict[str, tuple[Sample, np.ndarray, dict]]) -> Figure:
    """A photograph under each mark, and restored."""
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


def _score(remover: Callable[[np.ndarray], Result], opened: list) -> tuple[list[dict], dict[str, tuple]]:
    """Rows by mark, and of each mark one sample with the restored photograph and its row, of another photograph if there is one."""
    rows, examples = [], {}
    for number, (file, read) in enumerate(tqdm(opened, desc="Everyday marks", unit="photo", leave=False)):
        clean = np.ascontiguousarray(read())
        for turn, sample in enumerate(everyday_samples(file, clean)):
            result, name = remover(sample.watermarked), sample.cell.kind
            scores = score_sample(sample, result.image, result.mask_uint8)
            gain = scores["masked_psnr"] - scores["input_masked_psnr"]
            lifted = float(gain >= LIFTED) if sample.mask.any() else np.nan
            about = {"cell": name, "file": file, "height": clean.shape[0], "width": clean.shape[1]}
            rows.append(about | scores | {"lifted": lifted, "seconds": result.seconds})
            if turn % len(opened) == number:
                examples[name] = sample, result.image, rows[-1]
    order = [*EVERYDAY, "unmarked"]
    rows.sort(key=lambda row: order.index(row["cell"]))
    return rows, {name: examples[name] for name in order}

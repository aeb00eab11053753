"""Run the benchmark of `suite` and write its results: JSON, CSV, one picture and a printed table."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from wmremoval.bench.suite import (
    LEAST_SHARE,
    SPLIT_SEED,
    Sample,
    ScoreOptions,
    Suite,
    SuiteConfig,
    gains,
    open_suite,
    score_suite,
    summarise_cells,
)
from wmremoval.config import choose_device
from wmremoval.files import write_csv, write_json
from wmremoval.images import to_tensor, to_uint8
from wmremoval.report.style import image_grid, image_panel, outline, save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import RULES, Remover, Result, load_remover, pick_precision
from wmremoval.restore.solve import STEPS
from wmremoval.training.checkpoints import BEST_MODEL, SHIPPED_WEIGHTS, load_model
from wmremoval.training.environment import environment

PANEL = 2.2  # inches; 256 px at 120 pixels per inch, so that views are not resampled
CELLS_A_ROW = 2
COLUMNS = {  # columns of the printed table: heading, then score and decimals
    "PSNR in": ("input_psnr", 2),
    "restored": ("psnr", 2),
    "Telea*": ("telea_psnr", 2),
    "in mask": ("input_masked_psnr", 2),
    "restored in mask": ("masked_psnr", 2),
    "Telea* in mask": ("telea_masked_psnr", 2),
    "IoU": ("mask_iou", 3),
    "F1": ("mask_f1", 3),
    "changed outside": ("changed_outside", 4),
}
NOTES = [
    "Scores are means of per-photograph values on 8-bit images; a photograph reproduced exactly counts as 100 dB.",
    "input_* scores the watermarked photograph left as it is: the baseline of doing nothing.",
    "telea_* is OpenCV's Telea inpainting, radius 3, with the true mask widened by 1 px: an oracle, since users do not have it.",
    "The true mask is the set of pixels that the mark changed; masked_* counts only these. masked_rmse is in grey levels, "
    "0 to 255. mask_iou and mask_f1 compare the remover's mask (over 127 of 255) with the true mask.",
    "changed_outside is the changed share of the pixels outside the true mask; untouched is the share of unmarked photographs "
    "that are unchanged bit for bit.",
    "The cells of one kind share their photographs; cells that differ only in alpha also share their marks.",
    "Text is set in the faces that are kept out of training (`data.fonts.KEPT_OUT`).",
    f"A mark that changes less than {LEAST_SHARE:.1%} of the view at alpha 0.3 is replaced by another one.",
]


def run_suite(
    photos: str | Path,
    logos: str | Path | None,
    options: ScoreOptions,
    part: str = "test",
    bare: bool = False,
    without: Sequence[str] = (),
) -> dict:
    """Score a remover over the suite, and write `suite.json`, `suite.csv` and `suite.png`.

    Args:
        photos: folder of photographs; the part `part` of its split is used.
        logos: folder of RGBA logos, split by brand; None leaves out the logo cells.
        options: see `ScoreOptions`.
        part: "test", or "val" for tuning.
        bare: True scores the network alone on each whole view, without the steps of the remover.
        without: names from `STEPS` and `RULES`; these steps of the remover are left out, for an ablation.

    Returns:
        the content of `suite.json`.

    Raises:
        ValueError: too few photographs, no logos, no weights or an unknown step; one line with a remedy.
    """
    if unknown := set(without) - {*STEPS, *RULES}:
        raise ValueError(
            f"the remover has no step {min(unknown)!r} to leave out; choose from {', '.join((*STEPS, *RULES))}"
        )
    if bare and without:
        raise ValueError("--bare leaves out every step of the remover already; drop --without")
    config = SuiteConfig(part=part) if options.limit is None else SuiteConfig(part=part, per_cell=options.limit)
    remover: Remover | Callable[[np.ndarray], Result]
    if bare:
        remover = bare_network(options.weights or SHIPPED_WEIGHTS, options.device)
    else:
        remover = load_remover(options.weights, options.device)
        if without:
            remover.without = frozenset(without)
    suite = open_suite(photos, logos, config)
    rows, examples = score_suite(remover, suite)
    results = describe(suite, photos, logos, options.weights) | {
        "bare": bare,
        "without": sorted(without),
        "gains_db": gains(rows),
        "cells": summarise_cells(rows),
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "suite.json", results)
        write_csv(Path(options.folder) / "suite.csv", rows)
        save_figure(draw_suite(examples), Path(options.folder) / "suite.png")
    return results


def bare_network(weights: str | Path, device: str) -> Callable[[np.ndarray], Result]:
    """A remover for (H, W, 3) uint8 arrays that only runs the network; in bf16 if the hardware supports it."""
    torch_device = choose_device(device)
    half = pick_precision("auto", torch_device) == torch.bfloat16
    net, _ = load_model(weights)
    net.to(torch_device).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def remove(photo: np.ndarray) -> Result:
        started = time.perf_counter()
        with torch.autocast(torch_device.type, dtype=torch.bfloat16, enabled=half):
            image, mask_logits = net(to_tensor(photo)[None].to(torch_device))
        restored = to_uint8(image[0].permute(1, 2, 0).cpu().numpy())
        return Result(restored, to_uint8(torch.sigmoid(mask_logits)[0, 0].cpu().numpy()), time.perf_counter() - started)

    return remove


def describe(suite: Suite, photos: str | Path, logos: str | Path | None, weights: str | Path | None) -> dict:
    """The settings and inputs of a suite, sufficient to rebuild it; no folder paths."""
    return {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(weights),
        "settings": asdict(suite.config) | {"split_seed": SPLIT_SEED},
        "photographs": {"source": Path(photos).name, "in_part": len(suite.paths)},
        "logos": {"source": Path(logos).name, "in_part": len(suite.logos)} if logos else None,
        "languages": list(suite.fonts.faces),
        "environment": environment(),
        "notes": NOTES,
    }


def weights_of(weights: str | Path | None) -> dict[str, str]:
    """File name and SHA-256 of weights; None for the package's weights."""
    path = Path(weights or SHIPPED_WEIGHTS).expanduser()
    path = path / BEST_MODEL if path.is_dir() else path
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def suite_table(results: dict) -> str:
    """Two tables as text: the scores of the cells, and the gains by alpha; PSNR in dB."""
    rows = [
        {"cell": cell["cell"], "photos": cell["photographs"]}
        | {head: _number(cell.get(name), digits) for head, (name, digits) in COLUMNS.items()}
        for cell in results["cells"]
    ]
    over = {"psnr": "PSNR over input", "masked_psnr": "in mask over input", "masked_psnr_telea": "in mask over Telea*"}
    gained = [
        {"alpha": label, "photos": gain["photographs"]} | {head: f"{gain[name]:+.2f}" for name, head in over.items()}
        for label, gain in results["gains_db"].items()
    ]
    untouched = [cell for cell in results["cells"] if cell["cell"] == "unmarked"]
    return "\n\n".join(
        [
            format_table(rows),
            "Gain in dB, middle-sized white marks:\n" + format_table(gained),
            *(f"Unmarked photographs unchanged bit for bit: {cell['untouched']:.1%}" for cell in untouched),
            "* with the true mask, which users do not have.",
        ]
    )


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def draw_suite(examples: dict[str, tuple[Sample, np.ndarray, dict]]) -> Figure:
    """The example of each cell: watermarked, restored, and clean with the outline of the true mask."""
    rows = -(-len(examples) // CELLS_A_ROW)
    first = to_tensor(next(iter(examples.values()))[0].clean)
    figure, panels = image_grid(rows, 3 * CELLS_A_ROW, first, PANEL)
    for axes in panels[3 * len(examples) :]:
        axes.set_axis_off()
    for i, (name, (sample, restored, row)) in enumerate(examples.items()):
        before, after, truth = panels[3 * i : 3 * i + 3]
        marked = bool(sample.mask.any())
        image_panel(before, to_tensor(sample.watermarked), f"{name}: {row['input_psnr']:.1f} dB")
        image_panel(after, to_tensor(restored), f"restored: {row['psnr']:.1f} dB")
        image_panel(truth, to_tensor(sample.clean), f"clean, found at IoU {row['mask_iou']:.2f}" if marked else "clean")
        outline(truth, torch.from_numpy(sample.mask)[None])
    return figure

"""The picture of one mark on many photographs: the measured mark beside the true one, and what it is worth."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_mark, overlay
from wmremoval.data.photos import sample_scenes
from wmremoval.images import to_tensor
from wmremoval.metrics import psnr
from wmremoval.report.style import BLUE, GREY, SMALL, TEXT, finish_panel, image_panel, new_figure
from wmremoval.restore.remover import Remover
from wmremoval.shared.learn import Evidence, Shared, learn_marks
from wmremoval.shared.mark import ROUNDING, SharedMark, drawn
from wmremoval.shared.remover import SharedRemover

VIEW = (192, 288)  # pixels; height and width of the parts of scikit-image's photographs
PHOTOGRAPHS = 10
NUMBERS = 6, 8, PHOTOGRAPHS  # of photographs that a mark is measured on, for the curve
SHOWN = 0, 2, 5  # photographs that are shown
SEED = 4  # of the mark
PLAIN = replace(overlay(WatermarkConfig(shape_share=0.0, tiled_share=0.0, opaque_share=0.0)), opacity=(0.45, 0.5))


@dataclass(frozen=True)
class SharedExample:
    """Photographs under one mark, restored one by one and together."""

    true: Mark
    marks: dict[int, SharedMark]  # measured, by the number of photographs
    clean: list[np.ndarray]  # (h, w, 3) RGB uint8 each
    watermarked: list[np.ndarray]
    ordinary: list[np.ndarray]
    shared: dict[int, list[np.ndarray]]  # restored with the mark of so many photographs


def share_one_mark(remover: Remover) -> SharedExample:
    """Lay one mark on parts of scikit-image's photographs, and restore them in both ways."""
    clean = _parts()
    true = draw_mark(np.random.default_rng(SEED), *VIEW, load_fonts(), (), PLAIN)
    watermarked = [blend(photo, true)[0] for photo in clean]
    results = [remover(photo) for photo in watermarked]
    found = [
        Evidence(VIEW[::-1], np.packbits(result.mask_uint8 > 0), partial(np.asarray, photo), ROUNDING)
        for photo, result in zip(watermarked, results, strict=True)
    ]
    marks = {number: marks[0] for number in NUMBERS if (marks := learn_marks(found[:number]))}
    shared = {
        number: [SharedRemover(remover, Shared((mark,)))(photo).image for photo in watermarked]
        for number, mark in marks.items()
    }
    return SharedExample(true, marks, clean, watermarked, [result.image for result in results], shared)


def draw_shared_mark(example: SharedExample) -> Figure:
    """The true and the measured mark, the PSNR by number of photographs, and three photographs before and after."""
    figure, panels = new_figure(1 + len(SHOWN), 3, 10.0, 2.3 * (1 + len(SHOWN)), "compressed")
    most = max(example.marks, default=0)
    _mark_panel(panels[0], example.true.alpha, example.true.colour, "true mark, on grey")
    if most:
        mark, alpha, colour = example.marks[most], np.zeros(VIEW, np.float32), np.zeros((*VIEW, 3), np.float32)
        place = mark.place_on(VIEW[::-1])
        assert place is not None  # it was measured on photographs
        block, alpha_there, colour_there = drawn(mark, place, VIEW[::-1])
        alpha[block], colour[block] = alpha_there, colour_there
        _mark_panel(panels[1], alpha, colour, f"measured on {mark.photographs} photographs")
    else:
        finish_panel(panels[1], "no shared mark found")
    _curve(panels[2], example)
    best = example.shared.get(most, example.ordinary)
    for i, shown in enumerate(SHOWN):
        pictures = {
            "watermarked": example.watermarked[shown],
            "each by itself": example.ordinary[shown],
            "with the shared mark": best[shown],
        }
        for panel, (name, picture) in zip(panels[3 * i + 3 :], pictures.items(), strict=False):
            image_panel(panel, to_tensor(picture), f"{name}, {_psnr(picture, example.clean[shown]):.1f} dB")
    return figure


def _curve(axes: Axes, example: SharedExample) -> None:
    """Mean PSNR by the number of photographs that the mark was measured on."""
    numbers = list(example.shared)
    axes.plot(numbers, [_mean_psnr(example.shared[n], example.clean) for n in numbers], color=BLUE, marker="o")
    axes.axhline(_mean_psnr(example.ordinary, example.clean), color=GREY, linestyle=":", label="each by itself")
    axes.set_title("mean PSNR, dB", fontsize=TEXT)
    axes.set_xlabel("photographs that share the mark", fontsize=SMALL)
    axes.legend(fontsize=SMALL)


def _mark_panel(axes: Axes, alpha: np.ndarray, colour: np.ndarray, title: str) -> None:
    view = 0.5 + alpha[..., None] * (colour - 0.5)
    axes.imshow(view.clip(0.0, 1.0))
    finish_panel(axes, title)


def _parts() -> list[np.ndarray]:
    """Parts of different photographs; those of one do not overlap."""
    scenes = [scene for name, scene in sample_scenes().items() if name != "hubble"]
    corners = [
        (scene, top, left)
        for top in (0, VIEW[0])
        for left in (0, VIEW[1])
        for scene in scenes
        if top + VIEW[0] <= scene.shape[0] and left + VIEW[1] <= scene.shape[1]
    ]
    return [
        np.ascontiguousarray(scene[top : top + VIEW[0], left : left + VIEW[1]])
        for scene, top, left in corners[:PHOTOGRAPHS]
    ]


def _mean_psnr(pictures: list[np.ndarray], clean: list[np.ndarray]) -> float:
    return float(np.mean([_psnr(*pair) for pair in zip(pictures, clean, strict=True)]))


def _psnr(picture: np.ndarray, clean: np.ndarray) -> float:
    """dB of the whole picture."""
    return psnr(to_tensor(picture)[None], to_tensor(clean)[None]).item()

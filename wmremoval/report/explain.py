"""One photograph through the steps of the removal, and a slider between before and after."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wmremoval.images import to_tensor
from wmremoval.report.style import BLUE, ORANGE, SMALL, finish_panel, image_panel, new_figure
from wmremoval.restore.pyramid import Pyramid
from wmremoval.restore.remover import Remover, Result
from wmremoval.restore.repaint import FoundText
from wmremoval.restore.search import search

PANEL = 2.4  # inches; width of each of the six pictures
SLIDER_WIDTH = 600  # pixels; width of the slider's photographs at most
SLIDER_QUALITY = 88  # of its JPEGs. Chosen, not measured.
MARKED_FROM = 0.5  # probability from which alpha and colour are drawn
PAPER = 0.3  # grey, in [0, 1], where a mark has no colour


@dataclass(frozen=True)
class Steps:
    """A photograph, its result, and the network's answers between them."""

    photo: np.ndarray  # (H, W, 3) RGB uint8
    result: Result  # with the lines of text
    mask: np.ndarray  # (H, W) in [0, 1]: the network's probability of a mark
    alpha: np.ndarray  # (H, W) in [0, 1]: as the network predicts it
    colour: np.ndarray  # (H, W, 3) RGB in [0, 1]: the same


def removal_steps(remover: Remover, photo: np.ndarray) -> Steps:
    """Restore a photograph, and keep what the network saw.

    Args:
        remover: from `load_remover`.
        photo: (H, W, 3) RGB uint8, small enough for the network to search it at native size.

    Raises:
        ValueError: it is larger.
    """
    pyramid = Pyramid(photo)
    if pyramid.search_factor != 1:
        raise ValueError(
            f"{photo.shape[1]} x {photo.shape[0]} pixels are too many for this picture; shrink the photograph"
        )
    height, width = photo.shape[:2]
    seen = np.zeros((height, width, 5), np.float32)  # mask, alpha, colour
    for tile, prediction in search(remover.net, pyramid).kept[1]:
        mask, alpha, colour = (x[tile.inner] for x in (prediction.mask, prediction.alpha, prediction.colour))
        seen[tile.kept] = np.dstack([mask, alpha, colour])
    return Steps(photo, remover.restore(photo), seen[..., 0], seen[..., 1], seen[..., 2:])


def draw_steps(steps: Steps) -> Figure:
    """Six pictures in a row: photograph, lines of text, mask, alpha, colour, result."""
    height, width = steps.photo.shape[:2]
    figure, panels = new_figure(1, 6, 6 * PANEL, PANEL * height / width + 0.4, "compressed")
    marked = steps.mask > MARKED_FROM
    image_panel(panels[0], to_tensor(steps.photo), "1. marked photograph")
    image_panel(panels[1], to_tensor(steps.photo), "2. lines of text")
    for text in steps.result.texts:
        _draw_line(panels[1], text)
    for axes, values, title in (
        (panels[2], steps.mask, "3. mask: where"),
        (panels[3], np.where(marked, steps.alpha, 0.0), "4. alpha: how strong"),
    ):
        axes.imshow(values, cmap="gray", vmin=0.0, vmax=1.0)
        finish_panel(axes, title)
    panels[4].imshow(np.where(marked[..., None], steps.colour, PAPER).clip(0, 1))
    finish_panel(panels[4], "5. colour of the mark")
    image_panel(panels[5], to_tensor(steps.result.image), "6. result")
    return figure


def _draw_line(axes: Axes, text: FoundText) -> None:
    """The outline of a line of text with its words; orange for a mark, blue for the photograph's own lettering."""
    colour = BLUE if text.fate.startswith(("left", "kept")) else ORANGE
    axes.fill(*zip(*text.quad, strict=True), fill=False, edgecolor=colour, linewidth=1.5)
    x, y = (min(side) for side in zip(*text.quad, strict=True))
    axes.annotate(
        text.words, (max(x, 0.0), y), (3, 3), textcoords="offset points", color="white", fontsize=SMALL,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def before_after(before: np.ndarray, after: np.ndarray) -> HTML:
    """A slider between two photographs, (H, W, 3) RGB uint8, of HTML and CSS alone, so that it works in a saved notebook.

    Pages that show no styles, such as GitHub's, show both photographs one below the other.
    """
    height, width = before.shape[:2]
    width, height = min(width, SLIDER_WIDTH), round(height * min(1.0, SLIDER_WIDTH / width))
    size = f"width:{width}px;height:{height}px;max-width:none;margin:0"
    sources = [_jpeg_source(photo, (width, height)) for photo in (before, after)]
    return HTML(
        f'<div style="position:relative;width:{width}px;height:{height}px;overflow:hidden">'
        f'<img alt="after" src="{sources[1]}" width="{width}" style="position:absolute;left:0;top:0;{size}">'
        f'<div style="position:absolute;left:0;top:0;width:50%;height:{height}px;min-width:24px;max-width:{width}px;'
        'overflow:hidden;resize:horizontal;border-right:3px solid white;box-sizing:border-box">'
        f'<img alt="before" src="{sources[0]}" width="{width}" style="{size}"></div></div>'
    )


def _jpeg_source(photo: np.ndarray, size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=SLIDER_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

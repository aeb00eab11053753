"""Score a remover on eight watermarks typical of the web, on photographs of full size: marks, scores and tables."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from wmremoval.bench.suite import Cell, Sample, ScoreOptions, score_sample, summarise_cells
from wmremoval.bench.suite_report import weights_of
from wmremoval.data.marks import Mark, blend
from wmremoval.data.photos import find_photos, sample_scenes
from wmremoval.data.stamps import over
from wmremoval.files import write_csv, write_json
from wmremoval.images import read_image, to_tensor
from wmremoval.report.style import image_grid, image_panel, save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import Result, load_remover
from wmremoval.training.environment import environment

PANEL = 3.0  # inches; width of a photograph in the picture
LIFTED = 6.0  # dB; PSNR gain inside the mark from which it counts as lifted: a quarter of the squared error is left
NOTES = [
    "Each photograph is scored at its own size under each mark, and once without a mark. Scores are means of per-photograph "
    "values on 8-bit images.",
    "input_* scores the watermarked photograph left as it is; telea_* OpenCV's inpainting with the true mask, which users do not have.",
    "masked_* counts only the pixels that the mark changed; changed_outside is the changed share of all other pixels.",
    f"lifted is the share of photographs that gain {LIFTED:g} dB or more inside the mark; untouched is the share of unmarked "
    "photographs that are unchanged bit for bit.",
    "The weights must not be trained on the folder's photographs; the package's weights are not trained on scikit-image's.",
]
FINER = 2  # factor of supersampling: covers are drawn at twice the size, so that their edges are smooth. Not measured.
SANS, BOLD, ITALIC, MONO = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif-Italic", "DejaVuSansMono-Bold"  # matplotlib's
WHITE, GREY, BLACK, ORANGE = (1.0, 1.0, 1.0), (0.35, 0.35, 0.35), (0.08, 0.08, 0.08), (1.0, 0.5, 0.12)  # RGB in [0, 1]


def run_web_marks(photos: str | Path | None, options: ScoreOptions) -> dict:
    """Score a remover, and write `web_marks.json`, `web_marks.csv` and `web_marks.png`.

    Args:
        photos: folder of photographs; None for those that ship with scikit-image.
        options: see `ScoreOptions`.

    Returns:
        the content of `web_marks.json`.

    Raises:
        ValueError: there are no photographs or no weights, or the limit is below 1.
    """
    remover = load_remover(options.weights, options.device)
    if photos is None:
        opened = [(name, lambda scene=scene: scene) for name, scene in sample_scenes().items()][: options.limit]
    else:
        opened = [
            (path.name, lambda path=path: read_image(path))
            for path in find_photos(photos, least=1).paths[: options.limit]
        ]
    rows, examples = _score(remover, opened)
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(options.weights),
        "photographs": {"source": "scikit-image" if photos is None else Path(photos).name, "count": len(opened)},
        "marks": summarise_cells(rows),
        "environment": environment(),
        "notes": NOTES,
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "web_marks.json", results)
        write_csv(Path(options.folder) / "web_marks.csv", rows)
        save_figure(draw_web_marks(examples), Path(options.folder) / "web_marks.png")
    return results


def web_samples(file: str, clean: np.ndarray) -> Iterator[Sample]:
    """A photograph, (H, W, 3) RGB uint8, under each web mark, and finally without a mark."""
    for name in WEB_MARKS:
        yield Sample(Cell(name), file, clean, *blend(clean, web_mark(name, *clean.shape[:2])))
    yield Sample(Cell("unmarked"), file, clean, clean, np.zeros(clean.shape[:2], np.uint8))


def web_table(results: dict) -> str:
    """The scores of the marks as text, PSNR in dB."""
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
    untouched = results["marks"][-1]["untouched"]
    return "\n\n".join(
        [
            format_table(rows),
            f"Unmarked photographs unchanged bit for bit: {untouched:.1%}",
            "* with the true mask, which users do not have.",
        ]
    )


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


def _score(remover: Callable[[np.ndarray], Result], opened: list) -> tuple[list[dict], dict[str, tuple]]:
    """Score all photographs under all marks.

    Returns:
        one row per mark and photograph, sorted by mark; and an example of each mark by name: the sample, the restored
        photograph and the row. The examples use different photographs as far as there are enough.
    """
    rows, examples = [], {}
    for number, (file, read) in enumerate(tqdm(opened, desc="Web marks", unit="photo", leave=False)):
        clean = np.ascontiguousarray(read())
        for turn, sample in enumerate(web_samples(file, clean)):
            result, name = remover(sample.watermarked), sample.cell.kind
            scores = score_sample(sample, result.image, result.mask_uint8)
            gain = scores["masked_psnr"] - scores["input_masked_psnr"]
            lifted = float(gain >= LIFTED) if sample.mask.any() else np.nan
            about = {"cell": name, "file": file, "height": clean.shape[0], "width": clean.shape[1]}
            rows.append(about | scores | {"lifted": lifted, "seconds": result.seconds})
            if turn % len(opened) == number:
                examples[name] = sample, result.image, rows[-1]
    order = [*WEB_MARKS, "unmarked"]
    rows.sort(key=lambda row: order.index(row["cell"]))
    return rows, {name: examples[name] for name in order}


class Canvas:
    """A layer of the photograph's size, on which covers are laid one over the other.

    A cover is (H, W) float32 in [0, 1]: the covered share of each pixel.

    Args:
        width, height: size of the photograph, pixels.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height, self.side = width, height, min(width, height)
        self.layer = np.zeros((height, width, 4), np.float32)  # RGBA, premultiplied

    def lay(self, cover: np.ndarray, colour: tuple[float, float, float], alpha: float) -> None:
        """Lay a cover over the layer, in one colour, RGB in [0, 1], and with one opacity `alpha`."""
        stamp = cover[..., None] * np.float32(alpha) * np.append(np.float32(colour), np.float32(1.0))
        self.layer = over(stamp, self.layer)

    def cover(self, draw: Callable[[ImageDraw.ImageDraw], None], size: tuple[int, int] | None = None) -> np.ndarray:
        """The cover that `draw` draws in white on black; its coordinates are those of the photograph times `FINER`."""
        width, height = size or (self.width, self.height)
        sheet = Image.new("L", (FINER * width, FINER * height))
        draw(ImageDraw.Draw(sheet))
        return cv2.resize(np.asarray(sheet), (width, height), interpolation=cv2.INTER_AREA) / np.float32(255.0)

    def text(self, x: float, y: float, text: str, em: float, face: str, anchor: str, stroke: float = 0.0) -> np.ndarray:
        """The cover of a line of text; position and size in pixels of the photograph, `anchor` as in Pillow."""
        font = _font(face, em)
        place, width = (FINER * x, FINER * y), round(FINER * stroke)
        return self.cover(lambda pen: pen.text(place, text, fill=255, font=font, anchor=anchor, stroke_width=width))

    def mark(self) -> Mark:
        """All covers together as one mark."""
        alpha = self.layer[..., 3]
        return Mark(alpha, self.layer[..., :3] / np.maximum(alpha, 1e-6)[..., None])


def signature(canvas: Canvas) -> None:
    """A photographer's name in italics with a soft shadow, at the bottom right."""
    em = 0.075 * canvas.side
    x, y = canvas.width - 0.6 * em, canvas.height - 0.7 * em
    shadow = cv2.GaussianBlur(canvas.text(x + em / 15, y + em / 15, "Anna Weber", em, ITALIC, "rd"), (0, 0), em / 20)
    canvas.lay(shadow, BLACK, 0.5)
    canvas.lay(canvas.text(x, y, "Anna Weber", em, ITALIC, "rd"), WHITE, 0.85)


def preview(canvas: Canvas) -> None:
    """A faint word, rotated by 30 degrees and repeated over the whole photograph."""
    em, sheet = 0.05 * canvas.side, 2 * max(canvas.width, canvas.height)
    font = _font(SANS, em)

    def words(pen: ImageDraw.ImageDraw) -> None:
        for row in range(round(sheet / (4.0 * em))):
            for column in range(round(sheet / (8.5 * em)) + 1):
                x, y = (8.5 * column - 4.25 * (row % 2)) * em, 4.0 * row * em
                pen.text((FINER * x, FINER * y), "stockphotos", fill=255, font=font)

    cover = canvas.cover(words, (sheet, sheet))
    turn = cv2.getRotationMatrix2D((sheet / 2, sheet / 2), 30.0, 1.0)
    cover = cv2.warpAffine(cover, turn, (sheet, sheet), flags=cv2.INTER_LINEAR)
    top, left = (sheet - canvas.height) // 2, (sheet - canvas.width) // 2
    canvas.lay(cover[top : top + canvas.height, left : left + canvas.width], WHITE, 0.3)


def date(canvas: Canvas) -> None:
    """A camera's date stamp: opaque, orange, at the bottom right."""
    em = 0.06 * canvas.side
    canvas.lay(canvas.text(canvas.width - em, canvas.height - em, "'26 11 26", em, MONO, "rd"), ORANGE, 1.0)


def word(canvas: Canvas) -> None:
    """One large translucent word with a thin outline, in the middle."""
    em = min(0.22 * canvas.side, canvas.width / 5.0)
    place = canvas.width / 2, canvas.height / 2, "SAMPLE", em, BOLD, "mm"
    canvas.lay(canvas.text(*place, stroke=em / 50), GREY, 0.35)
    canvas.layer *= (1.0 - canvas.text(*place))[..., None]  # the outline is hollow
    canvas.lay(canvas.text(*place), WHITE, 0.4)


def caption(canvas: Canvas) -> None:
    """Two lines in white on a dark translucent box."""
    em, left, top = min(0.07 * canvas.side, canvas.width / 21.0), canvas.width / 2.0, canvas.height * 0.6
    box = tuple(FINER * side for side in (left, top, left + 10.0 * em, top + 2.3 * em))
    canvas.lay(canvas.cover(lambda pen: pen.rectangle(box, fill=255)), BLACK, 0.45)
    canvas.lay(canvas.text(left + 0.4 * em, top + 1.2 * em, "gallery images", em, BOLD, "ls"), WHITE, 0.9)
    canvas.lay(canvas.text(left + 0.4 * em, top + 1.95 * em, "Credit: J. Smith", 0.55 * em, SANS, "ls"), WHITE, 0.9)


def crossed(canvas: Canvas) -> None:
    """Two lines from corner to corner, and a ring with a name in the middle."""
    right, bottom = FINER * (canvas.width - 1), FINER * (canvas.height - 1)
    x, y, radius, em = right / 2, bottom / 2, FINER * 0.16 * canvas.side, 0.085 * canvas.side
    thin, thick = round(FINER * 0.007 * canvas.side), round(FINER * 0.018 * canvas.side)

    def lines(pen: ImageDraw.ImageDraw) -> None:
        pen.line((0, 0, right, bottom), fill=255, width=thin)
        pen.line((0, bottom, right, 0), fill=255, width=thin)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0, outline=255, width=thick)

    cover = canvas.cover(lines)
    text = canvas.text(canvas.width / 2, canvas.height / 2, "alamo", em, BOLD, "mm")
    canvas.lay(np.maximum(cover, text), WHITE, 0.4)


def credit(canvas: Canvas) -> None:
    """A small credit line with a © and a web address, at the bottom left."""
    em = 0.045 * canvas.side
    canvas.lay(canvas.text(em, canvas.height - em, "© 2026 www.example.com", em, SANS, "ld"), WHITE, 0.6)


def emblem(canvas: Canvas) -> None:
    """A translucent emblem of ring, peak and name, at the top right."""
    size = FINER * canvas.side / 6.0
    x, y = FINER * canvas.width - 1.3 * size, 0.2 * size

    def shapes(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse((x, y, x + size, y + size), outline=255, width=round(size / 14))
        pen.polygon([(x + share * size, y + down * size) for share, down in ((0.3, 0.7), (0.5, 0.25), (0.7, 0.7))], 255)
        pen.text((x + size / 2, y + 1.05 * size), "NORDIC", fill=255, font=_font(BOLD, size / FINER / 5), anchor="ma")

    canvas.lay(canvas.cover(shapes), WHITE, 0.5)


WEB_MARKS = {draw.__name__: draw for draw in (credit, signature, date, emblem, crossed, preview, word, caption)}


def web_mark(name: str, height: int, width: int) -> Mark:
    """One of `WEB_MARKS` for a photograph of `height` x `width` pixels.

    Example:
        >>> web_mark("date", 300, 400).alpha.max()
        np.float32(1.0)
    """
    canvas = Canvas(width, height)
    WEB_MARKS[name](canvas)
    return canvas.mark()


def _font(face: str, em: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{face}.ttf", FINER * em)

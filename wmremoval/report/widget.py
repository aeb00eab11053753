"""The notebook's upload box: upload a photograph, look at before, after and mask, download the result."""

import base64
import html
from pathlib import Path

import ipywidgets
import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure

from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import WatermarkConfig, blend, draw_mark
from wmremoval.data.photos import sample_scenes
from wmremoval.images import ImageError, write_image
from wmremoval.photofile.errors import explained, shown
from wmremoval.photofile.kinds import ENDINGS
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_mask, write_photo
from wmremoval.report.style import BLUE, finish_panel, heat_panel, new_figure
from wmremoval.restore.remover import Remover, Result

LINK_MOST = 20_000_000  # bytes; 27 MB as base64. Firefox follows links of at most 32 MB.
UPLOAD_NOTE = (  # shown under the button, since Python is not notified of a dropped upload
    "Up to 10 MB: Jupyter drops larger files without a message, and the button then needs a new run of the cell. "
    "For larger files: <code>wmremoval remove photo.png -o clean/</code>"
)
WIDTH = 14.0  # inches; width of the picture with three views: before, after and mask
SHOWN_SIDE = 1200  # pixels; longer side of each view, at most
# A plain mark, for the sample photograph.
MARKED_SAMPLE = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, distorted_share=0.0, occluded_share=0.0, opaque_share=0.0
)
MARKED_SAMPLE_SEED = 2  # "All Rights Reserved", white, across the cup


def removal_figure(before: np.ndarray, result: Result) -> Figure:
    """Before, after and the mask side by side; `before` is (H, W, 3) RGB uint8, like the result's image."""
    step = max(1, -(-max(before.shape[:2]) // SHOWN_SIDE))
    ratio = min(max(before.shape[0] / before.shape[1], 0.3), 2.0)
    figure, axes = new_figure(1, 3, WIDTH, WIDTH / 3 * ratio + 0.5, "compressed")
    for panel, view, title in ((axes[0], before, "Before"), (axes[1], result.image, "After")):
        panel.imshow(view[::step, ::step])
        finish_panel(panel, title)
    heat_panel(
        axes[2], result.mask[::step, ::step], f"Mask: {100 * result.area:.2g}% changed", (0.0, 1.0), "gray", "strength"
    )
    return figure


def remove_and_show(remover: Remover, path: str | Path, folder: str | Path) -> Path:
    """Restore one file into a folder and show the result.

    The folder gets the restored photograph under the name of the source, and its mask as `<name>_mask.png`. A source
    in the same folder is not overwritten: the restored photograph is named `<name>_restored`.

    Returns:
        the path of the restored photograph.

    Raises:
        ImageError: the file cannot be read; one line that names it.
    """
    photo, target = read_photo(path), Path(folder) / Path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(path):
        target = target.with_stem(f"{target.stem}_restored")
    result, *pages = remover.restore_pages(photo)
    further = [(page.image, page.mask_uint8) for page in pages]
    write_photo(photo, result.image, result.mask_uint8, target, pages=further)
    write_mask(target.with_name(f"{target.stem}_mask.png"), result.mask_uint8)
    display(removal_figure(photo.rgb, result))
    found = f"mark on {100 * result.area:.2g}% of the photograph" if result.area else "no mark found"
    print("; ".join([f"{shown(path)}: {found}, {result.seconds:.1f} s", *result.notes, *photo.notes]))
    return target


def download_link(path: Path) -> str:
    """HTML of a download link that contains the file, so that it works on any page that shows the notebook.

    A file over `LINK_MOST` gets a sentence with its folder instead.
    """
    name = html.escape(path.name)
    if path.stat().st_size > LINK_MOST:
        return f"{name} is {path.stat().st_size / 1e6:.0f} MB: it is in {html.escape(str(path.parent))}"
    content = base64.b64encode(path.read_bytes()).decode()
    style = f"color: {BLUE}; text-decoration: underline"  # widgets show links as plain text
    data = f"data:application/octet-stream;base64,{content}"
    return f'<a style="{style}" download="{name}" href="{data}">Download {name}</a>'


def removal_box(remover: Remover, folder: str | Path, sample: str | Path | None = None) -> ipywidgets.VBox:
    """An upload button that restores the chosen photographs, below the result for a sample photograph if one is given.

    Args:
        remover: from `load_remover`.
        folder: folder for uploads and results.
        sample: the photograph that is restored first, without an upload; None: none is.
    """
    folder = Path(folder)
    button = ipywidgets.FileUpload(accept=",".join(ENDINGS), description="Choose a photograph")
    button.layout.width = "16em"
    results = ipywidgets.Output()
    link = ipywidgets.HTML()  # not in `results`: the browser sends that back, and Jupyter drops it over 10 MB

    def restore_uploads(change: dict) -> None:
        if not change["new"]:
            return
        button.disabled, button.description = True, "Restoring ..."
        results.clear_output()
        link.value = ""
        with results:
            try:
                for upload in change["new"]:
                    link.value = download_link(_restore_upload(remover, upload, folder))
            except ImageError as error:
                print(error)
            finally:
                button.value = ()  # allows choosing the same file again
                button.disabled, button.description = False, "Choose a photograph"

    button.observe(restore_uploads, names="value")
    if sample is not None:
        display(HTML(download_link(remove_and_show(remover, sample, folder))))
    return ipywidgets.VBox([button, ipywidgets.HTML(UPLOAD_NOTE), results, link])


def _restore_upload(remover: Remover, upload: dict, folder: Path) -> Path:
    """Save an upload in `folder/uploads`, without the folders in its name, and restore it."""
    given = folder / "uploads" / Path(upload["name"].replace("\\", "/")).name
    given.parent.mkdir(parents=True, exist_ok=True)
    with explained(given):
        given.write_bytes(upload["content"])
    return remove_and_show(remover, given, folder)


def marked_sample(path: str | Path) -> Path:
    """Write a photograph of scikit-image under a fixed synthetic mark, to try a remover on; returns the path."""
    photo = sample_scenes()["coffee"]
    height, width, _ = photo.shape
    mark = draw_mark(np.random.default_rng(MARKED_SAMPLE_SEED), height, width, load_fonts(), (), MARKED_SAMPLE)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, blend(photo, mark)[0])
    return path

"""The notebook's upload box: a photograph in, before and after and the mask to look at, and a link to download."""

import base64
import html
from pathlib import Path

import ipywidgets
import numpy as np
from IPython.display import HTML, display
from matplotlib.figure import Figure

from .images import ImageError
from .inference import Remover, Result
from .panels import finish_panel, heat_panel, new_figure
from .photoerrors import shown
from .photofile import Photo, read_photo
from .photowrite import write_mask, write_photo

LINK_MOST = 30_000_000  # bytes; a larger file is not written into the page
WIDTH = 14.0  # inches; of the picture of before, after and mask
SHOWN_SIDE = 1200  # pixels; of the views in the picture


def removal_figure(before: np.ndarray, result: Result) -> Figure:
    """Before, after and the mask side by side; before (H, W, 3) uint8 as the result's image."""
    step = max(1, -(-max(before.shape[:2]) // SHOWN_SIDE))
    ratio = min(max(before.shape[0] / before.shape[1], 0.3), 2.0)
    figure, axes = new_figure(1, 3, WIDTH, WIDTH / 3 * ratio + 0.5, "compressed")
    for panel, view, title in ((axes[0], before, "Before"), (axes[1], result.image, "After")):
        panel.imshow(view[::step, ::step])
        finish_panel(panel, title)
    heat_panel(
        axes[2], result.mask[::step, ::step], f"Mask: {100 * result.area:.2g}% changed", (0.0, 1.0), label="strength"
    )
    return figure


def remove_and_show(remover: Remover, path: str | Path, folder: str | Path) -> Path:
    """Restore one file into a folder, show it, and offer it for download.

    Leaves `<name>` and its mask `<name>_mask.png` in `folder`.

    Returns:
        the restored file.

    Raises:
        ImageError: a file that cannot be read; one line that names it.
    """
    photo, folder = read_photo(path), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result = remover.restore(photo.rgb)
    restored = _write(photo, result, folder / Path(path).name)
    display(removal_figure(photo.rgb, result))
    found = f"mark on {100 * result.area:.2g}% of the photograph" if result.area else "no mark found"
    print(
        f"{shown(path)}: {found}, {result.seconds:.1f} s" + "".join(f"; {note}" for note in result.notes + photo.notes)
    )
    display(HTML(download_link(restored)))
    return restored


def _write(photo: Photo, result: Result, path: Path) -> Path:
    write_photo(photo, result.image, result.mask_uint8, path)
    write_mask(path.with_name(f"{path.stem}_mask.png"), result.mask_uint8)
    return path


def download_link(path: Path) -> str:
    """HTML that holds the file itself, so that it works wherever the notebook's page is looked at."""
    name = html.escape(path.name)
    if path.stat().st_size > LINK_MOST:
        return f"{name} is {path.stat().st_size / 1e6:.0f} MB: fetch it from {html.escape(path.parent.name)}/"
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<a download="{name}" href="data:application/octet-stream;base64,{content}">Download {name}</a>'


def removal_box(remover: Remover, folder: str | Path, sample: str | Path) -> ipywidgets.VBox:
    """An upload button that restores what is chosen; until then, and where there is no browser, a sample photograph.

    Args:
        remover: from `load_remover`.
        folder: where uploads and results go.
        sample: a photograph to begin with.
    """
    folder = Path(folder)
    button = ipywidgets.FileUpload(accept=".jpg,.jpeg,.png,.webp,.tif,.tiff,.bmp", description="Choose a photograph")
    button.layout.width = "16em"
    results = ipywidgets.Output()

    def chosen(change: dict) -> None:
        results.clear_output()
        with results:
            for upload in change["new"]:
                name = Path(upload["name"].replace("\\", "/")).name
                given = folder / "uploads" / name
                given.parent.mkdir(parents=True, exist_ok=True)
                given.write_bytes(bytes(upload["content"]))
                try:
                    remove_and_show(remover, given, folder)
                except ImageError as error:
                    print(error)

    button.observe(chosen, names="value")
    remove_and_show(remover, sample, folder)
    return ipywidgets.VBox([button, results])

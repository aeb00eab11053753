"""`publish_notebook`: an executed notebook becomes the copy that is committed, with pictures of moderate size."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from wmremoval.files import find_root, read_json, write_text

MOST_BYTES = 3_000_000  # bytes; the copy is read on the web, where larger notebooks are not shown
MOST_WIDTH = 960  # pixels; width of its pictures at most
JPEG_QUALITY = 80  # of pictures with photographs. Chosen by eye, not measured.
COLOURS = 128  # of pictures without photographs, such as curves. Chosen by eye, not measured.
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "[A button stands here while the notebook runs.]"
DOWNLOAD = re.compile(r'<a [^>]*download="([^"]*)"[^>]*>.*?</a>', re.DOTALL)
DOWNLOAD_NOTE = r"[A link to download \1 stands here while the notebook runs.]"


def publish_notebook(executed: str | Path, notebook: str | Path, target: str | Path) -> Path:
    """Write the outputs of an executed notebook, made smaller, into a copy of the committed notebook.

    Args:
        executed: the executed notebook, from papermill or a browser.
        notebook: the committed one, without outputs.
        target: the copy; replaced whole or not at all.

    Raises:
        ValueError: one line: the executed notebook has other cells, other settings or an error, was not run to its end, names
            folders of this machine, or is too large.
    """
    executed, copied = Path(executed), read_json(notebook)
    run = [cell for cell in read_json(executed).get("cells", []) if not _is_injected(cell, executed)]
    if len(run) != len(copied["cells"]):
        raise ValueError(f"{executed} has {len(run)} cells, {notebook} has {len(copied['cells'])}; run it again")
    for number, (cell, ours) in enumerate(zip(run, copied["cells"], strict=True), 1):
        if source_of(cell) != source_of(ours):
            raise ValueError(f"{executed} differs from {notebook} in cell {number}; run it again")
        if ours["cell_type"] == "code":
            if cell["execution_count"] is None or any(each["output_type"] == "error" for each in cell["outputs"]):
                raise ValueError(f"{executed} was not run to its end: see cell {number}")
            ours["execution_count"] = cell["execution_count"]
            ours["outputs"] = [_smaller(output) for output in cell["outputs"]]
    text = json.dumps(copied, indent=1, ensure_ascii=False) + "\n"
    for folder in {str(find_root()), str(Path.home())}:
        if folder in text:
            raise ValueError(f"{executed} names the folder {folder} of this machine in an output")
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(f"the copy of {executed} has {len(text.encode())} bytes, at most {MOST_BYTES} are allowed")
    write_text(target, text)
    return Path(target)


def source_of(cell: dict[str, Any]) -> str:
    """The source of a cell, which notebooks hold as a text or as a list of lines."""
    return "".join(cell["source"])


def _is_injected(cell: dict[str, Any], executed: Path) -> bool:
    """True for the cell that papermill adds; with settings in it, the run is not that of the notebook."""
    if "injected-parameters" not in cell.get("metadata", {}).get("tags", []):
        return False
    if [line for line in source_of(cell).splitlines() if line.strip() and not line.startswith("#")]:
        raise ValueError(f"{executed} was run with other settings than those of the notebook; run it without any")
    return True


def _smaller(output: dict[str, Any]) -> dict[str, Any]:
    """An output with smaller pictures, a note for buttons, and no metadata of the run."""
    if "data" not in output:
        return output
    data = {kind: content for kind, content in output["data"].items() if kind not in ("image/png", WIDGET)}
    if WIDGET in output["data"]:
        data["text/plain"] = WIDGET_NOTE
    if "text/html" in data:  # a link holds the whole photograph
        data["text/html"] = DOWNLOAD.sub(DOWNLOAD_NOTE, "".join(data["text/html"]))
    if "image/png" in output["data"]:
        kind, content = _shrunken(base64.b64decode("".join(output["data"]["image/png"])))
        data[kind] = base64.b64encode(content).decode()
    return output | {"data": data, "metadata": {}}


def _shrunken(png: bytes) -> tuple[str, bytes]:
    """A picture of at most `MOST_WIDTH`, as JPEG or as PNG with few colours, whichever is smaller; its kind first."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = Image.new("RGB", opened.size, "white")
        picture.paste(opened, mask=opened.getchannel("A") if "A" in opened.getbands() else None)
    if picture.width > MOST_WIDTH:
        size = MOST_WIDTH, round(picture.height * MOST_WIDTH / picture.width)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    jpeg, few = io.BytesIO(), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY, optimize=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(few, "PNG", optimize=True)
    return min((("image/jpeg", jpeg.getvalue()), ("image/png", few.getvalue())), key=lambda each: len(each[1]))

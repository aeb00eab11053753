"""The work behind the page: uploads become jobs, results, masks corrected by strokes, and a zip."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wmremoval.batch.jobs import LocalJob, Places, plan_local_jobs
from wmremoval.batch.run import Options, Outcome, remove_watermarks
from wmremoval.photofile.errors import shown
from wmremoval.photofile.read import read_photo
from wmremoval.photofile.write import write_mask
from wmremoval.restore.remover import Remover

MOST_FILES = 100  # photographs of one run; those after them get a line that says so. Chosen, not measured.
MOST_BYTES = 200_000_000  # bytes of one photograph's file; a larger one gets a line. Chosen, not measured.
SHOWN_SIDE = 1400  # pixels; longer side of the views on the page, at most. Chosen, not measured.
ADD, TAKE = (0, 200, 83), (41, 98, 255)  # RGB of the two brushes, 0 to 255: green adds to the mask, blue takes from it
TINT = (255, 0, 60)  # RGB of the mask over the photograph, 0 to 255
TINT_STRENGTH = 0.55  # share of the tint in the pixels of the mask, in [0, 1]. Chosen, not measured.
PAINTED = 128  # 0 to 255; alpha from which a pixel of a stroke counts as painted


@dataclass
class Item:
    """One uploaded photograph."""

    job: LocalJob
    outcome: Outcome | None = None  # None: not yet tried

    @property
    def done(self) -> bool:
        """True if there is a result to look at."""
        return self.outcome is not None and self.outcome.status != "failed"


@dataclass
class Session:
    """The photographs of one run, and the folder of their results."""

    folder: Path
    items: list[Item] = field(default_factory=list)


def new_session(uploads: Sequence[str | Path], root: Path) -> Session:
    """Plan the results of uploaded files.

    Args:
        uploads: paths of the uploaded files, which are not changed.
        root: folder below which the session gets one of its own.

    Returns:
        a session of one item an upload, in order. An item that is over a limit, or no photograph by its content, has
        a job whose `problem` is one line.
    """
    folder = Path(tempfile.mkdtemp(dir=root))
    session = Session(folder)
    for number, upload in enumerate(uploads, 1):  # a folder each, since uploads may share a name
        own = folder / str(number)
        [job] = plan_local_jobs([Path(upload)], Places(own / "results", masks=own / "masks"))
        assert job.mask_out is not None  # `Places` has a folder of masks
        job = replace(job, mask_out=job.mask_out.with_suffix(".mask.png"))  # another name than the photograph's
        session.items.append(Item(_limited(job, number)))
    return session


def _limited(job: LocalJob, number: int) -> LocalJob:
    """The job with a problem if it is over a limit of the page."""
    name, size = shown(job.source), job.source.stat().st_size
    if number > MOST_FILES:
        return replace(job, problem=f"{name}: not tried; at most {MOST_FILES} photographs at once")
    if size > MOST_BYTES:
        return replace(job, problem=f"{name}: the file has {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f}")
    return job


def end_session(session: Session | None) -> None:
    """Delete the results of a session; it may be None. Gradio calls it some time after the browser tab was closed."""
    if session is not None:
        shutil.rmtree(session.folder, ignore_errors=True)


def restore(session: Session, remover: Remover, sensitivity: float) -> Iterator[int]:
    """Restore all photographs of a session, in order, as the command `remove` does.

    Args:
        session: its items get their outcomes.
        remover: restores; its sensitivity is set.
        sensitivity: added to the log-odds of every line of text.

    Yields:
        the number of photographs that are done.
    """
    remover.sensitivity = sensitivity
    outcomes = remove_watermarks([item.job for item in session.items], remover)
    for number, outcome in enumerate(outcomes, 1):
        session.items[number - 1].outcome = outcome
        yield number


def restore_again(session: Session, index: int, mask: np.ndarray, remover: Remover) -> None:
    """Restore one photograph of a session from the upload, only inside a mask, which is taken as it is.

    Args:
        session: its item `index` gets a new outcome; its result is replaced.
        index: from 0.
        mask: (H, W) uint8, 0 or 255, of the photograph's size.
        remover: restores.
    """
    item = session.items[index]
    path = session.folder / "drawn" / f"{index}.png"
    path.parent.mkdir(exist_ok=True)
    write_mask(path, mask)
    item.job = replace(item.job, mask_in=path)
    [item.outcome] = remove_watermarks([item.job], remover, Options(overwrite=True, grow=0))


def line_of(item: Item) -> str:
    """The outcome of a photograph in one line."""
    name, outcome = shown(item.job.output), item.outcome
    if outcome is None:
        return f"{name}: waiting"
    if outcome.status == "failed":
        return f"failed: {outcome.error}"
    again = " (with your mask)" if item.job.mask_in is not None else ""
    if outcome.status == "unmarked":
        return f"{name}: {'nothing changed' if again else 'no mark found'}, the file is as it was{again}"
    return f"{name}: restored, {100 * outcome.area:.2g}% of the photograph changed, {outcome.seconds:.1f} s{again}"


def words_of(item: Item) -> list[list[str]]:
    """A row of words and fate for each line of text that was found."""
    texts = item.outcome.texts if item.outcome is not None and item.done else []
    return [[text["words"] or "(not readable)", text["fate"]] for text in texts]


def mask_of(item: Item) -> np.ndarray:
    """The mask that strokes start from, (H, W) uint8, 0 or 255: the one drawn last, or all that was changed."""
    path = item.job.mask_in or item.job.mask_out
    assert path is not None  # `new_session` gave it a place
    with Image.open(path) as image:
        return np.where(np.asarray(image) > 0, 255, 0).astype(np.uint8)


def with_strokes(mask: np.ndarray, layers: Sequence[np.ndarray]) -> np.ndarray:
    """Add the strokes of one colour to a mask, and take those of the other from it.

    Args:
        mask: (H, W) uint8, 0 or 255; it is not changed.
        layers: each (h, w, 4) RGBA uint8 of the mask's proportions, drawn on a view of any size. A pixel counts for the
            nearer of the colours `ADD` and `TAKE`; later layers lie over earlier ones.

    Returns:
        (H, W) uint8, 0 or 255.
    """
    mask = mask.copy()
    for layer in layers:
        colours = layer[..., :3].astype(np.int32)
        far = [((colours - np.array(colour)) ** 2).sum(-1) for colour in (ADD, TAKE)]
        painted = layer[..., 3] >= PAINTED
        for chosen, value in ((painted & (far[0] <= far[1]), 255), (painted & (far[0] > far[1]), 0)):
            strokes = cv2.resize(chosen.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
            mask[strokes > 0] = value
    return mask


def views(item: Item) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of a result of the same size, each (h, w, 3) RGB uint8, at most `SHOWN_SIDE` long.

    Returns:
        the photograph; the result; the photograph with the mask of `mask_of` tinted.
    """
    before, after = (_shrunk(read_photo(path).rgb) for path in (item.job.source, item.job.output))
    inside = _shrunk(mask_of(item)) > 0
    tinted = before.copy()
    tinted[inside] = (1 - TINT_STRENGTH) * before[inside] + TINT_STRENGTH * np.array(TINT)
    return before, after, tinted


def _shrunk(image: np.ndarray) -> np.ndarray:
    """An image whose longer side is at most `SHOWN_SIDE`."""
    scale = min(1.0, SHOWN_SIDE / max(image.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def zipped(session: Session) -> Path | None:
    """Write all results of a session into one zip, as they are, and give its path; None where there are none.

    A name that was there before, in any case, gets the number of its photograph: `photo (2).jpg`.
    """
    outputs = {number: item.job.output for number, item in enumerate(session.items, 1) if item.done}
    if not outputs:
        return None
    path, taken = session.folder / "restored.zip", set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for number, output in outputs.items():  # stored: photographs are compressed already
            again = output.name.casefold() in taken
            archive.write(output, f"{output.stem} ({number}){output.suffix}" if again else output.name)
            taken.add(output.name.casefold())
    return path

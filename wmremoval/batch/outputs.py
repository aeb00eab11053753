"""The files of one restored photograph: result, mask, comparison and backup, with the time and permissions of the source."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wmremoval.batch.jobs import LocalJob
from wmremoval.batch.walk import RESULTS_MARK
from wmremoval.images import ImageError, write_image
from wmremoval.photofile.errors import shown
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.write import Restored, copy_file, encoded, write_mask, write_photo

COMPARE_SIDE = 900  # pixels; longest side of each half of a picture of before and after. Chosen, not measured.
TIME_STEP = 2.0  # seconds; FAT stores times to 2 s, so that a smaller difference is no loss
MARK_TEXT = "Results of wmremoval. No later run reads this folder as photographs, unless it is named itself.\n"


def write_all(job: LocalJob, photo: Photo, restored: Sequence[Restored], quality: int | str) -> list[str]:
    """Write the results of a job, the photograph's own last.

    Args:
        job: the places.
        photo: as it was read; `photo.times` gives the result its time and permissions.
        restored: for each page the restored photograph, and its mask, 0 where nothing changed.
        quality: as for `write_photo`.

    Returns:
        notes for the user.

    Raises:
        ImageError, OSError: a file cannot be written; it is not there, or is as it was.
    """
    write_extras(job, photo, restored)
    if photo.native is None:
        photo.rgb = restored[0][0]  # a plain photograph is not needed as it was: 300 MB at 100 megapixels
    unmarked = is_unmarked(restored)
    if job.backup is not None and unmarked:
        return []  # in place: the file stays as it is
    notes = back_up(job) if job.backup is not None else []
    job.output.parent.mkdir(parents=True, exist_ok=True)
    if unmarked and job.format == "keep" and quality == "keep":
        copy_file(job.source, job.output, photo.times)  # not a bit of the file has to change
    else:
        write_photo(photo, *restored[0], job.output, job.format, quality, restored[1:])
    return notes + _times_lost(photo, job.output)


def write_extras(job: LocalJob, photo: Photo, restored: Sequence[Restored]) -> None:
    """Write the mask and the comparison of a job, where it asks for them; those of page 2 are named `<name>.page2`."""
    for place in (job.mask_out, job.compare):
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
    for number, (page, (image, mask)) in enumerate(zip([photo, *photo.pages], restored, strict=True), 1):
        if job.mask_out is not None:
            write_mask(_of_page(job.mask_out, number), mask)
        if job.compare is not None:
            write_image(_of_page(job.compare, number), side_by_side(page.rgb, image), quality=90)


def _of_page(place: Path, number: int) -> Path:
    return place if number == 1 else place.with_name(f"{place.stem}.page{number}{place.suffix}")


def is_unmarked(restored: Sequence[Restored]) -> bool:
    """True if no page was changed."""
    return not any(mask.any() for _, mask in restored)


def size_if_written(job: LocalJob, photo: Photo, restored: Sequence[Restored], quality: int | str) -> int:
    """Bytes of the result, which is encoded and not written; adds the losses to the photograph's notes."""
    if is_unmarked(restored) and job.format == "keep" and quality == "keep":
        return job.source.stat().st_size
    return sum(len(piece) for piece in encoded(photo, restored, job.output, job.format, quality))


def back_up(job: LocalJob) -> list[str]:
    """Copy the photograph to its backup, and compare the copy with it.

    Returns:
        notes for the user.

    Raises:
        ImageError: one line: the copy cannot be written, or differs.
    """
    assert job.backup is not None  # in place
    status = job.source.stat()
    if not is_same_file(job.source, job.backup):
        if job.backup.exists():  # another process was faster: it holds the photograph as it was
            raise ImageError(f"{shown(job.source)}: its backup is there already and differs; name another --backup")
        copy_file(job.source, job.backup, status)
        if os.name != "nt":  # Windows flushes only what is open for writing
            with job.backup.open("rb") as file:
                os.fsync(file.fileno())
        if not is_same_file(job.source, job.backup):
            raise ImageError(
                f"{shown(job.source)}: its backup differs from it; the photograph was left as it is; name another --backup"
            )
    if status.st_nlink > 1:
        return [f"the file has {status.st_nlink} names (hard links); the others keep the photograph as it was"]
    return []


def is_same_file(one: Path, other: Path) -> bool:
    """True if both are there with the same bytes."""
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    return one.read_bytes() == other.read_bytes()


def mark_results(folder: Path) -> None:
    """Create a folder of results with a file by which later runs know it; one that was there before is left as it is."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS_MARK).write_text(MARK_TEXT, encoding="utf-8")


def _times_lost(photo: Photo, path: Path) -> list[str]:
    """A note if the file system did not take the time or the permissions."""
    if photo.times is None:
        return []
    now = path.stat()
    late = abs(now.st_mtime - photo.times.st_mtime) >= TIME_STEP
    return (
        ["the file system keeps no such time or permissions"]
        if late or (now.st_mode ^ photo.times.st_mode) & 0o777
        else []
    )


def side_by_side(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Before and after in one picture, (h, w, 3) uint8, each half at most `COMPARE_SIDE` long."""
    scale = min(1.0, COMPARE_SIDE / max(before.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in before.shape[1::-1])
    halves = [cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in (before, after)]
    gap = np.full((size[1], 8, 3), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)

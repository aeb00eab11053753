"""Pixels of photographs by their headers, and of very many by their bytes on disk, before any of them is decoded."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from wmremoval.batch.jobs import Job
from wmremoval.batch.remote import Remote
from wmremoval.images import DAMAGED
from wmremoval.photofile.errors import quiet

MOST_HEADERS = 500  # headers read before a run begins: 0.1 s from a local disk (2026-11-27)
# Pixels a byte of a photograph in a store, of which no header is read; a JPEG of a camera has 2 to 4. Chosen, not measured.
PIXELS_A_BYTE = 3


def pixels_of(path: Path) -> int:
    """Pixels of all pages by the file's header; 0 for a file that cannot be read, whose reading will say why."""
    if not os.path.isfile(path):
        return 0
    try:
        with quiet(), Image.open(path) as image:
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            return image.width * image.height * pages
    except (*DAMAGED, Image.DecompressionBombError):
        return 0


def expected_pixels(paths: Sequence[Path], most_headers: int = MOST_HEADERS) -> list[float]:
    """Pixels of each photograph: exact where its header is read, elsewhere its bytes times the pixels a byte of those.

    Args:
        paths: the photographs.
        most_headers: of more photographs only about so many headers are read, evenly spread over the list.

    Returns:
        a number for each path; 0 for a file that cannot be read.
    """
    step = -(-len(paths) // most_headers) or 1
    known = {index: pixels_of(paths[index]) for index in range(0, len(paths), step)}
    if step == 1:
        return [float(pixels) for pixels in known.values()]
    sizes = [_bytes_of(path) for path in paths]
    ratio = sum(known.values()) / max(1, sum(sizes[index] for index, pixels in known.items() if pixels))
    return [float(known.get(index, ratio * size)) for index, size in enumerate(sizes)]


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def pixels_of_jobs(jobs: Sequence[Job]) -> list[float]:
    """Pixels of the photograph of each job, as far as they can be told before it is read; in a store by its bytes."""
    here = iter(expected_pixels([job.source for job in jobs if not isinstance(job.source, Remote)]))
    return [float(PIXELS_A_BYTE * job.size) if isinstance(job.source, Remote) else next(here) for job in jobs]

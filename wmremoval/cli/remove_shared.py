"""The options of `wmremoval remove` for one mark on many photographs: from a folder or a file to a remover of the mark."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wmremoval.cli.progress import Progress

if TYPE_CHECKING:
    from wmremoval.batch.jobs import Job
    from wmremoval.batch.run import Outcome
    from wmremoval.restore.remover import Remover
    from wmremoval.shared.learn import Evidence, Shared

PIPE = "-"


class Hint:
    """The hint that the photographs of a run without `--same-mark` seem to share a mark, by the boxes of what was found.

    Args:
        wanted: False where the hint is of no use.
    """

    def __init__(self, wanted: bool):
        self.wanted = wanted
        self.found: list[Evidence] = []

    def add(self, outcome: "Outcome") -> None:
        """Take in one outcome; only the first ones are kept."""
        from wmremoval.shared.learn import Evidence
        from wmremoval.shared.remover import LEARNED_FROM

        if not self.wanted or not outcome.marks or len(self.found) == LEARNED_FROM:
            return
        width, height = outcome.size
        mask = np.zeros((height, width), bool)
        for left, top, right, bottom in (mark["box"] for mark in outcome.marks if "page" not in mark):
            mask[top:bottom, left:right] = True
        self.found.append(Evidence((width, height), np.packbits(mask)))

    def line(self) -> str | None:
        """The line for the user, or None."""
        from wmremoval.shared.learn import LEAST_PHOTOGRAPHS, largest_group

        group = largest_group([evidence for evidence in self.found if evidence.bits.any()])
        if group is None or len(group.members) < LEAST_PHOTOGRAPHS:
            return None
        count = f"{len(group.members)} of {len(self.found)} photographs"
        return f"{count} seem to carry the same mark: --same-mark measures it on all of them, and removes it better"


def wrong_shared(arguments: argparse.Namespace) -> str | None:
    """The fault of these options, in one line; None for none."""
    saved = Path(arguments.save_watermark) if arguments.save_watermark else None
    if arguments.same_mark and arguments.watermark:
        return "give one of --same-mark, which measures the mark, and --watermark, which reads it from a file"
    if (arguments.same_mark or arguments.watermark) and arguments.mask:
        return "--mask says where each mark is; leave it out with --same-mark and --watermark"
    if arguments.same_mark and PIPE in arguments.inputs:
        return "--same-mark measures a mark on many photographs; name a folder of them"
    if saved is None:
        return None
    if not arguments.same_mark:
        return "--save-watermark is for the mark that --same-mark measures; add --same-mark, or leave it out"
    if saved.suffix.lower() != ".png":
        return f"--save-watermark {arguments.save_watermark}: a mark is written as PNG; name a file that ends in .png"
    if saved.is_dir() or (saved.exists() and not arguments.overwrite):
        return f"--save-watermark {arguments.save_watermark} is there already; name another file, or add --overwrite"
    return None


def known_marks(arguments: argparse.Namespace, remover: "Remover | None", jobs: "Sequence[Job]") -> "Shared":
    """The marks and lines that these options name or have measured; none where they ask for none.

    Args:
        arguments: the command line.
        remover: the ordinary one; needed to measure.
        jobs: with the photographs that are measured.

    Raises:
        ValueError: the file of a mark cannot be read.
        OSError: it cannot be written.
    """
    from wmremoval.shared.learn import Shared
    from wmremoval.shared.mark import load_mark

    if arguments.watermark:
        return Shared((load_mark(Path(arguments.watermark).expanduser()),))
    if not arguments.same_mark or remover is None:
        return Shared()
    sources = [job.source for job in jobs if job.problem is None and isinstance(job.source, Path)]
    return _measured(arguments, remover, sources)


def _measured(arguments: argparse.Namespace, remover: "Remover", sources: Sequence[Path]) -> "Shared":
    from wmremoval.shared.learn import LEAST_PHOTOGRAPHS, learn_shared, memory_share
    from wmremoval.shared.mark import save_mark
    from wmremoval.shared.remover import some_of

    chosen = some_of(sources)
    found = list(_evidence(remover, chosen, arguments.max_pixels))
    shared = learn_shared(found, memory_share(arguments.max_memory))
    for line in shared.lines:
        place = " x ".join(str(round(line.box[i + 2] - line.box[i])) for i in (0, 1))
        print(
            f"a line of text lies in one place ({place} pixels) on {line.photographs} of {len(chosen)} photographs",
            file=sys.stderr,
        )
    for mark in shared.marks:
        height, width = mark.alpha.shape
        about = f"{width} x {height} pixels, alpha up to {mark.alpha.max():.2f}"
        print(f"measured a mark on {mark.photographs} of {len(chosen)} photographs: {about}", file=sys.stderr)
    if not any(shared):
        print(
            f"no mark is shared by {LEAST_PHOTOGRAPHS} photographs or more; each is restored by itself",
            file=sys.stderr,
        )
    if arguments.save_watermark and shared.marks:
        save_mark(shared.marks[0], Path(arguments.save_watermark).expanduser())
    elif arguments.save_watermark:
        print(f"--save-watermark: there is no mark to write to {arguments.save_watermark}", file=sys.stderr)
    return shared


def _evidence(remover: "Remover", paths: Sequence[Path], max_pixels: int) -> "Iterator[Evidence]":
    """The finds of the ordinary remover on each photograph, with their progress."""
    from wmremoval.batch.sizes import expected_pixels
    from wmremoval.shared.remover import evidence_of

    with Progress(expected_pixels(paths), "Looking for a shared mark") as progress:
        for path in paths:
            found = list(evidence_of(remover, [path], max_pixels))  # none of a file that cannot be read
            progress.update(worked=bool(found))
            yield from found

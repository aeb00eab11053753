"""The benchmark of one mark on many photographs: the shared mark against the ordinary way, by strength, number and place."""

import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wmremoval.bench.same_mark_drawings import DATE, NATIVE, SERIES, SIZE, USUAL, Setting, cropped, settings
from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.suite_report import weights_of
from wmremoval.data.marks import blend
from wmremoval.data.photos import list_photos, split_photos
from wmremoval.files import write_csv, write_json
from wmremoval.images import as_jpeg, read_image
from wmremoval.report.shared_mark import draw_shared_mark, share_one_mark
from wmremoval.report.style import save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import Remover, load_remover
from wmremoval.shared.learn import Evidence, learn_marks, learn_shared
from wmremoval.shared.mark import COMPRESSION, ROUNDING, SharedMark, drawn
from wmremoval.shared.remover import LEARNED_FROM, TAKEN_OFF, SharedRemover, evidence_from, found_on
from wmremoval.training.environment import environment

BARE = 5  # one photograph in so many is without the mark
QUALITY = 85  # of JPEG
NOTES = [
    "psnr is the mean over the marked photographs, whole, against the clean one; of JPEG, against the clean photograph's own "
    "JPEG. input is the watermarked photograph, ordinary each photograph restored by itself, shared with the measured mark.",
    "used counts the marked photographs from which the shared mark was taken off, bare_changed those without the mark that "
    "differ from the ordinary way. alpha_error is the mean of measured less true alpha where the true one is at least 0.9 of "
    "its largest, of the photographs of one size. lines counts the places of lines of text that the photographs share.",
    "ordinary_seconds and measuring_seconds are of the whole folder, shared_seconds of one photograph from which it was taken off.",
    "unmarked: series of photographs with a border, a product's logo and a backdrop in common, of which the true place was "
    "given as found; changed counts the photographs from which anything was taken.",
]


def run_same_mark(photos: str | Path, options: ScoreOptions, natives: str | Path | None = None) -> dict:
    """Score all settings, and write `same_mark.json`, `.csv` and `.png`.

    Args:
        photos: folder of photographs; the test part of its split is used.
        options: see `ScoreOptions`; the limit counts photographs of a setting.
        natives: folder of large photographs for the row of native size; those whose names `photos` has outside of its test
            part are left out. None: without this row.

    Returns:
        the content of `same_mark.json`.

    Raises:
        ValueError: too few photographs, or no weights; one line with a remedy.
    """
    test = split_photos(list_photos(photos))["test"]
    clean, large = open_photos(test, SIZE), [] if natives is None else open_photos(_unseen(natives, photos), NATIVE)
    if len(clean) < USUAL:
        raise ValueError(f"{photos}: {len(clean)} test photographs of {SIZE[0]} x {SIZE[1]} or more, of {USUAL} needed")
    remover = load_remover(options.weights, options.device)
    rows = []
    for setting in tqdm(settings(bool(large)), desc="Settings", unit="setting", leave=False):
        given = large if setting.place == "native" else clean
        rows.append(score(remover, setting, given[: min(setting.number, options.limit or setting.number)]))
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(options.weights),
        "photographs": len(clean),
        "rows": rows,
        "unmarked": score_unmarked_series(clean[: options.limit or USUAL]),
        "environment": environment(),
        "notes": NOTES,
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "same_mark.json", results)
        write_csv(Path(options.folder) / "same_mark.csv", rows)
        save_figure(draw_shared_mark(share_one_mark(remover)), Path(options.folder) / "same_mark.png")
    return results


def open_photos(paths: Sequence[Path], size: tuple[int, int]) -> list[np.ndarray]:
    """The middle of each photograph, `size` (width, height) large, (H, W, 3) RGB uint8; smaller ones are left out."""
    (width, height), found = size, []
    for path in paths:
        photo = read_image(path)
        top, left = ((side - cut) // 2 for side, cut in zip(photo.shape[:2], (height, width), strict=True))
        if min(top, left) >= 0:
            found.append(np.ascontiguousarray(photo[top : top + height, left : left + width]))
    return found


def _unseen(natives: str | Path, photos: str | Path) -> list[Path]:
    """The large photographs that are not in the training and validation part of `photos`, by their names."""
    seen = {path.stem for part in ("train", "val") for path in split_photos(list_photos(photos))[part]}
    return [path for path in list_photos(natives) if path.stem not in seen]


def score(remover: Remover, setting: Setting, photos: Sequence[np.ndarray]) -> dict[str, Any]:
    """One row: a folder of photographs under one mark, restored in both ways."""
    clean = [photo if setting.same_size else cropped(photo, i) for i, photo in enumerate(photos)]
    bare = [i % BARE == BARE - 1 for i in range(len(clean))]
    given = [
        photo if is_bare else blend(photo, setting.mark_on(photo.shape[1::-1], i))[0]
        for i, (photo, is_bare) in enumerate(zip(clean, bare, strict=True))
    ]
    if setting.lossy:
        clean, given = ([as_jpeg(photo, QUALITY) for photo in pictures] for pictures in (clean, given))
    started = time.perf_counter()
    ordinary = [remover.restore(photo) for photo in given]
    ordinary_seconds = time.perf_counter() - started
    noise = COMPRESSION if setting.lossy else ROUNDING
    found = [
        evidence_from(photo, result, partial(np.asarray, photo), noise)
        for photo, result in zip(given, ordinary, strict=True)
    ]
    started = time.perf_counter()
    shared = learn_shared(found[:LEARNED_FROM])
    measuring_seconds = time.perf_counter() - started
    together = SharedRemover(remover, shared)
    results = [together.restore(photo) for photo in given]
    taken = [TAKEN_OFF in result.notes for result in results]
    pictures = {"input": given, "ordinary": [r.image for r in ordinary], "shared": [r.image for r in results]}
    scores = {
        name: float(np.mean([_psnr(*pair) for *pair, is_bare in zip(images, clean, bare, strict=True) if not is_bare]))
        for name, images in pictures.items()
    }
    seconds = [result.seconds for result, is_taken in zip(results, taken, strict=True) if is_taken]
    return {
        "mark": setting.mark,
        "alpha": setting.alpha,
        "number": len(given),
        "place": setting.place,
        "format": f"JPEG {QUALITY}" if setting.lossy else "PNG",
        **scores,
        "marked": bare.count(False),
        "used": sum(is_taken and not is_bare for is_taken, is_bare in zip(taken, bare, strict=True)),
        "bare": bare.count(True),
        "bare_changed": sum(
            is_bare and not np.array_equal(one.image, other.image)
            for one, other, is_bare in zip(results, ordinary, bare, strict=True)
        ),
        "lines": len(shared.lines),
        "alpha_error": _alpha_error(setting, shared.marks) if setting.same_size and setting.mark != DATE else None,
        "ordinary_seconds": ordinary_seconds,
        "measuring_seconds": measuring_seconds,
        "shared_seconds": float(np.mean(seconds)) if seconds else None,
    }


def _alpha_error(setting: Setting, marks: Sequence[SharedMark]) -> float | None:
    if not marks:
        return None
    size = marks[0].size
    true, measured = setting.mark_on(size).alpha, np.zeros(size[::-1], np.float32)
    place = marks[0].place_on(size)
    assert place is not None  # it was measured on photographs
    block, alpha, _ = drawn(marks[0], place, size)
    measured[block] = alpha
    return float((measured - true)[true >= 0.9 * true.max()].mean())


def score_unmarked_series(photos: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Series with something in common that is no mark; the network is taken to be wrong on all of them."""
    rows = []
    for name, draw in SERIES.items():
        drawn_photos = [draw(photo.copy()) for photo in photos]
        given, places = [picture for picture, _ in drawn_photos], [place for _, place in drawn_photos]
        found = [
            Evidence(SIZE, np.packbits(place), partial(np.asarray, picture))
            for picture, place in zip(given, places, strict=True)
        ]
        marks = learn_marks(found[:LEARNED_FROM])
        changed = sum(any(found_on(picture, mark) is not None for mark in marks) for picture in given)
        rows.append({"series": name, "photographs": len(given), "marks": len(marks), "changed": changed})
    return rows


def _psnr(image: np.ndarray, clean: np.ndarray) -> float:
    """dB over the whole photograph; at most 80, which is equality but for one pixel in a few thousand."""
    return float(min(80.0, -10.0 * np.log10(np.square((image.astype(np.float64) - clean) / 255.0).mean() + 1e-12)))


def same_mark_table(results: dict) -> str:
    """The rows as text."""
    rows = [
        {
            "mark": row["mark"],
            "alpha": row["alpha"],
            "N": row["number"],
            "place": row["place"],
            "format": row["format"],
            "input dB": f"{row['input']:.1f}",
            "ordinary": f"{row['ordinary']:.1f}",
            "shared": f"{row['shared']:.1f}",
            "used": f"{row['used']}/{row['marked']}",
            "bare": f"{row['bare_changed']}/{row['bare']}",
            "alpha error": "" if row["alpha_error"] is None else f"{row['alpha_error']:+.3f}",
        }
        for row in results["rows"]
    ]
    series = [f"{row['series']}: {row['changed']} of {row['photographs']} changed" for row in results["unmarked"]]
    return "\n".join([format_table(rows), *series])

"""The benchmark of one mark on many photographs: the shared mark against the ordinary way, by strength, number and place."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.suite_report import weights_of
from wmremoval.bench.web_marks import web_mark
from wmremoval.data.marks import Mark, blend
from wmremoval.data.photos import list_photos, split_photos
from wmremoval.files import write_csv, write_json
from wmremoval.images import as_jpeg, read_image
from wmremoval.report.shared_mark import draw_shared_mark, share_one_mark
from wmremoval.report.style import save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import Remover, load_remover
from wmremoval.shared.learn import Evidence, learn_marks
from wmremoval.shared.mark import COMPRESSION, ROUNDING, SharedMark, drawn
from wmremoval.shared.remover import LEARNED_FROM, TAKEN_OFF, SharedRemover, found_on
from wmremoval.training.environment import environment

SIZE = 384, 288  # width and height that photographs are cut to; smaller ones are left out
MARKS = {"one colour": "copyright", "text": "wide", "colours": "shield"}  # web marks that cover 6 to 8%
ALPHAS = 0.3, 0.5, 0.7
FEW, USUAL = (3, 10), 30  # photographs
BARE = 5  # one photograph in so many is without the mark
QUALITY = 85  # of JPEG
SEED = 0
SHORTEST = 0.7  # least share of its sides that a photograph of another size keeps
NOTES = [
    "psnr is the mean over the marked photographs, whole, against the clean one; of JPEG, against the clean photograph's own "
    "JPEG. input is the watermarked photograph, ordinary each photograph restored by itself, shared with the measured mark.",
    "used counts the marked photographs from which the shared mark was taken off, bare_changed those without the mark that "
    "differ from the ordinary way. alpha_error is the mean of measured less true alpha where the true one is at least 0.9 of "
    "its largest, of the photographs of one size.",
    "ordinary_seconds and measuring_seconds are of the whole folder, shared_seconds of one photograph from which it was taken off.",
    "unmarked: series of photographs with a border, a product's logo and a backdrop in common, of which the true place was "
    "given as found; changed counts the photographs from which anything was taken.",
]


@dataclass(frozen=True)
class Setting:
    """One row of the benchmark."""

    mark: str  # of `MARKS`
    alpha: float
    number: int = USUAL
    place: str = "fixed"  # or "corner" and "scaled": at the lower right, on photographs of several sizes
    lossy: bool = False

    def mark_on(self, size: tuple[int, int]) -> Mark:
        """The mark of a photograph of `size` (width, height)."""
        own = web_mark(MARKS[self.mark], *SIZE[::-1])
        alpha = own.alpha * np.float32(self.alpha / own.alpha.max())
        if self.place == "fixed":
            return Mark(alpha, own.colour)
        x, y, w, h = cv2.boundingRect((alpha > 0).astype(np.uint8))
        layer: np.ndarray = np.dstack([own.colour * alpha[..., None], alpha])[y : y + h, x : x + w]
        scale = 0.6 * (size[0] / SIZE[0] if self.place == "scaled" else 1.0)
        layer = cv2.resize(layer, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        whole, margin = np.zeros((*size[::-1], 4), np.float32), round(12 * scale)
        whole[
            size[1] - margin - len(layer) : size[1] - margin, size[0] - margin - layer.shape[1] : size[0] - margin
        ] = layer
        return Mark(whole[..., 3], (whole[..., :3] / np.maximum(whole[..., 3:], 1e-4)).clip(0.0, 1.0))


def settings() -> list[Setting]:
    """All rows."""
    rows = [Setting("one colour", alpha) for alpha in ALPHAS] + [Setting("text", 0.5), Setting("colours", 0.5)]
    rows += [Setting("one colour", alpha, lossy=True) for alpha in ALPHAS]
    rows += [Setting("one colour", 0.3, FEW[0])] + [Setting("one colour", alpha, FEW[1]) for alpha in (0.3, 0.7)]
    return rows + [Setting("text", 0.5, place=place) for place in ("corner", "scaled")]


def run_same_mark(photos: str | Path, options: ScoreOptions) -> dict:
    """Score all settings, and write `same_mark.json`, `.csv` and `.png`.

    Args:
        photos: folder of photographs; the test part of its split is used.
        options: see `ScoreOptions`; the limit counts photographs of a setting.

    Returns:
        the content of `same_mark.json`.

    Raises:
        ValueError: too few photographs, or no weights; one line with a remedy.
    """
    clean = open_photos(photos)
    remover = load_remover(options.weights, options.device)
    rows = []
    for setting in tqdm(settings(), desc="Settings", unit="setting", leave=False):
        rows.append(score(remover, setting, clean[: min(setting.number, options.limit or setting.number)]))
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


def open_photos(folder: str | Path) -> list[np.ndarray]:
    """The middle of each test photograph, `SIZE` large, (H, W, 3) RGB uint8.

    Raises:
        ValueError: fewer than `USUAL` are large enough.
    """
    (width, height), found = SIZE, []
    for path in split_photos(list_photos(folder))["test"]:
        photo = read_image(path)
        top, left = ((side - size) // 2 for side, size in zip(photo.shape[:2], (height, width), strict=True))
        if min(top, left) >= 0:
            found.append(np.ascontiguousarray(photo[top : top + height, left : left + width]))
    if len(found) < USUAL:
        raise ValueError(f"{folder}: {len(found)} test photographs of {width} x {height} or more, of {USUAL} needed")
    return found


def score(remover: Remover, setting: Setting, photos: Sequence[np.ndarray]) -> dict[str, Any]:
    """One row: a folder of photographs under one mark, restored in both ways."""
    clean = [_cropped(photo, i) if setting.place != "fixed" else photo for i, photo in enumerate(photos)]
    bare = [i % BARE == BARE - 1 for i in range(len(clean))]
    given = [
        photo if is_bare else blend(photo, setting.mark_on(photo.shape[1::-1]))[0]
        for photo, is_bare in zip(clean, bare, strict=True)
    ]
    if setting.lossy:
        clean, given = ([as_jpeg(photo, QUALITY) for photo in pictures] for pictures in (clean, given))
    started = time.perf_counter()
    ordinary = [remover.restore(photo) for photo in given]
    ordinary_seconds = time.perf_counter() - started
    noise = COMPRESSION if setting.lossy else ROUNDING
    found = [
        Evidence(photo.shape[1::-1], np.packbits(result.mask_uint8 > 0), partial(np.asarray, photo), noise)
        for photo, result in zip(given, ordinary, strict=True)
    ]
    started = time.perf_counter()
    marks = learn_marks(found[:LEARNED_FROM])
    measuring_seconds = time.perf_counter() - started
    shared = SharedRemover(remover, marks)
    results = [shared.restore(photo) for photo in given]
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
        "bare_changed": sum(is_taken and is_bare for is_taken, is_bare in zip(taken, bare, strict=True)),
        "alpha_error": _alpha_error(setting, marks) if setting.place == "fixed" else None,
        "ordinary_seconds": ordinary_seconds,
        "measuring_seconds": measuring_seconds,
        "shared_seconds": float(np.mean(seconds)) if seconds else None,
    }


def _alpha_error(setting: Setting, marks: Sequence[SharedMark]) -> float | None:
    if not marks:
        return None
    true, measured = setting.mark_on(SIZE).alpha, np.zeros(SIZE[::-1], np.float32)
    place = marks[0].place_on(SIZE)
    assert place is not None  # it was measured on photographs
    block, alpha, _ = drawn(marks[0], place, SIZE)
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


def _border(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.ones(photo.shape[:2], np.uint8)
    place[14:-14, 14:-14] = 0
    photo[place > 0] = (24, 30, 60)
    return photo, place


def _product_logo(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mark = web_mark("shield_opaque", *photo.shape[:2])
    return blend(photo, mark)[0], (mark.alpha > 0).astype(np.uint8)


def _backdrop(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photograph's middle before one gradient, as a subject in a studio."""
    height, width = photo.shape[:2]
    place = np.ones((height, width), np.uint8)
    cv2.ellipse(place, (width // 2, height // 2), (width // 4, height // 3), 0, 0, 360, 0, -1)
    ramp = np.linspace(90, 220, height, dtype=np.float32)[:, None, None] * np.array([0.8, 0.9, 1.0], np.float32)
    photo[place > 0] = np.broadcast_to(ramp, photo.shape)[place > 0].astype(np.uint8)
    return photo, place


SERIES = {"border": _border, "product logo": _product_logo, "backdrop": _backdrop}


def _cropped(photo: np.ndarray, number: int) -> np.ndarray:
    """A photograph of another size; the number decides which."""
    height, width = photo.shape[:2]
    shares = np.random.default_rng((SEED, number)).uniform(SHORTEST, 1.0, 2)
    return np.ascontiguousarray(photo[: int(height * shares[0]), : int(width * shares[1])])


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

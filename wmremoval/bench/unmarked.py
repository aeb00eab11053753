"""Score a remover on pictures without a watermark: photographs, studio pictures and drawings."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from wmremoval.bench.backdrops import GROUNDS, SUBJECTS, VIGNETTES, cut_out, gradient, vignette
from wmremoval.bench.suite import ScoreOptions
from wmremoval.bench.suite_report import weights_of
from wmremoval.bench.unmarked_drawings import LETTERED, PICTURES
from wmremoval.bench.web_marks import choose, open_folder
from wmremoval.data.photos import sample_scenes
from wmremoval.files import write_csv, write_json
from wmremoval.images import to_tensor
from wmremoval.metrics import PSNR_CAP, psnr
from wmremoval.report.style import image_grid, image_panel, save_figure
from wmremoval.report.tables import format_table
from wmremoval.restore.remover import Result, load_remover
from wmremoval.training.environment import environment

PANEL = 3.0  # inches; width of a picture in the figure
MOST_SHOWN = 12  # changed pictures in the figure, the worst ones
EACH = 8  # drawn pictures of each kind
GROUPS = ("photograph", "backdrop", "vignette", *PICTURES, *LETTERED)
NOTES = [
    "Each picture is scored at its own size and has no watermark: every change is a mistake.",
    "unchanged is the share of pictures that come back bit for bit; changed is the share of changed pixels, its "
    "worst and mean over the pictures; psnr is the mean, and a picture that comes back bit for bit counts as 100 dB.",
    "backdrop and vignette hold subjects cut out of scikit-image's photographs; sign, plate and gauge are drawn into "
    "them.",
]

Opened = tuple[str, str, Callable[[], np.ndarray]]  # group, name, and the function that reads or draws the picture


def run_unmarked(photos: str | Path | None, options: ScoreOptions, only: Sequence[str] = ()) -> dict:
    """Score a remover, and write `unmarked.json`, `unmarked.csv` and, where anything changed, `unmarked.png`.

    Args:
        photos: folder of unmarked photographs; None for those that ship with scikit-image.
        options: see `ScoreOptions`; the limit counts in each group.
        only: names from `GROUPS`; without any, all.

    Returns:
        the content of `unmarked.json`.

    Raises:
        ValueError: there are no photographs or no weights, the limit is below 1, or a group is unknown.
    """
    names = choose(GROUPS, only)
    remover = load_remover(options.weights, options.device)
    opened = open_unmarked(photos, options.limit, names)
    rows, examples = score_unmarked(remover, opened)
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "weights": weights_of(options.weights),
        "photographs": "scikit-image" if photos is None else Path(photos).name,
        "all": _summary(rows),
        "groups": {name: _summary([row for row in rows if row["group"] == name]) for name in names},
        "changed": [
            {name: row[name] for name in ("group", "file", "changed", "psnr")}
            for row in sorted(rows, key=lambda row: -row["changed"])
            if not row["unchanged"]
        ],
        "environment": environment(),
        "notes": NOTES,
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "unmarked.json", results)
        write_csv(Path(options.folder) / "unmarked.csv", rows)
        if examples:
            save_figure(draw_unmarked(examples), Path(options.folder) / "unmarked.png")
    return results


def open_unmarked(photos: str | Path | None, limit: int | None = None, names: Sequence[str] = GROUPS) -> list[Opened]:
    """The pictures of the named groups, at most `limit` of each.

    Args:
        photos: folder for the group "photograph"; None for the photographs of scikit-image.
        limit: None: all.
        names: from `GROUPS`.
    """
    groups: dict[str, list[tuple[str, Callable[[], np.ndarray]]]] = {}
    if "photograph" in names:
        groups["photograph"] = open_folder(photos)
    scenes = sample_scenes()
    groups |= _studio(scenes)
    for name, draw in PICTURES.items():
        groups[name] = [(f"{name}_{seed}", partial(draw, seed)) for seed in range(EACH)]
    places = list(scenes)
    for name, hang in LETTERED.items():
        groups[name] = [
            (f"{name}_{seed}", partial(hang, seed, scenes[places[seed % len(places)]])) for seed in range(EACH)
        ]
    return [(name, file, read) for name in names for file, read in groups[name][:limit]]


def score_unmarked(
    remover: Callable[[np.ndarray], Result], opened: Sequence[Opened]
) -> tuple[list[dict], list[tuple[np.ndarray, np.ndarray, dict]]]:
    """Run a remover over unmarked pictures.

    Returns:
        one row per picture; and of the `MOST_SHOWN` that changed most, the worst first: the picture, the restored
        picture and the row.
    """
    rows: list[dict] = []
    examples: list[tuple[np.ndarray, np.ndarray, dict]] = []
    for group, file, read in tqdm(opened, desc="Unmarked", unit="picture", leave=False):
        picture = read()
        result = remover(picture)
        changed = float((result.image != picture).any(axis=-1).mean())
        score = psnr(to_tensor(result.image)[None], to_tensor(picture)[None]).clamp_max(PSNR_CAP).item()
        row = {"group": group, "file": file, "height": picture.shape[0], "width": picture.shape[1]}
        rows.append(row | {"unchanged": changed == 0, "changed": changed, "psnr": score, "seconds": result.seconds})
        if changed:
            examples.append((picture, result.image, rows[-1]))
            examples = sorted(examples, key=lambda example: -example[2]["changed"])[:MOST_SHOWN]
    return rows, examples


def unmarked_table(results: dict) -> str:
    """The scores of the groups and of all pictures as text, and the changed pictures, the worst first."""
    rows = [
        {
            "pictures of": name,
            "number": group["pictures"],
            "bit for bit": f"{group['unchanged']:.1%}",
            "changed: worst": f"{group['changed_worst']:.2%}",
            "mean": f"{group['changed_mean']:.3%}",
            "PSNR": f"{group['psnr']:.1f}",
        }
        for name, group in [*results["groups"].items(), ("all", results["all"])]
    ]
    changed = [f"{row['file']}: {row['changed']:.2%}, {row['psnr']:.1f} dB" for row in results["changed"]]
    return "\n\n".join([format_table(rows), "Changed:\n" + "\n".join(changed) if changed else "Nothing was changed."])


def draw_unmarked(examples: Sequence[tuple[np.ndarray, np.ndarray, dict]]) -> Figure:
    """Changed pictures as they were and as they came back."""
    widest = max((picture for picture, _, _ in examples), key=lambda picture: picture.shape[1] / picture.shape[0])
    figure, panels = image_grid(-(-len(examples) // 2), 4, to_tensor(widest), PANEL)
    for axes in panels[2 * len(examples) :]:
        axes.set_axis_off()
    for i, (picture, restored, row) in enumerate(examples):
        image_panel(panels[2 * i], to_tensor(picture), row["file"])
        image_panel(panels[2 * i + 1], to_tensor(restored), f"{row['changed']:.2%} changed, {row['psnr']:.1f} dB")
    return figure


def _studio(scenes: dict[str, np.ndarray]) -> dict[str, list[tuple[str, Callable[[], np.ndarray]]]]:
    """Each of `SUBJECTS` before each of `GROUNDS` and of `VIGNETTES`, with noise."""

    def before(subject: str, seed: int, ground: Callable[..., np.ndarray], ends: tuple) -> Callable[[], np.ndarray]:
        photo = scenes[subject]
        return lambda: cut_out(photo, SUBJECTS[subject], ground(photo.shape, *ends), seed)

    kinds: dict[str, tuple[Callable[..., np.ndarray], dict]] = {
        "backdrop": (gradient, GROUNDS),
        "vignette": (vignette, VIGNETTES),
    }
    return {
        kind: [
            (f"{subject} on {name}" + " vignette" * (kind == "vignette"), before(subject, seed, ground, ends))
            for subject in SUBJECTS
            for seed, (name, ends) in enumerate(grounds.items())
        ]
        for kind, (ground, grounds) in kinds.items()
    }


def _summary(rows: Sequence[dict]) -> dict[str, float]:
    """Number of pictures, share unchanged, worst and mean changed share, mean PSNR."""
    changed = [row["changed"] for row in rows]
    return {
        "pictures": len(rows),
        "unchanged": float(np.mean([row["unchanged"] for row in rows])),
        "changed_worst": float(max(changed)),
        "changed_mean": float(np.mean(changed)),
        "psnr": float(np.mean([row["psnr"] for row in rows])),
    }

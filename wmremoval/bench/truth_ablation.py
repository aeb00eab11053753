"""Ablation with true values: the remover's gain if the true mask, alpha or colour replaces its estimate."""

from collections import defaultdict
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from wmremoval.bench.suite import ALPHAS, Sample, ScoreOptions, Suite, SuiteConfig, open_suite
from wmremoval.data.marks import Mark
from wmremoval.files import write_json
from wmremoval.images import to_tensor, to_uint8
from wmremoval.metrics import PSNR_CAP, psnr
from wmremoval.report.tables import format_table
from wmremoval.restore.inpaint import surroundings
from wmremoval.restore.prediction import GATE_FROM, GATE_FULL, average, disagreement
from wmremoval.restore.remover import load_remover
from wmremoval.restore.solve import take_off
from wmremoval.restore.tiles import TiledNetwork
from wmremoval.training.environment import environment

WAYS = {  # by name: the estimates that the true values replace
    "as it restores": (),
    "told the mask": ("mask",),
    "told alpha": ("alpha",),
    "told the colour": ("colour",),
    "told alpha and colour": ("alpha", "colour"),
    "told mask, alpha and colour": ("mask", "alpha", "colour"),
}
PLACES = "missed", "doubtful", "edge", "inside"  # of a mark's pixels; see `places_of`
LEAST_IOU = 0.4  # IoU of the network's mask; below it the mark counts as missed and is left out. Not measured.
WHOLE_COVER = 0.95  # share of the largest alpha from which a pixel is covered whole; chosen
PER_CELL = 8  # photographs per cell; not measured


def run_truth_ablation(photos: str | Path, logos: str | Path | None, options: ScoreOptions, part: str = "val") -> dict:
    """Score the remover over the suite's plain cells in each of `WAYS`, and write `truth_ablation.json`.

    Args:
        photos, logos, options, part: as for `suite_report.run_suite`.

    Returns:
        the content of `truth_ablation.json`.

    Raises:
        ValueError: as `run_suite`; or the weights have no mark head.
    """
    net = load_remover(options.weights, options.device).net
    suite = open_suite(
        photos, logos, SuiteConfig(part=part, per_cell=PER_CELL if options.limit is None else options.limit)
    )
    gains, missed, shares = score_truth_ablation(net, suite)
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "what": "gain inside the mark over the input, dB: the remover on whole views of the suite's plain cells, with some "
        "estimates replaced by true values. The true mask replaces the predicted one before the fit of a constant mark; true "
        "alpha and colour replace the result of that fit, and the search for the fewest edges is skipped. Only marks whose "
        f"predicted mask has an IoU of at least {LEAST_IOU} count. Shares of the squared error that is left inside the mark: "
        "where the network misses the mark, where it is in doubt, at the mark's edge and inside of it.",
        "settings": {"part": part, "per_cell": suite.config.per_cell},
        "marks": len(gains["as it restores"]["all"]),
        "left out, by alpha": missed,
        "environment": environment(),
        "gain inside, dB": {
            way: {label: float(np.mean(values)) for label, values in groups.items()} for way, groups in gains.items()
        },
        "share of the error left": {
            label: dict(zip(PLACES, np.mean(values, axis=0).tolist(), strict=True)) for label, values in shares.items()
        },
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "truth_ablation.json", results)
    return results


def truth_table(results: dict) -> str:
    """The gains inside the marks as text, in dB: one row for each of `WAYS`, one column per alpha."""
    rows = [
        {"": way} | {label: f"{groups[label]:+.1f}" for label in ("all", *map(str, ALPHAS)) if label in groups}
        for way, groups in results["gain inside, dB"].items()
    ]
    left = [
        {"": label} | {place: f"{share:.0%}" for place, share in places.items()}
        for label, places in results["share of the error left"].items()
    ]
    return (
        f"Gain inside {results['marks']} marks, dB, by alpha:\n{format_table(rows)}\n"
        f"Share of the error left, by alpha and place:\n{format_table(left)}"
    )


def score_truth_ablation(
    net: TiledNetwork, suite: Suite
) -> tuple[dict[str, dict[str, list[float]]], dict[str, int], dict[str, list[np.ndarray]]]:
    """Scores of each mark, by alpha or "all": the gains inside it (dB) by way; the number missed; the shares of `PLACES`."""
    gains: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in WAYS}
    shares: dict[str, list[np.ndarray]] = defaultdict(list)
    missed = {str(alpha): 0 for alpha in ALPHAS}
    for kind, index in tqdm(suite.views(), desc="Truth ablation", unit="photo", leave=False):
        for sample in (sample for sample in suite.samples(kind, index) if sample.cell.plain):
            mark = suite.draw(sample.cell, index, sample.clean)
            assert mark is not None  # else there were no sample
            answers = tell(net, sample, mark)
            if answers is None:
                missed[str(sample.cell.alpha)] += 1
                continue
            clean, mask = to_tensor(sample.clean)[None], torch.from_numpy(sample.mask)[None, None].float()
            before, *after = (
                psnr(to_tensor(image)[None], clean, mask).clamp_max(PSNR_CAP).item()
                for image in (sample.watermarked, *answers.values())
            )
            for way, value in zip(answers, after, strict=True):
                for label in ("all", str(sample.cell.alpha)):
                    gains[way][label].append(value - before)
            error = np.square(answers["as it restores"].astype(np.float64) - sample.clean).sum(axis=-1)
            places = places_of(net.predict(sample.watermarked).mask, mark.alpha, sample.mask > 0)
            left = np.array([error[place].sum() for place in places]) / max(1.0, error[sample.mask > 0].sum())
            for label in ("all", str(sample.cell.alpha)):
                shares[label].append(left)
    return gains, missed, shares


def places_of(predicted: np.ndarray, alpha: np.ndarray, marked: np.ndarray) -> list[np.ndarray]:
    """The pixels (h, w) of a mark by place, in the order of `PLACES`; each pixel is in one.

    Args:
        predicted: mask (h, w) of the network.
        alpha: the true one (h, w).
        marked: (h, w) boolean, the pixels that the mark changed.
    """
    covered = (alpha > WHOLE_COVER * alpha.max()).astype(np.uint8)
    inside = cv2.erode(covered, np.ones((3, 3), np.uint8), borderValue=1) > 0
    sure, some = predicted >= GATE_FULL, predicted >= GATE_FROM
    return [marked & ~some, marked & some & ~sure, marked & sure & ~inside, marked & sure & inside]


def tell(net: TiledNetwork, sample: Sample, mark: Mark) -> dict[str, np.ndarray] | None:
    """Restore the whole view in each of `WAYS`, (h, w, 3) uint8; None if the network misses the mark.

    Raises:
        ValueError: the network does not predict alpha and colour.
    """
    one, mirrored = net.predict(sample.watermarked), net.predict_mirrored(sample.watermarked)
    if one.trust is None:
        raise ValueError("the ablation needs weights with a mark head (--decompose)")
    prediction, difference = average(one, mirrored), disagreement(one, mirrored)
    found, true_mask = prediction.mask > 0.5, sample.mask > 0
    if surroundings(prediction) is None or (found & true_mask).sum() < LEAST_IOU * (found | true_mask).sum():
        return None
    truth = {"mask": sample.mask, "alpha": mark.alpha, "colour": mark.colour}
    truth = {name: np.ascontiguousarray(value, np.float32) for name, value in truth.items()}
    return {
        way: to_uint8(take_off(prediction, difference, truth={name: truth[name] for name in names}).image)
        for way, names in WAYS.items()
    }

"""Scores of a network over a split: one row per photograph, means, the do-nothing baseline, groups by mark size."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from tqdm import tqdm

from wmremoval.data.dataset import WatermarkDataset
from wmremoval.files import write_csv, write_json
from wmremoval.metrics import PSNR_CAP, mask_f1, mask_iou, psnr, rmse, ssim
from wmremoval.model import Parts
from wmremoval.training.trainer import Training

# Groups by the marked share of the pixels: more than the first number, at most the second.
AREAS = {"under 2%": (0.0, 0.02), "2 to 5%": (0.02, 0.05), "5 to 15%": (0.05, 0.15), "over 15%": (0.15, 1.01)}
Objective = Callable[[Tensor, Tensor, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
NOTES = [
    "PSNR is the mean of per-image values on float images; a photograph reproduced exactly counts as 100 dB.",
    "input_* scores the watermarked photograph left as it is: the baseline of doing nothing.",
    "remover_*, where there is any, scores the photograph restored by `load_remover` with the weights of the run.",
    "masked_* counts only pixels inside the mark; mask scores compare the network's mask (logit > 0) with the true one.",
    "psnr_reference compares with the second watermarked view. That view carries a mark of its own, so even a "
    "perfect restoration scores only what the reference itself scores against the clean photograph: reference_psnr.",
]


@torch.inference_mode()
def restore_samples(
    net: nn.Module, dataset: WatermarkDataset, indices: Sequence[int], device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """A batch of samples and the network's results for them, on the CPU, for pictures.

    Returns:
        the dataset's keys, and `restored` (B, 3, H, W) and `mask_probability` (B, 1, H, W), both in [0, 1].
    """
    samples = [dataset[i] for i in indices]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    net.eval()
    image, mask_logits = net(batch["watermarked"].to(device))
    return batch | {"restored": image.cpu(), "mask_probability": torch.sigmoid(mask_logits).cpu()}


@torch.inference_mode()
def evaluate(
    net: nn.Module, loader: DataLoader, objective: Objective, device: torch.device | str = "cpu"
) -> tuple[list[dict], dict]:
    """Score every photograph of a loader, in float32.

    Args:
        net: from images, (B, 3, H, W) RGB in [0, 1], to (restored images, mask logits).
        loader: of fixed samples in order.
        objective: `Training.objective`, for the loss of each photograph.
        device: of the network.

    Returns:
        rows, one per photograph, and the summary of `summarise`. A row has `file`, `mask_area` (share of the pixels),
        `loss`; `psnr` (dB), `ssim`, `rmse` of the restored photograph against `clean`; `masked_psnr` and `masked_rmse`
        inside the mark; `psnr_reference` against the second view; all of these with `input_` for the watermarked
        photograph itself (doing nothing); `reference_psnr` of the second view against `clean`; `mask_iou`, `mask_f1`.
        Masked and mask scores are NaN without a mark. PSNR is at most `PSNR_CAP`.

    Raises:
        ValueError: the loader shuffles.
    """
    if not isinstance(loader.sampler, SequentialSampler):
        raise ValueError("only samples in order can be scored: give the validation or test loader")
    net.eval()
    dataset: Any = loader.dataset  # a `WatermarkDataset`
    files = iter(dataset.paths)
    rows: list[dict] = []
    for cpu_batch in tqdm(loader, desc="Scoring", leave=False, disable=None):
        batch = {name: x.to(device) for name, x in cpu_batch.items()}
        image, mask_logits = net(batch["watermarked"])
        scores = _scores(image, mask_logits, batch)
        for i in range(len(image)):
            one = {name: x[i : i + 1] for name, x in batch.items()}
            loss, _ = objective(image[i : i + 1], mask_logits[i : i + 1], one)
            rows.append(
                {"file": next(files).name, "loss": loss.item()} | {name: x[i].item() for name, x in scores.items()}
            )
    return rows, summarise(rows)


def _scores(image: Tensor, mask_logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The scores of a batch by name, each (B,)."""
    clean, watermarked, mask = batch["clean"], batch["watermarked"], batch["mask"]
    predicted = (mask_logits > 0).float()
    scores = {"mask_area": mask.mean(dim=(1, 2, 3))}
    for prefix, view in (("", image), ("input_", watermarked)):
        scores |= {f"{prefix}{name}": x for name, x in view_scores(view, clean, mask).items()}
        scores[f"{prefix}psnr_reference"] = psnr(view, batch["reference"]).clamp_max(PSNR_CAP)
    scores["reference_psnr"] = psnr(batch["reference"], clean).clamp_max(PSNR_CAP)  # the ceiling of psnr_reference
    return scores | mask_scores(predicted, mask)


def view_scores(view: Tensor, clean: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """PSNR (dB), SSIM and RMSE of views against the clean ones, and PSNR and RMSE inside the mark, each (B,).

    Args:
        view, clean: (B, 3, H, W), RGB in [0, 1].
        mask: (B, 1, H, W), 1 inside the mark; masked scores are NaN without one.
    """
    return {
        "psnr": psnr(view, clean).clamp_max(PSNR_CAP),
        "ssim": ssim(view, clean),
        "rmse": rmse(view, clean),
        "masked_psnr": psnr(view, clean, mask).clamp_max(PSNR_CAP),
        "masked_rmse": rmse(view, clean, mask),
    }


def mask_scores(predicted: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """IoU and F1 of binary masks, (B, 1, H, W), with the true ones, each (B,); NaN where the true mask is empty."""
    empty = mask.sum(dim=(1, 2, 3)) == 0
    scores = {"mask_iou": mask_iou(predicted, mask), "mask_f1": mask_f1(predicted, mask)}
    return {name: x.masked_fill(empty, torch.nan) for name, x in scores.items()}


def summarise(rows: Sequence[dict]) -> dict:
    """Mean and standard deviation of every score over photographs (NaN left out), overall and by mark size."""
    summary = {"images": len(rows), **_statistics(rows), "by_mask_area": {}}
    for label, (low, high) in AREAS.items():
        group = [row for row in rows if low < row["mask_area"] <= high]
        if group:
            summary["by_mask_area"][label] = {"images": len(group), **_statistics(group)}
    return summary


def _statistics(rows: Sequence[dict]) -> dict:
    statistics = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows if name != "file" and np.isfinite(row[name])])
        if values.size:
            statistics[name] = {"mean": float(values.mean()), "std": float(values.std())}
    return statistics


@torch.no_grad()
def score_kinds(
    predict: Callable[[Tensor], Parts],
    loader: DataLoader,
    device: torch.device | str = "cpu",
    after_batch: Callable[[], None] | None = None,
    merged: Callable[[dict], dict] = dict,
) -> dict[str, float]:
    """Score a network by kind of mark.

    Args:
        predict: from photographs (B, 3, H, W) to `Parts`, such as `Training.predict` outside of training.
        loader: of fixed samples in order, from `kinds_loader`; its dataset has the kind of each.
        device: of the network.
        after_batch: called after every batch.
        merged: adds the rows of other processes, each with a share of the samples; see `Group.merged`.

    Returns:
        for each kind `<kind>_iou`, the mean IoU of the predicted mask (logit > 0) with the true one, and `<kind>_db`, the
        mean gain in PSNR inside the mark over doing nothing, dB. Samples with an empty mask are left out. And `score`, see
        `kinds_score`.
    """
    rows: dict[int, tuple[float, float]] = {}  # IoU and gain by number of the sample
    dataset: Any = loader.dataset  # a `KindsDataset`
    order: Any = loader.batch_sampler  # lists of indices
    for cpu_batch, indices in zip(loader, order, strict=True):
        batch = {name: cpu_batch[name].to(device) for name in ("watermarked", "clean", "mask")}
        parts = predict(batch["watermarked"].contiguous(memory_format=torch.channels_last))
        iou = mask_iou((parts.mask_logits > 0).float(), batch["mask"]).tolist()
        inside, before = (
            psnr(view, batch["clean"], batch["mask"]).clamp_max(PSNR_CAP)
            for view in (parts.image, batch["watermarked"])
        )
        marked = (batch["mask"].sum(dim=(1, 2, 3)) > 0).tolist()
        each = zip(indices, iou, (inside - before).tolist(), marked, strict=True)
        rows |= {index: (iou, gain) for index, iou, gain, counts in each if counts}
        if after_batch is not None:
            after_batch()
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for index, row in sorted(merged(rows).items()):
        by_kind.setdefault(dataset.kinds[index], []).append(row)
    table: dict[str, float] = {}
    for kind, pairs in by_kind.items():
        mean_iou, mean_gain = np.mean(pairs, axis=0).tolist()
        table |= {f"{kind}_iou": mean_iou, f"{kind}_db": mean_gain}
    return table | {"score": kinds_score(table)}


def kinds_score(table: dict[str, float]) -> float:
    """The score of a table of `score_kinds`: the mean over kinds of IoU + dB / 20; greater is better.

    Every kind counts the same, so that none is given up for another. A decibel inside the mark counts as much as 0.05 of
    IoU: in DENet's public logs, doubling the images from 121,000 to 243,000 brought 0.105 of IoU and 2.2 dB.

    Example:
        >>> round(kinds_score({"text_iou": 0.6, "text_db": 5.0, "logo_iou": 0.4, "logo_db": 3.0}), 3)
        0.7
    """
    kinds = [name.removesuffix("_iou") for name in table if name.endswith("_iou")]
    return sum(table[f"{kind}_iou"] + table[f"{kind}_db"] / 20 for kind in kinds) / len(kinds)


def write_test_results(folder: str | Path, rows: Sequence[dict], summary: dict, loss_notes: dict) -> None:
    """Write `test_results.csv`, one row per photograph, and `test_results.json`, the summary with its notes."""
    write_csv(Path(folder) / "test_results.csv", rows)
    write_json(Path(folder) / "test_results.json", {**summary, **loss_notes, "notes": NOTES})


def score(training: Training, loader: DataLoader, folder: str | Path) -> tuple[list[dict], dict]:
    """Score the network over a loader and write `test_results.csv` and `.json` into a run's folder; see `evaluate`."""
    rows, summary = evaluate(training.net, loader, training.objective, training.device)
    about = {"perceptual_weights": training.criterion.perceptual_source, "target": training.config.target}
    write_test_results(folder, rows, summary, about)
    return rows, summary


def loss_terms(training: Training, batch: dict[str, Tensor]) -> dict[str, float]:
    """The weighted terms of the loss by name, on a batch from `restore_samples`."""
    with torch.inference_mode():
        batch = {name: x.to(training.device) for name, x in batch.items()}
        image, mask_logits = training.net.eval()(batch["watermarked"])
        _, terms = training.objective(image, mask_logits, batch)
    return {name: term.item() for name, term in terms.items()}

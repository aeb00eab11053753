"""The remover beside its network: test photographs restored by all steps, and their scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wmremoval.data.dataset import WatermarkDataset
from wmremoval.images import to_image, to_tensor
from wmremoval.restore.remover import Remover, Result
from wmremoval.training.evaluate import mask_scores, summarise, view_scores


def restore_views(remover: Remover, dataset: WatermarkDataset) -> list[Result]:
    """Restore the watermarked view of every sample of a data set, as a user's photograph is restored."""
    return [remover(to_image(dataset[i]["watermarked"])) for i in range(len(dataset))]


def add_scores(rows: Sequence[dict], dataset: WatermarkDataset, results: Sequence[Result]) -> tuple[list[dict], dict]:
    """Scores of `evaluate` with those of the restored photographs, as `remover_*`.

    Args:
        rows: from `evaluate`, one per sample.
        dataset: of the samples.
        results: from `restore_views`.

    Returns:
        the rows, and their summary.
    """
    together = [
        row | {f"remover_{name}": value for name, value in _scores(dataset[i], result).items()}
        for i, (row, result) in enumerate(zip(rows, results, strict=True))
    ]
    return together, summarise(together)


def add_views(batch: dict[str, Tensor], results: Sequence[Result], indices: Sequence[int]) -> dict[str, Tensor]:
    """A batch of `restore_samples` with the restored photographs of the same samples as `remover`, (B, 3, H, W)."""
    return batch | {"remover": torch.stack([to_tensor(results[i].image) for i in indices])}


def gain_line(summary: dict) -> str:
    """The gains of network and remover over doing nothing, as a sentence; of the summary of `add_scores`."""
    before, network, remover = (summary[f"{prefix}psnr"]["mean"] for prefix in ("input_", "", "remover_"))
    return (
        f"Over doing nothing the network alone gains {network - before:+.2f} dB, "
        f"the restored photographs {remover - before:+.2f} dB (mean of {summary['images']})."
    )


def _scores(sample: dict[str, Tensor], result: Result) -> dict[str, float]:
    """The scores of one restored photograph; its mask counts from half strength on."""
    clean, mask = sample["clean"][None], sample["mask"][None]
    changed = torch.from_numpy((result.mask_uint8 > 127).astype(np.float32))[None, None]
    scores = view_scores(to_tensor(result.image)[None], clean, mask) | mask_scores(changed, mask)
    return {name: value.item() for name, value in scores.items()}

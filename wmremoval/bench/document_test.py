"""The document's test: photographs augmented once by its pipeline, with one of its marks each, scored against clean."""

from datetime import datetime
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from wmremoval.bench.suite import SPLIT_SEED, ScoreOptions
from wmremoval.config import choose_device
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.data.photos import find_photos, split_photos
from wmremoval.files import write_json
from wmremoval.images import to_tensor, to_uint8
from wmremoval.metrics import PSNR_CAP, psnr, ssim
from wmremoval.restore.remover import load_remover
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS, load_model
from wmremoval.training.environment import environment
from wmremoval.training.evaluate import restore_samples

SIDE = 256  # pixels; side of the document's crops
DOCUMENT = {"psnr": 28.67, "ssim": 0.7202}  # dB and SSIM of the document's log, on photographs that we do not have
NOTES = [
    "Each test photograph is augmented once, with random numbers that no training epoch uses, and gets one standard mark.",
    "clean is the augmented view before marking; PSNR and SSIM are means of per-photograph values.",
    "network: the network alone, in float32, not rounded. remover: the result of `remove`, in 8 bits.",
]


def document_samples(paths: list[Path], limit: int | None = None) -> WatermarkDataset:
    """Test photographs like those of the document's test loader: augmented and marked at random, with fixed seeds."""
    config = SampleConfig(image_size=SIDE, fixed=True, unmarked=0.0, degraded=0.0)
    return WatermarkDataset(paths[:limit], config)


def run_document_test(photos: str | Path, options: ScoreOptions) -> dict:
    """Score weights by the document's test, and write `document_test.json`.

    Args:
        photos: folder of photographs; its test split is used.
        options: see `ScoreOptions`.

    Returns:
        the content of the report: `psnr` (dB) and `ssim` of `input`, `network` and, for composite weights, `remover`.

    Raises:
        ValueError: there are no photographs or no weights, or the limit is below 1.
    """
    torch_device = choose_device(options.device)
    net, about = load_model(options.weights or SHIPPED_WEIGHTS, torch_device)
    remover = load_remover(options.weights, options.device) if about["config"]["composite"] else None
    paths = split_photos(find_photos(photos).paths, SPLIT_SEED)["test"]
    samples = document_samples(paths, options.limit)
    scores: dict[str, list[tuple[float, float]]] = {}
    for i in tqdm(range(len(samples)), desc="Document test", unit="photo", leave=False):
        batch = restore_samples(net, samples, [i], torch_device)
        watermarked, clean = batch["watermarked"], batch["clean"]
        views = {"input": watermarked, "network": batch["restored"]}
        if remover is not None:
            array = np.ascontiguousarray(to_uint8(watermarked[0].permute(1, 2, 0).numpy()))
            views["remover"] = to_tensor(remover(array).image)[None]
        for name, view in views.items():
            score = psnr(view, clean).clamp_max(PSNR_CAP).item(), ssim(view, clean).item()
            scores.setdefault(name, []).append(score)
    means = {
        name: dict(zip(("psnr", "ssim"), np.mean(values, axis=0).tolist(), strict=True))
        for name, values in scores.items()
    }
    results = {
        "date": datetime.now().isoformat(timespec="seconds"),
        "composite": about["config"]["composite"],
        "photographs": len(samples),
        "side": SIDE,
        **means,
        "document": DOCUMENT,
        "environment": environment(),
        "notes": NOTES,
    }
    if options.folder is not None:
        write_json(Path(options.folder) / "document_test.json", results)
    return results


def document_table(results: dict) -> str:
    """PSNR and SSIM as text, one line for each of input, network and remover."""
    views = [(name, results[name]) for name in ("input", "network", "remover") if name in results]
    return "\n".join(f"{name:8} PSNR {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.4f}" for name, mean in views)

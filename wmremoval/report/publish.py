"""`publish`: a run's results into `outputs/`, with pictures of photographs that may be published."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wmremoval.config import TrainConfig
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.data.photos import SAMPLE_SPLIT, sample_scenes
from wmremoval.files import atomic_path, read_json, write_json
from wmremoval.images import write_image
from wmremoval.report.pictures import RunPictures
from wmremoval.training.evaluate import restore_samples
from wmremoval.training.run_folder import read_run
from wmremoval.training.trainer import Training

# Files of a run that are copied as they are.
COPIED = ("training_history.csv", "training_history.json", "test_results.csv", "test_results.json", "CHANGELOG.md")
# Seed of the marks on the published sample photographs, the same for every run. It is the first seed under which every
# mark is visible: PSNR of the input under 17 dB inside the mark, 2 to 25% of the pixels marked. No restored image was used.
PUBLISHED_SEED = 149


def sample_batch(training: Training, sources: set[str]) -> dict[str, Tensor]:
    """Restore the named sample scenes under fixed marks; these photographs may be published."""
    config = training.config
    with tempfile.TemporaryDirectory() as folder:
        scenes = {name: image for name, image in sample_scenes().items() if name in sources}
        for name, image in scenes.items():
            write_image(Path(folder) / f"{name}.png", image)
        samples = SampleConfig(image_size=config.image_size, seed=PUBLISHED_SEED, augment=False)
        dataset = WatermarkDataset([Path(folder) / f"{name}.png" for name in scenes], samples)
        return restore_samples(training.net, dataset, range(len(dataset)), training.device)


def publish(run: str | Path, outputs: str | Path, device: torch.device) -> list[Path]:
    """Copy a run's reports into `outputs/`, and redraw its pictures into `outputs/visuals/`.

    The pictures show sample photographs that the run was not trained on, since the run's own photographs may not
    be free to publish. The reports contain file names without folders.

    Raises:
        ValueError: the run is incomplete; the message names the missing file.
    """
    run, outputs = Path(run), Path(outputs)
    training, result, about = read_run(run, device)
    for name in COPIED:
        if not (run / name).exists():
            raise ValueError(f"{run} has no {name}; run: wmremoval evaluate {run}")
    written = []
    for name in COPIED:
        with atomic_path(outputs / name) as temporary:
            shutil.copyfile(run / name, temporary)
        written.append(outputs / name)
    reports = {name: _without_folders(read_json(run / name)) for name in ("training_summary.json", "config.json")}
    reports["split.json"] = {
        part: [Path(name).name for name in names] for part, names in read_json(run / "split.json").items()
    }
    for name, report in reports.items():
        write_json(outputs / name, report)
        written.append(outputs / name)
    trained_on_samples = "sample photographs" in str(about["photos"].get("source"))
    unseen = {scene for scene, part in SAMPLE_SPLIT.items() if part == "test" or not trained_on_samples}
    batch = sample_batch(training, unseen - {"motorcycle_right"})
    return written + RunPictures(training, result.history, batch, outputs).save_all()


def _without_folders(report: dict[str, Any]) -> dict[str, Any]:
    """A report without folders: no sources, and only the file name of every path."""
    report = {key: value for key, value in report.items() if key != "sources"}
    if "train" in report:
        train = TrainConfig.from_dict(report["train"])
        names = {"perceptual_weights": Path(train.perceptual_weights).name, "start": Path(train.start).name}
        report["train"] = train.to_dict() | names
    if "photos" in report:
        skipped = {Path(name).name: reason for name, reason in report["photos"]["skipped"].items()}
        report["photos"] = report["photos"] | {"skipped": skipped}
    return report

"""A short training from random weights, for the curve with which learning begins."""

from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

from torch.utils.data import DataLoader

from wmremoval.data.loaders import make_loaders
from wmremoval.data.photos import PhotoSet
from wmremoval.training.loop import Watch, fit
from wmremoval.training.passes import run_epoch
from wmremoval.training.trainer import Training

# Chosen so that the curve has left its first, steep part after half a minute on two cores. Not measured further.
SIDE = 64  # pixels; side of the training crops. A small crop costs less, so there are more steps.
ROWS = 10  # validations in the time
RATE = 1e-3  # learning rate: the document's peak


def learn_from_scratch(
    run: Training,
    photos: PhotoSet,
    validation: DataLoader,
    make_watch: Callable[[Training], Watch] = lambda training: lambda result: False,
    seconds: float = 30.0,
) -> list[dict]:
    """Train random weights for some seconds, and validate them on the samples of a run; they are not kept.

    It is the document's network, which outputs the whole image: its PSNR tells what it has learnt. A composite network would
    begin near the PSNR of doing nothing.

    Args:
        run: the run.
        photos: of the run.
        validation: its loader of validation samples.
        make_watch: from a training to its watch, see `fit`.
        seconds: of training and validation.

    Returns:
        the history, see `TrainResult`; its first row, epoch 0, is of the random weights. The loss has no mask terms.
    """
    config = run.config
    small = replace(
        config, start="scratch", image_size=min(SIDE, config.image_size), hours=seconds / 3600, keep="last",
        validate_minutes=seconds / 60 / ROWS, learning_rate=RATE, warmup_epochs=0, grow=False, size_spread=0,
        composite=False, decompose=False, mask_weight=0.0, target="clean",
    )  # fmt: skip
    loaders = {"train": make_loaders({"train": photos.parts()["train"]}, small)["train"], "val": validation}
    training = Training(small, len(loaders["train"]), run.device)
    scores = run_epoch(training, validation, "Start")
    start = {"epoch": 0} | {f"val_{name}": scores[name] for name in ("loss", "psnr", "ssim")}
    with TemporaryDirectory() as folder:
        return [start, *fit(training, loaders, folder, watch=make_watch(training)).history]

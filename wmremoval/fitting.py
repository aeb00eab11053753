"""Train a network: warm-up and main epochs, the best or the last model, resuming, stopping early."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import DataLoader

from .checkpoints import BEST_MODEL, load_weights, save_best
from .epochs import Progress, run_epoch
from .runs import write_json
from .states import load_state, remove_state, save_state
from .throughput import throughput
from .training import Training

SAVE_SECONDS = 180  # between saves of the state within an epoch: what an interruption costs at most


@dataclass
class TrainResult:
    """What a run leaves in memory; everything in it is also in the run's folder."""

    folder: Path
    history: list[dict] = field(default_factory=list)  # a row a main epoch
    warmup_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0  # whose weights are kept; 0 before the first validation
    best_loss: float = math.inf
    seconds: float = 0.0  # over all sittings of a resumed run
    underway: Progress = field(default_factory=Progress)  # of the epoch under way
    stopped: str = "finished"  # or "early", "interrupted"
    read_back: bool = False  # read from its folder instead of trained here


def fit(training: Training, loaders: dict[str, DataLoader], folder: str | Path, resume: bool = False) -> TrainResult:
    """Train from the seeded start, or from a run's last saved state, and keep the model of the least validation loss, or the last.

    Leaves `wm_best_model.pth` (weights and config, for `load_model`), the same weights as safetensors, and
    until it has finished `training_state.pt`, saved after every epoch and every three minutes of one, from which it
    resumes exactly. Interrupting keeps what was trained.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ValueError: nothing to resume from.
    """
    training.reset()
    result = TrainResult(Path(folder))
    if resume:
        load_state(training, result)
        if result.underway.steps:
            print(f"Going on within an epoch, after {result.underway.steps} of its {training.steps_per_epoch} steps.")
    config, keeper = training.config, Keeper(training, result)
    try:
        for epoch in range(len(result.warmup_losses) + 1, config.warmup_epochs + 1):
            means = _train(keeper, loaders["train"], f"Warmup Epoch {epoch}", epoch - 1, training.warmup_optimizer)
            result.warmup_losses.append(means["loss"])
            print(f"Warmup Epoch {epoch} | Loss: {means['loss']:.5f}")
            keeper.save_epoch()
        for epoch in range(len(result.history) + 1, config.epochs + 1):
            if len(result.history) - result.best_epoch >= config.early_stop_patience:
                result.stopped = "early"
                print(f"Stopping early: no better validation loss for {config.early_stop_patience} epochs.")
                break
            _main_epoch(keeper, loaders, epoch)
            keeper.save_epoch()
            write_json(result.folder / "training_history.json", result.history)  # to watch a long run by
    except KeyboardInterrupt:
        result.stopped = "interrupted"
        print(f"Interrupted after {len(result.history)} epochs; what was trained is kept in {result.folder.name}.")
    result.seconds = keeper.seconds()
    print(f"Training Time Elapsed: {result.seconds / 60:.2f} Minutes")
    if not (result.folder / BEST_MODEL).exists():
        save_best(training, result)  # interrupted before the first validation: the last weights are the best there are
    if result.stopped != "interrupted":
        remove_state(result.folder)
    load_weights(training.net, result.folder / BEST_MODEL)
    return result


class Keeper:
    """Saves the state of a run, and knows how long it has been trained."""

    def __init__(self, training: Training, result: TrainResult):
        self.training, self.result = training, result
        self.saved = time.monotonic()
        self.began = self.saved - result.seconds

    def seconds(self) -> float:
        """Since the run began, over all its sittings."""
        return time.monotonic() - self.began

    def save(self) -> None:
        """Save the state as it is, which must be between two steps."""
        self.result.seconds = self.seconds()
        save_state(self.training, self.result)
        self.saved = time.monotonic()

    def save_epoch(self) -> None:
        """Save the state at the end of an epoch."""
        self.result.underway = Progress()
        self.save()

    def save_if_due(self) -> None:
        """Save the state within an epoch if `SAVE_SECONDS` have gone by since the last save."""
        if time.monotonic() - self.saved >= SAVE_SECONDS:
            self.save()


def _train(keeper: Keeper, loader: DataLoader, label: str, data_epoch: int, optimizer, main_epoch=None):
    """The training pass of an epoch, from as far as it has come already; see `run_epoch`."""
    underway = keeper.result.underway
    return run_epoch(keeper.training, loader, label, data_epoch, optimizer, main_epoch, underway, keeper.save_if_due)


def _main_epoch(keeper: Keeper, loaders: dict[str, DataLoader], epoch: int) -> None:
    training, result, config, started = keeper.training, keeper.result, keeper.training.config, time.monotonic()
    started -= result.underway.seconds
    label = f"Epoch {epoch}"
    train = _train(keeper, loaders["train"], label, config.warmup_epochs + epoch - 1, training.optimizer, epoch)
    val = run_epoch(training, loaders["val"], f"{label} val")
    row = {"epoch": epoch}
    for part, means in (("train", train), ("val", val)):
        row |= {f"{part}_{name}": means[name] for name in ("loss", "psnr", "ssim", "psnr_target")}
    row["lr"] = training.optimizer.param_groups[0]["lr"]
    row |= {name: value for name, value in train.items() if name.startswith("term_")}
    row |= {name: train[name] for name in ("grad_norm", "images_per_second", "data_share")}
    row |= throughput(config, training.device, train["images_per_second"])
    row["seconds"] = time.monotonic() - started
    result.history.append(row)
    print(
        f"Epoch {epoch}: Train Loss={row['train_loss']:.4f}, Train PSNR={row['train_psnr']:.2f}, "
        f"Train SSIM={row['train_ssim']:.4f} , Val Loss={row['val_loss']:.4f}, Val PSNR={row['val_psnr']:.2f}, "
        f"Val SSIM={row['val_ssim']:.4f}, LR={row['lr']:.6f}"
    )
    if epoch == config.lr_drop_epoch and epoch < config.epochs:
        print(f"Lowering learning rate by {1 / config.lr_drop_factor:g}x for fine-tuning phase.")
    if row["val_loss"] < result.best_loss or config.keep == "last":
        result.best_epoch, result.best_loss = epoch, row["val_loss"]
        save_best(training, result)

"""Seeds, device, the AMP training loop with warm-up and OneCycleLR, and its history."""

import math
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .checkpoints import BEST_MODEL, load_init, load_weights, save_best
from .config import TrainConfig, drop_factor, onecycle
from .devices import choose_device, has_bf16
from .losses import ColorAwareLoss, mark_loss, mask_bce_loss, mask_iou_loss, masked_l1_loss
from .metrics import PSNR_CAP, psnr, ssim
from .model import HeterogeneousUNet, Parts
from .runs import write_json
from .states import load_state, remove_state, save_state
from .throughput import throughput


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch; the data takes its own keys from (seed, epoch, index)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries that draw from the global state
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """Choose and prepare the device; call it before anything else touches CUDA.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    # Blocks over 64 MB are not split: less fragmentation on small GPUs, as the document does.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    device = choose_device(name)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
    return device


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """The half precision the network runs in, or None for float32.

    Raises:
        ValueError: fp16 on a CPU, where it would be slow and need a scaler that PyTorch lacks there.
    """
    if amp == "off":
        return None
    if amp == "fp16" and device.type != "cuda":
        raise ValueError("amp='fp16' needs a CUDA device; use 'auto', 'bf16' or 'off'")
    if amp != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else None


class NonFiniteLossError(RuntimeError):
    """The loss, or a gradient, became NaN or infinite."""


class Training:
    """Network, criterion, optimisers, scheduler and scaler of one experiment.

    Args:
        config: all settings.
        steps_per_epoch: batches in the training loader.
        device: from `pick_device`.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int, device: torch.device):
        self.config, self.steps_per_epoch, self.device = config, steps_per_epoch, device
        self.dtype = autocast_dtype(config.amp, device)
        self.criterion = ColorAwareLoss(
            config.alpha, config.beta, config.gamma, config.delta, config.perceptual_weights, config.seed
        ).to(device, memory_format=torch.channels_last)  # a fifth off the time of VGG16 on a CPU
        self.reset()

    def reset(self) -> None:
        """Seed and build everything that training changes anew, so that every `fit` is an experiment of its own."""
        config = self.config
        seed_everything(config.seed)
        self.net = HeterogeneousUNet(config.composite, config.decompose)
        if config.init:
            load_init(self.net, config.init)
        self.net.to(self.device, memory_format=torch.channels_last)
        self.forward = torch.compile(self.net.parts) if config.compile else self.net.parts
        self.averaged = None  # the averaged network, if there is one: `restore` takes it outside of training
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)
            self.averaged = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        options = {"weight_decay": config.weight_decay, "fused": self.device.type == "cuda"}
        parameters = list(self.net.parameters())
        self.warmup_optimizer = torch.optim.AdamW(parameters, lr=config.warmup_learning_rate, **options)
        self.optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, **options)
        self.scheduler = onecycle(self.optimizer, config, self.steps_per_epoch)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def kept(self) -> HeterogeneousUNet:
        """The network that is validated and kept: the averaged one where there is one."""
        return self.averaged.module if self.averaged is not None else self.net

    def restore(self, watermarked: Tensor) -> Parts:
        """All parts of the result, in float32; autocast wraps the network and nothing else."""
        forward = self.forward if self.net.training or self.averaged is None else self.kept.parts
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return forward(watermarked)

    def objective(
        self, image: Tensor, mask_logits: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`ColorAwareLoss` against the configured target, plus the weighted mask term."""
        total, terms = self.criterion(image, batch[self.config.target], batch["mask"])
        if self.config.l1_weight:
            l1 = self.config.l1_weight * masked_l1_loss(image, batch[self.config.target])
            total, terms["l1"] = total + l1, l1.detach()
        if self.config.mask_weight:
            bce = mask_bce_loss(mask_logits, batch["mask"])
            terms["mask_bce"] = self.config.mask_weight * bce.detach()
            total = total + self.config.mask_weight * bce
            if self.config.iou_weight:
                iou = self.config.mask_weight * self.config.iou_weight * mask_iou_loss(mask_logits, batch["mask"])
                total, terms["mask_iou"] = total + iou, iou.detach()
        return total, terms

    def mark_term(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """What teaches alpha and colour directly. Not part of the loss that is reported: that judges results only."""
        if parts.alpha is None or not self.config.mark_weight:
            return parts.image.new_zeros(())
        return self.config.mark_weight * mark_loss(parts.alpha, parts.colour, batch["alpha"], batch["colour"])

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
        """Backward, unscale, clip, step, update; gives the norm of the unscaled gradient before clipping."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)
        return float(norm)


@dataclass
class TrainResult:
    """What a run leaves in memory; everything in it is also in the run's folder."""

    folder: Path
    history: list[dict] = field(default_factory=list)  # a row a main epoch
    warmup_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0  # whose weights are kept; 0 before the first validation
    best_loss: float = math.inf
    seconds: float = 0.0  # over all sittings of a resumed run
    stopped: str = "finished"  # or "early", "interrupted"
    read_back: bool = False  # read from its folder instead of trained here


def fit(training: Training, loaders: dict[str, DataLoader], folder: str | Path, resume: bool = False) -> TrainResult:
    """Train from the seeded start, or from a run's last saved epoch, and keep the model of the least validation loss, or the last.

    Leaves `wm_best_model.pth` (weights and config, for `load_model`), the same weights as safetensors, and
    until it has finished `training_state.pt`, from which it resumes at an epoch's boundary exactly.
    Interrupting keeps what was trained.

    Raises:
        NonFiniteLossError: names the epoch and the step.
        ValueError: nothing to resume from.
    """
    training.reset()
    result = TrainResult(Path(folder))
    if resume:
        load_state(training, result)
    config, before, started = training.config, result.seconds, time.monotonic()
    try:
        for epoch in range(len(result.warmup_losses) + 1, config.warmup_epochs + 1):
            means = run_epoch(training, loaders["train"], f"Warmup Epoch {epoch}", epoch - 1, training.warmup_optimizer)
            result.warmup_losses.append(means["loss"])
            print(f"Warmup Epoch {epoch} | Loss: {means['loss']:.5f}")
            result.seconds = before + time.monotonic() - started
            save_state(training, result)
        for epoch in range(len(result.history) + 1, config.epochs + 1):
            if len(result.history) - result.best_epoch >= config.early_stop_patience:
                result.stopped = "early"
                print(f"Stopping early: no better validation loss for {config.early_stop_patience} epochs.")
                break
            _main_epoch(training, loaders, epoch, result)
            result.seconds = before + time.monotonic() - started
            save_state(training, result)
            write_json(result.folder / "training_history.json", result.history)  # to watch a long run by
    except KeyboardInterrupt:
        result.stopped = "interrupted"
        print(f"Interrupted after {len(result.history)} epochs; what was trained is kept in {result.folder.name}.")
    result.seconds = before + time.monotonic() - started
    print(f"Training Time Elapsed: {result.seconds / 60:.2f} Minutes")
    if not (result.folder / BEST_MODEL).exists():
        save_best(training, result)  # interrupted before the first validation: the last weights are the best there are
    if result.stopped != "interrupted":
        remove_state(result.folder)
    load_weights(training.net, result.folder / BEST_MODEL)
    return result


def _main_epoch(training: Training, loaders: dict[str, DataLoader], epoch: int, result: TrainResult) -> None:
    config, started = training.config, time.monotonic()
    label = f"Epoch {epoch}"
    train = run_epoch(training, loaders["train"], label, config.warmup_epochs + epoch - 1, training.optimizer, epoch)
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


def run_epoch(
    training: Training,
    loader: DataLoader,
    label: str,
    data_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    main_epoch: int | None = None,
) -> dict[str, float]:
    """One pass over a loader: training with an optimiser, validation without.

    `main_epoch` is given in the main phase only, where the scheduler steps after every batch.

    Returns:
        means over images: loss, PSNR (dB) and SSIM against `clean`, PSNR against the target, each term of
        the loss as `term_<name>`; the mean gradient norm; images a second, and the share of the time spent waiting
        for data.
    """
    loader.dataset.epoch = data_epoch
    training.net.train(optimizer is not None)
    training.kept.train(optimizer is not None)
    if main_epoch is not None:
        _set_rate(training, main_epoch)  # the drop holds from the first batch of its epoch
    sums, counts = defaultdict(float), defaultdict(int)
    bar = tqdm(loader, desc=label, leave=False)
    started, waited, asked = time.monotonic(), 0.0, time.monotonic()
    for step, cpu_batch in enumerate(bar, start=1):
        waited += time.monotonic() - asked
        batch = {name: x.to(training.device, non_blocking=True) for name, x in cpu_batch.items()}
        if training.config.pairs and optimizer is not None:
            batch = both_views(batch)
        batch["watermarked"] = batch["watermarked"].contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(optimizer is not None):
            parts = training.restore(batch["watermarked"])
            image, mask_logits = parts[:2]
            loss, terms = training.objective(image, mask_logits, batch)
            mark_term = training.mark_term(parts, batch)
        means = _measure(image.detach(), loss.detach(), terms, batch, training.config.target)
        if parts.alpha is not None:
            means["term_mark"] = mark_term.item()
        _check_finite(means, label, step)
        if optimizer is not None:
            means["grad_norm"] = training.step(loss + mark_term, optimizer)
            if not training.scaler.is_enabled():  # a scaler skips such a step and lowers its scale
                _check_finite(means, label, step)
        if main_epoch is not None:
            training.scheduler.step()
            _set_rate(training, main_epoch)
        for name, value in means.items():
            if math.isfinite(value):  # all but the norm of a step that the scaler skipped
                sums[name], counts[name] = sums[name] + len(image) * value, counts[name] + len(image)
        bar.set_postfix(loss=f"{sums['loss'] / counts['loss']:.4f}")
        asked = time.monotonic()
    means = {name: total / counts[name] for name, total in sums.items()}
    seconds = max(time.monotonic() - started, 1e-9)
    return means | {"images_per_second": counts["loss"] / seconds, "data_share": waited / seconds}


def both_views(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of twice the size in which each view is once the input and once the reference of the other."""
    other = {
        "watermarked": "reference",
        "reference": "watermarked",
        "mask": "reference_mask",
        "alpha": "reference_alpha",
        "colour": "reference_colour",
    }
    other |= {theirs: ours for ours, theirs in other.items()}
    return {name: torch.cat([x, batch[other.get(name, name)]]) for name, x in batch.items()}


def _set_rate(training: Training, epoch: int) -> None:
    """Give the optimiser the cycle's rate times the drop; the cycle itself writes its own rate at every step."""
    for group, rate in zip(training.optimizer.param_groups, training.scheduler.get_last_lr(), strict=True):
        group["lr"] = rate * drop_factor(training.config, epoch)


@torch.no_grad()
def _measure(
    image: Tensor, loss: Tensor, terms: dict[str, Tensor], batch: dict[str, Tensor], target: str
) -> dict[str, float]:
    """The batch's means, brought from the device in one transfer."""
    means = {
        "loss": loss,
        "psnr": psnr(image, batch["clean"]).clamp_max(PSNR_CAP).mean(),
        "ssim": ssim(image, batch["clean"]).mean(),
        "psnr_target": psnr(image, batch[target]).clamp_max(PSNR_CAP).mean(),
    } | {f"term_{name}": term for name, term in terms.items()}
    return dict(zip(means, torch.stack([value.float() for value in means.values()]).tolist(), strict=True))


def _check_finite(means: dict[str, float], label: str, step: int) -> None:
    bad = [name for name in ("loss", "grad_norm") if not math.isfinite(means.get(name, 0.0))]
    if bad:
        values = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name.startswith("term_"))
        raise NonFiniteLossError(
            f"{label}, step {step}: the {bad[0].replace('_', ' ')} is {means[bad[0]]} ({values}); "
            "lower the learning rate or set amp='off'"
        )

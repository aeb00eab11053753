"""`Training`: network, loss, optimisers and schedule of an experiment, and one step of it; seeds, device and precision."""

import os
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wmremoval.config import TrainConfig, choose_device, has_bf16
from wmremoval.losses import ColorAwareLoss, coarse_mask_loss, mark_loss, mask_bce_loss, mask_iou_loss, masked_l1_loss
from wmremoval.model import HeterogeneousUNet, Parts
from wmremoval.training.checkpoints import load_start
from wmremoval.training.compiling import CompileTrial
from wmremoval.training.distributed import ALONE, Group
from wmremoval.training.optimizers import make_optimizer
from wmremoval.training.recompute import recompute_activations
from wmremoval.training.schedule import make_schedule


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch. Samples do not depend on these seeds, but on (seed, epoch, index)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries that draw from the global state
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """Choose and prepare the device. Call it before anything else uses CUDA.

    Args:
        name: see `choose_device`.

    Raises:
        ValueError: an unknown name, or CUDA without a CUDA device.
    """
    # Blocks over 64 MB are not split, against fragmentation on small GPUs; the document's setting.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    device = choose_device(name)
    if device.type == "cuda":  # pragma: no cover - needs a GPU
        torch.backends.cudnn.benchmark = True  # batches have one shape, or a few
    return device


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """The half precision of the network; None for float32.

    Args:
        amp: "auto", "bf16", "fp16" or "off".
        device: of the network.

    Raises:
        ValueError: fp16 on a CPU, where it would be slow and PyTorch lacks its scaler.
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


class Training:
    """Network, criterion, optimisers, schedule and scaler of one experiment.

    Args:
        config: all settings.
        steps_per_epoch: batches in the training loader.
        device: from `pick_device`.
        group: the processes that train together.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int, device: torch.device, group: Group = ALONE):
        self.group = group
        self.config, self.steps_per_epoch, self.device = config, steps_per_epoch, device
        self.dtype = autocast_dtype(config.amp, device)
        self.criterion = (
            ColorAwareLoss(
                config.alpha, config.beta, config.gamma, config.delta, config.perceptual_weights, config.seed
            )
            .to(device)
            .to(memory_format=torch.channels_last)
        )  # a fifth off the time of VGG16 on a CPU
        self.reset()

    def reset(self) -> None:
        """Seed, and build everything that training changes, so that every `fit` is an experiment of its own."""
        config = self.config
        seed_everything(config.seed)
        self.net = HeterogeneousUNet(config.composite, config.decompose)
        if config.start != "scratch":
            load_start(self.net, config.start)
        self.net.to(self.device).to(memory_format=torch.channels_last)
        self.forward = _forward(self.net, config)
        self.averaged: AveragedModel | None = (
            None  # the averaged network, if there is one; `predict` takes it outside of training
        )
        if config.ema_decay:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.averaged = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        if config.checkpoint_activations:
            recompute_activations(self.net)
        self.replica = self.group.replicate(self.net, self.forward, self.device)
        fused = self.device.type == "cuda"
        self.warmup_optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config.warmup_learning_rate, weight_decay=config.weight_decay, fused=fused
        )
        self.optimizer = make_optimizer(config, self.net, fused)
        self.schedule = make_schedule(config, self.optimizer, self.steps_per_epoch)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def kept(self) -> HeterogeneousUNet:
        """The network to validate and keep: the averaged one if there is one, else the trained one."""
        return cast(HeterogeneousUNet, self.averaged.module) if self.averaged is not None else self.net

    def predict(self, watermarked: Tensor) -> Parts:
        """The network's parts for a batch, (B, 3, H, W) RGB in [0, 1].

        In training they include the coarser gates if these have a loss.
        Only the network runs under autocast. All parts are float32.
        """
        forward = self.replica if self.net.training else self.kept.parts  # validation alone compiles nothing
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return forward(watermarked)

    def objective(
        self, image: Tensor, mask_logits: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The reported loss: `ColorAwareLoss` against the configured target, the weighted L1 and the weighted mask term.

        Args:
            image: restored images, (B, 3, H, W), RGB in [0, 1].
            mask_logits: (B, 1, H, W).
            batch: of the dataset's samples.

        Returns:
            the total, and its weighted terms by name, detached.
        """
        total, terms = self.criterion(image, batch[self.config.target], batch["mask"])
        if self.config.l1_weight:
            l1 = self.config.l1_weight * masked_l1_loss(image, batch[self.config.target])
            total, terms["l1"] = total + l1, l1.detach()
        if self.config.mask_weight:
            bce = mask_bce_loss(mask_logits, batch["mask"])
            terms["mask_bce"] = self.config.mask_weight * bce.detach()
            total = total + self.config.mask_weight * bce
            if self.config.iou_weight:
                iou = (
                    self.config.mask_weight
                    * self.config.iou_weight
                    * mask_iou_loss(mask_logits, batch["mask"], self.group.total)
                )
                total, terms["mask_iou"] = total + iou, iou.detach()
        return total, terms

    def mark_term(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """The weighted loss of alpha and colour; trained on, but not in the reported loss, which measures results only."""
        if parts.alpha is None or parts.colour is None or not self.config.mark_weight:
            return parts.image.new_zeros(())
        truth = batch["alpha"], batch["colour"], batch.get("plain")
        return self.config.mark_weight * mark_loss(
            parts.alpha, parts.colour, *truth, self.config.faint_weight, self.group.total
        )

    def gate_term(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """The weighted mask loss of the two coarser gates, as a sum; trained on, but not in the reported loss."""
        if parts.gates is None:
            return parts.image.new_zeros(())
        losses = [
            coarse_mask_loss(logits, batch["mask"], self.config.iou_weight, self.group.total) for logits in parts.gates
        ]
        return self.config.mask_weight * self.config.coarse_gate_weight * sum(losses, start=parts.image.new_zeros(()))

    @torch.no_grad()
    def renew_statistics(self, batches: Iterable[Tensor], after_batch: Callable[[], None] | None = None) -> None:
        """Compute the BatchNorm statistics of the kept network again, as the mean over batches of inputs.

        Averaged weights have other activations than the weights of which they are the average (SWA, Izmailov et al. 2018,
        arXiv 1803.05407, section 3.1).

        Args:
            batches: watermarked views, (B, 3, H, W), RGB in [0, 1].
            after_batch: called after every batch.
        """
        layers = [layer for layer in self.kept.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        momenta = [layer.momentum for layer in layers]
        self.kept.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
            layer.train()
        for batch in batches:
            batch = batch.to(self.device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                self.kept.parts(batch)
            if after_batch is not None:
                after_batch()
        self.group.average_buffers(self.kept)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        self.kept.eval()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the coming step."""
        self.scaler.scale(loss).backward()

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
        """Backward, unscale, clip, step, update; the gradients are forgotten afterwards.

        Returns:
            the norm of the unscaled gradient before clipping.
        """
        self.backward(loss)
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.net)
        return float(norm)


def _forward(net: HeterogeneousUNet, config: TrainConfig) -> Callable[[Tensor], Parts]:
    """The forward pass of a training step, from a batch to parts; with the coarser gates if they have a loss."""
    eager = partial(net.parts, gates=True) if config.coarse_gate_weight else net.parts
    if not config.compile:
        return eager
    compiled = torch.compile(eager, dynamic=False)  # a few fixed shapes, each compiled once
    return CompileTrial(eager, compiled) if config.compile == "auto" else compiled

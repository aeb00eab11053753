"""`TrainConfig`: every setting of a training run; the learning rates that it plans; the device that it runs on."""

from dataclasses import asdict, dataclass, fields

import torch

from wmremoval.settings import check_settings, setting

SIZE_STEP = 32  # pixels; crop sides are multiples of it, which the network need not pad
# Pixels; sides of square crops in the two stages of a run with `grow`. A small crop costs less, so a network sees more
# of them in the same time. At four photographs of 128 px a step the second stage holds one or two photographs, and the
# validation score falls by 0.02 (long_run.json): it is for larger batches.
GROWING = ((96, 128), (192, 224, 256))
OLD_NAMES = {"init": "start"}  # names of settings up to version 0.1, and the names today

# Headings of `wmremoval train --help`.
DATA, SAMPLES = "photographs and batches", "training samples"
OBJECTIVE, SCHEDULE, MACHINE = "network and objective", "schedule", "machine"


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one run. The defaults are the document's numbers, for the composite network.

    Units, ranges and choices are checked.

    Raises:
        ValueError: a value is not allowed, or contradicts another; one line with the name, the range and the value.
    """

    # The document's size of 256 pixels; 8 photographs a step are the most that 6 GB of GPU memory hold.
    image_size: int = setting(256, DATA, "side of the square crops", "pixels", least=32)
    size_spread: int = setting(0, DATA, "crop sides vary from batch to batch by up to this", "pixels", least=0)
    grow: bool = setting(False, DATA, "small crops first, large ones in the last third of the time; needs --hours")
    batch_size: int = setting(8, DATA, "photographs a step; with --grow, of size --image-size", least=1)
    max_photos: int | None = setting(None, DATA, "largest number of photographs used", least=0, none="all")
    workers: int = setting(0, DATA, "processes that make samples; 0: the training process; same samples", least=0)
    photo_memory: float = setting(1000.0, DATA, "memory for decoded photographs", "megabytes", least=0)
    seed: int = setting(0, DATA, "key of the split, the first weights, the order and every mark", least=0)
    # Another key shows new samples to a run that starts from another run's weights, while the split stays the same.
    sample_seed: int | None = setting(None, DATA, "key of training samples and order", least=0, none="as --seed")

    # "varied": more shapes, lattices and opaque marks than "standard". "overlays": most of these in one colour and one
    # opacity, as watermarking programs lay them. "web": more and larger text, some on boxes. "full_web": all layouts of
    # the web, many faint, beside the others.
    marks: str = setting(
        "standard", SAMPLES, "kinds of marks", choices=("standard", "varied", "overlays", "web", "full_web")
    )
    # "packaged": the faces of the requirements and of the system. "installed": those of every installed font package and
    # of the system, except the families kept out of training, which networks are scored on.
    faces: str = setting("packaged", SAMPLES, "fonts of the marks", choices=("packaged", "installed"))
    zoom: float = setting(1.0, SAMPLES, "largest enlargement of photograph and mark", "factor", least=1, most=8)
    sharp: float = setting(0.0, SAMPLES, "zoomed samples with only the mark enlarged", "share", least=0, most=1)
    collage: float = setting(0.0, SAMPLES, "samples made of several photographs", "share", least=0, most=1)
    degraded: float = setting(0.25, SAMPLES, "samples with blur or JPEG after marking", "share", least=0, most=1)
    # A network that never sees an unmarked photograph finds too many marks.
    unmarked: float = setting(0.05, SAMPLES, "samples without a mark", "share", least=0, most=1)
    # `unmarked` is a share of the other samples.
    hard: float = setting(0.0, SAMPLES, "unmarked samples that look marked", "share", least=0, most=1)
    hard_places: str | None = setting(
        None, SAMPLES, "JSON list of places for half of the hard samples", metavar="FILE", none="drawn scenes only"
    )

    target: str = setting(
        "reference", OBJECTIVE, "view that the loss compares with: a second marked one, or the photograph itself",
        choices=("reference", "clean"),
    )  # fmt: skip
    composite: bool = setting(True, OBJECTIVE, "blend the prediction into the input through the finest attention gate")
    # 245 more parameters. Translucent marks are inverted, opaque ones inpainted.
    decompose: bool = setting(False, OBJECTIVE, "predict alpha and colour of the mark, and unblend translucent marks")
    start: str = setting(
        "scratch", OBJECTIVE, "first weights: scratch, shipped, a run's folder, .pth or .safetensors", metavar="WEIGHTS"
    )
    pairs: bool = setting(False, OBJECTIVE, "train on both marked views of a photograph in one batch")
    # At 1 the LAB term, ten times as large, keeps the gate shut.
    mask_weight: float = setting(10.0, OBJECTIVE, "weight of the mask's cross-entropy", least=0)
    # SLBR takes 0.25.
    iou_weight: float = setting(0.0, OBJECTIVE, "weight of 1 - IoU of the mask, within the mask term", least=0)
    # PatchWiper takes 0.5. Weights trained without this term start with a term of 80 at 0.5, eighteen times the rest of
    # the loss, so that clipping leaves the gradient of this term alone.
    coarse_gate_weight: float = setting(
        0.0, OBJECTIVE, "weight of the mask terms of the two coarser gates, as a share of --mask-weight", least=0
    )
    mark_weight: float = setting(1.0, OBJECTIVE, "weight of the L1 of alpha and colour; with --decompose", least=0)
    faint_weight: float = setting(0.0, OBJECTIVE, "extra weight of alpha and colour where a mark is faint", least=0)
    l1_weight: float = setting(
        0.0, OBJECTIVE, "weight of L1 over all pixels, beside the masked L1 of weight 1", least=0
    )
    alpha: float = setting(0.3, OBJECTIVE, "weight of the perceptual (VGG16) loss", least=0)
    beta: float = setting(0.3, OBJECTIVE, "weight of the LAB loss", least=0)
    gamma: float = setting(0.4, OBJECTIVE, "weight of 1 - SSIM", least=0)
    delta: float = setting(0.1, OBJECTIVE, "weight of the Laplacian loss", least=0)
    perceptual_weights: str = setting(
        "imagenet", OBJECTIVE, "weights of VGG16: imagenet, random or a .safetensors file", metavar="WEIGHTS"
    )

    # With hours the rate follows `clock_rate`, without them OneCycleLR.
    hours: float | None = setting(
        None, SCHEDULE, "time of training and validation; pauses do not count", "hours", above=0, none="by epochs"
    )
    validate_minutes: float = setting(10.0, SCHEDULE, "time between validations; with --hours", "minutes", above=0)
    validation_photos: int = setting(32, SCHEDULE, "photographs validated on; with --hours", least=1)
    # SOAP needs the package pytorch-optimizer. A rate of 3e-4 measured best for it.
    optimizer: str = setting("adamw", SCHEDULE, "optimiser of the main phase", choices=("adamw", "soap"))
    epochs: int = setting(25, SCHEDULE, "epochs after the warm-up", least=1)
    learning_rate: float = setting(1e-3, SCHEDULE, "peak of the learning rate; with --hours the constant rate", above=0)
    weight_decay: float = setting(1e-5, SCHEDULE, "decoupled weight decay", least=0)
    warmup_epochs: int = setting(2, SCHEDULE, "epochs at a constant rate before the main ones", "epochs", least=0)
    warmup_learning_rate: float = setting(1e-4, SCHEDULE, "learning rate of the warm-up", above=0)
    lr_drop_epoch: int | None = setting(
        15, SCHEDULE, "main epoch after which the rate drops; 0: never", least=0, none="never"
    )
    lr_drop_factor: float = setting(0.1, SCHEDULE, "factor of that drop", above=0)
    early_stop_patience: int = setting(
        7, SCHEDULE, "epochs without a better validation loss before training stops", "epochs", least=1
    )
    ema: float = setting(0.0, SCHEDULE, "decay per step of averaged weights; 0: no average", least=0, below=1)
    ema_half_life: float = setting(
        0.0, SCHEDULE, "half-life of weights in the average, in place of --ema; 0: as --ema", "steps", least=0
    )
    # "last" is for training samples that differ from those of validation.
    keep: str = setting("best", SCHEDULE, "weights kept: by validation, or the last", choices=("best", "last"))
    clip_norm: float = setting(1.0, SCHEDULE, "largest norm of the gradient", above=0)

    # "auto": bf16 where the hardware computes it, fp16 on other GPUs, float32 elsewhere.
    amp: str = setting("auto", MACHINE, "precision of the network", choices=("auto", "bf16", "fp16", "off"))
    # A batch is computed in parts, whose gradients are added. BatchNorm, the IoU of masks and the loss of alpha and colour
    # then see a part, not the batch.
    accumulate: int = setting(1, MACHINE, "parts of a batch, one after the other: less memory, same step", least=1)
    checkpoint_activations: bool = setting(
        False, MACHINE, "compute activations again in the backward pass: less memory, more time, same result"
    )
    # Compiling takes about a minute at the start.
    compile: bool | str = setting(
        False, MACHINE, "torch.compile the network; auto: if a trial of half a minute shows it faster",
        choices=(False, True, "auto"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.size_spread > self.image_size - SIZE_STEP:
            raise ValueError(f"size_spread must leave crops of {SIZE_STEP} pixels, got {self.size_spread!r}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}, got {self.accumulate!r}")
        if self.checkpoint_activations and self.compile:
            raise ValueError("give checkpoint_activations or compile, not both")
        if self.ema and self.ema_half_life:
            raise ValueError("give ema or ema_half_life, not both")
        if self.decompose and not self.composite:
            raise ValueError("decompose needs composite: switch composite on, or decompose off")
        if self.grow and (self.hours is None or self.size_spread):
            raise ValueError("grow needs hours, and takes the place of size_spread: set the one, leave out the other")

    @property
    def ema_decay(self) -> float:
        """The share of the averaged weights that each step keeps, in [0, 1); 0: no average.

        Example:
            >>> round(TrainConfig(ema_half_life=1000).ema_decay ** 1000, 6)
            0.5
        """
        return 0.5 ** (1.0 / self.ema_half_life) if self.ema_half_life else self.ema

    def to_dict(self) -> dict:
        """All settings by name, as plain values for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """Rebuild a configuration from `to_dict`, also from that of an earlier version; absent settings take defaults.

        Raises:
            ValueError: an unknown name, or a value that is not allowed.
        """
        values = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        if values.get("start", "") is None:  # `init` was None for "scratch"
            values["start"] = "scratch"
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(
                f"unknown settings: {', '.join(sorted(unknown))}; leave them out, or use the version that wrote them"
            )
        return cls(**values)


# The document's text to the letter: direct image, no mask term, a second watermarked view as the target.
DOCUMENT_RECIPE = TrainConfig(composite=False, mask_weight=0.0)


def crop_sides(config: TrainConfig) -> list[int]:
    """Sides of the square training crops, pixels: `image_size`, and with `size_spread` smaller and larger ones."""
    steps = config.size_spread // SIZE_STEP
    return [config.image_size + SIZE_STEP * step for step in range(-steps, steps + 1)]


def crop_stages(config: TrainConfig) -> list[list[int]]:
    """Sides of the training crops in each stage of a run, pixels: one stage, or with `grow` the two of `GROWING`."""
    return [list(sides) for sides in GROWING] if config.grow else [crop_sides(config)]


def onecycle(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """The document's OneCycleLR.

    It is planned over `epochs + 2` epochs. The warm-up does not step it, so training stops two epochs before its end.
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs + 2,
        pct_start=0.3,
        div_factor=10,
        final_div_factor=100,
    )


def drop_factor(config: TrainConfig, epoch: int) -> float:
    """Factor on the cycle's rate in main epoch `epoch` (from 1): 1, and `lr_drop_factor` after `lr_drop_epoch`."""
    return config.lr_drop_factor if config.lr_drop_epoch and epoch > config.lr_drop_epoch else 1.0


def learning_rates(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    """The learning rate after each main epoch, as the training log prints it.

    OneCycleLR writes the rate at every step, so that a rate lowered once is back after one step (in the document's log:
    0.000705, "Lowering", 0.000627). Here the factor is applied after every step.

    Example:
        >>> rates = learning_rates(TrainConfig(lr_drop_epoch=None), steps_per_epoch=88)
        >>> [round(rate, 6) for rate in (rates[0], rates[7], rates[24])]
        [0.000134, 0.001, 2.8e-05]
    """
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=config.learning_rate)
    scheduler = onecycle(optimizer, config, steps_per_epoch)
    rates = []
    for epoch in range(1, config.epochs + 1):
        for _ in range(steps_per_epoch):
            optimizer.step()
            scheduler.step()
        rates.append(float(scheduler.get_last_lr()[0]) * drop_factor(config, epoch))
    return rates


def choose_device(name: str = "auto") -> torch.device:
    """The device with a name: "cpu", "cuda", "cuda:1" and so on, or "auto" for CUDA where there is a GPU, else the CPU.

    Raises:
        ValueError: an unknown name, or CUDA without a CUDA device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            "no CUDA device is available; use --device cpu, or install a CUDA build of PyTorch and a driver"
        )
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """True where the hardware computes bfloat16 itself instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()

"""`TrainConfig`: every setting of a training run, with its unit and reason, and the learning rates it plans; the device it runs on."""

import math
from dataclasses import asdict, dataclass, fields

import torch

SIZE_STEP = 32  # pixels; the network need not pad crops whose sides are multiples of it
# Pixels; sides of the crops of each stage of a run with `grow`: small ones first, which are seen more often in a time.
GROWING = ((96, 128), (192, 224, 256))


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the defaults are the document's numbers on our composite network."""

    # --- data ---
    image_size: int = 256  # pixels; side of the square crops, the document's size
    size_spread: int = 0  # pixels; the crops of a batch are up to this much smaller or larger, in steps of SIZE_STEP
    grow: bool = False  # crops of 96 and 128 pixels, in the last third of the time of 192 to 256; only with `hours`
    batch_size: int = 8  # photographs a step; what 6 GB of GPU memory hold. With `grow`, of `image_size`: a step has as
    # many pixels whatever the side
    max_photos: int | None = None  # photographs used at most; None: all there are
    workers: int = 0  # loader processes; 0 synthesises in the training process (same samples either way)
    photo_memory: float = 1000.0  # megabytes of training photographs that stay decoded from epoch to epoch; 0: none
    seed: int = 0  # keys the split, the initial weights, the order and every watermark
    sample_seed: int | None = (
        None  # keys order, crops and marks of training in place of `seed`, so that a run that goes
    )
    # on from another's weights sees new ones while the split stays; None: as `seed`
    # --- objective ---
    target: str = "reference"  # "reference": a second watermarked view (self-supervised); "clean": the photograph
    composite: bool = True  # blend the prediction into the input through the finest attention gate
    decompose: bool = False  # 245 more parameters for alpha and colour of the mark; inverts where it is translucent
    start: str = "scratch"  # "scratch": seeded weights; "shipped": the package's; or a run's folder, .pth, .safetensors
    pairs: bool = False  # train on both marked views of a photograph at once: what differs between them is the mark
    zoom: float = 1.0  # marks and photographs of training samples appear up to this many times larger
    sharp: float = 0.0  # share of zoomed training samples whose mark alone is larger: large marks over fine detail
    marks: str = "standard"  # of training samples, one of `MARKS`. "varied": more shapes, lattices and opaque marks;
    # "overlays": of these most as watermarking programs lay them, in one colour and one opacity; "web": more and larger
    # text, some of it on boxes; "full_web": every layout of the web beside all of these, many faint
    faces: str = "packaged"  # that training marks are set in: "packaged" and the system's; "installed": every installed
    # font package's and the system's, but for the kept-out families that networks are scored on
    collage: float = 0.0  # share of training samples made of several photographs, as large sheets look when shrunken
    degraded: float = 0.25  # share of training samples with blur or JPEG after marking, as on the web
    unmarked: float = 0.05  # share of training samples without a mark: a network that always finds one finds too many
    hard: float = 0.0  # share of training samples that are unmarked and look marked; `unmarked` is of the others
    hard_places: str | None = None  # JSON list of places of training photographs for half of `hard`; None: drawn scenes
    mask_weight: float = (
        10.0  # of the mask's cross-entropy; 0: none. At 1 the LAB term, ten times as large, keeps the gate shut
    )
    iou_weight: float = 0.0  # of 1 - IoU of the mask within the mask term (SLBR takes 0.25)
    coarse_gate_weight: float = 0.0  # of the mask terms of the two coarser gates, as a share of the finest one's
    # (PatchWiper takes 0.5); 0: none. Gates of weights that were trained without it are far from masks: at 0.5 it begins
    # at 80, eighteen times the rest, and the clipped gradient is its own
    mark_weight: float = 1.0  # of the L1 of alpha and colour against the drawn mark; only with `decompose`
    faint_weight: float = 0.0  # how many times more alpha and colour count where the mark is faint; see `mark_loss`
    l1_weight: float = 0.0  # of L1 over all pixels, beside the masked L1 of weight 1
    alpha: float = 0.3  # weight of the perceptual (VGG16) loss
    beta: float = 0.3  # weight of the LAB loss
    gamma: float = 0.4  # weight of 1 - SSIM
    delta: float = 0.1  # weight of the Laplacian loss
    perceptual_weights: str = "imagenet"  # "imagenet", "random", or a safetensors slice
    # --- schedule ---
    hours: float | None = None  # of steps and validation; the rate then follows this clock (`clock_rate`), not epochs
    validate_minutes: float = 10.0  # of that clock between validations; at the end of a pass over the photographs
    validation_photos: int = 32  # photographs validated on with `hours`, and of each kind of mark in its table
    optimizer: str = "adamw"  # or "soap", which needs the package pytorch-optimizer; measured best at a rate of 3e-4
    epochs: int = 25  # main epochs, after the warm-up
    learning_rate: float = 1e-3  # peak of OneCycleLR; with `hours` the rate that is held
    weight_decay: float = 1e-5  # decoupled
    warmup_epochs: int = 2  # epochs at a constant rate before the cycle
    warmup_learning_rate: float = 1e-4  # rate of the warm-up's own AdamW
    lr_drop_epoch: int | None = (
        15  # main epoch after which the rate is multiplied by `lr_drop_factor`; None or 0: never
    )
    lr_drop_factor: float = 0.1  # the document's "10x drop"
    early_stop_patience: int = 7  # epochs without a better validation loss before training halts
    ema: float = 0.0  # decay a step of averaged weights, which are then validated and kept (0.999); 0: none
    ema_half_life: float = 0.0  # steps after which a weight counts half in the average; in place of `ema`; 0: as `ema`
    keep: str = "best"  # "best" validation loss; "last": what the end of the cycle gives, where training samples differ
    clip_norm: float = 1.0  # largest norm of the unscaled gradient; tames the first steps
    # --- machine ---
    amp: str = "auto"  # "auto", "bf16", "fp16" or "off"; auto takes bf16 where the hardware has it, fp16 on other GPUs
    compile: bool | str = False  # torch.compile; a minute at the start, worth it on long GPU runs. "auto": if faster

    def __post_init__(self):
        choices = {"target": ("reference", "clean"), "keep": ("best", "last"), "amp": ("auto", "bf16", "fp16", "off")}
        choices |= {"marks": ("standard", "varied", "overlays", "web", "full_web"), "faces": ("packaged", "installed")}
        choices |= {"optimizer": ("adamw", "soap"), "compile": (False, True, "auto")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        whole = {"batch_size": 1, "epochs": 1, "early_stop_patience": 1, "image_size": 32}
        whole |= {"workers": 0, "seed": 0, "warmup_epochs": 0, "size_spread": 0, "validation_photos": 1}
        whole |= {name: 0 for name in ("lr_drop_epoch", "max_photos", "sample_seed") if getattr(self, name) is not None}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        positive = ["learning_rate", "warmup_learning_rate", "clip_norm", "lr_drop_factor", "validate_minutes"]
        for name in [*positive, *(["hours"] if self.hours is not None else [])]:
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        weights = [f"{name}_weight" for name in ("l1", "mask", "iou", "mark", "faint", "coarse_gate")]
        for name in ("weight_decay", "photo_memory", "ema_half_life", "alpha", "beta", "gamma", "delta", *weights):
            if not (_is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be a number of at least 0, got {getattr(self, name)!r}")

        if not (_is_number(self.zoom) and 1 <= self.zoom <= 8):
            raise ValueError(f"zoom must be a number from 1 to 8, got {self.zoom!r}")
        for name in ("collage", "degraded", "unmarked", "hard", "sharp"):
            if not (_is_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1):
                raise ValueError(f"{name} must be a number from 0 to 1, got {getattr(self, name)!r}")
        if self.size_spread > self.image_size - SIZE_STEP:
            raise ValueError(f"size_spread must leave crops of {SIZE_STEP} pixels, got {self.size_spread!r}")
        if not (_is_number(self.ema) and 0 <= self.ema < 1):
            raise ValueError(f"ema must be a number of at least 0 and below 1, got {self.ema!r}")
        if self.ema and self.ema_half_life:
            raise ValueError("give ema or ema_half_life, not both")
        if self.decompose and not self.composite:
            raise ValueError("decompose needs composite=True")
        if self.grow and (self.hours is None or self.size_spread):
            raise ValueError("grow needs hours, and takes the place of size_spread")

    @property
    def ema_decay(self) -> float:
        """What the average keeps of itself at each step; 0: there is no average.

        Example:
            >>> round(TrainConfig(ema_half_life=1000).ema_decay ** 1000, 6)
            0.5
        """
        return 0.5 ** (1.0 / self.ema_half_life) if self.ema_half_life else self.ema

    def to_dict(self) -> dict:
        """Plain values for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """The inverse of `to_dict`, for older runs too; an unknown name is an error that names it."""
        if "init" in values:  # the name of `start` up to version 0.1, with None for "scratch"
            values = dict(values)
            values["start"] = values.pop("init") or "scratch"
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        return cls(**values)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# The document's text to the letter: direct image, no mask term, a second watermarked view as the target.
DOCUMENT_RECIPE = TrainConfig(composite=False, mask_weight=0.0)


def crop_sides(config: TrainConfig) -> list[int]:
    """The sides of square training crops, pixels: `image_size`, and with `size_spread` others around it."""
    steps = config.size_spread // SIZE_STEP
    return [config.image_size + SIZE_STEP * step for step in range(-steps, steps + 1)]


def crop_stages(config: TrainConfig) -> list[list[int]]:
    """The sides of training crops in each stage of a run, pixels: one stage, or with `grow` the two of `GROWING`."""
    return [list(sides) for sides in GROWING] if config.grow else [crop_sides(config)]


def onecycle(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int):
    """The document's OneCycleLR: spread over `epochs + 2` although the warm-up never steps it, so it stops short of its end."""
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
    """What the cycle's rate is multiplied by in main epoch `epoch` (1-based): `lr_drop_factor` once it is past `lr_drop_epoch`."""
    return config.lr_drop_factor if config.lr_drop_epoch and epoch > config.lr_drop_epoch else 1.0


def learning_rates(config: TrainConfig, steps_per_epoch: int) -> list[float]:
    """The rate after each main epoch, as the training log prints it.

    OneCycleLR rewrites the rate at every step, so a rate lowered by hand once is back one step later (in
    the document's log: 0.000705, "Lowering", 0.000627). Here the factor is applied after every step.

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
        rates.append(scheduler.get_last_lr()[0] * drop_factor(config, epoch))
    return rates


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA where it is.

    Raises:
        ValueError: an unknown name, or CUDA is asked for and not there.
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
    """Whether the hardware computes bfloat16 itself, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()

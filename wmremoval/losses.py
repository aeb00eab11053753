"""`ColorAwareLoss` and its five terms, the terms of the mask and the mark, and the frozen VGG16 features."""

import warnings
from collections.abc import Callable
from pathlib import Path

import kornia
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wmremoval.files import atomic_path, downloading, first_line
from wmremoval.metrics import ssim

VGG_CONVOLUTIONS = {  # layer number in torchvision's vgg16().features: channels in, channels out
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
}
VGG_POOLS = (4, 9)  # layer numbers of the poolings
VGG_LENGTH = 16  # number of layers up to the ReLU after conv3_3
FAINT_BELOW = 0.4  # alpha; below it, alpha and colour are predicted worst (the measurement was not kept)
Total = Callable[[Tensor], Tensor]  # sums of a batch to those of a larger one, of which it is a part
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB in [0, 1], from torchvision


def as_they_are(sums: Tensor) -> Tensor:
    """The `Total` of a batch that is no part of a larger one."""
    return sums


def masked_l1_loss(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error inside the mask: sum(M |P - T|) / (3 sum(M)) per image, averaged over the batch.

    An image with an empty mask counts as 0.

    Args:
        pred, target: (B, 3, H, W), RGB in [0, 1].
        mask: (B, 1, H, W), 1 inside the watermark; None counts every pixel.

    Example:
        >>> pred, mask = torch.full((1, 3, 2, 2), 0.5), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> masked_l1_loss(pred, torch.zeros(1, 3, 2, 2), mask).item()
        0.5
    """
    return _masked_mean((pred - target).abs(), mask)


def lab_loss(pred: Tensor, target: Tensor) -> Tensor:
    """0.7 L1 of lightness + 0.3 L1 of the two colour channels, in CIELAB units (L 0..100, a and b -128..127).

    Args:
        pred, target: (B, 3, H, W), RGB; values are clipped to [0, 1].
    """
    return lab_map(pred, target).mean()


def lab_map(pred: Tensor, target: Tensor) -> Tensor:
    """The difference of each pixel whose mean is `lab_loss`, (B, 1, H, W)."""
    pred_lab, target_lab = (kornia.color.rgb_to_lab(x.clamp(0, 1)) for x in (pred, target))
    difference = (pred_lab - target_lab).abs()  # (B, 3, H, W)
    return 0.7 * difference[:, :1] + 0.3 * difference[:, 1:].mean(dim=1, keepdim=True)


def laplacian_loss(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """L1 between edge maps: kornia's 3x3 Laplacian, normalised to a sum of 1 of its absolute weights.

    Args: as for `masked_l1_loss`.
    """
    return _masked_mean(edge_map(pred, target), mask)


def edge_map(pred: Tensor, target: Tensor) -> Tensor:
    """The difference of the edges of each pixel, whose mean is `laplacian_loss`, (B, 3, H, W)."""
    edges = (kornia.filters.laplacian(x, kernel_size=3, normalized=True) for x in (pred, target))
    return (next(edges) - next(edges)).abs()


def perceptual_loss(features: nn.Module, pred: Tensor, target: Tensor) -> Tensor:
    """L1 between the features of both images (Johnson et al. 2016, with L1 instead of the squared norm).

    Args:
        features: the feature extractor; no gradient flows through the features of `target`.
        pred, target: (B, 3, H, W), RGB in [0, 1].
    """
    with torch.no_grad():
        wanted = features(target)
    return F.l1_loss(features(pred), wanted)


def mask_bce_loss(mask_logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits and mask, both (B, 1, H, W).

    Computed from logits in float32, since a saturated half-precision sigmoid has no gradient.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(mask_logits.float(), mask.float())


def mask_iou_loss(mask_logits: Tensor, mask: Tensor, total: Total = as_they_are) -> Tensor:
    """1 - soft IoU of mask logits and mask, both (B, 1, H, W), summed over the whole batch.

    After SLBR (arXiv 2108.03581, section 3.4).

    Args:
        mask_logits, mask: of the batch.
        total: adds up the sums of several processes before they are divided.
    """
    pred, mask = torch.sigmoid(mask_logits.float()), mask.float()
    both, found, marked = total(torch.stack([(pred * mask).sum(), pred.sum(), mask.sum()]))
    return 1.0 - (both + 1.0) / (found + marked - both + 1.0)


def coarse_mask_loss(logits: Tensor, mask: Tensor, iou_weight: float = 0.0, total: Total = as_they_are) -> Tensor:
    """Cross-entropy, and optionally 1 - IoU, of a coarse attention gate against the max-pooled mask.

    Max pooling keeps thin strokes: a stroke of one pixel fills at most half of a coarse pixel, and a gate trained on
    the mean would weaken the features of the thinnest marks.

    Args:
        logits: logits of the gate, (B, 1, h, w).
        mask: (B, 1, H, W) in [0, 1]; H and W are multiples of h and w.
        iou_weight: weight of `mask_iou_loss`; the cross-entropy has weight 1.
        total: see `mask_iou_loss`.
    """
    pooled = F.adaptive_max_pool2d(mask.float(), logits.shape[-2:])  # (B, 1, h, w)
    bce = mask_bce_loss(logits, pooled)
    return bce + iou_weight * mask_iou_loss(logits, pooled, total) if iou_weight else bce


def mark_loss(
    alpha: Tensor,
    colour: Tensor,
    true_alpha: Tensor,
    true_colour: Tensor,
    plain: Tensor | None = None,
    faint: float = 0.0,
    total: Total = as_they_are,
) -> Tensor:
    """Sum of three L1 means: of alpha inside the mark, of alpha outside, and of the colour weighted by the true alpha.

    Args:
        alpha, true_alpha: (B, 1, H, W) in [0, 1].
        colour, true_colour: (B, 3, H, W), RGB in [0, 1].
        plain: (B, 1, 1, 1), 0 for samples to be left out because their true alpha and colour do not explain the
            watermarked image, else 1; None uses all samples.
        faint: extra weight of faint pixels: the weight falls linearly from 1 + `faint` at an alpha of 0 to 1 at
            `FAINT_BELOW`. The largest alpha of the 5 x 5 neighbourhood counts, so that the soft edges of strong marks
            do not count as faint.
        total: see `mask_iou_loss`.
    """
    marked = (true_alpha > 0).float()
    outside, weight = 1.0 - marked, marked
    if faint:
        strongest = F.max_pool2d(true_alpha, 5, stride=1, padding=2)
        weight = weight * (1.0 + faint * (1.0 - strongest / FAINT_BELOW).clamp_min(0.0))
    if plain is not None:
        weight, outside = weight * plain, outside * plain
    error = (alpha - true_alpha).abs()
    colour_error = (colour - true_colour).abs().mean(dim=1, keepdim=True)  # (B, 1, H, W)
    by_alpha = weight * true_alpha
    pairs = ((weight, error), (outside, error), (by_alpha, colour_error))
    sums = total(torch.stack([x.sum() for each, wrong in pairs for x in (each * wrong, each)]))
    inside, outside, weighted = (
        sums[2 * i] / sums[2 * i + 1].clamp_min(least) for i, least in enumerate((1.0, 1.0, 1e-3))
    )
    return inside + outside + weighted


def _masked_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return error.mean()
    inside = (error * mask).sum(dim=(1, 2, 3))  # (B,)
    count = mask.sum(dim=(1, 2, 3)) * error.shape[1]
    return (inside / count.clamp_min(1.0)).mean()


class VGG16Features(nn.Module):
    """Frozen VGG16 from conv1_1 to the ReLU after conv3_3, ImageNet normalisation included; 1,735,488 parameters.

    Layers have the numbers of `torchvision.models.vgg16().features[:16]`, so that its weights load by name
    (Simonyan and Zisserman 2014, arXiv 1409.1556).
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*(self._layer(i) for i in range(VGG_LENGTH)))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    @staticmethod
    def _layer(i: int) -> nn.Module:
        if i in VGG_CONVOLUTIONS:
            return nn.Conv2d(*VGG_CONVOLUTIONS[i], 3, padding=1)
        return nn.MaxPool2d(2) if i in VGG_POOLS else nn.ReLU(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to (B, 256, H/4, W/4)."""
        return self.features((image - self.mean) / self.std)


def vgg_cache() -> Path:
    """The file of the downloaded slice, beside torchvision's weights in the user's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "vgg16_relu3_3.safetensors"


def load_vgg(perceptual_weights: str | Path, seed: int = 0) -> tuple[VGG16Features, str]:
    """Build the VGG16 features.

    Args:
        perceptual_weights: "imagenet" (the cached slice, or else torchvision's download), "random" (He
            initialisation from `seed`), or the path of a safetensors file with the slice.
        seed: seed of random weights.

    Returns:
        the features, and the source of their weights for the reports: "imagenet", "random", a file name, or
        "random (download failed: ...)". A failed download also gives a warning.

    Raises:
        ValueError: the file is missing or does not contain the slice.
    """
    vgg = VGG16Features()
    if str(perceptual_weights) == "random":
        return _randomise(vgg, seed), "random"
    if str(perceptual_weights) != "imagenet":
        path = Path(perceptual_weights).expanduser()
        return _load_slice(vgg, path), path.name
    try:
        if not vgg_cache().exists():
            with downloading():
                _download_slice(vgg_cache())
    except ConnectionError as error:
        warnings.warn(
            f"VGG16 weights could not be downloaded ({error}); the perceptual loss uses seeded random features instead",
            stacklevel=2,
        )
        return _randomise(vgg, seed), f"random (download failed: {error})"
    return _load_slice(vgg, vgg_cache()), "imagenet"


def _load_slice(vgg: VGG16Features, path: Path) -> VGG16Features:
    if not path.is_file():
        raise ValueError(f"perceptual weights {path} not found; give a safetensors file, 'imagenet' or 'random'")
    try:
        vgg.features.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} does not hold VGG16 conv1_1 to conv3_3 ({first_line(error)}); delete or replace it"
        ) from None
    return vgg


def _download_slice(destination: Path) -> None:
    """Download torchvision's VGG16 (528 MB) and keep the 7 MB of the first layers."""
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    with atomic_path(destination) as part:
        whole = part.with_suffix(".download")
        try:
            torch.hub.download_url_to_file(url, str(whole), hash_prefix=url.rsplit("-", 1)[1].split(".")[0])
            state = torch.load(whole, map_location="cpu", weights_only=True)
        finally:
            whole.unlink(missing_ok=True)
        names = VGG16Features().features.state_dict()
        save_file({name: state[f"features.{name}"].contiguous() for name in names}, part)


def _randomise(vgg: VGG16Features, seed: int) -> VGG16Features:
    generator = torch.Generator().manual_seed(seed)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return vgg


class ColorAwareLoss(nn.Module):
    """Masked L1 + alpha * perceptual + beta * LAB + gamma * (1 - SSIM) + delta * Laplacian.

    Args:
        alpha, beta, gamma, delta: weights of the perceptual, LAB, SSIM and Laplacian terms.
        perceptual_weights, seed: see `load_vgg`. The attribute `perceptual_source` names the source of the weights.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.3,
        gamma: float = 0.4,
        delta: float = 0.1,
        perceptual_weights: str | Path = "imagenet",
        seed: int = 0,
    ):
        super().__init__()
        self.alpha, self.beta, self.gamma, self.delta = alpha, beta, gamma, delta
        self.vgg, self.perceptual_source = load_vgg(perceptual_weights, seed)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term in the total."""
        return {
            "masked_l1": 1.0,
            "perceptual": self.alpha,
            "lab": self.beta,
            "ssim": self.gamma,
            "laplacian": self.delta,
        }

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare restored images with their targets; always in float32, also under autocast.

        Args:
            pred, target: (B, 3, H, W), RGB in [0, 1].
            mask: (B, 1, H, W), 1 inside the watermark; limits masked L1 and Laplacian to it. None uses every pixel.

        Returns:
            the total, and its terms by name; the terms are weighted and detached, and their sum is the total.

        Raises:
            ValueError: the shapes do not fit; PyTorch would broadcast them.
        """
        if pred.shape != target.shape or (mask is not None and mask.shape != target[:, :1].shape):
            shapes = [tuple(x.shape) for x in (pred, target, mask) if x is not None]
            raise ValueError(f"pred, target and mask must be (B, 3, H, W) twice and (B, 1, H, W), got {shapes}")
        with torch.autocast(pred.device.type, enabled=False):
            pred, target = pred.float(), target.float()
            mask = None if mask is None else mask.float()
            terms = {
                "masked_l1": masked_l1_loss(pred, target, mask),
                # Takes half the time of a training step on a CPU, so it is skipped if its weight is 0.
                "perceptual": perceptual_loss(self.vgg, pred, target) if self.alpha else pred.new_zeros(()),
                "lab": lab_loss(pred, target),
                "ssim": 1.0 - ssim(pred, target).mean(),
                "laplacian": laplacian_loss(pred, target, mask),
            }
            terms = {name: self.weights[name] * term for name, term in terms.items()}
            return sum(terms.values(), start=pred.new_zeros(())), {name: term.detach() for name, term in terms.items()}

"""PSNR, SSIM, RMSE, mask IoU and F1, and maps of PSNR and SSIM over the image."""

import kornia
import pytorch_msssim
import torch
import torch.nn.functional as F
from torch import Tensor

PSNR_CAP = 100.0  # dB; replaces infinity, the PSNR of an exact reproduction, wherever a finite number is needed


def _check(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
    if pred.ndim != 4 or pred.shape != target.shape:
        raise ValueError(
            f"expected two (B, C, H, W) tensors of one shape, got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    if mask is not None and (
        mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[::2] + mask.shape[3:] != pred.shape[::2] + pred.shape[3:]
    ):
        raise ValueError(f"expected a (B, 1, H, W) mask for {tuple(pred.shape)}, got {tuple(mask.shape)}")


def mse(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each image.

    Args:
        pred, target: images, (B, C, H, W).
        mask: if given, (B, 1, H, W) with 1 inside the watermark; only those pixels count.

    Returns:
        (B,); NaN for an empty mask.

    Raises:
        ValueError: the shapes do not fit.
    """
    _check(pred, target, mask)
    squared = (pred.float() - target.float()).square()
    if mask is None:
        return squared.mean(dim=(1, 2, 3))
    weight = mask.float()
    return (squared * weight).sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) * pred.shape[1])


def psnr(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image, in dB.

    PSNR = -10 log10(MSE) for images in [0, 1]. The score of a set is the mean of these per-image values, which
    differs from the PSNR of the pooled error.

    Args:
        pred: restored images, (B, 3, H, W), RGB in [0, 1].
        target: clean images, same shape.
        mask: if given, (B, 1, H, W) with 1 inside the watermark; only those pixels count.

    Returns:
        (B,), dB; infinity for an image that is reproduced exactly, NaN for an empty mask.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> clean = torch.zeros(1, 3, 8, 8)
        >>> round(psnr(clean + 0.1, clean).item(), 2)
        20.0
    """
    return -10.0 * torch.log10(mse(pred, target, mask))


def rmse(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Root mean squared error of each image, (B,), in grey levels of 0..255; arguments as for `psnr`.

    Example:
        >>> clean = torch.zeros(1, 3, 8, 8)
        >>> round(rmse(clean + 0.1, clean).item(), 2)
        25.5
    """
    return 255.0 * mse(pred, target, mask).sqrt()


def ssim(pred: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, (B,); 1 for identical images.

    Wang et al. 2004, equation 13: 11 x 11 Gaussian window of sigma 1.5, no padding, mean over RGB. Always
    computed in float32, since the variances cancel in half precision.

    Args:
        pred, target: images, (B, 3, H, W), RGB in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    _check(pred, target)
    with torch.autocast(pred.device.type, enabled=False):
        return pytorch_msssim.ssim(pred.float(), target.float(), data_range=1.0, size_average=False)


def mask_iou(pred: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of masks (B, 1, H, W) binarised at 0.5, (B,); NaN if both masks are empty.

    Example:
        >>> mask_iou(torch.tensor([[[[1, 1, 0, 0]]]]), torch.tensor([[[[0, 1, 1, 0]]]])).item()
        0.3333333432674408
    """
    _check(pred, target)
    both, pred_area, target_area = _overlap(pred, target)
    return both / (pred_area + target_area - both)


def mask_f1(pred: Tensor, target: Tensor) -> Tensor:
    """F1 score (Dice) of masks (B, 1, H, W) binarised at 0.5, (B,); NaN if both masks are empty.

    Example:
        >>> mask_f1(torch.tensor([[[[1, 1, 0, 0]]]]), torch.tensor([[[[0, 1, 1, 0]]]])).item()
        0.5
    """
    _check(pred, target)
    both, pred_area, target_area = _overlap(pred, target)
    return 2 * both / (pred_area + target_area)


def _overlap(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pred, target = (pred > 0.5).flatten(1), (target > 0.5).flatten(1)
    return (pred & target).sum(1).float(), pred.sum(1).float(), target.sum(1).float()


def local_psnr_map(pred: Tensor, target: Tensor, window: int = 15) -> Tensor:
    """PSNR of the square window (`window` pixels) around every pixel, (B, 1, H, W), dB, at most `PSNR_CAP`."""
    _check(pred, target)
    squared = (pred.float() - target.float()).square().mean(1, keepdim=True)  # (B, 1, H, W)
    local = F.avg_pool2d(squared, window, stride=1, padding=window // 2, count_include_pad=False)
    return -10.0 * torch.log10(local.clamp_min(10 ** (-PSNR_CAP / 10)))


def local_ssim_map(pred: Tensor, target: Tensor, window: int = 11) -> Tensor:
    """SSIM of the Gaussian window around every pixel, (B, 1, H, W), mean over RGB.

    Both sides of the images must be at least `window` // 2 + 1.
    """
    _check(pred, target)
    with torch.autocast(pred.device.type, enabled=False):
        return kornia.metrics.ssim(pred.float(), target.float(), window_size=window).mean(1, keepdim=True)

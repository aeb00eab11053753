"""Throughput of a training: TFLOP/s of the network, and their share of the GPU's peak."""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from wmremoval.config import TrainConfig
from wmremoval.model import HeterogeneousUNet
from wmremoval.training.passes import Progress

# Peaks from NVIDIA's data sheets: dense half-precision TFLOP/s, without sparsity. The longest name that fits counts.
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "T4": 65.0,
    "V100": 125.0,
}


def throughput(config: TrainConfig, device: torch.device, progress: Progress, devices: int = 1) -> dict[str, float]:
    """The speed since the last row of the history, of `devices` such devices together.

    Returns:
        `tflops`, TFLOP/s of the network, and `peak_share`, in [0, 1], where the device's peak is known.
    """
    flops = sum(
        images * training_flops(config.composite, config.decompose, side) for side, images in progress.shown.items()
    )
    achieved = {"tflops": flops / max(progress.seconds, 1e-9) / 1e12}
    peak = peak_tflops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return achieved | ({"peak_share": achieved["tflops"] / (devices * peak)} if peak else {})


@cache
def training_flops(composite: bool, decompose: bool, image_size: int) -> int:
    """Floating-point operations of the network's forward and backward pass over one image; a multiply-add is two.

    Losses do not count, as in the model FLOPs utilisation of PaLM (arXiv 2204.02311, appendix B).

    Args:
        composite: form of the network.
        decompose: form of the network.
        image_size: side of the square image, pixels.
    """
    with torch.device("meta"):  # shapes only: nothing is computed
        net = HeterogeneousUNet(composite, decompose)
        image = torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        parts = net.parts(image)
        sum((part.sum() for part in parts if isinstance(part, torch.Tensor)), start=image.new_zeros(())).backward()
    return counter.get_total_flops()


def peak_tflops(name: str) -> float | None:
    """The half-precision peak of a GPU by its name, TFLOP/s; None for a GPU that is not in `PEAK_TFLOPS`.

    Example:
        >>> peak_tflops("NVIDIA H100 PCIe"), peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("unheard of")
        (756.0, 989.0, None)
    """
    words = f" {name.replace('-', ' ')} "
    fitting = [known for known in PEAK_TFLOPS if f" {known} " in words]
    return PEAK_TFLOPS[max(fitting, key=len)] if fitting else None

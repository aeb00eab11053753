"""Where the network runs, and which half precision the hardware computes."""

import torch


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

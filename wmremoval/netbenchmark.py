"""How long the network takes on a CPU, beside its convolutions alone."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fastnet import FastNet
from .model import HeterogeneousUNet

Work = Callable[[], object]


def time_network(
    side: int = 512,
    repeats: int = 7,
    threads: int | None = None,
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
    compiled: bool = False,
) -> dict[str, float | str]:
    """Time `FastNet`, `HeterogeneousUNet` and the bare convolutions of either on one image, on the CPU.

    The convolutions are those of `HeterogeneousUNet`: each shape by itself, channels-last, in the same precision,
    without what lies between them. Their sum is the least that a network of these convolutions can be
    expected to take. All are measured in turn, once a round, and the fastest round of each counts. What the system
    takes to hand out memory counts on both sides: glibc asks it anew for every result above 32 MB, up to a sixth of
    the time in float32; `MALLOC_TOP_PAD_`, `MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_` above 600 MB avoid it.

    Args:
        side: of the square image, px.
        repeats: rounds, at least 1; one more is run first and not counted.
        threads: of PyTorch; None leaves their number as it is.
        dtype: of weights and maps; the `HeterogeneousUNet` runs under autocast if it is not float32.
        window: as of `FastNet`.
        compiled: if True, `torch.compile` of the `FastNet` is timed too; it takes a C++ compiler, and minutes.

    Returns:
        milliseconds, GFLOP a second of the convolutions, and "forward / convolutions", the ratio that tells how much
        everything but the convolutions costs. "compiling failed" holds the reason, if it did.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.inference_mode():
            return _time_network(side, repeats, dtype, window, compiled)
    finally:
        torch.set_num_threads(before)


def _time_network(
    side: int, repeats: int, dtype: torch.dtype, window: int | None, compiled: bool
) -> dict[str, float | str]:
    net = HeterogeneousUNet(composite=True, decompose=True).eval().to(memory_format=torch.channels_last)
    fast = FastNet(net, window, dtype=dtype)
    image = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    convolutions, multiplications = bare_convolutions(net, image, dtype)

    def plain() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
            net.parts(image)

    works = {"forward, ms": lambda: fast.parts(image), "plain forward, ms": plain}
    about: dict[str, float | str] = {}
    if compiled:
        started = time.perf_counter()
        faster = torch.compile(fast)
        try:
            faster(image)
            works["compiled forward, ms"] = lambda: faster(image)
            about["compiling, s"] = time.perf_counter() - started
        except RuntimeError as error:  # TorchDynamo's and Inductor's errors are RuntimeErrors
            about["compiling failed"] = (str(error) or type(error).__name__).splitlines()[0]
    fastest = time_in_turn([*works.values(), *convolutions], repeats)
    times = dict(zip(works, fastest, strict=False))
    alone = sum(fastest[len(works) :])
    return {
        "side, px": float(side),
        "threads": float(torch.get_num_threads()),
        **times,
        "convolutions alone, ms": alone,
        "convolutions, GFLOP a second": 2e-6 * multiplications / alone,
        "forward / convolutions": times["forward, ms"] / alone,
        "plain forward / convolutions": times["plain forward, ms"] / alone,
        **about,
    }


def bare_convolutions(net: HeterogeneousUNet, image: Tensor, dtype: torch.dtype) -> tuple[list[Work], int]:
    """Every convolution and transpose convolution of a network as a call on random values of its shape.

    Args:
        net: in evaluation mode; it is left as it was.
        image: (B, 3, H, W).

    Returns:
        the calls, and how many multiplications they do together, borders included.
    """
    seen: list[tuple[nn.Module, torch.Size, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        # Every weight meets every position: of the output, or of the input of a transpose convolution.
        map_of = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        seen.append((layer, inputs[0].shape, layer.weight.numel() * map_of[:, 0].numel()))

    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    net.parts(image)
    for hook in hooks:
        hook.remove()
    maps = {s: torch.rand(s).to(dtype).contiguous(memory_format=torch.channels_last) for _, s, _ in seen}
    return [_bare(layer, maps[shape], dtype) for layer, shape, _ in seen], sum(count for _, _, count in seen)


def _bare(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Work:
    weight = layer.weight.detach().to(dtype, memory_format=torch.channels_last, copy=True)
    bias, stride, padding = layer.bias.detach().to(dtype), layer.stride, layer.padding
    convolve = torch.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else torch.conv2d
    return lambda: convolve(x, weight, bias, stride, padding)


def time_in_turn(works: list[Work], repeats: int) -> list[float]:
    """The fastest of `repeats` runs of each, milliseconds; one round before them is not counted."""
    fastest = [float("inf")] * len(works)
    for round_ in range(repeats + 1):
        for i, work in enumerate(works):
            started = time.perf_counter()
            work()
            if round_:
                fastest[i] = min(fastest[i], 1000.0 * (time.perf_counter() - started))
    return fastest

"""Activations that are not kept for the backward pass but computed again in it: less memory, more time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from wmremoval.model import DecoderStage, DoubleConv


def recompute_activations(net: nn.Module) -> None:
    """Let every stage of a network keep its input alone (Chen et al. 2016, arXiv 1604.06174)."""
    for stage in net.children():
        if isinstance(stage, (DoubleConv, DecoderStage)):
            stage.forward = partial(  # type: ignore[method-assign]  # of this one stage
                checkpoint,
                stage.forward,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing is drawn in a stage
                context_fn=partial(_contexts, stage),
            )


def _contexts(stage: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of the first and the second computation."""
    return nullcontext(), _statistics_kept(stage)


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Leave BatchNorm's running statistics alone: the first computation has updated them already."""
    layers = [layer for layer in stage.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked -= 1

"""The optimiser of a run by its name: AdamW as in the document, or SOAP."""

import torch
from torch import nn

from wmremoval.config import TrainConfig

SOAP_BETAS = (0.95, 0.95)  # decay of the moments and of the bases; the paper's values (arXiv 2409.11321, section 6)
SOAP_FREQUENCY = 10  # steps between updates of the bases; the paper's value, appendix A
# Largest side of a basis. All sides of this network's kernels are smaller; the largest is 288. Each side of a kernel has
# a basis of its own, 1.0 M numbers in all. Merged sides would need bases of up to 2592. On one core a step of eight views
# of 128 pixels takes 1.92 s with SOAP and 1.68 s with AdamW.
SOAP_LARGEST_BASIS = 512


def make_optimizer(config: TrainConfig, net: nn.Module, fused: bool) -> torch.optim.Optimizer:
    """AdamW or SOAP over all parameters at the run's rate.

    SOAP is Adam in the eigenbases of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321).

    Args:
        config: `optimizer`, `learning_rate`, `weight_decay`.
        net: the network to train.
        fused: True: AdamW runs as one kernel, on a GPU.

    Raises:
        ValueError: SOAP without the package pytorch-optimizer; one line with the command to install it.
    """
    parameters = list(net.parameters())
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
    try:
        from pytorch_optimizer import SOAP
    except ImportError:
        raise ValueError("optimizer soap needs the package pytorch-optimizer: pip install pytorch-optimizer") from None
    return SOAP(
        parameters,
        lr=config.learning_rate,
        betas=SOAP_BETAS,
        weight_decay=config.weight_decay,
        precondition_frequency=SOAP_FREQUENCY,
        max_precondition_dim=SOAP_LARGEST_BASIS,
    )

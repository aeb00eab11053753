"""The optimiser of a run by its name: AdamW, the document's, or SOAP."""

import torch
from torch import nn

from wmremoval.config import TrainConfig

SOAP_BETAS = (0.95, 0.95)  # of the moments and of the bases: the paper's (arXiv 2409.11321, section 6)
SOAP_FREQUENCY = 10  # steps between updates of the bases: the paper's, appendix A
# Largest side of a basis. All sides of this network's kernels are smaller (288 is the largest), and each side of a kernel
# has a basis of its own, 1.0 M numbers in all; merged sides would need bases of up to 2592. A step of eight views of 128
# pixels takes 1.92 s of a core with it and 1.68 s with AdamW.
SOAP_MOST = 512


def make_optimizer(config: TrainConfig, net: nn.Module, fused: bool) -> torch.optim.Optimizer:
    """AdamW or SOAP over all parameters at the run's rate.

    SOAP is Adam in the eigenbases of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321).

    Args:
        config: `optimizer`, `learning_rate`, `weight_decay`.
        net: what is trained.
        fused: whether AdamW runs as one kernel, on a GPU.

    Raises:
        ValueError: SOAP without the package pytorch-optimizer; one line that says how to install it.
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
        max_precondition_dim=SOAP_MOST,
    )

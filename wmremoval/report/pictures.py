"""The registry of a run's pictures: each is drawn, saved and returned by its file name."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from wmremoval.model import HeterogeneousUNet
from wmremoval.report import diagnostics, diagrams, plots
from wmremoval.report.ranking import ranked
from wmremoval.report.shared_mark import draw_shared_mark, share_one_mark
from wmremoval.report.style import save_figure
from wmremoval.restore.remover import Remover
from wmremoval.training.evaluate import loss_terms
from wmremoval.training.schedule import planned_rates
from wmremoval.training.trainer import Training


@dataclass
class RunPictures:
    """The pictures of a run.

    Args:
        training: network and loss.
        history: one row per epoch, from `fit`.
        batch: from `restore_samples`; with `compare.add_views` the remover stands beside the network.
        folder: the pictures are saved in its `visuals/`.
        scratch: history of `learn_from_scratch`; empty: the picture of it cannot be drawn.
        remover: of the run; None: the pictures of it cannot be drawn.
    """

    training: Training
    history: list[dict]
    batch: dict[str, Tensor]
    folder: str | Path
    scratch: list[dict] | tuple = ()
    remover: Remover | None = None

    @cached_property
    def net(self) -> HeterogeneousUNet:
        """A copy of the network on the CPU; the original stays on its device."""
        return copy.deepcopy(self.training.net).cpu().eval()

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the loss terms of the run."""
        return self.training.criterion.weights | {"mask_bce": self.training.config.mask_weight}

    def index(self, number: int) -> int:
        """Index of the photograph that a picture of one photograph shows; pictures with other numbers show others."""
        return number % len(self.batch["clean"])

    def sample(self, number: int, *names: str) -> list[Tensor]:
        """Entries of the batch for that photograph, each (1, C, H, W)."""
        return [self.batch[name][[self.index(number)]] for name in names]

    def names(self) -> list[str]:
        """The pictures that can be drawn with what is given."""
        left_out = {*(NEED_SCRATCH if not self.scratch else ()), *(NEED_REMOVER if self.remover is None else ())}
        return [name for name in PICTURES if name not in left_out]

    def show(self, name: str) -> Figure:
        """Draw a picture, save it, and return it.

        Raises:
            ValueError: no picture has this name.
        """
        if name not in PICTURES:
            raise ValueError(f"no picture {name}; there are {', '.join(PICTURES)}")
        figure = PICTURES[name](self)
        save_figure(figure, Path(self.folder) / "visuals" / name)
        return figure

    def save_all(self) -> list[Path]:
        """Draw and save all pictures; returns their paths."""
        for name in self.names():
            self.show(name)
        return [Path(self.folder) / "visuals" / name for name in self.names()]


def shared_mark(run: RunPictures) -> Figure:
    """The picture of one mark on many photographs, of a run with a remover."""
    assert run.remover is not None  # see `NEED_REMOVER`
    return draw_shared_mark(share_one_mark(run.remover))


# A function for each picture, by file name: the document's names, and ours.
PICTURES: dict[str, Callable[[RunPictures], Figure]] = {
    "Heterogeneous_U-Net_CNN_Arch.png": lambda run: diagrams.architecture(run.net),
    "lossfunctiondiagram.png": lambda run: diagrams.loss_diagram(run.loss_weights),
    "lossshares.png": lambda run: plots.loss_shares(loss_terms(run.training, run.batch)),
    "residualhistogram.png": lambda run: plots.residual_histogram(run.batch),
    "local_psnr_map.png": lambda run: plots.local_psnr_map(run.batch, run.index(0)),
    "local_ssim_map.png": lambda run: plots.local_ssim_map(run.batch, run.index(1)),
    "sidebysidecomp.png": lambda run: plots.side_by_side(run.batch, rows=6),
    "ranked.png": lambda run: ranked(run.batch),
    "watermarkresidual.png": lambda run: plots.watermark_residual(run.batch, run.index(2)),
    "TrainvallosspsnrProgress.png": lambda run: plots.training_progress(run.history),
    "fromscratch.png": lambda run: plots.from_scratch(run.history, list(run.scratch)),
    "watermarkattention.png": lambda run: diagnostics.watermark_attention(
        run.net, *run.sample(3, "watermarked", "mask")
    ),
    "batchprocessing.png": lambda run: plots.batch_processing(run.batch),
    "learningratescheduler.png": lambda run: plots.learning_rate(
        run.history, planned_rates(run.training.config, run.training.steps_per_epoch, run.history)
    ),
    "TrainLossPSNRSSIMplots.png": lambda run: plots.loss_psnr_ssim(run.history),
    "reserror.png": lambda run: plots.residual_error(run.batch, run.index(4)),
    "multlayeract.png": lambda run: diagnostics.multi_layer_activation(run.net, *run.sample(5, "watermarked")),
    "featactdecodefocus.png": lambda run: diagnostics.decoder_focus(run.net, *run.sample(6, "watermarked")),
    "kernels.png": lambda run: diagnostics.kernels(run.net),
    "gradients.png": lambda run: diagnostics.gradients(run.net, *run.sample(7, "watermarked", "clean")),
    "sharedmark.png": shared_mark,
}
NEED_SCRATCH, NEED_REMOVER = ("fromscratch.png",), ("sharedmark.png",)

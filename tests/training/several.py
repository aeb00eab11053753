"""What one of several processes does in the tests of distributed training; also run in the test's own process, alone.

Run as `several.py FOLDER`, in the environment that torchrun sets; FOLDER holds the pictures.
"""

import itertools
import sys
import time
from pathlib import Path

import torch
from small import CPU, TinyNet, make_loaders, settings, timeless
from torch import nn

from wmremoval.config import TrainConfig
from wmremoval.data.loaders import kinds_loader
from wmremoval.training import checkpoints, loop, passes, trainer
from wmremoval.training.distributed import ALONE, Group, processes
from wmremoval.training.evaluate import score_kinds
from wmremoval.training.loop import fit
from wmremoval.training.passes import run_epoch
from wmremoval.training.trainer import Training

# Every term that sums over the batch, and both views.
ALL_TERMS = {
    "decompose": True, "iou_weight": 0.25, "coarse_gate_weight": 0.5, "faint_weight": 2.0, "pairs": True,
    "l1_weight": 1.0, "target": "clean", "batch_size": 4, "warmup_epochs": 0, "learning_rate": 1e-4, "alpha": 0.0,
}  # fmt: skip
MEAN_TERMS = {"target": "clean", "batch_size": 4, "warmup_epochs": 0}
STOPPED = {"epochs": 3, "warmup_epochs": 1, "ema": 0.9, "batch_size": 2}
CLOCKED = {"hours": 40 / 3600, "validate_minutes": 10 / 60, "batch_size": 2, "ema_half_life": 3}


def frozen(net: nn.Module) -> None:
    """BatchNorm with its statistics as they are, in training too."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval().train = lambda mode=True, layer=layer: layer


def first_steps(pictures: list[Path], group: Group, steps: int, **changes) -> dict:
    """The losses of the first steps, with the first gradients and the last weights; batches of four and of one."""
    loaders = group.deal(make_loaders(pictures, 4))
    training = Training(settings(**changes), len(loaders["train"]), CPU, group)
    training.reset()
    frozen(training.net)
    gradients, losses, run = [], [], passes._run_batch
    training.optimizer.register_step_pre_hook(
        lambda *_: gradients.append([p.grad.clone() for p in training.net.parameters()]) if not gradients else None
    )

    def noted(*args):
        means, shape = run(*args)
        losses.append((means["loss"], means["grad_norm"], shape[0]))
        return means, shape

    passes._run_batch = noted
    try:
        for epoch in range(-(-steps // len(loaders["train"]))):
            run_epoch(training, loaders["train"], "x", epoch, training.optimizer)
    finally:
        passes._run_batch = run
    validation = run_epoch(training, loaders["val"], "val")
    return {"losses": losses[:steps], "gradients": gradients[0], "val": timeless([validation])[0]}


def kinds(pictures: list[Path], group: Group) -> dict:
    loaders = group.deal({"kinds": kinds_loader(pictures[5:6], TrainConfig(batch_size=4))})
    training = Training(settings(), 1, CPU)
    training.net.eval()
    return score_kinds(training.predict, loaders["kinds"], merged=group.merged)


def stopped_run(pictures: list[Path], folder: Path, group: Group, asks: int) -> dict:
    """A run in which only process `asks` is asked to end, after its fifth step."""
    count = itertools.count(1)
    loaders = group.deal(make_loaders(pictures))
    training = Training(settings(**STOPPED), 3, CPU, group)
    result = fit(training, loaders, folder, stop=lambda: next(count) == 5 and group.rank == asks)
    return {"stopped": result.stopped, "steps": next(count) - 1, "history": result.history}


def clocked_run(pictures: list[Path], folder: Path, group: Group) -> dict:
    """A run by the clock, which goes by seconds in the first process and stands still in the others."""
    now, monotonic, run = itertools.count(), time.monotonic, passes._run_batch
    time.monotonic = (lambda: float(next(now))) if group.leads else (lambda: 0.0)
    try:
        training = Training(settings(**CLOCKED), 3, CPU, group)
        result = fit(training, group.deal(make_loaders(pictures)), folder)
    finally:
        time.monotonic, passes._run_batch = monotonic, run
    return {"history": result.history, "seconds": training.schedule.clock.seconds, "passes": result.passes}


def agreements(group: Group) -> dict:
    """What each process gives differs; what it gets back does not."""
    return {
        "agree": group.agree(1.0 + group.rank, stop=group.rank == 1),
        "from_lead": group.from_lead(lambda: f"of {group.rank}"),
        "merged": group.merged({group.rank: "x"}),
    }


def work(folder: Path, group: Group) -> dict:
    pictures = sorted(folder.glob("*.png"))
    done = {
        "all terms": first_steps(pictures, group, 20, **ALL_TERMS),
        "in parts": first_steps(pictures, group, 4, **MEAN_TERMS, accumulate=2),
        "agreements": agreements(group),
    }
    trainer.HeterogeneousUNet = checkpoints.HeterogeneousUNet = TinyNet
    loop.SAVE_SECONDS = 0
    done["kinds"] = kinds(pictures, group)
    done["stopped"] = stopped_run(pictures, folder / "stopped", group, asks=1)
    done["clocked"] = clocked_run(pictures, folder / "clocked", group)
    return done


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes("auto") as (together, device):
        assert device == "cpu" and together is not ALONE
        torch.save(work(Path(sys.argv[1]), together), Path(sys.argv[1]) / f"{together.rank}.pt")

"""`Group`: the processes that train one network together, as `torchrun` starts them, and what they exchange."""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

logger = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(days=7)  # chosen: the first process scores and draws at the end, while the others wait
Result = TypeVar("Result")


class Part(NamedTuple):
    """The samples of one forward and backward pass: a process's share of a batch, or a part of the share."""

    batch: dict[str, Tensor]
    own: int  # samples of this process; 0: the batch is a stand-in, which counts nowhere
    together: int  # samples of all processes

    def smaller(self, count: int, world: int, rank: int) -> Iterator["Part"]:
        """Cut the share of process `rank` into `count` parts; each of the `world` processes has every `world`-th sample."""
        shares = [len(range(each, self.together, world)) for each in range(world)]
        for i in range(count):
            sizes = [len(range(i, share, count)) for share in shares]
            chosen = slice(i, None, count) if sizes[rank] else slice(0, 1)
            yield Part({name: x[chosen] for name, x in self.batch.items()}, sizes[rank], sum(sizes))


class DealtBatches(Sampler[list]):
    """The share of one process in every batch of an order: each `world`-th sample, from the `rank`-th on.

    All processes have the same number of batches. Where a short batch leaves a process nothing, it gets the first sample
    as a stand-in.

    Args:
        whole: the order of all batches, the same in every process.
        rank, world: number of the process, and of all.
    """

    def __init__(self, whole: Collection[list], rank: int, world: int):
        self.whole, self.rank, self.world = whole, rank, world

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[list]:
        return (batch[self.rank :: self.world] or batch[:1] for batch in self.whole)

    def sizes(self) -> list[int]:
        """The samples of each whole batch, of the pass that comes next."""
        return [len(batch) for batch in self.whole]


class Group:
    """The processes of a training; by default this process alone, for which every method does nothing or the obvious.

    Every process makes the same calls in the same order: all but `leads`, `deal`, `share` and `cut` may wait for the others.

    Args:
        rank: number of this process, from 0 on; the first one leads: its clock counts, and it alone writes.
        world: number of all processes.
    """

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world
        self._part: Part | None = None  # of the pass under way; see `counting`

    @property
    def leads(self) -> bool:
        """True in the process that writes."""
        return self.rank == 0

    def deal(self, loaders: dict[str, DataLoader]) -> dict[str, DataLoader]:
        """The loaders with this process's share of every batch; "test" stays whole, since the first process scores alone.

        Raises:
            ValueError: more processes than photographs in a batch.
        """
        if self.world == 1:
            return loaders
        return {name: each if name == "test" else self._share(each) for name, each in loaders.items()}

    def _share(self, loader: DataLoader) -> DataLoader:
        order: Any = loader.batch_sampler  # of samples in batches, with a length
        size = getattr(order, "batch_size", self.world)
        if size < self.world:
            raise ValueError(
                f"{self.world} processes cannot share a batch of {size}; raise --batch-size or start fewer"
            )
        return DataLoader(
            loader.dataset,
            batch_sampler=DealtBatches(order, self.rank, self.world),
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            persistent_workers=loader.persistent_workers,
            worker_init_fn=loader.worker_init_fn,
        )

    def sizes(self, loader: Iterable) -> Iterator[int] | None:
        """The samples of each whole batch of a dealt loader; None for a whole one, whose batches tell themselves."""
        order = getattr(loader, "batch_sampler", None)
        return iter(order.sizes()) if isinstance(order, DealtBatches) else None

    def share(self, batch: dict[str, Tensor], size: int | None = None) -> Part:
        """This process's share of a batch; `size` is that of the whole batch, None where nothing was dealt."""
        size = len(next(iter(batch.values()))) if size is None else size
        return Part(batch, len(range(self.rank, size, self.world)), size)

    def cut(self, share: Part, count: int) -> list[Part]:
        """Cut a share into at most `count` parts; all processes get the same number."""
        count = min(count, -(-share.together // self.world))
        return [share] if count == 1 else list(share.smaller(count, self.world, self.rank))

    @contextmanager
    def counting(self, part: Part) -> Iterator[None]:
        """Let `total` add up over all processes, for the losses of this part."""
        self._part = part
        try:
            yield
        finally:
            self._part = None

    def total(self, sums: Tensor) -> Tensor:
        """The sums over the parts of all processes; outside of `counting` the sums themselves.

        The gradient is that of this process's own sums. It is scaled, so that the gradient of a ratio of totals comes out
        right where a process weights its loss by its share of the samples and gradients are averaged; see `weight`.
        """
        if self.world == 1 or self._part is None:
            return sums
        part = self._part
        everyone = sums.detach().clone() if part.own else torch.zeros_like(sums)
        distributed.all_reduce(everyone)
        return everyone + part.together / part.own * (sums - sums.detach()) if part.own else everyone + 0.0 * sums

    def weight(self, part: Part, size: int) -> float:
        """Factor on the mean loss of a part, so that averaged gradients are those of a batch of `size` samples."""
        return self.world * part.own / size

    def means(self, means: dict[str, float], part: Part) -> dict[str, float]:
        """Means over the samples of all processes, from the means over each one's own."""
        if self.world == 1:
            return means
        own = [part.own * value for value in means.values()] if part.own else [0.0] * len(means)
        sums = torch.tensor(own, dtype=torch.float64)
        distributed.all_reduce(sums)
        return dict(zip(means, (sums / part.together).tolist(), strict=True))

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The seconds by the first process's clock, and whether any process wants to stop."""
        if self.world == 1:
            return seconds, stop
        said = torch.tensor([seconds if self.leads else 0.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(said)
        return said[0].item(), said[1].item() > 0

    def from_lead(self, make: Callable[[], Result]) -> Result:
        """The result of the first process, in every process; only the first calls `make`."""
        if self.world == 1:
            return make()
        made: list[Any] = [make() if self.leads else None]
        distributed.broadcast_object_list(made)
        return made[0]

    def merged(self, rows: dict) -> dict:
        """The entries of all processes."""
        if self.world == 1:
            return rows
        everyone: list[Any] = [None] * self.world
        distributed.all_gather_object(everyone, rows)
        return {key: value for each in everyone for key, value in each.items()}

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.world > 1:
            distributed.barrier()

    def replicate(self, net: nn.Module, forward: Callable, device: torch.device) -> Callable:
        """The forward pass of a network whose gradients are averaged over the processes.

        BatchNorm is synchronised on GPUs. On CPUs each process has the statistics of its own share, and those of the first
        are kept.
        """
        if self.world == 1:
            return forward
        on_gpu = device.type == "cuda"
        if on_gpu:  # pragma: no cover - needs a GPU
            nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return DistributedDataParallel(_Forward(net, forward), device_ids=[device] if on_gpu else None)

    def alone(self, forward: Any, last: bool) -> AbstractContextManager:
        """A context in which gradients are added up in this process; they are averaged after the last part."""
        return forward.no_sync() if self.world > 1 and not last else nullcontext()

    @torch.no_grad()
    def average_buffers(self, net: nn.Module) -> None:
        """Replace the network's floating-point buffers, such as BatchNorm statistics, by their means over the processes."""
        if self.world > 1:
            for buffer in (each for each in net.buffers() if each.is_floating_point()):
                distributed.all_reduce(buffer)
                buffer /= self.world

    @torch.no_grad()
    def share_buffers(self, net: nn.Module) -> None:
        """Give every process the network's buffers of the first one."""
        if self.world > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)

    def described(self, device: str) -> str:
        """The device as reports name it, with the number of processes."""
        return device if self.world == 1 else f"{self.world} x {device}"


class _Forward(nn.Module):
    """A network's forward pass as a module, as `DistributedDataParallel` takes it."""

    def __init__(self, net: nn.Module, forward: Callable):
        super().__init__()
        self.net, self.function = net, forward

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


ALONE = Group()


@contextmanager
def processes(device: str) -> Iterator[tuple[Group, str]]:
    """Join the processes that `torchrun` started: NCCL between GPUs, gloo between CPUs. Without `torchrun` nothing happens.

    Args:
        device: "auto", "cpu", "cuda" and so on.

    Yields:
        the group, and the name of this process's own device.

    Raises:
        ValueError: a GPU is named, or there are fewer GPUs than processes on this machine.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield ALONE, device
        return
    group = Group(int(os.environ["RANK"]), world)
    own = _own_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if own != "cpu" else "gloo", timeout=LONGEST_WAIT)
    before = logging.getLogger("wmremoval").level
    if not group.leads:
        logging.getLogger("wmremoval").setLevel(logging.WARNING)  # the first process speaks for all
    statistics = "synchronised" if own != "cpu" else "of each process's own share"
    logger.info(f"{world} processes train one network; BatchNorm statistics are {statistics}.")
    try:
        yield group, own
    finally:
        logging.getLogger("wmremoval").setLevel(before)
        distributed.destroy_process_group()


def _own_device(device: str) -> str:
    if ":" in device:
        raise ValueError(f"under torchrun each process takes a GPU of its own: give --device cuda, not {device}")
    if device == "cpu" or not torch.cuda.is_available():
        return device if device != "auto" else "cpu"
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise ValueError(f"{gpus} GPUs for more processes; start torchrun with --nproc-per-node={gpus}")
    torch.cuda.set_device(local)  # pragma: no cover - needs a GPU
    return f"cuda:{local}"  # pragma: no cover - needs a GPU

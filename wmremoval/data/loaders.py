"""Loaders of a run and their order of samples: from the parts of a split to batches."""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Sampler

from wmremoval.config import TrainConfig, crop_stages
from wmremoval.data.dataset import SampleConfig, WatermarkDataset, shrink_to
from wmremoval.data.fonts import load_fonts
from wmremoval.data.kinds import KIND_SIDE, KindsDataset, kind_configs
from wmremoval.data.logos import logos_by_part
from wmremoval.data.marks import MARKS
from wmremoval.data.photostore import PhotoStore
from wmremoval.data.places import read_places
from wmremoval.files import from_root


class EpochSampler(Sampler[int]):
    """A random order of the samples, keyed by (seed, epoch), so that a resumed run sees the order of an unbroken one.

    The first `dataset.skipped` samples are left out. The length is that of the whole order.
    """

    def __init__(self, dataset: WatermarkDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(_epoch_rng(self.dataset).permutation(len(self.dataset)).tolist()[self.dataset.skipped :])


class SizedBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (index, side) in the order of `EpochSampler`, with one random side for each batch.

    Seed, epoch and `dataset.stage` decide the sides and sizes of an epoch's batches; `dataset.skipped` does not.

    Args:
        dataset: of the samples.
        batch_size: samples in a batch; the last may have fewer.
        stages: sides that are drawn from, pixels, of each stage of a run, or of its only stage.
        full: side of the crops of a batch with `batch_size` samples, pixels. Batches of another side have about as many
            pixels, and at least one sample. A last batch with fewer samples is left out, since torch.compile would
            compile its shape anew. None: every batch has `batch_size` samples.
    """

    def __init__(
        self,
        dataset: WatermarkDataset,
        batch_size: int,
        stages: Sequence[int] | Sequence[Sequence[int]],
        full: int | None = None,
    ):
        self.order, self.batch_size, self.full = EpochSampler(dataset), batch_size, full
        self.stages: Sequence[Any] = stages if isinstance(stages[0], Sequence) else [stages]

    def __len__(self) -> int:
        return len(self._plan())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, start = iter(list(self.order)), 0
        for side, count in self._plan():
            start += count
            if start > self.order.dataset.skipped:
                yield [(index, side) for index in islice(order, count)]

    def _plan(self) -> list[tuple[int, int]]:
        """(side, samples) of every batch of the epoch."""
        dataset, left = self.order.dataset, len(self.order)
        plan: list[tuple[int, int]] = []
        sides = self.stages[dataset.stage]
        least = min(map(self._count, sides))
        for side in _epoch_rng(dataset).spawn(1)[0].choice(sides, -(-left // least)).tolist():
            count = min(self._count(side), left)
            if count == self._count(side) or (count and not (self.full and plan)):
                plan.append((side, count))
            left -= count
        return plan

    def _count(self, side: int) -> int:
        return max(1, round(self.batch_size * (self.full / side) ** 2)) if self.full else self.batch_size


def _epoch_rng(dataset: WatermarkDataset) -> np.random.Generator:
    return np.random.default_rng([dataset.config.seed, dataset.epoch])


def make_loader(
    dataset: WatermarkDataset,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    sides: Sequence[int] | Sequence[Sequence[int]] = (),
    full: int | None = None,
) -> DataLoader:
    """A loader of a dataset: shuffled in every epoch if it augments, in order if its samples are fixed.

    Args:
        dataset: of the samples.
        batch_size: samples in a batch.
        workers: loader processes; 0: the calling process makes the samples.
        pin_memory: for a GPU.
        sides: sides of augmented crops, pixels, or those of each stage, see `SizedBatches`. (): `image_size` of the
            dataset.
        full: pixels; see `SizedBatches`.
    """
    if sides and dataset.config.augment:
        order: dict[str, Any] = {"batch_sampler": SizedBatches(dataset, batch_size, sides, full)}
    else:
        order = {"batch_size": batch_size, "sampler": EpochSampler(dataset) if dataset.config.augment else None}
    return DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        **order,
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the loader processes use all cores; OpenCV's threads would compete with them


def make_loaders(
    split: dict[str, list[Path]],
    config: TrainConfig,
    logos: Mapping[str, Sequence[np.ndarray]] | None = None,
    system_fonts: bool = True,
    pin_memory: bool = False,
) -> dict[str, DataLoader]:
    """Loaders for "train" (random samples in the configured faces), "val" and "test" (fixed ones in packaged faces).

    In a run with `hours`, "val" has `validation_photos` photographs, and "kinds" shows them under every kind of mark.

    Args:
        split: photographs of each part.
        config: of the run.
        logos: of each part, as `logos_by_part` gives them.
        system_fonts: True: training marks use the system's fonts too.
        pin_memory: for a GPU.

    Raises:
        ValueError: `hard_places` is not a list of places in training photographs.
    """
    loaders = {}
    stages = crop_stages(config) if config.grow or config.size_spread else ()
    largest = max(chain.from_iterable(stages), default=0)
    for part, paths in split.items():
        training = part == "train"
        if part == "val" and config.hours:
            paths = paths[: config.validation_photos]
            loaders["kinds"] = kinds_loader(paths, config, logos[part] if logos else ())
        samples = sample_config(config, training)
        if training and config.hard_places:
            samples = replace(samples, hard_places=read_places(from_root(config.hard_places), paths))
        sides, full = (stages, config.image_size if config.grow else None) if training else ((), None)
        store = PhotoStore(shrink_to(samples, largest if training else 0), _own_memory(config) if training else 0)
        if config.workers and _forks():  # loader processes are forked later, and then share the photographs
            store.fill(paths)
        fonts = load_fonts(training and system_fonts, config.faces if training else "packaged")
        dataset = WatermarkDataset(paths, samples, fonts, logos[part] if logos else (), store)
        loaders[part] = make_loader(dataset, config.batch_size, config.workers, pin_memory, sides, full)
    return loaders


def _forks() -> bool:
    """True if loader processes share the memory of this one, as on Linux; on Windows and macOS each begins empty."""
    return multiprocessing.get_start_method() == "fork"


def _own_memory(config: TrainConfig) -> float:
    """Megabytes of decoded photographs that one process keeps."""
    return config.photo_memory if _forks() else config.photo_memory / max(1, config.workers)


def kinds_loader(paths: Sequence[Path], config: TrainConfig, logos: Sequence[np.ndarray] = ()) -> DataLoader:
    """A loader of fixed samples for `score_kinds`: every photograph under every kind of mark, in the kept-out faces."""
    fonts, store = load_fonts(faces="kept_out"), PhotoStore(2 * KIND_SIDE, config.photo_memory)
    datasets = {}
    for kind, marks in kind_configs(bool(len(logos))).items():
        samples = SampleConfig(image_size=KIND_SIDE, seed=config.seed, augment=False, marks=marks)
        datasets[kind] = WatermarkDataset(paths, samples, fonts, logos, store)
    return DataLoader(KindsDataset(datasets), config.batch_size)


def sample_config(config: TrainConfig, training: bool) -> SampleConfig:
    """The settings of a run's samples: random ones for training, fixed ones for validation and test."""
    if not training:
        return SampleConfig(image_size=config.image_size, seed=config.seed, augment=False)
    return SampleConfig(
        image_size=config.image_size,
        seed=config.seed if config.sample_seed is None else config.sample_seed,
        degraded=config.degraded,
        unmarked=config.unmarked,
        hard=config.hard,
        collage=config.collage,
        zoom=config.zoom,
        sharp=config.sharp,
        marks=MARKS[config.marks],
    )


def fixed_loader(paths: list[Path], config: TrainConfig, logos_dir: str | Path | None = None) -> DataLoader:
    """A loader of fixed samples, as validation and test have them; `logos_dir` gives the logos of the test."""
    logos = logos_by_part(logos_dir)["test"] if logos_dir else ()
    dataset = WatermarkDataset(paths, sample_config(config, training=False), logos=logos)
    return make_loader(dataset, config.batch_size, config.workers)

"""The order of samples and the loaders of a run: from the parts of a split to batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader, Sampler

from wmremoval.config import TrainConfig, crop_sides
from wmremoval.data.dataset import SampleConfig, WatermarkDataset, shrink_to
from wmremoval.data.fonts import load_fonts
from wmremoval.data.logos import logos_by_part
from wmremoval.data.marks import MARKS
from wmremoval.data.photostore import PhotoStore
from wmremoval.data.places import read_places
from wmremoval.files import from_root


class EpochSampler(Sampler[int]):
    """An order of the samples keyed by (seed, epoch), so that a resumed run sees what an unbroken one would.

    Those that it has seen, `dataset.skipped`, are left out; the length is that of the whole order.
    """

    def __init__(self, dataset: WatermarkDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(_epoch_rng(self.dataset).permutation(len(self.dataset)).tolist()[self.dataset.skipped :])


class SizedBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (index, side) in the order of `EpochSampler`: one side a batch, keyed by (seed, epoch) like the order.

    Args:
        dataset: what the indices are of.
        batch_size: samples a batch; the last may have fewer.
        sides: pixels, one of which is drawn for each batch.
    """

    def __init__(self, dataset: WatermarkDataset, batch_size: int, sides: Sequence[int]):
        self.order, self.batch_size, self.sides = EpochSampler(dataset), batch_size, sides

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(self.order)
        drawn = _epoch_rng(self.order.dataset).spawn(1)[0].choice(self.sides, len(self)).tolist()
        drawn = drawn[-(-self.order.dataset.skipped // self.batch_size) :]
        for start, side in zip(range(0, len(order), self.batch_size), drawn, strict=True):
            yield [(index, side) for index in order[start : start + self.batch_size]]


def _epoch_rng(dataset: WatermarkDataset) -> np.random.Generator:
    return np.random.default_rng([dataset.config.seed, dataset.epoch])


def make_loader(
    dataset: WatermarkDataset,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
    sides: Sequence[int] = (),
) -> DataLoader:
    """Batches of a dataset: shuffled by epoch if it augments, in order if its samples are fixed.

    Args:
        sides: pixels; of the crops of a dataset that augments, see `SizedBatches`. None: its own `image_size`.
    """
    if sides and dataset.config.augment:
        order = {"batch_sampler": SizedBatches(dataset, batch_size, sides)}
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
    cv2.setNumThreads(0)  # the processes are the parallelism; OpenCV's own threads would fight over the cores


def make_loaders(
    split: dict[str, list[Path]],
    config: TrainConfig,
    logos: Mapping[str, Sequence[np.ndarray]] | None = None,
    system_fonts: bool = True,
    pin_memory: bool = False,
) -> dict[str, DataLoader]:
    """Loaders for "train" (random, in the configured faces), "val" and "test" (fixed, packaged faces only).

    Args:
        split: photographs of each part.
        config: how they are marked, cut and put together.
        logos: of each part, as `logos_by_part` gives them.
        system_fonts: whether training marks are set in the system's fonts too.
        pin_memory: for a GPU.
    """
    loaders = {}
    for part, paths in split.items():
        training = part == "train"
        samples = sample_config(config, training)
        if training and config.hard_places:
            samples = replace(samples, places=read_places(from_root(config.hard_places), paths))
        sides = crop_sides(config) if config.size_spread and training else ()
        store = PhotoStore(shrink_to(samples, max(sides, default=0)), config.photo_memory if training else 0)
        if config.workers:  # before they are forked, so that they share it
            store.fill(paths)
        fonts = load_fonts(training and system_fonts, config.faces if training else "packaged")
        dataset = WatermarkDataset(paths, samples, fonts, logos[part] if logos else (), store)
        loaders[part] = make_loader(dataset, config.batch_size, config.workers, pin_memory, sides)
    return loaders


def sample_config(config: TrainConfig, training: bool) -> SampleConfig:
    """How the samples of a run are made: random ones to train on, or the fixed ones it is validated and tested on."""
    if not training:
        return SampleConfig(image_size=config.image_size, seed=config.seed, augment=False)
    return SampleConfig(
        image_size=config.image_size,
        seed=config.seed if config.sample_seed is None else config.sample_seed,
        degraded_share=config.degraded,
        unmarked_share=config.unmarked,
        hard_share=config.hard,
        collage_share=config.collage,
        zoom=config.zoom,
        sharp_share=config.sharp,
        watermarks=MARKS[config.marks],
    )


def fixed_loader(paths: list[Path], config: TrainConfig, logos_dir: str | Path | None = None):
    """Fixed samples of photographs as validation and test see them."""
    logos = logos_by_part(logos_dir)["test"] if logos_dir else ()
    dataset = WatermarkDataset(paths, sample_config(config, training=False), logos=logos)
    return make_loader(dataset, config.batch_size, config.workers)

"""Augment photographs and `WatermarkDataset`: from a file's path to a training sample."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wmremoval.data.fonts import FontBook, load_fonts
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_mark, draw_mode
from wmremoval.data.photostore import PhotoStore
from wmremoval.data.places import Place, view_place
from wmremoval.data.scenes import draw_scene
from wmremoval.images import read_image, to_tensor

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A

ZOOM_STEPS = 4
PLACE_SHARE = 0.5  # of hard samples, where places are known: views of them; the others are drawn scenes
FIXED = 2**31  # stands for the epoch in the random keys of fixed samples; no training run gets this far


@lru_cache(maxsize=4)
def get_augmentations(image_size: int = 256) -> A.Compose:
    """The document's pipeline: geometric, photometric, then noise and artefacts; (H, W, 3) uint8 in, square out.

    It changes the photograph before any mark is drawn, so its result is what "clean" means. Rare and mild
    where it destroys detail: a network asked to repaint noise learns to blur.
    """
    return A.Compose(
        [
            # geometric: crop, rotate, flip
            A.RandomResizedCrop(
                size=(image_size, image_size), scale=(0.3, 1.0), ratio=(0.8, 1.25), area_for_downscale="image"
            ),
            A.Rotate(limit=(-15, 15), border_mode=cv2.BORDER_REFLECT_101, p=0.2),
            A.HorizontalFlip(p=0.5),
            # photometric: jitter, greyscale, gamma
            A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.7, 1.3), hue=(-0.03, 0.03), p=0.4),
            A.ToGray(p=0.04),
            A.RandomGamma(gamma_limit=(75, 130), p=0.2),
            # noise and artefacts: blur, compression, rain, shadows, pixel dropout
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.0)),
                    A.ImageCompression(compression_type="jpeg", quality_range=(50, 95)),
                    A.GaussNoise(std_range=(0.01, 0.04)),
                    A.PixelDropout(dropout_prob=0.003, per_channel=False, drop_value=0),
                    A.RandomShadow(num_shadows_limit=(1, 2), shadow_intensity_range=(0.2, 0.5)),
                    A.RandomRain(
                        slant_range=(-10, 10), drop_length=12, drop_width=1, blur_value=3, brightness_coefficient=0.9
                    ),
                ],
                p=0.25,
            ),
        ]
    )


def resize_and_crop(image: np.ndarray, image_size: int) -> np.ndarray:
    """The deterministic view of validation and test: shorter side to `image_size`, centre crop."""
    height, width = image.shape[:2]
    scale = image_size / min(height, width)
    size = (max(image_size, round(width * scale)), max(image_size, round(height * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (image.shape[0] - image_size) // 2, (image.shape[1] - image_size) // 2
    return np.ascontiguousarray(image[top : top + image_size, left : left + image_size])


@dataclass(frozen=True)
class SampleConfig:
    """How a triplet is made from a photograph."""

    image_size: int = 256  # pixels; side of the square view
    seed: int = 0  # with epoch and index, the key of everything random
    augment: bool = True  # random views and marks, new every epoch; False: fixed ones
    fixed: bool = False  # augmented samples that are the same in every epoch, as the document tests on
    unmarked_share: float = 0.05  # of augmented samples: nothing to remove, nothing to be done
    hard_share: float = 0.0  # of augmented samples: unmarked and hard, beside the unmarked share of all others
    places: tuple[Place, ...] = ()  # of training photographs that a network took for marks
    degraded_share: float = 0.25  # of augmented samples: blur and JPEG after marking, as on the web
    collage_share: float = 0.0  # of augmented samples: several photographs beside each other, small as on a large sheet
    zoom: float = 1.0  # augmented samples are windows of a view up to this many times larger, marks and all
    sharp_share: float = 0.0  # of such windows: the mark alone is larger, the view whole, as sharp as large photographs
    watermarks: WatermarkConfig = WatermarkConfig()  # noqa: RUF009  frozen, so sharing it is safe


def shrink_to(config: SampleConfig, image_size: int = 0) -> int:
    """The size down to which JPEGs may be decoded smaller for samples of `config`, or of a larger `image_size`; pixels."""
    return 2 * round(max(image_size, config.image_size) * (config.zoom if config.augment else 1))


class WatermarkDataset(Dataset):
    """Photographs with synthetic watermarks, drawn anew for every (seed, epoch, index).

    Each item is a dict of float32 tensors: `watermarked` (wm_img1), `reference` (wm_img2, a second and
    independent mark on the same view) and `clean`, (3, H, W) RGB in [0, 1]; `mask` and `reference_mask`,
    (1, H, W), 1 where the mark changed the photograph; `alpha`, (1, H, W), and `colour`, (3, H, W), of the first mark,
    `reference_alpha` and `reference_colour` of the second; `plain` and `reference_plain`, (1, 1, 1), 0 where the
    mark was not laid by plain alpha, so that alpha and colour do not tell what it did.

    Args:
        paths: photographs.
        config: see `SampleConfig`.
        fonts: None loads the packaged faces, so that marks are the same on every machine.
        logos: (h, w, 4) RGBA uint8 arrays.
        store: what decodes the photographs, and may keep them; None: decoded for every sample.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: SampleConfig = SampleConfig(),
        fonts: FontBook | None = None,
        logos: Sequence[np.ndarray] = (),
        store: PhotoStore | None = None,
    ):
        self.paths, self.config, self.logos = [Path(path) for path in paths], config, logos
        self.store = PhotoStore(shrink_to(config), 0) if store is None else store
        self.fonts = load_fonts() if fonts is None else fonts
        self.skipped = 0  # samples at the head of an epoch's order that a resumed run has had already
        self.stage = 0  # of a run whose crops grow; see `SizedBatches`
        # In shared memory, so that loader processes that outlive an epoch see the next one begin.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """Which variation of the samples is given out; without effect on fixed samples."""
        return int(self._epoch.item())

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch[0] = value

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        """A sample by its index, or by (index, side in pixels) for a view of another size than `image_size`."""
        config = self.config
        index, size = key if isinstance(key, tuple) else (key, config.image_size)
        rng = np.random.default_rng([config.seed, self.epoch if config.augment and not config.fixed else FIXED, index])
        if config.augment and config.hard_share and rng.random() < config.hard_share:
            return self._blended(rng, *self._hard(index, size, rng))
        return self._blended(rng, *self._marked(index, size, rng))

    def _marked(self, index: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Mark, Mark]:
        """A view (size, size, 3) uint8 and two marks for it, of which the first may be empty."""
        config = self.config
        side = _view_side(rng, size, config.zoom) if config.augment and config.zoom > 1 else size
        sharp = config.sharp_share and side > size and rng.random() < config.sharp_share
        view = size if sharp else side
        clean = self.store[self.paths[index]]
        clean = self._augmented(clean, view, rng) if config.augment else resize_and_crop(clean, view)
        if config.augment and config.collage_share and rng.random() < config.collage_share:
            clean = self._collage(view, rng)
        first, second = self._mark(side, rng), self._mark(side, rng)
        if config.augment and rng.random() < config.unmarked_share:
            first = _without(first)
        if side > size:
            window = _window(rng, first.alpha, size)
            clean = clean if sharp else np.ascontiguousarray(clean[window])
            first, second = (Mark(mark.alpha[window], mark.colour[window]) for mark in (first, second))
        return clean, first, second

    def _hard(self, index: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Mark, Mark]:
        """A view that looks marked and is not: a place that a network was wrong about, or a scene; and two marks, the first empty."""
        places = self.config.places
        if places and rng.random() < PLACE_SHARE:
            place = places[rng.integers(len(places))]
            clean = view_place(rng, self.store[place.path], place, size)
        else:
            clean = draw_scene(rng, self._augmented(self.store[self.paths[index]], size, rng), self.fonts)
        second = self._mark(size, rng)
        return clean, _without(second), second

    def _blended(self, rng: np.random.Generator, clean: np.ndarray, first: Mark, second: Mark) -> dict[str, Tensor]:
        config = self.config
        modes = [draw_mode(rng, config.watermarks) for _ in range(2)]
        watermarked, mask = blend(clean, first, modes[0])
        reference, reference_mask = blend(clean, second, modes[1])
        alpha, reference_alpha = np.ascontiguousarray(first.alpha), np.ascontiguousarray(second.alpha)
        if config.augment and rng.random() < config.degraded_share:
            degrade, spread, soften = _degradation(rng)
            watermarked, reference, clean = (degrade(view) for view in (watermarked, reference, clean))
            mask, reference_mask = spread(mask), spread(reference_mask)
            alpha, reference_alpha = soften(alpha), soften(reference_alpha)
        taught = [mode == "normal" or not mark.alpha.any() for mode, mark in zip(modes, (first, second), strict=True)]
        plain, reference_plain = (torch.full((1, 1, 1), float(known)) for known in taught)
        return {
            "watermarked": to_tensor(watermarked),
            "reference": to_tensor(reference),
            "mask": torch.from_numpy(mask)[None].float(),
            "clean": to_tensor(clean),
            "alpha": torch.from_numpy(alpha)[None],
            "colour": torch.from_numpy(np.ascontiguousarray(first.colour.transpose(2, 0, 1))),
            "plain": plain,
            "reference_mask": torch.from_numpy(reference_mask)[None].float(),
            "reference_alpha": torch.from_numpy(reference_alpha)[None],
            "reference_colour": torch.from_numpy(np.ascontiguousarray(second.colour.transpose(2, 0, 1))),
            "reference_plain": reference_plain,
        }

    def _augmented(self, image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        transform = get_augmentations(side)
        transform.set_random_seed(int(rng.integers(2**31)))
        return transform(image=image)["image"]

    def _collage(self, side: int, rng: np.random.Generator) -> np.ndarray:
        """A square of n x n photographs of the set, n from 2 to 8, (side, side, 3) uint8."""
        n = int(rng.integers(2, 9))
        edges = np.linspace(0, side, n + 1).astype(int)
        sheet = np.empty((side, side, 3), np.uint8)
        for top, bottom in pairwise(edges):
            for left, right in pairwise(edges):
                path = self.paths[rng.integers(len(self.paths))]
                small = resize_and_crop(read_image(path, shrink_to=bottom - top), max(bottom - top, right - left))
                sheet[top:bottom, left:right] = small[: bottom - top, : right - left]
        return sheet

    def _mark(self, side: int, rng: np.random.Generator) -> Mark:
        return draw_mark(rng, side, side, self.fonts, self.logos, self.config.watermarks)


def _without(mark: Mark) -> Mark:
    """No mark, as large as the given one."""
    return Mark(np.zeros_like(mark.alpha), mark.colour)


def _view_side(rng: np.random.Generator, size: int, zoom: float) -> int:
    """Side of the view a window is cut from, pixels: one of four steps, so that few pipelines have to be built."""
    steps = np.geomspace(1.0, zoom, ZOOM_STEPS)
    return round(size * steps[rng.integers(ZOOM_STEPS)])


def _window(rng: np.random.Generator, alpha: np.ndarray, size: int) -> tuple[slice, slice]:
    """A square window of a view, around a random pixel of the mark, or anywhere if there is none."""
    height, width = alpha.shape
    marked = np.flatnonzero(alpha)
    if len(marked):
        y, x = divmod(int(marked[rng.integers(len(marked))]), width)
        y, x = (int(c - rng.uniform(0.15, 0.85) * size) for c in (y, x))
    else:
        y, x = int(rng.integers(height)), int(rng.integers(width))
    top, left = min(max(y, 0), height - size), min(max(x, 0), width - size)
    return slice(top, top + size), slice(left, left + size)


def _degradation(rng: np.random.Generator):
    """One blur or JPEG with its parameters drawn, to be applied to all views alike, and what it does to mask and alpha."""
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 0.7)
        reach = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
        blur = lambda view: cv2.GaussianBlur(view, (3, 3), sigma)  # noqa: E731
        return blur, (lambda mask: cv2.dilate(mask, reach)), blur
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
    # The channel order only decides which planes JPEG calls luma, so it has to be swapped.
    return (
        (lambda view: cv2.imdecode(cv2.imencode(".jpg", view[..., ::-1], options)[1], cv2.IMREAD_COLOR)[..., ::-1]),
        (lambda mask: mask),
        (lambda alpha: alpha),
    )

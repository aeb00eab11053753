"""`WatermarkDataset`: photographs are augmented, marked and degraded, from a file's path to a training sample."""

import os
from collections.abc import Callable, Sequence
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
from wmremoval.data.marks import Mark, WatermarkConfig, blend, draw_blend_mode, draw_mark
from wmremoval.data.photostore import PhotoStore
from wmremoval.data.places import Place, view_place
from wmremoval.data.scenes import draw_scene
from wmremoval.images import as_jpeg, read_image, to_tensor
from wmremoval.settings import check_settings, setting, share

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A

ZOOM_STEPS = 4  # view sizes of zoomed samples; each builds an augmentation pipeline of its own. Not measured.
PLACE_SHARE = 0.5  # share of hard samples that show a place of `hard_places`, if any; others are scenes. Not measured.
FIXED_EPOCH = 2**31  # epoch in the random keys of fixed samples; no training run reaches it


@lru_cache(maxsize=4)
def get_augmentations(image_size: int = 256) -> A.Compose:
    """The document's augmentations: geometric, photometric, then noise and artefacts.

    They change the photograph before a mark is drawn, so their result is the clean target. Operations that destroy
    detail are rare and mild, since a network that has to reproduce noise learns to blur.

    Args:
        image_size: side of the square result, pixels.

    Returns:
        a pipeline from (H, W, 3) RGB uint8 to (image_size, image_size, 3).
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
    """Scale the shorter side to `image_size` pixels and crop the centre: the fixed view of validation and test.

    Args:
        image: (H, W, 3) RGB uint8.
        image_size: side of the result, pixels.

    Returns:
        (image_size, image_size, 3) uint8.
    """
    height, width = image.shape[:2]
    scale = image_size / min(height, width)
    size = (max(image_size, round(width * scale)), max(image_size, round(height * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (image.shape[0] - image_size) // 2, (image.shape[1] - image_size) // 2
    return np.ascontiguousarray(image[top : top + image_size, left : left + image_size])


@dataclass(frozen=True)
class SampleConfig:
    """Settings by which a photograph becomes a sample; their names are those of `TrainConfig`.

    All shares are probabilities in [0, 1] and apply to augmented samples only.
    """

    image_size: int = setting(256, least=1)  # pixels; side of the square view
    seed: int = setting(0, least=0)  # together with epoch and index the key of all randomness
    augment: bool = True  # random views and marks, new in every epoch; False: fixed ones
    fixed: bool = False  # augmented samples stay the same in every epoch, as the document tests on
    unmarked: float = share(0.05)  # share without a mark, of the samples that are not hard
    hard: float = share(0.0)  # share that is unmarked and looks marked
    hard_places: tuple[Place, ...] = ()  # places of training photographs that a network took for marks
    degraded: float = share(0.25)  # share with blur or JPEG after marking, as on the web
    collage: float = share(0.0)  # share made of several photographs side by side, as large sheets look when shrunken
    zoom: float = setting(
        1.0, least=1
    )  # largest ratio of a marked view's side to the sample's; a sample is a window of its view
    sharp: float = share(
        0.0
    )  # share of these windows in which the mark alone is enlarged: large marks over fine detail
    marks: WatermarkConfig = WatermarkConfig()  # noqa: RUF009  frozen, so sharing it is safe

    def __post_init__(self) -> None:
        check_settings(self)


def shrink_to(config: SampleConfig, image_size: int = 0) -> int:
    """Side to which JPEGs may be shrunk while they are decoded, pixels; see `read_image`.

    Args:
        config: of the samples.
        image_size: side of the largest samples, pixels, if they are larger than those of `config`.
    """
    return 2 * round(max(image_size, config.image_size) * (config.zoom if config.augment else 1))


class WatermarkDataset(Dataset):
    """Photographs with synthetic watermarks, drawn anew for every (seed, epoch, index).

    Each item is a dict of float32 tensors. Images are RGB in [0, 1]:

    * `watermarked` (wm_img1), (3, H, W): the view with the first mark.
    * `reference` (wm_img2), (3, H, W): the same view with a second, independent mark.
    * `clean`, (3, H, W): the view without a mark.
    * `mask` and `reference_mask`, (1, H, W): 1 where the mark changed the view, else 0.
    * `alpha`, (1, H, W), and `colour`, (3, H, W): of the first mark; `reference_alpha`, `reference_colour`: of the second.
    * `plain` and `reference_plain`, (1, 1, 1): 1 for a mark blended by plain alpha. 0 for another blend mode, where alpha
      and colour do not explain the change.

    Args:
        paths: photographs.
        config: settings of the samples.
        fonts: faces of the marks; None: the packaged ones, so that marks are the same on every machine.
        logos: (h, w, 4) RGBA uint8 arrays.
        store: decodes the photographs and may keep them; None: each is decoded for every sample.
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
        self.skipped = 0  # samples at the start of the epoch on which a resumed run has trained already
        self.stage = 0  # of a run with growing crops; see `SizedBatches`
        # Shared memory: loader processes live longer than an epoch and have to see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """Number of the epoch, a key of the samples; without effect on fixed ones."""
        return int(self._epoch.item())

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch[0] = value

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        """A sample by its index, or by (index, side in pixels) for a view of another size than `image_size`.

        Raises:
            ImageError: the photograph cannot be read.
        """
        config = self.config
        index, size = key if isinstance(key, tuple) else (key, config.image_size)
        epoch = self.epoch if config.augment and not config.fixed else FIXED_EPOCH
        rng = np.random.default_rng([config.seed, epoch, index])
        if config.augment and config.hard and rng.random() < config.hard:
            return self._blend(rng, *self._draw_hard(index, size, rng))
        return self._blend(rng, *self._draw_marked(index, size, rng))

    def _draw_marked(self, index: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Mark, Mark]:
        """A view (size, size, 3) uint8 and two marks for it, of which the first may be empty."""
        config = self.config
        side = _view_side(rng, size, config.zoom) if config.augment and config.zoom > 1 else size
        sharp = config.sharp and side > size and rng.random() < config.sharp
        view = size if sharp else side
        clean = self.store[self.paths[index]]
        clean = self._augment(clean, view, rng) if config.augment else resize_and_crop(clean, view)
        if config.augment and config.collage and rng.random() < config.collage:
            clean = self._draw_collage(view, rng)
        first, second = self._draw_mark(side, rng), self._draw_mark(side, rng)
        if config.augment and rng.random() < config.unmarked:
            first = _empty_mark(first)
        if side > size:
            window = _window(rng, first.alpha, size)
            clean = clean if sharp else np.ascontiguousarray(clean[window])
            first, second = (Mark(mark.alpha[window], mark.colour[window]) for mark in (first, second))
        return clean, first, second

    def _draw_hard(self, index: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Mark, Mark]:
        """An unmarked view that looks marked, (size, size, 3) uint8, and two marks, of which the first is empty.

        The view shows a place that a network took for a mark, or a drawn scene.
        """
        places = self.config.hard_places
        if places and rng.random() < PLACE_SHARE:
            place = places[rng.integers(len(places))]
            clean = view_place(rng, self.store[place.path], place, size)
        else:
            clean = draw_scene(rng, self._augment(self.store[self.paths[index]], size, rng), self.fonts)
        second = self._draw_mark(size, rng)
        return clean, _empty_mark(second), second

    def _blend(self, rng: np.random.Generator, clean: np.ndarray, first: Mark, second: Mark) -> dict[str, Tensor]:
        """The sample: each mark blended into the view, then some of the samples degraded."""
        config = self.config
        modes = [draw_blend_mode(rng, config.marks) for _ in range(2)]
        watermarked, mask = blend(clean, first, modes[0])
        reference, reference_mask = blend(clean, second, modes[1])
        alpha, reference_alpha = np.ascontiguousarray(first.alpha), np.ascontiguousarray(second.alpha)
        if config.augment and rng.random() < config.degraded:
            degrade, degrade_mask, degrade_alpha = _draw_degradation(rng)
            watermarked, reference, clean = (degrade(view) for view in (watermarked, reference, clean))
            mask, reference_mask = degrade_mask(mask), degrade_mask(reference_mask)
            alpha, reference_alpha = degrade_alpha(alpha), degrade_alpha(reference_alpha)
        by_alpha = [mode == "normal" or not mark.alpha.any() for mode, mark in zip(modes, (first, second), strict=True)]
        plain, reference_plain = (torch.full((1, 1, 1), float(value)) for value in by_alpha)
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

    def _augment(self, image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        """A random square view of a photograph, (side, side, 3) uint8."""
        transform = get_augmentations(side)
        transform.set_random_seed(int(rng.integers(2**31)))
        return transform(image=image)["image"]

    def _draw_collage(self, side: int, rng: np.random.Generator) -> np.ndarray:
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

    def _draw_mark(self, side: int, rng: np.random.Generator) -> Mark:
        return draw_mark(rng, side, side, self.fonts, self.logos, self.config.marks)


def _empty_mark(mark: Mark) -> Mark:
    """A mark of alpha 0 everywhere, as large as the given one."""
    return Mark(np.zeros_like(mark.alpha), mark.colour)


def _view_side(rng: np.random.Generator, size: int, zoom: float) -> int:
    """Side of the view that a window is cut from, pixels: one of `ZOOM_STEPS` sizes up to `zoom` times `size`."""
    steps = np.geomspace(1.0, zoom, ZOOM_STEPS)
    return round(size * steps[rng.integers(ZOOM_STEPS)])


def _window(rng: np.random.Generator, alpha: np.ndarray, size: int) -> tuple[slice, slice]:
    """A square window of a view, around a random pixel of the mark, or anywhere without one."""
    height, width = alpha.shape
    marked = np.flatnonzero(alpha)
    if len(marked):
        y, x = divmod(int(marked[rng.integers(len(marked))]), width)
        y, x = (int(c - rng.uniform(0.15, 0.85) * size) for c in (y, x))
    else:
        y, x = int(rng.integers(height)), int(rng.integers(width))
    top, left = min(max(y, 0), height - size), min(max(x, 0), width - size)
    return slice(top, top + size), slice(left, left + size)


def _draw_degradation(rng: np.random.Generator) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """One blur or JPEG with drawn parameters, as three functions: for all views alike, for a mask, and for an alpha."""
    if rng.random() < 0.3:
        sigma = rng.uniform(0.3, 0.7)
        square = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
        blur = lambda view: cv2.GaussianBlur(view, (3, 3), sigma)  # noqa: E731
        return blur, (lambda mask: cv2.dilate(mask, square)), blur
    quality = int(rng.integers(60, 96))
    return (lambda view: as_jpeg(view, quality)), (lambda mask: mask), (lambda alpha: alpha)

"""Photographs of a run: finding and splitting them, the sample photographs, and downloads."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wmremoval.config import TrainConfig
from wmremoval.files import atomic_path, downloading, find_root
from wmremoval.images import EXTENSIONS, MAX_PIXELS, MIN_SIDE, ImageError, read_image, write_image

logger = logging.getLogger(__name__)


SPLIT_SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}  # shares of the photographs: the document's 70 / 20 / 10
MIN_PHOTOS = 10  # photographs; the fewest whose tenth, the test part, holds one
SAMPLE_TILE = 256  # pixels; side of a sample photograph, for random crops of the quick profile's 192. Not measured.
# Part of each scene. Tiles of one scene share texture and light, so a scene lies in one part only. The two views of the
# motorcycle are one scene. Training on the black sky of hubble costs 3 to 4 dB on others (2026-11-27).
SAMPLE_SPLIT = {
    "astronaut": "test",
    "chelsea": "test",
    "hubble": "val",
    "rocket": "val",
    "camera": "train",
    "coffee": "train",
    "motorcycle_left": "train",
    "motorcycle_right": "train",
}
SAMPLE_TILES_MOST = 6  # tiles of a scene at most; of 12, the deep sky fills half of the training part
DATASETS = ("imagenette", "oxford_pets", "flowers102", "dtd")  # public sets of torchvision


@dataclass(frozen=True)
class PhotoScan:
    """The usable photographs of a folder, the skipped files, and counts by format."""

    folder: Path
    paths: tuple[Path, ...]
    skipped: dict[str, str] = field(default_factory=dict)  # reason by path in the folder
    counts: dict[str, int] = field(default_factory=dict)  # of the usable files, by "jpg", "png", "webp"

    def report(self) -> dict:
        """Plain values for the reports, without folder paths."""
        return {"usable": len(self.paths), **self.counts, "skipped": self.skipped}


def list_photos(folder: str | Path) -> list[Path]:
    """All files with a photograph's suffix (in any case) in a folder and its sub-folders, sorted.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; set photos_dir (or --photos) to a folder of photographs")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    # Hidden folders hold thumbnails, which could put a photograph into two parts of the split.
    return sorted(path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def find_photos(folder: str | Path, max_pixels: int = MAX_PIXELS, least: int = MIN_PHOTOS) -> PhotoScan:
    """Decode every photograph of a folder once, and log one line for each that cannot be used.

    Raises:
        ValueError: no such folder, or fewer than `least` usable photographs.
    """
    files = list_photos(folder)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        checks = pool.map(lambda path: _reason_to_skip(path, max_pixels), files)
        reasons = list(tqdm(checks, total=len(files), desc="Checking photographs", leave=False, disable=None))
    root = Path(folder).expanduser()
    skipped = {path.relative_to(root).as_posix(): reason for path, reason in zip(files, reasons, strict=True) if reason}
    for reason in skipped.values():
        logger.info(f"skipped {reason}")
    paths = tuple(path for path, reason in zip(files, reasons, strict=True) if not reason)
    if len(paths) < least:
        raise ValueError(
            f"{folder} holds {len(paths)} usable photographs ({len(skipped)} skipped), at least {least} are needed; "
            "add .jpg, .png or .webp files, or run: wmremoval download --dataset imagenette"
        )
    kinds = Counter(path.suffix.lower().lstrip(".").replace("jpeg", "jpg") for path in paths)
    return PhotoScan(Path(folder), paths, skipped, dict(sorted(kinds.items())))


def _reason_to_skip(path: Path, max_pixels: int) -> str | None:
    """The error of reading a photograph; None for a usable one."""
    try:
        read_image(path, min_side=MIN_SIDE, max_pixels=max_pixels)
    except ImageError as error:
        return str(error)
    return None


def split_photos(paths: Sequence[Path], seed: int = 0) -> dict[str, list[Path]]:
    """Split photographs 70 / 20 / 10 by a seeded permutation of their sorted names.

    Returns:
        {"train": [...], "val": [...], "test": [...]}, disjoint and together all of `paths`.

    Raises:
        ValueError: fewer than `MIN_PHOTOS` photographs.

    Example:
        >>> [len(part) for part in split_photos([Path(f"{i}.jpg") for i in range(999)]).values()]
        [699, 200, 100]
    """
    if len(paths) < MIN_PHOTOS:
        raise ValueError(f"{len(paths)} photographs cannot be split, at least {MIN_PHOTOS} are needed; add some")
    ordered = sorted(paths, key=lambda path: (path.name, str(path)))
    shuffled = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    train, val = round(SPLIT_SHARES["train"] * len(paths)), round(SPLIT_SHARES["val"] * len(paths))
    return {"train": shuffled[:train], "val": shuffled[train : train + val], "test": shuffled[train + val :]}


@dataclass(frozen=True)
class PhotoSet:
    """The photographs of a run: paths by part, and their entry in the reports."""

    split: dict[str, list[Path]]
    report: dict
    folder: Path
    more_photos: tuple[Path, ...] = ()  # photographs of `more_folder`, for training only and not in the split
    more_folder: Path | None = None

    def parts(self) -> dict[str, list[Path]]:
        """The photographs of each part: the split, and `more_photos` in training."""
        return self.split | {"train": [*self.split["train"], *self.more_photos]}

    def names(self) -> dict[str, list[str]]:
        """Names for `split.json`: paths by part relative to `folder`, and "more" relative to `more_folder` if there are any."""
        names = {
            part: [path.relative_to(self.folder).as_posix() for path in paths] for part, paths in self.split.items()
        }
        if self.more_folder is None or not self.more_photos:
            return names
        return names | {"more": [path.relative_to(self.more_folder).as_posix() for path in self.more_photos]}


def add_photos(photos: PhotoSet, folder: str | Path) -> PhotoSet:
    """The same photographs and split, with the photographs of another folder for training only.

    Raises:
        ValueError: no usable photographs, or one with the file name of a photograph in val or test.
    """
    folder = Path(folder).expanduser()
    scan = find_photos(folder, least=1)
    kept_out = {path.name.lower(): part for part in ("val", "test") for path in photos.split[part]}
    taken = [path.name for path in scan.paths if path.name.lower() in kept_out]
    if taken:
        raise ValueError(
            f"{folder} holds {len(taken)} photographs named like some of {kept_out[taken[0].lower()]}, such as {taken[0]}; "
            "training may not see them: take them out"
        )
    report = photos.report | {"more": {"source": folder.name, **scan.report()}}
    return replace(photos, report=report, more_photos=scan.paths, more_folder=folder)


def gather_photos(
    folder: str | Path, samples: str | Path | None = None, seed: int = 0, max_photos: int | None = None
) -> PhotoSet:
    """Find and split the photographs of a run.

    Args:
        folder: of the photographs.
        samples: folder for the sample photographs, which are used if `folder` holds none; None: that is an error.
        seed: key of the split and, with `max_photos`, of the choice.
        max_photos: largest number of photographs; None: all.

    Raises:
        ValueError: too few photographs.
    """
    folder = Path(folder).expanduser()
    if samples is not None and not (folder.is_dir() and list_photos(folder)):
        split = ensure_sample_photos(samples)
        source = "sample photographs from scikit-image"
        logger.info(f"{folder.name}/ holds no photographs: using {sum(map(len, split.values()))} tiles of {source}.")
        return PhotoSet(
            split, {"source": source, "usable": sum(map(len, split.values())), "skipped": {}}, Path(samples)
        )
    scan = find_photos(folder)
    paths = scan.paths
    if max_photos is not None and max_photos < len(paths):
        chosen = np.random.default_rng(seed).permutation(len(paths))[:max_photos]
        paths = tuple(paths[i] for i in sorted(chosen))
        logger.info(f"Using {max_photos} of {len(scan.paths)} photographs.")
    report = {"source": folder.name, "used": len(paths), **scan.report()}
    return PhotoSet(split_photos(paths, seed), report, folder)


def sample_scenes() -> dict[str, np.ndarray]:
    """The natural colour photographs inside scikit-image, by scene, without a download: (H, W, 3) RGB uint8."""
    from skimage import data

    left, right, _ = data.stereo_motorcycle()
    scenes = {"motorcycle_left": left, "motorcycle_right": right, "hubble": data.hubble_deep_field()}
    scenes |= {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return dict(sorted(scenes.items()))


def ensure_sample_photos(folder: str | Path) -> dict[str, list[Path]]:
    """Write tiles of `sample_scenes` and of a grey photograph into a folder, unless they are there.

    They stand in for a set of photographs, so that everything runs at once. They are far too few for a useful network.

    Returns:
        {"train": [...], "val": [...], "test": [...]}, each scene in one part only.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    split: dict[str, list[Path]] = {part: [] for part in SPLIT_SHARES}
    for scene, image in sorted((sample_scenes() | {"camera": _grey_scene("camera")}).items()):
        for i, tile in enumerate(_tiles(image)):
            path = folder / f"{scene}_{i:02d}.png"
            if not path.exists():
                write_image(path, tile)
            split[SAMPLE_SPLIT[scene]].append(path)
    return split


def _grey_scene(name: str) -> np.ndarray:
    """A grey photograph of scikit-image as (H, W, 3) uint8 with three equal channels."""
    from skimage import data

    return np.repeat(getattr(data, name)()[..., None], 3, axis=2)


def _tiles(image: np.ndarray) -> list[np.ndarray]:
    """Square tiles on an even grid, at most `SAMPLE_TILES_MOST` of them; neighbours share a third at most."""
    rows, columns = (
        np.linspace(0, n - SAMPLE_TILE, max(1, round(n / SAMPLE_TILE))).astype(int) for n in image.shape[:2]
    )
    tiles = [image[y : y + SAMPLE_TILE, x : x + SAMPLE_TILE] for y in rows for x in columns]
    keep = np.linspace(0, len(tiles) - 1, min(len(tiles), SAMPLE_TILES_MOST)).astype(int)
    return [tiles[i] for i in keep]


def spread_over_scenes(paths: Sequence[Path], count: int) -> list[int]:
    """Indices of up to `count` photographs, of as many scenes as possible; a scene is the name up to its last "_".

    Photographs without numbered names are each a scene of their own, so that the first ones are taken.

    Example:
        >>> spread_over_scenes([Path(f"{name}.png") for name in ("cat_00", "cat_01", "sea_00", "sea_01")], 3)
        [0, 2, 1]
    """
    turns: dict[str, int] = {}
    order = []
    for i, path in enumerate(paths):
        scene = path.stem.rsplit("_", 1)[0]
        order.append((turns.get(scene, 0), i))
        turns[scene] = turns.get(scene, 0) + 1
    return [i for _, i in sorted(order)[:count]]


def download_photos(dataset: str, limit: int, folder: str | Path, cache: str | Path, seed: int = 0) -> int:
    """Download a public set through torchvision, and copy a seeded choice of its photographs into a folder.

    Args:
        dataset: one of `DATASETS`.
        limit: largest number of photographs to copy.
        folder: of the copies, without sub-folders; existing files are kept.
        cache: folder of torchvision's archive, so that a second call downloads nothing.
        seed: key of the choice.

    Returns:
        the number of photographs of this set in the folder.

    Raises:
        ValueError: an unknown set.
        ConnectionError: the set could not be downloaded; one line with the remedy.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; choose one of {', '.join(DATASETS)}")
    source = Path(cache) / dataset
    try:
        with downloading():
            _fetch(dataset, source)
    except ConnectionError as error:
        raise ConnectionError(
            f"could not download {dataset} ({error}); check the connection and run the command again, "
            f"or copy photographs of your own into {folder}"
        ) from None
    return _copy_choice(source, Path(folder), dataset, limit, seed)


def _fetch(dataset: str, source: Path) -> None:
    from torchvision import datasets

    source.mkdir(parents=True, exist_ok=True)
    if dataset == "imagenette":
        # torchvision refuses to unpack onto an existing folder, whether complete or left by an interrupted download.
        whole = source / ".complete"
        if not whole.exists():
            shutil.rmtree(source / "imagenette2-320", ignore_errors=True)
            datasets.Imagenette(source, split="train", size="320px", download=True)
            whole.touch()
    elif dataset == "oxford_pets":
        datasets.OxfordIIITPet(source, split="trainval", download=True)
    elif dataset == "flowers102":
        datasets.Flowers102(source, split="train", download=True)
    else:
        datasets.DTD(source, split="train", download=True)


def _copy_choice(source: Path, folder: Path, dataset: str, limit: int, seed: int) -> int:
    photos = [path for path in list_photos(source) if path.suffix.lower() in (".jpg", ".jpeg")]
    chosen = np.random.default_rng(seed).permutation(len(photos))[:limit]
    folder.mkdir(parents=True, exist_ok=True)
    for i in tqdm(sorted(chosen), desc=f"Copying {dataset}", disable=None):
        target = folder / f"{dataset}_{photos[i].stem}.jpg"
        if not target.exists():
            with atomic_path(target) as part:
                shutil.copyfile(photos[i], part)
    return len(list(folder.glob(f"{dataset}_*.jpg")))


def open_photos(photos_dir: str | Path, config: TrainConfig, more_dir: str | Path | None = None) -> PhotoSet:
    """Find and split the photographs of a run; the default folder without photographs gives the sample photographs.

    Args:
        photos_dir: folder, relative to the repository's root.
        config: of the run; its seed is the key of the split.
        more_dir: folder of photographs for training only, see `add_photos`.

    Raises:
        ValueError: too few photographs, or `more_dir` has a photograph of val or test.
    """
    root = find_root()
    folder = root / Path(photos_dir).expanduser()
    samples = root / "data" / "sample_photos" if folder == root / "data" / "clean_images" else None
    photos = gather_photos(folder, samples, config.seed, config.max_photos)
    return add_photos(photos, root / Path(more_dir).expanduser()) if more_dir else photos

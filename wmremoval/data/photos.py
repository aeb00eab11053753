"""Find photographs and split them; write the sample photographs; download a real set."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from wmremoval.config import TrainConfig
from wmremoval.files import atomic_path, downloading, find_root
from wmremoval.images import EXTENSIONS, MAX_PIXELS, MIN_SIDE, ImageError, read_image, write_image

logger = logging.getLogger(__name__)


SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}
MIN_PHOTOS = 10  # photographs; with fewer, a 10% test split is empty
SAMPLE_TILE = 200  # pixels; leaves room for random crops at the quick profile's 128
# Scene to split: tiles of one scene share texture and light, so a scene lies in one split only. The two
# views of the motorcycle are one scene.
SAMPLE_SPLIT = {
    "astronaut": "test",
    "hubble": "train",
    "motorcycle_left": "train",
    "motorcycle_right": "train",
    "coffee": "val",
    "rocket": "val",
    "chelsea": "test",
}
SAMPLE_TILES_MOST = 12  # tiles a scene; keeps the deep sky from filling half of the set
DATASETS = ("imagenette", "oxford_pets", "flowers102", "dtd")


@dataclass(frozen=True)
class PhotoScan:
    """What a folder holds: usable files, why others are not, and how many of each kind were found."""

    folder: Path
    paths: tuple[Path, ...]
    skipped: dict[str, str] = field(default_factory=dict)  # path in the folder to reason
    counts: dict[str, int] = field(default_factory=dict)  # "jpg", "png", "webp" among the usable files

    def report(self) -> dict:
        """Plain values for the reports, without folder paths."""
        return {"usable": len(self.paths), **self.counts, "skipped": self.skipped}


def list_photos(folder: str | Path) -> list[Path]:
    """Every file with a photograph's ending (any case) in a folder and its sub-folders, sorted.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; set photos_dir (or --photos) to a folder of photographs")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    # Hidden folders hold thumbnails, which would carry a photograph from one part of the split into another.
    return sorted(path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def find_photos(folder: str | Path, max_pixels: int = MAX_PIXELS, least: int = MIN_PHOTOS) -> PhotoScan:
    """Decode every photograph of a folder once; print one line for each that cannot be used.

    Raises:
        ValueError: no such folder, or fewer than `least` usable photographs.
    """
    files = list_photos(folder)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        checks = pool.map(lambda path: _reason_to_skip(path, max_pixels), files)
        reasons = list(tqdm(checks, total=len(files), desc="Checking photographs", leave=False))
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
        raise ValueError(f"{len(paths)} photographs cannot be split, at least {MIN_PHOTOS} are needed")
    ordered = sorted(paths, key=lambda path: (path.name, str(path)))
    shuffled = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    train, val = round(SHARES["train"] * len(paths)), round(SHARES["val"] * len(paths))
    return {"train": shuffled[:train], "val": shuffled[train : train + val], "test": shuffled[train + val :]}


@dataclass(frozen=True)
class PhotoSet:
    """The photographs of a run: paths by part, and what the reports say of them."""

    split: dict[str, list[Path]]
    report: dict
    folder: Path
    more: tuple[Path, ...] = ()  # photographs that are trained on beside the split, of `more_folder`
    more_folder: Path | None = None

    def parts(self) -> dict[str, list[Path]]:
        """What each part is made of: the split, with more photographs in training."""
        return self.split | {"train": [*self.split["train"], *self.more]}

    def names(self) -> dict[str, list[str]]:
        """The split as paths relative to the folder, for `split.json`, and of "more" relative to theirs, if there are any."""
        names = {
            part: [path.relative_to(self.folder).as_posix() for path in paths] for part, paths in self.split.items()
        }
        if not self.more:
            return names
        return names | {"more": [path.relative_to(self.more_folder).as_posix() for path in self.more]}


def add_photos(photos: PhotoSet, folder: str | Path) -> PhotoSet:
    """The same photographs and split, with those of another folder for training only.

    Raises:
        ValueError: no usable photographs, or one that has the file name of a photograph of val or test.
    """
    folder = Path(folder).expanduser()
    scan = find_photos(folder, least=1)
    held = {path.name.lower(): part for part in ("val", "test") for path in photos.split[part]}
    taken = [path.name for path in scan.paths if path.name.lower() in held]
    if taken:
        raise ValueError(
            f"{folder} holds {len(taken)} photographs named like some of {held[taken[0].lower()]}, such as {taken[0]}; "
            "training may not see them: take them out"
        )
    report = photos.report | {"more": {"source": folder.name, **scan.report()}}
    return replace(photos, report=report, more=scan.paths, more_folder=folder)


def gather_photos(
    folder: str | Path, samples: str | Path | None = None, seed: int = 0, most: int | None = None
) -> PhotoSet:
    """Find and split the photographs of a run.

    Args:
        folder: where the photographs are.
        samples: where to put the sample photographs if `folder` holds none; None makes that an error.
        seed: keys the split and, with `most`, the choice.
        most: photographs to use at most.

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
    if most is not None and most < len(paths):
        chosen = np.random.default_rng(seed).permutation(len(paths))[:most]
        paths = tuple(paths[i] for i in sorted(chosen))
        logger.info(f"Using {most} of {len(scan.paths)} photographs.")
    report = {"source": folder.name, "used": len(paths), **scan.report()}
    return PhotoSet(split_photos(paths, seed), report, folder)


def sample_scenes() -> dict[str, np.ndarray]:
    """The natural colour photographs that ship inside scikit-image, by scene: (H, W, 3) uint8, no download."""
    from skimage import data

    left, right, _ = data.stereo_motorcycle()
    scenes = {"motorcycle_left": left, "motorcycle_right": right, "hubble": data.hubble_deep_field()}
    scenes |= {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return dict(sorted(scenes.items()))


def ensure_sample_photos(folder: str | Path) -> dict[str, list[Path]]:
    """Write tiles of `sample_scenes` into a folder, unless they are there, and give them split by scene.

    Stands in for a set of photographs so that everything runs at once; far too few for a useful network.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    split: dict[str, list[Path]] = {part: [] for part in SHARES}
    for scene, image in sample_scenes().items():
        for i, tile in enumerate(_tiles(image)):
            path = folder / f"{scene}_{i:02d}.png"
            if not path.exists():
                write_image(path, tile)
            split[SAMPLE_SPLIT[scene]].append(path)
    return split


def _tiles(image: np.ndarray) -> list[np.ndarray]:
    """Square tiles on an even grid that covers the image, thinned to at most `SAMPLE_TILES_MOST`."""
    rows, columns = (np.linspace(0, n - SAMPLE_TILE, -(-n // SAMPLE_TILE)).astype(int) for n in image.shape[:2])
    tiles = [image[y : y + SAMPLE_TILE, x : x + SAMPLE_TILE] for y in rows for x in columns]
    keep = np.linspace(0, len(tiles) - 1, min(len(tiles), SAMPLE_TILES_MOST)).astype(int)
    return [tiles[i] for i in keep]


def download_photos(dataset: str, limit: int, folder: str | Path, cache: str | Path, seed: int = 0) -> int:
    """Fetch a public set through torchvision and copy a seeded choice of its photographs into `folder`.

    Args:
        dataset: one of `DATASETS`.
        limit: photographs to copy at most.
        folder: where they go, flat; files that are there already are kept.
        cache: where torchvision keeps its archive, so that a second call downloads nothing.

    Returns:
        how many photographs the folder now has from this set.

    Raises:
        ConnectionError: the set could not be downloaded; the message is one line that says what to do.
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
        # torchvision refuses to unpack onto anything that is there, be it whole or the rest of an interrupted try
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
    for i in tqdm(sorted(chosen), desc=f"Copying {dataset}"):
        target = folder / f"{dataset}_{photos[i].stem}.jpg"
        if not target.exists():
            with atomic_path(target) as part:
                shutil.copyfile(photos[i], part)
    return len(list(folder.glob(f"{dataset}_*.jpg")))


def open_photos(photos_dir: str | Path, config: TrainConfig, more_dir: str | Path | None = None) -> PhotoSet:
    """Gather the photographs of a folder, relative to the repository's root; its empty default folder gives the samples.

    Args:
        photos_dir: the folder.
        config: of the run; keys the split.
        more_dir: another folder, of photographs for training only; see `add_photos`.
    """
    root = find_root()
    folder = root / Path(photos_dir).expanduser()
    samples = root / "data" / "sample_photos" if folder == root / "data" / "clean_images" else None
    photos = gather_photos(folder, samples, config.seed, config.max_photos)
    return add_photos(photos, root / Path(more_dir).expanduser()) if more_dir else photos

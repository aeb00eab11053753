"""wmremoval download: fetch photographs to train on."""

import argparse

from wmremoval.files import find_root, from_root


def add_download(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    download = commands.add_parser("download", help="fetch photographs to train on")
    download.add_argument("--dataset", default="imagenette", help="imagenette, oxford_pets, flowers102 or dtd")
    download.add_argument("--limit", type=int, default=1000, help="photographs to keep, default 1000")
    download.add_argument("--photos", default="data/clean_images", help="folder for the photographs")
    download.set_defaults(run=run_download)


def run_download(arguments: argparse.Namespace) -> int:
    """Fetch a public set of photographs; returns the exit status."""
    from wmremoval.data.photos import download_photos

    if arguments.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {arguments.limit}")
    folder = from_root(arguments.photos)
    count = download_photos(arguments.dataset, arguments.limit, folder, find_root() / "data" / "downloads")
    print(f"{folder} holds {count} photographs from {arguments.dataset}")
    return 0

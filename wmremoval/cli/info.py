"""wmremoval info: versions, device, the package's weights, and the fonts found."""

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any


def add_info(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    info = commands.add_parser("info", help="print versions, device, the package's weights and the fonts found")
    info.set_defaults(run=run_info)


def run_info(arguments: argparse.Namespace) -> int:
    """Print what a report of a fault should name; returns the exit status."""
    from wmremoval import __version__
    from wmremoval.config import choose_device
    from wmremoval.training.environment import environment

    found = environment()
    rows: list[tuple[str, Any]] = [
        ("wmremoval", __version__),
        ("python", f"{found['python']} on {found['os']}"),
        ("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())),
        ("device", f"{choose_device('auto')}: {found['gpu'] or found['cpu']}, {found['cpu_cores']} cores"),
        ("memory", f"{found['ram_gb']} GB"),
        (
            "text detector",
            "found" if find_spec("rapidocr") and find_spec("onnxruntime") else "missing: rapidocr, onnxruntime",
        ),
        ("HEIC", "found" if find_spec("pillow_heif") else "missing: pillow-heif"),
        *_weights(),
        *_fonts(),
    ]
    for name, value in rows:
        print(f"{name:14}{value}")
    return 0


def _weights() -> Iterator[tuple[str, str]]:
    """The card of the package's weights."""
    from wmremoval.files import read_json
    from wmremoval.training.checkpoints import SHIPPED_WEIGHTS

    card = SHIPPED_WEIGHTS.with_suffix(".json")
    if not card.is_file():
        yield "weights", "missing: name some with --weights"
        return
    content = read_json(card)
    yield "weights", f"{content['file']} of {content['date']}, {content['parameters']:,} parameters"
    yield "  sha256", content["sha256"]
    yield "  data", content["data"]
    yield "  limits", content["limits"]


def _fonts() -> Iterator[tuple[str, str]]:
    """The number of faces of every language."""
    from wmremoval.data.fonts import load_fonts

    book = load_fonts()
    yield "fonts", ", ".join(f"{language} {len(faces)}" for language, faces in book.faces.items())

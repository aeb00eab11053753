"""Run folders, whole-or-nothing writes, finite JSON, CSV, and what machine this is."""

import csv
import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "pillow", "matplotlib", "pytorch-msssim", "kornia")


def find_root() -> Path:
    """The folder that holds `data/` and `outputs/`, wherever the notebook or the command was started.

    The repository's root, unless the environment variable WMREMOVAL_ROOT names another folder.
    """
    named = os.environ.get("WMREMOVAL_ROOT")
    root = Path(named) if named else Path(__file__).resolve().parents[1]
    return root.resolve() if named or (root / "pyproject.toml").exists() else Path.cwd()


def from_root(path: str | Path) -> Path:
    """A path as given if it is absolute or there, else taken from `find_root`."""
    given = Path(path).expanduser()
    return given.resolve() if given.is_absolute() or given.exists() else find_root() / given


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there once the block has ended without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """The value with every NaN and infinity in it, at any depth, replaced by None: JSON has no words for them.

    Example:
        >>> finite({"psnr": [float("inf"), 30.0], "iou": float("nan")})
        {'psnr': [None, 30.0], 'iou': None}
    """
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write strict JSON, whole or not at all."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON report.

    Raises:
        ValueError: missing or damaged; the message names the file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def write_csv(path: str | Path, rows: Sequence[dict]) -> None:
    """Write rows under the union of their keys; missing and non-finite values become empty cells."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in finite(row).items()} for row in rows)


def save_figure(figure, path: str | Path) -> Path:
    """Save a Matplotlib figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def new_run(outputs: str | Path, name: str = "run") -> Path:
    """Make `outputs/runs/<date>_<name>/`, never one that exists, and note it in `outputs/latest.txt`."""
    outputs = Path(outputs)
    if not name or set(name) & set("/\\"):
        raise ValueError(f"the name of a run must be a bare word, got {name!r}")
    stem = f"{datetime.now():%Y-%m-%d_%H%M%S}_{name}"
    for attempt in range(1, 1000):
        folder = outputs / "runs" / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            (folder / "visuals").mkdir(parents=True)
            break
        except FileExistsError:
            continue
    else:
        raise ValueError(f"{outputs / 'runs'} is full of runs named {stem}; give another name")
    write_text(outputs / "latest.txt", folder.name + "\n")
    return folder


def latest_run(outputs: str | Path) -> Path | None:
    """The newest run's folder, or None before the first."""
    note = Path(outputs) / "latest.txt"
    if not note.exists():
        return None
    folder = Path(outputs) / "runs" / note.read_text(encoding="utf-8").strip()
    return folder if folder.is_dir() else None


def environment() -> dict[str, Any]:
    """What this machine is and which packages run on it, read live. Starts CUDA where there is one."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": gpu.name if gpu else None,
        "gpu_memory_gb": round(gpu.total_memory / 1e9, 1) if gpu else None,
        "cuda": torch.version.cuda,
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str | None]:
    """The versions of the packages that decide results."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)

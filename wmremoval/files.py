"""The one writer of files, whole or not at all; finite JSON and CSV; the folder that holds `data/` and `outputs/`."""

import csv
import http.client
import json
import math
import os
import platform
import secrets
import socket
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

DOWNLOAD_SILENCE = 20.0  # seconds without a byte after which a download is given up


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
    """Give a temporary path beside `path`, and move it there once the block has ended without an error.

    The folder is made if it is not there. See `remove_leftovers` for what a killed process leaves.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes of this machine left in a folder."""
    for part in folder.glob(f".{_machine()}-*.part"):
        pid = part.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)


def _machine() -> str:
    """Several machines may write into one folder, and a process number says nothing on another."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


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


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none.

    Example:
        >>> first_line(ValueError("too small\\nsecond line")), first_line(EOFError())
        ('too small', 'EOFError')
    """
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def downloading() -> Iterator[None]:
    """Give up a download that is silent for `DOWNLOAD_SILENCE`.

    Raises:
        ConnectionError: the block failed; the message is one line with the reason.
    """
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SILENCE)
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ConnectionError(first_line(error)) from None
    finally:
        socket.setdefaulttimeout(previous)

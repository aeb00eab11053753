"""Atomic writing of files, JSON and CSV without NaN, and the folder that contains `data/` and `outputs/`."""

import csv
import errno
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

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of writing that do not name their file
DOWNLOAD_SILENCE = 20.0  # seconds without data after which a download is given up; not measured


def find_root() -> Path:
    """The folder that contains `data/` and `outputs/`, independent of where the notebook or command was started.

    Returns:
        the folder named by the environment variable WMREMOVAL_ROOT; else the repository's root; else, for an
        installed package outside of a repository, the current folder.
    """
    named = os.environ.get("WMREMOVAL_ROOT")
    root = Path(named) if named else Path(__file__).resolve().parents[1]
    return root.resolve() if named or (root / "pyproject.toml").exists() else Path.cwd()


def from_root(path: str | Path) -> Path:
    """The path itself if it is absolute or exists, else the path inside `find_root`."""
    given = Path(path).expanduser()
    return given.resolve() if given.is_absolute() or given.exists() else find_root() / given


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move the file to `path` if the block ends without an error.

    The folder is created if necessary. A link is followed: the file it names is written, and the link stays.
    `remove_leftovers` deletes the temporary files of killed processes.

    Raises:
        OSError: the path is a link to itself, or the disk is full; the message names the file.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in a folder that were left by killed processes of this machine."""
    for part in folder.glob(f".{_machine()}-*.part"):
        pid = part.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)


def _machine() -> str:
    """Eight hexadecimal digits for this machine, since process numbers of several machines may coincide."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write bytes; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def finite(value: Any) -> Any:
    """Replace every NaN and infinity in a value, at any depth, by None, since JSON cannot express them.

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
    """Write strict JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON report.

    Raises:
        ValueError: the file is missing or damaged; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def write_csv(path: str | Path, rows: Sequence[dict]) -> None:
    """Write rows as CSV with the union of their keys as columns; missing and non-finite values become empty cells."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in finite(row).items()} for row in rows)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty.

    Example:
        >>> first_line(ValueError("too small\\nsecond line")), first_line(EOFError())
        ('too small', 'EOFError')
    """
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def downloading() -> Iterator[None]:
    """Give up a download after `DOWNLOAD_SILENCE` without data.

    Raises:
        ConnectionError: the download in the block failed; the message is one line with the reason.
    """
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SILENCE)
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ConnectionError(first_line(error)) from None
    finally:
        socket.setdefaulttimeout(previous)

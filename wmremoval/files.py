"""Atomic writing of files, JSON and CSV without NaN, and the folder that contains `data/` and `outputs/`."""

import csv
import errno
import http.client
import json
import math
import os
import platform
import secrets
import shutil
import socket
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of writing that do not name their file
DOWNLOAD_SILENCE = 20.0  # seconds without data after which a download is given up; not measured
REMEDIES = {  # by the name of the system's error
    "ENOENT": "check the name",
    "EACCES": "change its permissions, or name another place",
    "EPERM": "change its permissions, or name another place",
    "EROFS": "name a place that can be written to",
    "ENOSPC": "make room on the disk",
    "EDQUOT": "make room on the disk",
    "EFBIG": "name a place that takes larger files",
    "EISDIR": "name a file, not a folder",
    "ENOTDIR": "name a folder, not a file",
    "EEXIST": "name another, or delete it",
    "ENAMETOOLONG": "shorten it",
    "ELOOP": "name the file itself, not a link",
}


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
        _discard(temporary)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in a folder that were left by killed processes of this machine."""
    for part in folder.glob(f".{_machine()}-*.part"):
        pid = part.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            _discard(part)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder, deleted at the end; those of killed processes of this machine and user are deleted first."""
    start = f"wmremoval-{_machine()}"
    for folder in Path(tempfile.gettempdir()).glob(f"{start}-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)) and _is_own_folder(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{start}-{os.getpid()}-", ignore_cleanup_errors=True) as own:
        yield Path(own)


def _is_own_folder(folder: Path) -> bool:
    """True for a folder of this user that is no link."""
    try:
        status = folder.lstat()
    except OSError:  # it is gone by now
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _discard(path: Path) -> None:
    """Delete a file of ours; Windows deletes no read-only one."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        path.chmod(stat.S_IREAD | stat.S_IWRITE)
        path.unlink()


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
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise ValueError(f"cannot read {path} ({reason}){remedy(error, 'replace the damaged file')}") from None


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


def remedy(error: BaseException, otherwise: str = "try again, or name another place") -> str:
    """The remedy for an error of a file, to be added to its line.

    Args:
        error: what was raised.
        otherwise: the remedy for any other error.

    Example:
        >>> remedy(OSError(errno.ENOSPC, "No space left on device")), remedy(ValueError("odd"), "choose PNG")
        ('; make room on the disk', '; choose PNG')
    """
    name = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    return f"; {REMEDIES.get(name, otherwise)}"


def told(error: BaseException) -> str:
    """An error in one line that says what to do; one of the system names its file.

    Example:
        >>> told(FileNotFoundError(errno.ENOENT, "No such file or directory", "list.txt"))
        'list.txt: No such file or directory; check the name'
    """
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "not enough memory; close other programs, or try a smaller --max-memory or --batch-size"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}{remedy(error)}"
    return first_line(error)


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

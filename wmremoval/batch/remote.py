"""Files and folders in stores such as `s3://bucket/photos`, by fsspec: listed, fetched, and written whole or not at all.

Local folders and `s3://` are tested. Whatever else fsspec knows (`gs://`, `az://`, `sftp://`, ...) goes the same way,
untested. Credentials and addresses come from the environment of each store, such as AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeGuard

from wmremoval.files import first_line, remedy
from wmremoval.photofile.errors import one_line

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least: `C:\\` of Windows has one
WHOLE_PUTS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss")  # stores in which an object appears whole
EXTRA = "pip install wmremoval[cluster]"  # has fsspec and s3fs
CHECK = "check the name, the network and the credentials in the environment (for s3: AWS_...)"


class RemoteError(OSError):
    """A store did not do what was asked; the message is one line that names the place."""


@dataclass(frozen=True, order=True)
class Remote:
    """A file or folder in a store, with the part of `Path` that a plan of jobs needs.

    Args:
        url: such as `s3://bucket/photos/a.jpg`, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: PurePath | str) -> "Remote":
        return Remote(f"{self.url}/{name.as_posix() if isinstance(name, PurePath) else name}")

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.url.partition("://")[2])

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def stem(self) -> str:
        return self._path.stem

    @property
    def suffix(self) -> str:
        return self._path.suffix

    @property
    def parent(self) -> "Remote":
        return Remote(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "Remote":
        return self.parent / name

    def absolute(self) -> "Remote":
        return self

    def exists(self) -> bool:
        return self._kind() is not None

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_file(self) -> bool:
        return self._kind() == "file"

    def _kind(self) -> str | None:
        with _store(self, "looked up") as (store, path):
            store.invalidate_cache()
            try:
                return store.info(path)["type"]
            except FileNotFoundError:
                return None


Place = Path | Remote  # a file or folder of this machine, or of a store


def is_here(place: Place) -> TypeGuard[Path]:
    """True for a file or folder of this machine that is there; one in a store is not looked at."""
    return isinstance(place, Path) and os.path.exists(place)


def as_place(name: str) -> Place:
    """The place that a user names: `file://` and every name without a scheme is of this machine.

    Example:
        >>> as_place("s3://bucket/photos/"), as_place("photos/a.jpg").name
        (Remote(url='s3://bucket/photos'), 'a.jpg')
    """
    if not SCHEME.match(name):
        return Path(name).expanduser()
    if name.lower().startswith("file://"):
        return Path(name[len("file://") :])
    return Remote(name.rstrip("/"))


def listing(folder: Remote, recursive: bool = True) -> dict[str, int | None]:
    """The paths below a folder of all files in it, with their bytes; of a sub-folder that is not looked into, None.

    Raises:
        RemoteError: the store cannot be asked, or the folder cannot be listed; no folder is no error.
    """
    with _store(folder, "listed") as (store, root):
        store.invalidate_cache()
        try:
            found = store.find(root, detail=True).values() if recursive else store.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        sizes = {}
        for entry in found:
            name = entry["name"].removeprefix("/").removeprefix(root.strip("/"))
            if name.startswith("/") and not name.endswith("/"):  # not the folder itself, nor its mark in the store
                sizes[name[1:]] = None if entry["type"] == "directory" else int(entry.get("size") or 0)
        return sizes


def fetch(source: Remote, path: Path) -> None:
    """Copy a file of a store to this machine.

    Raises:
        RemoteError: it cannot be fetched.
    """
    with _store(source, "fetched") as (store, remote):
        store.get_file(remote, str(path))


def send(path: Path, place: Remote) -> None:
    """Copy a file of this machine to a store, where it appears whole or not at all.

    Where an upload can be seen half done it goes under a temporary name, and is moved.

    Raises:
        RemoteError: it cannot be written.
    """
    with _store(place, "written") as (store, remote):
        if place.scheme in WHOLE_PUTS:
            store.put_file(str(path), remote)
            return
        folder, _, name = remote.rpartition("/")
        store.makedirs(folder, exist_ok=True)
        part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
        try:
            store.put_file(str(path), part)
            store.mv(part, remote)
        finally:
            if store.exists(part):
                store.rm_file(part)


@contextmanager
def _store(place: Remote, done: str) -> Iterator[tuple[Any, str]]:
    """The store of a place and the place's path in it; every error of the store becomes a `RemoteError`."""
    try:
        from fsspec.core import url_to_fs

        yield url_to_fs(place.url)
    except RemoteError:
        raise
    except ImportError as error:
        needed = EXTRA if place.scheme in ("s3", "s3a") else first_line(error)
        raise RemoteError(f"{place}: a package for {place.scheme}:// is missing: {needed}") from None
    except Exception as error:  # the stores raise errors of their own kinds, without a common one
        raise RemoteError(f"{place}: cannot be {done} ({one_line(error, place.url)}){remedy(error, CHECK)}") from error

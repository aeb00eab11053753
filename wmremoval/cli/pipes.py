"""`-` as a photograph: standard input becomes a file, and a result becomes standard output."""

import codecs
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wmremoval.files import temporary_folder

PIPE = "-"
RECEIVED = "standard input"  # the name of the file, which messages show


@contextmanager
def piped(inputs: list[str], output: str | None) -> Iterator[tuple[list[str], str | None]]:
    """Yield the inputs with a file in place of `-`, and the output with a folder, whose file is sent at the end.

    Raises:
        OSError: standard input cannot be read, or standard output not be written.
    """
    if PIPE not in (*inputs, output):
        yield inputs, output
        return
    with temporary_folder() as folder:
        source, results = folder / RECEIVED, folder / "results"
        if PIPE in inputs:
            with source.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield [str(source) if name == PIPE else name for name in inputs], str(results) if output == PIPE else output
        for result in results.glob("*"):  # one, or none after a failure
            with result.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()


def listed_names(name: str, null: bool) -> list[str]:
    """The file names in a list, in UTF-8 or as PowerShell writes it; `-` is standard input. Empty lines are left out.

    Args:
        name: the list.
        null: True if a NUL byte ends each name, else a line break does.

    Raises:
        OSError: the list cannot be read.
        ValueError: NUL bytes end the names, and `null` is False; or the list is not UTF-8, where that matters.
    """
    data = sys.stdin.buffer.read() if name == PIPE else Path(name).expanduser().read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    if not null and b"\0" in data:
        raise ValueError(f"the names in {name} end with NUL bytes: add --null")
    names = data.split(b"\0") if null else data.removeprefix(codecs.BOM_UTF8).splitlines()
    try:
        return [os.fsdecode(each) for each in names if each]
    except UnicodeDecodeError:  # on Windows; other systems have names of any bytes
        raise ValueError(f"the list {name} is not UTF-8: save it as UTF-8") from None

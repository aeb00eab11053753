"""The command `remove`, in this process or in one of its own, with the planted remover behind it."""

import os
import subprocess
import sys
from pathlib import Path

from wmremoval.__main__ import main

TESTS = Path(__file__).parents[1]
# A process of its own: the planted remover stands for the network, and `before` is run first.
PROGRAM = """
import sys
sys.path[:0] = {paths}
from planted import planted
import wmremoval.restore.remover
wmremoval.restore.remover.load_remover = lambda *arguments, **options: planted()
from wmremoval.__main__ import main
{before}
sys.exit(main(["remove", *sys.argv[1:]]))
"""


def run(*arguments) -> int:
    """The exit status of the command, in this process."""
    return main(["remove", *map(str, arguments)])


def apart(*arguments, folder, before: str = "", **options) -> subprocess.CompletedProcess:
    """The command in a process of its own, in `folder`."""
    program = PROGRAM.format(paths=[str(TESTS), str(TESTS.parent)], before=before)
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder, capture_output=True, timeout=600, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, **options,
    )  # fmt: skip


def files(folder: Path) -> list[str]:
    """The files of a folder and below it, hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in found)

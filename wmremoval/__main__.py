"""The command line: wmremoval remove | train | evaluate | download | publish (or python -m wmremoval ...)."""

import argparse
import sys
from collections.abc import Sequence

from wmremoval.cli.dispatch import dispatch
from wmremoval.cli.download import add_download
from wmremoval.cli.evaluate import add_evaluate
from wmremoval.cli.publish import add_publish
from wmremoval.cli.remove import add_remove
from wmremoval.cli.train import add_train


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="wmremoval", description="Remove visible watermarks from photographs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_remove, add_train, add_evaluate, add_download, add_publish):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see `dispatch`."""
    return dispatch(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())

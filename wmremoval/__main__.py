"""The command line: wmremoval remove | app | train | evaluate | download | publish | info (or python -m wmremoval ...)."""

import argparse
import sys
from collections.abc import Sequence

from wmremoval.cli.app import add_app
from wmremoval.cli.dispatch import Parser, dispatch
from wmremoval.cli.download import add_download
from wmremoval.cli.evaluate import add_evaluate
from wmremoval.cli.info import add_info
from wmremoval.cli.publish import add_publish
from wmremoval.cli.remove import add_remove
from wmremoval.cli.train import add_train

OVERVIEW = """Remove visible watermarks from photographs, on this computer.

  wmremoval remove photo.jpg                  write photo.restored.jpg beside it
  wmremoval remove photos/ -o clean/          restore a folder
  wmremoval app                               the same on a page in the browser

remove, app, train, evaluate, download, publish, info: `wmremoval COMMAND --help` tells more.
Notebook: notebooks/watermark_removal.ipynb. Versions, weights and fonts: `wmremoval info`."""

COMPLETION = """the Tab key completes commands, options and files in bash after these three lines, once (zsh: first bashcompinit):
  pip install shtab
  shtab --shell=bash wmremoval.__main__.build_parser > ~/.wmremoval-completion
  echo 'source ~/.wmremoval-completion; complete -o default -F _shtab_wmremoval wmremoval' >> ~/.bashrc"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="wmremoval",
        description="Remove visible watermarks from photographs.",
        epilog=COMPLETION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(run=run_overview)
    for add in (add_remove, add_app, add_train, add_evaluate, add_download, add_publish, add_info):
        add(commands)
    return parser


def run_overview(arguments: argparse.Namespace) -> int:
    """Print what there is; returns the exit status."""
    print(OVERVIEW)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see `dispatch`."""
    return dispatch(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())

"""Run one command of a parser: log lines on standard output, every expected error as one line."""

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from wmremoval import log_to
from wmremoval.files import told


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that says what to do next."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` tells what there is\n")

    def parse_known_args(  # type: ignore[override]  # the stub tells namespaces apart by overloads
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is unknown at once: the parser of a command knows its options best."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
            self.error(f"{unknown[0]} is unknown{f' (do you mean {near[0]}?)' if near else ''}")
        return known, unknown


def dispatch(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command.

    Args:
        parser: each of its commands sets `run`, a function of the arguments that returns the exit status.
        argv: the command line; None for the process's own.

    Returns:
        the exit status of the command; 1 after an error, with one line on standard error; 130 after an interruption.
    """
    arguments = parser.parse_args(argv)
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a file name that a console or pipe of Windows cannot write is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    log_to(sys.stdout)
    try:
        with warnings.catch_warnings():  # restores showwarning at the end
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            return arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 1
    finally:
        log_to(None)

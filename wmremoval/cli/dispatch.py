"""Run one command of a parser: log lines on standard output, every expected error as one line."""

import argparse
import io
import sys
import warnings
from collections.abc import Sequence

from wmremoval import log_to
from wmremoval.files import first_line


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
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 1
    finally:
        log_to(None)

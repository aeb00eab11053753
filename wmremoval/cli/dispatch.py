"""Run one command of a parser: log lines on standard output, every expected error as one line."""

import argparse
import sys
import warnings
from collections.abc import Sequence

from wmremoval import log_to
from wmremoval.files import first_line


def dispatch(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse and run.

    Args:
        parser: each of its commands sets `run`, a function from the arguments to the exit status.
        argv: the command line; None takes the program's own.

    Returns:
        the exit status: 0 if all went well, 1 with one line on standard error if not, 130 if interrupted.
    """
    arguments = parser.parse_args(argv)
    log_to(sys.stdout)
    try:
        with warnings.catch_warnings():  # also restores the way warnings are shown
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

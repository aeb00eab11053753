"""wmremoval app: a page in the browser, on this computer alone, for people who do not write commands."""

import argparse
import sys
from importlib.util import find_spec

MISSING = "the page needs Gradio: pip install gradio"


def add_app(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    app = commands.add_parser("app", help="open a page in the browser; nothing leaves this computer")
    app.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    app.add_argument("--weights", metavar="FILE", help=".safetensors, .pth or run's folder; default: the package's")
    app.add_argument("--device", default="auto", help="auto, cpu or cuda")
    app.add_argument("--max-memory", type=int, default=2000, metavar="MB", help="memory on the CPU, default 2000")
    app.add_argument("--no-browser", action="store_true", help="print the page's address, and open no browser")
    app.set_defaults(run=run_app)


def run_app(arguments: argparse.Namespace) -> int:
    """Serve the page until an interruption.

    Returns:
        2 for wrong usage, or without Gradio; 130 after an interruption.

    Raises:
        ValueError, OSError: no weights, wrong ones, or a port that is taken.
    """
    wrong = MISSING if find_spec("gradio") is None else None
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        wrong = f"--port must be 1 to 65535, got {arguments.port}"
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    from wmremoval.app.page import serve
    from wmremoval.cli.signals import terminated_as_interrupted
    from wmremoval.restore.remover import load_remover

    with terminated_as_interrupted():
        remover = load_remover(arguments.weights, arguments.device, max_memory=arguments.max_memory)
        serve(remover, arguments.port, not arguments.no_browser, _tell)
    return 0


def _tell(address: str) -> None:
    print(f"the page is at {address} until you press Ctrl+C; nothing leaves this computer", flush=True)

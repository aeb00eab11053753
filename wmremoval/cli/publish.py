"""wmremoval publish: copy a run's reports and pictures into outputs/."""

import argparse

from wmremoval.files import from_root


def add_publish(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    publish = commands.add_parser("publish", help="copy a run's reports and pictures into outputs/ for the README")
    publish.add_argument("run_folder", metavar="RUN", help="folder of a run")
    publish.add_argument("--output", default="outputs", help="folder for the reports and visuals/")
    publish.set_defaults(run=run_publish)


def run_publish(arguments: argparse.Namespace) -> int:
    """Publish a run; returns the exit status."""
    import torch

    from wmremoval.report.publish import publish

    for path in publish(from_root(arguments.run_folder), from_root(arguments.output), torch.device("cpu")):
        print(path.name)
    return 0

"""wmremoval publish: copy a run's reports and pictures, or an executed notebook, into outputs/."""

import argparse

from wmremoval.files import find_root, from_root


def add_publish(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    publish = commands.add_parser(
        "publish", help="copy a run's reports and pictures, or an executed notebook, into outputs/ for the README"
    )
    publish.add_argument("what", metavar="RUN", help="folder of a run, or an executed copy of the notebook (.ipynb)")
    publish.add_argument("--output", default="outputs", help="folder for the reports, visuals/ and executed/")
    publish.set_defaults(run=run_publish)


def run_publish(arguments: argparse.Namespace) -> int:
    """Publish a run or an executed notebook; returns the exit status."""
    what, output = from_root(arguments.what), from_root(arguments.output)
    if what.suffix == ".ipynb":
        from wmremoval.report.executed import publish_notebook

        notebook = find_root() / "notebooks" / "watermark_removal.ipynb"
        print(publish_notebook(what, notebook, output / "executed" / notebook.name).name)
        return 0
    import torch

    from wmremoval.report.publish import publish

    for path in publish(what, output, torch.device("cpu")):
        print(path.name)
    return 0

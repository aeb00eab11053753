"""The command line: python -m wmremoval remove | train | evaluate | download | publish | average | ship | benchmark."""

import argparse
import sys
import warnings

from .benchmarkcommand import add_benchmark, run_benchmark
from .runs import find_root, from_root, read_json
from .traincommand import add_evaluate, add_train, run_evaluate, run_train


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    from .removecommand import add_remove

    parser = argparse.ArgumentParser(
        prog="python -m wmremoval", description="Remove visible watermarks from photographs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_remove, add_train, add_evaluate, _add_tools, add_benchmark):
        add(commands)
    return parser


def _add_tools(commands: argparse._SubParsersAction) -> None:
    download = commands.add_parser("download", help="fetch photographs to train on")
    download.add_argument("--dataset", default="imagenette", help="imagenette, oxford_pets, flowers102 or dtd")
    download.add_argument("--limit", type=int, default=1000, help="photographs to keep, default 1000")
    download.add_argument("--photos", default="data/clean_images", help="folder they go to")

    publish = commands.add_parser("publish", help="put a run's reports and pictures into outputs/ for the README")
    publish.add_argument("run", help="folder of a run")
    publish.add_argument("--output", default="outputs", help="where reports and visuals/ go")

    average = commands.add_parser("average", help="a run whose network is the mean of several runs' networks")
    average.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, the last training first")
    average.add_argument("--output", default="outputs", help="the run goes to OUTPUT/runs/<date>_<name>")
    average.add_argument("--name", default="average", help="name of the run")

    ship = commands.add_parser("ship", help="make a run's network the package's weights, with a card")
    ship.add_argument("run", help="folder of a finished run")
    ship.add_argument("--data", required=True, help="what it was trained on, and on which terms")
    ship.add_argument("--limits", required=True, help="what it cannot do")
    ship.add_argument("--history", help="what went before the run, and what its recipe does not say")
    ship.add_argument("--suite", metavar="FILE.json", help="suite.json of these weights, for the card")
    ship.add_argument("--floor", action="append", default=[], metavar="NAME=VALUE", help="what tests hold them to")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns 0 if all went well, 1 with one line on standard error if not."""
    arguments = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():  # puts back the way warnings are shown, too
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}", file=sys.stderr)
        return 1


def run_download(arguments: argparse.Namespace) -> int:
    """Fetch a public set of photographs."""
    from .photos import download_photos

    folder = from_root(arguments.photos)
    count = download_photos(arguments.dataset, arguments.limit, folder, find_root() / "data" / "downloads")
    print(f"{folder} holds {count} photographs from {arguments.dataset}")
    return 0


def run_publish(arguments: argparse.Namespace) -> int:
    """Publish a run."""
    import torch

    from .publishing import publish

    for path in publish(from_root(arguments.run), from_root(arguments.output), torch.device("cpu")):
        print(path.name)
    return 0


def run_average(arguments: argparse.Namespace) -> int:
    """Average runs."""
    from .averaging import average_runs

    print(average_runs([from_root(run) for run in arguments.runs], from_root(arguments.output), arguments.name))
    return 0


def run_ship(arguments: argparse.Namespace) -> int:
    """Ship a run."""
    from .gallery import draw_gallery
    from .inference import load_remover
    from .shipping import ship

    suite = read_json(from_root(arguments.suite)) if arguments.suite else None
    floors = {name: float(value) for name, value in (floor.split("=", 1) for floor in arguments.floor)}
    weights = ship(from_root(arguments.run), arguments.data, arguments.limits, suite, floors or None, arguments.history)
    picture = draw_gallery(load_remover(weights), find_root() / "outputs" / "visuals" / "removed.png")
    print(f"{weights.name}, {picture.name}")
    return 0


def _run_remove(arguments: argparse.Namespace) -> int:
    from .removecommand import run_remove

    return run_remove(arguments)


COMMANDS = {
    "remove": _run_remove,
    "train": run_train,
    "evaluate": run_evaluate,
    "download": run_download,
    "publish": run_publish,
    "benchmark": run_benchmark,
    "average": run_average,
    "ship": run_ship,
}

if __name__ == "__main__":
    sys.exit(main())

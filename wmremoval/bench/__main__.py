"""The maintainers' commands, `python -m wmremoval.bench NAME`: benchmarks, ablation, speed, weights to ship."""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wmremoval.cli.dispatch import Parser, dispatch
from wmremoval.files import find_root, from_root, read_json, write_csv, write_json

if TYPE_CHECKING:
    from wmremoval.bench.suite import ScoreOptions
    from wmremoval.restore.remover import Remover


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="python -m wmremoval.bench", description="Benchmarks, ablations, speed, and the weights of the package."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        _add_suite,
        _add_web,
        _add_unmarked,
        _add_same_mark,
        _add_ablation,
        _add_document,
        _add_truth,
        _add_speed,
        _add_training,
        _add_kills,
        _add_cluster,
        _add_decision,
        _add_places,
        _add_average,
        _add_curve,
        _add_ship,
        _add_licences,
    ):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see `dispatch`."""
    return dispatch(build_parser(), argv)


def _add_scored(
    commands: argparse._SubParsersAction, name: str, help: str, photos: str | None
) -> argparse.ArgumentParser:
    """Add a command that scores weights on photographs, with the options common to these commands."""
    command = commands.add_parser(name, help=help)
    command.add_argument("--photos", default=photos, help=f"folder of photographs, default {photos or 'scikit-image'}")
    command.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.add_argument("--report-dir", help="folder for the reports")
    command.add_argument(
        "--limit", type=int, help="photographs at most; in suite, truth and ablation per cell (24, 8, 8)"
    )
    return command


def _options(arguments: argparse.Namespace) -> "ScoreOptions":
    """The options that all scored benchmarks share."""
    from wmremoval.bench.suite import ScoreOptions

    folder = arguments.report_dir and from_root(arguments.report_dir)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)  # an invalid folder fails before the long run, not after it
    return ScoreOptions(arguments.weights, arguments.device, folder, arguments.limit)


def _logos(arguments: argparse.Namespace) -> Path | None:
    return arguments.logos and from_root(arguments.logos)


def _add_suite(commands: argparse._SubParsersAction) -> None:
    suite = _add_scored(commands, "suite", "score a remover over the fixed suite of marks", "data/clean_images")
    suite.add_argument("--logos", help="folder of RGBA logos, for the logo cells")
    suite.add_argument("--part", default="test", help="test (default), or val to tune on")
    suite.add_argument("--bare", action="store_true", help="the network alone, without the remover")
    suite.add_argument(
        "--without",
        action="append",
        default=[],
        help="leave out: mirror, raise, fill, consensus, separation, text, decision, confirmation, outline, again or boxes",
    )
    suite.set_defaults(run=_run_suite)


def _run_suite(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.suite_report import run_suite, suite_table

    photos, part = from_root(arguments.photos), arguments.part
    results = run_suite(photos, _logos(arguments), _options(arguments), part, arguments.bare, arguments.without)
    print(suite_table(results))
    return 0


def _add_web(commands: argparse._SubParsersAction) -> None:
    web = _add_scored(commands, "web", "score a remover on marks typical of the web, on photographs of full size", None)
    web.add_argument("--only", action="append", default=[], metavar="KIND", help="this kind of mark alone; repeatable")
    web.set_defaults(run=_run_web)


def _run_web(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.web_marks import run_web_marks, web_table

    photos = arguments.photos and from_root(arguments.photos)
    print(web_table(run_web_marks(photos, _options(arguments), arguments.only)))
    return 0


def _add_unmarked(commands: argparse._SubParsersAction) -> None:
    unmarked = _add_scored(commands, "unmarked", "score a remover on unmarked photographs and drawn pictures", None)
    unmarked.add_argument("--only", action="append", default=[], metavar="GROUP", help="this group alone; repeatable")
    unmarked.set_defaults(run=_run_unmarked)


def _run_unmarked(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.unmarked import run_unmarked, unmarked_table

    photos = arguments.photos and from_root(arguments.photos)
    print(unmarked_table(run_unmarked(photos, _options(arguments), arguments.only)))
    return 0


def _add_same_mark(commands: argparse._SubParsersAction) -> None:
    same = _add_scored(commands, "same-mark", "score one mark on many photographs", "data/clean_images")
    same.add_argument("--natives", metavar="DIR", help="folder of large photographs, for the row of native size")
    same.set_defaults(run=_run_same_mark)


def _run_same_mark(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.same_mark import run_same_mark, same_mark_table

    natives = from_root(arguments.natives) if arguments.natives else None
    print(same_mark_table(run_same_mark(from_root(arguments.photos), _options(arguments), natives)))
    return 0


def _add_ablation(commands: argparse._SubParsersAction) -> None:
    ablation = _add_scored(commands, "ablation", "leave out each step of the restoration in turn", "data/clean_images")
    ablation.add_argument("--logos", help="folder of RGBA logos, for the logo cells")
    ablation.add_argument("--only", action="append", default=[], metavar="STEP", help="this step alone; repeatable")
    ablation.set_defaults(run=_run_ablation)


def _run_ablation(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.ablation import ablation_table, run_ablation

    photos = from_root(arguments.photos)
    print(ablation_table(run_ablation(photos, _logos(arguments), _options(arguments), arguments.only)))
    return 0


def _add_document(commands: argparse._SubParsersAction) -> None:
    document = _add_scored(
        commands, "document", "score weights by the document's test: photographs augmented once", "data/clean_images"
    )
    document.set_defaults(run=_run_document)


def _run_document(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.document_test import document_table, run_document_test

    print(document_table(run_document_test(from_root(arguments.photos), _options(arguments))))
    return 0


def _add_truth(commands: argparse._SubParsersAction) -> None:
    truth = _add_scored(
        commands, "truth", "ablation: replace mask, alpha or colour by the true values", "data/clean_images"
    )
    truth.add_argument("--logos", help="folder of RGBA logos, for the logo cells")
    truth.add_argument("--part", default="val", help="val (default), or test")
    truth.set_defaults(run=_run_truth)


def _run_truth(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.truth_ablation import run_truth_ablation, truth_table

    photos, part = from_root(arguments.photos), arguments.part
    print(truth_table(run_truth_ablation(photos, _logos(arguments), _options(arguments), part)))
    return 0


def _add_speed(commands: argparse._SubParsersAction) -> None:
    speed = commands.add_parser("speed", help="time the network, whole photographs, folders, training samples")
    speed.add_argument(
        "parts", nargs="*", metavar="PART", help="network, photo, recall, folder, scale, samples; default all"
    )
    speed.add_argument("--photos", default="data/clean_images", help="folder of photographs, for scale and samples")
    speed.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    speed.add_argument("--device", default="auto", help="auto, cpu or cuda")
    speed.add_argument("--image-size", type=int, default=256, help="side of the samples, pixels, default 256")
    speed.add_argument("--samples", type=int, default=300, help="how many training samples are timed, default 300")
    speed.add_argument("--report", help="also write the numbers to this JSON file")
    speed.set_defaults(run=_run_speed)


def _run_speed(arguments: argparse.Namespace) -> int:
    """Time the named parts and print one table."""
    from wmremoval.bench import speed
    from wmremoval.restore.remover import load_remover

    def remover() -> "Remover":
        return load_remover(arguments.weights, arguments.device)

    photos = from_root(arguments.photos)
    parts = {
        "network": lambda: speed.time_network(),
        "photo": lambda: speed.time_photographs(remover()),
        "recall": lambda: speed.measure_recall(remover()),
        "folder": lambda: speed.time_folder(remover()),
        "scale": lambda: speed.measure_scale(remover(), photos),
        "samples": lambda: speed.time_samples(photos, arguments.image_size, arguments.samples),
    }
    if unknown := [part for part in arguments.parts if part not in parts]:
        raise ValueError(f"unknown part {unknown[0]!r}; choose from {', '.join(parts)}")
    numbers: dict = {}
    for part in arguments.parts or parts:
        numbers |= parts[part]()
    return _tell(numbers, arguments.report)


def _tell(numbers: dict, report: str | None) -> int:
    """Print measurements as a table, and write them to a file if one is named; 0."""
    from wmremoval.report.tables import format_table

    print(format_table([{"measure": name, "value": value} for name, value in numbers.items()]))
    if report:
        write_json(report, numbers)
    return 0


def _add_training(commands: argparse._SubParsersAction) -> None:
    training = commands.add_parser("training", help="time loader and step of a training, alone and together")
    training.add_argument("--photos", default="data/clean_images", help="folder of photographs")
    training.add_argument("--profile", default="full", help="settings: full, document or quick; default full")
    training.add_argument("--device", default="auto", help="auto, cpu or cuda")
    training.add_argument("--image-size", type=int, help="side of the crops, pixels; default: the profile's")
    training.add_argument("--batch-size", type=int, help="photographs a step; default: the profile's")
    training.add_argument("--workers", type=int, help="loader processes; default: the profile's")
    training.add_argument("--amp", help="auto, bf16, fp16 or off; default: the profile's")
    training.add_argument("--accumulate", type=int, help="parts of a batch, default 1")
    training.add_argument("--checkpoint-activations", action="store_true", default=None, help="compute them again")
    training.add_argument("--steps", type=int, default=20, help="batches of each measurement, default 20")
    training.add_argument("--report", help="also write the numbers to this JSON file")
    training.set_defaults(run=_run_training)


def _run_training(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.training import measure_training
    from wmremoval.config import TrainConfig, choose_device
    from wmremoval.data.photos import list_photos
    from wmremoval.training.profiles import choose_config

    given = {name: value for name, value in vars(arguments).items() if name in TrainConfig().to_dict()}
    config = choose_config(arguments.profile, choose_device(arguments.device), **given)
    photos = list_photos(from_root(arguments.photos))[:1000]
    numbers = measure_training(photos, config, arguments.steps, arguments.device)
    return _tell(numbers, arguments.report)


def _add_kills(commands: argparse._SubParsersAction) -> None:
    kills = commands.add_parser("kills", help="kill a training at random moments, resume it, compare it")
    kills.add_argument("--photos", default="data/clean_images", help="folder of photographs, of which 12 are used")
    kills.add_argument("--kills", type=int, default=20, help="number of kills, default 20")
    kills.add_argument("--seed", type=int, default=0, help="of the moments, default 0")
    kills.add_argument("--report", help="also write what was seen to this JSON file")
    kills.set_defaults(run=_run_kills)


def _run_kills(arguments: argparse.Namespace) -> int:
    """Kill and resume; 1 if anything was lost, doubled or damaged."""
    from wmremoval.bench.kills import run_kills
    from wmremoval.data.photos import list_photos

    tally = vars(run_kills(list_photos(from_root(arguments.photos)), arguments.kills, arguments.seed))
    for name, value in tally.items():
        print(f"{name}: {value}")
    if arguments.report:
        write_json(arguments.report, tally)
    return 1 if tally["problems"] else 0


def _add_cluster(commands: argparse._SubParsersAction) -> None:
    cluster = commands.add_parser("cluster", help="time remove --workers N against N plain commands at once")
    cluster.add_argument("--photos", default="data/clean_images", help="folder of photographs")
    cluster.add_argument("--limit", type=int, default=100, help="photographs at most, default 100")
    cluster.add_argument("--workers", type=int, default=2, help="number of processes, default 2")
    cluster.add_argument("--report", help="also write the numbers to this JSON file")
    cluster.set_defaults(run=_run_cluster)


def _run_cluster(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.cluster import measure_cluster
    from wmremoval.data.photos import list_photos

    photos = list_photos(from_root(arguments.photos))[: arguments.limit]
    return _tell(measure_cluster(photos, arguments.workers), arguments.report)


def _add_places(commands: argparse._SubParsersAction) -> None:
    places = commands.add_parser("places", help="list false detections of a network on the training photographs")
    places.add_argument("report", metavar="FILE.json", help="file for the list, to be used by train --hard-places")
    places.add_argument("--photos", default="data/clean_images", help="folder of photographs, split as for training")
    places.add_argument("--more-photos", metavar="DIR", help="folder of photographs for training only")
    places.add_argument("--seed", type=int, default=0, help="seed of the run, which decides the split; default 0")
    places.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    places.add_argument("--device", default="auto", help="auto, cpu or cuda")
    places.set_defaults(run=_run_places)


def _run_places(arguments: argparse.Namespace) -> int:
    from wmremoval.config import TrainConfig
    from wmremoval.data.photos import open_photos
    from wmremoval.training.checkpoints import SHIPPED_WEIGHTS, load_model
    from wmremoval.training.hard_places import find_hard_places
    from wmremoval.training.trainer import pick_device

    device = pick_device(arguments.device)
    net, _ = load_model(arguments.weights or SHIPPED_WEIGHTS, device)
    more = arguments.more_photos and from_root(arguments.more_photos)
    photos = open_photos(from_root(arguments.photos), TrainConfig(seed=arguments.seed), more)
    places = find_hard_places(net, photos.parts()["train"], device)
    write_json(arguments.report, places)
    print(f"{len(places)} places on {len({place['file'] for place in places})} photographs")
    return 0


def _add_decision(commands: argparse._SubParsersAction) -> None:
    decision = commands.add_parser("decision", help="fit the decision on lines of text; needs scikit-learn")
    decision.add_argument(
        "--photos", default="data/clean_images", help="folder of photographs; the training part counts"
    )
    decision.add_argument("--more-photos", help="more photographs, for the fit only")
    decision.add_argument("--logos", help="folder of RGBA logos")
    decision.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    decision.add_argument("--marked", type=int, default=650, help="photographs that come under marks, too, default 650")
    decision.add_argument("--report-dir", help="folder for decision.json and its scores; default: into the package")
    decision.set_defaults(run=_run_decision)


def _run_decision(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.decision import Material, decision_table, run_decision

    more = arguments.more_photos and from_root(arguments.more_photos)
    material = Material(from_root(arguments.photos), _logos(arguments), more, arguments.marked)
    print(decision_table(run_decision(material, arguments.weights, arguments.report_dir)))
    return 0


def _add_curve(commands: argparse._SubParsersAction) -> None:
    curve = commands.add_parser("curve", help="draw the learning curve of trainings by the clock")
    curve.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, each begun from the best of the last")
    curve.add_argument("--before", type=float, default=0.0, help="views shown before the first of them, default 0")
    curve.add_argument("--report-dir", help="folder for learning_curve.json and its picture")
    curve.set_defaults(run=_run_curve)


def _run_curve(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.curve import curve_table, run_curve

    runs = [from_root(run) for run in arguments.runs]
    print(curve_table(run_curve(runs, arguments.before, arguments.report_dir)))
    return 0


def _add_average(commands: argparse._SubParsersAction) -> None:
    average = commands.add_parser("average", help="make a run whose weights are the mean of several runs' weights")
    average.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, the last training first")
    average.add_argument("--output", default="outputs", help="the new run is OUTPUT/runs/<date>_<name>")
    average.add_argument("--name", default="average", help="name of the run")
    average.set_defaults(run=_run_average)


def _run_average(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.average import average_runs

    print(average_runs([from_root(run) for run in arguments.runs], from_root(arguments.output), arguments.name))
    return 0


def _add_ship(commands: argparse._SubParsersAction) -> None:
    ship = commands.add_parser("ship", help="make a run's network the package's weights, with a card")
    ship.add_argument("run_folder", metavar="RUN", help="folder of a finished run")
    ship.add_argument("--data", required=True, help="for the card: the training data and its licence terms")
    ship.add_argument("--limits", required=True, help="for the card: known limits of the weights")
    ship.add_argument("--history", help="for the card: earlier training stages, and facts missing from the recipe")
    ship.add_argument("--suite", metavar="FILE.json", help="for the card: suite.json of these weights")
    ship.add_argument("--floor", action="append", default=[], metavar="NAME=VALUE", help="lowest score tests accept")
    ship.set_defaults(run=_run_ship)


def _run_ship(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.ship import ship
    from wmremoval.report.gallery import draw_gallery
    from wmremoval.restore.remover import load_remover

    suite = read_json(from_root(arguments.suite)) if arguments.suite else None
    floors = {name: float(value) for name, value in (floor.split("=", 1) for floor in arguments.floor)}
    folder, history = from_root(arguments.run_folder), arguments.history
    weights = ship(folder, arguments.data, arguments.limits, suite, floors or None, history)
    picture = draw_gallery(load_remover(weights), find_root() / "outputs" / "visuals" / "removed.png")
    print(f"{weights.name}, {picture.name}")
    return 0


def _add_licences(commands: argparse._SubParsersAction) -> None:
    licences = commands.add_parser("licences", help="licence and age of every package that requirements.txt pulls in")
    licences.add_argument("--extra", action="append", help="of the package; default: those of requirements.txt")
    licences.add_argument("--releases", metavar="FILE.tsv", help="list of packages: name, newest version, its month")
    licences.add_argument("--report", metavar="FILE.csv", help="write the table to this file")
    licences.set_defaults(run=_run_licences)


def _run_licences(arguments: argparse.Namespace) -> int:
    from wmremoval.bench.licences import licence_rows, read_releases

    extras = arguments.extra or re.findall(
        r"[\w-]+", from_root("requirements.txt").read_text(encoding="utf-8").partition("[")[2]
    )
    releases = read_releases(from_root(arguments.releases)) if arguments.releases else {}
    rows = licence_rows("wmremoval", extras, releases, time.strftime("%Y-%m"))
    if arguments.report:
        write_csv(from_root(arguments.report), rows)
    for row in rows:
        print(*row.values(), sep=" | ")
    return 0


if __name__ == "__main__":
    sys.exit(main())

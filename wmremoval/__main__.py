"""The command line: python -m wmremoval remove | train | evaluate | download | publish | benchmark."""

import argparse
import sys
import warnings
from pathlib import Path

# Fields of TrainConfig that are options of the train command, with how they are read.
SETTINGS = dict.fromkeys(("epochs", "image_size", "batch_size", "workers", "seed", "max_photos", "warmup_epochs"), int)
SETTINGS |= dict.fromkeys(("size_spread", "sample_seed", "early_stop_patience"), int)
SETTINGS |= dict.fromkeys(("perceptual_weights", "target", "amp", "init", "marks", "keep"), str)
SETTINGS |= dict.fromkeys(
    ("learning_rate", "weight_decay", "l1_weight", "mask_weight", "iou_weight", "mark_weight"), float
)
SETTINGS |= dict.fromkeys(
    ("alpha", "beta", "gamma", "delta", "zoom", "ema", "collage", "degraded", "photo_memory"), float
)


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    from .removecommand import add_remove

    parser = argparse.ArgumentParser(
        prog="python -m wmremoval", description="Remove visible watermarks from photographs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_remove, _add_train, _add_evaluate, _add_tools):
        add(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    """The defaults are those of `TrainConfig`."""
    from .config import TrainConfig

    defaults = TrainConfig()
    train = commands.add_parser("train", help="train a network, test it and draw its pictures")
    train.add_argument("--photos", default="data/clean_images", help="folder of photographs")
    train.add_argument("--logos", help="folder of RGBA logos to use as watermarks too")
    train.add_argument("--output", default="outputs", help="the run goes to OUTPUT/runs/<date>_<name>")
    train.add_argument("--name", default="train", help="name of the run")
    train.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder, with its own settings")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument(
        "--profile", default="full", help="full (default), document (direct image, no mask term) or quick"
    )
    for name, kind in SETTINGS.items():
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default {getattr(defaults, name)}")
    train.add_argument("--lr-drop-epoch", type=int, help=f"default {defaults.lr_drop_epoch}; 0: never")
    train.add_argument("--composite", action=argparse.BooleanOptionalAction, help=f"default {defaults.composite}")
    train.add_argument("--pairs", action=argparse.BooleanOptionalAction, help=f"default {defaults.pairs}")
    train.add_argument("--decompose", action=argparse.BooleanOptionalAction, help=f"default {defaults.decompose}")
    train.add_argument("--compile", action="store_true", default=None, help="torch.compile the network")


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="score a run over its test photographs, or a remover over the suite"
    )
    evaluate.add_argument("run", nargs="?", help="folder of a run")
    evaluate.add_argument("--suite", action="store_true", help="the fixed suite on photographs of any folder")
    evaluate.add_argument("--logos", help="folder of RGBA logos, for the suite's logo cells")
    evaluate.add_argument(
        "--weights", help="for suite and document: a .safetensors, .pth or run's folder; default: the package's"
    )
    evaluate.add_argument("--report-dir", help="folder for the reports of suite and document")
    evaluate.add_argument(
        "--limit", type=int, help="photographs at most: in each cell of the suite (24), or of the document's test"
    )
    evaluate.add_argument("--document", action="store_true", help="the document's test: photographs augmented once")
    evaluate.add_argument("--part", default="test", help="test (default), or val to tune the suite's remover on")
    evaluate.add_argument("--bare", action="store_true", help="the suite for the network alone, without the remover")
    evaluate.add_argument(
        "--without", action="append", default=[], help="leave out a step of the remover: mirror, consensus or fill"
    )
    evaluate.add_argument("--photos", help="folder of the run's photographs, if it has moved")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda")


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

    benchmark = commands.add_parser("benchmark", help="time the network, whole photographs, folders, training samples")
    benchmark.add_argument(
        "parts", nargs="*", metavar="PART", help="network, photo, recall, folder, scale, samples; default all"
    )
    benchmark.add_argument("--photos", default="data/clean_images", help="folder of photographs, for scale and samples")
    benchmark.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    benchmark.add_argument("--device", default="auto", help="auto, cpu or cuda")
    benchmark.add_argument("--image-size", type=int, default=256)
    benchmark.add_argument("--samples", type=int, default=300)
    benchmark.add_argument("--report", help="also write the numbers to this JSON file")


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


def _from_root(path: str) -> Path:
    """A path as given if it is absolute or there, else taken from the repository's root."""
    from .runs import find_root

    given = Path(path).expanduser()
    return given.resolve() if given.is_absolute() or given.exists() else find_root() / given


def run_train(arguments: argparse.Namespace) -> int:
    """Photographs, loaders, training, reports, test, pictures: the notebook's steps in its order."""
    from .config import TrainConfig
    from .evaluation import restore_samples
    from .experiment import choose_config, describe, open_loaders, open_photos, run_photos, score, start_run
    from .publishing import draw_visuals
    from .reports import read_config, write_changelog, write_training_reports
    from .training import Training, fit, pick_device

    device = pick_device(arguments.device)
    output = _from_root(arguments.output)
    if arguments.resume:
        folder = _from_root(arguments.resume)
        about = read_config(folder)
        config, logos_dir = about["train"], about["sources"].get("logos")
        photos = run_photos(folder, about)
    else:
        given = {name: value for name, value in vars(arguments).items() if name in TrainConfig().to_dict()}
        config = choose_config(arguments.profile, device, **given)
        logos_dir = arguments.logos and _from_root(arguments.logos)
        photos = open_photos(_from_root(arguments.photos), config)
    loaders = open_loaders(photos, config, device, logos_dir)
    training = Training(config, len(loaders["train"]), device)
    info = describe(training, photos, loaders, logos_dir)
    if not arguments.resume:
        folder = start_run(output, arguments.name, info)
    result = fit(training, loaders, folder, resume=bool(arguments.resume))
    write_training_reports(result, info)
    _, summary = score(training, loaders["test"], folder)
    _print_scores(summary)
    write_changelog(folder)
    dataset = loaders["test"].dataset
    draw_visuals(
        training, result.history, restore_samples(training.net, dataset, range(min(8, len(dataset))), device), folder
    )
    print(f"Reports and pictures are in {folder}")
    return 130 if result.stopped == "interrupted" else 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score a finished run over its own test photographs, or those of the same names in another folder."""
    from .experiment import fixed_loader, read_run, run_photos, score
    from .reports import write_changelog
    from .training import pick_device

    if arguments.suite:
        from .suitereport import run_suite

        logos, folder = (path and _from_root(path) for path in (arguments.logos, arguments.report_dir))
        photos = _from_root(arguments.photos or "data/clean_images")
        how = {"limit": arguments.limit, "part": arguments.part, "bare": arguments.bare, "without": arguments.without}
        run_suite(photos, logos, arguments.weights, arguments.device, folder, **how)
        return 0
    if arguments.document:
        from .protocol import run_protocol

        folder = arguments.report_dir and _from_root(arguments.report_dir)
        photos = _from_root(arguments.photos or "data/clean_images")
        run_protocol(photos, arguments.weights, arguments.device, folder, arguments.limit)
        return 0
    if not arguments.run:
        raise ValueError("name the folder of a run, or --suite, or --document")
    folder = _from_root(arguments.run)
    training, _, about = read_run(folder, pick_device(arguments.device))
    photos = run_photos(folder, about, arguments.photos)
    loader = fixed_loader(photos.split["test"], training.config, about["sources"].get("logos"))
    _, summary = score(training, loader, folder)
    _print_scores(summary)
    if not (folder / "CHANGELOG.md").exists():
        write_changelog(folder)
    return 0


def _print_scores(summary: dict) -> None:
    mean = {name: value["mean"] for name, value in summary.items() if isinstance(value, dict) and "mean" in value}
    print(f"Test Loss: {mean['loss']:.4f}")
    print(f"Test PSNR: {mean['psnr']:.2f} dB (doing nothing: {mean['input_psnr']:.2f} dB)")
    print(f"Test SSIM: {mean['ssim']:.4f} (doing nothing: {mean['input_ssim']:.4f})")
    if "masked_psnr" in mean:
        print(
            f"Test PSNR inside the mark: {mean['masked_psnr']:.2f} dB (doing nothing: {mean['input_masked_psnr']:.2f} dB)"
        )


def run_download(arguments: argparse.Namespace) -> int:
    """Fetch a public set of photographs."""
    from .photos import download_photos
    from .runs import find_root

    folder = _from_root(arguments.photos)
    count = download_photos(arguments.dataset, arguments.limit, folder, find_root() / "data" / "downloads")
    print(f"{folder} holds {count} photographs from {arguments.dataset}")
    return 0


def run_publish(arguments: argparse.Namespace) -> int:
    """Publish a run."""
    import torch

    from .publishing import publish

    for path in publish(_from_root(arguments.run), _from_root(arguments.output), torch.device("cpu")):
        print(path.name)
    return 0


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Time the parts that are named, each beside what it could be at best, and print one table."""
    from .reports import format_table
    from .runs import write_json

    unknown = [part for part in arguments.parts if part not in BENCHMARKS]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    numbers: dict = {}
    for part in arguments.parts or BENCHMARKS:
        numbers |= BENCHMARKS[part](arguments)
    print(format_table([{"measure": name, "value": value} for name, value in numbers.items()]))
    if arguments.report:
        write_json(arguments.report, numbers)
    return 0


def _time_samples(arguments: argparse.Namespace) -> dict:
    from .benchmark import time_samples

    return time_samples(_from_root(arguments.photos), arguments.image_size, arguments.samples)


def _time_network(arguments: argparse.Namespace) -> dict:
    from .netbenchmark import time_network

    return time_network()


def _with_remover(name: str):
    def measure(arguments: argparse.Namespace) -> dict:
        from . import photobenchmark
        from .inference import load_remover

        return getattr(photobenchmark, name)(load_remover(arguments.weights, arguments.device))

    return measure


def _measure_scale(arguments: argparse.Namespace) -> dict:
    from .inference import load_remover
    from .scalebenchmark import measure_scale

    return measure_scale(load_remover(arguments.weights, arguments.device), _from_root(arguments.photos))


BENCHMARKS = {
    "network": _time_network,
    "photo": _with_remover("time_photographs"),
    "recall": _with_remover("measure_recall"),
    "folder": _with_remover("time_folder"),
    "scale": _measure_scale,
    "samples": _time_samples,
}


def run_average(arguments: argparse.Namespace) -> int:
    """Average runs."""
    from .averaging import average_runs

    print(average_runs([_from_root(run) for run in arguments.runs], _from_root(arguments.output), arguments.name))
    return 0


def run_ship(arguments: argparse.Namespace) -> int:
    """Ship a run."""
    from .gallery import draw_gallery
    from .inference import load_remover
    from .runs import find_root, read_json
    from .shipping import ship

    suite = read_json(_from_root(arguments.suite)) if arguments.suite else None
    floors = {name: float(value) for name, value in (floor.split("=", 1) for floor in arguments.floor)}
    weights = ship(
        _from_root(arguments.run), arguments.data, arguments.limits, suite, floors or None, arguments.history
    )
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

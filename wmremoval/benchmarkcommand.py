"""python -m wmremoval benchmark: its options, and the parts it times."""

import argparse

from .runs import from_root, write_json


def add_benchmark(commands: argparse._SubParsersAction) -> None:
    """The command's options."""
    benchmark = commands.add_parser("benchmark", help="time the network, whole photographs, folders, training samples")
    benchmark.add_argument(
        "parts", nargs="*", metavar="PART", help="network, photo, recall, folder, scale, samples; default all"
    )
    benchmark.add_argument("--photos", default="data/clean_images", help="folder of photographs, for scale and samples")
    benchmark.add_argument("--weights", help="a .safetensors, .pth or run's folder; default: the package's")
    benchmark.add_argument("--device", default="auto", help="auto, cpu or cuda")
    benchmark.add_argument("--image-size", type=int, default=256, help="side of the samples, pixels, default 256")
    benchmark.add_argument("--samples", type=int, default=300, help="how many training samples are timed, default 300")
    benchmark.add_argument("--report", help="also write the numbers to this JSON file")


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Time the parts that are named, each beside what it could be at best, and print one table."""
    from .reports import format_table

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

    return time_samples(from_root(arguments.photos), arguments.image_size, arguments.samples)


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

    return measure_scale(load_remover(arguments.weights, arguments.device), from_root(arguments.photos))


BENCHMARKS = {
    "network": _time_network,
    "photo": _with_remover("time_photographs"),
    "recall": _with_remover("measure_recall"),
    "folder": _with_remover("time_folder"),
    "scale": _measure_scale,
    "samples": _time_samples,
}

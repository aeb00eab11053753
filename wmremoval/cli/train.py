"""wmremoval train: its options, and the notebook's steps in its order."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wmremoval.cli.evaluate import print_scores
from wmremoval.cli.signals import requests_to_end
from wmremoval.files import first_line, from_root
from wmremoval.settings import Setting, settings_of

if TYPE_CHECKING:  # PyTorch is imported when the command runs, not for its help
    import torch
    from torch.utils.data import DataLoader

    from wmremoval.training.distributed import Group
    from wmremoval.training.loop import TrainResult
    from wmremoval.training.run_info import RunInfo
    from wmremoval.training.trainer import Training


def add_train(commands: argparse._SubParsersAction) -> None:
    """Add the train command: options of its own, and one for each field of `TrainConfig`."""
    train = commands.add_parser("train", help="train a network, test it and draw its pictures")
    files = train.add_argument_group("files")
    files.add_argument(
        "--photos", metavar="DIR", default="data/clean_images", help="folder of photographs (default data/clean_images)"
    )
    files.add_argument("--more-photos", metavar="DIR", help="folder of photographs for training only")
    files.add_argument("--logos", metavar="DIR", help="folder of RGBA logos that serve as watermarks too")
    files.add_argument(
        "--output", metavar="DIR", default="outputs", help="the run goes to OUTPUT/runs/<date>_<name> (default outputs)"
    )
    files.add_argument("--name", default="train", help="name of the run (default train)")
    run = train.add_argument_group("run")
    run.add_argument("--resume", metavar="RUN", help="go on with an interrupted run's folder, with its own settings")
    run.add_argument(
        "--cooldown-now", action="store_true", help="with --resume: end with a third of the time trained so far"
    )
    run.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    run.add_argument("--no-score", action="store_true", help="do not score the test photographs after training")
    run.add_argument("--no-pictures", action="store_true", help="draw no pictures after training")
    run.add_argument(
        "--profile",
        default="full",
        help="settings to begin with: full, document (direct image, no mask term) or quick (default full)",
    )
    _add_settings(train)
    train.set_defaults(run=run_train)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for every field of `TrainConfig`, under its group; an option that is not given stays None."""
    from wmremoval.config import OLD_NAMES, TrainConfig

    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in settings_of(TrainConfig):
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        group = groups[setting.group]
        names = [setting.name, *(old for old, name in OLD_NAMES.items() if name == setting.name)]
        flags = [f"--{name.replace('_', '-')}" for name in names]
        if setting.name == "hours":
            time = group.add_mutually_exclusive_group()
            time.add_argument(*flags, **_option(setting))
            time.add_argument("--minutes", type=float, metavar="X", help="the same time in minutes")
        else:
            group.add_argument(*flags, **_option(setting))


def _option(setting: Setting) -> dict[str, Any]:
    """Arguments of `add_argument` for a setting: type, values and help."""
    limits = ", ".join(filter(None, (setting.unit, setting.range.removeprefix("of "))))
    default = setting.none if setting.default is None else _word(setting.default)
    help = f"{setting.help} ({'; '.join(filter(None, (limits, f'default {default}')))})"
    words = [value for value in setting.choices if isinstance(value, str)]
    if setting.kind is not bool:
        # No `choices`: `TrainConfig` reports a wrong word, in one line as for every other error.
        metavar = setting.metavar or (
            f"{{{','.join(words)}}}" if words else {int: "N", float: "X", str: "TEXT"}[setting.kind]
        )
        return {"type": setting.kind, "metavar": metavar, "help": help}
    if words:  # a switch that has further words
        return {"nargs": "?", "const": True, "choices": words, "help": help}
    return {"action": argparse.BooleanOptionalAction, "help": help}


def _word(value: Any) -> str:
    """A default as a user reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_train(arguments: argparse.Namespace) -> int:
    """Open photographs and loaders, train, report, test and draw; 0, or 130 after an interruption."""
    from wmremoval.training.distributed import processes

    if arguments.cooldown_now and not arguments.resume:
        raise ValueError("--cooldown-now needs --resume RUN")
    with processes(arguments.device) as (group, device):
        status = _train(arguments, group, device)
        group.wait()  # torchrun ends all processes as soon as one has ended otherwise than well
    return status


def _train(arguments: argparse.Namespace, group: "Group", device_name: str) -> int:
    """The work of one process; the first one alone makes the run's folder and reports on it."""
    from wmremoval.training.checkpoints import STATE
    from wmremoval.training.loop import fit
    from wmremoval.training.run_folder import open_loaders, start_run
    from wmremoval.training.run_info import describe
    from wmremoval.training.trainer import Training, pick_device

    device = pick_device(device_name)
    config, photos, logos_dir = _read_arguments(arguments, device)
    loaders = group.deal(open_loaders(photos, config, device, logos_dir))
    training = Training(config, len(loaders["train"]), device, group)
    info = describe(training, photos, loaders, logos_dir)
    if arguments.resume:
        folder = from_root(arguments.resume)
    else:
        folder = group.from_lead(lambda: start_run(from_root(arguments.output), arguments.name, info))
    with _termination_requests(group.world > 1) as stop:
        try:
            result = fit(training, loaders, folder, bool(arguments.resume), lambda: bool(stop), arguments.cooldown_now)
        except (ValueError, OSError, RuntimeError) as error:
            if not (folder / STATE).exists():
                raise
            raise RuntimeError(f"{first_line(error)}; the last state is kept: train --resume {folder}") from error
    if group.leads:
        _report(arguments, training, loaders, info, result, asked_to_end=bool(stop))
    return 130 if result.stopped == "interrupted" else 0


def _report(
    arguments: argparse.Namespace,
    training: "Training",
    loaders: "dict[str, DataLoader]",
    info: "RunInfo",
    result: "TrainResult",
    asked_to_end: bool,
) -> None:
    """Write the reports of a run; a process that is asked to end has little time, and neither scores nor draws."""
    from wmremoval.data.photos import spread_over_scenes
    from wmremoval.report.pictures import RunPictures
    from wmremoval.training.evaluate import restore_samples, score
    from wmremoval.training.reports import write_changelog, write_training_reports

    folder = result.folder
    write_training_reports(result, info)
    if not (asked_to_end or arguments.no_score):
        _, summary = score(training, loaders["test"], folder)
        print_scores(summary)
    write_changelog(folder)
    if not (asked_to_end or arguments.no_pictures):
        dataset: Any = loaders["test"].dataset  # a `WatermarkDataset`
        batch = restore_samples(training.net, dataset, spread_over_scenes(dataset.paths, 8), training.device)
        RunPictures(training, result.history, batch, folder).save_all()
    print(f"Reports and pictures are in {folder}")


def _read_arguments(arguments: argparse.Namespace, device: "torch.device") -> tuple:
    """Settings, photographs and folder of logos: of the run to resume, or of a new one."""
    from wmremoval.config import TrainConfig
    from wmremoval.data.photos import open_photos
    from wmremoval.training.profiles import choose_config
    from wmremoval.training.run_folder import read_config, run_photos

    if arguments.resume:
        folder = from_root(arguments.resume)
        about = read_config(folder)
        return about["train"], run_photos(folder, about), about["sources"].get("logos")
    given = {name: value for name, value in vars(arguments).items() if name in TrainConfig().to_dict()}
    if arguments.minutes is not None:
        given["hours"] = arguments.minutes / 60
    config = choose_config(arguments.profile, device, **given)
    logos_dir, more = (name and from_root(name) for name in (arguments.logos, arguments.more_photos))
    return config, open_photos(from_root(arguments.photos), config, more), logos_dir


@contextmanager
def _termination_requests(interrupts: bool) -> Iterator[list[int]]:
    """Collect requests to end in a list instead of ending the process, so that a run can save its state first.

    Args:
        interrupts: True collects Ctrl-C too: several processes have to stop after the same step.
    """
    requests: list[int] = []
    with requests_to_end(lambda number, frame: requests.append(number), ["SIGINT"] if interrupts else []):
        yield requests

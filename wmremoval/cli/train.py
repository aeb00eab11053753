"""wmremoval train: its options, and the notebook's steps in its order."""

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from wmremoval.cli.evaluate import print_scores
from wmremoval.files import from_root

# Fields of TrainConfig that are options of the train command, with how they are read.
SETTINGS = dict.fromkeys(("epochs", "image_size", "batch_size", "workers", "seed", "max_photos", "warmup_epochs"), int)
SETTINGS |= dict.fromkeys(("size_spread", "sample_seed", "early_stop_patience", "validation_photos"), int)
SETTINGS |= dict.fromkeys(("perceptual_weights", "target", "amp", "marks", "keep", "optimizer"), str)
SETTINGS |= dict.fromkeys(("faces", "hard_places"), str)
SETTINGS |= dict.fromkeys(
    ("learning_rate", "weight_decay", "l1_weight", "mask_weight", "iou_weight", "mark_weight"), float
)
SETTINGS |= dict.fromkeys(("alpha", "beta", "gamma", "delta", "zoom", "collage", "degraded", "unmarked"), float)
SETTINGS |= dict.fromkeys(("ema", "ema_half_life", "sharp", "hard", "faint_weight", "photo_memory"), float)
SETTINGS |= dict.fromkeys(("coarse_gate_weight", "validate_minutes"), float)


def add_train(commands: argparse._SubParsersAction) -> None:
    """The defaults are those of `TrainConfig`."""
    from wmremoval.config import TrainConfig

    defaults = TrainConfig()
    train = commands.add_parser("train", help="train a network, test it and draw its pictures")
    train.add_argument("--photos", default="data/clean_images", help="folder of photographs")
    train.add_argument("--more-photos", metavar="DIR", help="folder of photographs for training only")
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
    train.add_argument(
        "--start", "--init", metavar="WEIGHTS", help="scratch, shipped, a run's folder, .pth or .safetensors"
    )
    train.add_argument("--lr-drop-epoch", type=int, help=f"default {defaults.lr_drop_epoch}; 0: never")
    train.add_argument("--composite", action=argparse.BooleanOptionalAction, help=f"default {defaults.composite}")
    train.add_argument("--pairs", action=argparse.BooleanOptionalAction, help=f"default {defaults.pairs}")
    train.add_argument("--decompose", action=argparse.BooleanOptionalAction, help=f"default {defaults.decompose}")
    train.add_argument("--grow", action=argparse.BooleanOptionalAction, help=f"default {defaults.grow}")
    train.add_argument(
        "--compile",
        nargs="?",
        const=True,
        type=_compile,
        metavar="auto",
        help="torch.compile the network; auto: if that proves faster in the first half minute",
    )
    time = train.add_mutually_exclusive_group()
    time.add_argument("--hours", type=float, help="train for so long, by a clock that a paused process does not spend")
    time.add_argument("--minutes", type=float, help="the same in minutes")
    train.add_argument(
        "--cooldown-now", action="store_true", help="with --resume: end with a third of the time trained so far"
    )
    train.add_argument("--no-score", action="store_true", help="do not score the test photographs after training")
    train.add_argument("--no-pictures", action="store_true", help="draw no pictures after training")
    train.set_defaults(run=run_train)


def _compile(value: str) -> str:
    if value != "auto":
        raise argparse.ArgumentTypeError(f"give --compile alone or auto, got {value!r}")
    return value


def run_train(arguments: argparse.Namespace) -> int:
    """Photographs, loaders, training, reports, test, pictures: the notebook's steps in its order."""
    from wmremoval.report.publish import draw_visuals
    from wmremoval.training.evaluate import restore_samples, score
    from wmremoval.training.loop import fit
    from wmremoval.training.run_folder import describe, open_loaders, start_run, write_changelog, write_training_reports
    from wmremoval.training.trainer import Training, pick_device

    if arguments.cooldown_now and not arguments.resume:
        raise ValueError("--cooldown-now needs --resume RUN")
    device = pick_device(arguments.device)
    config, photos, logos_dir = _setting(arguments, device)
    loaders = open_loaders(photos, config, device, logos_dir)
    training = Training(config, len(loaders["train"]), device)
    info = describe(training, photos, loaders, logos_dir)
    if arguments.resume:
        folder = from_root(arguments.resume)
    else:
        folder = start_run(from_root(arguments.output), arguments.name, info)
    with _sigterm_noted() as stop:
        result = fit(training, loaders, folder, bool(arguments.resume), lambda: bool(stop), arguments.cooldown_now)
    write_training_reports(result, info)
    if not (stop or arguments.no_score):  # what ends a process waits for little
        _, summary = score(training, loaders["test"], folder)
        print_scores(summary)
    write_changelog(folder)
    if not (stop or arguments.no_pictures):
        dataset = loaders["test"].dataset
        batch = restore_samples(training.net, dataset, range(min(8, len(dataset))), device)
        draw_visuals(training, result.history, batch, folder)
    print(f"Reports and pictures are in {folder}")
    return 130 if result.stopped == "interrupted" else 0


def _setting(arguments: argparse.Namespace, device) -> tuple:
    """The settings, photographs and folder of logos of a run that is resumed, or of a new one."""
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
def _sigterm_noted() -> Iterator[list[int]]:
    """A list that is empty until the process is asked to end; the run then saves its state and ends in order."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)

"""wmremoval train: its options, and the notebook's steps in its order."""

import argparse

from wmremoval.cli.evaluate import print_scores
from wmremoval.files import from_root

# Fields of TrainConfig that are options of the train command, with how they are read.
SETTINGS = dict.fromkeys(("epochs", "image_size", "batch_size", "workers", "seed", "max_photos", "warmup_epochs"), int)
SETTINGS |= dict.fromkeys(("size_spread", "sample_seed", "early_stop_patience"), int)
SETTINGS |= dict.fromkeys(("perceptual_weights", "target", "amp", "marks", "keep", "faces", "hard_places"), str)
SETTINGS |= dict.fromkeys(
    ("learning_rate", "weight_decay", "l1_weight", "mask_weight", "iou_weight", "mark_weight"), float
)
SETTINGS |= dict.fromkeys(("alpha", "beta", "gamma", "delta", "zoom", "collage", "degraded", "unmarked"), float)
SETTINGS |= dict.fromkeys(("ema", "sharp", "hard", "faint_weight", "photo_memory"), float)


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
    train.add_argument("--compile", action="store_true", default=None, help="torch.compile the network")
    train.set_defaults(run=run_train)


def run_train(arguments: argparse.Namespace) -> int:
    """Photographs, loaders, training, reports, test, pictures: the notebook's steps in its order."""
    from wmremoval.config import TrainConfig
    from wmremoval.data.photos import open_photos
    from wmremoval.report.publish import draw_visuals
    from wmremoval.training.evaluate import restore_samples, score
    from wmremoval.training.loop import fit
    from wmremoval.training.profiles import choose_config
    from wmremoval.training.run_folder import (
        describe,
        open_loaders,
        read_config,
        run_photos,
        start_run,
        write_changelog,
        write_training_reports,
    )
    from wmremoval.training.trainer import Training, pick_device

    device = pick_device(arguments.device)
    output = from_root(arguments.output)
    if arguments.resume:
        folder = from_root(arguments.resume)
        about = read_config(folder)
        config, logos_dir = about["train"], about["sources"].get("logos")
        photos = run_photos(folder, about)
    else:
        given = {name: value for name, value in vars(arguments).items() if name in TrainConfig().to_dict()}
        config = choose_config(arguments.profile, device, **given)
        logos_dir = arguments.logos and from_root(arguments.logos)
        more = arguments.more_photos and from_root(arguments.more_photos)
        photos = open_photos(from_root(arguments.photos), config, more)
    loaders = open_loaders(photos, config, device, logos_dir)
    training = Training(config, len(loaders["train"]), device)
    info = describe(training, photos, loaders, logos_dir)
    if not arguments.resume:
        folder = start_run(output, arguments.name, info)
    result = fit(training, loaders, folder, resume=bool(arguments.resume))
    write_training_reports(result, info)
    _, summary = score(training, loaders["test"], folder)
    print_scores(summary)
    write_changelog(folder)
    dataset = loaders["test"].dataset
    draw_visuals(
        training, result.history, restore_samples(training.net, dataset, range(min(8, len(dataset))), device), folder
    )
    print(f"Reports and pictures are in {folder}")
    return 130 if result.stopped == "interrupted" else 0

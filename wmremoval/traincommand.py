"""python -m wmremoval train and evaluate: their options, and the notebook's steps in its order."""

import argparse

from .runs import from_root

# Fields of TrainConfig that are options of the train command, with how they are read.
SETTINGS = dict.fromkeys(("epochs", "image_size", "batch_size", "workers", "seed", "max_photos", "warmup_epochs"), int)
SETTINGS |= dict.fromkeys(("size_spread", "sample_seed", "early_stop_patience"), int)
SETTINGS |= dict.fromkeys(("perceptual_weights", "target", "amp", "init", "marks", "keep"), str)
SETTINGS |= dict.fromkeys(
    ("learning_rate", "weight_decay", "l1_weight", "mask_weight", "iou_weight", "mark_weight"), float
)
SETTINGS |= dict.fromkeys(("alpha", "beta", "gamma", "delta", "zoom", "collage", "degraded", "unmarked"), float)
SETTINGS |= dict.fromkeys(("ema", "sharp", "photo_memory"), float)


def add_train(commands: argparse._SubParsersAction) -> None:
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


def add_evaluate(commands: argparse._SubParsersAction) -> None:
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
    evaluate.add_argument(
        "--everyday",
        action="store_true",
        help="marks as on the web, on scikit-image's photographs or those of --photos",
    )
    evaluate.add_argument(
        "--oracle", action="store_true", help="what the remover would gain if told mask, alpha, colour"
    )
    evaluate.add_argument("--part", help="test (default of the suite), or val to tune on (default of the oracle)")
    evaluate.add_argument("--bare", action="store_true", help="the suite for the network alone, without the remover")
    evaluate.add_argument(
        "--without",
        action="append",
        default=[],
        help="leave out a step of the remover: mirror, consensus, fill or separation",
    )
    evaluate.add_argument("--photos", help="folder of the run's photographs, if it has moved")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run_train(arguments: argparse.Namespace) -> int:
    """Photographs, loaders, training, reports, test, pictures: the notebook's steps in its order."""
    from .config import TrainConfig
    from .evaluation import restore_samples
    from .experiment import choose_config, describe, open_loaders, open_photos, run_photos, score, start_run
    from .fitting import fit
    from .publishing import draw_visuals
    from .reports import read_config, write_changelog, write_training_reports
    from .training import Training, pick_device

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
        photos = open_photos(from_root(arguments.photos), config)
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

    logos, folder = (path and from_root(path) for path in (arguments.logos, arguments.report_dir))
    source = from_root(arguments.photos or "data/clean_images")
    where = (arguments.weights, arguments.device, folder, arguments.limit)
    if arguments.suite:
        from .suitereport import run_suite

        run_suite(source, logos, *where, arguments.part or "test", arguments.bare, arguments.without)
        return 0
    if arguments.oracle:
        from .oracle import run_oracle

        run_oracle(source, logos, *where, arguments.part or "val")
        return 0
    if arguments.everyday:
        from .everyday import run_everyday

        run_everyday(arguments.photos and from_root(arguments.photos), *where)
        return 0
    if arguments.document:
        from .protocol import run_protocol

        run_protocol(source, *where)
        return 0
    if not arguments.run:
        raise ValueError("name the folder of a run, or --suite, --everyday, --document or --oracle")
    folder = from_root(arguments.run)
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

"""wmremoval evaluate: score a run over its test photographs."""

import argparse

from wmremoval.files import from_root


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """Add the command with its options."""
    evaluate = commands.add_parser("evaluate", help="score a run over its test photographs")
    evaluate.add_argument("run_folder", metavar="RUN", help="folder of a run")
    evaluate.add_argument("--photos", help="folder of the run's photographs, if it has moved")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda")
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score a run over its test photographs, in their own folder or another one; returns the exit status."""
    from wmremoval.data.loaders import fixed_loader
    from wmremoval.training.evaluate import score
    from wmremoval.training.reports import write_changelog
    from wmremoval.training.run_folder import read_run, run_photos
    from wmremoval.training.trainer import pick_device

    folder = from_root(arguments.run_folder)
    training, _, about = read_run(folder, pick_device(arguments.device))
    photos = run_photos(folder, about, arguments.photos)
    loader = fixed_loader(photos.split["test"], training.config, about["sources"].get("logos"))
    _, summary = score(training, loader, folder)
    print_scores(summary)
    if not (folder / "CHANGELOG.md").exists():
        write_changelog(folder)
    return 0


def print_scores(summary: dict) -> None:
    """Print the document's three test lines, each with the score of the unrestored input (doing nothing)."""
    mean = {name: value["mean"] for name, value in summary.items() if isinstance(value, dict) and "mean" in value}
    print(f"Test Loss: {mean['loss']:.4f}")
    print(f"Test PSNR: {mean['psnr']:.2f} dB (doing nothing: {mean['input_psnr']:.2f} dB)")
    print(f"Test SSIM: {mean['ssim']:.4f} (doing nothing: {mean['input_ssim']:.4f})")
    if "masked_psnr" in mean:
        print(
            f"Test PSNR inside the mark: {mean['masked_psnr']:.2f} dB (doing nothing: {mean['input_masked_psnr']:.2f} dB)"
        )

"""The options of `wmremoval remove`: one table, in the groups of its help text."""

import argparse
import re
from collections.abc import Callable
from typing import Any

from wmremoval.batch.remote import EXTRA
from wmremoval.batch.user_mask import GROW
from wmremoval.photofile.read import MAX_PIXELS
from wmremoval.photofile.write import FORMATS
from wmremoval.restore.decision import MOST_SENSITIVITY

USAGE = """wmremoval remove PHOTOGRAPH [options]
       wmremoval remove INPUT... -o OUTPUT [options]
       wmremoval remove INPUT... --in-place --backup DIR [options]"""
EXAMPLES = """examples:
  wmremoval remove photo.jpg
  wmremoval remove photo.jpg -o clean.jpg
  wmremoval remove photos/ -o clean/ --recursive --masks masks/ --report report.json
  wmremoval remove photos/ --in-place --backup originals/ --recursive
  wmremoval remove photos/ -o clean/ --same-mark --save-watermark mark.png
  find . -name '*.jpg' -print0 | wmremoval remove --files-from - --null -o clean/ --dry-run
  wmremoval remove - -o - < photo.jpg > clean.jpg
  wmremoval remove photos/ -o clean/ --recursive --workers 4 --report report.jsonl
  wmremoval remove s3://bucket/photos -o s3://bucket/clean --scheduler tcp://HOST:8786"""
DESCRIPTION = """Remove visible watermarks from photographs; unmarked pixels and all metadata stay as they are.
Files are known by their content: JPEG, PNG, WebP, TIFF, BMP, AVIF, and HEIC if pillow-heif is installed.
INPUT, OUTPUT, --masks and --compare may be s3://BUCKET/..., with credentials from the environment (AWS_...).
Other stores of fsspec (gs://, sftp://, ...) are not tested. In a store files are known by their ending."""


def _number(least: int, most: int, *words: str) -> Callable[[str], int | str]:
    """A reader of a whole number in a range, or of one of some words."""

    def read(text: str) -> int | str:
        if text in words:
            return text
        if text.isdecimal() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"must be {least} to {most}{''.join(f', or {w}' for w in words)}, not {text!r}"
        )

    return read


def _pattern(text: str) -> re.Pattern:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"is no regular expression: {text!r} ({error})") from None


def _log_odds(text: str) -> float:
    """A number that is added to the log-odds of every proposal."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -MOST_SENSITIVITY <= value <= MOST_SENSITIVITY:
        raise argparse.ArgumentTypeError(f"must be -{MOST_SENSITIVITY:g} to {MOST_SENSITIVITY:g}, not {text!r}")
    return value


def _option(*names: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    return names, settings


_FLAG: dict[str, Any] = {"action": "store_true"}
_MANY: dict[str, Any] = {"action": "append", "default": [], "metavar": "GLOB"}

OPTIONS = {
    "photographs": (
        _option("inputs", nargs="*", metavar="INPUT", help="photographs and folders of them; - is standard input"),
        _option("--recursive", **_FLAG, help="include sub-folders"),
        _option("--include", **_MANY, help="read only files of this name, or path if it has a /; may be repeated"),
        _option("--exclude", **_MANY, help="leave out files and folders of this name or path; may be repeated"),
        _option("--files-from", metavar="FILE", help="read names from a file, one a line; - is standard input"),
        _option("--null", **_FLAG, help="names in that file end with a NUL byte, as by find -print0"),
        _option("--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help=f"refuse larger, default {MAX_PIXELS}"),
    ),
    "results": (
        _option(
            "-o",
            "--output",
            help="a folder, or a file for one photograph, which is otherwise NAME.restored.ENDING; - is standard output",
        ),
        _option("--in-place", **_FLAG, help="replace photographs that have a mark, each after a backup"),
        _option("--backup", metavar="DIR", help="copy them there first; needed by --in-place"),
        _option("--overwrite", **_FLAG, help="replace existing outputs"),
        _option("--format", default="keep", choices=("keep", *FORMATS), help="output format, default keep"),
        _option(
            "--quality", type=_number(1, 100, "keep"), default="keep", metavar="N|keep", help="1 to 100, default keep"
        ),
        _option("--no-times", **_FLAG, help="do not give results the photograph's time and permissions"),
    ),
    "what is removed": (
        _option("--keep-text", type=_pattern, metavar="REGEX", help="leave words alone that match; case is ignored"),
        _option(
            "--sensitivity",
            type=_log_odds,
            default=0.0,
            metavar="X",
            help="above 0 more lines of text count as marks, below 0 fewer; -3 to 3, default 0",
        ),
    ),
    "one mark on many photographs": (
        _option("--same-mark", **_FLAG, help="measure the marks that photographs share, and take those off"),
        _option("--save-watermark", metavar="FILE", help="write the mark that most photographs share as an RGBA PNG"),
        _option("--watermark", metavar="FILE", help="take this mark off: such a file, or a logo with transparency"),
    ),
    "masks and reports": (
        _option(
            "--mask", metavar="FILE|DIR", help="change only where this is bright (DIR/<name>.png, or another format)"
        ),
        _option(
            "--grow", type=_number(0, 1000), default=GROW, metavar="N", help=f"widen it by N pixels, default {GROW}"
        ),
        _option("--masks", metavar="DIR", help="save the mask of each photograph as DIR/<name>.png, 8-bit grey"),
        _option("--compare", metavar="DIR", help="save before and after side by side as DIR/<name>.jpg"),
        _option("--report", metavar="FILE", help="write each outcome: .json at the end, .jsonl line by line"),
        _option("--dry-run", **_FLAG, help="say what would be done; write nothing but --masks and --report"),
    ),
    "network": (
        _option("--weights", metavar="FILE", help=".safetensors, .pth or run's folder; default: the package's"),
        _option("--device", default="auto", help="auto, cpu or cuda"),
        _option("--precision", default="auto", help="auto, float32 or bf16"),
        _option(
            "--max-memory", type=int, default=2000, metavar="MB", help="memory of each process on the CPU, default 2000"
        ),
        _option(
            "--workers",
            type=_number(1, 1000),
            metavar="N",
            help=f"restore in N processes on this machine; needs {EXTRA}",
        ),
        _option("--scheduler", metavar="ADDRESS", help="restore by the workers of a Dask scheduler, tcp://HOST:8786"),
    ),
}


def add_options(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command with all its options."""
    command = commands.add_parser(
        "remove",
        help="remove watermarks from photographs and folders of them",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=_formatter,
    )
    for title, options in OPTIONS.items():
        group = command.add_argument_group(title)
        for names, settings in options:
            group.add_argument(*names, **settings)
    return command


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=110)

"""Damaged files of every format through the command: no crash, no hang, memory bounded, the exit status right.

    python tests/cli/fuzz_remove.py FOLDER [FILES]

writes FILES (2000) mutated photographs into folders of 100 below FOLDER, and runs the command once for each folder, in a
process of its own, with the planted remover in the network's place.
"""

import io
import json
import random
import resource
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "photofile"), str(TESTS / "cli"), str(TESTS.parent)]

from command import apart  # noqa: E402
from scenes import exif_bytes, picture  # noqa: E402
from test_fuzz_files import mutated, seeds  # noqa: E402

from wmremoval.photofile.kinds import is_read  # noqa: E402

IN_ONE_FOLDER = 100  # files
MOST_PIXELS = 4_000_000  # pixels; larger headers are refused, which bounds the time
LONGEST = 60  # seconds of computing for a folder; 4 were measured. Not of the clock, which other programs share.
MOST_MEMORY = 1500  # megabytes; 620 were measured, most of them PyTorch's
# Not ru_maxrss: that begins at what the process held which started this one. Linux alone tells the peak.
HELD_AT_END = """
import atexit, pathlib
status = pathlib.Path("/proc/self/status")
if status.exists():
    atexit.register(lambda: print("MEMORY", status.read_text().split("VmHWM:")[1].split()[0]))
"""


def originals() -> list[tuple[str, bytes]]:
    """Small good files of every format that is read here, as (ending, bytes), and of some that are not."""
    found = [*seeds(), (".gif", b"GIF89a" + bytes(60)), (".jxl", b"\xff\x0a" + bytes(60))]
    for kind, ending, options in (("AVIF", ".avif", {"speed": 10}), ("HEIC", ".heic", {"thumbnails": [32]})):
        if not is_read(kind):
            continue
        if kind == "HEIC":
            import pillow_heif

            pillow_heif.register_heif_opener()
        for mode in ("RGB", "RGBA", "L"):
            buffer = io.BytesIO()
            picture(mode, (64, 48)).save(buffer, "HEIF" if kind == "HEIC" else kind, exif=exif_bytes(6), **options)
            found.append((ending, buffer.getvalue()))
    return found


def write_folder(folder: Path, count: int, seed: int) -> None:
    """Write mutated files; every tenth is good, every seventh has the ending of another format."""
    rng, good = random.Random(seed), originals()
    folder.mkdir(parents=True)
    for number in range(count):
        ending, data = good[(seed * IN_ONE_FOLDER + number) % len(good)]
        ending = rng.choice(good)[0] if number % 7 == 0 else ending
        (folder / f"{number:03d}{ending}").write_bytes(data if number % 10 == 0 else mutated(data, rng))


def _computed() -> float:
    """Seconds that the processes started from here have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check_folder(folder: Path, format: str = "keep") -> Counter:
    """Run the command over a folder and check how it ended; gives the number of each status.

    Raises:
        AssertionError: a crash, a hang, too much memory, a wrong exit status, or a file that nobody tells of.
    """
    count, started = len(list(folder.iterdir())), _computed()
    out, report = folder.with_name(folder.name + "-out"), folder.with_name(folder.name + ".jsonl")
    options = ("--max-pixels", MOST_PIXELS, "--format", format, "--report", report)
    done = apart(folder, "-o", out, *options, folder=folder.parent, before=HELD_AT_END, text=True, errors="replace")
    seconds = _computed() - started
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1) and "Traceback" not in said, f"{folder}: {done.returncode}\n{said[-3000:]}"
    assert seconds < LONGEST, f"{folder}: {seconds:.0f} s"
    memory = int(said.split("MEMORY ")[1].split()[0]) / 1000 if "MEMORY " in said else 0
    assert memory < MOST_MEMORY, f"{folder}: {memory:.0f} MB"
    rows = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    *photographs, tail = rows[1:]
    statuses = Counter(row["status"] for row in photographs)
    assert sum(statuses.values()) + sum(tail["left_out"].values()) == count, "every file is counted"
    assert done.returncode == int(statuses["failed"] > 0)
    assert all(row["name"] in row["error"] and row["error"].isprintable() for row in photographs if row["error"])
    assert done.stderr.count("failed: ") == statuses["failed"]
    written = [path for path in out.rglob("*") if path.is_file() and path.name != ".wmremoval-results"]
    assert len(written) == statuses["restored"] + statuses["unmarked"], "no file too many, none half-written"
    return statuses + Counter(
        {"left out": sum(tail["left_out"].values()), "seconds": round(seconds), "MB": round(memory)}
    )


def main(folder: Path, files: int) -> None:
    """Write and check all folders; prints a line for each."""
    total, formats = Counter(), ("keep", "keep", "png", "jpeg", "webp")
    for seed in range(-(-files // IN_ONE_FOLDER)):
        here = folder / f"{seed:03d}"
        write_folder(here, min(IN_ONE_FOLDER, files - seed * IN_ONE_FOLDER), seed)
        statuses = check_folder(here, formats[seed % len(formats)])
        total += statuses
        print(here.name, dict(statuses), flush=True)
    print("all", {name: total[name] for name in total if name != "MB"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2000)

"""Typical mistakes on the command line: one line that names the thing and says what to do next, and the exit status."""

import numpy as np
import pytest
from PIL import Image
from planted import marked, planted
from safetensors.numpy import save_file

from wmremoval.__main__ import main
from wmremoval.photofile.kinds import ENDINGS
from wmremoval.restore import remover as room

HELP = "`wmremoval remove --help` tells what there is"
COMMANDS = ", ".join(map(repr, ("remove", "app", "train", "evaluate", "download", "publish", "info")))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photographs, and much that is none."""
    for name in ("photos", "empty"):
        (tmp_path / name).mkdir()
    for name in ("photo.png", "photos/a.png"):
        Image.fromarray(marked(110, 170)[0]).save(tmp_path / name)
    Image.new("L", (50, 50), 255).save(tmp_path / "square.png")
    (tmp_path / "notes.txt").write_text("no photograph", encoding="utf-8")
    (tmp_path / "nothing.jpg").write_bytes(b"")
    (tmp_path / "taken").write_bytes(b"a file")
    (tmp_path / "list").write_bytes(b"photo.png\0")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    monkeypatch.setenv("WMREMOVAL_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What is typed after `wmremoval remove`, the line, and the exit status.
REMOVE = [
    ("missing.jpg", "failed: missing.jpg: there is no such file; check the name", 1),
    ("missing/ -o out", "failed: missing: there is no such file; check the name", 1),
    ("empty -o out", "empty: no photographs in this folder; name another", 1),
    ("--exclude *.png photos -o out", "photos: no photographs in this folder; name another", 1),
    ("notes.txt -o out", f"failed: notes.txt: not a photograph by its content or ending; give one of {' '.join(ENDINGS)}", 1),
    ("nothing.jpg", "failed: nothing.jpg: the file is empty; fetch it again", 1),
    ("photo.png --max-pixels 100", "failed: photo.png: 170 x 110 is over the limit of 0.0001 megapixels; make it smaller, or raise --max-pixels", 1),
    ("photo.png -o taken/out", "failed: photo.png: cannot be written (Not a directory); name a folder, not a file", 1),
    ("photo.png --mask square.png", "failed: square.png: the mask is 50 x 50 and the photograph 170 x 110; make them the same size", 1),
    ("photos -o out --mask empty", "failed: a.png: no mask 'a.png' in empty; put one there, or leave it out", 1),
    ("", "error: name photographs or folders, or a list of them with --files-from", 2),
    ("photos", "error: give one of -o OUTPUT and --in-place; without both one photograph goes to a file beside it", 2),
    ("photo.png photos/a.png -o clean.png", "error: several photographs cannot go to the one file clean.png; name a folder", 2),
    ("photo.png -o out.gif", "error: out.gif: no photograph is written as .gif; name another ending, or a folder", 2),
    ("photo.png -o taken", "error: taken is a file; name a folder, or a file with a photograph's ending", 2),
    ("photo.png -o photo.png", "error: photo.png is one of the inputs, which are never overwritten; name another output", 2),
    ("photos -o photos", "error: --output is the folder of the photographs, which are never overwritten; name another", 2),
    ("photo.png -o a.jpg --format png", "error: --format png and the output a.jpg disagree; leave one out", 2),
    ("photo.png --mask none.png", "error: --mask none.png: no such file or folder; check the name", 2),
    ("photo.png --in-place", "error: --in-place needs --backup DIR, where each photograph is copied before it is replaced", 2),
    ("photo.png --null", "error: --null is for the names of --files-from; name their list, or leave --null out", 2),
    ("--files-from none -o out", "error: none: No such file or directory; check the name", 2),
    ("--files-from list -o out", "error: the names in list end with NUL bytes: add --null", 2),
    ("photo.png --report photos", "error: --report photos is a folder; name a file", 2),
    ("photo.png --report taken/r.jsonl", "error: taken: File exists; name another, or delete it", 2),
    ("photo.png --save-watermark m.png", "error: --save-watermark is for the mark that --same-mark measures; add --same-mark, or leave it out", 2),
    ("photo.png --recusive", f"error: --recusive is unknown (do you mean --recursive?); {HELP}", 2),
    ("photo.png --quality 101", f"error: argument --quality: must be 1 to 100, or keep, not '101'; {HELP}", 2),
    ("photo.png --max-pixels many", f"error: argument --max-pixels: invalid int value: 'many'; {HELP}", 2),
    ("photo.png --sensitivity 9", f"error: argument --sensitivity: must be -3 to 3, not '9'; {HELP}", 2),
]  # fmt: skip
# What is typed after `wmremoval`, and the line; of weights, too, where the network is really loaded.
OTHERS = [
    ("remove photo.png --weights other.safetensors", "error: other.safetensors is not a checkpoint of this network (it has other layers); name weights that were trained here", 2),
    ("remove photo.png --weights none.pth", "error: no checkpoint none.pth; train first, or name a run's folder", 2),
    ("remove photo.png --device tpu", "error: device must be auto, cpu or cuda, got 'tpu'", 2),
    ("remove photo.png --max-memory 10", "error: --max-memory must be at least 1400 MB, got 10", 2),
    ("remov photo.png", f"error: argument COMMAND: invalid choice: 'remov' (choose from {COMMANDS}); `wmremoval --help` tells what there is", 2),
    ("app --port 70000", "error: --port must be 1 to 65535, got 70000", 2),
    ("train --photos none", "error: no folder {folder}/none; set photos_dir (or --photos) to a folder of photographs", 1),
    ("train --profile fast", "error: profile must be auto, quick, full, document, got 'fast'", 1),
    ("train --cooldown-now", "error: --cooldown-now needs --resume RUN", 1),
    ("train --resume empty", "error: {folder}/empty is no run's folder, which holds a config.json; name one of outputs/runs/", 1),
    ("evaluate none", "error: {folder}/none is no run's folder, which holds a config.json; name one of outputs/runs/", 1),
    ("download --dataset cats", "error: unknown dataset 'cats'; choose one of imagenette, oxford_pets, flowers102, dtd", 1),
    ("download --limit 0", "error: --limit must be at least 1, got 0", 1),
]  # fmt: skip


def refusal(arguments: list[str], capsys) -> tuple[str, int]:
    """The one line on standard error, and the exit status."""
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line, status


@pytest.mark.parametrize(("typed", "line", "status"), REMOVE)
def test_a_mistake_of_remove(folder, monkeypatch, capsys, typed, line, status):
    monkeypatch.setattr(room, "load_remover", lambda *arguments, **options: planted())
    assert refusal(["remove", *typed.split()], capsys) == (line, status)


@pytest.mark.parametrize(("typed", "line", "status"), OTHERS)
def test_a_mistake_of_another_command(folder, capsys, typed, line, status):
    told, ended = refusal(typed.split(), capsys)
    line = line.replace("{folder}", str(folder.resolve()))
    assert (told.replace("'", ""), ended) == (line.replace("'", ""), status), (
        "argparse of Python 3.14 quotes no choices"
    )


def test_no_memory_is_an_error_of_one_line(monkeypatch, capsys):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("wmremoval.training.environment.environment", full)
    line = "error: not enough memory; close other programs, or try a smaller --max-memory or --batch-size"
    assert refusal(["info"], capsys) == (line, 1)

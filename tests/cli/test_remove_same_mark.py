"""`wmremoval remove --same-mark` and `--watermark`: a folder under one mark, the file of the mark, and wrong usage."""

import numpy as np
import pytest
from command import run
from PIL import Image
from planted import photograph, planted, psnr_inside, text_mark

from wmremoval.data.marks import blend
from wmremoval.restore import remover as room
from wmremoval.shared.learn import LEAST_PHOTOGRAPHS
from wmremoval.shared.mark import load_mark

COUNT = LEAST_PHOTOGRAPHS + 2
SIDE = 130, 180  # height and width


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`COUNT` parts of one photograph, all but the last under one mark; the clean ones by name."""
    (tmp_path / "in").mkdir()
    whole, mark = photograph(700, 900), text_mark(*SIDE, 1.0)
    clean = {}
    for i in range(COUNT):
        part = np.ascontiguousarray(whole[40 * i : 40 * i + SIDE[0], 70 * i : 70 * i + SIDE[1]])
        clean[f"{i}.png"] = part
        marked = part if i == COUNT - 1 else blend(part, mark)[0]
        Image.fromarray(marked).save(tmp_path / "in" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "load_remover", lambda *about, **more: planted())
    return clean


def test_a_folder_under_one_mark_is_measured_saved_and_restored(folder, tmp_path, capsys):
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    assert run("in", "-o", "out", "--same-mark", "--save-watermark", "mark.png") == 1  # for the broken one
    out, errors = capsys.readouterr()
    assert f"measured a mark on {COUNT - 1} of {COUNT + 1} photographs" in errors
    assert out.count("took off the mark that the photographs share") == COUNT - 1
    last = f"{COUNT - 1}.png"
    assert (tmp_path / "out" / last).read_bytes() == (tmp_path / "in" / last).read_bytes()
    mark = text_mark(*SIDE, 1.0)
    for name in list(folder)[:-1]:
        restored = np.asarray(Image.open(tmp_path / "out" / name))
        assert psnr_inside(restored, folder[name], mark.alpha > 0) > 26
    assert load_mark("mark.png").photographs == COUNT - 1


def test_a_saved_mark_is_taken_off_one_photograph(folder, tmp_path, capsys):
    assert run("in", "-o", "out", "--same-mark", "--save-watermark", "mark.png") == 0
    capsys.readouterr()
    assert run("in/0.png", "-o", "one.png", "--watermark", "mark.png") == 0
    assert "took off the mark" in capsys.readouterr().out
    one, other = (np.asarray(Image.open(path)).astype(int) for path in ("one.png", "out/0.png"))
    assert np.abs(one - other).max() <= 4  # the file holds alpha and colour to 8 bits


def test_photographs_that_share_no_mark_are_restored_by_themselves(folder, capsys):
    assert run("in/0.png", "in/1.png", "-o", "out", "--same-mark", "--save-watermark", "mark.png") == 0
    out, errors = capsys.readouterr()
    assert "no mark is shared by" in errors and out.count("mark on") == 2


def test_the_ordinary_run_says_that_photographs_seem_to_share_a_mark(folder, capsys):
    assert run("in", "-o", "out") == 0
    hint = f"{COUNT - 1} of {COUNT - 1} photographs seem to carry the same mark: --same-mark"
    assert hint in capsys.readouterr().err
    assert run("in", "-o", "again", "--same-mark") == 0
    assert "seem to carry" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--same-mark", "--watermark", "mark.png"], "give one of --same-mark"),
        (["--save-watermark", "mark.png"], "--save-watermark is for the mark that --same-mark measures"),
        (["--same-mark", "--save-watermark", "mark.jpg"], "a mark is written as PNG"),
        (["--same-mark", "--save-watermark", "in/0.png"], "is there already"),
        (["--same-mark", "--mask", "in"], "leave it out with --same-mark"),
        (["--watermark", "none.png"], "none.png: not a readable image"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, options, fault):
    assert run("in", "-o", "out", *options) == 2
    error = capsys.readouterr().err
    assert fault in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()

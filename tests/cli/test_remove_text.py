"""`wmremoval remove`: the words found and their fate, words to be kept, and the sensitivity."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from planted import marked, planted

from wmremoval.restore import remover as room
from wmremoval.restore.decision import Decision
from wmremoval.restore.figures import FIGURES
from wmremoval.restore.text import Line

WORD = Line(np.float32([(15, 35), (140, 35), (140, 68), (15, 68)]), 0.9, "Sample © x")


class StubFinder:
    """Knows where the planted word is; finds it as long as the blue, which is the mark, is there."""

    def find(self, photo):
        return [WORD]

    def read(self, photo, lines):
        return lines

    def find_near(self, photo, line):
        return [line] if photo[35:68, 15:140, 2].mean() > 3 else []


@pytest.fixture
def photo(tmp_path, monkeypatch):
    Image.fromarray(marked(96, 160)[0]).save(tmp_path / "one.png")
    monkeypatch.chdir(tmp_path)
    made = planted()
    made.text = StubFinder()
    monkeypatch.setattr(room, "load_remover", lambda *about, **more: made)
    return made


def report() -> dict:
    (row,) = json.loads(Path("report.json").read_text(encoding="utf-8"))["photographs"]
    return row


def test_the_words_and_their_fate_are_printed_and_reported(photo, capsys):
    assert run("one.png", "-o", "out", "--report", "report.json") == 0
    assert "one.png: mark on" in (out := capsys.readouterr().out) and '(removed "Sample © x")' in out
    assert report()["texts"] == [
        {"words": "Sample © x", "fate": "removed", "quad": [[15, 35], [140, 35], [140, 68], [15, 68]]}
    ]


def test_words_to_be_kept_are_named_by_a_pattern_without_case(photo, tmp_path):
    assert run("one.png", "-o", "out", "--report", "report.json", "--keep-text", "^sample") == 0
    assert report()["texts"][0]["fate"] == "kept: as asked for" and report()["status"] == "unmarked"
    assert (tmp_path / "out/one.png").read_bytes() == (tmp_path / "one.png").read_bytes()


@pytest.mark.parametrize("sensitivity, status", [("0", "unmarked"), ("1.5", "restored"), ("-1", "unmarked")])
def test_the_sensitivity_moves_the_point_of_decision(photo, sensitivity, status):
    zero, one = [0.0] * len(FIGURES), [1.0] * len(FIGURES)
    content = {"figures": list(FIGURES), "mean": zero, "scale": one, "weight": zero, "bias": -1.1}
    points = {"mark_from": 0.5, "sure_from": 1.0, "scene_below": 0.5}
    photo.decision = Decision(content | points)  # every line has odds of 1 to 3
    assert run("one.png", "-o", "out", "--report", "report.json", f"--sensitivity={sensitivity}") == 0
    assert report()["status"] == status


@pytest.mark.parametrize("option", [("--keep-text", "(["), ("--sensitivity", "much"), ("--sensitivity", "9")])
def test_a_wrong_option_is_one_line(photo, capsys, option):
    with pytest.raises(SystemExit) as caught:
        run("one.png", "-o", "out", *option)
    assert caught.value.code == 2 and option[0] in capsys.readouterr().err

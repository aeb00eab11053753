"""The README: every block of code is run, but those that say why not; it stays short, and what it names is there."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from wmremoval.__main__ import build_parser
from wmremoval.data.photos import sample_scenes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
MOST_BYTES = 10_240
SIDE = 128  # pixels of the photographs that the blocks are run on
BLOCK = re.compile(
    r"(?:<!-- not run in CI: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
SCRIPTS = {"wmremoval": ("-m", "wmremoval"), "python": ()}  # of `.venv/bin/`, by the running interpreter


@dataclass(frozen=True)
class Block:
    """A block of code in the README."""

    language: str
    code: str
    reason: str | None  # why it is not run

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments."""
        parts = (part for line in self.code.splitlines() for part in line.split(" && "))
        return [words for part in parts if (words := shlex.split(part, comments=True))]


BLOCKS = [Block(m["language"], m["code"], m["reason"]) for m in BLOCK.finditer(README)]
INSTALLS = [block for block in BLOCKS if "-m venv" in block.code]
MARKED = [block for block in BLOCKS if block.reason]
RUN = [block for block in BLOCKS if block not in INSTALLS + MARKED]
# A file that each block makes, and a word that tells the block.
RESULTS = {
    "report.json": ["photo.restored.jpg", "clean/one.jpg", "clean/sub/two.png", "masks/one.png", "report.json"],
    "clean.png": ["clean.png"],
    "--same-mark": ["clean/one.jpg", "mark.png", "clean.jpg"],
}


def first_line(block: Block) -> str:
    return block.code.splitlines()[0].split("  ")[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`photo.jpg`, `later.jpg` and eight photographs in `photos/`, all small and under one translucent word."""
    layer = np.zeros((SIDE, SIDE), np.uint8)
    cv2.putText(layer, "Sample", (12, 77), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 3, cv2.LINE_AA)
    alpha = layer[..., None] / 255 * 0.5
    scenes = sample_scenes().values()
    views = [cv2.resize(scene, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for scene in scenes]
    views += [scene[:SIDE, :SIDE] for scene in list(scenes)[:3]]
    names = ["photo.jpg", "later.jpg", "photos/one.jpg", "photos/sub/two.png"]
    names += [f"photos/{number}.jpg" for number in range(len(views) - len(names))]
    for name, view in zip(names, views, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint((1 - alpha) * view + 255 * alpha).astype(np.uint8)).save(tmp_path / name, quality=95)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.parametrize("block", RUN, ids=first_line)
def test_a_block_runs_as_it_stands(folder, block):
    commands = [["python", "-c", block.code]] if block.language == "python" else block.commands
    for first, *words in commands:
        command = [sys.executable, *SCRIPTS[first.removeprefix(".venv/bin/")], *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    (made,) = (files for word, files in RESULTS.items() if word in block.code)
    assert [name for name in made if not (folder / name).is_file()] == []


@pytest.mark.parametrize("block", INSTALLS, ids=lambda block: block.commands[-1][0])
def test_a_block_that_installs_is_what_ci_runs_in_a_fresh_environment(block):
    lines = [line.replace(" --quiet --disable-pip-version-check", "") for line in CI.splitlines()]
    places = [lines.index(shlex.join(words)) for words in block.commands]
    assert places == sorted(places) and lines.index("rm -rf .venv") < places[0]


@pytest.mark.parametrize("block", MARKED, ids=first_line)
def test_a_block_that_is_not_run_has_a_reason_and_options_that_exist(block):
    assert len(block.reason) > 10 and block.language == "sh"
    for script, *words in block.commands:
        assert script == ".venv/bin/wmremoval"
        build_parser().parse_args(words)


def test_no_block_is_overlooked():
    assert len(BLOCKS) == README.count("\n```") / 2 == len(RUN) + len(INSTALLS) + len(MARKED)
    assert len(RUN) == len(RESULTS) and len(INSTALLS) == 2


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.encode()) < MOST_BYTES
    for link in re.findall(r"\]\(([^)]+)\)", README):
        if link.startswith("#"):
            assert link[1:] in {
                re.sub(r"[^\w -]", "", h).replace(" ", "-").lower() for h in re.findall(r"^#+ (.+)$", README, re.M)
            }
        else:
            assert (ROOT / link).exists(), link

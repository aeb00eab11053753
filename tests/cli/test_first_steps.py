"""What a newcomer types first: the bare command, a photograph without an output, and `info`."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from command import run
from PIL import Image
from planted import marked, planted, psnr_inside

import wmremoval
from wmremoval.__main__ import build_parser, main
from wmremoval.cli.progress import Progress, duration
from wmremoval.restore import remover as room
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A marked photograph in the working directory; gives its clean pixels and the mask."""
    watermarked, clean, mask = marked(96, 160)
    Image.fromarray(watermarked).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "load_remover", lambda *about, **more: planted())
    return clean, mask


def test_the_bare_command_tells_in_ten_lines_what_there_is(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    assert sum(line.startswith("  wmremoval ") for line in lines) == 3, "three examples"


def test_a_photograph_without_an_output_is_restored_into_a_file_beside_it(photo, tmp_path):
    before = (tmp_path / "photo.png").read_bytes()
    assert run("photo.png") == 0
    assert psnr_inside(np.asarray(Image.open(tmp_path / "photo.restored.png")), *photo) > 40
    assert (tmp_path / "photo.png").read_bytes() == before
    assert run("photo.png", "--format", "webp") == 0
    assert Image.open(tmp_path / "photo.restored.webp").format == "WEBP"


@pytest.mark.parametrize("inputs", [("photo.png", "photo.png"), (".",), ("photo",), ()])
def test_more_than_one_photograph_needs_an_output(photo, tmp_path, capsys, inputs):
    assert run(*inputs) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and ("-o OUTPUT" in line or "name photographs" in line)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_info_names_versions_weights_and_fonts(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"wmremoval     {wmremoval.__version__}\n")
    for name in ("python", "packages", "device", "memory", "text detector", "HEIC", "weights", "limits", "fonts"):
        assert f"\n{name} " in out or f"\n  {name} " in out, name
    assert wmremoval.files.read_json(SHIPPED_WEIGHTS.with_suffix(".json"))["sha256"] in out


def test_without_a_terminal_a_line_every_half_minute_tells_the_time_left(capsys):
    """By hand: 10 s a photograph of 2 megapixels; the third of 8 ends after 30 s, the sixth after 60 s."""
    now = iter(range(0, 1000, 10))
    with Progress([2e6] * 8, "Removing", clock=lambda: next(now)) as progress:
        for _ in range(8):
            progress.update()
    assert capsys.readouterr().err.splitlines() == [
        "Removing: 6 of 16 megapixels, 3 of 8 photographs, about 50 s left",
        "Removing: 12 of 16 megapixels, 6 of 8 photographs, about 20 s left",
    ]


def test_the_time_left_goes_by_pixels_and_what_took_no_work_leaves_the_total(capsys):
    """By hand: 30 s for 10 megapixels leave 90 s for 30; the 50 megapixels of the failed one are not waited for."""
    now = iter((0, 15, 30, 60))
    with Progress([10e6, 50e6, 10e6, 20e6], "Removing", clock=lambda: next(now)) as progress:
        progress.update()
        progress.update(worked=False)
        progress.update()
    assert capsys.readouterr().err.splitlines() == [
        "Removing: 10 of 40 megapixels, 2 of 4 photographs, about 90 s left",
        "Removing: 20 of 40 megapixels, 3 of 4 photographs, about 60 s left",
    ]


def test_on_a_terminal_a_bar_counts_megapixels(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress([1.5e6, 4e6, 3e6], "Removing") as progress:
        for worked in (True, False, True):
            progress.update(worked)
    bars = [line for line in terminal.getvalue().split("\r") if line.startswith("Removing: ")]
    assert "0.00/8.50M" in bars[0] and "100%" in bars[-1] and "4.50M/4.50M" in bars[-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [("rem", "remove"), ("remove --rec", "--recursive"), ("remove a.png --format p", "png"), ("remove a.p", "a.png")],
)
def test_the_tab_key_completes_as_the_help_describes(tmp_path, capsys, typed, completed):
    shtab = pytest.importorskip("shtab", reason="shtab is not installed: pip install shtab")
    with pytest.raises(SystemExit):
        main(["--help"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "echo" in line)
    last = line.split("; ")[1].split("' >>")[0]  # what the help puts into ~/.bashrc after the source of the script
    (tmp_path / "completion").write_text(shtab.complete(build_parser(), "bash"), encoding="utf-8")
    (tmp_path / "a.png").touch()
    words = ["wmremoval", *typed.split()]
    ask = f"""source ./completion; {last}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
    _shtab_wmremoval wmremoval {words[-1]} {words[-2]}; spec=$(complete -p wmremoval)
    if [[ ${{#COMPREPLY[@]}} == 0 && $spec == *"-o default"* ]]; then compgen -f {words[-1]}; fi  # as bash itself does then
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [completed], done.stderr


@pytest.mark.parametrize(
    "seconds, text", [(45, "45 s"), (119, "119 s"), (150, "2 min"), (7100, "118 min"), (20000, "6 h")]
)
def test_durations_are_told_in_one_unit(seconds, text):
    assert duration(seconds) == text

"""The page of `wmremoval app`: results, masks, limits, the zip, its server, and the page in a real browser."""

import importlib.util
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from planted import marked, photograph, planted, psnr_inside

from wmremoval.__main__ import main
from wmremoval.app import session as sessions
from wmremoval.app.session import (
    ADD,
    TAKE,
    end_session,
    line_of,
    mask_of,
    new_session,
    restore,
    restore_again,
    views,
    with_strokes,
    words_of,
    zipped,
)
from wmremoval.cli import app as command
from wmremoval.restore.remover import STAGES

TESTS = Path(__file__).parents[1]
# A process of its own with the planted remover behind the page. It names every address that it connects to.
PROGRAM = """
import sys, time
sys.path[:0] = {paths}
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        print("connects to", arguments[1][0], flush=True)
sys.addaudithook(watch)
import planted, wmremoval.restore.remover
class Slow(planted.Planted):
    def parts(self, watermarked):
        time.sleep({delay})
        return super().parts(watermarked)
planted.Planted = Slow
wmremoval.restore.remover.load_remover = lambda *arguments, **options: planted.planted()
from wmremoval.__main__ import main
sys.exit(main(["app", "--no-browser", "--port", "{port}"]))
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")


@pytest.fixture
def folder(tmp_path):
    """Two marked photographs with metadata, one without a mark, and two that are no photographs."""
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x010E] = "harbour"  # ImageDescription
    Image.fromarray(marked(220, 320, 2.0, origin=(20, 120))[0]).save(tmp_path / "in/one.jpg", quality=95, exif=exif)
    Image.fromarray(marked(110, 170)[0]).save(tmp_path / "in/two words.png")
    Image.fromarray(photograph(90, 120)).save(tmp_path / "in/plain.png")
    (tmp_path / "in/broken.jpg").write_bytes((tmp_path / "in/one.jpg").read_bytes()[:300])
    (tmp_path / "in/notes.txt").write_text("no photograph", encoding="utf-8")
    return tmp_path


def uploads(folder: Path, *names: str) -> list[str]:
    return [str(folder / "in" / name) for name in names]


def restored(folder: Path, *names: str):
    """A session whose photographs are restored."""
    session = new_session(uploads(folder, *names), folder)
    assert list(restore(session, planted(), 0.0)) == list(range(1, len(names) + 1))
    return session


def test_results_are_those_of_the_command(folder, monkeypatch):
    names = ("one.jpg", "two words.png", "plain.png")
    session = restored(folder, *names)
    monkeypatch.setattr("wmremoval.restore.remover.load_remover", lambda *arguments, **options: planted())
    assert main(["remove", *uploads(folder, *names), "-o", str(folder / "out")]) == 0
    for item, name in zip(session.items, names, strict=True):
        assert item.job.output.read_bytes() == (folder / "out" / name).read_bytes()
    assert Image.open(session.items[0].job.output).getexif()[0x010E] == "harbour"
    assert session.items[2].job.output.read_bytes() == (folder / "in/plain.png").read_bytes()
    lines = [line_of(item) for item in session.items]
    assert lines[0].startswith("one.jpg: restored, ") and lines[2] == "plain.png: no mark found, the file is as it was"


def test_a_drawn_mask_gives_the_result_of_the_command(folder, monkeypatch):
    session = restored(folder, "two words.png")
    mask = np.zeros((110, 170), np.uint8)
    mask[40:70, 15:60] = 255
    restore_again(session, 0, mask, planted())
    monkeypatch.setattr("wmremoval.restore.remover.load_remover", lambda *arguments, **options: planted())
    Image.fromarray(mask).save(folder / "mask.png")
    options = ["--mask", str(folder / "mask.png"), "--grow", "0"]
    assert main(["remove", *uploads(folder, "two words.png"), "-o", str(folder / "out.png"), *options]) == 0
    assert session.items[0].job.output.read_bytes() == (folder / "out.png").read_bytes()
    before, after = (np.asarray(Image.open(path)) for path in (folder / "in/two words.png", folder / "out.png"))
    assert (before != after).any() and np.array_equal(before[mask == 0], after[mask == 0])
    assert line_of(session.items[0]).endswith("(with your mask)") and words_of(session.items[0]) == []
    np.testing.assert_array_equal(mask_of(session.items[0]), mask)


def test_an_empty_mask_gives_the_photograph_back(folder):
    session = restored(folder, "two words.png")
    restore_again(session, 0, np.zeros((110, 170), np.uint8), planted())
    assert session.items[0].job.output.read_bytes() == (folder / "in/two words.png").read_bytes()
    assert "nothing changed" in line_of(session.items[0])


def layer(shape: tuple[int, int], *strokes: tuple[tuple[slice, slice], tuple[int, int, int], int]) -> np.ndarray:
    drawn = np.zeros((*shape, 4), np.uint8)
    for place, colour, alpha in strokes:
        drawn[place] = (*colour, alpha)
    return drawn


def test_strokes_add_and_take():
    mask = np.zeros((4, 6), np.uint8)
    mask[:, :2] = 255
    drawn = layer((4, 6), (np.s_[:2, 1:4], ADD, 255), (np.s_[2:, :1], TAKE, 255), (np.s_[3:, 4:], ADD, 100))
    expected = 255 * np.array(
        [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]], np.uint8
    )
    np.testing.assert_array_equal(with_strokes(mask, [drawn]), expected)
    assert mask[:, 2:].max() == 0 and mask[:, :2].min() == 255, "the mask given is not changed"
    np.testing.assert_array_equal(with_strokes(mask, []), mask)


def test_later_layers_lie_over_earlier_ones_and_colours_need_not_be_exact():
    nearly = (ADD[0] + 20, ADD[1] - 30, ADD[2] + 20)
    mask = with_strokes(
        np.zeros((2, 4), np.uint8),
        [layer((2, 4), (np.s_[:, :3], nearly, 255)), layer((2, 4), (np.s_[:, :1], TAKE, 200))],
    )
    np.testing.assert_array_equal(mask, 255 * np.array([[0, 1, 1, 0]] * 2, np.uint8))


def test_strokes_on_a_smaller_view_reach_every_pixel_below():
    mask = with_strokes(np.zeros((40, 60), np.uint8), [layer((4, 6), (np.s_[1:3, 2:5], ADD, 255))])
    assert mask[10:30, 20:50].min() == 255 and np.count_nonzero(mask) == 20 * 30


def test_bad_files_get_one_line_each_and_the_others_go_on(folder):
    session = restored(folder, "broken.jpg", "two words.png", "notes.txt")
    broken, good, notes = (line_of(item) for item in session.items)
    assert broken.startswith("failed: broken.jpg: not a readable image (") and len(broken.splitlines()) == 1
    assert notes.startswith("failed: notes.txt: not a photograph by its content or ending")
    _, clean, mask = marked(110, 170)
    assert good.startswith("two words.png: restored")
    assert psnr_inside(np.asarray(Image.open(session.items[1].job.output)), clean, mask) > 40


def test_limits_of_count_and_size(folder, monkeypatch):
    size = (folder / "in/two words.png").stat().st_size
    assert size > (folder / "in/plain.png").stat().st_size
    monkeypatch.setattr(sessions, "MOST_BYTES", size - 1)
    monkeypatch.setattr(sessions, "MOST_FILES", 2)
    session = restored(folder, "two words.png", "plain.png", "plain.png")
    assert [item.outcome.status for item in session.items] == ["failed", "unmarked", "failed"]
    assert "the file has" in line_of(session.items[0])
    assert line_of(session.items[2]) == "failed: plain.png: not tried; at most 2 photographs at once"


def test_the_zip_holds_all_results_as_they_are(folder):
    (folder / "in/sub").mkdir()
    shutil.copy(folder / "in/two words.png", folder / "in/sub/plain.png")  # another photograph of the same name
    session = restored(folder, "one.jpg", "broken.jpg", "plain.png", "sub/plain.png")
    with zipfile.ZipFile(zipped(session)) as archive:
        names = archive.namelist()
        assert names == ["one.jpg", "plain.png", "plain (4).png"]
        for name, item in zip(names, [session.items[i] for i in (0, 2, 3)], strict=True):
            assert archive.read(name) == item.job.output.read_bytes()
    assert zipped(restored(folder, "broken.jpg")) is None


def test_views_show_before_after_and_mask(folder, monkeypatch):
    monkeypatch.setattr(sessions, "SHOWN_SIDE", 85)
    session = restored(folder, "two words.png")
    before, after, tinted = views(session.items[0])
    assert before.shape == after.shape == tinted.shape == (55, 85, 3)
    assert before[..., 2].max() > 60 > 20 > after[..., 2].max(), "blue is the mark"
    marks = before[..., 2] > 60
    assert (tinted[marks] != before[marks]).any(axis=-1).all()
    assert np.array_equal(tinted[:10], before[:10]), "there is no mark at the top"


def test_the_mask_is_a_file_of_its_own_name(folder):
    [item] = restored(folder, "two words.png").items
    assert item.job.mask_out.name == "two words.mask.png"
    before, after = (np.asarray(Image.open(path)) for path in (item.job.source, item.job.output))
    np.testing.assert_array_equal(np.asarray(Image.open(item.job.mask_out)) > 0, (before != after).any(axis=-1))


def test_the_steps_of_a_photograph_are_told_in_order(folder):
    from wmremoval.app.page import telling

    remover, told = planted(), []
    remover.tell = telling(lambda share, desc, unit: told.append((*share, desc)))
    list(restore(new_session(uploads(folder, "two words.png"), folder), remover, 0.0))
    assert told == [(number, len(STAGES), stage) for number, stage in enumerate(STAGES)] and len(set(STAGES)) == 5


@needs_gradio
def test_further_pages_are_restored_and_told_of(folder):
    from wmremoval.app.page import show

    first, second = (Image.fromarray(marked(110, 170, origin=(20, left))[0]) for left in (60, 50))
    first.save(folder / "in/pages.tif", save_all=True, append_images=[second])
    session = restored(folder, "pages.tif")
    notes = show(session, 0)[3]
    assert "- page 1 of 2 is shown; the others are restored too, and in the download" in notes.splitlines()
    _, clean, mask = marked(110, 170, origin=(20, 50))
    with Image.open(session.items[0].job.output) as result:
        result.seek(1)
        assert psnr_inside(np.asarray(result), clean, mask) > 40
    assert "page 1" not in show(restored(folder, "two words.png"), 0)[3]


def test_the_end_of_a_session_deletes_its_files(folder):
    session = restored(folder, "two words.png")
    assert session.items[0].job.output.exists()
    end_session(session)
    end_session(None)
    assert not session.folder.exists() and (folder / "in/two words.png").exists()


def test_sensitivity_reaches_the_remover_and_has_the_range_of_the_option(folder):
    from wmremoval.app.page import MOST_SENSITIVITY
    from wmremoval.cli import remove_options

    remover = planted()
    list(restore(new_session(uploads(folder, "plain.png"), folder), remover, -1.5))
    assert remover.sensitivity == -1.5 and remove_options.MOST_SENSITIVITY == MOST_SENSITIVITY


def test_without_gradio_one_line(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert capsys.readouterr().err == "error: the page needs Gradio: pip install gradio\n"


@needs_gradio
def test_a_port_that_is_taken_gives_one_line(monkeypatch, capsys):
    monkeypatch.setattr("wmremoval.restore.remover.load_remover", lambda *arguments, **options: planted())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["app", "--no-browser", "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: port {port} cannot be used (") and error.count("\n") == 1
    assert main(["app", "--port", "0"]) == 2


@contextmanager
def served(folder: Path, delay: float = 0.0):
    """The address of the page, its process, its folder for temporary files, and its printed lines, in a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "temporary").mkdir(exist_ok=True)
    program = PROGRAM.format(paths=[str(TESTS), str(TESTS.parent)], port=port, delay=delay)
    with (folder / "printed.txt").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=folder, stdout=printed, stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        try:
            wait_for(lambda: "the page is at" in (folder / "printed.txt").read_text() or process.poll() is not None)
            assert process.poll() is None, (folder / "printed.txt").read_text()
            yield f"http://127.0.0.1:{port}/", process
        finally:
            process.kill()
            process.wait()


def wait_for(ready, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def ended(folder: Path, process: subprocess.Popen) -> None:
    """End the page as a user does, and check that it left no file and spoke to nobody else."""
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert list((folder / "temporary").glob("wmremoval-*")) == []
    printed = (folder / "printed.txt").read_text()
    addresses = {line.split()[-1] for line in printed.splitlines() if line.startswith("connects to")}
    assert addresses <= {"127.0.0.1"}, printed
    assert "Traceback" not in printed


@needs_gradio
def test_the_server_listens_on_this_computer_alone_and_leaves_nothing(folder):
    with served(folder) as (address, process):
        listening = [c for c in psutil.Process(process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
        with urllib.request.urlopen(address, timeout=30) as answer:
            policy = answer.headers["content-security-policy"]
            text = answer.read().decode()
        assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
        assert "fonts.googleapis" not in text and '"analytics_enabled":false' in text.replace(" ", "")
        with pytest.raises(urllib.error.HTTPError) as refused:  # the name of another page, led to this address
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "elsewhere.example"}), timeout=30)
        assert refused.value.code == 400
        ended(folder, process)


@contextmanager
def opened(address: str):
    """The page in Chromium, and the list of all addresses that it asks for."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(viewport={"width": 1280, "height": 1800})
            context.set_default_timeout(60_000)
            asked: list[str] = []
            context.on("request", lambda request: asked.append(request.url))
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#start")
            yield page, asked
        finally:
            browser.close()


def upload(page, folder: Path, *names: str) -> None:
    """Choose files, and press the button once they are there."""
    page.set_input_files("#uploads input[type=file]", uploads(folder, *names))
    for name in names:
        page.wait_for_selector(f"#uploads a[download='{name}']")
    page.click("#start")


def stroke(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a line on the editor; both points are shares of its width and height."""
    box = page.locator("#editor canvas").first.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=6)
    page.mouse.up()
    page.wait_for_timeout(500)


def downloaded(page, button: str, path: Path) -> str:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return download.value.suggested_filename


@needs_gradio
def test_in_a_browser_upload_look_correct_and_download(folder):
    expected = restored(folder, "two words.png", "one.jpg").items[0].job.output.read_bytes()
    with served(folder) as (address, process), opened(address) as (page, asked):
        upload(page, folder, "two words.png", "broken.jpg", "one.jpg")
        page.wait_for_selector("#status >> text=Done: 2 restored, 0 unchanged, 1 failed.")
        lines = page.inner_text("#listing").splitlines()
        assert any(line.startswith("failed: broken.jpg: not a readable image (") for line in lines)
        page.wait_for_selector("#slider img")
        assert downloaded(page, "#one", folder / "got.png") == "two words.png"
        assert (folder / "got.png").read_bytes() == expected
        assert downloaded(page, "#mask", folder / "mask.png") == "two words.mask.png"
        assert downloaded(page, "#everything", folder / "got.zip") == "restored.zip"
        with zipfile.ZipFile(folder / "got.zip") as archive:
            assert archive.namelist() == ["two words.png", "one.jpg"] and archive.read("two words.png") == expected
        corrected(page, folder)
        page.locator("#listing label").nth(1).click()
        page.wait_for_selector("#slider", state="hidden")
        assert page.locator("#one").is_disabled()
        elsewhere = [url for url in asked if not url.startswith((address, "blob:", "data:"))]
        assert len(asked) > 20 and elsewhere == []
        ended(folder, process)


def red_share(page) -> float:
    """The share of the editor's pixels that are red, as the mask is; the photographs here are yellow."""
    pixels = np.asarray(Image.open(io.BytesIO(page.locator("#editor").screenshot())).convert("RGB")).astype(int)
    return float((pixels[..., 0] - pixels[..., 1] > 60).mean())


def corrected(page, folder: Path) -> None:
    """Take the whole mark from the mask by blue strokes; the result is then the photograph."""
    wait_for(lambda: red_share(page) > 0.005, 30)  # the editor draws the first photograph, with its mask
    page.click("#editor button[aria-label='Color']")
    page.locator("#editor .color").nth(1).click()
    for down in (0.3, 0.4, 0.5, 0.6):
        stroke(page, (0.2, down), (0.8, down))
    page.click("#again")
    page.wait_for_selector("#listing >> text=nothing changed")
    page.wait_for_timeout(1500)
    downloaded(page, "#one", folder / "again.png")
    assert (folder / "again.png").read_bytes() == (folder / "in/two words.png").read_bytes()


@needs_gradio
def test_the_files_of_a_page_that_was_killed_are_deleted_at_the_next_start(folder):
    with served(folder) as (_, process):
        process.kill()
        process.wait()
        [left] = (folder / "temporary").glob("wmremoval-*")
    with served(folder):
        assert not left.exists()


@needs_gradio
def test_an_interruption_in_the_middle_leaves_no_files(folder):
    with served(folder, delay=0.5) as (address, process), opened(address) as (page, _):
        upload(page, folder, "one.jpg", "two words.png", "plain.png")
        page.wait_for_selector("#status >> text=of 3 done ...")
        assert list((folder / "temporary").rglob("one.jpg")), "the upload is there"
        ended(folder, process)

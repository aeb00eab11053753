"""The notebook in JupyterLab, in a real browser: "Run All Cells", an upload and a download.

The settings are tiny, unless NOTEBOOK_WHOLE=1 asks for the notebook as it is. NOTEBOOK_SCREENSHOTS names a folder to keep
pictures of the page in.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "watermark_removal.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TINY = {
    "image_size = None": "image_size = 64",
    "epochs = None": "epochs = 2",
    "batch_size = 8": "batch_size = 4",
    "scratch_seconds = 30": "scratch_seconds = 1",
}
WHOLE = os.environ.get("NOTEBOOK_WHOLE") == "1"
RUN_SECONDS = 3600 if WHOLE else 1200  # limit, far more than is needed on an idle machine
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # all cells stay on the page
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
# A cell has run when its prompt has a number; what is on the page is all that a reader sees.
PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"


@pytest.fixture
def work(tmp_path):
    """A root folder with the notebook, its settings made tiny, and twelve small photographs."""
    photos = tmp_path / "data" / "clean_images"
    photos.mkdir(parents=True)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    if not WHOLE:
        scene = data.astronaut()
        for i in range(12):
            y, x = 130 * (i // 4), 130 * (i % 4)
            Image.fromarray(scene[y : y + 112, x : x + 112]).save(photos / f"tile{i}.png")
        (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
        text = "".join(cell["source"])
        for old, new in TINY.items():
            assert old in text, old
            text = text.replace(old, new)
        cell["source"] = text
    (tmp_path / "notebook.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    Image.fromarray(data.coffee()).save(tmp_path / "my photo.jpg", quality=95)
    return tmp_path


def widgets_of() -> Path:
    """The folder `share/jupyter` of the environment that holds ipywidgets' part of JupyterLab."""
    place = importlib.util.find_spec("jupyterlab_widgets").origin
    return Path(place).parents[4] / "share" / "jupyter"


@contextmanager
def jupyterlab(work: Path):
    """The address of a JupyterLab that serves a folder, with settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = work / "lab" / "settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text(json.dumps(SETTINGS))
    options = [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={work}", "--no-browser",
               "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--allow-root",
               f"--LabApp.app_settings_dir={settings}", "--LabApp.news_url=", "--LabApp.extensions_in_dev_mode=False"]  # fmt: skip
    environment = os.environ | {
        "WMREMOVAL_ROOT": str(work), "JUPYTER_CONFIG_DIR": str(work / "lab"), "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTERLAB_WORKSPACES_DIR": str(work / "lab"), "JUPYTERLAB_SETTINGS_DIR": str(work / "lab"),
        "JUPYTER_PATH": str(widgets_of()), "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }  # fmt: skip
    with (work / "jupyter.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(f"{address}/api") or server.poll() is not None, 180)
            assert server.poll() is None, (work / "jupyter.log").read_text()
            yield address
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def wait_for(ready, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.5)


@contextmanager
def opened(address: str):
    """The notebook's page in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(120_000)
            page.goto(f"{address}/lab/tree/notebook.ipynb")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell")
            yield page
        finally:
            browser.close()


def picture(page, name: str) -> None:
    folder = os.environ.get("NOTEBOOK_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def section(page, title: str) -> None:
    """Scroll to a heading."""
    page.locator(".jp-Notebook .jp-RenderedMarkdown").locator(
        f"h1:text-is('{title}'), h2:text-is('{title}'), h3:text-is('{title}')"
    ).first.scroll_into_view_if_needed()
    page.wait_for_timeout(700)
    picture(page, title.lower().replace(" ", "_"))


def run_all(page) -> None:
    """Choose "Run All Cells" in the menu, and wait for the last cell; errors stop it earlier."""
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
    item = page.locator(".lm-Menu-item[data-command='runmenu:run-all']")
    while not item.is_visible():  # the menus are rebuilt while the page loads, and then close
        page.keyboard.press("Escape")
        page.wait_for_timeout(2000)
        page.click(".lm-MenuBar-item:has-text('Run')")
        page.wait_for_timeout(1000)
    item.click()
    end = time.monotonic() + RUN_SECONDS
    live = False
    while True:
        prompts = page.evaluate(PROMPTS)
        if not live and page.locator("text=/% done after .* s left/").count():
            live = True
            section(page, "Training CNN Model")
            picture(page, "while_it_trains")
        if all(prompt.strip("[]: ").isdigit() for prompt in prompts):
            break
        errors = page.locator(
            ".jp-Notebook [data-mime-type='application/vnd.jupyter.stderr'], .jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
        )
        failed = [text for text in errors.all_inner_texts() if "Traceback" in text or "Error" in text]
        assert not failed, failed[0]
        assert time.monotonic() < end, prompts
        time.sleep(1)
    assert live, "the figure of the training was seen while it changed"


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jupyterlab", "jupyterlab_widgets", "playwright")),
    reason="needs JupyterLab, ipywidgets and playwright: pip install jupyterlab ipywidgets playwright",
)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_run_all_upload_and_download(work):
    with jupyterlab(work) as address, opened(address) as page:
        assert page.locator(".jp-Dialog").count() == 0, "it opens without a question"
        run_all(page)
        for title in (
            "How a mark is found and taken off",
            "Test Accuracy of CNN Training",
            "Side by side Comparison",
            "Training Progress",
        ):
            section(page, title)
        assert page.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        lines = page.locator(".jp-Notebook").inner_text()
        assert "100% done after" in lines and "Epoch 1: Train Loss" not in lines, (
            "the figure takes the place of the lines"
        )
        section(page, "Remove a watermark from your own photograph")
        page.wait_for_selector("button:has-text('Choose a photograph')")
        with page.expect_file_chooser() as chooser:
            page.click("button:has-text('Choose a photograph')")
        chooser.value.set_files(str(work / "my photo.jpg"))
        page.wait_for_selector("a[download='my photo.jpg']", timeout=300_000)
        page.locator("a[download='my photo.jpg']").scroll_into_view_if_needed()
        picture(page, "after_the_upload")
        with page.expect_download() as download:
            page.click("a[download='my photo.jpg']")
        download.value.save_as(work / "got.jpg")
        result = work / "outputs" / "removed" / "my photo.jpg"
        assert (work / "got.jpg").read_bytes() == result.read_bytes()
        assert np.asarray(Image.open(result)).shape == data.coffee().shape
        slider(page)


def slider(page) -> None:
    """The slider moves when its handle is pulled."""
    left = page.locator("img[alt='before']").locator("..")
    left.scroll_into_view_if_needed()
    box = left.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 6, box["y"] + box["height"] - 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 156, box["y"] + box["height"] - 4, steps=8)
    page.mouse.up()
    assert left.bounding_box()["width"] == pytest.approx(box["width"] - 150, abs=15)
    picture(page, "slider")

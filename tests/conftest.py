"""Photographs of natural content, written once a session, and the packaged fonts."""

import logging
import os

# Before PyTorch is imported, and inherited by the notebook's kernel: on small tensors and busy cores its threads wait
# for each other up to 40 times as long as they work.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from PIL import Image
from skimage import data

from wmremoval.data.fonts import load_fonts


def pytest_collection_modifyitems(items):
    """Tests of the executed notebook come first: a process steals the last tests of another, so that one runs it, once."""
    items.sort(key=lambda item: "executed" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Twelve different 96 x 128 JPEGs cut from one photograph of a cat."""
    folder = tmp_path_factory.mktemp("photos")
    cat = data.chelsea()  # (300, 451, 3)
    corners = [(y, x) for y in (0, 100, 200) for x in (0, 107, 214, 321)]
    paths = [folder / f"cat_{i:02d}.jpg" for i in range(len(corners))]
    for path, (y, x) in zip(paths, corners, strict=True):
        Image.fromarray(np.ascontiguousarray(cat[y : y + 96, x : x + 128])).save(path, quality=95)
    return paths


@pytest.fixture
def log(caplog):
    """The lines that the package logs."""
    caplog.set_level(logging.INFO, "wmremoval")
    return caplog


@pytest.fixture(scope="session")
def fonts():
    return load_fonts()


@pytest.fixture
def marked_folder(tmp_path, monkeypatch):
    """Two marked photographs, one unmarked, one in a sub-folder; and the planted remover behind the command."""
    from planted import marked, planted

    from wmremoval.restore import remover

    (tmp_path / "in/sub").mkdir(parents=True)
    for name, shift in (("one.png", 60), ("two words é🙂.png", 75), ("sub/three.png", 50)):
        Image.fromarray(marked(110, 170, origin=(20, shift))[0]).save(tmp_path / "in" / name)
    Image.new("RGB", (120, 90), (200, 100, 0)).save(tmp_path / "in/plain.jpg", quality=91)
    monkeypatch.setattr(remover, "load_remover", lambda *args, **options: planted())
    monkeypatch.chdir(tmp_path)
    return tmp_path

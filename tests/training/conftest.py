"""Every run of these tests trains the stand-in, unless a test asks for the real network."""

import pytest
import skimage.data
from PIL import Image
from small import TinyNet, make_loaders, make_training

from wmremoval.training import checkpoints
from wmremoval.training import trainer as module
from wmremoval.training.loop import fit


@pytest.fixture(autouse=True)
def tiny(request, monkeypatch):
    if "real" not in request.fixturenames:
        for place in (module, checkpoints):
            monkeypatch.setattr(place, "HeterogeneousUNet", TinyNet)


@pytest.fixture
def real():
    """The real network instead of the stand-in."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Eight pieces of a photograph: five to train on, in three batches of which the last is short, three to validate."""
    folder, cat = tmp_path_factory.mktemp("pictures"), skimage.data.chelsea()
    paths = [folder / f"{i}.png" for i in range(8)]
    for i, path in enumerate(paths):
        Image.fromarray(cat[30 * i : 30 * i + 64, 40 * i : 40 * i + 80]).save(path)
    return paths


@pytest.fixture
def loaders(pictures):
    return make_loaders(pictures)


@pytest.fixture(scope="session")
def finished(pictures, tmp_path_factory):
    """A finished run of the stand-in: (folder, training, result)."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HeterogeneousUNet", TinyNet)
        training = make_training(epochs=3, warmup_epochs=2)
        result = fit(training, make_loaders(pictures), folder)
    return folder, training, result

"""The registry of pictures: each by its name, drawn, saved and returned."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from wmremoval.report import pictures
from wmremoval.report.pictures import NEED_REMOVER, NEED_SCRATCH, PICTURES, RunPictures
from wmremoval.report.style import new_figure


@pytest.fixture
def run(tmp_path):
    return RunPictures(SimpleNamespace(net=torch.nn.Conv2d(3, 3, 1)), [], {"clean": torch.zeros(3, 3, 8, 8)}, tmp_path)


def test_show_draws_saves_and_returns(run, monkeypatch):
    figure, (axes,) = new_figure(1, 1, 2.0, 1.0)
    axes.plot([0, 1], [0, 1])
    monkeypatch.setitem(PICTURES, "reserror.png", lambda given: figure if given is run else None)
    assert run.show("reserror.png") is figure
    saved = np.asarray(Image.open(run.folder / "visuals" / "reserror.png"))
    assert saved.shape[:2] == (120, 240) and saved[..., :3].std() > 10


def test_an_unknown_picture_is_named_with_those_there_are(run):
    with pytest.raises(ValueError, match=r"no picture residual\.png; there are .*residualhistogram\.png"):
        run.show("residual.png")


def test_pictures_are_left_out_that_need_what_is_not_given(run, monkeypatch):
    assert set(PICTURES) - set(run.names()) == {*NEED_REMOVER, *NEED_SCRATCH}
    run.scratch, run.remover = [{"epoch": 0}], object()
    assert run.names() == list(PICTURES)
    monkeypatch.setattr(
        pictures, "PICTURES", {name: lambda given: new_figure(1, 1, 1.0, 1.0)[0] for name in ("a.png", "b.png")}
    )
    assert [path.name for path in run.save_all()] == ["a.png", "b.png"] and all(
        path.exists() for path in run.save_all()
    )


def test_pictures_of_one_photograph_show_different_ones(run):
    run.batch = {"clean": torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 3, 8, 8)}
    assert [run.sample(number, "clean")[0].mean().item() for number in range(4)] == [0, 1, 2, 0]
    assert run.net is run.net and run.net is not run.training.net

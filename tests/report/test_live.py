"""The figure that shows a training while it runs, without a notebook."""

from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from wmremoval.report import live
from wmremoval.report.live import LiveFigure, someone_watches, status
from wmremoval.training.loop import TrainResult


class Handle:
    def __init__(self, shown, log):
        self.log = log
        log.append(("new", shown))

    def update(self, shown):
        self.log.append(("changed", shown))


@pytest.fixture
def shown(monkeypatch):
    log: list = []
    monkeypatch.setattr(live, "display", lambda what, display_id: Handle(what, log))
    return log


class Quarters:
    share = 0.0

    def share_done(self, result, steps):
        return self.share


def row(epoch: int) -> dict:
    return {"epoch": epoch, "train_loss": 2.0, "val_loss": 1.5, "val_psnr": 30.25, "lr": 1e-4}


def test_one_figure_and_one_line_change_in_place(shown, tmp_path):
    training = SimpleNamespace(schedule=Quarters(), steps_per_epoch=4)
    watch, result = LiveFigure(training, watched=True), TrainResult(tmp_path)
    for epoch in range(4):
        result.history.append(row(epoch))
        training.schedule.share = (epoch + 1) / 4
        for _ in range(5):
            assert watch(result) is True
    figures = [kind for kind, what in shown if isinstance(what, Figure)]
    texts = [what.data for kind, what in shown if not isinstance(what, Figure)]
    assert figures == ["new", "changed", "changed", "changed"], "drawn once for each row"
    assert [kind for kind, _ in shown].count("new") == 2 and texts[-1].startswith("100% done")


def test_where_nobody_watches_nothing_is_shown_and_rows_are_left_to_the_log(shown, tmp_path):
    assert not someone_watches()
    assert LiveFigure(SimpleNamespace())(TrainResult(tmp_path)) is False and shown == []


def test_the_line_tells_the_time_left_by_the_share_that_is_done(tmp_path):
    result = TrainResult(tmp_path)
    assert status(result, 0.0, 3.0) == "0% done after 3 s"
    assert status(result, 0.25, 10.0) == "25% done after 10 s; about 30 s left"
    result.history.append(row(1))
    assert status(result, 1.0, 40.0) == "100% done after 40 s; validation loss 1.500, PSNR 30.25 dB"

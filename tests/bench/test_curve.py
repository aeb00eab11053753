"""The learning curve: a power law that is known is found again, and runs follow each other."""

import json

import pytest

from wmremoval.bench.__main__ import main
from wmremoval.bench.curve import KINDS, run_curve


def a_run(folder, views, start):
    """A history whose error is 4 views ** -0.2 and whose gain is 0.5 views ** 0.25, of all views from the first on."""
    rows = [{"epoch": 0, "val_score": 0.0}]
    for shown in views:
        total = start + shown
        row = {f"val_{kind}_iou": 1 - 4 * total**-0.2 for kind in KINDS}
        row |= {f"val_{kind}_db": 0.5 * total**0.25 for kind in KINDS}
        rows.append(row | {"views": shown, "val_score": total, "lr": 1e-3})
    folder.mkdir()
    (folder / "training_history.json").write_text(json.dumps(rows))
    return folder


def test_a_known_power_law_is_found_over_two_runs(tmp_path):
    runs = [a_run(tmp_path / "a", (1000, 3000), 5000), a_run(tmp_path / "b", (500, 9000), 8000)]
    results = run_curve(runs, 5000, tmp_path / "out")
    assert [point["views"] for point in results["points"]] == [6000, 8000, 8500, 17000]
    assert results["lines"]["iou_error"]["power"] == pytest.approx(-0.2)
    assert results["lines"]["gain_db"]["power"] == pytest.approx(0.25)
    assert results["at 10 times as many views"]["gain_db"] == pytest.approx(0.5 * 170000**0.25)
    assert (tmp_path / "out" / "learning_curve.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "learning_curve.json").read_text())["lines"] == results["lines"]


def test_a_run_that_counts_no_views_is_named_in_one_line(tmp_path, capsys):
    folder = tmp_path / "epochs"
    folder.mkdir()
    (folder / "training_history.json").write_text('[{"epoch": 1, "val_score": 0.1}]')
    assert main(["curve", str(folder)]) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_a_short_range_of_views_gives_no_forecast(tmp_path, capsys):
    run = a_run(tmp_path / "a", (1000, 3000, 4000), 5000)
    assert main(["curve", str(run), "--before", "5000"]) == 0
    assert capsys.readouterr().out.count("too few views for a forecast") == 2


def test_two_validations_are_too_few_for_a_line(tmp_path):
    with pytest.raises(ValueError, match="2 validations"):
        run_curve([a_run(tmp_path / "a", (1000, 3000), 5000)], 5000)

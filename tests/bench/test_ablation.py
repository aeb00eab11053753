"""The ablation leaves out one step at a time, and its table says what each step is worth."""

import json

import numpy as np
import pytest
from planted import photograph

from wmremoval.bench import ablation
from wmremoval.bench.suite import ScoreOptions
from wmremoval.restore.remover import Result


class Spoiling:
    """Changes nothing; without the step "again" it turns every photograph black."""

    def __init__(self):
        self.without, self.seen = frozenset(), []

    def __call__(self, photo: np.ndarray) -> Result:
        if not self.seen or self.seen[-1] != self.without:
            self.seen.append(self.without)
        image = np.zeros_like(photo) if "again" in self.without else photo
        return Result(image, (image != photo).any(axis=-1).astype(np.uint8) * 255, 0.0)


@pytest.fixture
def spoiling(monkeypatch) -> Spoiling:
    remover = Spoiling()
    monkeypatch.setattr(ablation, "load_remover", lambda *about: remover)
    monkeypatch.setattr(ablation, "open_folder", lambda photos: [("drawn", lambda: photograph(120, 160))])
    monkeypatch.setattr(ablation, "WEB_MARKS", dict.fromkeys(["caption", "date"]))
    monkeypatch.setattr(
        ablation, "open_unmarked", lambda photos, limit: [("photograph", "drawn", lambda: photograph(96, 96))]
    )
    return remover


def test_each_row_leaves_out_one_step_and_says_what_it_was_worth(spoiling, photos, tmp_path):
    options = ScoreOptions(folder=tmp_path, limit=1)
    results = ablation.run_ablation(photos[0].parent, None, options, ["again", "boxes"])
    assert spoiling.seen == [frozenset(), frozenset(["again"]), frozenset(["boxes"])]
    rows = {row["without"]: row for row in results["steps"]}
    assert list(rows) == ["nothing", "again", "boxes"]
    assert rows["nothing"]["suite 0.5"] == rows["nothing"]["web"] == rows["nothing"]["caption"] == 0
    assert rows["again"]["suite 0.5"] < -1 and rows["again"]["web"] < -1
    assert (rows["nothing"]["untouched"], rows["again"]["untouched"]) == (1.0, 0.0)
    assert (rows["nothing"]["worst"], rows["again"]["worst"]) == (0.0, pytest.approx(1.0, abs=0.02))
    assert rows["boxes"] == rows["nothing"] | {"without": "boxes"}
    assert json.loads((tmp_path / "steps.json").read_text())["steps"] == results["steps"]
    table = ablation.ablation_table(results).splitlines()
    assert "-100.0%" in next(line for line in table if line.split()[0] == "again")
    assert "+0.00" in next(line for line in table if line.split()[0] == "boxes")


def test_an_unknown_step_is_named(photos):
    with pytest.raises(ValueError, match="unknown kind 'magic'; choose from mirror"):
        ablation.run_ablation(photos[0].parent, None, ScoreOptions(limit=1), ["magic"])

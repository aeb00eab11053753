"""The remover beside its network: scores against those computed by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import marked, planted, psnr_inside

from wmremoval.config import TrainConfig
from wmremoval.report.compare import add_scores, add_views, gain_line, restore_views
from wmremoval.report.tables import format_table, score_table, settings_table, split_table, value_table


class Planned:
    """A data set of two samples: one with a planted mark, one without a mark."""

    def __init__(self):
        self.views = [marked(96, 160), (*(marked(96, 160)[1],) * 2, np.zeros((96, 160), bool))]

    def __len__(self):
        return 2

    def __getitem__(self, i):
        watermarked, clean, mask = self.views[i]
        tensors = (torch.from_numpy(x.astype(np.float32) / 255).permute(2, 0, 1) for x in (watermarked, clean))
        return dict(
            zip(("watermarked", "clean", "mask"), (*tensors, torch.from_numpy(mask)[None].float()), strict=True)
        )


@pytest.fixture(scope="module")
def scored():
    dataset = Planned()
    results = restore_views(planted(), dataset)
    rows = [
        {"file": "a.png", "mask_area": 0.03, "psnr": 30.0, "input_psnr": 25.0},
        {"file": "b.png", "mask_area": 0.0, "psnr": 50.0, "input_psnr": 100.0},
    ]
    return dataset, results, add_scores(rows, dataset, results)


def test_scores_of_the_remover_are_added_to_those_of_the_network(scored):
    dataset, results, (rows, summary) = scored
    _, clean, mask = dataset.views[0]
    assert rows[0]["psnr"] == 30 and rows[0]["remover_masked_psnr"] == pytest.approx(
        psnr_inside(results[0].image, clean, mask), abs=1e-3
    )
    error = results[0].image.astype(float) - clean
    assert rows[0]["remover_psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())), abs=1e-3)
    changed = results[0].mask_uint8 > 127
    assert rows[0]["remover_mask_iou"] == pytest.approx((changed & mask).sum() / (changed | mask).sum(), abs=1e-6)
    assert rows[1]["remover_psnr"] == 100 and np.isnan(rows[1]["remover_mask_iou"]), (
        "an unmarked photograph stays as it is"
    )
    assert summary["remover_psnr"]["mean"] == pytest.approx((rows[0]["remover_psnr"] + 100) / 2)


def test_the_table_and_the_sentence_name_what_each_gains(scored):
    summary = scored[2][1]
    lines = score_table(summary).splitlines()
    assert [line.split()[2:4] for line in lines[1:4]] == [
        ["do", "nothing"],
        ["network", "alone"],
        ["restored", lines[3].split()[3]],
    ]
    assert f"{summary['remover_psnr']['mean']:.3f}" in lines[3] and "62.500" in lines[1] and "40.000" in lines[2]
    assert f"network alone gains {40 - 62.5:+.2f} dB" in gain_line(summary)
    assert f"restored photographs {summary['remover_psnr']['mean'] - 62.5:+.2f} dB (mean of 2)" in gain_line(summary)


def test_views_of_the_shown_samples_join_the_batch(scored):
    _, results, _ = scored
    batch = add_views({"clean": torch.zeros(2, 3, 96, 160)}, results, [1, 0])
    np.testing.assert_array_equal((batch["remover"][1] * 255).round().permute(1, 2, 0).numpy(), results[0].image)
    assert set(batch) == {"clean", "remover"}


def test_tables_for_people_show_no_python():
    values = {
        "gpu": None,
        "composite": True,
        "parameters": {"total": 5, "trainable": 3},
        "loss": 0.123456,
        "warmup": [],
    }
    assert value_table(values).splitlines() == [
        "gpu         -",
        "composite   yes",
        "parameters  total 5, trainable 3",
        "loss        0.1235",
        "warmup      none",
    ]
    assert format_table([{"lr": 3e-5, "psnr": 30.0, "epoch": 1}]).splitlines()[1] == "3.0e-05  30.000  1"


def test_the_settings_are_those_that_differ_from_the_documents():
    rows = [line.split() for line in settings_table(TrainConfig(epochs=3, target="clean")).splitlines()]
    shown = {row[0]: row[1:] for row in rows}
    assert shown["epochs"] == ["3", "25"] and shown["target"] == ["clean", "reference"] and shown["seed"] == ["0", "0"]
    assert shown["composite"] == ["yes", "no"] and "warmup_epochs" not in shown


def test_the_table_of_a_split_names_photographs_of_several_scenes():
    split = {"train": [Path(f"{scene}_{i:02d}.png") for scene in ("cat", "sea") for i in range(3)], "val": []}
    assert [line.split(None, 2) for line in split_table(split).splitlines()[1:]] == [
        ["train", "6", "cat_00.png, cat_01.png, sea_00.png"],
        ["val", "0"],
    ]

"""Scores of a split against scikit-image and NumPy, with networks whose scores are known beforehand."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.utils.data import DataLoader, Dataset

from wmremoval.config import TrainConfig
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.data.fonts import FontBook
from wmremoval.data.loaders import make_loader
from wmremoval.model import HeterogeneousUNet, Parts
from wmremoval.training import trainer as training_module
from wmremoval.training.evaluate import AREAS, evaluate, restore_samples, summarise, write_test_results
from wmremoval.training.loop import fit
from wmremoval.training.trainer import Training

SIDE = 40
MARKED_ROWS = (0, 1, 3, 5, 20, 40)  # rows of the photograph that each sample's mark covers, out of SIDE
SSIM_OPTIONS = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
    "channel_axis": 2,
}


class Marked(Dataset):
    """Photographs marked by hand: so many rows from the top are brightened in the view, the last eight in the reference."""

    def __init__(self):
        self.epoch, self.paths, self.samples = 0, [], []
        for i, rows in enumerate(MARKED_ROWS):
            self.paths.append(Path("some/folder") / f"photo {i}.jpg")
            clean = skimage.data.astronaut()[50 * i : 50 * i + SIDE, 200 : 200 + SIDE].transpose(2, 0, 1) / 255 * 0.8
            clean = torch.from_numpy(clean).float()
            watermarked, reference, mask = clean.clone(), clean.clone(), torch.zeros(1, SIDE, SIDE)
            watermarked[:, :rows] += 0.1
            reference[:, -8:] += 0.2
            mask[:, :rows] = 1
            reference_mask = torch.zeros_like(mask)
            reference_mask[:, -8:] = 1
            self.samples.append(
                {
                    "watermarked": watermarked,
                    "reference": reference,
                    "clean": clean,
                    "mask": mask,
                    "alpha": 0.5 * mask,
                    "reference_mask": reference_mask,
                }
            )

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Answers(nn.Module):
    """Gives out prepared (image, mask logits), looked up by the watermarked photograph it is shown."""

    def __init__(self, dataset, answer):
        super().__init__()
        self.known = [(sample["watermarked"], answer(sample)) for sample in dataset.samples]

    def forward(self, watermarked):
        answers = [next(answer for known, answer in self.known if torch.equal(known, x)) for x in watermarked]
        return tuple(torch.stack(parts) for parts in zip(*answers, strict=True))


def perfect(sample):
    return sample["clean"], 40 * sample["mask"] - 20


def do_nothing(sample):
    return sample["watermarked"], torch.full_like(sample["mask"], -20.0)


def noisy(sample):
    """Some restoration, and a mask that finds the upper ten rows and nothing else."""
    noise = torch.randn(sample["clean"].shape, generator=torch.Generator().manual_seed(0))
    logits = torch.full_like(sample["mask"], -3.0)
    logits[:, :10] = 3.0
    return (sample["clean"] + 0.05 * noise).clamp(0, 1), logits


def objective(image, mask_logits, batch):
    """A loss by hand: the mean absolute error against clean, one photograph at a time."""
    assert len(image) == len(mask_logits) == len(batch["clean"]) == 1
    return (image - batch["clean"]).abs().mean(), {}


@pytest.fixture(scope="module")
def dataset():
    return Marked()


def score(dataset, answer, batch_size: int = 4):
    return evaluate(Answers(dataset, answer), DataLoader(dataset, batch_size), objective)


def by_hand(sample, view) -> dict[str, float]:
    view, clean, reference = (x.permute(1, 2, 0).double().numpy() for x in (view, sample["clean"], sample["reference"]))
    inside = sample["mask"][0].bool().numpy()
    return {
        "psnr": peak_signal_noise_ratio(clean, view, data_range=1),
        "ssim": structural_similarity(clean, view, **SSIM_OPTIONS),
        "rmse": 255 * math.sqrt(np.mean((view - clean) ** 2)),
        "masked_psnr": peak_signal_noise_ratio(clean[inside], view[inside], data_range=1) if inside.any() else math.nan,
        "masked_rmse": 255 * math.sqrt(np.mean((view - clean)[inside] ** 2)) if inside.any() else math.nan,
        "psnr_reference": peak_signal_noise_ratio(reference, view, data_range=1),
    }


def test_there_is_a_row_a_photograph_in_order_under_its_bare_name(dataset):
    for batch_size in (1, 4, 6):
        rows, summary = score(dataset, noisy, batch_size)
        assert [row["file"] for row in rows] == [f"photo {i}.jpg" for i in range(6)]
        assert [row["mask_area"] for row in rows] == pytest.approx([marked / SIDE for marked in MARKED_ROWS])
        assert summary["images"] == 6


def test_rows_do_not_depend_on_the_batches(dataset):
    alone, _ = score(dataset, noisy, 1)
    together, _ = score(dataset, noisy, 6)
    for a, b in zip(alone, together, strict=True):
        assert a.pop("file") == b.pop("file")
        assert a == pytest.approx(b, nan_ok=True, rel=1e-4)


def test_scores_are_those_of_scikit_image_on_each_sample(dataset):
    rows, _ = score(dataset, noisy)
    for row, sample in zip(rows, dataset.samples, strict=True):
        for name, value in by_hand(sample, noisy(sample)[0]).items():
            assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-4, nan_ok=True), name
        assert row["loss"] == pytest.approx((noisy(sample)[0] - sample["clean"]).abs().mean().item(), rel=1e-5)


def test_the_baseline_scores_the_watermarked_photograph(dataset):
    rows, _ = score(dataset, noisy)
    for row, sample in zip(rows[1:], dataset.samples[1:], strict=True):  # the first bears no mark: capped
        for name, value in by_hand(sample, sample["watermarked"]).items():
            assert row[f"input_{name}"] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    # 0.1 in 5 of 40 rows: by hand, 10 log10(40 / 5 / 0.01)
    assert rows[3]["input_psnr"] == pytest.approx(10 * math.log10(800), abs=1e-3)
    assert rows[3]["input_masked_psnr"] == pytest.approx(20, abs=1e-3)


def test_mask_scores_by_hand(dataset):
    rows, _ = score(dataset, noisy)  # ten rows found
    for row, marked in zip(rows[1:], MARKED_ROWS[1:], strict=True):
        both = min(marked, 10)
        assert row["mask_iou"] == pytest.approx(both / (marked + 10 - both))
        assert row["mask_f1"] == pytest.approx(2 * both / (marked + 10))


def test_a_perfect_network_scores_the_cap_and_no_loss(dataset):
    rows, summary = score(dataset, perfect)
    for row in rows:
        assert (row["psnr"], row["rmse"], row["loss"]) == (100, 0, 0)
        assert row["ssim"] == pytest.approx(1, abs=1e-6)
    for row in rows[1:]:
        assert (row["masked_psnr"], row["mask_iou"], row["mask_f1"]) == (100, 1, 1)
    assert summary["psnr"] == {"mean": 100, "std": 0}


def test_a_perfect_network_meets_the_ceiling_of_the_reference(dataset):
    rows, _ = score(dataset, perfect)
    for row in rows:
        assert row["psnr_reference"] == pytest.approx(row["reference_psnr"], abs=1e-4)
        assert row["reference_psnr"] == pytest.approx(10 * math.log10(SIDE / 8 / 0.04), abs=1e-3)  # 0.2 in 8 rows


def test_a_network_that_does_nothing_scores_the_baseline(dataset):
    rows, _ = score(dataset, do_nothing)
    for row in rows:
        for name in ("psnr", "ssim", "rmse", "masked_psnr", "masked_rmse", "psnr_reference"):
            assert row[name] == pytest.approx(row[f"input_{name}"], nan_ok=True), name
    assert [row["mask_iou"] for row in rows[1:]] == [0] * 5


def test_scores_inside_the_mark_do_not_exist_where_there_is_none(dataset):
    names = {"masked_psnr", "masked_rmse", "input_masked_psnr", "input_masked_rmse", "mask_iou", "mask_f1"}
    for answer in (perfect, do_nothing, noisy):  # whether or not a mark is falsely found
        rows, _ = score(dataset, answer)
        assert {name for name, value in rows[0].items() if name != "file" and math.isnan(value)} == names
        assert not any(math.isnan(value) for row in rows[1:] for name, value in row.items() if name != "file")


def test_means_and_deviations_are_numpys_over_the_photographs_that_have_the_score(dataset):
    rows, summary = score(dataset, noisy)
    for name in rows[0]:
        if name == "file":
            assert name not in summary
            continue
        values = np.array([row[name] for row in rows])
        assert summary[name] == pytest.approx({"mean": np.nanmean(values), "std": np.nanstd(values)})


def test_groups_share_out_the_marked_photographs_by_the_size_of_their_marks(dataset):
    rows, summary = score(dataset, noisy)
    groups = summary["by_mask_area"]
    # 1, 3, 5, 20 and 40 of 40 rows: 2.5, 7.5, 12.5, 50 and 100 percent
    assert {name: group["images"] for name, group in groups.items()} == {"2 to 5%": 1, "5 to 15%": 2, "over 15%": 2}
    assert groups["5 to 15%"]["psnr"] == pytest.approx(
        {"mean": np.mean([rows[2]["psnr"], rows[3]["psnr"]]), "std": np.std([rows[2]["psnr"], rows[3]["psnr"]])}
    )


def test_every_marked_photograph_is_in_one_group_borders_too():
    areas = [0.0, 1e-6, 0.01, 0.02, 0.020001, 0.05, 0.1, 0.15, 0.3, 1.0]
    summary = summarise([{"file": "x", "mask_area": area, "psnr": 30.0} for area in areas])
    assert {name: group["images"] for name, group in summary["by_mask_area"].items()} == {
        "under 2%": 3,
        "2 to 5%": 2,
        "5 to 15%": 2,
        "over 15%": 2,
    }
    assert summary["by_mask_area"].keys() == AREAS.keys()


def test_a_score_that_no_photograph_has_is_left_out():
    summary = summarise([{"file": "x", "mask_area": 0.0, "psnr": 30.0, "mask_iou": math.nan}])
    assert "mask_iou" not in summary and summary["psnr"]["mean"] == 30


def test_the_network_is_scored_in_evaluation_mode_without_gradients(dataset):
    class Watching(Answers):
        def forward(self, x):
            assert not self.training and not torch.is_grad_enabled()
            return super().forward(x)

    evaluate(Watching(dataset, perfect).train(), DataLoader(dataset, 3), objective)


# Reports.


def strict(text: str):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_reports_hold_no_nan_and_say_what_the_numbers_mean(dataset, tmp_path):
    rows, summary = score(dataset, perfect)
    write_test_results(tmp_path, rows, summary, {"perceptual_weights": "random"})
    about = strict((tmp_path / "test_results.json").read_text())
    assert about["images"] == 6 and about["perceptual_weights"] == "random"
    assert about["psnr"]["mean"] == 100 and "100 dB" in " ".join(about["notes"])
    assert "reference" in " ".join(about["notes"])


def test_the_table_has_a_row_a_photograph_with_empty_cells_where_there_is_no_score(dataset, tmp_path):
    rows, summary = score(dataset, noisy)
    write_test_results(tmp_path, rows, summary, {})
    with (tmp_path / "test_results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == [row["file"] for row in rows]
    assert table[0]["mask_iou"] == "" and table[0]["masked_psnr"] == ""
    for written, row in zip(table, rows, strict=True):
        assert float(written["psnr"]) == row["psnr"]
    assert not {"nan", "inf"} & {cell.lower() for row in table for cell in row.values()}


# With the real dataset and the real training.


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"{name}.png" for name in ("zebra", "ant", "moth")]  # not in the order of their names
    for i, path in enumerate(paths):
        Image.fromarray(skimage.data.coffee()[60 * i : 60 * i + 72, 100 : 100 + 90]).save(path)
    return paths


def test_rows_of_a_fixed_split_carry_the_names_and_marks_of_their_photographs(photographs):
    dataset = WatermarkDataset(photographs, SampleConfig(image_size=32, augment=False), FontBook({}))
    torch.manual_seed(0)
    rows, _ = evaluate(HeterogeneousUNet(), make_loader(dataset, 2), objective)
    assert [row["file"] for row in rows] == ["zebra.png", "ant.png", "moth.png"]
    assert [row["mask_area"] for row in rows] == pytest.approx([dataset[i]["mask"].mean().item() for i in range(3)])


def test_the_mean_loss_is_the_validation_loss_of_training(photographs, tmp_path, monkeypatch):
    class Tiny(nn.Module):
        def __init__(self, composite, decompose=False):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))

        def forward(self, x):
            return self.parts(x)[:2]

        def parts(self, x):
            y = self.layers(x)
            return Parts(torch.sigmoid(y[:, :3]), y[:, 3:], torch.sigmoid(y[:, :3]))

    monkeypatch.setattr(training_module, "HeterogeneousUNet", Tiny)
    config = TrainConfig(image_size=32, batch_size=2, epochs=1, warmup_epochs=0, perceptual_weights="random", amp="off")
    loaders = {
        part: make_loader(
            WatermarkDataset(photographs, SampleConfig(image_size=32, augment=part == "train"), FontBook({})), 2
        )
        for part in ("train", "val")
    }
    training = Training(config, 2, torch.device("cpu"))
    result = fit(training, loaders, tmp_path)
    _, summary = evaluate(training.net, loaders["val"], training.objective)
    assert summary["loss"]["mean"] == pytest.approx(result.history[0]["val_loss"], rel=1e-4)
    assert summary["psnr"]["mean"] == pytest.approx(result.history[0]["val_psnr"], rel=1e-4)
    assert summary["ssim"]["mean"] == pytest.approx(result.history[0]["val_ssim"], rel=1e-3)


def test_restored_samples_come_with_what_the_network_made_of_them(dataset):
    batch = restore_samples(Answers(dataset, perfect), dataset, [3, 0])
    assert batch["restored"].shape == batch["clean"].shape == (2, 3, SIDE, SIDE)
    assert torch.equal(batch["restored"], torch.stack([dataset[3]["clean"], dataset[0]["clean"]]))
    assert torch.equal(batch["mask_probability"].round(), torch.stack([dataset[3]["mask"], dataset[0]["mask"]]))
    assert batch.keys() == dataset[0].keys() | {"restored", "mask_probability"}

"""Validation by kind of mark, and the weights that are kept by it."""

import math

import pytest
import torch
from small import make_loaders, make_training
from torch.utils.data import DataLoader, Dataset

from wmremoval.config import TrainConfig
from wmremoval.data.kinds import KIND_SIDE, KINDS, kind_configs
from wmremoval.data.loaders import kinds_loader
from wmremoval.data.loaders import make_loaders as whole_loaders
from wmremoval.model import Parts
from wmremoval.training import loop as module
from wmremoval.training.evaluate import kinds_score, score_kinds
from wmremoval.training.loop import fit


class Planted(Dataset):
    """Grey photographs whose mark is a bright row; the second "text" has none that can be seen."""

    kinds = ("text", "text", "logo")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        clean, mask = torch.full((3, 4, 4), 0.5), torch.zeros(1, 4, 4)
        if index != 1:
            mask[:, 0] = 1.0
        return {"clean": clean, "mask": mask, "watermarked": clean + 0.2 * mask}


def test_a_table_by_kind_by_hand():
    def restore(x):
        """Finds the upper half marked, and takes off half of a text's mark, nine tenths of a logo's."""
        share = torch.tensor([0.5, 0.5, 0.1]).view(-1, 1, 1, 1)[-len(x) :] if len(x) == 1 else torch.tensor([0.5, 0.5]).view(-1, 1, 1, 1)  # fmt: skip
        logits = torch.full_like(x[:, :1], -1.0)
        logits[:, :, :2] = 1.0
        return Parts(0.5 + (x - 0.5) * share, logits, x)

    after = []
    table = score_kinds(restore, DataLoader(Planted(), 2), after_batch=lambda: after.append(1))
    wanted = {"text_iou": 0.5, "text_db": 20 * math.log10(2), "logo_iou": 0.5, "logo_db": 20.0}
    wanted["score"] = (1.0 + (20 * math.log10(2) + 20.0) / 20) / 2
    assert table == pytest.approx(wanted, rel=1e-4) and len(after) == 2


def test_every_kind_counts_the_same_and_a_decibel_as_much_as_a_twentieth_of_iou():
    even = {"a_iou": 0.5, "a_db": 2.0, "b_iou": 0.5, "b_db": 2.0}
    assert kinds_score(even) == pytest.approx(0.6)
    assert kinds_score(even | {"a_db": 4.0, "b_iou": 0.4}) == pytest.approx(kinds_score(even))


def test_kinds_are_what_they_are_called(pictures):
    assert "logo" not in kind_configs(False) and list(kind_configs(True)) == list(KINDS)
    loader = kinds_loader(pictures[:2], TrainConfig(batch_size=3))
    samples = list(loader.dataset)
    assert loader.dataset.kinds == [kind for kind in KINDS if kind != "logo" for _ in range(2)]
    assert all(sample["clean"].shape == (3, KIND_SIDE, KIND_SIDE) for sample in samples)
    by_kind = dict(zip(loader.dataset.kinds, samples, strict=True))
    assert by_kind["faint"]["alpha"].max() <= 0.3
    again = list(kinds_loader(pictures[:2], TrainConfig(batch_size=3)).dataset)
    assert all(torch.equal(a["watermarked"], b["watermarked"]) for a, b in zip(samples, again, strict=True))


def test_only_a_run_by_the_clock_has_the_table_and_its_validation_is_bounded(pictures):
    split = {"train": pictures[:4], "val": pictures[4:]}
    timed = whole_loaders(split, TrainConfig(image_size=32, hours=1, validation_photos=3), system_fonts=False)
    assert len(timed["val"].dataset) == 3 and len(timed["kinds"].dataset) == 3 * (len(KINDS) - 1)
    assert set(whole_loaders(split, TrainConfig(image_size=32), system_fonts=False)) == {"train", "val"}


def test_the_weights_of_the_best_score_are_kept_whatever_the_loss(pictures, tmp_path, monkeypatch, log):
    loaders = make_loaders(pictures) | {"kinds": kinds_loader(pictures[5:6], TrainConfig(batch_size=2))}
    scores = iter([0.2, 0.4, 0.3])
    monkeypatch.setattr(module, "score_kinds", lambda *given: {"text_iou": 0.1, "text_db": 0.5, "score": next(scores)})
    clock = iter(range(10**6))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    result = fit(make_training(hours=90 / 3600, validate_minutes=0.4, iou_weight=0.25), loaders, tmp_path)
    assert [row["val_score"] for row in result.history] == [0.2, 0.4, 0.3]
    assert (result.best_epoch, result.best_score) == (2, 0.4)
    assert "score 0.4000: text 0.100 / +0.50 dB" in log.text
    assert result.best_loss == result.history[1]["val_loss"] and result.history[0]["val_text_db"] == 0.5

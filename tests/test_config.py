"""`TrainConfig` and the learning rates it plans, against the rates of the document's own log."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

from wmremoval.config import DOCUMENT_RECIPE, TrainConfig, drop_factor, learning_rates, onecycle

# LR= of epochs 1 to 25 in the document's training log.
LOGGED = [
    0.000134, 0.000229, 0.000372, 0.000542, 0.000713, 0.000860, 0.000960, 0.001000,
    0.000994, 0.000975, 0.000943, 0.000898, 0.000843, 0.000778, 0.000705, 0.000627,
    0.000545, 0.000462, 0.000380, 0.000302, 0.000229, 0.000163, 0.000107, 0.000061,
    0.000028,
]  # fmt: skip
STEPS = math.ceil(699 / 8)


def test_the_document_trains_88_steps_an_epoch():
    assert STEPS == 88


def test_the_rates_are_those_of_the_documents_log_to_its_six_decimals():
    rates = learning_rates(TrainConfig(lr_drop_epoch=None), STEPS)
    assert [round(rate, 6) for rate in rates] == LOGGED


def test_the_rate_rises_along_a_cosine_from_a_tenth_to_the_peak_and_falls_along_another():
    config, steps = TrainConfig(epochs=8, lr_drop_epoch=None, learning_rate=0.02), 10
    total = (8 + 2) * steps
    peak = 0.3 * total - 1  # the step at which the rate is highest
    wanted = []
    for step in range(steps, 8 * steps + 1, steps):
        start, end, share = (
            (0.002, 0.02, step / peak) if step <= peak else (0.02, 0.002 / 100, (step - peak) / (total - 1 - peak))
        )
        wanted.append(end + (start - end) * (1 + math.cos(math.pi * share)) / 2)
    assert learning_rates(config, steps) == pytest.approx(wanted, rel=1e-9)


def test_the_cycle_would_end_at_a_millionth_two_epochs_after_training_stops():
    config = TrainConfig(epochs=3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = onecycle(optimizer, config, 4)
    for _ in range((3 + 2) * 4 - 1):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)


def test_the_drop_lasts_from_the_epoch_after_it_to_the_end():
    plain = learning_rates(TrainConfig(lr_drop_epoch=None), STEPS)
    dropped = learning_rates(TrainConfig(lr_drop_epoch=15), STEPS)
    ratios = [low / rate for low, rate in zip(dropped, plain, strict=True)]
    assert ratios == pytest.approx([1.0] * 15 + [0.1] * 10)


def test_another_factor_and_epoch_of_the_drop():
    config = TrainConfig(epochs=4, lr_drop_epoch=2, lr_drop_factor=0.5)
    assert [drop_factor(config, epoch) for epoch in (1, 2, 3, 4)] == [1.0, 1.0, 0.5, 0.5]
    plain, dropped = learning_rates(replace(config, lr_drop_epoch=None), 3), learning_rates(config, 3)
    assert [low / rate for low, rate in zip(dropped, plain, strict=True)] == pytest.approx([1, 1, 0.5, 0.5])


def test_there_is_one_rate_an_epoch_and_the_warm_up_is_not_among_them():
    assert len(learning_rates(TrainConfig(epochs=6, warmup_epochs=4), 5)) == 6
    assert learning_rates(TrainConfig(epochs=6, warmup_epochs=0), 5) == learning_rates(
        TrainConfig(epochs=6, warmup_epochs=4), 5
    )


def test_planning_rates_leaves_the_random_state_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    learning_rates(TrainConfig(epochs=2), 2)
    assert torch.equal(torch.rand(2), wanted)


def test_the_defaults_are_the_documents_numbers():
    values = TrainConfig().to_dict()
    document = {
        "image_size": 256, "batch_size": 8, "epochs": 25, "learning_rate": 1e-3, "weight_decay": 1e-5, "warmup_epochs": 2,
        "warmup_learning_rate": 1e-4, "lr_drop_epoch": 15, "lr_drop_factor": 0.1, "early_stop_patience": 7,
        "alpha": 0.3, "beta": 0.3, "gamma": 0.4, "delta": 0.1, "target": "reference",
    }  # fmt: skip
    assert {name: values[name] for name in document} == document


def test_the_documents_recipe_is_the_direct_image_without_a_mask_term():
    assert (DOCUMENT_RECIPE.composite, DOCUMENT_RECIPE.mask_weight, DOCUMENT_RECIPE.target) == (False, 0, "reference")
    assert DOCUMENT_RECIPE.lr_drop_epoch == 15
    assert replace(DOCUMENT_RECIPE, composite=True, mask_weight=TrainConfig().mask_weight) == TrainConfig()


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3


def test_a_config_survives_json():
    config = TrainConfig(
        epochs=3, target="clean", lr_drop_epoch=None, composite=False, amp="off", learning_rate=3e-4, seed=7
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert set(config.to_dict()) == {field.name for field in fields(TrainConfig)}


def test_from_dict_fills_in_defaults_and_leaves_its_argument_alone():
    values = {"epochs": 3}
    assert TrainConfig.from_dict(values) == TrainConfig(epochs=3)
    assert values == {"epochs": 3}


def test_an_unknown_setting_is_named():
    with pytest.raises(ValueError, match="epoks, lr"):
        TrainConfig.from_dict({"lr": 1, "epochs": 3, "epoks": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "mask"),
        ("amp", "fp8"),
        ("image_size", 16),
        ("image_size", 64.5),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("epochs", 0),
        ("epochs", "25"),
        ("early_stop_patience", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("warmup_learning_rate", 0),
        ("clip_norm", 0),
        ("lr_drop_factor", 0),
        ("workers", -1),
        ("warmup_epochs", -1),
        ("weight_decay", -1e-5),
        ("mask_weight", -1),
        ("mask_weight", math.nan),
        ("alpha", -0.3),
        ("delta", math.nan),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_setting(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        TrainConfig(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "0.001"),  # as a hand-written JSON would have it
        ("learning_rate", None),
        ("learning_rate", math.inf),
        ("warmup_epochs", 1.5),  # range() would fail after the data has been prepared
        ("workers", 0.5),
        ("seed", -1),  # NumPy's generators refuse it, in the first sample
        ("lr_drop_epoch", "15"),
        ("marks", "rare"),
        ("keep", "first"),
        ("l1_weight", -1.0),
        ("sample_seed", -1),
        ("size_spread", 16.0),
        ("size_spread", -32),
        ("degraded", 1.5),
        ("unmarked", -0.1),
        ("sharp", 1.1),
        ("photo_memory", -1),
        ("optimizer", "muon"),
        ("compile", "always"),
        ("coarse_gate_weight", -0.5),
        ("ema_half_life", -1),
        ("validation_photos", 0),
    ],
)
def test_a_value_that_could_only_fail_later_is_an_error_that_names_the_setting(name, value):
    with pytest.raises(ValueError, match=name):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup_epochs", 0),
        ("workers", 0),
        ("weight_decay", 0),
        ("alpha", 0),
        ("lr_drop_epoch", None),
        ("epochs", 1),
        ("image_size", 32),
    ],
)
def test_the_smallest_values_are_accepted(name, value):
    assert getattr(TrainConfig(**{name: value}), name) == value

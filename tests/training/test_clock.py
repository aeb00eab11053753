"""A schedule by the clock: its rate, what it counts, and runs that are paused, broken off, cooled down and resumed."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from small import STATE, WEIGHTS, make_loaders, make_training, same, settings, timeless

from wmremoval.config import TrainConfig
from wmremoval.data.dataset import WatermarkDataset
from wmremoval.training import loop as module
from wmremoval.training import passes
from wmremoval.training.loop import TrainResult, fit
from wmremoval.training.schedule import MOST_STEPS, Clock, ClockSchedule, clock_rate, planned_rates
from wmremoval.training.trainer import Training, seed_everything

SECOND = 1 / 3600  # hours


@pytest.mark.parametrize(
    ("share", "rate"),
    [(-0.1, 0), (0, 0), (0.0025, 0.25), (0.01, 1), (0.4, 1), (0.75, 1), (0.8, 0.8), (0.95, 0.2), (1, 0), (1.5, 0)],
)
def test_the_rate_rises_is_held_and_falls_in_a_line_over_the_last_quarter(share, rate):
    assert clock_rate(share) == pytest.approx(rate)


def test_the_plan_of_a_run_by_the_clock_has_a_rate_for_each_row():
    config = TrainConfig(hours=2, learning_rate=3e-4)
    assert planned_rates(config, 5, [{"share": 0.5}, {"share": 0.875}]) == pytest.approx([3e-4, 1.5e-4])


def test_a_clock_adds_up_what_work_took():
    clock = Clock(100.0)
    for seconds in (1.0, 2.0, 1.0):
        clock.step(seconds)
    clock.spend(5.0)
    assert clock.seconds == pytest.approx(9.0) and clock.share == pytest.approx(0.09)


@pytest.mark.parametrize("spend", [Clock.step, Clock.spend], ids=["in a step", "in validation"])
def test_a_pause_counts_as_ten_median_steps_at_most(spend):
    clock = Clock(1000.0)
    for _ in range(9):
        clock.step(1.0)
    spend(clock, 3600.0)
    assert clock.seconds == pytest.approx(9.0 + MOST_STEPS)
    clock.step(1.0)
    assert clock.seconds == pytest.approx(10.0 + MOST_STEPS), "the pause does not move the median"


def make_schedule(**changes) -> ClockSchedule:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return ClockSchedule(TrainConfig(**({"hours": 100 * SECOND, "learning_rate": 0.5} | changes)), optimizer)


def test_the_optimisers_rate_follows_the_clock():
    schedule, rates = make_schedule(), []
    schedule.next_pass(TrainResult(None))
    for _ in range(100):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.after_step(1.0)
    assert rates == pytest.approx([0.5 * clock_rate(second / 100) for second in range(100)])
    assert schedule.over and schedule.optimizer.param_groups[0]["lr"] == 0


def test_a_run_cooled_down_now_ends_with_a_third_of_the_time_so_far():
    schedule = make_schedule()
    for _ in range(30):
        schedule.after_step(1.0)
    schedule.cool_down()
    assert schedule.clock.total == pytest.approx(40.0) and clock_rate(schedule.clock.share) == pytest.approx(1.0)
    for _ in range(5):
        schedule.after_step(1.0)
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="already"):
        schedule.cool_down()
    again = make_schedule()
    again.load_state_dict(schedule.state_dict())
    assert (again.clock.total, again.clock.seconds) == (schedule.clock.total, 35.0)


def test_a_run_by_epochs_cannot_be_cooled_down():
    with pytest.raises(ValueError, match="hours"):
        make_training().schedule.cool_down()


def test_crops_grow_in_the_last_third_and_a_pass_that_goes_on_keeps_its_own():
    schedule, result = make_schedule(grow=True), TrainResult(None)
    stages = []
    for _ in range(10):
        stages.append(schedule.next_pass(result).stage)
        for _ in range(10):
            schedule.after_step(1.0)
    assert stages == [0] * 7 + [1] * 3
    result.underway.samples, result.underway.stage = 4, 0
    result.underway.counts = {"loss": 4}
    assert schedule.next_pass(result).stage == 0


@pytest.fixture
def ticking(monkeypatch):
    """A clock on which a step takes a second, a batch of validation half of one, and nothing else any time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    run = passes._run_batch

    def run_batch(training, batch, optimizer, place):
        clock.now += 1.0 if optimizer is not None else 0.5
        return run(training, batch, optimizer, place)

    monkeypatch.setattr(passes, "_run_batch", run_batch)
    return clock


CLOCKED = {"hours": 20 * SECOND, "validate_minutes": 6 / 60, "learning_rate": 1e-3}


def test_a_run_by_the_clock_trains_for_its_time_and_validates_in_it(ticking, loaders, tmp_path, monkeypatch):
    rates, step = [], Training.step

    def spy(self, loss, optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(self, loss, optimizer)

    monkeypatch.setattr(Training, "step", spy)
    result = fit(make_training(**CLOCKED), loaders, tmp_path)
    # Passes of three steps; validation, two batches of half a second, once six seconds have gone by since the last. The
    # last one comes when the time is spent.
    assert [row["minutes"] * 60 for row in result.history] == pytest.approx([7, 14, 21])
    assert [row["epoch"] for row in result.history] == [1, 2, 3] and result.warmup_losses == []
    spent = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19]
    assert rates == pytest.approx([1e-3 * clock_rate(seconds / 20) for seconds in spent])
    assert result.passes == 6 and result.stopped == "finished" and not (tmp_path / STATE).exists()
    assert result.history[0]["views"] == pytest.approx(10 * 32**2 / 256**2)


def test_no_validation_spends_what_the_rate_needs_to_fall_to_zero():
    schedule = make_schedule(validate_minutes=20 / 60)
    ends = []
    for _ in range(10):
        for _ in range(10):
            schedule.after_step(1.0)
        ends.append(schedule.ends_row())
        if ends[-1]:
            schedule.row_start()
    assert ends == [False, True, False, True, False, True, False, True, False, True]
    late = make_schedule(validate_minutes=20 / 60)
    for _ in range(91):
        late.after_step(1.0)
    assert not late.ends_row()


def given_samples(monkeypatch) -> list:
    """Every training sample that is asked for from here on, by (epoch, index)."""
    given, get = [], WatermarkDataset.__getitem__

    def counted(dataset, index):
        if dataset.config.augment:
            given.append((dataset.epoch, index))
        return get(dataset, index)

    monkeypatch.setattr(WatermarkDataset, "__getitem__", counted)
    return given


SOAP = {"optimizer": "soap", "ema_half_life": 3}


@pytest.mark.parametrize(
    ("stopped", "changes"),
    [
        pytest.param(1, {}, id="after the first step"),
        pytest.param(11, {}, id="within a pass"),
        pytest.param(6, {}, id="at the end of a pass"),
        pytest.param(8, {}, id="in the validation"),
        pytest.param(5, SOAP, id="soap, before its bases turn"),
        pytest.param(11, SOAP, id="soap, renewing statistics"),
    ],
)
def test_a_run_that_was_asked_to_end_goes_on_exactly_where_it_stopped(
    ticking, pictures, tmp_path, monkeypatch, stopped, changes
):
    if changes:
        pytest.importorskip("pytorch_optimizer")
    monkeypatch.setattr(module, "VALIDATION_SECONDS", 0)
    given = given_samples(monkeypatch)
    whole = fit(make_training(**CLOCKED, **changes), make_loaders(pictures), tmp_path / "whole")
    seen, steps = list(given), itertools.count(1)
    given.clear()
    broken = fit(
        make_training(**CLOCKED, **changes),
        make_loaders(pictures),
        tmp_path / "broken",
        stop=lambda: next(steps) == stopped,
    )
    assert broken.stopped == "interrupted"
    ticking.now += 1e6  # between the sittings
    seed_everything(99)
    mended = fit(make_training(**CLOCKED, **changes), make_loaders(pictures), tmp_path / "broken", resume=True)
    assert timeless(mended.history) == timeless(whole.history)
    assert same(*(load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken")))
    if not changes:  # renewing statistics shows samples of a pass again
        assert given == seen


def test_a_pause_within_a_step_spends_no_time_of_a_run(ticking, loaders, tmp_path, monkeypatch):
    steps, step = itertools.count(1), Training.step

    def pause(*args):
        if next(steps) == 5:
            ticking.now += 1e6
        return step(*args)

    monkeypatch.setattr(Training, "step", pause)
    result = fit(make_training(**CLOCKED | {"hours": 40 * SECOND}), loaders, tmp_path)
    assert result.history[-1]["minutes"] * 60 == pytest.approx(40, abs=1.0)
    assert next(steps) - 1 >= 40 - MOST_STEPS - 6


def test_cooling_down_now_is_kept_by_the_next_resume(ticking, pictures, tmp_path, monkeypatch):
    def run(stop_after=math.inf, **how):
        steps = itertools.count(1)
        training = make_training(**CLOCKED | {"hours": 1.0})
        return fit(training, make_loaders(pictures), tmp_path, stop=lambda: next(steps) >= stop_after, **how)

    run(stop_after=6)
    run(stop_after=1, resume=True, cool_down=True)
    result = run(resume=True)
    assert result.stopped == "finished" and result.history[-1]["share"] == 1.0
    assert result.history[-1]["minutes"] * 60 == pytest.approx(8.0, abs=1.0)
    assert result.history[-1]["lr"] == 0


@pytest.mark.parametrize("bad", [{"hours": 0}, {"hours": "2"}, {"validate_minutes": 0}, {"grow": True}])
def test_settings_of_the_clock_that_cannot_be(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        settings(**bad)

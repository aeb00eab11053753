"""The planned rates, the log, fresh samples, seeds, devices and half precision."""

import os
import random
import re

import numpy as np
import pytest
import torch
from small import CPU, TinyNet, make_training, random_batch, same, weights_of

from wmremoval.config import TrainConfig, learning_rates
from wmremoval.training import loop as module
from wmremoval.training.loop import fit
from wmremoval.training.passes import run_epoch
from wmremoval.training.trainer import Training, autocast_dtype, pick_device, seed_everything


def test_the_rates_of_the_history_are_the_planned_ones(loaders, tmp_path):
    training = make_training(epochs=4, lr_drop_epoch=2)
    history = fit(training, loaders, tmp_path).history
    assert [row["lr"] for row in history] == pytest.approx(learning_rates(training.config, 3), rel=1e-9)


def rates_of_steps(training, loaders, folder) -> list[tuple[bool, float]]:
    """(is the warm-up's optimiser, rate) of every step of a run."""
    seen, step = [], Training.step

    def spy(self, loss, optimizer):
        seen.append((optimizer is self.warmup_optimizer, optimizer.param_groups[0]["lr"]))
        return step(self, loss, optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", spy)
        fit(training, loaders, folder)
    return seen


def test_the_warm_up_has_an_optimiser_and_a_constant_rate_of_its_own(loaders, tmp_path):
    training = make_training(warmup_epochs=2, epochs=1, warmup_learning_rate=5e-5, learning_rate=0.01)
    seen = rates_of_steps(training, loaders, tmp_path)
    assert seen[:6] == [(True, 5e-5)] * 6
    assert [warm for warm, _ in seen[6:]] == [False] * 3
    assert seen[6][1] == pytest.approx(0.01 / 10)


def test_the_cycle_steps_once_a_batch(loaders, tmp_path):
    training = make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=None)
    rates = [rate for _, rate in rates_of_steps(training, loaders, tmp_path)]
    by_step = learning_rates(
        TrainConfig(epochs=6 + 2 * 3 - 2, lr_drop_epoch=None), 1
    )  # the same cycle, an epoch a step
    assert rates == pytest.approx([1e-4, *by_step[:5]], rel=1e-6)


def test_the_drop_holds_from_the_first_batch_after_its_epoch(loaders, tmp_path):
    plain = rates_of_steps(make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=None), loaders, tmp_path / "plain")
    dropped = rates_of_steps(make_training(warmup_epochs=0, epochs=2, lr_drop_epoch=1), loaders, tmp_path / "dropped")
    ratios = [low / rate for (_, low), (_, rate) in zip(dropped, plain, strict=True)]
    assert ratios == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


def test_the_log_has_the_documents_lines(loaders, tmp_path, log):
    result = fit(make_training(epochs=3, lr_drop_epoch=2), loaders, tmp_path)
    lines = log.messages
    number = r"\d+\.\d"
    epoch = (
        rf"Epoch %d: Train Loss={number}{{4}}, Train PSNR={number}{{2}}, Train SSIM=-?{number}{{4}} , "
        rf"Val Loss={number}{{4}}, Val PSNR={number}{{2}}, Val SSIM=-?{number}{{4}}, LR={number}{{6}}"
    )
    wanted = [
        rf"Warmup Epoch 1 \| Loss: {number}{{5}}",
        epoch % 1,
        epoch % 2,
        r"Lowering learning rate by 10x for fine-tuning phase\.",
        epoch % 3,
        rf"Training Time Elapsed: {number}{{2}} Minutes",
    ]
    assert len(lines) == len(wanted)
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line), line
    row = result.history[0]
    assert f"Val PSNR={row['val_psnr']:.2f}, Val SSIM={row['val_ssim']:.4f}, LR={row['lr']:.6f}" in lines[1]
    assert lines[0].endswith(f"{result.warmup_losses[0]:.5f}")


def test_no_drop_no_line(loaders, tmp_path, log):
    fit(make_training(epochs=1, warmup_epochs=0, lr_drop_epoch=None), loaders, tmp_path)
    assert "Lowering" not in log.text


def test_every_training_epoch_draws_new_samples_and_validation_never(monkeypatch, loaders, tmp_path):
    seen, run = [], run_epoch

    def spy(training, loader, label, *args, **more):
        means = run(training, loader, label, *args, **more)
        seen.append((label, loader.dataset.epoch))
        return means

    monkeypatch.setattr(module, "run_epoch", spy)
    fit(make_training(warmup_epochs=2, epochs=2), loaders, tmp_path)
    assert seen == [
        ("Warmup Epoch 1", 0),
        ("Warmup Epoch 2", 1),
        ("Epoch 1", 2),
        ("Epoch 1 val", 0),
        ("Epoch 2", 3),
        ("Epoch 2 val", 0),
    ]


def test_a_seed_decides_python_numpy_and_torch():
    draws = []
    for seed in (5, 5, 6):
        seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert draws[0] == draws[1] and all(a != b for a, b in zip(draws[0], draws[2], strict=True))


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = weights_of(make_training(seed=3).net)
    torch.manual_seed(2)
    assert same(first, weights_of(make_training(seed=3).net))
    assert not same(first, weights_of(make_training(seed=4).net))


def test_compiling_keeps_the_plain_network_for_the_checkpoint(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda net, dynamic: compiled.append(net) or (lambda x: ("compiled", net(x))))
    training = make_training(compile=True)
    assert compiled == [training.net.parts]
    assert training.predict(random_batch()["watermarked"])[0] == "compiled"
    assert training.net.state_dict().keys() == TinyNet().state_dict().keys()


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "")  # so that what is set is taken back


def test_without_cuda_auto_is_the_cpu(no_cuda):
    assert pick_device() == pick_device("auto") == pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_asking_for_cuda_without_cuda_is_one_clear_line(no_cuda, name):
    with pytest.raises(ValueError, match="no CUDA device") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_blocks_over_64_mb_are_not_split_unless_the_user_says_otherwise(monkeypatch, no_cuda):
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    pick_device("cpu")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:64"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "garbage_collection_threshold:0.5")
    pick_device("cpu")
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "garbage_collection_threshold:0.5"


@pytest.mark.parametrize("hardware", [True, False])
def test_half_precision_is_chosen_by_the_hardware(monkeypatch, hardware):
    cuda = torch.device("cuda")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: hardware or including_emulation
    )
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware, raising=False)
    assert autocast_dtype("auto", cuda) == (torch.bfloat16 if hardware else torch.float16)
    assert autocast_dtype("auto", CPU) == (torch.bfloat16 if hardware else None)
    for device in (CPU, cuda):
        assert autocast_dtype("off", device) is None
        assert autocast_dtype("bf16", device) == torch.bfloat16
    assert autocast_dtype("fp16", cuda) == torch.float16


def test_fp16_on_a_cpu_is_an_error():
    with pytest.raises(ValueError, match="fp16"):
        make_training(amp="fp16")

"""The network's benchmark: what it measures and counts, not how fast anything is."""

import time

import pytest
import torch

from wmremoval.model import HeterogeneousUNet
from wmremoval.netbenchmark import bare_convolutions, time_in_turn, time_network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_benchmark_gives_times_and_their_ratio(dtype):
    threads = torch.get_num_threads()
    numbers = time_network(side=64, repeats=1, threads=1, dtype=dtype, window=4)
    assert all(isinstance(value, float) and value > 0 for value in numbers.values())
    assert (numbers["side, px"], numbers["threads"]) == (64.0, 1.0)
    ratio = numbers["forward, ms"] / numbers["convolutions alone, ms"]
    assert numbers["forward / convolutions"] == pytest.approx(ratio)
    assert torch.get_num_threads() == threads


@torch.no_grad()
def test_the_bare_convolutions_are_those_of_the_network():
    net = HeterogeneousUNet(True, True).eval()
    calls, multiplications = bare_convolutions(net, torch.rand(1, 3, 16, 24), torch.bfloat16)
    outputs = [call() for call in calls]
    assert all(output.dtype == torch.bfloat16 for output in outputs)
    sizes = sorted((output.shape[1], *output.shape[2:]) for output in outputs)
    full, half, quarter, eighth = (16, 24), (8, 12), (4, 6), (2, 3)
    wanted = [(48, *full)] * 6 + [(96, *half)] * 6 + [(144, *quarter)] * 6 + [(256, *eighth)] * 3
    assert sizes == sorted([*wanted, (1, *full), (1, *half), (1, *quarter), (3, *full), (5, *full)])
    pairs = [(3, 48, 1), (48, 48, 1), (48, 96, 4), (96, 96, 4), (96, 144, 16), (144, 144, 16), (144, 256, 64)]
    pairs += [(256, 256, 64)] * 2 + [(288, 144, 16)] * 2 + [(144, 144, 16)] + [(192, 96, 4)] * 2 + [(96, 96, 4)]
    pairs += [(96, 48, 1)] * 2 + [(48, 48, 1)]
    by_hand = sum(9 * i * o * 16 * 24 // share for i, o, share in pairs)
    by_hand += 4 * sum(i * o * 16 * 24 // share for i, o, share in [(256, 144, 64), (144, 96, 16), (96, 48, 4)])
    by_hand += sum(i * o * 16 * 24 // share for i, o, share in [(144, 1, 16), (96, 1, 4), (48, 1, 1), (48, 8, 1)])
    assert multiplications == by_hand


def test_the_fastest_run_counts_and_the_first_does_not():
    runs = []

    def work():
        runs.append(None)
        time.sleep((0.0, 0.03, 0.01, 0.03)[len(runs) - 1])

    (fastest,) = time_in_turn([work], repeats=3)
    assert len(runs) == 4
    assert 10 <= fastest < 30

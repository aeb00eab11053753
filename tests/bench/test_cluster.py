"""The comparison of workers with plain commands: who gets which photographs, and the shares of the speed."""

import json
from pathlib import Path

import pytest

from wmremoval.bench import cluster as module
from wmremoval.bench.cluster import measure_cluster


class Stub:
    """A command that takes 0.4 s by its own report for each photograph, half of it with workers, and fails on demand."""

    started: list
    failing = False

    def __init__(self, command, env, **_):
        self.returncode = int(self.failing)
        source, report = (Path(command[command.index(word) + 1]) for word in ("remove", "--report"))
        photographs = [path.read_bytes() for path in sorted(source.iterdir())]
        self.started.append((photographs, "--workers" in command, env["OMP_NUM_THREADS"]))
        seconds = 0.4 * len(photographs) / (1 + ("--workers" in command))
        report.write_text(json.dumps({"seconds": seconds}))

    def communicate(self):
        return "", "first line\nlast line\n" if self.failing else ""


@pytest.fixture
def stub(monkeypatch):
    Stub.started = []
    monkeypatch.setattr(module.subprocess, "Popen", Stub)
    return Stub


def test_the_plain_commands_share_the_photographs_and_the_workers_have_them_all(photos, stub):
    numbers = measure_cluster(photos[:5])
    content = [path.read_bytes() for path in photos[:5]]
    assert stub.started == [(content[::2], False, "1"), (content[1::2], False, "1"), (content, True, "1")]
    assert numbers["plain commands at once, without their start, s"] == pytest.approx(1.2)  # three of five
    assert numbers["one command with workers, without its start, s"] == pytest.approx(1.0)
    assert numbers["without the start, share of the plain commands' speed"] == pytest.approx(1.2)


def test_a_command_that_fails_and_too_few_photographs_are_one_line(photos, stub, monkeypatch):
    with pytest.raises(ValueError, match="3 photographs are needed at least, got 2"):
        measure_cluster(photos[:2], workers=3)
    monkeypatch.setattr(Stub, "failing", True)
    with pytest.raises(RuntimeError, match=r"^last line$"):
        measure_cluster(photos[:2])

"""`remove` by workers: one is killed half-way, an object store, a photograph that kills, an interruption; wrong usage."""

import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from unittest import mock

import numpy as np
import psutil
import pytest
from command import files, run
from PIL import Image
from planted import marked

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="pip install wmremoval[cluster]"
)
MANY = 16  # photographs of a run
KILLER = "killer.png"  # the photograph that kills the process which reads it


def without_text_and_killed_by_a_photograph():
    """A plugin of the tests' workers: no search for text, which takes long to load, and the killer."""
    from distributed import WorkerPlugin

    class Prepared(WorkerPlugin):
        def setup(self, worker):
            import os
            import signal

            from wmremoval.batch import run
            from wmremoval.restore import remover

            read = run.read_photo

            def read_or_die(path, *options):
                if path.name == "killer.png":
                    os.kill(os.getpid(), signal.SIGKILL)
                return read(path, *options)

            run.read_photo, remover.load_text_finder = read_or_die, lambda *memory: None

    return Prepared()


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket of an object store on the loopback address, and its file system."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")
    s3fs = pytest.importorskip("s3fs", reason="pip install wmremoval[cluster]")
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT_URL": "http://{}:{}".format(*store.get_host_and_port()),
            "ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": "tests", "DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            patch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir("photographs")
        yield system
    store.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def scheduler(bucket):
    """The address of a scheduler with two workers, and a client of it.

    The workers are forked from a process that has the package imported, which spares the seconds of each start.
    """
    import dask
    from distributed import Client, LocalCluster, utils

    multiprocessing.get_context("forkserver").set_forkserver_preload(["distributed", "wmremoval.cluster.worker"])
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.nanny.environ": {name: value for name, value in os.environ.items() if name.startswith("AWS_")},
    }
    with (
        mock.patch.object(utils, "_forkserver_preload_set", True),
        dask.config.set(settings),
        LocalCluster(
            2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs="CRITICAL"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(without_text_and_killed_by_a_photograph())
        yield cluster.scheduler_address, client


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Photographs of which every other one has a mark, in `in`, and their results by the plain command in `plain`."""
    from wmremoval.restore import remover

    folder = tmp_path_factory.mktemp("crowd")
    (folder / "in").mkdir()
    for number in range(MANY):
        scene = marked(100, 140, scale=0.9, alpha=0.7, origin=(12, 40 + 3 * number))[1 if number % 2 else 0]
        Image.fromarray(scene).save(folder / f"in/{number:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remover, "load_text_finder", lambda *memory: None)
        patch.chdir(folder)
        assert run("in", "-o", "plain", "--report", "plain.json") == 0
    return folder


@pytest.fixture
def place(crowd, tmp_path, monkeypatch):
    """A folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").symlink_to(crowd / "in")
    return tmp_path


def rows(report):
    """What the rows of a report say, by name; no name is there twice."""
    found = json.loads(report.read_text())["photographs"]
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: (row["status"], row["area"], row["marks"]) for row in found}


def killing_a_worker(client, done):
    """A thread that kills one worker when `done` finds the first results."""

    def watch():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not done():
            time.sleep(0.02)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@needs_dask
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_worker_is_killed_half_way_and_every_photograph_is_restored_once(scheduler, bucket, crowd, place, where):
    address, client = scheduler
    if where == "folder":
        source, output, done = "in", "out", lambda: files(place / "out")
    else:
        source, output = "s3://photographs/in", "s3://photographs/out"
        bucket.put(str(crowd / "in"), "photographs/in", recursive=True)
        system = type(bucket)(skip_instance_cache=True, use_listings_cache=False)
        done = lambda: [name for name in system.find("photographs/out") if name.endswith("png")]  # noqa: E731
    thread = killing_a_worker(client, done)
    assert run(source, "-o", output, "--scheduler", address, "--report", "r.json") == 0
    thread.join()
    report = json.loads((place / "r.json").read_text())
    assert report["processes"] == 2 and report["summary"]["kept"] == report["summary"]["failed"] == 0
    assert rows(place / "r.json") == rows(crowd / "plain.json") and report["summary"]["restored"] >= MANY / 4
    assert {row["output"] for row in report["photographs"]} == {f"{output}/{name}" for name in files(crowd / "in")}
    if where == "store":
        bucket.invalidate_cache()
        bucket.get("photographs/out", str(place / "out"), recursive=True)
    assert files(place / "out") == files(crowd / "in")
    for name in files(crowd / "in"):
        np.testing.assert_array_equal(*(np.asarray(Image.open(at / name)) for at in (place / "out", crowd / "plain")))


@needs_dask
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_photograph_that_kills_its_worker_three_times_is_left_out_and_the_others_go_on(
    scheduler, crowd, place, capsys
):
    (place / "in").unlink()
    (place / "in").mkdir()
    for name in [*files(crowd / "in")[:6], KILLER]:
        (place / "in" / name).write_bytes((crowd / "in" / name.replace(KILLER, "00.png")).read_bytes())
    assert run("in", "-o", "out", "--scheduler", scheduler[0], "--report", "r.jsonl") == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if KILLER in line)
    assert line.startswith(f"failed: {KILLER}: its worker died 3 times")
    assert files(place / "out") == files(crowd / "in")[:6]
    _, *found, tail = (json.loads(line) for line in (place / "r.jsonl").read_text().splitlines())
    assert sorted(row["name"] for row in found) == files(place / "in")
    assert [row["name"] for row in found if row["status"] == "failed"] == [KILLER] and tail["summary"]["failed"] == 1


@needs_dask
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_end_by_a_signal_stops_the_workers_and_a_second_run_goes_on(scheduler, crowd, place, capsys):
    import dask

    (place / "out").mkdir()
    children = []

    def end():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not files(place / "out"):
            time.sleep(0.02)
        children.extend(child for child in psutil.Process().children() if "--multiprocessing-fork" in child.cmdline())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # as without the fixture
        assert run("in", "-o", "out", "--workers", 2) == 130
    thread.join()
    assert len(children) == 2 and not any(child.is_running() for child in children)
    assert "continues with the missing photographs" in capsys.readouterr().err
    done = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    assert 0 < len(done) < MANY and not any(name.endswith(".part") for name in done)
    assert run("in", "-o", "out", "--scheduler", scheduler[0], "--report", "r.json") == 0
    assert json.loads((place / "r.json").read_text())["summary"]["kept"] == len(done)
    assert files(place / "out") == files(crowd / "in")
    assert all((place / "out" / name).read_bytes() == content for name, content in done.items())


def test_the_plain_command_takes_an_object_store_for_a_folder(bucket, marked_folder, capsys):
    assert run("in", "-o", "out", "--masks", "masks", "--recursive") == 0
    bucket.put(f"{marked_folder}/in", "photographs/few", recursive=True)
    inputs = (
        "s3://photographs/few/",
        "--recursive",
        "-o",
        "s3://photographs/clean",
        "--masks",
        "s3://photographs/masks",
    )
    capsys.readouterr()
    assert run(*inputs, "--report", "r.json") == 0
    assert "one.png: mark on" in capsys.readouterr().out
    for stored, local in (("clean", "out"), ("masks", "masks")):
        names = [name.removeprefix(f"photographs/{stored}/") for name in bucket.find(f"photographs/{stored}")]
        assert sorted(name for name in names if not name.startswith(".")) == files(marked_folder / local)
        for name in files(marked_folder / local):
            assert bucket.cat_file(f"photographs/{stored}/{name}") == (marked_folder / local / name).read_bytes()
    assert run(*inputs, "--report", "r.json") == 0
    assert json.loads((marked_folder / "r.json").read_text())["summary"]["kept"] == len(files(marked_folder / "in"))
    assert run("s3://photographs/few/one.png") == 0 and bucket.exists("photographs/few/one.restored.png")
    assert run("s3://nowhere/photographs", "-o", "elsewhere") == 1
    assert "s3://nowhere/photographs: cannot be fetched" in capsys.readouterr().err


@needs_dask
def test_a_fault_of_the_run_is_one_line_from_the_workers_too(scheduler, place, capsys):
    assert run("in", "-o", "out", "--scheduler", scheduler[0], "--weights", "none.safetensors") == 2
    err = capsys.readouterr().err
    assert "none.safetensors" in err and len(err.splitlines()) == 1 and not (place / "out").exists()


def test_without_the_extra_one_line_says_what_to_install(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for option in (("--workers", 2), ("--scheduler", "tcp://127.0.0.1:8786")):
        assert run("in", "-o", "out", *option) == 2
        err = capsys.readouterr().err
        assert "pip install wmremoval[cluster]" in err and len(err.splitlines()) == 1 and not (place / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["in", "-o", "out", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "give one of --workers"),
        (["-", "-o", "-", "--workers", "2"], "one process"),
        (["memory://in", "--in-place", "--backup", "kept"], "--in-place is for photographs of this machine"),
        (["memory://in", "-o", "out", "--same-mark"], "--same-mark measures photographs of this machine"),
        (["in", "--in-place", "--backup", "s3://b/kept"], "--backup s3://b/kept: name a file or folder of this machine"),
        (["in", "-o", "out", "--report", "s3://b/r.json"], "--report s3://b/r.json: name a file or folder of this"),
        (["in", "-o", "out", "--mask", "s3://b/m.png"], "--mask s3://b/m.png: name a file or folder of this machine"),
        (["in", "-o", "gopher://b/out"], "Protocol not known: gopher"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(place, arguments, reason, capsys):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/in/a.png", b"")
    before = files(place)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert reason in err and len(err.splitlines()) == 1 and files(place) == before


@needs_dask
def test_no_scheduler_is_one_line(place, monkeypatch, capsys):
    from wmremoval.cluster import crew

    monkeypatch.setattr(crew, "PATIENCE", 0.3)
    assert run("in", "-o", "out", "--scheduler", "tcp://127.0.0.1:9") == 2
    err = capsys.readouterr().err
    assert "no scheduler at tcp://127.0.0.1:9" in err and len(err.splitlines()) == 1


@needs_dask
def test_a_scheduler_that_loses_all_workers_is_told_of_once(monkeypatch, caplog):
    from distributed import Client, LocalCluster

    from wmremoval.cluster import crew

    def told():
        return [record.getMessage().split(",")[0] for record in caplog.records if record.name == crew.__name__]

    monkeypatch.setattr(crew, "WATCH", 0.02)
    with (
        LocalCluster(1, processes=False, dashboard_address=None, silence_logs="CRITICAL") as cluster,
        Client(cluster, set_as_default=False) as client,
        crew._watched(client, "tcp://SCHEDULER"),
    ):
        time.sleep(0.2)
        assert told() == []
        cluster.scale(0)
        deadline = time.monotonic() + 20
        while not told() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert told() == ["tcp://SCHEDULER has no workers left"]

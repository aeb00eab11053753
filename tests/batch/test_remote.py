"""Photographs and results in stores, on fsspec's store in memory, which shows half an upload as `sftp://` would."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from planted import marked, planted

from wmremoval.batch.jobs import Places, UsageError, plan_jobs
from wmremoval.batch.names import Globs
from wmremoval.batch.remote import Remote, RemoteError, as_place, fetch, listing, send
from wmremoval.batch.run import Options, remove_watermarks
from wmremoval.batch.staged import mark_stored, restore
from wmremoval.batch.walk import RESULTS_MARK


@pytest.fixture
def store():
    """The store in memory, empty before and afterwards."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def folder(tmp_path):
    """Two marked photographs, one unmarked and one that is none; the same in `memory://bucket/in`."""
    for number, name in enumerate(("one.png", "sub/two.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(marked(110, 170, origin=(20, 60 + 10 * number))[0]).save(tmp_path / "in" / name)
    Image.new("RGB", (120, 90), (200, 100, 0)).save(tmp_path / "in/plain.jpg")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def stored(folder, store):
    for path in (folder / "in").rglob("*.*"):
        store.pipe_file(f"/bucket/in/{path.relative_to(folder / 'in').as_posix()}", path.read_bytes())
    return store


def contents(store, folder):
    return {name.removeprefix(f"{folder}/"): store.cat_file(name) for name in store.find(folder)}


def test_a_place_in_a_store_has_the_names_of_a_path():
    place = as_place("s3://bucket/photos/") / Path("sub/a.b.jpg")
    assert (str(place), place.name, place.stem, place.suffix) == (
        "s3://bucket/photos/sub/a.b.jpg", "a.b.jpg", "a.b", ".jpg",
    )  # fmt: skip
    assert place.with_name("c.png") == Remote("s3://bucket/photos/sub/c.png") and place.parent.name == "sub"
    assert as_place("file:///tmp/a.jpg") == Path("/tmp/a.jpg") and as_place(r"C:\a.jpg") == Path(r"C:\a.jpg")


def test_photographs_of_a_store_are_planned_by_their_names_as_local_ones_are(store):
    names = {
        "a.jpg": 9, "B.PNG": 8, "notes.txt": 1, ".hidden.jpg": 1, "sub/a.jpg": 7, "sub/deep/c.TIFF": 6, ".trash/x.jpg": 1,
        "old/x.jpg": 1, f"old/{RESULTS_MARK}": 1, "in/clean/y.jpg": 1,
    }  # fmt: skip
    for name, size in names.items():
        store.pipe_file(f"/bucket/{name}", bytes(size))
    places = Places(as_place("memory://bucket/in/clean"), recursive=True, masks=as_place("memory://bucket/masks"))
    plan = plan_jobs([as_place("memory://bucket")], places)
    assert {job.name: (str(job.output), job.size) for job in plan.jobs} == {
        "B.PNG": ("memory://bucket/in/clean/B.PNG", 8),
        "a.jpg": ("memory://bucket/in/clean/a.jpg", 9),
        "sub/a.jpg": ("memory://bucket/in/clean/sub/a.jpg", 7),
        "sub/deep/c.TIFF": ("memory://bucket/in/clean/sub/deep/c.TIFF", 6),
    }
    assert plan.jobs[3].mask_out == Remote("memory://bucket/masks/sub/deep/c.png")
    assert plan.left_out == {".txt": 1, "hidden": 1} and plan.remarks == ["old: results of an earlier run, left out"]
    flat = plan_jobs([as_place("memory://bucket")], Places(Path("out"), globs=Globs(exclude=("B.*",))))
    assert [job.name for job in flat.jobs] == ["a.jpg"] and flat.left_out["excluded"] == 1
    empty = plan_jobs([as_place("memory://bucket/old")], Places(Path("out"), globs=Globs(include=("*.png",))))
    assert not empty.jobs and "no photographs in this folder" in empty.remarks[0]


def test_a_photograph_of_a_store_is_never_overwritten(stored):
    for source, output in (("in", "in"), ("in/one.png", "in/one.png"), ("in/one.png", "in")):
        with pytest.raises(UsageError, match="never overwritten"):
            plan_jobs([as_place(f"memory://bucket/{source}")], Places(as_place(f"memory://bucket/{output}")))


@pytest.mark.parametrize("far", [("in", "out", "masks"), ("in",), ("out", "masks")], ids=str)
def test_stores_give_the_results_of_local_folders_bit_for_bit(folder, stored, far):
    def places(of):
        named = {
            name: as_place(f"memory://bucket/{name}") if name in of else folder / name
            for name in ("in", "out", "masks")
        }
        return [named["in"]], Places(named["out"], masks=named["masks"], compare=folder / "sides", recursive=True)

    local = list(remove_watermarks(plan_jobs(*places(())).jobs, planted()))
    expected = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()
    }
    for path in [*folder.glob("out/**/*.*"), *folder.glob("masks/**/*.*"), *folder.glob("sides/**/*.*")]:
        path.unlink()
    outcomes = list(restore(plan_jobs(*places(far)).jobs, planted()))
    assert [(each.name, each.status, each.area) for each in outcomes] == [
        (each.name, each.status, each.area) for each in local
    ]
    assert [each.status for each in outcomes] == ["failed", "restored", "unmarked", "restored"]
    assert "bad.png: not an image" in outcomes[0].error
    made = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    assert made | contents(stored, "/bucket") == expected
    assert outcomes[1].output == str((as_place("memory://bucket/out") if "out" in far else folder / "out") / "one.png")


def test_what_is_in_the_store_already_is_kept_unless_told_otherwise(stored):
    stored.pipe_file("/bucket/out/one.png", b"precious")
    jobs = plan_jobs([as_place("memory://bucket/in")], Places(as_place("memory://bucket/out"), recursive=True)).jobs
    statuses = [outcome.status for outcome in restore(jobs, planted())]
    assert statuses == ["failed", "kept", "unmarked", "restored"]
    assert stored.cat_file("/bucket/out/one.png") == b"precious"
    assert [each.status for each in restore(jobs, planted())] == ["failed", "kept", "kept", "kept"]
    again = restore(jobs, planted(), Options(overwrite=True))
    assert [outcome.status for outcome in again] == ["failed", "restored", "unmarked", "restored"]
    assert stored.cat_file("/bucket/out/one.png") != b"precious"


def test_what_is_gone_or_cannot_be_written_is_one_line_and_leaves_nothing(stored, monkeypatch):
    jobs = plan_jobs([as_place("memory://bucket/in")], Places(as_place("memory://bucket/out"), recursive=True)).jobs
    stored.rm_file("/bucket/in/plain.jpg")

    def cut(self, path, target, **_):
        self.pipe_file(target, Path(path).read_bytes()[:100])
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "put_file", cut)
    outcomes = list(restore(jobs, planted()))
    assert {outcome.status for outcome in outcomes} == {"failed"} and not stored.find("/bucket/out")
    assert all("\n" not in outcome.error for outcome in outcomes)
    assert "memory://bucket/out/one.png: cannot be written (connection reset by peer)" in outcomes[1].error
    assert "memory://bucket/in/plain.jpg: cannot be fetched" in outcomes[2].error


def test_a_result_takes_the_place_of_an_older_one_in_one_step(store, tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    store.pipe_file("/bucket/a.jpg", b"old")
    send(tmp_path / "new", as_place("memory://bucket/a.jpg"))
    assert contents(store, "/bucket") == {"a.jpg": b"new"}
    fetch(as_place("memory://bucket/a.jpg"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"new"


def test_a_folder_of_results_is_marked_where_it_is_new(store):
    store.pipe_file("/bucket/there/a.jpg", b"")
    for name in ("there", "new"):
        mark_stored(as_place(f"memory://bucket/{name}"))
    assert listing(as_place("memory://bucket")).keys() == {"there/a.jpg", f"new/{RESULTS_MARK}"}


@pytest.mark.parametrize(
    ("url", "reason"), [("gopher://x/y", "Protocol not known: gopher"), ("gs://bucket/y", "gcsfs"), ("s3://b/y", "")]
)
def test_a_store_that_cannot_be_reached_is_one_line(url, reason, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(RemoteError) as caught:
        listing(as_place(url))
    assert reason in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).startswith(url)


def test_a_backup_that_is_there_is_never_replaced(folder):
    """Two workers on one photograph, of which the scheduler took the first for dead: the second finds it restored."""
    plan = plan_jobs([folder / "in/one.png"], Places(None, backup=folder / "kept"))
    original = (folder / "in/one.png").read_bytes()
    slow = remove_watermarks(plan.jobs, planted())

    class Late(type(planted())):
        def restore_pages(self, photo, mask=None):
            assert [outcome.status for outcome in slow] == ["restored"]
            return super().restore_pages(photo, mask)

    (outcome,) = remove_watermarks(plan.jobs, Late(planted().net.net, planted().net.device))
    assert outcome.status == "failed" and "its backup is there already and differs" in outcome.error
    assert (folder / "kept/one.png").read_bytes() == original
    assert np.asarray(Image.open(folder / "in/one.png")).shape == (110, 170, 3)

"""From named paths to jobs: names and sub-folders kept, nothing overwritten."""

import os
import unicodedata
from pathlib import Path

import pytest

from wmremoval.batch.jobs import Places, UsageError, plan_jobs
from wmremoval.batch.names import Globs
from wmremoval.batch.outputs import mark_results


def planned(inputs, places, listed=()):
    """The jobs and remarks of a plan."""
    plan = plan_jobs(inputs, places, listed)
    return plan.jobs, plan.remarks


@pytest.fixture
def folder(tmp_path):
    for name in ("in/a.jpg", "in/b.PNG", "in/notes.txt", "in/sub/a.jpg", "in/sub/deep/c.TIFF", "in/.hidden/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def outputs(jobs, root):
    return {job.name: job.output.relative_to(root).as_posix() for job in jobs}


def test_a_folder_keeps_its_names_and_with_recursive_its_sub_folders(folder):
    jobs, remarks = planned([folder / "in"], Places(folder / "out"))
    assert outputs(jobs, folder) == {"a.jpg": "out/a.jpg", "b.PNG": "out/b.PNG"} and not remarks
    jobs, _ = planned([folder / "in"], Places(folder / "out", recursive=True, masks=folder / "m", compare=folder / "c"))
    assert outputs(jobs, folder) == {
        "a.jpg": "out/a.jpg",
        "b.PNG": "out/b.PNG",
        "sub/a.jpg": "out/sub/a.jpg",
        "sub/deep/c.TIFF": "out/sub/deep/c.TIFF",
    }
    deep = next(job for job in jobs if job.name.endswith("TIFF"))
    assert deep.mask_out == folder / "m/sub/deep/c.png" and deep.compare == folder / "c/sub/deep/c.jpg"


def test_a_converted_file_has_the_ending_of_its_format(folder):
    jobs, _ = planned([folder / "in"], Places(folder / "out", format="webp"))
    assert outputs(jobs, folder) == {"a.jpg": "out/a.webp", "b.PNG": "out/b.webp"}
    jobs, _ = planned([folder / "in/a.jpg"], Places(folder / "x.png"))
    assert jobs[0].output == folder / "x.png" and jobs[0].format == "png"
    jobs, _ = planned([folder / "in/a.jpg"], Places(folder / "x.JPEG"))
    assert jobs[0].format == "keep"


def test_results_beside_the_photographs_are_not_read_again(folder):
    places = Places(folder / "in/clean", masks=folder / "in/masks", recursive=True)
    for place in (places.output, places.masks):
        place.mkdir()
        (place / "a.jpg").write_bytes(b"")
    jobs, _ = planned([folder / "in"], places)
    assert "clean/a.jpg" not in {job.name for job in jobs} and len(jobs) == 4


@pytest.mark.parametrize(
    "inputs, places, reason",
    [
        (["in"], {"output": "in"}, "never overwritten"),
        (["in"], {"output": "out", "masks": "in"}, "--masks"),
        (["in/a.jpg"], {"output": "in/a.jpg"}, "never overwritten"),
        (["in/a.jpg", "in/b.PNG"], {"output": "x.jpg"}, "several"),
        (["in"], {"output": "x.png"}, "several"),
        (["in/a.jpg"], {"output": "in/notes.txt"}, "is a file"),
        (["in/a.jpg"], {"output": "x.tif"}, "converted"),
        (["in/a.jpg"], {"output": "x.png", "format": "webp"}, "disagree"),
        (["in/b.PNG"], {"output": "link.png"}, "never overwritten"),
        (["in/a.jpg"], {"output": "out", "compare": "out"}, "one file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_touched(folder, inputs, places, reason):
    (folder / "link.png").symlink_to(folder / "in/b.PNG")
    places = {name: folder / value if name != "format" else value for name, value in places.items()}
    with pytest.raises(UsageError, match=reason) as caught:
        plan_jobs([folder / name for name in inputs], Places(**places))
    assert "\n" not in str(caught.value)


def test_of_two_photographs_for_one_place_the_second_is_told_why_not(folder):
    jobs, _ = planned([folder / "in/a.jpg", folder / "in/sub/a.jpg", folder / "in/b.PNG"], Places(folder / "out"))
    assert [bool(job.problem) for job in jobs] == [False, True, False] and "a.jpg" in jobs[1].problem


def test_results_that_would_share_a_name_are_told_apart(folder):
    for name in ("a.png", "a.tif"):
        (folder / "in" / name).write_bytes(b"")
    jobs, _ = planned([folder / "in"], Places(folder / "out", format="png"))
    assert outputs(jobs, folder) == {
        "a.jpg": "out/a.jpg.png",
        "a.png": "out/a.png",
        "a.tif": "out/a.tif.png",
        "b.PNG": "out/b.PNG",
    }
    assert not any(job.problem for job in jobs)
    told = {job.name: job.notes for job in jobs}
    assert told["a.jpg"] == ("written as a.jpg.png, since another photograph's result is a.png",) and not told["a.png"]


def test_names_that_differ_in_case_or_unicode_form_alone_never_meet(folder):
    """Told apart on every system, since the folder may be copied to one that takes them for one."""
    cafe = [unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD")]
    for name in ("A.JPG", "A.jpg", "a (2).jpg", *cafe):
        (folder / "in" / name).write_bytes(name.encode())
    for format in ("keep", "webp"):
        places = Places(folder / "out", format=format, masks=folder / "m", compare=folder / "c")
        jobs, _ = planned([folder / "in"], places)
        assert not any(job.problem for job in jobs)
        for kind in ("output", "mask_out", "compare"):
            names = [unicodedata.normalize("NFC", str(getattr(job, kind))).casefold() for job in jobs]
            assert len(set(names)) == len(jobs) == 7, kind
    kept = {job.name: job.output.name for job in planned([folder / "in"], Places(folder / "out"))[0]}
    assert kept == {
        "A.JPG": "A.JPG", "A.jpg": "A (3).jpg", "a.jpg": "a (4).jpg", "a (2).jpg": "a (2).jpg", "b.PNG": "b.PNG",
        cafe[1]: cafe[1], cafe[0]: cafe[0].replace(".", " (2)."),
    }  # fmt: skip


def test_a_mask_is_found_whatever_the_unicode_form_of_its_name(folder):
    composed, taken_apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for photo, mask in ((composed, taken_apart), (taken_apart, composed)):
        for place, ending in (("p", "jpg"), ("m", "png")):
            name = photo if place == "p" else mask
            (folder / place / name).mkdir(parents=True, exist_ok=True)
            (folder / place / name / f"{name}.{ending}").write_bytes(b"x")
    jobs, _ = planned([folder / "p"], Places(folder / "out", mask=folder / "m", recursive=True))
    assert [job.problem for job in jobs] == [None, None]
    for job in jobs:  # the form of the photograph itself comes first, and the output keeps it
        assert job.mask_in == (folder / "m" / job.name).with_suffix(".png")
        assert job.output.parent == (folder / "out" / job.name).parent
    (folder / f"m/{composed}/{composed}.png").unlink()
    (folder / f"m/{composed}").rmdir()
    jobs, _ = planned([folder / "p"], Places(folder / "out", mask=folder / "m", recursive=True))
    assert {job.mask_in.stem for job in jobs} == {taken_apart}


def test_files_of_a_folder_are_known_by_their_content_and_the_rest_is_counted(folder):
    jpeg, gif, tiff = b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0\x08\0\0\0"
    made = {"x.jfif": jpeg, "y.jpg_large": jpeg, "z": jpeg, "c.txt": jpeg, "fun.gif": gif, "odd.jpg": gif, "raw.nef": tiff,
            "new.jxl": b"\xff\x0a", ".hidden.jpg": jpeg, "film.mp4": b"\0\0\0\x14ftypisom", "e.xmp": b""}  # fmt: skip
    for name, content in made.items():
        (folder / "in" / name).write_bytes(content)
    plan = plan_jobs([folder / "in"], Places(folder / "out"))
    assert [job.name for job in plan.jobs] == ["a.jpg", "b.PNG", "c.txt", "x.jfif", "y.jpg_large", "z"]
    counted = {"GIF": 2, "camera raw": 1, "JPEG XL": 1, "hidden": 1, "video": 1, ".txt": 1, "empty file": 1}
    assert plan.left_out == counted and not plan.remarks
    named = [planned([folder / "in" / name], Places(folder / "out"))[0][0].problem for name in ("fun.gif", "raw.nef")]
    assert "fun.gif: GIF is not read; save it as JPEG" in named[0] and "raw.nef: camera raw is not read" in named[1]


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        (("*.jpg",), (), ["a.jpg", "sub/a.jpg"]),
        (("*.jpg", "*.TIFF"), ("a.*",), ["sub/deep/c.TIFF"]),
        ((), ("sub",), ["a.jpg", "b.PNG"]),
        ((), ("sub/deep/",), ["a.jpg", "b.PNG", "sub/a.jpg"]),
        (("sub/*",), (), ["sub/a.jpg", "sub/deep/c.TIFF"]),
        (("sub/?.jpg",), (), ["sub/a.jpg"]),
        (("[ab].*",), ("sub/*",), ["a.jpg", "b.PNG"]),
    ],
)
def test_globs_choose_files_by_name_or_by_path(folder, include, exclude, wanted):
    places = Places(folder / "out", recursive=True, globs=Globs(include, exclude))
    plan = plan_jobs([folder / "in"], places)
    assert [job.name for job in plan.jobs] == wanted
    named = [folder / "in/a.jpg", folder / "in/b.PNG"]
    plan = plan_jobs(named, places)
    assert len(plan.jobs) + plan.left_out["excluded"] == 2


def test_a_listed_file_keeps_its_folders_and_a_named_one_its_name_alone(folder, monkeypatch):
    monkeypatch.chdir(folder)
    listed = [Path("in/sub/a.jpg"), Path("./in/a.jpg"), folder / "in/b.PNG", Path("in/../in/sub/deep/c.TIFF")]
    jobs, _ = planned([], Places(Path("out")), listed)
    assert [str(job.output) for job in jobs] == ["out/in/sub/a.jpg", "out/in/a.jpg", "out/b.PNG", "out/c.TIFF"]
    jobs, _ = planned([Path("in/sub/a.jpg")], Places(Path("out")), [Path("in")])
    assert [str(job.output) for job in jobs] == ["out/a.jpg", "out/a.jpg", "out/b.PNG"] and jobs[1].problem


def test_results_of_an_earlier_run_are_left_out_whatever_the_options(folder):
    for name in ("in/old", "in/sub/masks"):
        mark_results(folder / name)
        (folder / name / "a.jpg").write_bytes(b"")
    mark_results(folder / "in/sub")  # was there before the run: not of results alone
    jobs, remarks = planned([folder / "in"], Places(folder / "out", recursive=True))
    assert [job.name for job in jobs] == ["a.jpg", "b.PNG", "sub/a.jpg", "sub/deep/c.TIFF"]
    assert sorted(line.split(":")[0] for line in remarks) == ["masks", "old"]
    jobs, _ = planned([folder / "in/old"], Places(folder / "out"))
    assert [job.name for job in jobs] == ["a.jpg"], "named itself, it is read"


def test_in_place_a_file_of_two_names_is_restored_once(folder):
    os.link(folder / "in/a.jpg", folder / "in/same.jpg")
    os.symlink("a.jpg", folder / "in/link.jpg")
    jobs, _ = planned([folder / "in"], Places(None, backup=folder / "kept"))
    assert {job.name: bool(job.problem) for job in jobs} == {
        "a.jpg": False, "b.PNG": False, "link.jpg": True, "same.jpg": True,
    }  # fmt: skip
    assert jobs[0].output == jobs[0].source and jobs[0].backup == folder / "kept/a.jpg"
    with pytest.raises(UsageError, match="--backup"):
        plan_jobs([folder / "in"], Places(None, backup=folder / "in"))


def test_loops_of_links_end(folder):
    os.symlink(folder / "in", folder / "in/sub/loop")
    os.symlink(folder / "in/round.jpg", folder / "in/round.jpg")
    jobs, remarks = planned([folder / "in"], Places(folder / "out", recursive=True))
    assert sorted(job.name for job in jobs) == ["a.jpg", "b.PNG", "round.jpg", "sub/a.jpg", "sub/deep/c.TIFF"]
    assert len(remarks) == 1 and "loop" in remarks[0]


def test_a_file_that_is_no_photograph_by_its_ending_is_a_problem_of_its_own(folder):
    jobs, _ = planned([folder / "in/notes.txt", folder / "in/a.jpg"], Places(folder / "out"))
    assert ".jpg" in jobs[0].problem and jobs[1].problem is None


def test_the_users_masks_are_found_by_name(folder):
    (folder / "masks").mkdir()
    (folder / "masks/a.png").write_bytes(b"")
    jobs, _ = planned([folder / "in"], Places(folder / "out", mask=folder / "masks"))
    assert jobs[0].mask_in == folder / "masks/a.png" and jobs[0].problem is None
    assert "no mask" in jobs[1].problem
    jobs, _ = planned([folder / "in"], Places(folder / "out", mask=folder / "masks/a.png"))
    assert {job.mask_in for job in jobs} == {folder / "masks/a.png"}
    jobs, _ = planned([folder / "in/a.jpg"], Places(folder / "out", mask=folder / "in"))
    assert "no mask" in jobs[0].problem, "a photograph is not its own mask"


def test_masks_of_photographs_of_one_name_are_told_apart(folder):
    (folder / "in/a.png").write_bytes(b"")
    jobs, _ = planned([folder / "in"], Places(folder / "out", masks=folder / "m", compare=folder / "c"))
    assert [job.mask_out.name for job in jobs] == ["a.jpg.png", "a.png.png", "b.png"]
    assert [job.compare.name for job in jobs] == ["a.jpg.jpg", "a.png.jpg", "b.jpg"]
    (folder / "m").mkdir()
    for name in ("a.jpg.png", "a.png"):
        (folder / "m" / name).write_bytes(b"")
    jobs, _ = planned([folder / "in"], Places(folder / "out", mask=folder / "m"))
    assert [job.mask_in.name for job in jobs[:2]] == ["a.jpg.png", "a.png"]


def test_an_empty_folder_says_what_might_help(folder):
    (folder / "nest/inner").mkdir(parents=True)
    jobs, remarks = planned([folder / "nest"], Places(folder / "out"))
    assert not jobs and "--recursive" in remarks[0]

"""What `remove` reads and where it writes: lists, pipes, links, times, replacing in place, dry runs and reports."""

import io
import json
import os
import unicodedata

import numpy as np
import pytest
from command import apart, files, run
from PIL import Image
from planted import marked, psnr_inside

from wmremoval.batch.run import Outcome
from wmremoval.cli.remove_report import Counts, reason


@pytest.fixture
def folder(marked_folder):
    return marked_folder


def snapshot(folder):
    """Bytes, modification time and permissions of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_restored(path):
    """True for the result of `one.png`."""
    _, clean, mask = marked(110, 170, origin=(20, 60))
    return psnr_inside(np.asarray(Image.open(path)), clean, mask) > 40


# Times, permissions and links


@pytest.mark.parametrize("name", ["one.png", "plain.jpg"])
def test_results_keep_time_and_permissions_unless_told_otherwise(folder, name):
    os.chmod(folder / "in" / name, 0o640)
    os.utime(folder / "in" / name, (1_000_000_001, 1_100_000_002))
    assert run(f"in/{name}", "-o", "out") == 0
    status = (folder / "out" / name).stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1_100_000_002, 0o640)
    assert run(f"in/{name}", "-o", "out", "--no-times", "--overwrite") == 0
    (folder / "new").write_text("")
    status = (folder / "out" / name).stat()
    assert status.st_mtime > 1_500_000_000 and status.st_mode == (folder / "new").stat().st_mode


def test_a_link_as_an_output_is_followed_and_stays(folder, capsys):
    (folder / "far").mkdir()
    (folder / "out").mkdir()
    for name, target in (
        ("one.png", "far/one.png"),
        ("plain.jpg", "far/plain.jpg"),
        ("two words é🙂.png", "out/two words é🙂.png"),
    ):
        (folder / "out" / name).symlink_to(folder / target)
    (folder / "far/one.png").write_bytes(b"older")
    (folder / "report.json").symlink_to(folder / "far/report.json")
    assert run("in", "-o", "out") == 1
    assert (folder / "far/one.png").read_bytes() == b"older"
    assert (folder / "far/plain.jpg").read_bytes() == (folder / "in/plain.jpg").read_bytes(), "led nowhere before"
    assert "symbolic links" in capsys.readouterr().err, "a link to itself is refused"
    assert run("in", "-o", "out", "--overwrite", "--exclude", "two*", "--report", "report.json") == 0
    assert is_restored(folder / "far/one.png") and (folder / "far/report.json").is_file()
    assert all(path.is_symlink() for path in ((folder / "out/one.png"), (folder / "report.json")))


# Formats by content


def test_odd_names_come_back_under_their_names_and_the_rest_is_named_by_kind(folder, capsys):
    for name, format in (("png.jpg", "PNG"), ("jpeg.png", "JPEG"), ("x.jfif", "JPEG"), ("noending", "WEBP")):
        Image.fromarray(marked(80, 150)[0]).save(folder / "in" / name, format)
    (folder / "in/fun.gif").write_bytes(b"GIF89a....")
    (folder / "in/new.jxl").write_bytes(b"\xff\x0a....")
    assert run("in", "-o", "out", "--report", "report.json") == 0
    out = capsys.readouterr().out
    assert "2 left out (1 GIF, 1 JPEG XL), 0 failed" in out
    for name, format in (("png.jpg", "PNG"), ("jpeg.png", "JPEG"), ("x.jfif", "JPEG"), ("noending", "WEBP")):
        assert Image.open(folder / "out" / name).format == format
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["left_out"] == {"GIF": 1, "JPEG XL": 1}
    noted = {row["name"] for row in report["photographs"] if any("by its content" in note for note in row["notes"])}
    assert noted == {"png.jpg", "jpeg.png"}


def test_a_converted_folder_tells_names_apart_and_says_so(folder, capsys):
    for name in ("one.jpg", "one.tif"):
        Image.fromarray(marked(80, 150)[0]).save(folder / "in" / name)
    assert run("in", "-o", "out", "--format", "png", "--report", "report.json") == 0
    assert files(folder / "out") == ["one.jpg.png", "one.png", "one.tif.png", "plain.png", "two words é🙂.png"]
    rows = {row["name"]: row for row in json.loads((folder / "report.json").read_text())["photographs"]}
    assert "written as one.jpg.png" in rows["one.jpg"]["notes"][0] and rows["one.png"]["notes"] == []


def test_a_mask_is_found_in_another_unicode_form_and_format(folder):
    composed, taken_apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    os.rename(folder / "in/one.png", folder / f"in/{taken_apart}.png")
    (folder / "masks").mkdir()
    Image.new("L", (85, 55), 255).save(folder / f"masks/{composed}.jpg", quality=75)
    assert run(f"in/{taken_apart}.png", "-o", "out", "--mask", "masks", "--report", "r.json") == 0
    assert files(folder / "out") == [f"{taken_apart}.png"] and is_restored(folder / f"out/{taken_apart}.png")
    assert any(
        "scaled from 85 x 55" in note for note in json.loads((folder / "r.json").read_text())["photographs"][0]["notes"]
    )


# Lists and pipes


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_names_come_from_a_list(folder, end):
    odd = "in/new\nline.png" if end == b"\0" else "in/blank at the end .png"
    os.rename(folder / "in/one.png", folder / odd)
    names = [odd, "in/sub/three.png", "in/missing.png"]
    (folder / "list").write_bytes(end.join(os.fsencode(name) for name in names) + end)
    assert run("--files-from", "list", "-o", "out", *(["--null"] if end == b"\0" else [])) == 1
    assert files(folder / "out") == sorted(names[:2])
    assert run("--files-from", "nowhere", "-o", "out") == 2
    assert run("--files-from", "list", "-o", "out") == (2 if end == b"\0" else 1), "--null is missing"


def test_a_list_and_a_photograph_come_through_pipes(folder):
    """In processes of their own, with bytes on standard input."""
    done = apart("--files-from", "-", "--null", "-o", "out", folder=folder, input=b"in/one.png\0in/sub/three.png\0")
    assert done.returncode == 0 and files(folder / "out") == ["in/one.png", "in/sub/three.png"], done.stderr
    done = apart("-", "-o", "-", folder=folder, input=(folder / "in/one.png").read_bytes())
    assert done.returncode == 0 and is_restored(io.BytesIO(done.stdout)), done.stderr
    assert b"standard input: mark on" in done.stderr and b"1 restored" in done.stderr


def test_a_file_goes_to_standard_output_and_standard_input_to_a_file(folder, monkeypatch, capfd):
    for output in ("-", "made.webp"):
        sent = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "in/plain.jpg").read_bytes())))
        monkeypatch.setattr("sys.stdout", sent)
        assert run("in/one.png" if output == "-" else "-", "-o", output) == 0
        if output == "-":
            assert is_restored(io.BytesIO(sent.buffer.getvalue()))
    assert Image.open(folder / "made.webp").size == (120, 90)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no picture")))
    assert run("-", "-o", "-") == 1 and not capfd.readouterr().out


# In place


def test_in_place_only_what_changes_is_copied_and_replaced(folder, capsys):
    os.chmod(folder / "in/one.png", 0o600)
    before = snapshot(folder / "in")
    command = ("in", "--in-place", "--backup", "in/kept", "--recursive", "--report", "r.json")
    assert run(*command) == 0
    kept, after = snapshot(folder / "in/kept"), snapshot(folder / "in")
    marks = ["one.png", "sub/three.png", "two words é🙂.png"]
    assert sorted(name for name in kept if not name.startswith(".")) == marks
    assert all(kept[name] == before[name] for name in marks), "bytes, time and permissions"
    assert is_restored(folder / "in/one.png") and after["plain.jpg"] == before["plain.jpg"]
    assert all(after[name][1:] == before[name][1:] for name in marks)
    assert run(*command) == 0
    assert snapshot(folder / "in") == after, "a second run neither reads the backups nor restores twice"
    summary = json.loads((folder / "r.json").read_text())["summary"]
    assert summary == {"restored": 0, "unmarked": 1, "kept": 3, "failed": 0}


def test_in_place_after_a_crash_between_backup_and_replacement_goes_on(folder):
    (folder / "kept").mkdir()
    (folder / "kept/one.png").write_bytes((folder / "in/one.png").read_bytes())
    assert run("in/one.png", "--in-place", "--backup", "kept") == 0 and is_restored(folder / "in/one.png")


def test_in_place_nothing_is_replaced_without_a_whole_backup(folder, monkeypatch, capsys):
    before = snapshot(folder / "in")
    monkeypatch.setattr("wmremoval.batch.outputs.copy_file", lambda source, path, times: path.write_bytes(b"half"))
    (folder / "kept").mkdir()
    assert run("in/one.png", "--in-place", "--backup", "kept") == 1
    assert snapshot(folder / "in") == before and "its backup differs" in capsys.readouterr().err


def test_in_place_a_link_stays_a_link_and_other_names_of_the_file_are_told_of(folder, capsys):
    os.rename(folder / "in/one.png", folder / "real.png")
    os.link(folder / "real.png", folder / "other.png")
    (folder / "in/one.png").symlink_to(folder / "real.png")
    assert run("in/one.png", "--in-place", "--backup", "kept") == 0
    assert (folder / "in/one.png").is_symlink() and is_restored(folder / "real.png")
    assert not is_restored(folder / "other.png") and "2 names (hard links)" in capsys.readouterr().out


# Dry runs and reports


def test_a_dry_run_says_everything_and_writes_masks_alone(folder, capsys):
    before = snapshot(folder)
    assert run("in", "-o", "out", "--dry-run", "--compare", "sides", "--format", "jpeg") == 0
    assert snapshot(folder) == before
    lines = {line.split(":")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "would be restored, mark on" in lines["one.png"] and "PNG 170 x 110, result of" in lines["one.png"]
    left, top, right, bottom = (
        int(n) for n in lines["one.png"].split(" at ")[1].split(", PNG")[0].replace(" to ", ",").split(",")
    )
    rows, columns = np.nonzero(marked(110, 170, origin=(20, 60))[2] > 0.5)
    assert (
        0 <= left <= columns.min() < columns.max() < right <= 170
        and 0 <= top <= rows.min() < rows.max() < bottom <= 110
    )
    assert "no mark found" in lines["plain.jpg"] and any("2 would be restored" in line for line in lines.values())
    assert run("in/one.png", "-o", "out", "--dry-run", "--masks", "m", "--report", "r.json") == 0
    assert set(snapshot(folder)) == set(before) | {"m/one.png", "m/.wmremoval-results", "r.json"}
    report = json.loads((folder / "r.json").read_text())
    assert report["dry_run"] and report["photographs"][0]["marks"][0]["box"] == [left, top, right, bottom]
    size = report["photographs"][0]["bytes"]
    assert run("in/one.png", "-o", "out") == 0 and (folder / "out/one.png").stat().st_size == size


def test_a_dry_run_names_what_the_format_cannot_keep_and_what_it_cannot_hold(folder, capsys):
    Image.fromarray(marked(80, 150)[0]).convert("CMYK").save(folder / "in/ink.jpg", quality=95)
    glass = Image.fromarray(marked(80, 150)[0]).convert("RGBA")
    glass.putalpha(200)
    glass.save(folder / "in/glass.png")
    assert run("in/ink.jpg", "-o", "out", "--dry-run", "--format", "png") == 0
    assert "CMYK is written as RGB" in capsys.readouterr().out
    assert run("in/glass.png", "-o", "out", "--dry-run", "--format", "jpeg") == 1
    assert "a JPEG cannot be transparent" in capsys.readouterr().err and not (folder / "out").exists()


def test_a_report_by_lines_is_written_as_the_run_goes(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(Counts, "add", lambda *_: seen.append((folder / "deep/r.jsonl").read_text().splitlines()))
    run("in", "-o", "out", "--recursive", "--report", "deep/r.jsonl")
    assert [len(lines) for lines in seen] == [1, 2, 3, 4], "a line before each further photograph is counted"


def test_both_reports_hold_the_same(folder):
    (folder / "in/bad.png").write_bytes(b"x")
    for number, name in enumerate(("r.json", "r.jsonl")):
        assert run("in", "-o", f"out{number}", "--recursive", "--report", name) == 1
    whole = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    head, *rows, tail = (json.loads(line) for line in (folder / "r.jsonl").read_text(encoding="utf-8").splitlines())
    assert set(whole) == set(head) | set(tail) | {"photographs"}
    assert [row["name"] for row in whole["photographs"]] == sorted(row["name"] for row in rows)
    assert whole["summary"] == tail["summary"] == {"restored": 3, "unmarked": 1, "kept": 0, "failed": 1}
    assert whole["failed_by_reason"] == tail["failed_by_reason"] == {"not an image of a known format": 1}


def test_the_summary_groups_failures_by_their_reason():
    errors = [
        "a.png: not a readable image (cut)",
        "b.png: not a readable image (bad)",
        "c.png: 9 x 8 is over the limit of 1 megapixels",
    ]
    counts = Counts()
    for error in errors:
        counts.add(Outcome("x", "failed", error=error))
    counts.left_out.update({f".{letter}": 1 for letter in "abcdefgh"})
    line = counts.line(1.0, False)
    assert "3 failed (2 not a readable image, 1 is over the limit of 1 megapixels)" in line
    assert "8 left out (1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 2 other)" in line
    assert reason("one line without a name") == "one line without a name"


def test_the_help_fits_two_screens(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 70 and max(map(len, lines)) <= 110
    assert {"photographs:", "results:", "masks and reports:", "network:"} <= set(lines)

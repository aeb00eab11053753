"""The table of licences, of packages that are written here."""

import csv
import re

import pytest

from wmremoval.bench.__main__ import main
from wmremoval.bench.licences import licence_rows, pulled_in, read_releases

# Requirements and licence lines of each package.
PACKAGES = {
    "Zero_App": (["one.part>=1", "two[fast]; extra == 'more'", "absent; extra == 'gone'"], "License-Expression: MIT"),
    "one-part": (["six-parts"], "License: BSD"),
    "two": (["three; extra == 'fast'", "never; python_version < '3'"], "License: UNKNOWN"),
    "three": (
        ["zero-app"],
        f"License: {'a whole text ' * 20}\nClassifier: License :: OSI Approved :: ISC License (ISCL)",
    ),
    "six.parts": ([], "Classifier: Topic :: Games"),
    "never": ([], "License: GPL"),
}


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    for name, (needs, licence) in PACKAGES.items():
        folder = tmp_path / "site" / f"{re.sub('[-.]', '_', name)}-1.5.dist-info"
        folder.mkdir(parents=True)
        lines = [f"Name: {name}", "Version: 1.5", *(f"Requires-Dist: {need}" for need in needs), licence]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", *lines, "", ""]))
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_everything_that_is_needed_is_listed_with_who_needs_it():
    assert pulled_in("zero-app", []) == {"one-part": ["Zero_App"], "six-parts": ["one-part"]}
    more = pulled_in("zero.app", ["more", "gone"])
    assert more == {"one-part": ["Zero_App"], "six-parts": ["one-part"], "two": ["Zero_App"], "three": ["two"]}
    with pytest.raises(ValueError, match="nobody is not installed here; install it"):
        pulled_in("nobody", [])


def test_a_row_has_licence_and_age(tmp_path):
    (tmp_path / "list.tsv").write_text(
        'name\tversion\tmonth\tsummary\nONE_part\t2.0\t2024-11\ta "quote\ntwo\t1.5\t2024-12\t\n'
    )
    releases = read_releases(tmp_path / "list.tsv")
    rows = {row["package"]: row for row in licence_rows("zero-app", ["more"], releases, "2026-11")}
    assert {name: row["licence"] for name, row in rows.items()} == {
        "one-part": "BSD", "six.parts": "", "three": "ISC License (ISCL)", "two": "",
    }  # fmt: skip
    ages = {name: (row["newest"], row["month of the newest"], row["remark"]) for name, row in rows.items()}
    assert ages["one-part"] == ("2.0", "2024-11", "no release for 24 months")
    assert ages["two"] == ("1.5", "2024-12", "") and ages["three"] == ("", "", "")


def test_the_command_writes_the_table_of_the_package(tmp_path, capsys):
    assert main(["licences", "--extra", "notebook", "--report", str(tmp_path / "table.csv")]) == 0
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {row["package"]: row for row in csv.DictReader(file)}
    assert "wmremoval" in rows["papermill"]["needed by"] and rows["safetensors"]["licence"]
    assert all(len(row["licence"]) < 200 for row in rows.values())
    assert "papermill" in capsys.readouterr().out


def test_a_list_without_months_is_refused(tmp_path):
    (tmp_path / "list.tsv").write_text("name\tversion\n")
    with pytest.raises(ValueError, match=r"list.tsv has no column month"):
        read_releases(tmp_path / "list.tsv")

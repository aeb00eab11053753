"""The command on a TIFF of several pages: each is restored, and masks and report name its number."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command import run
from PIL import Image
from planted import marked

from wmremoval.photofile.read import read_photo


@pytest.fixture
def scan(marked_folder):
    """A folder with one TIFF of three pages: marked, unmarked, and marked at another size."""
    folder = marked_folder / "scans"
    folder.mkdir()
    first, plain, second = (
        marked(110, 170)[0],
        np.full((60, 90, 3), 200, np.uint8),
        marked(120, 200, origin=(30, 70))[0],
    )
    plain[..., 2] = 0
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for values in (first, plain, second):
            writer.write(values, photometric="rgb", metadata=None)
    return folder, (first, plain, second)


def test_the_command_restores_every_page(scan, capsys):
    folder, (first, plain, second) = scan
    assert run(folder, "-o", "out", "--masks", "masks", "--report", "report.json") == 0
    with tifffile.TiffFile("out/a.tif") as new:
        one, two, three = (page.asarray() for page in new.pages)
    np.testing.assert_array_equal(two, plain)
    masks = [read_photo(f"masks/a{page}.png").rgb[..., 0] for page in ("", ".page2", ".page3")]
    assert masks[0].any() and not masks[1].any() and masks[2].any()
    for old, new, mask in ((first, one, masks[0]), (second, three, masks[2])):
        np.testing.assert_array_equal(new[mask == 0], old[mask == 0])
        assert (new != old).any()
    [row] = json.loads(Path("report.json").read_text())["photographs"]
    assert row["status"] == "restored" and {mark["page"] for mark in row["marks"]} == {1, 3}
    changed = sum(np.count_nonzero(mask) for mask in masks) / sum(mask.size for mask in masks)
    assert row["area"] == pytest.approx(changed)


def test_a_users_mask_counts_for_the_pages_of_its_size(scan, tmp_path):
    folder, (first, plain, second) = scan

    mask = np.zeros((110, 170), np.uint8)
    mask[10:60, 50:160] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert run(folder, "-o", "out", "--mask", tmp_path / "mask.png", "--report", "report.json") == 0
    with tifffile.TiffFile("out/a.tif") as new:
        one, two, three = (page.asarray() for page in new.pages)
    assert (one != first).any()
    np.testing.assert_array_equal(two, plain)
    np.testing.assert_array_equal(three, second)
    [row] = json.loads(Path("report.json").read_text())["photographs"]
    assert "page 3: it is not of the mask's size, and was left as it is" in row["notes"]

"""Pixels of photographs before they are read: exact by headers, estimated by bytes where there are very many."""

import numpy as np
import pytest
from PIL import Image

from wmremoval.batch.sizes import expected_pixels, pixels_of


@pytest.fixture
def folder(tmp_path):
    """Photographs of known sizes, pages and bytes, a damaged one and a text."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 100, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.bmp")  # 3 bytes a pixel
    Image.fromarray(noise[:60]).save(tmp_path / "b.bmp")
    Image.fromarray(noise[:30, :80]).save(tmp_path / "c.bmp")
    pages = [Image.fromarray(noise[:40, :50])] * 3
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("no photograph", encoding="utf-8")
    return tmp_path


def test_headers_give_the_pixels_of_all_pages_and_nothing_for_what_cannot_be_read(folder):
    names = ("a.bmp", "pages.tif", "cut.jpg", "notes.txt", "missing.png", "")
    assert [pixels_of(folder / name) for name in names] == [12_000, 6_000, 0, 0, 0, 0]


def test_few_photographs_are_known_exactly(folder):
    assert expected_pixels([folder / name for name in ("a.bmp", "cut.jpg", "b.bmp")]) == [12_000, 0, 6_000]
    assert expected_pixels([]) == []


def test_of_many_photographs_only_some_headers_are_read_and_bytes_tell_the_rest(folder, monkeypatch):
    """By hand: headers of every second; their 12,000 + 2,400 pixels have 3 bytes each and 54 bytes of header a file."""
    names, read = ["a.bmp", "b.bmp", "c.bmp", "a.bmp", "cut.jpg", "missing.png"], []
    monkeypatch.setattr("wmremoval.batch.sizes.pixels_of", lambda path: read.append(path.name) or pixels_of(path))
    expected = expected_pixels([folder / name for name in names], most_headers=3)
    assert read == ["a.bmp", "c.bmp", "cut.jpg"]
    ratio = 14_400 / (3 * 14_400 + 2 * 54)
    assert expected == pytest.approx([12_000, ratio * 18_054, 2_400, ratio * 36_054, 0, 0])

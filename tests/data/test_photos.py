"""Finding, splitting, sampling and downloading photographs; no network is used."""

import http.client
import inspect
import io
import json
import random
import shutil
import socket
import struct
import urllib.error
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from torchvision import datasets

from wmremoval.data.photos import (
    MIN_PHOTOS,
    add_photos,
    download_photos,
    ensure_sample_photos,
    find_photos,
    gather_photos,
    list_photos,
    sample_scenes,
    split_photos,
    spread_over_scenes,
)
from wmremoval.images import read_image

COLOUR = {"astronaut", "chelsea", "coffee", "rocket", "hubble", "motorcycle_left", "motorcycle_right"}
SCENES = COLOUR | {"camera"}


def picture(name, width=80, height=70):
    """The bytes of a small picture in the format of its name, different for every name."""
    buffer, ending = io.BytesIO(), Path(name).suffix.lower()
    pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, Image.registered_extensions()[ending])
    return buffer.getvalue()


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(name))


def huge_png(width, height):
    """A header without pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content


GOOD = [
    "a.jpg",
    "b.JPG",
    "c.jpeg",
    "d.JPEG",
    "e.Jpg",
    "f.png",
    "g.PNG",
    "h.webp",
    "i.WebP",
    "sub/j.jpg",
    "sub/deep/k.png",
]


# Finding


def test_photographs_are_found_in_any_case_and_in_sub_folders(tmp_path):
    fill(tmp_path, GOOD)
    (tmp_path / "notes.txt").write_text("no photograph")
    (tmp_path / "l.gif").write_bytes(picture("l.png"))
    (tmp_path / ".hidden.jpg").write_bytes(picture("h.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    expected = sorted(tmp_path / name for name in GOOD)
    assert list_photos(tmp_path) == expected
    assert list_photos(str(tmp_path)) == expected
    scan = find_photos(tmp_path)
    assert list(scan.paths) == expected and scan.skipped == {}


def test_the_report_counts_each_kind(tmp_path):
    fill(tmp_path, GOOD)
    report = find_photos(tmp_path).report()
    assert report["usable"] == 11
    assert (report["jpg"], report["png"], report["webp"]) == (6, 3, 2)
    assert str(tmp_path) not in json.dumps(report)


def test_unusable_files_are_skipped_with_one_line_each_and_counted(tmp_path, log):
    fill(tmp_path, GOOD)
    bad = {
        "cut.jpg": picture("x.jpg")[:1500],
        "sub/cut.png": picture("x.png")[:-3000],
        "cut.webp": picture("x.webp")[:500],
        "empty.jpg": b"",
        "sub/text.png": b"not a picture\nat all",
        "narrow.jpg": picture("x.jpg", 300, 63),
        "bomb.png": huge_png(60_000, 60_000),
        "large.PNG": huge_png(12_000, 9_000),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    scan = find_photos(tmp_path)
    assert list(scan.paths) == sorted(tmp_path / name for name in GOOD)
    assert len(scan.report()["skipped"]) == len(bad)
    assert scan.report()["usable"] == len(GOOD)
    lines = log.messages
    assert len(lines) == len(bad)
    for name in bad:
        assert sum(Path(name).name in line for line in lines) == 1
    assert str(tmp_path) not in json.dumps(scan.report())


def test_unusable_files_of_the_same_name_are_each_told_and_counted(tmp_path, log):
    fill(tmp_path, GOOD)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "broken.jpg").write_bytes(b"")
    assert len(find_photos(tmp_path).report()["skipped"]) == 2
    assert len(log.messages) == 2


def test_the_pixel_limit_can_be_set(tmp_path, capsys):
    fill(tmp_path, GOOD)
    (tmp_path / "z.jpg").write_bytes(picture("z.jpg", 100, 80))
    assert len(find_photos(tmp_path, max_pixels=8000).paths) == 12
    scan = find_photos(tmp_path, max_pixels=7999)
    assert len(scan.paths) == 11 and list(scan.skipped) == ["z.jpg"]


def test_too_few_photographs_are_a_clear_error(tmp_path, capsys):
    fill(tmp_path, GOOD[: MIN_PHOTOS - 1])
    (tmp_path / "z.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"9 usable photographs \(1 skipped\).*at least 10") as caught:
        find_photos(tmp_path)
    assert len(str(caught.value).splitlines()) == 1 and str(tmp_path) in str(caught.value)
    fill(tmp_path, GOOD[:MIN_PHOTOS])
    assert len(find_photos(tmp_path).paths) == MIN_PHOTOS


def test_a_missing_or_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="0 usable photographs"):
        find_photos(tmp_path)


# Splitting


def names(count):
    return [Path(f"photos/{i:04d}.jpg") for i in range(count)]


def test_999_photographs_split_as_the_document_says():
    split = split_photos(names(999))
    assert {part: len(paths) for part, paths in split.items()} == {"train": 699, "val": 200, "test": 100}


@pytest.mark.parametrize("count", [10, 11, 13, 14, 15, 25, 99, 100, 101, 1000, 1234])
def test_a_split_is_an_exact_partition_of_70_20_10(count):
    split = split_photos(names(count), seed=3)
    assert list(split) == ["train", "val", "test"]
    train, val = round(0.7 * count), round(0.2 * count)
    assert [len(part) for part in split.values()] == [train, val, count - train - val]
    assert sorted(path for part in split.values() for path in part) == names(count)
    assert all(split.values())


def test_a_split_is_always_the_same():
    """Literal, so that a change of the rule shows: runs of today must be comparable with those of next year."""
    split = split_photos([Path(f"{letter}.jpg") for letter in "abcdefghijkl"], seed=0)
    assert ["".join(path.stem for path in part) for part in split.values()] == ["jcheflad", "gk", "ib"]


def test_a_split_does_not_depend_on_order_or_place():
    paths = names(60)
    shuffled = random.Random(1).sample(paths, 60)
    assert split_photos(shuffled, 5) == split_photos(paths, 5)
    moved = {path: Path("/somewhere/else") / path.name for path in paths}
    expected = {part: [moved[path] for path in kept] for part, kept in split_photos(paths, 5).items()}
    assert split_photos(list(moved.values()), 5) == expected


def test_a_split_depends_on_the_seed_and_leaves_its_input_alone():
    paths = names(60)
    assert split_photos(paths, 0)["test"] != split_photos(paths, 1)["test"]
    assert split_photos(paths, 0) == split_photos(paths, 0)
    assert paths == names(60)


def test_a_split_mixes_the_names():
    """Sorted names often run by subject: every part has some from both halves."""
    for part in split_photos(names(100)).values():
        assert 0 < sum(path.stem < "0050" for path in part) < len(part)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_than_ten_photographs_cannot_be_split(count):
    with pytest.raises(ValueError, match=f"{count} photographs.*at least 10"):
        split_photos(names(count))


# Sample photographs


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "sample_photos"  # not there yet
    return folder, ensure_sample_photos(folder)


def scene(path):
    return path.stem.rsplit("_", 1)[0]


def test_all_scenes_of_scikit_image_are_used(samples):
    folder, split = samples
    assert {scene(path) for part in split.values() for path in part} == SCENES
    assert set(sample_scenes()) == COLOUR
    assert sorted(path for part in split.values() for path in part) == sorted(folder.iterdir())


def test_no_scene_is_in_two_parts_and_the_two_motorcycles_are_one_scene(samples):
    _, split = samples
    parts = {name: {part for part, paths in split.items() if name in map(scene, paths)} for name in SCENES}
    assert all(len(found) == 1 for found in parts.values())
    assert parts["motorcycle_left"] == parts["motorcycle_right"]
    assert list(split) == ["train", "val", "test"] and all(len(paths) >= 4 for paths in split.values())


def test_tiles_are_pieces_of_their_scenes(samples):
    _, split = samples
    tiles = sorted(path for part in split.values() for path in part)
    scenes = sample_scenes() | {"camera": np.stack([data.camera()] * 3, axis=-1)}
    for name in SCENES:
        own = [read_image(path) for path in tiles if scene(path) == name]
        assert 2 <= len(own) <= 12
        assert all(tile.shape == own[0].shape and min(tile.shape[:2]) >= 128 for tile in own)
        assert len({tile.tobytes() for tile in own}) == len(own)
        side = len(own[0])
        np.testing.assert_array_equal(own[0], scenes[name][:side, :side])
        last = -side if len(scenes[name]) >= 1.5 * side else 0  # lower photographs have one row
        np.testing.assert_array_equal(own[-1], scenes[name][last:, -side:][:side])


def test_validation_and_test_show_several_scenes_about_equally_often(samples):
    for part in ("val", "test"):
        shares = Counter(map(scene, samples[1][part]))
        assert len(shares) == 2 and max(shares.values()) <= 2 * min(shares.values())


def test_photographs_are_chosen_from_as_many_scenes_as_there_are(samples):
    test = samples[1]["test"]
    chosen = [test[i] for i in spread_over_scenes(test, 4)]
    assert scene(chosen[0]) != scene(chosen[1]) and len(set(chosen)) == 4
    assert max(Counter(map(scene, chosen)).values()) == 2
    assert spread_over_scenes([Path(f"IMG{i}.jpg") for i in range(9)], 4) == [0, 1, 2, 3]
    assert len(spread_over_scenes(test[:2], 8)) == 2


def test_sample_photographs_are_usable_photographs(samples, capsys):
    folder, split = samples
    scan = find_photos(folder)
    assert len(scan.paths) == sum(map(len, split.values())) and not scan.skipped


def test_a_second_call_writes_only_what_is_missing(samples):
    folder, split = samples
    lost = split["val"][1]
    content = lost.read_bytes()
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert ensure_sample_photos(str(folder)) == split
    assert lost.read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path != lost} == before


# Gathering for a run


def test_a_run_takes_the_photographs_of_its_folder(tmp_path, capsys):
    photos = tmp_path / "mine"
    fill(photos, GOOD)
    (photos / "z.jpg").write_bytes(b"")
    found = gather_photos(photos, tmp_path / "samples", seed=4)
    assert found.folder == photos and found.split == split_photos(find_photos(photos).paths, 4)
    assert sorted(name for part in found.names().values() for name in part) == sorted(GOOD)
    assert {key: found.report[key] for key in ("source", "used", "usable")} == {
        "source": "mine",
        "used": 11,
        "usable": 11,
    }
    assert list(found.report["skipped"]) == ["z.jpg"]
    assert str(tmp_path) not in json.dumps(found.report) + json.dumps(found.names())
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_folder_means_the_sample_photographs_and_says_so(tmp_path, samples, log, exists):
    photos, (folder, split) = tmp_path / "clean_images", samples
    if exists:
        photos.mkdir()
        (photos / ".gitkeep").touch()
    found = gather_photos(photos, folder)
    assert found.split == split and found.folder == folder
    assert found.names()["val"] == [path.name for path in split["val"]]
    assert found.report["usable"] == sum(map(len, split.values())) and "scikit-image" in found.report["source"]
    (line,) = log.messages
    assert "clean_images/ holds no photographs" in line and "scikit-image" in line


def test_an_empty_folder_is_an_error_where_samples_are_not_wanted(tmp_path):
    with pytest.raises(ValueError, match="0 usable photographs"):
        gather_photos(tmp_path)


def test_too_few_photographs_do_not_mean_the_samples(tmp_path):
    fill(tmp_path / "photos", GOOD[:3])
    with pytest.raises(ValueError, match="3 usable photographs"):
        gather_photos(tmp_path / "photos", tmp_path / "samples")


def test_a_run_can_use_a_seeded_choice_of_the_photographs(tmp_path, log):
    fill(tmp_path, [f"{i:02d}.jpg" for i in range(30)])

    def chosen(seed, most):
        found = gather_photos(tmp_path, seed=seed, max_photos=most)
        return found.report, sorted(name for part in found.names().values() for name in part)

    report, used = chosen(0, 20)
    assert (report["used"], report["usable"]) == (20, 30) and len(set(used)) == 20
    assert "Using 20 of 30 photographs." in log.text
    assert chosen(0, 20)[1] == used != chosen(1, 20)[1]
    assert used != [f"{i:02d}.jpg" for i in range(20)]
    for most in (30, 31, None):
        assert chosen(0, most)[0]["used"] == 30
    assert "Using" not in log.text.split("Using 20 of 30 photographs.\n")[-1]


# Downloading

CLASSES = {"imagenette": "Imagenette", "oxford_pets": "OxfordIIITPet", "flowers102": "Flowers102", "dtd": "DTD"}
FOLDERS = {
    "imagenette": "imagenette2-320/train/n01",
    "oxford_pets": "oxford-iiit-pet/images",
    "flowers102": "flowers-102/jpg",
    "dtd": "dtd/dtd/images/lined",
}


@pytest.fixture
def server(monkeypatch):
    """Stands in for torchvision's classes: "downloads" 20 photographs, half of them .JPEG, and an annotation."""
    calls = []

    def serve(dataset):
        original = getattr(datasets, CLASSES[dataset]).__init__

        def fetch(*args, **options):
            arguments = inspect.signature(original).bind(None, *args, **options).arguments
            calls.append((dataset, socket.getdefaulttimeout()))
            assert arguments["download"] is True
            folder = Path(arguments["root"]) / FOLDERS[dataset]
            fill(folder, [f"{dataset[:3]}_{i}.{'jpg' if i % 2 else 'JPEG'}" for i in range(20)])
            fill(folder.parent, ["trimap.png"])

        monkeypatch.setattr(datasets, CLASSES[dataset], fetch)

    for dataset in CLASSES:
        serve(dataset)
    return calls


@pytest.mark.parametrize("dataset", CLASSES)
def test_a_download_gives_so_many_photographs_in_one_flat_folder(tmp_path, server, dataset):
    folder = tmp_path / "data" / "clean_images"
    assert download_photos(dataset, 12, folder, tmp_path / "cache") == 12
    files = sorted(folder.iterdir())
    assert len(files) == 12 and all(path.is_file() and path.suffix == ".jpg" for path in files)
    originals = {path.read_bytes() for path in list_photos(tmp_path / "cache") if path.suffix != ".png"}
    assert {path.read_bytes() for path in files} < originals and len({path.read_bytes() for path in files}) == 12
    assert len(find_photos(folder).paths) == 12


def test_a_limit_above_what_there_is_gives_all(tmp_path, server):
    assert download_photos("dtd", 1000, tmp_path / "photos", tmp_path / "cache") == 20
    assert len(list(tmp_path.joinpath("photos").iterdir())) == 20


def test_a_second_download_changes_nothing_and_fetches_nothing(tmp_path, server):
    download_photos("imagenette", 6, tmp_path / "photos", tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").iterdir()}
    assert download_photos("imagenette", 6, tmp_path / "photos", tmp_path / "cache") == 6
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").iterdir()} == before
    assert len(server) == 1


def test_more_can_be_had_later_and_files_of_one_s_own_stay(tmp_path, server):
    photos = tmp_path / "photos"
    fill(photos, ["mine.jpg"])
    download_photos("imagenette", 6, photos, tmp_path / "cache")
    first = {path: path.read_bytes() for path in photos.iterdir()}
    assert download_photos("imagenette", 15, photos, tmp_path / "cache") == 15
    assert len(list(photos.iterdir())) == 16
    assert all(path.read_bytes() == content for path, content in first.items())


def test_the_number_told_is_what_the_folder_has(tmp_path, server):
    download_photos("imagenette", 6, tmp_path / "photos", tmp_path / "cache")
    told = download_photos("imagenette", 3, tmp_path / "photos", tmp_path / "cache")
    assert told == len(list((tmp_path / "photos").iterdir()))


def test_the_choice_depends_on_the_seed_alone(tmp_path, server):
    chosen = []
    for i, seed in enumerate((0, 0, 1)):
        download_photos("dtd", 8, tmp_path / f"photos{i}", tmp_path / f"cache{i}", seed=seed)
        chosen.append({path.name for path in (tmp_path / f"photos{i}").iterdir()})
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("https://example.com", 503, "Service Unavailable", None, None),
        TimeoutError(),
        ConnectionResetError("reset\nby peer"),
        RuntimeError("File not found or corrupted."),
        http.client.IncompleteRead(b"half"),
        http.client.BadStatusLine("<html>"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_download_is_one_clear_line(tmp_path, monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(datasets, "Imagenette", fail)
    with pytest.raises(ConnectionError, match="could not download imagenette") as caught:
        download_photos("imagenette", 10, tmp_path / "photos", tmp_path / "cache")
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path / "photos") in str(caught.value)  # where one's own may go
    assert caught.value.__suppress_context__
    assert not (tmp_path / "photos").exists()


def test_a_silent_server_is_given_up_and_other_connections_keep_their_patience(tmp_path, server):
    assert socket.getdefaulttimeout() is None
    download_photos("dtd", 5, tmp_path / "photos", tmp_path / "cache")
    assert 5 <= server[0][1] <= 60
    assert socket.getdefaulttimeout() is None


def test_patience_is_given_back_after_a_failure_too(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DTD", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(ConnectionError):
        download_photos("dtd", 5, tmp_path / "photos", tmp_path / "cache")
    assert socket.getdefaulttimeout() is None


def test_an_unknown_dataset_is_a_clear_error_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"unknown dataset 'imagenet'.*imagenette"):
        download_photos("imagenet", 10, tmp_path / "photos", tmp_path / "cache")
    assert list(tmp_path.rglob("*")) == []


def test_a_copy_that_fails_leaves_no_half_photograph(tmp_path, server, monkeypatch):
    def fail(source, target):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="disk full"):
        download_photos("dtd", 5, tmp_path / "photos", tmp_path / "cache")
    assert list_photos(tmp_path / "photos") == []


# More photographs for training


@pytest.fixture
def more(tmp_path):
    fill(tmp_path / "photos", GOOD)
    fill(tmp_path / "more" / "deep", ["p.jpg", "q.png"])
    return gather_photos(tmp_path / "photos"), tmp_path / "more"


def test_more_photographs_are_trained_on_and_nothing_else_changes(more):
    photos, folder = more
    both = add_photos(photos, folder)
    assert both.split == photos.split
    assert [path.name for path in both.parts()["train"]] == [path.name for path in photos.split["train"]] + [
        "p.jpg",
        "q.png",
    ]
    assert all(both.parts()[part] == photos.split[part] for part in ("val", "test"))
    assert both.names() == photos.names() | {"more": ["deep/p.jpg", "deep/q.png"]}
    assert both.report["more"]["source"] == "more" and both.report["more"]["usable"] == 2
    assert "more" not in photos.names() and photos.parts() == photos.split


@pytest.mark.parametrize("part", ["val", "test"])
def test_more_photographs_named_like_some_of_val_or_test_are_refused(more, part):
    photos, folder = more
    name = photos.split[part][0].name
    fill(folder, [name])
    with pytest.raises(ValueError, match=f"photographs named like some of {part}, such as {name}") as caught:
        add_photos(photos, folder)
    assert len(str(caught.value).splitlines()) == 1


def test_more_photographs_may_be_named_like_some_of_training(more):
    photos, folder = more
    fill(folder, [photos.split["train"][0].name])
    assert len(add_photos(photos, folder).more_photos) == 3

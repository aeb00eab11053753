"""The order of samples and the loaders of a run: keyed orders, crops of mixed size, and what each part is made of."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from wmremoval.config import TrainConfig, crop_sides
from wmremoval.data import loaders as loaders_module
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.data.fonts import FontBook
from wmremoval.data.loaders import EpochSampler, SizedBatches, make_loader, make_loaders, sample_config
from wmremoval.data.marks import MARKS
from wmremoval.data.photostore import PhotoStore
from wmremoval.data.places import Place
from wmremoval.files import write_json
from wmremoval.images import read_image

KEYS = ("watermarked", "reference", "clean", "mask", "reference_mask", "alpha", "colour")
FIXED = SampleConfig(image_size=64, augment=False)
RANDOM = SampleConfig(image_size=64, unmarked=0, degraded=0)
SMALL = TrainConfig(image_size=64, batch_size=4)


def test_every_photograph_comes_once_an_epoch_in_an_order_of_its_own(photos, fonts):
    dataset = WatermarkDataset(photos, SampleConfig(image_size=64), fonts)
    sampler, orders = EpochSampler(dataset), []
    for epoch in range(4):
        dataset.epoch = epoch
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(12)) and len(sampler) == 12
        assert list(sampler) == orders[-1]
    assert len(set(map(tuple, orders))) == 4
    assert list(range(12)) not in orders
    reseeded = WatermarkDataset(photos, SampleConfig(image_size=64, seed=9), fonts)
    assert list(EpochSampler(reseeded)) != orders[0]


def collect(loader):
    return [torch.cat([batch[key] for batch in loader]) for key in KEYS]


def test_batches_are_the_samples_in_their_order_and_the_last_one_is_kept(photos, fonts):
    fixed = WatermarkDataset(photos[:11], FIXED, fonts)
    batches = list(make_loader(fixed, batch_size=4))
    assert [len(batch["mask"]) for batch in batches] == [4, 4, 3]
    expected = torch.stack([fixed[i]["clean"] for i in range(11)])
    assert torch.equal(torch.cat([batch["clean"] for batch in batches]), expected)
    random = WatermarkDataset(photos[:11], RANDOM, fonts)
    random.epoch = 3
    loader = make_loader(random, batch_size=4)
    assert len(loader) == 3
    expected = torch.stack([random[i]["clean"] for i in EpochSampler(random)])
    assert torch.equal(torch.cat([batch["clean"] for batch in loader]), expected)


def test_workers_that_stay_see_each_epoch_and_give_what_no_workers_would(photos, fonts):
    alone, shared = (WatermarkDataset(photos, SampleConfig(image_size=64), fonts) for _ in range(2))
    at_home, at_work = make_loader(alone, 4, workers=0), make_loader(shared, 4, workers=2)
    seen = []
    for epoch in (0, 1, 0, 5):
        alone.epoch = shared.epoch = epoch
        expected, given = collect(at_home), collect(at_work)
        assert all(torch.equal(one, other) for one, other in zip(expected, given, strict=True))
        seen.append(given)
    assert at_work.persistent_workers
    assert all(torch.equal(one, other) for one, other in zip(seen[0], seen[2], strict=True))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_loaders_for_the_three_parts(photos):
    split = {"train": photos[:7], "val": photos[7:10], "test": photos[10:]}
    loaders = make_loaders(split, replace(SMALL, seed=3), system_fonts=False)
    assert list(loaders) == ["train", "val", "test"]
    for part, loader in loaders.items():
        assert loader.dataset.paths == split[part]
        assert loader.dataset.config.seed == 3
        assert sum(len(batch["mask"]) for batch in loader) == len(split[part])
        assert next(iter(loader))["watermarked"].shape == (min(4, len(split[part])), 3, 64, 64)
        before = collect(loader)
        loader.dataset.epoch = 1
        kept = all(torch.equal(one, other) for one, other in zip(before, collect(loader), strict=True))
        assert kept == (part != "train")


def test_each_part_has_its_own_logos_and_only_training_other_marks(photos):
    split = {"train": photos[:7], "val": photos[7:10], "test": photos[10:]}
    logos = {part: [np.full((8, 8, 4), i, np.uint8)] for i, part in enumerate(split)}
    loaders = make_loaders(split, replace(SMALL, marks="varied"), logos, system_fonts=False)
    for part, loader in loaders.items():
        assert loader.dataset.logos is logos[part]
        assert loader.dataset.config.marks == MARKS["varied" if part == "train" else "standard"]


def test_only_training_marks_use_the_system_s_fonts_and_the_configured_faces(photos, fonts, monkeypatch):
    asked = []

    def load(system=False, faces="packaged"):
        asked.append((system, faces))
        return FontBook({"en": fonts.faces["en"]}) if system else fonts

    monkeypatch.setattr(loaders_module, "load_fonts", load)
    split = {"train": photos[:7], "val": photos[7:10], "test": photos[10:]}
    for wanted, faces in ((True, "packaged"), (False, "installed")):
        asked.clear()
        loaders = make_loaders(split, replace(SMALL, faces=faces), system_fonts=wanted)
        assert asked == [(wanted, faces), (False, "packaged"), (False, "packaged")]
        assert (set(loaders["train"].dataset.fonts.faces) == {"en"}) == wanted
        assert loaders["val"].dataset.fonts == loaders["test"].dataset.fonts == fonts


def test_no_setting_changes_validation_and_test_samples(photos):
    split = {"train": photos[:4], "val": photos[8:]}
    new = replace(SMALL, marks="full_web", faces="installed", hard=0.5, faint_weight=2.0)
    one, other = (make_loaders(split, config, system_fonts=False)["val"] for config in (SMALL, new))
    assert all(torch.equal(a, b) for a, b in zip(collect(one), collect(other), strict=True))


def test_places_are_read_for_training_alone(photos, tmp_path):
    file = tmp_path / "places.json"
    write_json(file, [{"file": photos[1].name, "box": [0.1, 0.2, 0.5, 0.6], "pixels": 90}])
    config = replace(SMALL, hard=0.5, hard_places=str(file))
    loaders = make_loaders({"train": photos[:4], "val": photos[8:]}, config, system_fonts=False)
    assert loaders["train"].dataset.config.hard_places == (Place(photos[1], (0.1, 0.2, 0.5, 0.6)),)
    assert loaders["val"].dataset.config.hard_places == ()


def test_validation_and_test_samples_do_not_depend_on_the_training_photographs(photos):
    one = make_loaders({"train": photos[:4], "val": photos[8:]}, SMALL, system_fonts=False)["val"]
    other = make_loaders({"train": photos[:8], "val": photos[8:]}, replace(SMALL, batch_size=2), system_fonts=False)[
        "val"
    ]
    assert all(torch.equal(a, b) for a, b in zip(collect(one), collect(other), strict=True))


# Crops of mixed size


def test_each_batch_has_one_side_and_all_sides_come(photos, fonts):
    dataset = WatermarkDataset(photos[:11], RANDOM, fonts)
    batches, seen = SizedBatches(dataset, 4, [32, 64, 96]), set()
    for epoch in range(8):
        dataset.epoch = epoch
        drawn = list(batches)
        assert [len(batch) for batch in drawn] == [4, 4, 3] and len(batches) == 3
        assert [index for batch in drawn for index, _ in batch] == list(EpochSampler(dataset))
        assert all(len({side for _, side in batch}) == 1 for batch in drawn)
        assert list(batches) == drawn, "drawn anew: another order for a resumed run"
        seen |= {tuple(batch[0][1] for batch in drawn)}
    assert {side for sides in seen for side in sides} == {32, 64, 96} and len(seen) > 4


def test_loaders_of_mixed_size_give_the_same_to_workers_and_fixed_parts_one_size(photos):
    split = {"train": photos[:7], "val": photos[7:10]}
    config = TrainConfig(image_size=64, batch_size=2, size_spread=32, zoom=2)
    home, work = (make_loaders(split, replace(config, workers=n), system_fonts=False) for n in (0, 2))
    sides = []
    for one, other in zip(home["train"], work["train"], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in KEYS)
        height, width = one["clean"].shape[-2:]
        assert height == width == one["mask"].shape[-1]
        sides.append(height)
    assert set(sides) <= {32, 64, 96} and len(set(sides)) > 1
    assert {batch["clean"].shape[-1] for batch in home["val"]} == {64}


@pytest.mark.parametrize(
    "size, spread, sides", [(64, 0, [64]), (64, 31, [64]), (96, 32, [64, 96, 128]), (100, 64, [36, 68, 100, 132, 164])]
)
def test_the_sides_of_crops_lie_around_the_size(size, spread, sides):
    assert crop_sides(TrainConfig(image_size=size, size_spread=spread)) == sides


def test_a_spread_that_leaves_no_crop_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="size_spread must leave crops of 32 pixels, got 64"):
        TrainConfig(image_size=64, size_spread=64)


# Crops that grow


def growing(photos, fonts, stage=0, skipped=0):
    dataset = WatermarkDataset(photos[:11], RANDOM, fonts)
    dataset.epoch, dataset.stage, dataset.skipped = 5, stage, skipped
    return SizedBatches(dataset, 4, [[32, 64], [96, 128]], full=64)


@pytest.mark.parametrize(("stage", "counts"), [(0, {32: 16, 64: 4}), (1, {96: 2, 128: 1})])
def test_batches_of_a_stage_have_its_sides_and_about_the_same_pixels(photos, fonts, stage, counts):
    batches, seen = growing(photos, fonts, stage), set()
    for epoch in range(8):
        batches.order.dataset.epoch = epoch
        drawn = list(batches)
        assert len(drawn) == len(batches)
        indices = [index for batch in drawn for index, _ in batch]
        assert indices == list(batches.order)[: len(indices)]
        for batch in drawn if len(drawn) > 1 else ():
            assert len(batch) == counts[batch[0][1]]
        seen |= {side for batch in drawn for _, side in batch}
    assert seen == set(counts)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_resumed_epoch_of_growing_crops_gets_the_batches_it_has_not_had(photos, fonts, stage):
    whole, done = list(growing(photos, fonts, stage)), 0
    for step, batch in enumerate(whole, start=1):
        done += len(batch)
        rest = growing(photos, fonts, stage, skipped=done)
        assert list(rest) == whole[step:] and len(rest) == len(whole)


def test_photographs_of_growing_crops_are_decoded_for_the_largest(photos):
    loader = make_loaders({"train": photos}, replace(SMALL, grow=True, hours=1.0), system_fonts=False)["train"]
    assert loader.dataset.store.shrink_to == 2 * 256
    loader.dataset.stage = 1
    shapes = {tuple(batch["clean"].shape) for batch in loader}
    assert shapes <= {(count, 3, side, side) for side in (192, 224, 256) for count in (1,)}


# Settings that reach the samples


def test_another_sample_seed_gives_other_training_samples_and_the_same_fixed_ones(photos):
    split = {"train": photos[:7], "val": photos[7:10], "test": photos[10:]}
    one, other = (make_loaders(split, config, system_fonts=False) for config in (SMALL, replace(SMALL, sample_seed=9)))
    for part in split:
        same = [torch.equal(a, b) for a, b in zip(collect(one[part]), collect(other[part]), strict=True)]
        assert all(same) if part != "train" else not any(same)
    reseeded = make_loaders(split, replace(SMALL, seed=9), system_fonts=False)["train"]
    assert all(torch.equal(a, b) for a, b in zip(collect(reseeded), collect(other["train"]), strict=True))


def test_every_kind_of_marks_is_a_setting():
    for name in MARKS:
        assert sample_config(TrainConfig(marks=name), training=True).marks == MARKS[name]


def test_what_samples_are_made_with_comes_from_the_settings():
    config = TrainConfig(degraded=0.5, unmarked=0.2, collage=0.1, zoom=2, sharp=0.3, hard=0.1, seed=4, image_size=96)
    made, fixed = sample_config(config, training=True), sample_config(config, training=False)
    assert (made.degraded, made.collage, made.zoom, made.seed, made.image_size) == (0.5, 0.1, 2, 4, 96)
    assert (made.unmarked, made.sharp, made.hard) == (0.2, 0.3, 0.1)
    assert made.augment and not fixed.augment
    assert (fixed.seed, fixed.image_size, fixed.marks) == (4, 96, MARKS["standard"])


# Photographs that stay decoded


def test_photographs_stay_decoded_up_to_a_budget_and_are_decoded_again_beyond(photos):
    sizes = [read_image(path, shrink_to=128).nbytes for path in photos[:4]]
    store = PhotoStore(128, (sizes[0] + sizes[1]) / 1e6)
    for path in photos[:4] + photos[:4]:
        np.testing.assert_array_equal(store[path], read_image(path, shrink_to=128))
    assert sum(photo.nbytes for photo in store.decoded.values()) <= sizes[0] + sizes[1]
    assert (
        store[photos[0]] is store[photos[0]]
        and set(photos[:2]) <= set(store.decoded)
        and photos[3] not in store.decoded
    )
    with pytest.raises(ValueError, match="read-only"):
        store[photos[0]][0, 0] = 0


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_from_memory_and_the_files_are_read_once(photos, tmp_path, workers):
    copies = [tmp_path / path.name for path in photos[:6]]
    for path, copy in zip(photos, copies, strict=False):
        copy.write_bytes(path.read_bytes())
    kept, read = (replace(SMALL, workers=workers, photo_memory=megabytes) for megabytes in (100, 0))
    expected = collect(make_loaders({"train": copies}, read, system_fonts=False)["train"])
    loader = make_loaders({"train": copies}, kept, system_fonts=False)["train"]
    if not workers:
        collect(loader)
    for copy in copies:
        copy.unlink()
    assert all(torch.equal(one, other) for one, other in zip(collect(loader), expected, strict=True))


@pytest.mark.parametrize("skipped", [4, 8, 11])
def test_a_resumed_epoch_gets_the_batches_it_has_not_had(photos, fonts, skipped):
    dataset = WatermarkDataset(photos[:11], RANDOM, fonts)
    dataset.epoch = 5
    order, sized = EpochSampler(dataset), SizedBatches(dataset, 4, (32, 48, 64, 80))
    whole, batches = list(order), list(sized)
    dataset.skipped = skipped
    assert list(order) == whole[skipped:] and len(order) == 11
    assert list(sized) == batches[-(-skipped // 4) :] and len(sized) == 3


def test_a_setting_of_samples_has_the_name_that_it_has_in_the_run_s_settings():
    own = {field.name for field in fields(SampleConfig)} - {field.name for field in fields(TrainConfig)}
    assert own == {"augment", "fixed"}

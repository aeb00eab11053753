"""Views and samples: what is random is keyed, what is fixed stays."""

import inspect
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from wmremoval.data import dataset as dataset_module
from wmremoval.data.dataset import SampleConfig, WatermarkDataset, get_augmentations, resize_and_crop, shrink_to
from wmremoval.data.fonts import FontBook
from wmremoval.data.marks import Mark, WatermarkConfig
from wmremoval.data.places import Place

KEYS = {"watermarked": 3, "reference": 3, "clean": 3, "mask": 1, "reference_mask": 1, "alpha": 1, "colour": 3}
KEYS |= {"reference_alpha": 1, "reference_colour": 3}
FIXED = SampleConfig(image_size=64, augment=False)
RANDOM = SampleConfig(image_size=64, unmarked=0, degraded=0)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in KEYS)


def changed(sample, name="watermarked"):
    return (sample[name] != sample["clean"]).any(dim=0, keepdim=True).float()


def samples(dataset):
    return [dataset[i] for i in range(len(dataset))]


# One sample


@pytest.mark.parametrize("config", [FIXED, SampleConfig(image_size=96)], ids=["fixed", "random"])
def test_a_sample_has_its_eleven_tensors_in_range(photos, fonts, config):
    for sample in samples(WatermarkDataset(photos, config, fonts)):
        assert set(sample) == {*KEYS, "plain", "reference_plain"}
        for key in ("plain", "reference_plain"):
            assert sample[key].shape == (1, 1, 1) and sample[key].item() == 1.0
        for key, channels in KEYS.items():
            assert sample[key].shape == (channels, config.image_size, config.image_size)
            assert sample[key].dtype == torch.float32
            assert sample[key].min() >= 0 and sample[key].max() <= 1
        for key in ("mask", "reference_mask"):
            assert set(sample[key].unique().tolist()) <= {0.0, 1.0}
        for key in ("watermarked", "reference", "clean"):
            levels = sample[key] * 255
            assert (levels - levels.round()).abs().max() < 1e-4
        assert sample["clean"].std() > 0.05


@pytest.mark.parametrize("config", [FIXED, RANDOM], ids=["fixed", "random"])
def test_each_mask_is_exactly_where_its_view_differs_from_the_clean_one(photos, fonts, config):
    for sample in samples(WatermarkDataset(photos, config, fonts)):
        assert torch.equal(sample["mask"], changed(sample))
        assert torch.equal(sample["reference_mask"], changed(sample, "reference"))
        assert (sample["alpha"][sample["mask"] == 1] > 0).all()


def test_the_two_views_carry_different_marks_of_the_same_photograph(photos, fonts):
    for config in (FIXED, RANDOM):
        for sample in samples(WatermarkDataset(photos, config, fonts)):
            assert not torch.equal(sample["mask"], sample["reference_mask"])
            outside = (sample["mask"] + sample["reference_mask"] == 0).expand(3, -1, -1)
            assert outside.any()
            assert torch.equal(sample["watermarked"][outside], sample["reference"][outside])


def test_where_alpha_is_one_the_photograph_cannot_be_seen(photos):
    """The alpha given out is the one that was blended: at 1, two photographs look the same."""
    config = replace(FIXED, marks=WatermarkConfig(opaque_share=1, occluded_share=0, distorted_share=0))
    hidden = 0
    for i in range(0, 12, 2):
        one, other = (WatermarkDataset(paths, config, FontBook({}))[i] for paths in (photos, photos[::-1]))
        assert torch.equal(one["alpha"], other["alpha"]) and not torch.equal(one["clean"], other["clean"])
        opaque = (one["alpha"] == 1).expand(3, -1, -1)
        assert torch.equal(one["watermarked"][opaque], other["watermarked"][opaque])
        hidden += opaque.sum()
    assert hidden > 500


def test_a_dataset_without_fonts_given_takes_the_packaged_ones(photos, fonts):
    assert same(WatermarkDataset(photos, FIXED)[0], WatermarkDataset(photos, FIXED, fonts)[0])


def test_logos_reach_the_marks(photos):
    logo = np.zeros((40, 40, 4), np.uint8)
    logo[5:35, 5:35] = (255, 0, 0, 255)
    watermarks = WatermarkConfig(shape_share=0, logo_share=1, opaque_share=1, jitter_share=0, occluded_share=0)
    drawn = samples(WatermarkDataset(photos, replace(FIXED, marks=watermarks), FontBook({}), [logo]))
    away = [(s["watermarked"] - torch.tensor([1.0, 0, 0])[:, None, None]).abs().amax(dim=0) for s in drawn]
    assert sum((distance < 0.02).sum() > 50 for distance in away) > 3


# Fixed samples


def test_fixed_samples_are_the_same_in_every_epoch(photos, fonts):
    dataset = WatermarkDataset(photos, FIXED, fonts)
    first = samples(dataset)
    dataset.epoch = 7
    for before, after in zip(first, reversed([dataset[i] for i in reversed(range(len(dataset)))]), strict=True):
        assert same(before, after)


def test_fixed_samples_differ_by_index_and_seed(photos, fonts):
    twice = WatermarkDataset([photos[0], photos[0]], FIXED, fonts)
    assert torch.equal(twice[0]["clean"], twice[1]["clean"])
    assert not torch.equal(twice[0]["mask"], twice[1]["mask"])
    reseeded = WatermarkDataset([photos[0]], replace(FIXED, seed=1), fonts)
    assert not torch.equal(twice[0]["mask"], reseeded[0]["mask"])


def test_fixed_samples_are_always_marked_and_show_the_plain_view(photos, fonts):
    config = replace(FIXED, unmarked=1, degraded=1)  # of augmented samples
    for path, sample in zip(photos, samples(WatermarkDataset(photos, config, fonts)), strict=True):
        assert sample["alpha"].any()
        view = resize_and_crop(np.asarray(Image.open(path)), 64)
        np.testing.assert_array_equal((sample["clean"] * 255).round().numpy().transpose(1, 2, 0), view)


# Random samples


def test_random_samples_are_keyed_by_seed_epoch_and_index(photos, fonts):
    config = SampleConfig(image_size=64)
    dataset = WatermarkDataset(photos, config, fonts)
    first = samples(dataset)
    dataset.epoch = 1
    second = [dataset[i] for i in reversed(range(len(dataset)))][::-1]  # the order of asking plays no part
    for before, after in zip(first, second, strict=True):
        assert not torch.equal(before["clean"], after["clean"])
        assert not torch.equal(before["alpha"], after["alpha"])
    dataset.epoch = 0
    assert all(same(before, again) for before, again in zip(first, samples(dataset), strict=True))
    other = WatermarkDataset(photos, replace(config, seed=1), fonts)
    assert not any(same(before, after) for before, after in zip(first, samples(other), strict=True))


def test_views_of_one_photograph_hardly_ever_repeat(photos):
    drawn = samples(WatermarkDataset([photos[0]] * 80, replace(RANDOM, image_size=32), FontBook({})))
    assert len({sample["clean"].numpy().tobytes() for sample in drawn}) > 75


def test_jpegs_may_be_shrunk_while_they_are_decoded_to_twice_the_side_of_the_largest_view():
    zoomed = SampleConfig(image_size=100, zoom=1.5)
    assert shrink_to(SampleConfig(image_size=100)) == 200 and shrink_to(zoomed) == 300
    assert shrink_to(replace(zoomed, augment=False)) == 200, "fixed views have no zoom"
    assert shrink_to(zoomed, image_size=160) == 480 and shrink_to(zoomed, image_size=80) == 300


def test_the_process_wide_generators_play_no_part(photos, fonts):
    dataset = WatermarkDataset(photos, SampleConfig(image_size=64, degraded=1), fonts)
    drawn = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        cv2.setRNGSeed(seed)
        drawn.append(samples(dataset))
    assert all(same(one, other) for one, other in zip(*drawn, strict=True))
    state = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_unmarked_samples_have_nothing_to_remove_but_a_marked_reference(photos, fonts):
    for sample in samples(WatermarkDataset(photos, replace(RANDOM, unmarked=1), fonts)):
        assert torch.equal(sample["watermarked"], sample["clean"])
        assert not sample["mask"].any() and not sample["alpha"].any()
        assert torch.equal(sample["reference_mask"], changed(sample, "reference"))
    marked = samples(WatermarkDataset(photos, RANDOM, fonts))
    assert sum(bool(sample["mask"].any()) for sample in marked) >= 11


def test_about_as_many_samples_are_unmarked_as_configured(photos):
    dataset = WatermarkDataset(photos, replace(RANDOM, image_size=32, unmarked=0.3), FontBook({}))
    unmarked = []
    for epoch in range(25):
        dataset.epoch = epoch
        unmarked += [not sample["alpha"].any() for sample in samples(dataset)]
    assert np.mean(unmarked) == pytest.approx(0.3, abs=0.1)


def test_a_degradation_is_shared_by_all_views_and_changes_the_clean_one(photos, fonts):
    plain = WatermarkDataset(photos, RANDOM, fonts)
    degraded = WatermarkDataset(photos, replace(RANDOM, degraded=1), fonts)
    altered = blurred = 0
    for epoch in range(3):
        plain.epoch = degraded.epoch = epoch
        for before, after in zip(samples(plain), samples(degraded), strict=True):
            assert torch.equal(before["alpha"] > 0.01, after["alpha"] > 0.01) or not torch.equal(
                before["mask"], after["mask"]
            )
            assert (before["alpha"] - after["alpha"]).abs().mean() < 0.02
            altered += not torch.equal(before["clean"], after["clean"])
            for name in ("clean", "watermarked", "reference"):  # channels in their order, content in its place
                assert (before[name] - after[name]).abs().mean() < 0.04
            for view, mask in (("watermarked", "mask"), ("reference", "reference_mask")):
                assert (after[mask] >= before[mask]).all()
                outside = (after[mask] == 0).expand(3, -1, -1)
                difference = (after[view] - after["clean"]).abs()[outside]
                if torch.equal(after[mask], before[mask]):
                    assert difference.mean() < 0.02  # JPEG rings around the mark
                else:
                    assert not difference.any()  # a blur reaches one pixel further, and so does the mask
                    blurred += 1
    assert altered >= 30  # the mildest blur rounds away
    assert 10 <= blurred <= 40  # of 72 views


def test_unmarked_degraded_samples_stay_without_a_mark(photos, fonts):
    for sample in samples(WatermarkDataset(photos, replace(RANDOM, unmarked=1, degraded=1), fonts)):
        assert torch.equal(sample["watermarked"], sample["clean"]) and not sample["mask"].any()


def test_a_mark_is_never_mirrored_while_its_photograph_is(tmp_path, monkeypatch):
    """The photograph is dark at the left, the mark stands at the left: flips may turn only the first."""
    ramp = np.broadcast_to(np.linspace(0, 200, 128).astype(np.uint8)[:, None], (128, 128, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "a.png")
    alpha = np.zeros((64, 64), np.float32)
    alpha[10:50, 5:10], alpha[10:15, 5:25] = 1, 1  # the upper half of an F

    monkeypatch.setattr(dataset_module, "draw_mark", lambda *a, **k: Mark(alpha, np.ones((64, 64, 3), np.float32)))
    dataset = WatermarkDataset([tmp_path / "a.png"] * 60, replace(RANDOM, degraded=0.3), FontBook({}))
    flipped = 0
    for sample in samples(dataset):
        kept = sample["alpha"][0].numpy()
        if len(np.unique(kept)) > 2:  # blurred along with the views: still where it was
            np.testing.assert_array_equal(kept > 0.4, alpha > 0)
        else:
            np.testing.assert_array_equal(kept, alpha)
        bright = sample["watermarked"][:, torch.from_numpy(alpha == 1)]
        assert bright.mean() > 0.85 and sample["mask"][0].numpy()[alpha == 1].mean() > 0.9
        clean = sample["clean"].mean(dim=(0, 1))
        flipped += bool(clean[:16].mean() > clean[-16:].mean())
    assert 18 < flipped < 42


def test_a_sample_of_a_damaged_file_names_it(tmp_path, fonts):
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        WatermarkDataset([tmp_path / "broken.jpg"], FIXED, fonts)[0]


# Augmentations


def test_building_the_augmentations_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = get_augmentations.__wrapped__(256)
        assert pipeline(image=np.ascontiguousarray(data.chelsea()))["image"].shape == (256, 256, 3)


def test_albumentations_names_are_really_checked():
    """The test above relies on it: a wrong argument name is a warning, no error."""
    with pytest.warns(UserWarning, match="not valid|not_a_name"):
        dataset_module.A.GaussianBlur(not_a_name=1)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (64, 64), (70, 400), (256, 256)])
def test_augmentations_give_squares_of_uint8(shape):
    image = np.ascontiguousarray(np.resize(data.astronaut(), (512, 512, 3))[: shape[0], : shape[1]])
    before = image.copy()
    for size in (256, 96):
        pipeline = get_augmentations(size)
        for seed in range(8):
            pipeline.set_random_seed(seed)
            view = pipeline(image=image)["image"]
            assert view.shape == (size, size, 3) and view.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert inspect.signature(get_augmentations).parameters["image_size"].default == 256


def test_augmentations_repeat_after_their_seed_and_vary_without():
    image, pipeline, views = np.ascontiguousarray(data.astronaut()[:256, :256]), get_augmentations(64), []
    for seed in list(range(40)) * 2:
        pipeline.set_random_seed(seed)
        views.append(pipeline(image=image)["image"].tobytes())
    assert views[:40] == views[40:]
    assert len(set(views[:40])) == 40


def test_augmentations_do_what_the_document_lists_and_stay_mild():
    """Each photometric change, noise and artefact alone alters a photograph and leaves it recognisable."""
    image = np.ascontiguousarray(data.astronaut()[:256, :256])
    flat = []
    for step in get_augmentations.__wrapped__(64):  # not the one in use, since it is changed below
        flat += list(step) if isinstance(step, dataset_module.A.OneOf) else [step]
    kinds = {type(step).__name__ for step in flat}
    assert kinds >= {"RandomResizedCrop", "Rotate", "HorizontalFlip", "ColorJitter", "ToGray", "RandomGamma"}
    assert kinds >= {"GaussianBlur", "ImageCompression", "PixelDropout", "RandomShadow", "RandomRain"}
    for step in flat:
        if type(step).__name__ in ("RandomResizedCrop", "Rotate", "HorizontalFlip"):
            continue
        step.p, error = 1.0, []
        for seed in range(6):
            alone = dataset_module.A.Compose([step])
            alone.set_random_seed(seed)
            error.append(np.mean((alone(image=image)["image"] / 255 - image / 255) ** 2))
        coarse = ("ColorJitter", "ToGray", "RandomGamma", "RandomShadow", "RandomRain")
        mildest = 18 if type(step).__name__ in coarse else 27  # dB
        assert mildest < -10 * np.log10(np.mean(error)) < 60, type(step).__name__


# The plain view


def test_a_landscape_is_cut_at_both_sides():
    image = np.arange(40 * 80 * 3, dtype=np.uint16).reshape(40, 80, 3).astype(np.uint8)
    np.testing.assert_array_equal(resize_and_crop(image, 40), image[:, 20:60])


def test_a_portrait_is_cut_above_and_below():
    image = np.arange(81 * 40 * 3, dtype=np.uint16).reshape(81, 40, 3).astype(np.uint8)
    np.testing.assert_array_equal(resize_and_crop(image, 40), image[20:60])


def test_shrinking_averages():
    image = np.random.default_rng(0).integers(0, 256, (96, 192, 3), dtype=np.uint8)
    thirds = image.reshape(32, 3, 64, 3, 3).mean(axis=(1, 3))[:, 16:48]
    view = resize_and_crop(image, 32)
    assert view.shape == (32, 32, 3) and view.dtype == np.uint8
    assert np.abs(view - thirds).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("shape", [(20, 30), (31, 20), (20, 20), (33, 200), (401, 402), (64, 999)])
def test_the_view_has_the_size_asked_for_and_the_middle_in_its_middle(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2)
    image = np.repeat((255 * np.exp(-((distance / min(shape) * 4) ** 2))).astype(np.uint8)[..., None], 3, axis=2)
    view = resize_and_crop(image, 64)
    assert view.shape == (64, 64, 3) and view.flags.c_contiguous
    weights = view[..., 0].astype(float)
    centre = (np.indices((64, 64)) * weights).sum(axis=(1, 2)) / weights.sum()
    np.testing.assert_allclose(centre, 31.5, atol=1.0)
    np.testing.assert_allclose(weights, weights.T, atol=25)  # round as before: both sides scaled alike


def test_a_view_of_the_same_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_and_crop(image, 64), image)


# Windows of larger views


def test_zoomed_samples_are_windows_of_larger_marks_and_keep_the_blending_equation(photos, fonts):
    config = SampleConfig(image_size=48, zoom=4, unmarked=0, degraded=0)
    dataset = WatermarkDataset(photos * 4, config, fonts)
    drawn = samples(dataset)
    for sample in drawn:
        assert sample["clean"].shape == (3, 48, 48)
        alpha, mark = sample["alpha"], (1 - sample["alpha"]) * sample["clean"] + sample["alpha"] * sample["colour"]
        assert (sample["watermarked"] - mark).abs().max() <= 0.51 / 255
        assert torch.equal(sample["mask"] > 0, changed(sample) > 0) and (alpha[sample["mask"] > 0] > 0).all()
    assert np.mean([sample["mask"].any() for sample in drawn]) > 0.9, "windows are taken where the mark is"
    plain = samples(WatermarkDataset(photos * 4, replace(config, zoom=1.0), fonts))
    areas = [np.mean([sample["mask"].mean() for sample in group]) for group in (drawn, plain)]
    assert areas[0] > 1.3 * areas[1], "seen from nearer, a mark covers more of the window"
    assert all(same(a, b) for a, b in zip(drawn[:6], samples(dataset)[:6], strict=True))


def test_sharp_windows_have_the_larger_mark_over_the_photograph_as_it_is_without_a_zoom(photos, fonts):
    config = SampleConfig(image_size=48, zoom=4, unmarked=0, degraded=0)
    groups = {
        name: samples(WatermarkDataset(photos * 6, replace(config, **options), fonts))
        for name, options in {"sharp": {"sharp": 1.0}, "zoomed": {}, "plain": {"zoom": 1.0}}.items()
    }
    for sample in groups["sharp"]:
        mark = (1 - sample["alpha"]) * sample["clean"] + sample["alpha"] * sample["colour"]
        assert sample["clean"].shape == (3, 48, 48) and (sample["watermarked"] - mark).abs().max() <= 0.51 / 255
    slope = {name: np.mean([s["clean"].diff(dim=2).abs().mean() for s in group]) for name, group in groups.items()}
    area = {name: np.mean([s["mask"].mean() for s in group]) for name, group in groups.items()}
    assert slope["sharp"] > 0.9 * slope["plain"] and slope["zoomed"] < 0.8 * slope["plain"]
    assert area["sharp"] > 1.3 * area["plain"]
    some = samples(WatermarkDataset(photos * 6, replace(config, sharp=0.5), fonts))
    assert 0.75 * slope["plain"] < np.mean([s["clean"].diff(dim=2).abs().mean() for s in some]) < slope["sharp"]


def test_a_zoom_leaves_fixed_samples_alone(photos, fonts):
    for zoomed, plain in zip(
        samples(WatermarkDataset(photos, replace(FIXED, zoom=3.0), fonts)),
        samples(WatermarkDataset(photos, FIXED, fonts)),
        strict=True,
    ):
        assert same(zoomed, plain)


def test_collages_are_made_of_the_photographs_of_the_set(tmp_path, fonts):
    """Photographs of one colour each: every pixel of a collage has one of those colours, and there are several."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (80, 60), colour).save(path)
    config = replace(RANDOM, collage=1.0, marks=WatermarkConfig(opacity=(0.2, 0.3), opaque_share=0.0))
    dataset = WatermarkDataset(paths * 4, config, fonts)
    mixed = 0
    for sample, again in zip(samples(dataset), samples(dataset), strict=True):
        assert sample["clean"].shape == (3, 64, 64) and same(sample, again)
        pixels = {tuple(pixel) for pixel in (255 * sample["clean"]).round().int().flatten(1).T.tolist()}
        assert pixels <= set(colours)
        mixed += len(pixels) > 1
    assert mixed >= 10


def test_a_collage_shows_each_photograph_whole(tmp_path):
    """Its quarters are red, green, blue and black: so is a quarter of each collage."""
    photo = np.zeros((60, 60, 3), np.uint8)
    photo[:30, :30, 0], photo[:30, 30:, 1], photo[30:, :30, 2] = 255, 255, 255
    Image.fromarray(photo).save(tmp_path / "a.png")
    for sample in samples(WatermarkDataset([tmp_path / "a.png"] * 12, replace(RANDOM, collage=1.0), FontBook({}))):
        np.testing.assert_allclose(sample["clean"].mean(dim=(1, 2)), 0.25, atol=0.04)


# Marks that are not laid by plain alpha


def test_marks_laid_by_other_modes_say_that_alpha_and_colour_do_not_tell_what_they_did(photos, fonts):
    marks = WatermarkConfig(modes_share=0.5, opacity=(0.6, 0.9), distorted_share=0)
    config, explained = replace(RANDOM, marks=marks), {0.0: [], 1.0: []}
    for sample in samples(WatermarkDataset(photos * 12, config, fonts)):
        by_alpha = (1 - sample["alpha"]) * sample["clean"] + sample["alpha"] * sample["colour"]
        error = (sample["watermarked"] - by_alpha).abs().max().item()
        explained[sample["plain"].item()].append(error <= 0.51 / 255)
        assert torch.equal(sample["mask"], changed(sample)), "mask and target are true whatever the mode"
    assert all(explained[1.0]) and np.mean(explained[0.0]) < 0.2
    assert 0.38 < len(explained[0.0]) / 144 < 0.62


def test_each_view_has_its_own_mode(photos, fonts):
    config = replace(RANDOM, marks=WatermarkConfig(modes_share=0.5))
    drawn = samples(WatermarkDataset(photos * 4, config, fonts))
    assert len({(sample["plain"].item(), sample["reference_plain"].item()) for sample in drawn}) == 4


def test_without_a_mark_alpha_is_known_whatever_the_mode(photos, fonts):
    config = replace(RANDOM, unmarked=1, marks=WatermarkConfig(modes_share=1))
    for sample in samples(WatermarkDataset(photos, config, fonts)):
        assert sample["plain"].item() == 1 and sample["reference_plain"].item() == 0


# Hard unmarked samples


def test_hard_samples_are_unmarked_and_as_many_as_configured(photos, fonts):
    config = replace(RANDOM, hard=0.3)
    drawn = samples(WatermarkDataset(photos * 30, config, fonts))
    hard = [sample for sample in drawn if not sample["alpha"].any()]
    assert 0.22 < len(hard) / len(drawn) < 0.38
    for sample in hard:
        assert torch.equal(sample["watermarked"], sample["clean"]) and not sample["mask"].any()
        assert sample["reference_mask"].any(), "the other view is marked, so that it can be the target"
    again = samples(WatermarkDataset(photos * 30, config, fonts))
    assert all(same(one, other) for one, other in zip(drawn[:40], again[:40], strict=True))


def test_the_unmarked_share_is_of_the_samples_that_are_not_hard(photos, fonts):
    config = replace(RANDOM, hard=0.5, unmarked=0.5)
    drawn = samples(WatermarkDataset(photos * 30, config, fonts))
    assert 0.67 < np.mean([not sample["alpha"].any() for sample in drawn]) < 0.83


def test_half_of_the_hard_samples_are_views_of_known_places(photos, fonts, tmp_path):
    """The place is green, and nothing else is."""
    Image.new("RGB", (120, 90), (0, 255, 0)).save(tmp_path / "green.png")
    place = Place(tmp_path / "green.png", (0.2, 0.2, 0.6, 0.7))
    config = replace(RANDOM, hard=1.0, hard_places=(place,))
    drawn = samples(WatermarkDataset(photos * 16, config, fonts))
    green = [torch.equal(s["clean"], torch.tensor([0.0, 1, 0])[:, None, None].expand(3, 64, 64)) for s in drawn]
    assert 0.4 < np.mean(green) < 0.6
    assert not any(sample["alpha"].any() for sample in drawn)


def test_settings_that_are_off_draw_nothing(photos, fonts):
    """Samples of settings that know nothing of modes and hard samples are what they were."""
    off = replace(RANDOM, hard=0.0, hard_places=(Place(photos[0], (0, 0, 1, 1)),))
    plain, other = (samples(WatermarkDataset(photos, config, fonts)) for config in (RANDOM, off))
    assert all(same(one, two) for one, two in zip(plain, other, strict=True))

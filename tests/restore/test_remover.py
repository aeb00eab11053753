"""Removing marks from photographs of any size: what changes, what does not, and by how much it is right."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from planted import Planted, gradient_energy, marked, photograph, planted, psnr_inside, solved
from safetensors.torch import save_file

from wmremoval.images import ImageError
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore import remover as remover_module
from wmremoval.restore.fastnet import FastNet
from wmremoval.restore.pyramid import search_factor, shrink, view_factors
from wmremoval.restore.regions import best_view, find_regions, stroke_width
from wmremoval.restore.remover import Remover, as_mask, load_remover
from wmremoval.restore.tiles import TiledNetwork, tiles
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS, load_model

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 70), (70, 1), (7, 9), (37, 61), (64, 64), (101, 640), (640, 50), (255, 257)]


# What changes and what does not


@pytest.mark.parametrize("height, width", SIZES)
def test_an_unmarked_photograph_of_any_size_is_returned_as_it_is(height, width):
    image = photograph(height, width)
    result = planted()(image)
    np.testing.assert_array_equal(result.image, image)
    assert result.mask.shape == (height, width) and not result.mask.any() and result.area == 0
    assert not np.shares_memory(result.image, image)


@pytest.mark.parametrize("height, width", [(100, 160), (301, 207), (90, 1200)])
def test_the_mark_goes_and_nothing_else_changes(height, width):
    watermarked, clean, mask = marked(height, width)
    before = watermarked.copy()
    result = planted()(watermarked)
    np.testing.assert_array_equal(watermarked, before)
    assert result.image.shape == watermarked.shape and result.image.dtype == np.uint8
    assert psnr_inside(result.image, clean, mask) > 40 > psnr_inside(watermarked, clean, mask)
    untouched = result.mask == 0
    np.testing.assert_array_equal(result.image[untouched], watermarked[untouched])
    assert (result.image != watermarked).any(axis=-1)[~untouched].all(), "the mask is where something changed"
    assert result.mask.dtype == np.float32 and result.mask.min() >= 0 and result.mask.max() <= 1
    assert (mask[~untouched] > 0).mean() > 0.95


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"])
def test_a_pil_image_comes_back_in_its_mode_and_size(mode):
    watermarked, _, _ = marked(80, 150)
    image = Image.fromarray(watermarked).convert(mode)
    image.info["dpi"] = (72, 72)
    before = image.tobytes()
    result = planted()(image)
    assert isinstance(result.image, Image.Image) and result.image.mode == mode and result.image.size == (150, 80)
    assert image.tobytes() == before and result.image is not image
    assert result.image.info.get("dpi") == (72, 72)


def test_a_path_gives_a_pil_image_and_a_list_a_list(tmp_path):
    watermarked, clean, mask = marked(80, 150)
    Image.fromarray(watermarked).save(tmp_path / "a.png")
    results = planted()([tmp_path / "a.png", str(tmp_path / "a.png"), watermarked])
    assert [type(result.image) for result in results] == [Image.Image, Image.Image, np.ndarray]
    for result in results:
        assert psnr_inside(np.asarray(result.image), clean, mask) > 40


def test_what_is_no_photograph_is_one_clear_line(tmp_path):
    remover = planted()
    (tmp_path / "text.png").write_text("no picture")
    for wrong, kind, name in (
        (tmp_path / "text.png", ImageError, r"text\.png"),
        (tmp_path / "missing.jpg", ImageError, r"missing\.jpg"),
        (np.zeros((4, 4), np.uint8), ValueError, r"\(H, W, 3\)"),
        (np.zeros((4, 4, 3)), ValueError, "uint8"),
        (7, ValueError, "int"),
    ):
        with pytest.raises(kind, match=name) as caught:
            remover(wrong)
        assert "\n" not in str(caught.value)


# A mask of one's own


def test_a_mask_limits_the_change_to_itself():
    watermarked, clean, mask = marked(120, 200)
    own = np.zeros((120, 200), np.uint8)
    own[:, :70] = 255
    for form in (own, own > 0, own / 255.0, Image.fromarray(own)):
        result = planted()(watermarked, mask=form)
        np.testing.assert_array_equal(result.image[:, 70:], watermarked[:, 70:])
        assert not result.mask[:, 70:].any()
        left = np.where(own > 0, mask, 0)
        assert psnr_inside(result.image, clean, left) > 40


def test_where_the_network_sees_nothing_the_mask_is_repainted_and_said_so():
    clean = photograph(90, 120)
    own = np.zeros((90, 120), np.uint8)
    own[40:46, 30:60] = 255
    spoiled = clean.copy()
    spoiled[own > 0] = (0, 250, 0)
    result = planted()(spoiled, mask=own)
    assert (result.image != spoiled).any(axis=-1)[own > 0].mean() > 0.9
    np.testing.assert_array_equal(result.image[own == 0], spoiled[own == 0])
    assert psnr_inside(result.image, clean, own) > psnr_inside(spoiled, clean, own) + 3
    assert any("repainted" in note for note in result.notes)


def test_a_mask_that_does_not_fit_is_refused():
    for wrong, reason in ((np.zeros((3, 4), np.uint8), "4, 3"), (np.zeros((9, 9), np.int64), "int64")):
        with pytest.raises(ValueError, match=reason):
            as_mask(wrong, (9, 9))
    assert as_mask(None, (9, 9)) is None


# Views and regions


def test_views_go_down_to_the_size_of_training():
    assert view_factors(96, 5000) == [1] and view_factors(192, 192) == [1, 2] and view_factors(1, 1) == [1]
    for height, width in ((3000, 4000), (4000, 6000), (10_000, 10_000)):
        share = 1 / search_factor(height, width) ** 2
        assert share <= 1 / 16 and share * height * width >= 0.5e6


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_shrunken_view_is_the_mean_of_its_pixels(factor):
    photo = photograph(53, 71)
    view = shrink(photo, factor)
    assert view.shape == (-(-53 // factor), -(-71 // factor), 3)
    rows, columns = 53 // factor, 71 // factor
    means = photo[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3).mean(axis=(1, 3))
    assert np.abs(view[:rows, :columns] - means).max() <= 0.51
    part = shrink(photo, factor, slice(2, 5), slice(1, 7))
    np.testing.assert_array_equal(part, view[2:5, 1:7])


@pytest.mark.parametrize("width", [2, 5, 9, 20, 40])
def test_the_width_of_a_bar_is_measured(width):
    bar = np.zeros((width + 20, 300), np.uint8)
    bar[10 : 10 + width, 20:280] = 1
    assert stroke_width(bar) == pytest.approx(width, rel=0.3, abs=1)


def test_broad_strokes_are_restored_on_a_shrunken_view():
    factors = [1, 2, 4, 8]
    assert [best_view(stroke, factors) for stroke in (3, 40, 41, 159, 500)] == [1, 1, 2, 4, 8]
    probability = np.zeros((200, 300), np.uint8)
    probability[20:23, 20:120] = 255  # a thin line
    probability[100:150, 100:250] = 255  # a broad bar
    probability[190:192, 250:252] = 255  # too small for a mark
    probability[10:14, 200:290] = 200  # found, but never sure
    probability[40:44, 200:290] = 200  # sure only here and there
    probability[41, 200:290:2] = 255
    regions = find_regions(probability, 1, factors)
    assert sorted(region.factor for region in regions.found) == [1, 2]
    assert {region.area for region in regions.found} == {300, 7500}
    assert all(regions.labels[y, x] == 0 for y, x in ((191, 251), (12, 250), (42, 250)))


def test_a_mark_that_touches_texture_is_found_without_it():
    probability = np.zeros((200, 300), np.uint8)
    probability[20:120, 20:120] = 200  # texture: found, but not surely
    probability[119:123, 60:110] = 255  # a line at its edge
    regions = find_regions(probability, 1, [1, 2])
    (region,) = regions.found
    assert type(region.area) is int  # a report is JSON, which knows no numpy numbers
    assert region.factor == 1 and (regions.labels[119:123, 60:110] == region.label).all()
    assert not regions.labels[:110].any()
    probability[119:123] = 0
    probability[60:64, 20:120] = 255  # within the texture: of the 10 rows around it that are found, 4 are sure
    assert not find_regions(probability, 1, [1, 2]).found


# Tiles


@pytest.mark.parametrize("height, width, core, step", [(300, 200, 96, 8), (65, 500, 64, 48), (10, 10, 480, 48)])
def test_tiles_cover_every_pixel_once_and_begin_on_the_grid(height, width, core, step):
    count = np.zeros((height, width), int)
    for tile in tiles((0, 0, height, width), (height, width), core, step):
        count[tile.kept] += 1
        assert all(part.start % step == 0 for part in tile.shown)
        for kept, shown, inner, size in zip(tile.kept, tile.shown, tile.inner, (height, width), strict=True):
            assert shown.start + inner.start == kept.start and kept.stop - kept.start == inner.stop - inner.start
            assert shown.start == 0 or kept.start - shown.start >= 64
            assert shown.stop == size or shown.stop - kept.stop >= 64
    assert (count == 1).all()


def test_tiles_of_a_box_are_no_larger_than_it_needs():
    covered = np.zeros((1000, 900), bool)
    for tile in tiles((300, 410, 700, 500), (1000, 900), 480, 48):
        covered[tile.kept] = True
        assert tile.kept[1].start >= 410 - 47 and tile.kept[1].stop <= 500 + 47
        assert all(part.start % 48 == 0 for part in tile.shown)
    assert covered[300:700, 410:500].all() and covered.sum() < (400 + 96) * (90 + 96)


def random_net(seed: int = 0) -> HeterogeneousUNet:
    """Random weights with random statistics, so that its answer depends on everything."""
    torch.manual_seed(seed)
    net = HeterogeneousUNet(decompose=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def stitched(net: TiledNetwork, photo: np.ndarray) -> dict[str, np.ndarray]:
    height, width = photo.shape[:2]
    whole = {name: np.zeros((height, width, 3), np.float32) for name in ("image", "colour")}
    whole |= {name: np.zeros((height, width), np.float32) for name in ("mask", "alpha")}
    for tile, prediction in net.predict_tiles((0, 0, height, width), (height, width), lambda block: photo[block]):
        for name, target in whole.items():
            target[tile.kept] = getattr(prediction, name)[tile.inner]
    return whole


def test_without_attention_tiles_equal_the_whole():
    photo = photograph(280, 300)
    net = FastNet(random_net(), attention=False)
    small, large = (stitched(TiledNetwork(net, CPU, core), photo) for core in (96, 4096))
    for name, expected in large.items():
        assert np.abs(small[name] - expected).max() <= 1 / 255, name


def test_with_attention_there_is_no_step_at_the_joins():
    photo = np.ascontiguousarray(skimage.data.coffee()[50:242, 100:292])
    net = FastNet(
        load_model(SHIPPED_WEIGHTS)[0], window=6
    )  # trained: what random weights attend to is lost in rounding
    tiled, whole = (stitched(TiledNetwork(net, CPU, core, step=24), photo)["mask"] for core in (96, 4096))
    differ = tiled - whole
    assert np.abs(differ).max() > 0.003, "attention does reach from tile to tile"
    for axis in (0, 1):
        steps = np.abs(np.diff(differ, axis=axis)).mean(axis=1 - axis)
        assert steps[95] < 0.002  # of the mask's probability; 0.04 and more with a margin of 32 px


def test_a_tile_that_does_not_fit_is_halved_and_tried_again(log):
    class Tight(Planted):
        def parts(self, watermarked):
            if watermarked.shape[-1] > 330:
                raise torch.OutOfMemoryError
            return super().parts(watermarked)

    watermarked, _, _ = marked(700, 700, 2.0, origin=(40, 400))
    expected = planted()(watermarked).image
    remover = Remover(Tight(), CPU, core=480)
    np.testing.assert_array_equal(remover(watermarked).image, expected)
    assert log.messages == ["out of memory on cpu: going on with tiles of 240 px", "out of memory on cpu: going on with tiles of 120 px"]  # fmt: skip

    class Full(Planted):
        def parts(self, watermarked):
            raise torch.OutOfMemoryError

    with pytest.raises(MemoryError, match="--device cpu"):
        Remover(Full(), CPU)(watermarked)


# Scale


def test_large_marks_are_found_shrunken_and_restored_with_native_detail():
    """The same mark, 1 to 8 times as large, on photographs of the same grain."""
    scores = {}
    for n in (1, 2, 4, 8):
        watermarked, clean, mask = marked(256 * n, 256 * n, 1.7 * n, origin=(15 * n, 150 * n))
        result = planted()(watermarked)
        assert max(region.factor for region in result.regions) in (max(1, n // 4), max(1, n // 2))
        scores[n] = psnr_inside(result.image, clean, mask)
        assert gradient_energy(result.image, mask) == pytest.approx(gradient_energy(clean, mask), rel=0.1)
        assert (result.mask[mask > 0] > 0).mean() > 0.95
    assert min(scores.values()) > 30, scores


def test_native_tiles_run_only_where_something_was_found():
    watermarked, _, _ = marked(2400, 2400, 1.5, origin=(1200, 1200))
    remover = planted()
    remover(watermarked)
    shown = sum(height * width for height, width in remover.net.net.shown)
    assert shown < 0.25 * 2400 * 2400
    remover = planted()
    remover(photograph(2400, 2400))
    assert sum(height * width for height, width in remover.net.net.shown) < 0.1 * 2400 * 2400 * 1.33


# Loading


def test_without_weights_or_with_wrong_ones_nothing_runs(tmp_path, monkeypatch):
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other.safetensors", "text.safetensors", "missing.safetensors", "missing.pth"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
            load_remover(tmp_path / name)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(remover_module, "SHIPPED_WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="--weights"):
        load_remover()
    for options in ({"device": "tpu"}, {"precision": "int4"}, {"max_memory": 10}):
        save_file(random_net().state_dict(), tmp_path / "good.safetensors", {"decompose": "true", "composite": "true"})
        with pytest.raises(ValueError, match=next(iter(options)).replace("_", ".")):
            load_remover(tmp_path / "good.safetensors", **options)


def test_loaded_weights_give_the_networks_own_answer(tmp_path):
    net, photo = random_net(), photograph(64, 96)
    form = {"decompose": "true", "composite": "true", "image_size": "512"}
    save_file(net.state_dict(), tmp_path / "net.safetensors", form)
    maps = load_remover(tmp_path / "net.safetensors", "cpu", precision="float32").net.predict(photo)
    with torch.inference_mode():
        parts = net.parts(torch.from_numpy(photo.transpose(2, 0, 1))[None] / 255)
    np.testing.assert_allclose(maps.image, parts.image[0].permute(1, 2, 0).numpy(), atol=1e-4)
    np.testing.assert_allclose(maps.alpha, parts.alpha[0, 0].numpy(), atol=1e-4)


def test_networks_without_a_mark_head_restore_too():
    class Plain(Planted):
        def parts(self, watermarked):
            return super().parts(watermarked)._replace(alpha=None, colour=None, trust=None)

    watermarked, clean, mask = marked(512, 512, 3.4, origin=(30, 300))
    result = Remover(Plain(), CPU)(watermarked)
    assert psnr_inside(result.image, clean, mask) > psnr_inside(watermarked, clean, mask) + 6


def test_the_inference_path_does_not_import_what_training_needs():
    code = (
        "import sys, wmremoval.restore.remover, wmremoval.batch.run, wmremoval.cli.remove;"
        "print(sorted({'torchvision', 'kornia', 'albumentations', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux")
def test_100_megapixels_stay_under_the_memory_limit(tmp_path):
    """A whole run of its own: reading, searching, restoring, writing; the planted network stands for the real one."""
    tile = np.tile(photograph(1000, 1000), (10, 1, 1))
    image = Image.new("RGB", (10_000, 10_000))
    for left in range(0, 10_000, 1000):
        image.paste(Image.fromarray(tile), (left, 0))
    watermarked = marked(1000, 1000, 3.0, origin=(200, 500))[0]
    image.paste(Image.fromarray(watermarked), (4000, 3000))
    image.save(tmp_path / "large.jpg", quality=98, subsampling=0)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from planted import planted\n"
        "from pathlib import Path; from wmremoval.batch.run import remove_watermarks; from wmremoval.batch.jobs import Places, plan_jobs\n"
        "jobs = plan_jobs([Path(sys.argv[2])], Places(Path(sys.argv[3]))).jobs\n"
        "outcome, = remove_watermarks(jobs, planted())\n"
        "assert outcome.status == 'restored', outcome\n"
        # Not ru_maxrss: that begins at what the process held which started this one.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parents[1]), tmp_path / "large.jpg", tmp_path / "out"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) / 1e3 < 2000  # MB


# A second opinion


def test_a_marked_tile_gets_a_second_opinion_of_its_mirror_image_and_only_a_marked_one():
    watermarked, clean, mask = marked(96, 128)
    remover = planted()
    result = remover(watermarked)
    assert remover.net.net.shown == [(96, 128)] * 2 + [(77, 102)], "the last is the confirmation's smaller prediction"
    assert psnr_inside(result.image, clean, mask) > 45
    alone = planted()
    alone(clean)
    assert alone.net.net.shown == [(96, 128)]
    half_blind = planted().net
    half_blind.net.blind = 64  # sees nothing in the left half; its mirror image does
    assert half_blind.predict(watermarked).mask[:, :64].max() < 0.01
    seen = watermarked[:, :64, 2] > 0.03 * 255  # blue is alpha
    np.testing.assert_array_equal(solved(half_blind, watermarked).mask[:, :64] > 0.49, seen)


@pytest.mark.parametrize(("without", "shown"), [((), 2), (("mirror",), 1), (("mirror", "fill"), 1), (("fill",), 2)])
def test_steps_after_the_network_can_be_left_out(without, shown):
    class Dark(Planted):
        """Its image is black; alpha and colour are right."""

        def parts(self, watermarked):
            parts = super().parts(watermarked)
            return parts._replace(image=0 * parts.image)

    remover = Remover(Dark(), CPU)
    last = solved(remover.net, marked(64, 96)[0], without)
    assert len(remover.net.net.shown) == shown
    assert (last.image.max() == 0) == ("fill" in without), "only filling composes the image anew"


# Without colour


class Coloured(Planted):
    """Finds what is bright, and gives a coloured restoration."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        logits = torch.where(watermarked[:, :1] > 0.8, 12.0, -12.0)
        image = torch.stack([watermarked[:, 0] * 0.3, watermarked[:, 1] * 0.4, watermarked[:, 2] * 0.5], 1)
        return parts._replace(mask_logits=logits, image=image, alpha=0 * parts.alpha + 0.9, colour=image)


@pytest.mark.parametrize("tint", [0, 1])
def test_a_photograph_without_colour_stays_without(tint):
    photo = np.full((96, 128, 3), 90, np.uint8)
    photo[40:56, 30:90] = 250
    photo[80, 100, 2] += tint  # one pixel with colour is colour
    remover = Remover(Coloured(), CPU)
    remover.without = frozenset({"outline", "confirmation", "fill"})
    result = remover(photo)
    assert (result.image[40:56, 30:90] != 250).any()
    assert (np.ptp(result.image[40:56, 30:90].astype(int), axis=-1) > 0).any() == bool(tint)

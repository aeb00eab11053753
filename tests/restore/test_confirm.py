"""More looks at what a first one found: what they cost, what they compare, and what they leave alone."""

import cv2
import numpy as np
import pytest
import torch
from planted import Backwards, Planted, ensemble_of, marked, photograph, planted, psnr_inside

from wmremoval.data.marks import Mark, blend
from wmremoval.model import HeterogeneousUNet, invert
from wmremoval.restore.confirm import (
    FINER_HALF_SIDE,
    PART_CONFIRMED,
    Confirmation,
    confirm,
    is_backdrop,
    needed_share,
    outline_steps,
)
from wmremoval.restore.ensemble import Ensemble
from wmremoval.restore.fastnet import FastNet
from wmremoval.restore.prediction import Prediction
from wmremoval.restore.pyramid import Pyramid
from wmremoval.restore.regions import Region, Regions, find_regions, stroke_width
from wmremoval.restore.remover import Remover
from wmremoval.restore.search import Search
from wmremoval.restore.tiles import TiledNetwork

CPU = torch.device("cpu")


class Wavering(Planted):
    """Sees marks in every other picture it is shown: at first sight, but not mirrored."""

    def parts(self, watermarked):
        self.blind = watermarked.shape[-1] if len(self.shown) % 2 else 0
        return super().parts(watermarked)


def test_what_only_one_of_two_looks_is_sure_of_is_left_alone():
    watermarked, _, mask = marked(96, 128)
    result = Remover(Wavering(), CPU)(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert not result.mask.any() and result.regions == []
    told = Remover(Wavering(), CPU)(watermarked, mask=mask > 0)
    assert (told.image != watermarked).any() and told.regions, "the user knows better"


class OneSize(Planted):
    """Sees marks in pictures of the first one's width only, as texture looks like a mark at one size."""

    def parts(self, watermarked):
        width = watermarked.shape[-1]
        self.blind = width if self.shown and width != self.shown[0][1] else 0
        return super().parts(watermarked)


def test_what_a_smaller_look_does_not_see_is_left_alone():
    watermarked, _, _ = marked(96, 128)
    remover = Remover(OneSize(), CPU)
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert not result.mask.any() and result.regions == []
    assert remover.net.net.shown == [(96, 128), (96, 128), (77, 102)], "two looks agreed, the third at 0.8 did not"


def test_only_the_region_in_doubt_is_left_alone(monkeypatch):
    watermarked, _, _ = marked(700, 300, 1.0, origin=(40, 60))
    second = marked(700, 300, 1.0, origin=(40, 640))[0]
    watermarked[400:] = second[400:]
    remover = planted()
    whole = remover(watermarked)
    assert len(whole.regions) == 2
    below = max(whole.regions, key=lambda region: region.box[0])
    monkeypatch.setattr(Confirmation, "confidence", lambda self, region, *least: float(region.label != below.label))
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image[400:], watermarked[400:])
    np.testing.assert_array_equal(result.image[:400], whole.image[:400])
    assert not result.mask[400:].any() and result.mask[:400].any() and len(result.regions) == 1


def confirmed(ensemble: Ensemble) -> Regions:
    return confirm(ensemble, ensemble.searched.probability)


def shown_by_confirmation(remover, photo):
    """Shapes of the views that the network is shown to confirm, beyond the search."""
    ensemble = ensemble_of(remover.net, photo)
    before = len(remover.net.net.shown)
    confirmed(ensemble)
    return remover.net.net.shown[before:]


def confirmation_of(photo, regions: list[Region], labels=None, net=None) -> Confirmation:
    """The confirmation of given regions of a photograph; without labels they fill it."""
    labels = np.ones(photo.shape[:2], np.int32) if labels is None else labels
    ensemble = ensemble_of(net or planted().net, photo)
    return Confirmation(ensemble, Regions(1, [1], labels, regions))


def test_the_second_look_at_a_small_place_is_the_mean_of_both_looks_at_the_whole():
    torch.manual_seed(0)
    net = HeterogeneousUNet(decompose=True).eval()
    tiled = TiledNetwork(FastNet(net, attention=False), CPU)
    photo = marked(480, 480, 1.0)[0]
    region = Region(1, (160, 200, 190, 260), 1, 1)
    [(part, mask)] = confirmation_of(photo, [region], net=tiled).two_predictions(region, 1)
    assert part[0].start <= 160 and part[0].stop >= 190 and part[1].start <= 200 and part[1].stop >= 260
    assert (part[0].stop - part[0].start) * (part[1].stop - part[1].start) < 480 * 480 / 8
    one, other = tiled.predict(photo).mask, tiled.predict(photo[:, ::-1].copy()).mask[:, ::-1]
    np.testing.assert_allclose(mask, ((one + other) / 2)[part], atol=0.006)
    assert mask.std() > 0, "a constant would prove nothing"


def test_a_small_place_is_looked_at_alone_and_a_large_one_with_its_tile_which_is_used_again():
    small, cover = marked(480, 480, 1.0, origin=(200, 240))[0], np.zeros((480, 480), np.float32)
    cv2.rectangle(cover, (60, 60), (420, 420), 0.6, 16)
    large = blend(photograph(480, 480), Mark(cover, np.ones((480, 480, 3), np.float32)))[0]
    remover = planted()
    seconds = shown_by_confirmation(remover, small)
    assert len(seconds) == 2 and np.prod(seconds[0]) < 480 * 480 / 2
    assert seconds[1] == tuple(round(0.8 * side) for side in seconds[0]), "the same place, smaller"
    remover = planted()
    seconds = shown_by_confirmation(remover, large)
    assert seconds == [(480, 480), (384, 384)]
    remover = planted()
    remover(large)
    assert remover.net.net.shown.count((480, 480)) == 2, "one look, one mirrored, and none more to restore from"
    assert remover.net.net.shown.count((384, 384)) == 1


def test_many_small_places_cost_no_more_looks_than_the_whole_view_does():
    """A page of text has dozens of small regions; each one alone would be looked at twice."""
    cover = np.zeros((480, 480), np.float32)
    for y in range(20, 450, 60):
        for x in range(20, 450, 60):
            cv2.rectangle(cover, (x, y), (x + 20, y + 20), 0.6, 4)
    page = blend(photograph(480, 480), Mark(cover, np.ones((480, 480, 3), np.float32)))[0]
    remover = planted()
    regions = confirmed(ensemble_of(remover.net, page)).found
    assert len(regions) == 64, "every one is confirmed"
    remover = planted()
    assert shown_by_confirmation(remover, page) == [(480, 480), (384, 384)]


class Native(Planted):
    """Sees nothing in views of the photograph's own size: the grain of green tells them apart."""

    def parts(self, watermarked):
        rough = (watermarked[:, 1, :, 1:] - watermarked[:, 1, :, :-1]).abs().mean()
        self.blind = watermarked.shape[-1] if rough > 0.1 else 0
        return super().parts(watermarked)


def test_what_is_not_seen_in_the_view_it_would_be_restored_in_is_left_alone_at_the_cost_of_a_sample():
    watermarked, _, _ = marked(2400, 2400, 2.0, origin=(1000, 1200))
    watermarked[..., 1] = np.where(np.indices((2400, 2400)).sum(0) % 2, 250, 0)  # grain that no shrunken view has
    remover, sighted = Remover(Native(), CPU), planted()
    assert sighted(watermarked).regions and {region.factor for region in sighted(watermarked).regions} == {1}
    seconds = shown_by_confirmation(remover, watermarked)
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert result.regions == [] and max(map(max, seconds)) <= 2 * FINER_HALF_SIDE + 2 * 64 + 2 * 8


def test_only_marks_that_convince_keep_their_labels(monkeypatch):
    watermarked = marked(700, 300, 1.0, origin=(40, 60))[0]
    watermarked[400:] = marked(700, 300, 1.0, origin=(40, 640))[0][400:]
    remover = planted()
    ensemble = ensemble_of(remover.net, watermarked)
    both = confirmed(ensemble)
    first = both.found[0]
    monkeypatch.setattr(
        Confirmation, "confidence", lambda self, region, *least: first.confidence * (region.label == first.label)
    )
    one = confirmed(ensemble)
    assert len(both.found) == 2 and one.found == [first]
    np.testing.assert_array_equal(one.labels, np.where(both.labels == first.label, both.labels, 0))


def test_a_mark_in_a_region_that_is_refused_is_judged_without_the_rest(monkeypatch):
    probability = np.zeros((200, 300), np.uint8)
    probability[20:120, 20:100] = 200  # texture, of which the network is sure in half
    probability[20:120, 20:60] = 240
    probability[116:124, 92:152] = 255  # a plain mark at its edge
    judged = []

    def judge(self, region, least=0.0):
        judged.append((region.area, least))
        return least == PART_CONFIRMED and region.box[1] > 80

    monkeypatch.setattr(Confirmation, "confidence", judge)
    searched = Search(Pyramid(np.zeros((200, 300, 3), np.uint8)), probability)
    regions = confirmed(Ensemble(planted().net, searched))
    assert judged[0] == (8000 + 480 - 32, 0.0) and len(judged) == 2, "all together, then one part: half is no part"
    (mark,) = regions.found
    assert judged[1][1] == PART_CONFIRMED and 480 <= mark.area < 600, "with the texture within three pixels of it"
    wanted = np.zeros(probability.shape, bool)
    wanted[116:124, 92:152] = True
    found = regions.labels == mark.label
    assert found[wanted].all() and not found[:112].any() and not found[:, :88].any()
    top, left, bottom, right = mark.box
    assert found[top:bottom, left:right].sum() == found.sum() == (regions.labels > 0).sum()


@pytest.mark.parametrize("touched, needed", [(10, 0.05), (64, 0.05), (174, 0.21), (473, 0.37), (4096, 0.715)])
def test_the_more_is_at_stake_the_larger_the_share_all_looks_must_be_sure_of(monkeypatch, touched, needed):
    """By hand, of 64 x 64 pixels: 0.05, and 0.16 more for e times as many above a 64th of them."""
    assert needed_share(touched / 4096) == pytest.approx(needed, abs=1e-3)
    photo = photograph(64, 64)
    region = Region(1, (0, 0, 64, 64), 1, touched)
    confirmation = confirmation_of(photo, [region])
    for share, confirmed in ((needed - 0.05, False), (needed + 0.08, True)):
        mask = np.zeros(4096, np.float32)
        mask[:touched], mask[: round(share * touched)] = 0.5, 0.95
        both = [((slice(0, 64), slice(0, 64)), mask.reshape(64, 64))]
        monkeypatch.setattr(confirmation, "two_predictions", lambda *about, both=both: iter(both))
        monkeypatch.setattr(confirmation, "smaller", lambda *about, mask=mask: mask.reshape(64, 64))
        sure = confirmation.confidence(region)
        assert sure == (pytest.approx(round(share * touched) / touched) if confirmed else 0)
        strictly = confirmation.confidence(region, PART_CONFIRMED)
        assert bool(strictly) == (share > max(PART_CONFIRMED, needed))


@pytest.mark.parametrize("third, confirmed", [(0.82, True), (0.78, False), (0.0, False)])
def test_a_third_look_counts_as_much_as_each_of_the_two_before(monkeypatch, third, confirmed):
    """By hand: of 0.95, 0.95 and 0.82 the mean is 0.907, over the 0.9 of a sure pixel; with 0.78 it is 0.893."""
    photo, region = photograph(64, 64), Region(1, (0, 0, 64, 64), 1, 64)
    mask = np.zeros((64, 64), np.float32)
    mask[:8, :8] = 0.95
    confirmation = confirmation_of(photo, [region])
    monkeypatch.setattr(confirmation, "two_predictions", lambda *about: iter([((slice(0, 64),) * 2, mask)]))
    monkeypatch.setattr(confirmation, "smaller", lambda *about: np.full((64, 64), third, np.float32))
    assert bool(confirmation.confidence(region)) == confirmed


def test_the_smaller_look_sees_the_same_place_turned_back():
    """A network that calls bright pixels marked: the smaller look's mask lies where the brightness is."""

    class Bright(Planted):
        def parts(self, watermarked):
            parts = super().parts(watermarked)
            return parts._replace(mask_logits=20 * (watermarked.mean(1, keepdim=True) - 0.5))

    photo = np.zeros((200, 240, 3), np.uint8)
    photo[120:160, 40:90] = 255
    confirmation = confirmation_of(photo, [], net=TiledNetwork(Bright(), CPU))
    mask = confirmation.smaller(1, (slice(96, 184), slice(16, 120)))
    wanted = (photo[96:184, 16:120, 0] > 0).astype(np.float32)
    assert mask.shape == wanted.shape and np.abs(mask - wanted).mean() < 0.02


def test_regions_whose_places_are_one_share_the_smaller_look():
    watermarked, _, _ = marked(96, 128)
    net = planted().net
    labels = np.repeat([[1] * 64 + [2] * 64], 96, axis=0).astype(np.int32)
    regions = [Region(1, (0, 0, 96, 64), 1, 1), Region(2, (0, 64, 96, 128), 1, 1)]
    confirmation = confirmation_of(watermarked, regions, labels, net)
    confidence = [confirmation.confidence(region) for region in regions]
    assert net.net.shown.count((77, 102)) == 1 and min(confidence) > 0
    for region, shared in zip(regions, confidence, strict=True):
        assert confirmation_of(watermarked, [region], labels, net).confidence(region) == shared
    assert net.net.shown.count((77, 102)) == 3, "and another photograph's is not taken for it"


def test_a_find_of_which_two_looks_together_leave_nothing_is_no_mark(monkeypatch):
    region, faint = Region(1, (0, 0, 64, 64), 1, 100), np.full((64, 64), 0.2, np.float32)
    confirmation = confirmation_of(photograph(64, 64), [region])
    monkeypatch.setattr(confirmation, "two_predictions", lambda *about: iter([((slice(0, 64),) * 2, faint)]))
    assert not confirmation.confidence(region)


# The outline, after all looks


def striped(step: float) -> tuple[np.ndarray, np.ndarray]:
    """A grey photograph whose right half is lighter by `step`, and that half."""
    mask = np.zeros((40, 60), np.float32)
    mask[:, 30:] = 1
    return np.repeat(0.2 + step * mask[..., None], 3, axis=-1).astype(np.float32), mask


def test_the_step_along_an_outline_is_the_distance_between_its_sides():
    (photo, mask), (image, _) = striped(0.3), striped(0.1)
    maps = Prediction(photo, image, mask, mask, photo)
    # Of seven pixels across, 2 to 5 are inside in four columns; one and six are too few of a side.
    before, after = outline_steps(maps, mask > 0, np.s_[:, :])
    assert before == pytest.approx(40 * 4 * 0.3 * np.sqrt(3), rel=1e-4)
    assert after == pytest.approx(40 * 4 * 0.1 * np.sqrt(3), rel=1e-4)
    np.testing.assert_allclose(outline_steps(maps, mask < 0, np.s_[:, :]), 0)
    upper, lower = (outline_steps(maps, mask > 0, np.s_[rows, :]) for rows in (slice(0, 13), slice(13, 40)))
    np.testing.assert_allclose(upper + lower, (before, after), rtol=1e-5)


def test_texture_on_both_sides_of_an_outline_hardly_counts():
    (photo, mask), (image, _) = striped(0.3), striped(0.0)
    texture = 0.2 * np.random.default_rng(0).standard_normal((40, 60, 3)).astype(np.float32)
    before, after = outline_steps(Prediction(photo, image + texture, mask, mask, photo), mask > 0, np.s_[:, :])
    assert after < 0.35 * before
    steepness = [np.abs(np.diff(x[:, 26:34], axis=1)).sum() for x in (photo, image + texture)]
    assert steepness[1] > steepness[0], "the sum of gradients would say the contrary"


def test_what_keeps_its_outline_is_put_back():
    watermarked, _, mask = marked(96, 128, alpha=0.3)
    remover = Remover(Backwards(), CPU)
    assert confirmed(ensemble_of(remover.net, watermarked)).found, "all predictions agree that there is a mark"
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert not result.mask.any() and result.regions == []
    told = remover(watermarked, mask=mask > 0)
    assert (told.image != watermarked).any() and told.regions, "the user knows better"


class Timid(Planted):
    """Takes a mark off by a quarter only: three quarters of its outline are left."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        alpha = 0.25 * parts.alpha
        return parts._replace(alpha=alpha, image=invert(watermarked, alpha, parts.colour))


@pytest.mark.parametrize("sure, kept", [(0.3, False), (0.5, True), (1.0, True)])
def test_the_surer_all_looks_are_the_more_of_an_outline_may_be_left(monkeypatch, sure, kept):
    watermarked, _, _ = marked(96, 128, alpha=0.3)
    remover = Remover(Timid(), CPU)
    monkeypatch.setattr(Confirmation, "confidence", lambda self, region, *least: sure)
    result = remover(watermarked)
    assert bool(result.regions) == kept == bool((result.image != watermarked).any())
    assert [region.confidence for region in result.regions] == [sure] * kept


def test_only_the_region_that_keeps_its_outline_is_put_back():
    watermarked, clean, mask = marked(700, 300, 1.0, origin=(40, 60))
    second = marked(700, 300, 1.0, origin=(40, 640))[0]
    watermarked[400:] = second[400:]

    class Half(Backwards):
        def parts(self, watermarked):
            wrong, right = super().parts(watermarked), Planted.parts(self, watermarked)
            upper = torch.arange(watermarked.shape[-2]) * 700 // watermarked.shape[-2] < 350
            mixed = (torch.where(upper[:, None], a, b) for a, b in zip(right[:6], wrong[:6], strict=True))
            return type(right)(*mixed)

    result = Remover(Half(), CPU)(watermarked)
    np.testing.assert_array_equal(result.image[400:], watermarked[400:])
    assert psnr_inside(result.image, clean, mask) > psnr_inside(watermarked, clean, mask) + 10
    assert len(result.regions) == 1 and not result.mask[400:].any()


@pytest.mark.parametrize("area, stroke, backdrop", [(0.6, 60, True), (0.6, 20, False), (0.1, 60, False)])
def test_a_backdrop_is_large_and_broad(area, stroke, backdrop):
    region = Region(1, (0, 0, 200, 300), 1, int(area * 200 * 300), stroke=stroke)
    assert is_backdrop(region, (200, 300)) == backdrop


def test_the_stroke_of_a_region_is_that_of_its_mask():
    probability = np.zeros((200, 300), np.uint8)
    probability[50:150, 20:280] = 255
    (region,) = find_regions(probability, 1, [1]).found
    assert region.stroke == pytest.approx(stroke_width((probability > 0).astype(np.uint8))) and region.stroke > 60

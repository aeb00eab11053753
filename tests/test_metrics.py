"""PSNR, SSIM, RMSE, IoU, F1 and the local maps, against scikit-image on real photographs and by hand."""

import math

import numpy as np
import pytest
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wmremoval.metrics import PSNR_CAP, local_psnr_map, local_ssim_map, mask_f1, mask_iou, mse, psnr, rmse, ssim

SSIM_OPTIONS = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
    "channel_axis": 2,
}


def photo(name: str, height: int = 96, width: int = 120) -> np.ndarray:
    return np.float32(getattr(skimage.data, name)()[100 : 100 + height, 150 : 150 + width]) / np.float32(255)


def noisy(image: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, strength, image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32)


def batch(*arrays: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def pairs():
    """Three photographs and what noise of three strengths makes of them."""
    clean = [photo(name) for name in ("astronaut", "chelsea", "coffee")]
    return clean, [noisy(image, strength) for image, strength in zip(clean, (0.01, 0.1, 0.4), strict=True)]


def test_psnr_equals_scikit_image_on_photographs(pairs):
    clean, bad = pairs
    wanted = [peak_signal_noise_ratio(c, b, data_range=1.0) for c, b in zip(clean, bad, strict=True)]
    assert psnr(batch(*bad), batch(*clean)).tolist() == pytest.approx(wanted, abs=1e-3)


def test_ssim_equals_scikit_image_on_photographs(pairs):
    clean, bad = pairs
    wanted = [structural_similarity(c, b, **SSIM_OPTIONS) for c, b in zip(clean, bad, strict=True)]
    assert min(wanted) < 0.5 < 0.9 < max(wanted)
    assert ssim(batch(*bad), batch(*clean)).tolist() == pytest.approx(wanted, abs=2e-5)


def test_ssim_equals_scikit_image_for_inverted_contrast(pairs):
    clean = pairs[0][0]
    wanted = structural_similarity(clean, 1 - clean, **SSIM_OPTIONS)
    assert wanted < 0
    assert ssim(batch(1 - clean), batch(clean)).item() == pytest.approx(wanted, abs=2e-5)


def test_rmse_is_in_grey_levels(pairs):
    clean, bad = pairs
    wanted = [255 * np.sqrt(np.mean((c - b) ** 2, dtype=np.float64)) for c, b in zip(clean, bad, strict=True)]
    assert rmse(batch(*bad), batch(*clean)).tolist() == pytest.approx(wanted, rel=1e-4)


def test_an_error_of_a_tenth_is_20_db_and_25_and_a_half_grey_levels():
    clean = torch.full((2, 3, 16, 16), 0.4)
    assert psnr(clean + 0.1, clean).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert rmse(clean + 0.1, clean).tolist() == pytest.approx([25.5, 25.5], abs=1e-3)


def test_the_mean_over_images_is_not_the_pooled_psnr():
    clean = torch.zeros(2, 3, 8, 8)
    pred = torch.stack([torch.full((3, 8, 8), 0.01), torch.full((3, 8, 8), 0.1)])  # MSE 1e-4 and 1e-2
    assert psnr(pred, clean).tolist() == pytest.approx([40.0, 20.0], abs=1e-3)
    assert psnr(pred, clean).mean().item() == pytest.approx(30.0, abs=1e-3)  # pooled it would be 22.97


def test_an_exact_image_has_infinite_psnr_no_error_and_ssim_one(pairs):
    x = batch(pairs[0][0])
    assert psnr(x, x).item() == math.inf
    assert rmse(x, x).item() == 0
    assert ssim(x, x).item() == pytest.approx(1.0, abs=1e-6)


def test_every_metric_is_one_number_an_image(pairs):
    clean, bad = batch(*pairs[0]), batch(*pairs[1])
    for metric in (mse, psnr, rmse, ssim):
        together = metric(bad, clean)
        assert together.shape == (3,)
        alone = torch.cat([metric(bad[i : i + 1], clean[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_masked_scores_count_the_marked_pixels_of_every_channel_only():
    clean = torch.zeros(1, 3, 4, 4)
    pred, mask = torch.full((1, 3, 4, 4), 0.9), torch.zeros(1, 1, 4, 4)
    mask[..., 0, :2] = 1
    pred[0, :, 0, 0], pred[0, :, 0, 1] = torch.tensor([0.1, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.2])
    wanted = (0.1**2 + 0.2**2) / (2 * 3)  # two pixels, three channels
    assert mse(pred, clean, mask).item() == pytest.approx(wanted, rel=1e-5)
    assert psnr(pred, clean, mask).item() == pytest.approx(-10 * math.log10(wanted), abs=1e-4)
    assert rmse(pred, clean, mask).item() == pytest.approx(255 * math.sqrt(wanted), rel=1e-5)


def test_a_full_mask_changes_nothing(pairs):
    clean, bad = batch(*pairs[0]), batch(*pairs[1])
    torch.testing.assert_close(psnr(bad, clean, torch.ones_like(clean[:, :1])), psnr(bad, clean))


def test_masked_scores_of_an_empty_mask_are_nan_and_leave_other_images_alone():
    clean = torch.zeros(2, 3, 4, 4)
    mask = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    for metric, value in ((psnr, 20.0), (rmse, 25.5)):
        empty, full = metric(clean + 0.1, clean, mask).tolist()
        assert math.isnan(empty)
        assert full == pytest.approx(value, abs=1e-3)


def test_iou_and_f1_by_hand():
    pred, true = torch.zeros(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    pred[..., 0:4, 0:5], true[..., 2:6, 0:5] = 1, 1  # 20 pixels each, 10 in common
    assert mask_iou(pred, true).item() == pytest.approx(10 / 30)
    assert mask_f1(pred, true).item() == pytest.approx(2 * 10 / 40)


def test_a_half_is_no_mark():
    pred, true = torch.tensor([[[[0.5, 0.51, 0.2, 0.9]]]]), torch.tensor([[[[1.0, 0.5, 0.5, 0.6]]]])
    assert mask_iou(pred, true).item() == pytest.approx(1 / 3) and mask_f1(pred, true).item() == pytest.approx(1 / 2)


def test_iou_and_f1_of_each_image_of_a_batch():
    true = torch.zeros(4, 1, 2, 2)
    true[:3, :, 0] = 1
    pred = torch.zeros(4, 1, 2, 2)
    pred[0], pred[1, :, 0], pred[2, :, 1] = 1, 1, 1  # too much, right, wrong, rightly nothing
    assert mask_iou(pred, true)[:3].tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert mask_f1(pred, true)[:3].tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert mask_iou(pred, true)[3].isnan() and mask_f1(pred, true)[3].isnan()


def test_a_false_alarm_on_an_unmarked_image_scores_zero():
    pred, true = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert mask_iou(pred, true).item() == 0 and mask_f1(pred, true).item() == 0


def test_f1_follows_from_iou():
    generator = torch.Generator().manual_seed(0)
    pred, true = (torch.rand(8, 1, 9, 9, generator=generator).round() for _ in range(2))
    iou = mask_iou(pred, true)
    torch.testing.assert_close(mask_f1(pred, true), 2 * iou / (1 + iou))


def test_ssim_under_autocast_equals_float32(pairs):
    clean, bad = batch(*pairs[0]), batch(*pairs[1])
    exact = ssim(bad, clean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ssim(bad, clean), exact)


def test_scores_of_half_precision_images_are_computed_in_float32(pairs):
    clean, bad = batch(*pairs[0]), batch(*pairs[1])
    for metric in (psnr, rmse, ssim):
        scores = metric(bad.bfloat16(), clean.bfloat16())
        assert scores.dtype == torch.float32
        assert torch.equal(scores, metric(bad.bfloat16().float(), clean.bfloat16().float()))


@pytest.mark.parametrize("metric", [psnr, rmse, ssim, mask_iou, mask_f1, local_psnr_map, local_ssim_map])
def test_shapes_that_would_only_broadcast_are_an_error(metric):
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 1, 16, 16), (2, 1, 16, 8), (2, 16, 16)])
def test_a_mask_of_another_shape_is_an_error(shape):
    with pytest.raises(ValueError, match="mask"):
        psnr(torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16), torch.ones(shape))


# Local maps.


def test_a_constant_error_gives_its_psnr_at_every_pixel_borders_too():
    clean = torch.full((1, 3, 40, 30), 0.3)
    result = local_psnr_map(clean + 0.1, clean)
    assert result.shape == (1, 1, 40, 30)
    torch.testing.assert_close(result, torch.full_like(result, 20.0), rtol=0, atol=1e-3)


def test_the_local_psnr_is_that_of_the_window_around_the_pixel(pairs):
    clean, bad = pairs[0][0], pairs[1][0]
    result = local_psnr_map(batch(bad), batch(clean), window=9)[0, 0]
    for y, x in ((0, 0), (2, 50), (48, 60), (95, 119), (95, 3)):
        window = np.s_[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5]
        wanted = peak_signal_noise_ratio(clean[window], bad[window], data_range=1.0)
        assert result[y, x].item() == pytest.approx(wanted, abs=2e-3)


def test_the_local_psnr_is_capped_where_the_image_is_exact():
    clean, pred = torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 40)
    pred[..., 0, 0] = 1.0
    result = local_psnr_map(pred, clean, window=5)
    assert result.max().item() == pytest.approx(PSNR_CAP) == 100.0 and result.isfinite().all()
    assert ((result < PSNR_CAP - 1).nonzero()[:, 2:] <= 2).all()
    assert (result < PSNR_CAP - 1).sum() == 9


def test_the_local_ssim_map_is_scikit_images_away_from_the_border(pairs):
    for clean, bad in zip(*pairs, strict=True):
        _, full = structural_similarity(clean, bad, full=True, **SSIM_OPTIONS)
        result = local_ssim_map(batch(bad), batch(clean))
        assert result.shape == (1, 1, *clean.shape[:2])
        np.testing.assert_allclose(
            result[0, 0, 5:-5, 5:-5].numpy(), full.mean(axis=2)[5:-5, 5:-5], atol=1e-3
        )  # float32 variances
        assert result.mean().item() == pytest.approx(full.mean(), abs=0.01)


def test_the_local_ssim_map_is_one_where_images_are_equal(pairs):
    clean = pairs[0][0]
    bad = clean.copy()
    bad[:40] = noisy(clean[:40], 0.3)
    result = local_ssim_map(batch(bad), batch(clean))[0, 0]
    assert (result[50:] - 1).abs().max() < 1e-4
    assert result[:30].mean() < 0.8

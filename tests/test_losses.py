"""Each term of the loss against an independent computation, its corner cases, and where the VGG16 weights come from."""

import email.message
import http.client
import io
import socket
import urllib.error
import warnings

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.data
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity

from wmremoval import losses
from wmremoval.losses import (
    ColorAwareLoss,
    VGG16Features,
    coarse_mask_loss,
    lab_loss,
    lab_map,
    laplacian_loss,
    load_vgg,
    mark_loss,
    mask_bce_loss,
    mask_iou_loss,
    masked_l1_loss,
    perceptual_loss,
    vgg_cache,
)

TERMS = ("masked_l1", "perceptual", "lab", "ssim", "laplacian")
WEIGHTS = {"masked_l1": 1.0, "perceptual": 0.3, "lab": 0.3, "ssim": 0.4, "laplacian": 0.1}


def photo(name: str, size: int = 48) -> np.ndarray:
    return np.float32(getattr(skimage.data, name)()[120 : 120 + size, 180 : 180 + size]) / np.float32(255)


def batch(*arrays: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def arrays(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).double().numpy()


@pytest.fixture(scope="module")
def criterion():
    return ColorAwareLoss(perceptual_weights="random")


@pytest.fixture(scope="module")
def example():
    """Two photographs, a poor restoration of each, and a mask of different size in each."""
    target = batch(photo("astronaut"), photo("coffee"))
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 48, 48)
    mask[0, :, 5:12, 10:40], mask[1, :, :30, 3:6] = 1, 1
    return (target + 0.1 * noise).clamp(0, 1), target, mask


# Terms.


def test_masked_l1_divides_by_the_marks_pixels_times_channels_in_each_image(example):
    pred, target, mask = example
    wanted = []
    for p, t, m in zip(arrays(pred), arrays(target), mask[:, 0].bool().numpy(), strict=True):
        wanted.append(np.abs(p - t)[m].sum() / (m.sum() * 3))
    assert abs(wanted[0] - wanted[1]) > 1e-3, "pooling the images would give the same"
    assert masked_l1_loss(pred, target, mask).item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_masked_l1_by_hand():
    pred, target, mask = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2), torch.zeros(2, 1, 2, 2)
    pred[0, :, 0, 0] = torch.tensor([0.3, 0.6, 0.9])  # the only marked pixel of the first: mean 0.6
    pred[0, :, 1, 1] = 1.0  # not marked
    mask[0, 0, 0, 0] = 1
    pred[1, 0] = 0.6  # one channel of three, everywhere
    mask[1] = 1  # all four marked: mean 0.2
    assert masked_l1_loss(pred, target, mask).item() == pytest.approx((0.6 + 0.2) / 2)


def test_an_empty_mask_counts_as_zero_in_the_mean_over_the_batch():
    pred, target, mask = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    assert masked_l1_loss(pred, target, mask).item() == 0
    mask[1] = 1
    assert masked_l1_loss(pred, target, mask).item() == pytest.approx(0.5)


def test_without_a_mask_every_pixel_counts(example):
    pred, target, _ = example
    wanted = np.abs(arrays(pred) - arrays(target)).mean()
    assert masked_l1_loss(pred, target).item() == pytest.approx(wanted, rel=1e-5)
    assert masked_l1_loss(pred, target, torch.ones_like(pred[:, :1])).item() == pytest.approx(wanted, rel=1e-5)


def test_lab_loss_equals_scikit_image(example):
    pred, target, _ = example
    difference = np.abs(skimage.color.rgb2lab(arrays(pred)) - skimage.color.rgb2lab(arrays(target)))
    wanted = 0.7 * difference[..., 0].mean() + 0.3 * difference[..., 1:].mean()
    assert wanted > 3, "CIELAB units, not shares"
    assert lab_loss(pred, target).item() == pytest.approx(wanted, rel=2e-3)


def test_lab_loss_of_black_and_white_is_70():
    black = torch.zeros(1, 3, 4, 4)
    assert lab_loss(black, black + 1).item() == pytest.approx(0.7 * 100, abs=0.02)


def test_lab_loss_weighs_colour_by_three_tenths():
    red, green = (torch.tensor(c).view(1, 3, 1, 1) for c in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    (l1, a1, b1), (l2, a2, b2) = (skimage.color.rgb2lab(np.float64(c)) for c in ([1, 0, 0], [0, 1, 0]))
    wanted = 0.7 * abs(l1 - l2) + 0.3 * (abs(a1 - a2) + abs(b1 - b2)) / 2
    assert lab_loss(red, green).item() == pytest.approx(wanted, rel=1e-3)


def test_lab_loss_takes_colours_beyond_the_range_as_the_nearest_inside():
    generator = torch.Generator().manual_seed(0)
    wild, target = (torch.rand(1, 3, 8, 8, generator=generator) * span + low for span, low in ((2.0, -0.5), (1.0, 0.0)))
    assert torch.equal(lab_loss(wild, target), lab_loss(wild.clamp(0, 1), target))


def edges(images: torch.Tensor) -> np.ndarray:
    """Hand-made Laplacian; absolute weights sum to 1, mirrored at the border without repeating it."""
    kernel = np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]) / 16
    return np.stack(
        [[scipy.ndimage.convolve(plane, kernel, mode="mirror") for plane in image] for image in images.double().numpy()]
    )


def test_laplacian_loss_equals_a_hand_made_convolution(example):
    pred, target, _ = example
    wanted = np.abs(edges(pred) - edges(target)).mean()
    assert laplacian_loss(pred, target).item() == pytest.approx(wanted, rel=1e-5)


def test_laplacian_loss_keeps_to_the_mask(example):
    pred, target, mask = example
    difference = np.abs(edges(pred) - edges(target)) * mask.numpy()
    wanted = (difference.sum(axis=(1, 2, 3)) / (3 * mask.numpy().sum(axis=(1, 2, 3)))).mean()
    assert laplacian_loss(pred, target, mask).item() == pytest.approx(wanted, rel=1e-5)
    assert laplacian_loss(pred, target, 0 * mask).item() == 0


def test_laplacian_loss_ignores_a_shift_in_brightness():
    x = batch(photo("chelsea")) * 0.5
    assert laplacian_loss(x + 0.25, x).item() < 1e-6


def torchvision_features(state: dict) -> torch.nn.Module:
    """torchvision's own VGG16 to the ReLU after conv3_3, with the given weights; the 528 MB around it are never allocated."""
    with torch.device("meta"):
        whole = torchvision.models.vgg16(weights=None)
    features = whole.features[:16].to_empty(device="cpu")
    features.load_state_dict(state)
    return features.eval()


@torch.no_grad()
def test_perceptual_loss_equals_a_direct_pass_through_torchvisions_vgg16(criterion, example):
    pred, target, _ = example
    vgg = torchvision_features(criterion.vgg.features.state_dict())
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    phi = [vgg(torch.from_numpy((np.float32(arrays(x)) - mean) / std).permute(0, 3, 1, 2)) for x in (pred, target)]
    assert phi[0].shape == (2, 256, 12, 12)
    wanted = (phi[0] - phi[1]).abs().mean().item()
    assert wanted > 0.01
    assert perceptual_loss(criterion.vgg, pred, target).item() == pytest.approx(wanted, rel=1e-4)


def test_the_ssim_term_is_one_minus_scikit_images(criterion, example):
    pred, target, mask = example
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
        "channel_axis": 2,
    }
    wanted = np.mean(
        [structural_similarity(p, t, **options) for p, t in zip(arrays(pred), arrays(target), strict=True)]
    )
    _, terms = criterion(pred, target, mask)
    assert terms["ssim"].item() == pytest.approx(0.4 * (1 - wanted), abs=2e-5)


# The whole.


def test_the_documents_weights_are_the_defaults(criterion):
    assert criterion.weights == WEIGHTS


@pytest.mark.parametrize("masked", [True, False])
def test_the_total_is_the_weighted_sum_of_the_five_losses(criterion, example, masked):
    pred, target, mask = example
    mask = mask if masked else None
    total, terms = criterion(pred, target, mask)
    wanted = {
        "masked_l1": masked_l1_loss(pred, target, mask),
        "perceptual": perceptual_loss(criterion.vgg, pred, target),
        "lab": lab_loss(pred, target),
        "ssim": 1 - losses.ssim(pred, target).mean(),
        "laplacian": laplacian_loss(pred, target, mask),
    }
    assert tuple(terms) == TERMS
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: WEIGHTS[name] * x.item() for name, x in wanted.items()}
    )
    assert total.item() == pytest.approx(sum(term.item() for term in terms.values()))


def test_other_weights_scale_their_terms(example):
    pred, target, mask = example
    _, plain = ColorAwareLoss(1, 1, 1, 1, perceptual_weights="random")(pred, target, mask)
    _, scaled = ColorAwareLoss(2, 3, 5, 0, perceptual_weights="random")(pred, target, mask)
    ratios = {name: (scaled[name] / plain[name]).item() for name in TERMS}
    assert ratios == pytest.approx({"masked_l1": 1, "perceptual": 2, "lab": 3, "ssim": 5, "laplacian": 0})


def test_terms_are_detached_and_the_total_is_not(criterion, example):
    pred, target, mask = example
    total, terms = criterion(pred.clone().requires_grad_(), target, mask)
    assert total.requires_grad
    assert not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("masked", [True, False])
def test_the_loss_is_zero_at_equality(criterion, example, masked):
    _, target, mask = example
    total, terms = criterion(target.clone(), target, mask if masked else None)
    assert total.item() == pytest.approx(0, abs=1e-6)
    assert all(abs(term.item()) < 1e-6 for term in terms.values())


def test_every_term_grows_with_the_error(criterion, example):
    pred, target, mask = example
    _, small = criterion(torch.lerp(target, pred, 0.3), target, mask)
    _, large = criterion(pred, target, mask)
    assert all(0 < small[name] < large[name] for name in TERMS)


@pytest.mark.parametrize(
    "case", ["all 0", "all 1", "equality", "beyond the range", "0 against 0", "1 against 1", "empty mask"]
)
def test_gradients_are_finite_in_the_corners(criterion, example, case):
    pred, target, mask = (x.clone() for x in example)
    if case == "all 0":
        pred = torch.zeros_like(target)
    elif case == "all 1":
        pred = torch.ones_like(target)
    elif case == "equality":
        pred = target.clone()
    elif case == "beyond the range":
        pred = torch.where(target > 0.4, 1.2, -0.2)
    elif case == "0 against 0":
        pred, target = torch.zeros_like(target), torch.zeros_like(target)
    elif case == "1 against 1":
        pred, target = torch.ones_like(target), torch.ones_like(target)
    else:
        mask = torch.zeros_like(mask)
    pred.requires_grad_()
    total, _ = criterion(pred, target, mask)
    total.backward()
    assert total.isfinite() and pred.grad.isfinite().all()
    if case in ("all 0", "all 1", "beyond the range", "empty mask"):
        assert pred.grad.abs().max() > 0


def test_following_the_gradient_lowers_the_loss(criterion, example):
    pred, target, mask = example
    pred = pred.clone().requires_grad_()
    before, _ = criterion(pred, target, mask)
    before.backward()
    after, _ = criterion(pred.detach() - 1e-3 * pred.grad / pred.grad.abs().max(), target, mask)
    assert after < before


def test_the_loss_under_autocast_is_the_same(criterion, example):
    pred, target, mask = example
    total, terms = criterion(pred, target, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_total, half_terms = criterion(pred, target, mask)
    assert torch.equal(half_total, total) and half_total.dtype == torch.float32
    assert all(torch.equal(half_terms[name], terms[name]) for name in TERMS)


def test_half_precision_images_are_compared_in_float32(criterion, example):
    pred, target, mask = example
    total, _ = criterion(pred.bfloat16(), target, mask.bool())
    wanted, _ = criterion(pred.bfloat16().float(), target, mask)
    assert total.dtype == torch.float32 and torch.equal(total, wanted)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 16, 16), (2, 1, 16, 16), None),
        ((2, 3, 16, 16), (1, 3, 16, 16), None),
        ((2, 3, 16, 16), (2, 3, 16, 16), (2, 3, 16, 16)),
        ((2, 3, 16, 16), (2, 3, 16, 16), (1, 1, 16, 16)),
        ((2, 3, 16, 16), (2, 3, 16, 16), (2, 16, 16)),
    ],
)
def test_shapes_that_would_only_broadcast_are_an_error(criterion, shapes):
    pred, target, mask = (None if shape is None else torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        criterion(pred, target, mask)


# The mask term.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mask_loss_has_a_gradient_where_a_half_precision_sigmoid_has_none(dtype):
    wrong = torch.tensor([20.0, -20.0]).view(1, 1, 1, 2).to(dtype)  # sure, and wrong, both ways
    mask = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    logits = wrong.clone().requires_grad_()
    loss = mask_bce_loss(logits, mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(20.0)
    assert logits.grad.flatten().tolist() == pytest.approx([0.5, -0.5])

    naive = wrong.clone().requires_grad_()  # the trap this avoids
    F.binary_cross_entropy(torch.sigmoid(naive), mask.to(dtype)).backward()
    assert not naive.grad.isfinite().all() or (naive.grad == 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_mask_loss_is_nothing_for_sure_and_right_logits(dtype):
    logits = torch.tensor([20.0, -20.0]).view(1, 1, 1, 2).to(dtype).requires_grad_()
    loss = mask_bce_loss(logits, torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    loss.backward()
    assert 0 <= loss.item() < 1e-6 and logits.grad.isfinite().all()


def test_mask_loss_by_hand_and_the_same_under_autocast():
    logits, mask = torch.tensor([[[[0.0, 2.0, -1.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0]]]])
    wanted = np.mean([np.log(2), np.log(1 + np.exp(2)), np.log(1 + np.exp(-1))])
    assert mask_bce_loss(logits, mask).item() == pytest.approx(wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mask_bce_loss(logits, mask).item() == pytest.approx(wanted)


# VGG16 weights.


def test_the_features_are_frozen_and_the_gradient_still_reaches_the_image(criterion, example):
    pred, target, _ = example
    pred = pred.clone().requires_grad_()
    perceptual_loss(criterion.vgg, pred, target).backward()
    assert all(not p.requires_grad and p.grad is None for p in criterion.parameters())
    assert pred.grad.abs().max() > 0


def test_normalisation_is_a_buffer_and_follows_the_module():
    assert {name for name, _ in VGG16Features().named_buffers()} == {"mean", "std"}
    assert VGG16Features().double()(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_random_features_depend_on_the_seed_alone():
    torch.manual_seed(1)
    (first, source), (other, _) = load_vgg("random", seed=7), load_vgg("random", seed=8)
    torch.manual_seed(2)
    again, _ = load_vgg("random", seed=7)
    assert source == "random"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.features[0].weight, other.features[0].weight)


def test_random_features_keep_their_scale_through_the_layers(example):
    features = load_vgg("random")[0](example[1])
    assert 0.1 < features.std() < 10


@pytest.fixture(scope="module")
def slice_state():
    """Weights of the slice that no seed of ours gives."""
    generator = torch.Generator().manual_seed(123)
    return {
        name: 0.01 * torch.randn(x.shape, generator=generator)
        for name, x in VGG16Features().features.state_dict().items()
    }


def test_a_safetensors_slice_is_loaded_from_its_path(tmp_path, slice_state):
    save_file(slice_state, tmp_path / "slice.safetensors")
    for path in (tmp_path / "slice.safetensors", str(tmp_path / "slice.safetensors")):
        vgg, source = load_vgg(path)
        assert source == "slice.safetensors"
        assert all(torch.equal(vgg.features.state_dict()[name], x) for name, x in slice_state.items())
        assert not any(p.requires_grad for p in vgg.parameters())


def test_a_missing_slice_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.safetensors not found") as caught:
        load_vgg(tmp_path / "nowhere.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["text", "empty", "other names", "other shapes"])
def test_a_file_that_is_no_slice_is_one_clear_line(tmp_path, slice_state, content):
    path = tmp_path / "wrong.safetensors"
    if content == "text":
        path.write_text("<html>not found</html>")
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "other names":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        save_file(slice_state | {"0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"wrong\.safetensors does not hold VGG16") as caught:
        load_vgg(path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the user's; downloading by mistake is an error."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(*args, **kwargs):
        raise AssertionError("nothing should be downloaded here")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return tmp_path / "hub"


def everything_under(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def response(content: bytes) -> io.BytesIO:
    answer = io.BytesIO(content)
    answer.info = email.message.Message
    return answer


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route to host"),
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
        http.client.IncompleteRead(b"half"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_download_warns_once_and_gives_seeded_random_features(cache, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", fail)
    with pytest.warns(UserWarning, match="could not be downloaded") as caught:
        vgg, source = load_vgg("imagenet", seed=5)
    assert len(caught) == 1
    assert source.startswith("random (download failed: ") and "\n" not in source
    assert torch.equal(vgg.features[14].weight, load_vgg("random", seed=5)[0].features[14].weight)
    assert everything_under(cache) == []


def test_the_reason_of_a_failed_download_is_told(cache, monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.warns(UserWarning, match="no route to host"):
        criterion = ColorAwareLoss(perceptual_weights="imagenet")
    assert "no route to host" in criterion.perceptual_source


def test_a_page_in_place_of_the_weights_counts_as_a_failed_download(cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "urlopen", lambda *args, **kwargs: response(b"<html>please log in</html>"))
    with pytest.warns(UserWarning, match="could not be downloaded"):
        _, source = load_vgg("imagenet")
    assert source.startswith("random (download failed: ")
    assert everything_under(cache) == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_download_gives_up_after_silence_and_leaves_the_timeout_as_it_was(cache, monkeypatch, slice_state, fails):
    during = []

    def download(url, dst, **kwargs):
        during.append(socket.getdefaulttimeout())
        if fails:
            raise TimeoutError
        torch.save({f"features.{name}": x for name, x in slice_state.items()}, dst)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(123.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_vgg("imagenet")
        assert during == [20.0]
        assert socket.getdefaulttimeout() == 123.0
    finally:
        socket.setdefaulttimeout(before)


def test_a_download_keeps_the_slice_only_and_happens_once(cache, monkeypatch, slice_state):
    calls = []

    def download(url, dst, hash_prefix=None, **kwargs):
        calls.append((url, hash_prefix))
        torch.save(
            {f"features.{name}": x for name, x in slice_state.items()} | {"classifier.6.bias": torch.zeros(1000)}, dst
        )

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        vgg, source = load_vgg("imagenet")
        assert source == "imagenet"
        assert all(torch.equal(vgg.features.state_dict()[name], x) for name, x in slice_state.items())
    assert calls == [(torchvision.models.VGG16_Weights.IMAGENET1K_V1.url, "397923af")]
    assert everything_under(cache) == [vgg_cache()]
    assert load_file(vgg_cache()).keys() == slice_state.keys()


def test_a_damaged_cache_is_named(cache):
    vgg_cache().parent.mkdir(parents=True)
    vgg_cache().write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"vgg16_relu3_3\.safetensors"):
        load_vgg("imagenet")


def test_features_are_not_computed_where_their_weight_is_0(monkeypatch):
    criterion = ColorAwareLoss(alpha=0.0, perceptual_weights="random")
    monkeypatch.setattr(criterion.vgg, "forward", lambda image: pytest.fail("VGG16 was run"))
    total, terms = criterion(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    assert terms["perceptual"] == 0 and torch.allclose(total, sum(terms.values()))


# Mask and mark


def test_the_iou_loss_is_zero_for_the_mask_itself_and_counts_small_marks_as_much_as_large_ones():
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., :10, :10] = 1
    assert mask_iou_loss(100 * (2 * mask - 1), mask) == pytest.approx(0.0, abs=1e-6)
    half = torch.zeros_like(mask)
    half[..., :5, :10] = 1
    # By hand: 50 found of 100, nothing beside: (50 + 1) / (100 + 1), the ones keep an empty mask finite.
    assert mask_iou_loss(100 * (2 * half - 1), mask).item() == pytest.approx(1 - 51 / 101, abs=1e-5)
    assert mask_iou_loss(torch.full_like(mask, -100.0), torch.zeros_like(mask)).item() == pytest.approx(0.0, abs=1e-6)


def test_the_mark_loss_by_hand():
    alpha = torch.tensor([[[[0.5, 0.0, 0.0, 0.0]]]])
    colour = torch.ones(1, 3, 1, 4)
    assert mark_loss(alpha, colour, alpha, colour) == 0
    assert mark_loss(alpha + 0.1, colour, alpha, colour).item() == pytest.approx(0.2)  # 0.1 inside and 0.1 outside
    assert mark_loss(alpha, colour - 0.3, alpha, colour).item() == pytest.approx(0.3)
    wrong = colour.clone()
    wrong[..., 1:] = 0  # where there is no mark its colour is nobody's business
    assert mark_loss(alpha, wrong, alpha, colour) == 0
    assert torch.isfinite(mark_loss(alpha, colour, torch.zeros_like(alpha), colour))


def test_marks_that_are_not_plain_teach_neither_alpha_nor_colour():
    """The first sample is plain, the second is not: what is wrong in the second costs nothing and has no gradient."""
    true_alpha = torch.tensor([0.5, 0.0, 0.5, 0.0]).view(1, 1, 1, 4).repeat(2, 1, 1, 1)
    true_colour, plain = torch.ones(2, 3, 1, 4), torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    alpha, colour = (true_alpha + 0.1).requires_grad_(), (true_colour - 0.3).requires_grad_()
    loss = mark_loss(alpha, colour, true_alpha, true_colour, plain)
    alone = mark_loss(alpha[:1], colour[:1], true_alpha[:1], true_colour[:1])
    assert loss.item() == pytest.approx(alone.item()) == pytest.approx(0.5)
    loss.backward()
    assert alpha.grad[0].any() and colour.grad[0].any() and not alpha.grad[1].any() and not colour.grad[1].any()
    assert mark_loss(alpha, colour, true_alpha, true_colour, 0 * plain).item() == 0


def test_faint_marks_count_more_where_that_is_set_and_soft_edges_of_strong_ones_do_not():
    true_alpha = torch.zeros(1, 1, 9, 30)
    true_alpha[..., 2:7, 2:8] = 0.1  # faint
    true_alpha[..., 2:7, 18:24] = 0.9  # strong, with a soft edge
    true_alpha[..., 2:7, 24] = 0.1
    colour, wrong_faint, wrong_strong, wrong_edge = torch.ones(1, 3, 9, 30), *(true_alpha.clone() for _ in range(3))
    wrong_faint[..., 2:7, 2:8] += 0.1
    wrong_strong[..., 2:7, 18:24] += 0.1
    wrong_edge[..., 2:7, 24] += 0.1

    def cost(alpha, faint):
        return mark_loss(alpha, colour, true_alpha, colour, faint=faint).item()

    assert cost(wrong_faint, 0.0) == pytest.approx(cost(wrong_strong, 0.0))
    # By hand: at 0.1, a quarter of 0.4, weight 1 + 4 (1 - 1/4) = 4; 30 pixels of it, 35 of weight 1.
    assert cost(wrong_faint, 4.0) == pytest.approx(0.1 * 4 * 30 / (4 * 30 + 35))
    assert cost(wrong_strong, 4.0) == pytest.approx(0.1 * 30 / (4 * 30 + 35))
    assert cost(wrong_edge, 4.0) == pytest.approx(0.1 * 5 / (4 * 30 + 35))


def test_a_coarse_gates_loss_by_hand():
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 1] = 1.0  # a pixel of sixteen: its quarter of the coarse map counts as marked
    logits = torch.tensor([[[[2.0, -1.0], [0.0, -3.0]]]])
    found = torch.sigmoid(logits).flatten().tolist()
    bce = -sum(torch.tensor(p).log().item() for p in (found[0], *(1 - each for each in found[1:]))) / 4
    iou = 1 - (found[0] + 1) / (sum(found) + 1 - found[0] + 1)
    assert coarse_mask_loss(logits, mask).item() == pytest.approx(bce, rel=1e-5)
    assert coarse_mask_loss(logits, mask, 0.25).item() == pytest.approx(bce + 0.25 * iou, rel=1e-5)


def test_the_lab_map_is_of_each_image_by_itself():
    pred, target = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).chunk(2)
    both = lab_map(torch.cat([pred, target]), torch.cat([target, target]))
    assert both.shape == (2, 1, 6, 7) and (both[1] == 0).all()
    assert both[0].mean().item() == pytest.approx(lab_loss(pred, target).item(), rel=1e-6) and (both[0] > 0).any()

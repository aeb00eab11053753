"""The document's own test: fixed augmented photographs, scored against scikit-image."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wmremoval.bench import document_test
from wmremoval.bench.__main__ import main
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore.remover import load_remover


def test_samples_are_augmented_marked_and_never_change(photos):
    samples = document_test.document_samples(photos[:4])
    before = [samples[i] for i in range(4)]
    samples.epoch = 5
    again = [samples[i] for i in range(4)]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, again, strict=True) for name in a)
    assert all(sample["mask"].any() and sample["clean"].shape == (3, 256, 256) for sample in before)
    plain = WatermarkDataset(photos[:4], SampleConfig(image_size=256, augment=False))
    assert not any(torch.equal(a["clean"], plain[i]["clean"]) for i, a in enumerate(before))
    trained = WatermarkDataset(photos[:4], replace(samples.config, fixed=False))
    trained.epoch = 3
    assert not any(torch.equal(a["clean"], trained[i]["clean"]) for i, a in enumerate(before))


@pytest.mark.parametrize("composite", [True, False])
def test_scores_agree_with_scikit_image(photos, tmp_path, composite, capsys):
    torch.manual_seed(0)
    net = HeterogeneousUNet(composite).eval()
    weights = tmp_path / "w.pth"
    torch.save({"model": net.state_dict(), "config": {"composite": composite, "image_size": 64}}, weights)
    argv = ["document", "--photos", str(photos[0].parent), "--weights", str(weights), "--device", "cpu"]
    assert main([*argv, "--limit", "1", "--report-dir", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "document_test.json").read_text())
    assert results["photographs"] == 1 and results["document"] == {"psnr": 28.67, "ssim": 0.7202}
    assert ("remover" in results) == composite and "network" in capsys.readouterr().out
    paths = document_test.split_photos(document_test.find_photos(photos[0].parent).paths, 0)["test"]
    sample = document_test.document_samples(paths)[0]
    clean, watermarked = (sample[name].permute(1, 2, 0).numpy() for name in ("clean", "watermarked"))
    with torch.inference_mode():
        restored = net(sample["watermarked"][None])[0][0].permute(1, 2, 0).numpy()
    views = {"input": watermarked, "network": restored}
    if composite:
        answer = load_remover(weights, "cpu")(np.round(watermarked * 255).astype(np.uint8))
        views["remover"] = answer.image / np.float32(255)
    for name, view in views.items():
        psnr = peak_signal_noise_ratio(clean, view, data_range=1)
        assert results[name]["psnr"] == pytest.approx(min(psnr, 100), abs=1e-3)
        ssim = structural_similarity(
            clean, view, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert results[name]["ssim"] == pytest.approx(ssim, abs=2e-3)

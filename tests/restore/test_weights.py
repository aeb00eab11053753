"""The weights that come with the package: what their card promises, on photographs they were never trained on."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from skimage import data

import wmremoval
from wmremoval.bench import ship
from wmremoval.data.fonts import load_fonts
from wmremoval.data.marks import WatermarkConfig, blend, draw_mark
from wmremoval.data.photos import sample_scenes
from wmremoval.model import HeterogeneousUNet
from wmremoval.restore.remover import load_remover
from wmremoval.training.checkpoints import BEST_MODEL, SHIPPED_WEIGHTS, load_model

PLAIN = WatermarkConfig(
    shape_share=0.0, tiled_share=0.0, occluded_share=0.0, distorted_share=0.0, opaque_share=0.0, opacity=(0.4, 0.8)
)

# Least share of unchanged pixels of each whole photograph, since a mean would hide a bad one. In chelsea whiskers and
# in the motorcycles a hanger and a bar are taken for marks (outputs/measurements/README.md, "Limits of the weights").
WHOLE = {
    "astronaut": 0.995,
    "chelsea": 0.98,
    "coffee": 0.995,
    "hubble": 0.995,
    "motorcycle_left": 0.99,
    "motorcycle_right": 0.99,
    "rocket": 0.995,
}


@pytest.fixture(scope="module")
def card():
    return json.loads(SHIPPED_WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def remover():
    """In the precision that a user of this processor has: the floors hold in float32 and in bf16."""
    return load_remover(device="cpu")


def views() -> list[np.ndarray]:
    """One 256-pixel view of each of scikit-image's photographs."""
    scenes = [scene for name, scene in sample_scenes().items() if name != "hubble"]
    return [np.ascontiguousarray(scene[40:296, 60:316]) for scene in scenes if min(scene.shape[:2]) >= 316] + [
        np.ascontiguousarray(scene[:256, :256]) for scene in scenes if min(scene.shape[:2]) < 316
    ]


def psnr(image, clean, where=slice(None)):
    return -10 * np.log10(np.mean(((image.astype(np.float64) - clean) / 255)[where] ** 2) + 1e-10)


def test_the_card_describes_this_very_file_and_says_what_it_must(card):
    assert card["sha256"] == hashlib.sha256(SHIPPED_WEIGHTS.read_bytes()).hexdigest()
    assert SHIPPED_WEIGHTS.stat().st_size < 16_000_000
    for name in ("data", "recipe", "date", "test", "limits", "parameters", "training_minutes", "floors"):
        assert card[name] not in (None, "", {}), name
    assert "research" in card["data"]
    net, about = load_model(SHIPPED_WEIGHTS)
    assert card["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    assert about["config"]["decompose"] == card["recipe"]["decompose"]


def test_marks_never_seen_are_found_and_lessened_as_the_card_says(remover, card):
    gains, found = [], []
    for i, clean in enumerate(views()):
        for seed in (10 * i, 10 * i + 1, 10 * i + 2):
            mark = draw_mark(np.random.default_rng(seed), *clean.shape[:2], load_fonts(), (), PLAIN)
            watermarked, mask = blend(clean, mark)
            result = remover(watermarked)
            inside = mask > 0
            gains.append(psnr(result.image, clean, inside) - psnr(watermarked, clean, inside))
            found.append((result.mask_uint8[inside] > 0).mean() > 0.5)
    assert np.mean(gains) >= card["floors"]["gain inside the mark, dB"]
    assert np.mean(found) >= card["floors"]["share of marks found"]
    # Touching a mark is not enough: what is touched and stays does not count.
    assert np.mean(np.array(gains) >= 3.0) >= card["floors"]["share of marks lessened by 3 dB"]


def untouched(remover, clean: np.ndarray) -> float:
    """The share of an unmarked photograph that is given back as it was, which all that the mask says is must be."""
    result = remover(clean)
    kept = result.mask_uint8 == 0
    np.testing.assert_array_equal(result.image[kept], clean[kept])
    return kept.mean()


def test_unmarked_views_are_left_alone_as_the_card_says(remover, card):
    shares = [untouched(remover, clean) for clean in views()]
    assert np.mean(shares) >= card["floors"]["share of unmarked pixels untouched"]


@pytest.mark.parametrize("name", WHOLE)
def test_an_unmarked_photograph_is_left_alone_at_its_own_size(remover, name):
    assert untouched(remover, sample_scenes()[name]) >= WHOLE[name]


def test_what_is_asked_of_whole_photographs_is_what_the_card_says_and_of_all_there_are(card):
    assert set(WHOLE) == set(sample_scenes())
    assert np.mean(list(WHOLE.values())) >= card["floors"]["share of unmarked pixels untouched"]


def test_shipping_keeps_the_networks_answer_and_writes_its_card(tmp_path, monkeypatch):
    import torch

    torch.manual_seed(0)
    net = HeterogeneousUNet(decompose=True)
    config = {"composite": True, "decompose": True, "image_size": 96, "start": str(tmp_path / "x/first.pth")}
    torch.save({"config": config, "model": net.state_dict(), "epoch": 3}, tmp_path / BEST_MODEL)
    for name, content in {
        "config.json": {"photos": {"source": "photos", "used": 10}},
        "test_results.json": {"psnr": {"mean": 33.333333, "std": 1.0}},
        "training_summary.json": {"training_time_min": 5.0},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    target = ship.ship(tmp_path, "research photographs", "much", weights=tmp_path / "out/net.safetensors")
    card = json.loads(target.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest() and card["test"]["psnr"] == 33.3333
    assert card["recipe"]["start"] == "first.pth" and str(tmp_path) not in target.with_suffix(".json").read_text()
    assert target.stat().st_size < 0.52 * (tmp_path / BEST_MODEL).stat().st_size
    shipped, about = load_model(target)
    assert about["config"] == {"composite": True, "decompose": True, "image_size": 96}
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert (shipped(x)[0] - net.eval()(x)[0]).abs().max() < 2e-3


def test_the_package_names_the_weights_among_its_files():
    assert SHIPPED_WEIGHTS.parent == Path(wmremoval.__file__).parent / "weights"
    assert 'wmremoval = ["weights/*"]' in (SHIPPED_WEIGHTS.parents[2] / "pyproject.toml").read_text(encoding="utf-8")


def test_the_card_names_the_commit_of_a_checkout_and_none_elsewhere(monkeypatch):
    asked = []

    def answer(command, **options):
        asked.append((command, options["cwd"]))
        return subprocess.CompletedProcess(command, 0, stdout="0123abcd\n")

    monkeypatch.setattr(ship.subprocess, "run", answer)
    assert ship.code_commit() == "0123abcd"
    assert asked == [(["git", "rev-parse", "HEAD"], Path(wmremoval.__file__).parent / "bench")]
    for error in (FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")):

        def fail(*args, error=error, **options):
            raise error

        monkeypatch.setattr(ship.subprocess, "run", fail)
        assert ship.code_commit() is None


GROUNDS = {
    "blue": ((20, 60, 220),) * 2,
    "cyan": ((0, 200, 220),) * 2,
    "green": ((0, 177, 64),) * 2,
    "yellow": ((250, 225, 5), (255, 200, 60)),
}


@pytest.mark.parametrize("name", GROUNDS)
def test_a_subject_before_a_flat_ground_comes_back_as_it_was(remover, name):
    """A cat's head through a soft ellipse, with the noise of a camera."""
    cat = data.chelsea().astype(np.float32)
    y, x = np.mgrid[0 : cat.shape[0], 0 : cat.shape[1]]
    distance = np.hypot((x / cat.shape[1] - 0.48) / 0.33, (y / cat.shape[0] - 0.43) / 0.45)
    cover = np.clip((1.0 - distance) / 0.04, 0.0, 1.0)[..., None]
    top, bottom = (np.float32(colour) for colour in GROUNDS[name])
    share = np.linspace(0.0, 1.0, cat.shape[0])[:, None, None]
    picture = cover * cat + (1.0 - cover) * ((1.0 - share) * top + share * bottom)
    picture += 1.2 * np.random.default_rng(0).standard_normal(cat.shape)
    picture = np.uint8(np.round(picture.clip(0, 255)))
    np.testing.assert_array_equal(remover(picture).image, picture)

"""A stand-in for the U-Net and settings under which whole runs take a second."""

from types import SimpleNamespace

import torch
from torch import nn

from wmremoval.config import TrainConfig
from wmremoval.data.dataset import SampleConfig, WatermarkDataset
from wmremoval.data.fonts import FontBook
from wmremoval.data.loaders import make_loader
from wmremoval.model import Parts
from wmremoval.training.trainer import Training

CPU = torch.device("cpu")
BEST, WEIGHTS, STATE = "wm_best_model.pth", "wm_best_model.safetensors", "training_state.pt"


class TinyNet(nn.Module):
    """Stands in for the U-Net: same form, BatchNorm and dropout, so that statistics and random state matter."""

    def __init__(self, composite: bool = True, decompose: bool = False):
        super().__init__()
        self.composite = composite
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 4, 3, padding=1)
        )
        self.autocast = set()

    def forward(self, x):
        return self.parts(x)[:2]

    def parts(self, x):
        self.autocast.add(torch.is_autocast_enabled("cpu"))
        y = self.layers(x).float()
        fill, logits = torch.sigmoid(y[:, :3]), y[:, 3:]
        return Parts(torch.lerp(x, fill, torch.sigmoid(logits)) if self.composite else fill, logits, fill)


def settings(**changes) -> TrainConfig:
    tiny = {
        "image_size": 32,
        "batch_size": 2,
        "epochs": 2,
        "warmup_epochs": 1,
        "perceptual_weights": "random",
        "amp": "off",
        "seed": 3,
    }
    return TrainConfig(**(tiny | changes))


def make_loaders(pictures, batch_size: int = 2) -> dict:
    shapes_only = FontBook({})
    datasets = {
        part: WatermarkDataset(paths, SampleConfig(image_size=32, seed=3, augment=part == "train"), shapes_only)
        for part, paths in (("train", pictures[:5]), ("val", pictures[5:]))
    }
    return {part: make_loader(dataset, batch_size) for part, dataset in datasets.items()}


def make_training(steps: int = 3, **changes) -> Training:
    return Training(settings(**changes), steps, CPU)


def timeless(history: list[dict]) -> list[dict]:
    clocked = ("seconds", "images_per_second", "data_share", "tflops")
    return [{name: value for name, value in row.items() if name not in clocked} for row in history]


def weights_of(net: nn.Module) -> dict:
    return {name: x.clone() for name, x in net.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def random_batch(size: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    batch = {name: torch.rand(size, 3, 32, 32, generator=generator) for name in ("watermarked", "reference", "clean")}
    return batch | {"mask": (torch.rand(size, 1, 32, 32, generator=generator) > 0.7).float()}


class Batches(list):
    """A loader of given batches."""

    def __init__(self, batches):
        super().__init__(batches)
        self.dataset = SimpleNamespace(epoch=None)

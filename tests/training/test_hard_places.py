"""Places where a network finds marks on unmarked photographs: their boxes, and a list that training reads."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from wmremoval.data.places import read_places
from wmremoval.files import write_json
from wmremoval.model import Parts
from wmremoval.training.hard_places import LEAST_PIXELS, MOST_PLACES, find_hard_places, marked_places


class FindsRed(nn.Module):
    """Takes what is red for a mark; knows in which mode it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def parts(self, image):
        self.asked.append(self.training)
        return Parts(image, 10 * (image[:, :1] - image[:, 1:2] - 0.5), image)


def test_the_boxes_are_those_of_what_the_network_marks(tmp_path):
    photograph = np.full((300, 400, 3), 128, np.uint8)
    photograph[60:120, 100:220] = (255, 0, 0)
    Image.fromarray(photograph).save(tmp_path / "red.png")
    Image.fromarray(np.full((300, 400, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    net = FindsRed()
    paths = [tmp_path / "grey.png", tmp_path / "red.png"]
    (place,) = places = find_hard_places(net, paths, torch.device("cpu"))
    assert place["file"] == "red.png"
    assert place["box"] == pytest.approx([0.25, 0.2, 0.55, 0.4], abs=0.02)
    assert place["pixels"] == pytest.approx(60 * 120 * (256 / 300) ** 2, rel=0.05)
    assert net.asked == [False, False] and net.training, "asked as it restores, and left as it was"
    write_json(tmp_path / "places.json", places)
    assert read_places(tmp_path / "places.json", paths)[0].path == paths[1]


def test_letters_near_each_other_are_one_place_and_specks_are_none():
    mask = np.zeros((100, 200), bool)
    mask[10:30, 10:18] = mask[10:30, 22:30] = True  # four pixels apart
    mask[60:62, 100:102] = True
    (place,) = marked_places(mask)
    assert place["pixels"] == 2 * 20 * 8 and place["box"] == pytest.approx([0.04, 0.08, 0.16, 0.32], abs=0.03)
    assert marked_places(np.zeros((50, 50), bool)) == []
    assert marked_places(np.ones((50, 50), bool)) == [{"box": [0.0, 0.0, 1.0, 1.0], "pixels": 2500}]


def test_of_one_photograph_the_largest_places_are_listed():
    mask = np.zeros((64, 400), bool)
    sizes = [10, 16, 12, 20, 14]
    for i, size in enumerate(sizes):
        mask[20 : 20 + size, 80 * i : 80 * i + size] = True
    assert [place["pixels"] for place in marked_places(mask)] == [400, 256, 196][:MOST_PLACES]
    assert LEAST_PIXELS < 100

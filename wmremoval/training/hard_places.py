"""Find the places of unmarked photographs that a network takes for marks, to train on them as hard unmarked samples."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from wmremoval.images import read_image, to_tensor
from wmremoval.model import HeterogeneousUNet
from wmremoval.training.trainer import autocast_dtype

VIEW = 256  # pixels; shorter side of the photographs as the network looks at them, as large as it is trained on
LEAST_PIXELS = 40  # marked pixels of a place at that size; less is a speck
MOST_PLACES = 3  # of one photograph, the largest, so that one full of letters does not fill the list
JOIN = 7  # pixels; marked pixels nearer to each other than this are one place


@torch.no_grad()
def find_hard_places(net: HeterogeneousUNet, paths: Sequence[Path], device: torch.device) -> list[dict]:
    """Look at photographs without marks, and list where the network finds some.

    Args:
        net: in whichever mode, which it keeps.
        paths: photographs of training, unmarked.
        device: where the network is.

    Returns:
        {"file", "box", "pixels"} of each place: the name of the photograph; left, top, right and bottom as shares of
        its width and height; how many pixels are marked where the shorter side has `VIEW`. `read_places` reads it.
    """
    training, found, dtype = net.training, [], autocast_dtype("auto", device)
    net.eval()
    try:
        for path in tqdm(paths, desc="Hard places", leave=False):
            photograph = read_image(path, shrink_to=VIEW)
            scale = VIEW / min(photograph.shape[:2])
            view = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            image = to_tensor(view)[None].to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                logits = net.parts(image).mask_logits
            found += [{"file": path.name} | place for place in marked_places((logits[0, 0] > 0).cpu().numpy())]
    finally:
        net.train(training)
    return found


def marked_places(mask: np.ndarray) -> list[dict]:
    """The largest connected places of a mask (H, W) bool: boxes in shares of it, and how many pixels each has."""
    height, width = mask.shape
    mask = mask.astype(np.uint8)
    near = cv2.dilate(mask, np.ones((JOIN, JOIN), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(near)
    pixels = np.bincount(labels[mask > 0], minlength=len(boxes))
    largest = [label for label in np.argsort(-pixels)[:MOST_PLACES].tolist() if pixels[label] >= LEAST_PIXELS]
    places = []
    for label in largest:
        x, y, w, h = boxes[label, :4].tolist()
        box = [round(value, 4) for value in (x / width, y / height, (x + w) / width, (y + h) / height)]
        places.append({"box": box, "pixels": int(pixels[label])})
    return places

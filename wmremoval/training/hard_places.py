"""Search unmarked photographs for places that a network takes for marks, for training on them as hard samples."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from wmremoval.images import read_image, to_tensor
from wmremoval.model import HeterogeneousUNet
from wmremoval.training.trainer import autocast_dtype

# Chosen and not measured.
VIEW_SIDE = 256  # pixels; shorter side of a photograph for the network, which is trained on crops of that side
LEAST_PIXELS = 40  # pixels of that view; the smallest marked area of a place
MOST_PLACES = 3  # largest places of a photograph, so that a page full of letters does not fill the list
JOIN = 7  # pixels; marked pixels closer to each other belong to one place


@torch.no_grad()
def find_hard_places(net: HeterogeneousUNet, paths: Sequence[Path], device: torch.device) -> list[dict]:
    """List the places of unmarked photographs that a network predicts to be marked.

    Args:
        net: its mode, training or evaluation, is kept.
        paths: unmarked photographs of training.
        device: of the network.

    Returns:
        for each place {"file", "box", "pixels"}, as `read_places` reads it: name of the photograph; left, top, right and
        bottom as shares of its width and height; number of marked pixels at a shorter side of `VIEW_SIDE`.

    Raises:
        ImageError: a photograph cannot be read.
    """
    training, found, dtype = net.training, [], autocast_dtype("auto", device)
    net.eval()
    try:
        for path in tqdm(paths, desc="Hard places", leave=False):
            photograph = read_image(path, shrink_to=VIEW_SIDE)
            scale = VIEW_SIDE / min(photograph.shape[:2])
            view = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            image = to_tensor(view)[None].to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                logits = net.parts(image).mask_logits
            found += [{"file": path.name} | place for place in marked_places((logits[0, 0] > 0).cpu().numpy())]
    finally:
        net.train(training)
    return found


def marked_places(mask: np.ndarray) -> list[dict]:
    """The largest connected places of a mask, (H, W) bool.

    Returns:
        for each place {"box", "pixels"}, the largest first: left, top, right, bottom as shares of width and height, and
        the number of marked pixels.
    """
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

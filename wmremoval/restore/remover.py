"""`load_remover`: take watermarks off photographs of any size, blind, every other pixel left as it is."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from wmremoval.config import choose_device, has_bf16
from wmremoval.files import read_json
from wmremoval.images import to_uint8
from wmremoval.photofile.formats import Photo
from wmremoval.photofile.read import from_pil, read_photo, to_pil
from wmremoval.restore.boxes import find_plates, take_off
from wmremoval.restore.canvas import Canvas
from wmremoval.restore.confirm import confirm, step_allowed
from wmremoval.restore.decision import Decision, judge, read_decision
from wmremoval.restore.ensemble import Ensemble
from wmremoval.restore.fastnet import FastNet
from wmremoval.restore.pyramid import Box, Pyramid, box_slices, shrink
from wmremoval.restore.regions import Region, Regions, find_regions, line_mask, regions_of_mask
from wmremoval.restore.repaint import FoundText, look_again, restore_or_leave
from wmremoval.restore.search import search
from wmremoval.restore.solve import Solver
from wmremoval.restore.text import MOST_SEEN, Line, TextFinder, load_text_finder, read_lines
from wmremoval.restore.tiles import STRIDE, Network, TiledNetwork
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS, load_model

# Parts of the restoration besides the steps of `solve`; each can be left out for an ablation.
RULES = ("text", "decision", "confirmation", "outline", "again", "strokes", "boxes")
# Megabytes: a photograph of 12 megapixels takes 1,350 at least, PyTorch and the network among them 660. With the default of 2,000
# one of 100 megapixels takes 2,120 (2026-11-27).
LEAST_MEMORY, USUAL_MEMORY = 1400, 2000
BOX_COVERED = 0.98  # share of a plate that a user's mask must cover; else a seam stays where it ends. Not measured.
# Share of the step along its outline that a restored line of text may keep. Of 48 lines of marks on 48 validation pictures
# (2026-11-27) one with more than 0.81 gained, by 1.2 dB; the five false ones over texture all keep more.
LINE_STEP_LEFT = 0.82
# The steps of a photograph, in order, as a user reads them.
STAGES = (
    "looking for marks",
    "reading lines of text",
    "making sure of the marks",
    "taking the marks off",
    "looking again",
)
TRAINING_SIDE = 256  # pixels; of training windows where the weights do not say


@dataclass
class Result:
    """A restored photograph. The mask is kept as 8 bits: at 100 megapixels floats would take 400 MB."""

    image: Any  # as it was given: a PIL image or an (H, W, 3) uint8 array; a PIL image for a path
    mask_uint8: np.ndarray  # (H, W) uint8; 0 exactly where not a bit has changed
    seconds: float  # what it took
    regions: list[Region] = field(default_factory=list)  # what was found
    notes: list[str] = field(default_factory=list)  # for the user
    texts: list[FoundText] = field(default_factory=list)  # the lines of text and their fate

    @property
    def mask(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]: how far each pixel was changed."""
        return self.mask_uint8.astype(np.float32) / 255.0

    @property
    def area(self) -> float:
        """Share of the photograph that was changed, in [0, 1]."""
        return float(np.count_nonzero(self.mask_uint8)) / max(1, self.mask_uint8.size)


class Remover:
    """Finds marks on shrunken views of a photograph and restores it at native size, only where there are any.

    Args:
        net: has `parts`, as `HeterogeneousUNet` has.
        device: where it runs.
        core: side of a tile, pixels.
        step: stride of the network's attention windows, pixels.
    """

    def __init__(self, net: Network, device: torch.device, core: int = 480, step: int = STRIDE):
        self.net = TiledNetwork(net, device, core, step)
        self.without: frozenset[str] = frozenset()  # of `STEPS` and `RULES`, for an ablation
        self.text: TextFinder | None = None  # None: no lines of text are proposed
        self.decision: Decision | None = None  # None: every proposal counts as a mark
        self.own_decision = False  # True: the decision was fitted on the network's own weights
        self.sensitivity = 0.0  # added to the log-odds of every line of text
        self.keep_text: re.Pattern | None = None  # lines whose words match are left alone
        self.about: dict = {}
        self.tell: Callable[[str], None] = _nobody  # called with the step that begins; see `STAGES`

    def __call__(self, image: Any, mask: Any = None) -> Any:
        """Remove the watermark.

        Args:
            image: a PIL image of any mode, a path, or an (H, W, 3) RGB uint8 array, none of which is changed; or a
                list of them.
            mask: where the mark is, if that is known: an (H, W) array (uint8 0..255, bool, or float in [0, 1]) or a PIL
                image, upright, of the photograph's size; nothing outside of it is changed. A list for a list.

        Returns:
            a `Result`; a list of them for a list.

        Raises:
            ImageError: a file that cannot be read.
            ValueError: anything else that is no photograph, or a mask that does not fit.
        """
        if isinstance(image, (list, tuple)):
            masks = [None] * len(image) if mask is None else mask
            return [self(one, its) for one, its in zip(image, masks, strict=True)]
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ValueError(f"an image array is (H, W, 3) RGB uint8, got {image.shape} {image.dtype}")
            return self.restore(np.ascontiguousarray(image), as_mask(mask, image.shape[:2]))
        if not isinstance(image, (Image.Image, str, Path)):
            raise ValueError(f"give a PIL image, a path or an (H, W, 3) uint8 array, not {type(image).__name__}")
        photo = from_pil(image) if isinstance(image, Image.Image) else read_photo(image)
        result = self.restore(photo.rgb, as_mask(mask, photo.rgb.shape[:2]))
        if photo.pages:
            result.notes.append(f"the first of {1 + len(photo.pages)} pages; `restore_pages` restores them all")
        if isinstance(image, Image.Image):
            result.image = to_pil(photo, result.image, result.mask_uint8)
        else:
            result.image = Image.fromarray(result.image)
        return result

    def restore_pages(self, photo: Photo, mask: np.ndarray | None = None) -> list[Result]:
        """The same for a photograph that was read, and for each of its further pages.

        Args:
            photo: from `read_photo`.
            mask: (H, W) uint8 for all pages of its size; with one, the other pages are left as they are.
        """
        results = [self.restore(photo.rgb, mask)]
        for page in photo.pages:
            fits = mask is None or mask.shape == page.rgb.shape[:2]
            result = self.restore(page.rgb, mask if fits else np.zeros(page.rgb.shape[:2], np.uint8))
            result.notes += [] if fits else ["it is not of the mask's size, and was left as it is"]
            results.append(result)
        return results

    def restore(self, photo: np.ndarray, mask: np.ndarray | None = None) -> Result:
        """The same for an (H, W, 3) uint8 array and an (H, W) uint8 mask."""
        started = time.perf_counter()
        canvas, pyramid = Canvas(photo, mask), Pyramid(photo)
        self.tell(STAGES[0])
        ensemble = Ensemble(self.net, search(self.net, pyramid), "mirror" not in self.without)
        self.tell(STAGES[1])
        lines = self._lines(ensemble) if mask is None else []
        self.tell(STAGES[2])
        regions = self._marks(ensemble, lines) if mask is None else self._given(ensemble, mask)
        self.tell(STAGES[3])
        solver = Solver(ensemble, regions, self.without)
        restored = [
            region
            for region in regions.found
            if restore_or_leave(canvas, solver, region, self._most_left(region, mask))
        ]
        notes = [] if "boxes" in self.without else take_boxes_off(canvas, pyramid, regions, restored)
        if any(not region.found for region in restored):
            notes.append("the network sees no mark in a part of the mask: repainted from its surroundings")
        self.tell(STAGES[4])
        texts = self._second_look(canvas, solver, lines, restored)
        return Result(canvas.restored, canvas.changed, time.perf_counter() - started, restored, notes, texts)

    def _lines(self, ensemble: Ensemble) -> list[Region]:
        """The lines of text of a photograph, with their words; their confidence is 0 where they are to be kept."""
        if self.text is None or "text" in self.without:
            return []
        photo = ensemble.searched.pyramid.photo
        lines = read_lines(self.text, photo)
        judged = judge(ensemble, lines, None if "decision" in self.without else self.decision, self.sensitivity)
        return [replace(line, confidence=0.0) if self._is_kept(line.text_line) else line for line in judged]

    def _is_kept(self, line: Line) -> bool:
        return self.keep_text is not None and bool(self.keep_text.search(line.words))

    def _marks(self, ensemble: Ensemble, lines: list[Region]) -> Regions:
        """The marks of a searched photograph: what more predictions confirm outside of the scene's lines, and lines of text."""
        pyramid, probability = ensemble.searched.pyramid, ensemble.searched.probability.copy()
        whole = box_slices((0, 0, *probability.shape))
        mark_from, scene_below = self.decision.points if self.decision else (0.5, 0.5)
        for line in lines:
            if line.confidence < scene_below:
                probability[line_mask(line.text_line, whole, pyramid.search_factor)] = 0
        if "confirmation" in self.without:
            regions = find_regions(probability, pyramid.search_factor, pyramid.factors)
        else:
            regions = confirm(ensemble, probability)
        regions.found += [line for line in lines if line.confidence >= mark_from]
        return regions

    def _most_left(self, region: Region, mask: np.ndarray | None) -> float:
        """The share of the step along the outline of a region that may be left when it is taken off."""
        if mask is not None or "outline" in self.without:
            return float("inf")
        return step_allowed(region.confidence) if region.line is None else LINE_STEP_LEFT

    def _second_look(
        self, canvas: Canvas, solver: Solver, lines: list[Region], restored: list[Region]
    ) -> list[FoundText]:
        """The fate of every line of text; a mark that is still readable is tried once more."""
        texts, by_themselves = [], {id(region) for region in restored}
        for region in lines:
            assert self.text is not None  # it found the lines
            line = region.text_line
            if self._is_kept(line):
                fate = "kept: as asked for"
            else:
                is_restored = id(region) in by_themselves
                fate = look_again(canvas, solver, self.text, region, is_restored, self._is_sure(region))
            corners = tuple((float(x), float(y)) for x, y in line.quad)
            texts.append(FoundText(line.words, fate, corners))
        return texts

    def _is_sure(self, line: Region) -> bool:
        """True for a line of text that is a mark even where the network does not see its strokes."""
        return self.decision is not None and line.confidence >= self.decision.sure_from

    def _given(self, ensemble: Ensemble, mask: np.ndarray) -> Regions:
        """The regions of a user's mask."""
        searched, factor = ensemble.searched, ensemble.searched.pyramid.search_factor
        given = shrink((mask > 0).astype(np.uint8) * 255, factor)
        return regions_of_mask(given, searched.probability, factor, searched.pyramid.factors)


def _nobody(stage: str) -> None:
    """Told of a step where nobody asks."""


def take_boxes_off(canvas: Canvas, pyramid: Pyramid, regions: Regions, restored: list[Region]) -> list[str]:
    """Take the translucent boxes off from behind restored letters; gives a note for each."""
    letters = [_changed_box(canvas, pyramid, regions, region) for region in restored if region.found]
    notes = []
    for plate in find_plates(canvas.photo, canvas.changed, letters):
        inside = box_slices(plate.box)
        if canvas.mask is not None and np.count_nonzero(canvas.mask[inside]) < BOX_COVERED * canvas.mask[inside].size:
            continue  # a seam would stay where the user's mask ends
        for block, image, cover in take_off(canvas.restored, plate):
            canvas.write_over(block, to_uint8(image), cover)
        notes.append("took a translucent plate off from behind letters")
    return notes


def _changed_box(canvas: Canvas, pyramid: Pyramid, regions: Regions, region: Region) -> Box:
    """The box of what was changed of a region, in pixels of the photograph; all 0 where nothing was."""
    block = pyramid.native(region.box)
    x, y, w, h = cv2.boundingRect((canvas.changed[block] * regions.mask(region, block) > 0).astype(np.uint8))
    top, left = (part.start for part in block)
    return (top + y, left + x, top + y + h, left + x + w) if w else (0, 0, 0, 0)


def as_mask(mask: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """A mask in any of its forms as (H, W) uint8 0..255, or None for none.

    Raises:
        ValueError: it is not of the photograph's size, or not a mask.
    """
    if mask is None:
        return None
    array = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.shape != tuple(shape):
        raise ValueError(
            f"the mask is {array.shape[::-1]} pixels, the photograph {tuple(shape)[::-1]}; they must be alike"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype != bool and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"a mask is uint8 in 0..255, bool, or float in [0, 1], not {array.dtype}")
    return to_uint8(array.astype(np.float32))


def load_remover(
    weights: str | Path | None = None,
    device: str = "auto",
    max_memory: int = USUAL_MEMORY,
    precision: str = "auto",
) -> Remover:
    """Load the network once; the result restores any number of photographs.

    Args:
        weights: a `.safetensors`, a `wm_best_model.pth` or a run's folder; None: those that come with the package.
        device: "auto", "cpu" or "cuda".
        max_memory: megabytes that a photograph of up to 100 megapixels may take on the CPU, the program included.
        precision: "float32", "bf16", or "auto": bf16 where the hardware computes it.

    Raises:
        ValueError: no weights, wrong ones, or an unknown device; never an untrained network.
    """
    if weights is None and not SHIPPED_WEIGHTS.exists():
        raise ValueError(
            f"the package holds no weights ({SHIPPED_WEIGHTS.name} is missing); name some with --weights, such as a run's folder"
        )
    place = choose_device(device)
    net, about = load_model(weights or SHIPPED_WEIGHTS)
    window = max(2, about["config"].get("image_size", TRAINING_SIDE) // STRIDE // 2 * 2)
    fast = FastNet(net, window=window, dtype=pick_precision(precision, place)).to(place)
    remover = Remover(fast, place, tile_core(max_memory, place), step=STRIDE * window // 2)
    card = SHIPPED_WEIGHTS.with_suffix(".json")
    remover.text = load_text_finder(text_pixels(max_memory))
    remover.decision = read_decision()
    remover.own_decision = weights is None
    remover.about = about | ({"card": read_json(card)} if weights is None and card.is_file() else {})
    return remover


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """float32, or bfloat16 where it is asked for or the hardware has it."""
    if name not in ("auto", "float32", "bf16"):
        raise ValueError(f"precision must be auto, float32 or bf16, got {name!r}")
    return torch.bfloat16 if name == "bf16" or (name == "auto" and has_bf16(device)) else torch.float32


def text_pixels(max_memory: int) -> int:
    """Pixels that the text detector sees at once within so many megabytes."""
    return MOST_SEEN if max_memory >= USUAL_MEMORY else MOST_SEEN // 5


def tile_core(max_memory: int, device: torch.device) -> int:
    """Side of a tile that leaves room for the photograph itself, pixels; a GPU begins large and halves when it must."""
    if device.type == "cuda":
        return 1920
    if max_memory < LEAST_MEMORY:
        raise ValueError(f"--max-memory must be at least {LEAST_MEMORY} MB, got {max_memory}")
    return 480 if max_memory >= USUAL_MEMORY else 240  # tiles of 96 pixels overlap so much that they take more

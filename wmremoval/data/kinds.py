"""Kinds of marks that validation scores separately, and fixed samples of each."""

from collections.abc import Mapping
from dataclasses import replace

from torch.utils.data import ConcatDataset

from wmremoval.data.dataset import WatermarkDataset
from wmremoval.data.marks import MARKS, WatermarkConfig

KIND_SIDE = 192  # pixels; side of the samples, as in the tables of earlier trainings, for comparison
# A text, drawn once: no shapes, logos or tilings.
_ONCE = replace(WatermarkConfig(), shape_share=0.0, logo_share=0.0, tiled_share=0.0)

# Kinds of marks by name.
KINDS = {
    "text": _ONCE,
    "shape": replace(_ONCE, shape_share=1.0, lattice_share=0.2),
    "logo": replace(_ONCE, logo_share=1.0),  # only where there are logos
    "tiled": replace(WatermarkConfig(), shape_share=0.0, tiled_share=1.0),
    "faint": replace(WatermarkConfig(), opacity=(0.1, 0.3), opaque_share=0.0),
    "overlays": replace(MARKS["overlays"], overlay_share=1.0),
    "web": MARKS["web"],
    "layouts": replace(MARKS["full_web"], layout_share=1.0),
}


def kind_configs(with_logos: bool) -> dict[str, WatermarkConfig]:
    """The settings of the marks of each kind; the kind "logo" is left out without logos."""
    return {kind: config for kind, config in KINDS.items() if with_logos or kind != "logo"}


class KindsDataset(ConcatDataset):
    """The samples of several datasets in a row; `kinds` holds the kind of each sample.

    Args:
        datasets: by kind.
    """

    def __init__(self, datasets: Mapping[str, WatermarkDataset]):
        super().__init__(datasets.values())
        self.kinds = [kind for kind, dataset in datasets.items() for _ in range(len(dataset))]

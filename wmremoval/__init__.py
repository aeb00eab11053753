"""wmremoval: remove visible watermarks from photographs with a small, self-supervised U-Net."""

__version__ = "0.1.0"

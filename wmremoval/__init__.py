"""wmremoval: remove visible watermarks from photographs with a small, self-supervised U-Net."""

import logging
from typing import Any, TextIO

__version__ = "0.2.0"
__all__ = ["learn_watermarks", "load_remover", "log_to"]


def __getattr__(name: str) -> Any:
    """Import `load_remover` and `learn_watermarks` at their first use, so that `import wmremoval.model` stays fast."""
    if name == "load_remover":
        from wmremoval.restore.remover import load_remover

        return load_remover
    if name == "learn_watermarks":
        from wmremoval.shared.remover import learn_watermarks

        return learn_watermarks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def log_to(stream: TextIO | None) -> None:
    """Write the package's log lines to a stream as plain text.

    Args:
        stream: replaces the stream of an earlier call; None stops the output.
    """
    logger = logging.getLogger(__name__)
    for old in [each for each in logger.handlers if each.get_name() == "log_to"]:
        logger.removeHandler(old)
    if stream is not None:
        handler = logging.StreamHandler(stream)
        handler.set_name("log_to")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)

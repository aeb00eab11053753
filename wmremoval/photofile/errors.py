"""Errors of photograph files: one line for each problem, and no messages from the decoders."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from wmremoval.images import DAMAGED, ImageError
from wmremoval.photofile.pixels import NotSupported

DAMAGED_REMEDY = "fetch it again, or open it in an editor and save it anew"
ONE_AT_A_TIME = threading.RLock()  # held while the process's stderr is redirected


def shown(path: object) -> str:
    """The name of a file, by its path or address, on one line; control characters and invalid encodings are escaped."""
    return _printable(Path(str(path)).name or str(path))


def one_line(error: BaseException, path: str | Path) -> str:
    """The first line of an error's message without the path, at most 200 characters; its type if there is none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).replace(str(path), "").replace(repr(str(path)), "")
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return _printable(first)[:200]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Pillow's warnings and log lines about unusual metadata."""
    logger = logging.getLogger("PIL")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """Suppress messages that libtiff and libjpeg write to stderr themselves. One thread at a time.

    The block redirects the process's stderr, since Pillow has no setting for it.
    """
    with ONE_AT_A_TIME:
        try:
            kept = os.dup(2)
        except OSError:  # there is no stderr
            kept = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            os.close(nowhere)


@contextmanager
def explained(path: str | Path) -> Iterator[Path]:
    """Turn every error of reading or decoding a file into an `ImageError` of one line."""
    path = Path(path)
    try:
        with quiet():
            yield path
    except ImageError:
        raise
    except NotSupported as error:
        raise ImageError(f"{shown(path)}: {error}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{shown(path)}: too large, over the megapixels the decoder allows; make it smaller") from None
    except FileNotFoundError:
        raise ImageError(f"{shown(path)}: there is no such file; check the name") from None
    except PermissionError:
        raise ImageError(f"{shown(path)}: no permission to read it; change its permissions") from None
    except MemoryError:
        raise ImageError(
            f"{shown(path)}: not enough memory to decode it; close other programs, or make it smaller"
        ) from None
    except DAMAGED as error:
        raise ImageError(f"{shown(path)}: not a readable image ({one_line(error, path)}); {DAMAGED_REMEDY}") from None

"""`LiveFigure`: a training in a notebook, drawn in place while it runs."""

import time

from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from wmremoval.report.plots import progress
from wmremoval.training.loop import TrainResult
from wmremoval.training.trainer import Training

TEXT_SECONDS = 1.0  # seconds between two changes of the text at least; chosen and not measured


def someone_watches() -> bool:
    """True in a notebook that a person has open. Programs that run notebooks (papermill, nbconvert) take no input."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


class LiveFigure:
    """Shows loss, validation PSNR and learning rate in one figure that changes in place, and the time left.

    It is the `watch` of `fit`. Where nobody watches it shows nothing, so that `fit` logs a line an epoch.

    Args:
        training: the one that is shown.
        watched: True: show it; None: find out.
    """

    def __init__(self, training: Training, watched: bool | None = None):
        self.training = training
        self.watched = someone_watches() if watched is None else watched
        self.began = self.told = time.monotonic()
        self.rows = -1  # of the history that the figure shows
        self.text = self.figure = None  # handles of what is displayed

    def __call__(self, result: TrainResult) -> bool:
        """Show the state of a result; True if the rows of its history are shown here."""
        if not self.watched:
            return False
        now = time.monotonic()
        share = self.training.schedule.share_done(result, self.training.steps_per_epoch)
        if self.text is None or len(result.history) != self.rows or now - self.told >= TEXT_SECONDS:
            self.told = now
            self._tell(status(result, share, now - self.began))
        if len(result.history) != self.rows:
            self.rows = len(result.history)
            self._draw(progress(result.history))
        return True

    def _tell(self, text: str) -> None:
        if self.text is None:
            self.text = display(Markdown(text), display_id=True)
        else:
            self.text.update(Markdown(text))

    def _draw(self, figure: Figure) -> None:
        if self.figure is None:
            self.figure = display(figure, display_id=True)
        else:
            self.figure.update(figure)


def status(result: TrainResult, share: float, seconds: float) -> str:
    """One line on a training: what is done, the latest scores, and the time left.

    Args:
        result: so far.
        share: of the training that is done, in [0, 1].
        seconds: since it began.
    """
    parts = [f"{share:.0%} done after {seconds:.0f} s"]
    if 0 < share < 1:
        parts.append(f"about {seconds * (1 - share) / share:.0f} s left")
    if result.history:
        last = result.history[-1]
        parts.append(f"validation loss {last['val_loss']:.3f}, PSNR {last['val_psnr']:.2f} dB")
    return "; ".join(parts)

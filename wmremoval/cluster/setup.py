"""The settings of a run that every process needs to load the network, small enough to be sent to all of them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wmremoval.restore import remover as restoring
from wmremoval.restore.remover import Remover
from wmremoval.restore.text import MISSING
from wmremoval.shared.learn import Shared
from wmremoval.shared.remover import SharedRemover


@dataclass(frozen=True)
class Setup:
    """The remover of a run; see `load_remover` for the first four."""

    weights: str | None = None
    device: str = "auto"
    max_memory: int = 2000
    precision: str = "auto"
    keep_text: re.Pattern | None = None  # lines of text that match are left alone
    sensitivity: float = 0.0  # added to the log-odds of every line of text
    shared: Shared = field(default_factory=Shared)  # what photographs share; known marks are taken off first

    def load(self) -> Remover:
        """The remover without the known marks.

        Raises:
            ValueError: no weights, wrong ones, or an unknown device.
        """
        loaded = restoring.load_remover(self.weights, self.device, self.max_memory, self.precision)
        loaded.keep_text, loaded.sensitivity = self.keep_text, self.sensitivity
        return loaded

    def with_marks(self, remover: Remover) -> Remover:
        """A remover that takes the known marks off, too; the same one where there are none."""
        return SharedRemover(remover, self.shared) if any(self.shared) else remover

    def facts(self, remover: Remover) -> dict[str, Any]:
        """The facts of a loaded remover for the head of a report."""
        card = remover.about.get("card", {"file": Path(self.weights).name if self.weights else None})
        return {
            "weights": {name: card[name] for name in ("file", "sha256", "date") if name in card},
            "decision": "fitted on these weights" if remover.own_decision else "fitted on the package's weights",
            "text": "lines of text are sought" if remover.text is not None else MISSING,
            "device": str(remover.net.device),
        }

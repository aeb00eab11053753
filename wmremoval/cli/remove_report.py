"""The outcomes of `wmremoval remove`: printed lines, counts, summary and report file."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from wmremoval import __version__
from wmremoval.batch.run import Outcome
from wmremoval.files import finite, write_json
from wmremoval.photofile.kinds import ADVICE

STATUSES = ("restored", "unmarked", "kept", "failed")
MOST_REASONS = 6  # kinds or reasons that the summary names; the rest is counted as "other"
MOST_WORDS = 3  # lines of text that the line of a photograph names
MOST_MARKS = 3  # marks whose places a line of a dry run names


@dataclass
class Counts:
    """The number of photographs of each outcome; small, whatever their number."""

    statuses: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)  # of failures
    left_out: Counter = field(default_factory=Counter)  # files that are no photographs, by kind

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.statuses[outcome.status] += 1
        if outcome.status == "failed":
            self.reasons[reason(outcome.error)] += 1

    @property
    def photographs(self) -> int:
        """All that were tried."""
        return sum(self.statuses.values())

    def as_json(self) -> dict[str, dict[str, int]]:
        """For a report."""
        return {
            "summary": {status: self.statuses[status] for status in STATUSES},
            "left_out": dict(self.left_out.most_common()),
            "failed_by_reason": dict(self.reasons.most_common()),
        }

    def line(self, seconds: float, dry_run: bool) -> str:
        """The summary at the end."""
        count = self.statuses
        restored = "would be restored" if dry_run else "restored"
        return (
            f"{self.photographs} photographs in {seconds:.1f} s: {count['restored']} {restored}, "
            f"{count['unmarked']} without a mark, {count['kept']} there already, "
            f"{self.left_out.total()} left out{_listed(self.left_out)}, {count['failed']} failed{_listed(self.reasons)}"
        )

    def advice(self) -> list[str]:
        """A line for each kind that was left out and could be read."""
        return [f"{kind}: {ADVICE[kind]}" for kind in self.left_out if kind in ADVICE]


def _listed(counter: Mapping[str, int]) -> str:
    """` (3 GIF, 2 JPEG XL)`, the most frequent first; nothing for none."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{number} {_printable(name)}" for name, number in ordered[:MOST_REASONS]]
    rest = sum(number for _, number in ordered[MOST_REASONS:])
    return f" ({', '.join(parts + ([f'{rest} other'] if rest else []))})" if parts else ""


def reason(error: str) -> str:
    """The reason of a failure without the file's name, numbers of pixels and details.

    Example:
        >>> reason("a.png: not a readable image (broken data stream)"), reason("b.jpg: 3 x 4 is no picture")
        ('not a readable image', 'is no picture')
    """
    text = error.partition(": ")[2] or error
    text = re.sub(r"^\d+ x \d+ ", "", text)
    return re.split(r" \(|: |; ", text)[0]


def outcome_line(outcome: Outcome, dry_run: bool = False) -> str:
    """One line for the terminal."""
    name = _printable(outcome.name)
    if outcome.status == "failed":
        return f"failed: {outcome.error}"
    notes = "".join(f"; {_printable(note)}" for note in outcome.notes)
    if outcome.status == "kept":
        return f"{name}: was there already, left as it is{notes}"
    found = f"mark on {_percent(outcome.area)}" if outcome.status == "restored" else "no mark found"
    if not dry_run:
        return f"{name}: {found}{_words(outcome.texts)}, {outcome.seconds:.1f} s{notes}"
    width, height = outcome.size
    what = f"{outcome.format} {width} x {height}, result of {outcome.bytes / 1000:.0f} kB"
    if outcome.status == "restored":
        found = f"would be restored, {found}{_places(outcome.marks)}"
    return f"{name}: {found}{_words(outcome.texts)}, {what}, {outcome.seconds:.1f} s{notes}"


def _words(texts: list[dict[str, Any]]) -> str:
    """` (removed "Sample"; still readable "Proof")`: the words of marks; those of the scene are in the report only."""
    parts = []
    for fate in ("removed", "still readable"):
        words = [f'"{_printable(text["words"])}"' for text in texts if text["fate"] == fate and text["words"]]
        more = f" and {len(words) - MOST_WORDS} more" if len(words) > MOST_WORDS else ""
        parts += [f"{fate} {', '.join(words[:MOST_WORDS])}{more}"] if words else []
    return f" ({'; '.join(parts)})" if parts else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.2g}%"


def _places(marks: list[dict[str, Any]]) -> str:
    boxes = ["{},{} to {},{}".format(*mark["box"]) for mark in marks[:MOST_MARKS]]
    more = f" and {len(marks) - MOST_MARKS} more" if len(marks) > MOST_MARKS else ""
    return f" at {'; '.join(boxes)}{more}" if boxes else ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class Report:
    """A report file: `.jsonl` is written line by line as the run goes, any other name as JSON at the end.

    The first line of a `.jsonl` tells of the run, the last one holds the counts; each line between is a photograph.

    Args:
        path: the file, or None for no report.
        head: what is known of the run before it.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path | None, head: Mapping[str, Any]):
        self.path, self.head = path, head
        self.by_line = path is not None and path.suffix.lower() == ".jsonl"
        self.rows: list[dict] = []  # only of a report that is written at the end
        self.error: OSError | None = None  # a line could not be written
        self._file: IO[str] | None = None
        if path is not None and self.by_line:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._line(head)

    def add(self, outcome: Outcome) -> None:
        """Take in one outcome."""
        if self.path is not None and not self.by_line:
            self.rows.append(asdict(outcome))
        elif self.by_line:
            self._line(asdict(outcome))

    def finish(self, counts: Counts, tail: Mapping[str, Any]) -> None:
        """Complete the report.

        Args:
            counts: of the run.
            tail: what is known of the run after it.

        Raises:
            OSError: the file cannot be written, or a line could not be.
        """
        if self._file is not None:
            self._line({**tail, **counts.as_json()})
            self._file.close()
            if self.error is not None:
                raise self.error
        elif self.path is not None:
            rows = sorted(self.rows, key=lambda row: row["name"])
            photographs = {"photographs": [_json_safe(row) for row in rows]}
            write_json(self.path, {**self.head, **tail, **counts.as_json(), **photographs})

    def _line(self, row: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(_json_safe(finite(row)), ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            self.error = self.error or error


def report_head(facts: Mapping[str, Any], processes: int, dry_run: bool) -> dict[str, Any]:
    """The head of a report: the facts of the run itself.

    Args:
        facts: of the remover; see `Setup.facts`.
        processes: number of those that restore.
        dry_run: True where nothing is written.
    """
    date = datetime.now().isoformat(timespec="seconds")
    head = {"wmremoval": __version__, "date": date, **facts, "processes": processes}
    return head | ({"dry_run": True} if dry_run else {})


def _json_safe(value: Any) -> Any:
    """Escape the bytes of file names that are not UTF-8, since JSON cannot hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: _json_safe(item) for name, item in value.items()}
    return [_json_safe(item) for item in value] if isinstance(value, list) else value

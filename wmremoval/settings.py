"""A setting of a configuration: group, unit, range, choices and help beside its default, and the check that follows from them."""

import math
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints


@dataclass(frozen=True)
class Setting:
    """One field of a configuration, as its declaration describes it."""

    name: str
    kind: type  # of its values: bool, int, float or str
    optional: bool  # None is a value too
    default: Any
    group: str
    help: str
    unit: str = ""
    least: float | None = None  # smallest value
    above: float | None = None  # values are greater than it
    most: float | None = None  # largest value
    below: float | None = None  # values are smaller than it
    choices: tuple = ()  # the only values; (): any of the kind
    metavar: str = ""  # of the value in a command's help; "": by kind
    none: str = ""  # meaning of None, for a command's help

    @property
    def range(self) -> str:
        """The allowed numbers in words, such as "from 0 to 1"; "" where every number is allowed."""
        if self.above is not None:
            return f"above {self.above:g}"
        if self.least is None:
            return ""
        if self.most is not None:
            return f"from {self.least:g} to {self.most:g}"
        return f"of at least {self.least:g}" + ("" if self.below is None else f" and below {self.below:g}")

    def check(self, value: Any) -> None:
        """Check a value against choices, kind and range.

        Raises:
            ValueError: the value is not allowed; one line with the setting, its range and the value.
        """
        if self.optional and value is None:
            return
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{self.name} must be one of {', '.join(map(str, self.choices))}, got {value!r}")
        elif self.kind in (int, float) and not (_is_number(value, self.kind) and self._holds(value)):
            noun = "whole number" if self.kind is int else "number"
            raise ValueError(f"{' '.join((self.name, 'must be a', noun, self.range)).rstrip()}, got {value!r}")

    def _holds(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def setting(default: Any, group: str, help: str, unit: str = "", **limits: Any) -> Any:
    """Declare a field of a configuration; a dataclass's `field` with the description in its metadata.

    Args:
        default: the value where none is given.
        group: heading under which a command lists it.
        help: its meaning in one line, without unit, range and default.
        unit: of its values.
        limits: `least`, `above`, `most`, `below`, `choices`, `metavar` and `none`, see `Setting`.
    """
    return field(default=default, metadata={"group": group, "help": help, "unit": unit} | limits)


@cache
def settings_of(config: type) -> tuple[Setting, ...]:
    """All settings of a configuration class, in their order.

    The kind of a setting is the first type of its annotation: `int | None` is a whole number that may be None, and
    `bool | str` a switch that has further words.
    """
    found = []
    for each in fields(config):
        kinds = get_args(hint := get_type_hints(config)[each.name]) or (hint,)
        found.append(Setting(each.name, kinds[0], type(None) in kinds, each.default, **each.metadata))
    return tuple(found)


def check_settings(config: Any) -> None:
    """Check every field of a configuration, for its `__post_init__`.

    Raises:
        ValueError: a value is not allowed; one line with the setting, its range and the value.
    """
    kind: Any = type(config)  # a class can be hashed, which its stub does not say
    for each in settings_of(kind):
        each.check(getattr(config, each.name))


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        return False
    return math.isfinite(value)

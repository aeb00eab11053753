"""A setting of a configuration: group, unit, range, choices and help beside its default, and the check that follows from them."""

import math
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

NAMES = {bool: "True or False", str: "text", Path: "a path"}  # of kinds of values, for errors


@dataclass(frozen=True)
class Setting:
    """One field of a configuration, as its declaration describes it."""

    name: str
    kind: type  # of its values: bool, int, float, str, tuple or a class
    optional: bool  # None is a value too
    default: Any
    group: str = ""  # heading under which a command lists it
    help: str = ""
    unit: str = ""
    least: float | None = None  # smallest value
    above: float | None = None  # values are greater than it
    most: float | None = None  # largest value
    below: float | None = None  # values are smaller than it
    choices: tuple = ()  # the only values; (): any of the kind
    words: tuple[str, ...] = ()  # further values of a number
    metavar: str = ""  # of the value in a command's help; "": by kind
    none: str = ""  # meaning of None, for a command's help
    kinds: tuple[type, ...] = ()  # all kinds of its values, where no choices, no number and no tuple are wanted
    items: tuple[Any, ...] = ()  # kinds of the items of a tuple; the last is `...` for any number of the first

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

    @property
    def allowed(self) -> str:
        """The allowed values in words, as an error ends with them."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.kind in (int, float):
            number = " ".join(("a", "whole number" if self.kind is int else "number", self.range)).rstrip()
            return ", or ".join((number, *self.words))
        if self.items == (float, float):
            return f"two rising numbers {self.range}".rstrip()
        if self.items:
            return f"a tuple of {self.items[0].__name__}"
        return " or ".join(NAMES.get(kind, f"a {kind.__name__}") for kind in self.kinds)

    def check(self, value: Any) -> None:
        """Check a value against choices, kind and range.

        Raises:
            ValueError: the value is not allowed; one line with the setting, its range and the value.
        """
        if not (self.optional and value is None) and not self._allows(value):
            raise ValueError(f"{self.name} must be {self.allowed}, got {value!r}")

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if self.kind in (int, float):
            return (isinstance(value, str) and value in self.words) or self._holds(value, self.kind)
        if self.items == (float, float):
            pair = isinstance(value, tuple) and len(value) == 2 and all(self._holds(x, float) for x in value)
            return pair and value[0] <= value[1]
        if self.items:
            return isinstance(value, tuple) and all(isinstance(x, self.items[0]) for x in value)
        return isinstance(value, self.kinds)

    def _holds(self, value: Any, kind: type) -> bool:
        return (
            _is_number(value, kind)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def setting(default: Any, group: str = "", help: str = "", unit: str = "", **limits: Any) -> Any:
    """Declare a field of a configuration; a dataclass's `field` with the description in its metadata.

    Args:
        default: the value where none is given.
        group: heading under which a command lists it.
        help: its meaning in one line, without unit, range and default.
        unit: of its values.
        limits: `least`, `above`, `most`, `below`, `choices`, `words`, `metavar` and `none`, see `Setting`.
    """
    return field(default=default, metadata={"group": group, "help": help, "unit": unit} | limits)


def share(default: float) -> Any:
    """Declare a field that is a share, from 0 to 1."""
    return setting(default, least=0, most=1)


@cache
def settings_of(config: type) -> tuple[Setting, ...]:
    """All settings of a configuration class, in their order.

    The kind of a setting is the first type of its annotation: `int | None` is a whole number that may be None, and
    `bool | str` a switch that has further words. A field that `setting` did not declare is checked by its type alone.
    """
    found = []
    for each in fields(config):
        hint = get_type_hints(config)[each.name]
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = tuple(get_origin(part) or part for part in parts if part is not type(None))
        found.append(
            Setting(
                each.name,
                kinds[0],
                type(None) in parts,
                each.default,
                **each.metadata,
                kinds=kinds,
                items=get_args(parts[0]),
            )
        )
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

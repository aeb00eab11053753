"""Every field of every configuration refuses what it does not allow; the error names the field and what it allows."""

import dataclasses
import importlib
import math
import re
from pathlib import Path

import pytest

import wmremoval
from wmremoval.settings import settings_of

hypothesis = pytest.importorskip("hypothesis", reason="of the extra `tests`")
st = hypothesis.strategies

PACKAGE = Path(wmremoval.__file__).parent
CLASSES = re.compile(r"^class (\w*(?:Config|Options))\b", re.M)
TEXT = st.text(max_size=5)
NUMBERS = st.integers(-1000, 1000) | st.floats()
OTHER = (
    st.just(object)
    | st.binary(max_size=2)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(TEXT, TEXT, max_size=1)
)


def configurations():
    """Every class of settings in the package, by its name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in CLASSES.findall(path.read_text(encoding="utf-8")):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            yield getattr(importlib.import_module(module), name)


FIELDS = [
    pytest.param(config, each, id=f"{config.__name__}.{each.name}")
    for config in configurations()
    for each in settings_of(config)
]


def outside(each):
    """Numbers beyond the limits of a setting, and those that are no numbers."""
    least, most = (
        each.least if each.least is not None else each.above,
        each.most if each.most is not None else each.below,
    )
    found = [math.nan, math.inf, -math.inf]
    found += [] if least is None else [least - 1, least - 0.5, least - 10**9]
    found += [] if most is None else [most + 1, most + 0.5, most + 10**9]
    found += [each.above] * (each.above is not None) + [each.below] * (each.below is not None)
    return found


def bad_values(each):
    """Values that a setting does not allow, by its kind."""
    if each.choices:
        wrong = (TEXT | NUMBERS | OTHER).filter(lambda x: not any(type(x) is type(y) and x == y for y in each.choices))
    elif each.kind in (int, float):
        fractions = st.floats(0.1, 0.9).map(lambda x: 3 + x) if each.kind is int else st.nothing()
        wrong = (
            st.sampled_from(outside(each))
            | fractions
            | st.booleans()
            | OTHER
            | TEXT.filter(lambda x: x not in each.words)
        )
    elif each.kind is bool:
        wrong = NUMBERS | TEXT | OTHER
    elif each.items == (float, float):
        within = st.floats(each.least, each.most, exclude_min=True)
        falling = within.map(lambda x: (x, each.least))
        beyond = st.sampled_from(outside(each)).map(lambda x: (x, each.most) if not x > each.most else (each.least, x))
        wrong = falling | beyond | st.tuples(within) | st.tuples(within, within, within) | within | TEXT | OTHER
    elif each.items:
        wrong = NUMBERS | TEXT | OTHER | st.tuples(NUMBERS)
    else:
        wrong = NUMBERS | OTHER | (st.nothing() if str in each.kinds else TEXT)
    return wrong if each.optional else wrong | st.none()


@pytest.mark.parametrize(("config", "each"), FIELDS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=25, derandomize=True, database=None, deadline=None)
def test_a_bad_value_is_one_line_with_the_field_and_what_it_allows(config, each, data):
    value = data.draw(bad_values(each))
    given = {field.name: field.default for field in dataclasses.fields(config)} | {each.name: value}
    with pytest.raises(ValueError, match=rf"^{each.name} must be .+, got ") as caught:
        config(**given)
    message = str(caught.value)
    assert "\n" not in message
    limits = [each.least, each.above, each.most, each.below]
    for allowed in (*each.choices, *each.words, *(f"{limit:g}" for limit in limits if limit is not None)):
        assert str(allowed) in message.rpartition(", got ")[0]


@pytest.mark.parametrize(("config", "each"), FIELDS)
def test_a_default_is_allowed_and_a_number_has_a_limit(config, each):
    each.check(each.default)
    if each.kind in (int, float) or each.items == (float, float):
        assert each.choices or each.least is not None or each.above is not None, "a number below 0 is allowed"


def test_the_known_configurations_are_among_them():
    names = {param.values[0].__name__ for param in FIELDS}
    assert names >= {"TrainConfig", "SampleConfig", "WatermarkConfig", "SuiteConfig", "ScoreOptions", "Options"}

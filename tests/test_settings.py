"""Settings described at their fields: kinds, ranges in words, checks, and the command's options that follow from them."""

import argparse
from dataclasses import dataclass, fields

import pytest

from wmremoval.cli.train import add_train
from wmremoval.config import TrainConfig
from wmremoval.settings import check_settings, setting


@dataclass(frozen=True)
class Example:
    count: int = setting(3, "numbers", "a count", "photographs", least=1)
    most: int | None = setting(None, "numbers", "a limit", least=0, none="all")
    share: float = setting(0.5, "numbers", "a share", least=0, most=1)
    decay: float = setting(0.0, "numbers", "a decay", least=0, below=1)
    rate: float = setting(1e-3, "numbers", "a rate", above=0)
    colour: str = setting("red", "words", "a colour", choices=("red", "blue"))
    fast: bool | str = setting(False, "words", "a switch", choices=(False, True, "auto"))

    def __post_init__(self):
        check_settings(self)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count must be a whole number of at least 1, got 0"),
        ("count", 2.0, "count must be a whole number of at least 1, got 2.0"),
        ("count", True, "count must be a whole number of at least 1, got True"),
        ("count", None, "count must be a whole number of at least 1, got None"),
        ("most", -1, "most must be a whole number of at least 0, got -1"),
        ("share", 1.5, "share must be a number from 0 to 1, got 1.5"),
        ("share", "0.5", "share must be a number from 0 to 1, got '0.5'"),
        ("decay", 1.0, "decay must be a number of at least 0 and below 1, got 1.0"),
        ("rate", 0, "rate must be a number above 0, got 0"),
        ("rate", float("nan"), "rate must be a number above 0, got nan"),
        ("colour", "green", "colour must be one of red, blue, got 'green'"),
        ("fast", "yes", "fast must be one of False, True, auto, got 'yes'"),
    ],
)
def test_an_error_names_setting_range_and_value(name, value, message):
    with pytest.raises(ValueError) as caught:
        Example(**{name: value})
    assert str(caught.value) == message


def test_values_at_the_ends_of_a_range_and_none_where_it_is_a_value_are_accepted():
    given = {"count": 1, "most": None, "share": 1, "decay": 0, "rate": 1e-9, "colour": "blue", "fast": "auto"}
    example = Example(**given)
    assert {name: getattr(example, name) for name in given} == given


def train_options() -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    add_train(commands)
    return {action.dest: action for action in commands.choices["train"]._actions}


def test_every_setting_is_an_option_whose_help_tells_its_default_and_that_is_none_unless_given():
    options = train_options()
    for field in fields(TrainConfig):
        option = options[field.name]
        assert f"--{field.name.replace('_', '-')}" in option.option_strings
        assert option.default is None and "default" in option.help and "%" not in option.help


def test_options_have_the_types_of_their_settings():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    add_train(commands)
    line = "--epochs 3 --zoom 2 --no-composite --compile --init a.pth --lr-drop-epoch 0 --marks web --ema 0.9".split()  # noqa: SIM905
    given = commands.choices["train"].parse_args(line)
    assert (given.epochs, given.zoom, given.composite, given.compile) == (3, 2.0, False, True)
    assert (given.start, given.lr_drop_epoch, given.marks, given.ema) == ("a.pth", 0, "web", 0.9)
    assert commands.choices["train"].parse_args(["--compile", "auto"]).compile == "auto"

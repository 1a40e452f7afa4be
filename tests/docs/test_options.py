"""The tables of `docs/options.md` against the parsers of the commands."""

import argparse
from importlib import import_module
from typing import Any, NoReturn

import pytest

from tests.docs.pages import DOCS, quoted, sections, table_rows
from xmflow_jax.__main__ import COMMANDS
from xmflow_jax.data.sources.prepared import BENCHMARKS
from xmflow_jax.knockout.windows import STYLES
from xmflow_jax.scoring.scorers import SCORERS
from xmflow_jax.study.options import DEMO_MODEL, PRESET_MODEL, SHAPES_CROSSATTN, SHAPES_LLAVA

PAGE = sections((DOCS / "options.md").read_text(encoding="utf-8"))
# `report` is a package; it has no place in the console script.
MODULES = {**{name: f"xmflow_jax.{name}" for name in COMMANDS}, "report": "xmflow_jax.report.__main__"}


class ParserSeen(Exception):
    """A command asked its parser to parse."""


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise ParserSeen(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(ParserSeen) as seen:
        import_module(MODULES[command]).main([])
    parser: argparse.ArgumentParser = seen.value.args[0]
    return parser


def option_names(action: argparse.Action) -> list[str]:
    return list(action.option_strings) or [str(action.metavar or action.dest).upper()]


def documented(command: str) -> dict[str, list[str]]:
    """The cells behind each option of a command's tables."""
    rows = table_rows(PAGE[command], "option")
    names = [quoted(cells[0]) for cells in rows]
    assert all(len(own) == 1 for own in names), "an option a row, between backticks"
    return {own[0]: cells[1:] for own, cells in zip(names, rows, strict=True)}


@pytest.mark.parametrize("command", MODULES)
def test_every_option_has_a_row_and_every_row_an_option(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = [action for action in parser_of(command, monkeypatch)._actions if action.dest != "help"]
    real = {name for action in actions for name in option_names(action)}
    told = set(documented(command))
    assert told == real, f"docs/options.md, {command}: lacks {sorted(real - told)}, has beyond {sorted(told - real)}"


@pytest.mark.parametrize("command", MODULES)
def test_defaults_are_those_of_the_parser(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = documented(command)
    for action in parser_of(command, monkeypatch)._actions:
        value = action.default[0] if isinstance(action.default, list) else action.default
        if value is None or isinstance(value, bool) or action.dest == "help":
            continue
        name = option_names(action)[0]
        told = quoted(rows[name][0])
        expected = f"{value:g}" if isinstance(value, float) else str(value)
        assert told == [expected], f"docs/options.md, {command} {name}: the default is {expected}, the page says {told}"


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("sweep", "--style", STYLES),
        ("sweep", "--model", (SHAPES_LLAVA, SHAPES_CROSSATTN, DEMO_MODEL, PRESET_MODEL)),
        ("evaluate", "--scorer", tuple(SCORERS)),
        ("prepare", "NAME", BENCHMARKS),
    ],
)
def test_choices_are_all_named(command: str, option: str, choices: tuple[str, ...]) -> None:
    assert set(choices) <= set(quoted(documented(command)[option][1]))

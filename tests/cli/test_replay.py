"""A recorded command asks for the very options it was made from."""

import shlex
from pathlib import Path

import pytest

from xmflow_jax.cli.replay import command_line
from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.data.question import Question
from xmflow_jax.study.options import SweepOptions, sweep_options

OWN = Question("1", "image", Path("image.png"), "Is it red?", "yes", "own")


@pytest.mark.parametrize(
    "options",
    [
        SweepOptions(),
        SweepOptions(model="some dir/model", data=("a b.csv", "c.csv"), images=Path("the images"), samples=3),
        SweepOptions(
            template="<image>\\n{question} it's",
            heads=(0, 2, 3),
            each_head=True,
            pathways="Image->Question, Image->Last@to-end",
        ),
        SweepOptions(whole_answers=False, self_check=False, seed=7, dtype="bfloat16", batch_size=4, out=Path("runs/x")),
    ],
)
def test_the_command_parses_to_the_same_options(options: SweepOptions) -> None:
    told = command_line(options)
    assert told is not None
    assert parse_sweep_arguments(shlex.split(told)[3:]) == options


def test_only_what_differs_from_the_defaults_is_told() -> None:
    assert command_line(SweepOptions()) == "python -m xmflow_jax.sweep"
    assert command_line(SweepOptions(samples=60)) == "python -m xmflow_jax.sweep --samples 60"


def test_a_callers_own_questions_have_no_command() -> None:
    assert command_line(sweep_options(data=(OWN,))) is None

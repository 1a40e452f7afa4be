"""The sweep's options: the command line against the data class, and what is refused before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.errors import OptionError
from xmflow_jax.study.options import SweepOptions, check_options, sweep_options


def test_no_arguments_are_the_defaults() -> None:
    assert parse_sweep_arguments([]) == SweepOptions()
    check_options(SweepOptions())


GIVEN: dict[str, tuple[list[str], Any]] = {
    "model": (["owner/name"], "owner/name"),
    "vouch": (["text_config.gate"], ("text_config.gate",)),
    "data": (["a.csv", "b"], ("a.csv", "b")),
    "images": (["pictures"], Path("pictures")),
    "annotations": (["answers.json"], Path("answers.json")),
    "scene_graphs": (["graphs.json"], Path("graphs.json")),
    "split": (["testdev[:9]"], "testdev[:9]"),
    "data_dir": (["sets"], Path("sets")),
    "template": (["{question} <image>"], "{question} <image>"),
    "pathways": (["Image->Last@single"], "Image->Last@single"),
    "window": (["7"], 7),
    "style": (["to-end"], "to-end"),
    "keep_only": (["Image->Last@single"], "Image->Last@single"),
    "zero_output": (["self:Image"], "self:Image"),
    "mode": (["zero"], "zero"),
    "heads": (["0, 3,8-11,3"], (0, 3, 8, 9, 10, 11)),
    "each_head": ([], True),
    "controls": (["3"], 3),
    "select": (["wrong"], "wrong"),
    "samples": (["12"], 12),
    "engine": (["plain"], "plain"),
    "dtype": (["bfloat16"], "bfloat16"),
    "batch_size": (["4"], 4),
    "mesh": (["data=1"], "data=1"),
    "distributed": ([], True),
    "coordinator": (["first:9911"], "first:9911"),
    "processes": (["4"], 4),
    "process": (["3"], 3),
    "answer_length": (["3"], 3),
    "seed": (["5"], 5),
    "out": (["runs/x"], Path("runs/x")),
    "dry_run": ([], True),
    "preview": (["2"], 2),
}


def test_every_option_reaches_its_field_and_no_other() -> None:
    assert {*GIVEN, "self_check", "whole_answers", "questions"} == set(vars(SweepOptions()))
    assert parse_sweep_arguments(["--first-token-only"]) == SweepOptions(whole_answers=False) != SweepOptions()
    assert parse_sweep_arguments(["--no-self-check"]) == SweepOptions(self_check=False) != SweepOptions()
    assert parse_sweep_arguments(["--preview"]) == SweepOptions(preview=3)
    for name, (words, value) in GIVEN.items():
        parsed = parse_sweep_arguments([f"--{name.replace('_', '-')}", *words])
        assert parsed == SweepOptions(**{name: value}), name
        assert parsed != SweepOptions(), name


def test_a_script_may_give_one_file_and_paths_as_text() -> None:
    options = sweep_options(model=Path("m"), data="a.csv", images="pictures")
    assert options == SweepOptions(model="m", data=("a.csv",), images=Path("pictures"))
    assert sweep_options(data=[Path("a.csv"), "b"]).data == ("a.csv", "b")
    assert sweep_options(heads=range(2)).heads == (0, 1)
    check_options(sweep_options(data="demo"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "remove"}, "--mode 'remove' is not one of: mask, zero, mean"),
        ({"style": "round"}, "--style 'round' is not one of: centred, from-start, to-end, single"),
        ({"select": "right"}, "--select 'right' is not one of: correct, wrong, all"),
        ({"engine": "warp"}, "--engine 'warp' is not one of: fast, plain"),
        ({"dtype": "float16"}, "--dtype 'float16' is not one of: float32, bfloat16"),
        ({"dtype": ""}, "--dtype '' is not one of: float32, bfloat16"),
        ({"window": 0}, "--window 0 is not 1 or more"),
        ({"samples": -1}, "--samples -1 is not 1 or more"),
        ({"batch_size": 0}, "--batch-size 0 is not 1 or more"),
        ({"answer_length": 0}, "--answer-length 0 is not 1 or more"),
        ({"answer_length": 1001}, "--answer-length 1001 is not at most 1000"),
        ({"seed": -1}, "--seed -1 is not 0 or more"),
        ({"controls": -1}, "--controls -1 is not 0 or more"),
        ({"controls": 1001}, "--controls 1001 is not at most 1000"),
        ({"heads": ()}, "--heads names no head; leave it out to block all of them"),
        ({"data": ("a.csv", "b.csv")}, "--data a.csv b.csv needs --images, the folder of its images"),
        ({"data": ("gqa", "ok_vqa")}, "--data gqa ok_vqa: a prepared benchmark goes alone"),
        ({"annotations": "a.json"}, "--annotations goes with a question file; --data shapes is none"),
        ({"data": ("gqa",), "scene_graphs": "a.json"}, "--scene-graphs goes with a question file; --data gqa is none"),
        (
            {"data": ("a.csv",), "images": "i", "split": "test"},
            "--split goes with a prepared benchmark (vqa_v2, ok_vqa, gqa, gqa_study), not a.csv",
        ),
        (
            {"data_dir": "sets"},
            "--data-dir goes with a prepared benchmark (vqa_v2, ok_vqa, gqa, gqa_study), not shapes",
        ),
    ],
)
def test_values_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as refusal:
        check_options(sweep_options(**changes))
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("pathways", "named"),
    [
        ("", "''"),
        ("Image->Last,", "empty place"),
        ("Image", "'Image'"),
        ("Image->Last->Last", "'Image->Last->Last'"),
        ("Picture->Last", "'Picture'"),
        ("Image->Last@round", "'round'"),
        ("Image->Last@", "''"),
        ("Image->Last, image->LAST", "twice"),
    ],
)
def test_pathways_that_cannot_be_used(pathways: str, named: str) -> None:
    with pytest.raises(OptionError) as refusal:
        check_options(SweepOptions(pathways=pathways))
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("heads", ["", "a", "1-", "-1", "1-b", "3-1", "1,,2", "0x1", "1.5"])
def test_heads_that_are_none(heads: str) -> None:
    with pytest.raises(OptionError) as refusal:
        parse_sweep_arguments([f"--heads={heads}"])
    assert "--heads" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--colour", "red"], "--colour"),
        (["stray"], "stray"),
        (["--window", "wide"], "'wide'"),
        (["--samples", "1.5"], "'1.5'"),
        (["--data"], "--data"),
        (["--seed"], "--seed"),
    ],
)
def test_command_lines_that_cannot_be_parsed_say_so_in_one_line(words: list[str], named: str) -> None:
    with pytest.raises(OptionError) as refusal:
        parse_sweep_arguments(words)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)

"""`--vouch KEY`: every command that reads a model takes it, and what it leaves says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.refusal import Given, Refusal, write_given
from tests.weights.tiny_checkpoint import edit_config
from xmflow_jax import evaluate, sweep
from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.convert import convert
from xmflow_jax.convert import main as convert_main
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.run.folder import read_record

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unprepared_process")

KEY = "text_config.logit_scale"


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """A study of one question; the model's config.json has one key that could matter, and two that could not."""
    given = write_given(tmp_path_factory.mktemp("given"))

    def edit(content: dict[str, Any]) -> None:
        content["text_config"]["logit_scale"] = 2
        content.update(unsloth_fixed=True, hidden_size=content["text_config"]["hidden_size"])

    edit_config(given.model, edit)
    given.table().head(1).to_csv(given.file, index=False)
    return given


def test_without_the_option_every_command_refuses_and_names_it(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = [*map(str, ("--model", given.model, "--data", given.file, "--images", given.images))]
    for command in (sweep, evaluate):
        line = Refusal(capsys, tmp_path, command.main)([*shared, "--out", str(tmp_path / "out")])
        assert line.endswith(
            f"{KEY} = 2; if you know that the model computes the same without, say so with --vouch {KEY}"
        )
    assert convert_main([str(given.model), str(tmp_path / "target")]) == 2
    assert f"--vouch {KEY}" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=f"--vouch {KEY}"):
        load_model(given.model)


def test_a_sweep_takes_it_and_says_what_it_rests_on(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = given.command(tmp_path / "out", "--first-token-only", "--vouch", KEY)
    assert sweep.main(arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert "vouched for, not understood: text_config.logit_scale = 2; the results hold if" in "\n".join(told)
    passed = {"hidden_size": "a copy of text_config.hidden_size", "unsloth_fixed": "a trainer's note of its own work"}
    over = next(line for line in told if line.startswith("passed over in config.json: "))
    assert all(f"{key} ({why})" in over for key, why in passed.items())
    prompt = "prompt vicuna_v1: the usual one of its family; its files name none; --template gives another"
    assert prompt in told
    record = read_record(tmp_path / "out")
    assert record is not None
    assert record["configuration"]["vouched"] == {KEY: 2}
    (session,) = record["sessions"]
    assert (session["passed_over"], session["prompt"]) == (passed, prompt)
    assert parse_sweep_arguments(session["command"].split()[3:]).vouch == (KEY,)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "vouched that the model computes the same without them: text_config.logit_scale = 2." in page


def test_an_evaluation_takes_it_from_python(given: Given, tmp_path: Path) -> None:
    told: list[str] = []
    options = {"model": given.model, "data": given.file, "images": given.images, "answer_length": 1}
    result = evaluate.evaluate_model(told.append, **options, vouch=KEY, out=tmp_path / "out")
    record = json.loads((result.folder / "run.json").read_text())
    assert record["configuration"]["vouched"] == {KEY: 2}
    assert record["sessions"][0]["passed_over"].keys() == {"hidden_size", "unsloth_fixed"}
    assert any(line.startswith("vouched for, not understood: ") for line in told)


def test_a_preview_and_a_dry_run_name_the_prompt(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, line in (
        (("--dry-run",), "prompt vicuna_v1: the usual one of its family"),
        (("--preview", "1"), "prompt vicuna_v1: the usual one of its family"),
        (("--preview", "1", "--template", "plain"), "prompt plain: given by --template"),
    ):
        assert sweep.main(given.command(tmp_path / "out", "--vouch", KEY, *more)) == 0
        assert line in capsys.readouterr().out


def test_a_conversion_takes_it_and_so_does_its_target(given: Given, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert convert_main([str(given.model), str(target), "--vouch", KEY]) == 0
    with pytest.raises(CheckpointError, match=f"--vouch {KEY}"):
        read_checkpoint(target)
    assert load_model(target, vouch=[KEY]).digest == load_model(given.model, vouch=[KEY]).digest
    assert convert(given.model, tmp_path / "again", vouch=KEY).is_dir()

"""More of the command: what options change and what they must not, empty results, refusals, a kill in mid-write.

`test_sweep_command.py` has the rows, the figures and the ordinary resume.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from tests.commands.sweep_words import command
from xmflow_jax import run_sweep
from xmflow_jax.analysis.summary import SUMMARY_COLUMNS
from xmflow_jax.cli.sweep_arguments import parse_sweep_arguments
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.run.folder import read_lens, read_rows, read_skipped
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.sweep import main

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unprepared_process")

LAYERS, HEADS = 3, 4
KEY = ["task", "question_id", "pathway", "style", "layer"]


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a study of one task with three questions of one length, and one pathway to one position."""
    folder = tmp_path_factory.mktemp("given")
    model = write_random_tiny(folder / "model", layers=LAYERS)
    files, images = write_demo_questions(folder / "data", per_task=12, seed=0)
    file = folder / "own_QueryAttr.csv"
    table = pd.read_csv(files[2], dtype=str, keep_default_na=False)
    # Prompts of one bucket, so that batches of two fill up and programs are few.
    table[table["question"].str.len() == table["question"].str.len().mode()[0]].head(3).to_csv(file, index=False)
    assert len(file.read_text().splitlines()) == 4
    options = {"model": model, "data": file, "images": images, "select": "all", "pathways": "Image->Last"}
    return {**options, "self_check": False}  # tests/study/test_self_check.py has it


@pytest.fixture(name="run", scope="module")
def fixture_run(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_sweep(**given, out=tmp_path_factory.mktemp("run") / "out").folder


def effect(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """The largest difference in probability of two runs over the same rows."""
    pd.testing.assert_frame_equal(one[KEY], other[KEY])
    return float((one["knockout_prob"] - other["knockout_prob"]).abs().max())


@pytest.mark.slow
def test_a_batch_that_fills_up_and_one_that_does_not_change_nothing(
    given: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    single, pairs = read_rows(run), run_sweep(**given, out=tmp_path / "out", batch_size=2).rows
    assert len(list((tmp_path / "out" / "results").glob("part-*"))) == 2
    pd.testing.assert_frame_equal(
        pairs.drop(columns=["base_prob", "knockout_prob", "relative_change"]),
        single.drop(columns=["base_prob", "knockout_prob", "relative_change"]),
    )
    # Measured 1.3e-6 in float32, where logits are about 9; in float64 the logits differ by 4e-15.
    assert effect(single, pairs) <= 1e-5
    np.testing.assert_allclose(pairs["base_prob"], single["base_prob"], rtol=0, atol=1e-5)
    # Were all questions one and the same, a batch that mixed them up would pass.
    per_layer = single.groupby("layer")["knockout_prob"]
    assert per_layer.apply(lambda own: np.diff(np.sort(own)).min()).min() > 1e-4


@pytest.mark.slow
def test_heads_and_mode_change_the_knockout_and_never_the_base_run(
    given: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    whole = read_rows(run)
    assert (whole["knockout_prob"] - whole["base_prob"]).abs().max() > 1e-4
    changed = {
        "every head": run_sweep(**given, out=tmp_path / "a", heads=range(HEADS)).rows,
        "one head": run_sweep(**given, out=tmp_path / "b", heads=[1]).rows,
        "zero": run_sweep(**given, out=tmp_path / "c", mode="zero").rows,
    }
    for rows in changed.values():
        np.testing.assert_allclose(rows["base_prob"], whole["base_prob"], rtol=0, atol=1e-6)
    assert effect(whole, changed["every head"]) <= 1e-6
    assert effect(whole, changed["one head"]) > 1e-4
    assert effect(whole, changed["zero"]) > 1e-4


def test_styles_agree_where_they_block_the_same_layers(given: dict[str, Any], run: Path, tmp_path: Path) -> None:
    """Three layers and a window of three: the middle one's window is all layers, as is to-end's first."""
    own = {**given, "pathways": "Image->Last@to-end, Image->Last@from-start, Image->Last@single, Image->Last"}
    rows = run_sweep(**own, out=tmp_path / "out").rows
    by = {key: part["knockout_prob"].to_numpy() for key, part in rows.groupby(["style", "layer"])}
    everything = by["centred", 1]
    for other in (("to-end", 0), ("from-start", LAYERS - 1)):
        np.testing.assert_allclose(by[other], everything, rtol=0, atol=1e-6)
    for one, other in ((("from-start", 0), ("single", 0)), (("to-end", LAYERS - 1), ("single", LAYERS - 1))):
        np.testing.assert_allclose(by[one], by[other], rtol=0, atol=1e-6)
    assert abs(by["single", 0] - everything).max() > 1e-5
    assert set(rows.loc[rows["style"] == "centred", "window"]) == {3}
    assert set(rows.loc[rows["style"] == "single", "window"]) == {1}


def test_the_record_holds_digests_template_and_versions(given: dict[str, Any], run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    chosen = record["configuration"]
    assert chosen["data"] == {"own_QueryAttr.csv": hashlib.sha256(given["data"].read_bytes()).hexdigest()}
    assert len(chosen["model"]["digest"]) == 64
    assert chosen["pathways"] == {"QueryAttr": ["Image->Last@centred:3"]}
    assert {"jax", "jaxlib", "flax", "numpy", "transformers", "python", "xmflow-jax"} <= set(
        record["sessions"][0]["versions"]
    )
    assert record["sessions"][0]["backend"] == "cpu"
    assert record["counts"] == {"finished": 3, "set_aside": 0, "not_selected": {}}


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def test_a_folder_of_another_study_is_refused_and_left_as_it_was(
    given: dict[str, Any], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "pathways.QueryAttr" in refused(capsys, command(given, run, "--window", "2"))
    assert "seed is 0 there, 1 here" in refused(capsys, command(given, run, "--seed", "1"))
    assert "template.name" in refused(capsys, command(given, run, "--template", "plain"))
    # Another answer in the question file, other weights in the model's folder.
    altered = tmp_path / "own_QueryAttr.csv"
    altered.write_text(given["data"].read_text().replace(",right,", ",left,"))
    assert altered.read_text() != given["data"].read_text()
    assert "data.own_QueryAttr.csv" in refused(capsys, command(given, run, "--data", str(altered)))
    other = write_random_tiny(tmp_path / "model", layers=LAYERS, seed=1)
    assert "model.digest" in refused(capsys, command(given, run, "--model", str(other)))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_question_files_of_one_name_all_count(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in two folders; if the first of them is changed, the run is another one."""
    table = pd.read_csv(given["data"], dtype=str, keep_default_na=False)
    files = [tmp_path / name / "own_QueryAttr.csv" for name in "ab"]
    for place, file in enumerate(files):
        file.parent.mkdir()
        table.iloc[[place]].to_csv(file, index=False)
    rows = run_sweep(**{**given, "data": files}, out=tmp_path / "out").rows
    assert list(rows["question_id"].drop_duplicates()) == list(table["question_id"][:2])
    changed = table.iloc[[0]].assign(answer="nowhere")
    changed.to_csv(files[0], index=False)
    both = [*command(given, tmp_path / "out"), "--data", *map(str, files)]
    assert "data.own_QueryAttr.csv" in refused(capsys, both)


def test_a_template_of_ones_own_is_what_the_model_reads(given: dict[str, Any], run: Path, tmp_path: Path) -> None:
    own = r"<image>\n{question} Answer:"
    result = run_sweep(**given, out=tmp_path / "out", template=own)
    template = json.loads((result.folder / "run.json").read_text())["configuration"]["template"]
    assert template == {"name": "custom", "text": "<image>\n{question} Answer:"}
    assert abs(result.rows["base_prob"] - read_rows(run)["base_prob"]).min() > 1e-6


def test_no_question_selected_is_an_empty_result_and_no_error(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What happens to everyone whose model answers nothing right."""
    for _ in range(2):  # resumed as well
        assert main(command(given, tmp_path, "--select", "correct")) == 0
        assert (
            "0 questions in the results, 0 set aside (reasons in run.json), 3 not selected" in capsys.readouterr().out
        )
    assert read_rows(tmp_path).empty
    assert (tmp_path / "summary.csv").read_text().splitlines() == [",".join(SUMMARY_COLUMNS)]
    assert list((tmp_path / "figures").iterdir()) == []
    assert json.loads((tmp_path / "run.json").read_text())["counts"]["not_selected"] == {"QueryAttr": 3}
    # What the model said is kept, so that one can see why.
    skipped = read_skipped(tmp_path)
    assert all(repr(one["base_answer"]) in one["reason"] for _, one in skipped.iterrows())


def test_a_role_without_positions_has_no_rows(given: dict[str, Any], tmp_path: Path) -> None:
    """The centre crop pads nothing: blocking the padding would say "no effect" where nothing was done."""
    said: list[str] = []
    own = {**given, "pathways": "Image Pad->Last, Last->Last"}
    rows = run_sweep(say=said.append, **own, out=tmp_path / "both").rows
    assert set(rows["pathway"]) == {"Last->Last"}
    assert any("Image Pad->Last is impossible" in line for line in said)
    alone = run_sweep(**{**given, "pathways": "Image Pad->Last"}, out=tmp_path / "alone")
    assert alone.rows.empty
    assert set(read_skipped(alone.folder)["reason"]) == {"none of the pathways exists in its prompt"}


def test_a_model_that_overflows_has_no_rows(given: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(given["model"], broken)
    (file,) = broken.glob("*.safetensors")
    tensors = load_file(file)
    (head,) = (name for name in tensors if name.endswith("lm_head.weight"))
    tensors[head] = tensors[head] * np.float32(np.inf)
    save_file(tensors, file, metadata={"format": "pt"})
    result = run_sweep(**{**given, "model": broken}, out=tmp_path / "out")
    assert result.rows.empty
    assert set(read_skipped(result.folder)["reason"]) == {"the model's output is not finite"}


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xmflow_jax.sweep.run_sweep", interrupt)
    arguments = ["--pathways", "Image->Last, Last->Last", "--template", "it's {question} <image>"]
    assert main(arguments) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    python, dash, module, *again = shlex.split(last.rpartition(" from there: ")[2])
    assert (python, dash, module) == ("python", "-m", "xmflow_jax.sweep")
    assert parse_sweep_arguments(again) == parse_sweep_arguments(arguments)


@pytest.mark.parametrize("lost", [0, *(pytest.param(lost, marks=pytest.mark.slow) for lost in (1, 2))])
def test_a_resumed_run_keeps_the_undisturbed_runs_batches(given: dict[str, Any], tmp_path: Path, lost: int) -> None:
    """Whichever part is missing: its questions come back bit for bit, though others of their batches are done."""
    files, images = write_demo_questions(tmp_path / "data", per_task=7, seed=1)
    options = {**given, "data": [str(file) for file in files[:2]], "images": images, "batch_size": 3, "select": "all"}
    whole = run_sweep(**options, out=tmp_path / "run").rows
    parts = sorted((tmp_path / "run" / "results").glob("part-*.parquet"))
    assert len(parts) >= 4
    parts[lost].unlink()
    assert len(read_rows(tmp_path / "run")) < len(whole)
    pd.testing.assert_frame_equal(run_sweep(**options, out=tmp_path / "run").rows, whole, check_exact=True)


# Kills the process while it lands its third part: the file is complete under its temporary name, and has no other yet.
KILLED_IN_MID_WRITE = """
import os, pathlib, runpy, signal, sys
rename = pathlib.Path.replace
def replace(self, target):
    if pathlib.Path(target).name == "part-00002.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
pathlib.Path.replace = replace
sys.argv[0] = "sweep"
runpy.run_module("xmflow_jax.sweep", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_kill_in_mid_write_loses_and_repeats_nothing(given: dict[str, Any], tmp_path: Path) -> None:
    """Ten questions; the rows of the resumed run equal an undisturbed one's bit for bit."""
    files, images = write_demo_questions(tmp_path / "data", per_task=5, seed=1)
    data = [str(file) for file in files if file.stem.endswith(("QueryAttr", "CompareAttr"))]
    named = ["--model", str(given["model"]), "--images", str(images), "--data", *data, "--select", "all"]
    named += ["--batch-size", "1", "--no-self-check"]
    # Not those that a command run earlier in this process has set.
    others = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = {**others, "HOME": str(tmp_path), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def start(out: str, *program: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, *program, *named, "--pathways", "Image->Last", "--out", str(tmp_path / out)]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=240)

    undisturbed = start("undisturbed", "-m", "xmflow_jax.sweep")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert any((tmp_path / ".cache" / "xmflow_jax").rglob("*"))  # what it compiled is kept under this HOME
    killed = start("killed", "-c", KILLED_IN_MID_WRITE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    results = tmp_path / "killed" / "results"
    assert sum(path.name.startswith("part-") for path in results.iterdir()) == 2
    # Lens rows land before result rows, so those of the third question are there, and do not count.
    assert len(list((tmp_path / "killed" / "lens").iterdir())) == 3
    assert len(list((tmp_path / "killed").glob("*.xmflow-partial"))) == 1
    again = start("killed", "-m", "xmflow_jax.sweep")
    assert again.returncode == 0, again.stderr
    assert "10 questions of 2 tasks, 1 pathway, 3 layers, 24 knockouts to run; 2 questions done" in again.stdout
    assert not list((tmp_path / "killed").rglob("*.xmflow-partial"))
    rows = read_rows(tmp_path / "killed")
    assert len(rows) == 10 * LAYERS
    pd.testing.assert_frame_equal(rows, read_rows(tmp_path / "undisturbed"), check_exact=True)
    lens = [read_lens(tmp_path / out) for out in ("killed", "undisturbed")]
    assert len(lens[0]) == 10 * (1 + LAYERS) * 2
    pd.testing.assert_frame_equal(*lens, check_exact=True)
    lenses = [(tmp_path / out / "lens.parquet").read_bytes() for out in ("killed", "undisturbed")]
    assert lenses[0] == lenses[1]
    summaries = [(tmp_path / out / "summary.csv").read_bytes() for out in ("killed", "undisturbed")]
    assert summaries[0] == summaries[1]

"""The command from end to end on a tiny random checkpoint: rows, resume, selection, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from tests.commands.missing_packages import without
from tests.commands.sweep_words import command
from xmflow_jax import run_sweep
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.report.__main__ import main as report
from xmflow_jax.run.folder import ROW_SCHEMA, read_rows, read_skipped
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.sweep import main

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unprepared_process")

LAYERS = 3
PATHWAYS = "Image->Last, Image->Question@to-end"


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a study of two tasks with two questions each."""
    folder = tmp_path_factory.mktemp("given")
    model = write_random_tiny(folder / "model", layers=LAYERS)
    files, images = write_demo_questions(folder / "data", per_task=2, seed=0)
    chosen = [file for file in files if file.stem.endswith(("ChooseAttr", "QueryAttr"))]
    options = {"model": str(model), "data": tuple(map(str, chosen)), "images": images, "select": "all"}
    return {**options, "pathways": PATHWAYS, "self_check": False}  # tests/study/test_self_check.py has it


@pytest.fixture(name="run", scope="module")
def fixture_run(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    result = run_sweep(**given, out=out)
    pd.testing.assert_frame_equal(result.rows, read_rows(out))
    return out


def test_rows_are_questions_times_pathways_times_layers(run: Path) -> None:
    rows = read_rows(run)
    assert list(rows.columns) == ROW_SCHEMA.names
    assert len(rows) == 4 * 2 * LAYERS
    assert sorted(set(zip(rows["pathway"], rows["style"], strict=True))) == [
        ("Image->Last", "centred"),
        ("Image->Question", "to-end"),
    ]
    for (_, _), own in rows.groupby(["task", "question_id"]):
        assert own["base_prob"].nunique() == own["base_token"].nunique() == 1
        assert sorted(own.loc[own["style"] == "to-end", "window"]) == [1, 2, 3]
    change = 100 * (rows["knockout_prob"] - rows["base_prob"]) / rows["base_prob"]
    np.testing.assert_allclose(rows["relative_change"], change, rtol=1e-9)
    same = rows["knockout_answer"] == rows["base_answer"]
    assert (rows.loc[same, "knockout_score"] == rows.loc[same, "base_score"]).all()
    # Whole answers: some depart after their first token.
    assert not same[rows["knockout_token"] == rows["base_token"]].all()
    assert rows["relative_change"].abs().max() > 1
    assert set(rows["question_id"].str.len()) == {8}  # leading zeros survive


def test_summary_figures_and_record(run: Path) -> None:
    summary = pd.read_csv(run / "summary.csv")
    assert len(summary) == 2 * 2 * LAYERS
    assert set(summary["n"]) == {2}
    names = {path.name for path in (run / "figures").iterdir()}
    drawn = {"overview" + measure.suffix for measure in MEASURES}
    for task, own in summary.groupby("task"):
        drawn |= {task + measure.suffix for measure in MEASURES if own[measure.key].notna().any()}
    drawn |= {f"{task}-heat-map" for task in ("ChooseAttr", "QueryAttr")} | {"answer_tracking"}
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    recommendation = json.loads((run / "recommendation.json").read_text())
    assert {curve["task"] for curve in recommendation["critical"]} == {"All tasks", "ChooseAttr", "QueryAttr"}
    record = json.loads((run / "run.json").read_text())
    assert record["configuration"]["template"]["name"] == "vicuna_v1"
    assert record["configuration"]["model"]["dtype"] == "float32"
    assert record["configuration"]["end_tokens"] == [2]
    assert record["sessions"][0]["versions"]["jax"] == jax.__version__


def test_a_report_of_a_part_of_the_run_says_how_far_it_has_come(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    for path in half.glob("*/*-00001.parquet"):
        path.unlink()
    left = read_rows(half)["question_id"].nunique()
    assert 0 < left < 4
    assert report([str(half)]) == 0
    told = f"The run is not finished: {left} of 4 questions are done. The same command goes on from there."
    assert told in capsys.readouterr().out
    assert told in (half / "report.html").read_text()


def test_answers_are_tracked_to_what_the_base_run_says(run: Path) -> None:
    rows, lens = read_rows(run), pd.read_parquet(run / "lens.parquet")
    assert len(lens) == 4 * (1 + LAYERS) * 2
    last = lens[(lens["layer"] == LAYERS - 1) & lens["normed"]].set_index("question_id")
    base = rows.drop_duplicates("question_id").set_index("question_id")
    assert len(last) == len(base) == 4
    for question, own in base.iterrows():
        tracked = last.loc[question]
        # Of all words the base run's is the most probable one, and so it is under its own name.
        assert abs(tracked["top_probs"][0] - own["base_prob"]) < 1e-6
        assert own["base_answer"].startswith(tracked["top_words"][0].strip())
        assert tracked["answer"] == own["base_answer"].lower()
        spoken = {own["base_answer"].lower(): "answer_prob"}.get(own["base_answer"], "answer_capital_prob")
        if own["base_answer"] in (tracked["answer"], tracked["answer"][:1].upper() + tracked["answer"][1:]):
            assert abs(tracked[spoken] - own["base_prob"]) < 1e-6
    options = lens["task"] == "ChooseAttr"
    assert lens.loc[options, "false_option_prob"].notna().all()
    assert lens.loc[~options, ["false_option", "false_option_prob", "false_option_capital_prob"]].isna().all(axis=None)
    assert lens["answer_prob"].between(0, 1).all()


def test_the_same_command_again_computes_nothing(
    given: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.glob("*/*.parquet")}
    assert main(command(given, run)) == 0
    assert {path: path.read_bytes() for path in run.glob("*/*.parquet")} == before
    assert "4 questions done" in capsys.readouterr().out


def test_another_configuration_is_refused(given: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(given, run, "--mode", "zero")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mode" in error


def test_the_plain_engine_and_larger_batches_give_the_same(given: dict[str, Any], run: Path, tmp_path: Path) -> None:
    plain = run_sweep(**given, out=tmp_path / "plain", engine="plain", batch_size=2).rows
    fast = read_rows(run)
    for column in ("question_id", "pathway", "layer", "knockout_token", "base_token", "base_answer"):
        assert (plain[column] == fast[column]).all()
    for column in ("base_prob", "knockout_prob"):
        np.testing.assert_allclose(plain[column], fast[column], rtol=0, atol=1e-5)
    for column in ("base_margin", "knockout_margin"):
        assert (fast[column].notna() == (fast["task"] == "ChooseAttr")).all()
        np.testing.assert_allclose(plain[column], fast[column], rtol=0, atol=1e-4)
    assert (fast["knockout_margin"] - fast["base_margin"]).abs().max() > 1e-3


def test_a_single_head_is_what_a_run_of_that_head_alone_is(given: dict[str, Any], tmp_path: Path) -> None:
    options = {**given, "data": given["data"][:1], "pathways": "Image->Last", "window": 1}
    both = run_sweep(**options, heads=(1, 3), each_head=True, out=tmp_path / "both")
    alone = run_sweep(**options, heads=(3,), out=tmp_path / "alone").rows
    assert both.rows["head"].value_counts().to_dict() == dict.fromkeys((-1, 1, 3), len(alone))
    own = both.rows[both.rows["head"] == 3].reset_index(drop=True)
    # In percent of the base run's probability, which multiplies the rounding of both.
    derived = ["head", "relative_change"]
    pd.testing.assert_frame_equal(own.drop(columns=derived), alone.drop(columns=derived), rtol=1e-4, atol=1e-5)
    for rows in (own, alone):
        change = 100 * (rows["knockout_prob"] / rows["base_prob"] - 1)
        np.testing.assert_allclose(rows["relative_change"], change, rtol=1e-9, atol=1e-9)
    assert not np.allclose(own["knockout_prob"], both.rows.loc[both.rows["head"] == 1, "knockout_prob"], rtol=1e-3)
    assert both.summary["n"].tolist() == [2] * LAYERS
    heads = pd.read_csv(tmp_path / "both" / "heads.csv")
    assert heads[["head", "layer"]].to_numpy().tolist() == [[head, layer] for head in (1, 3) for layer in range(LAYERS)]
    np.testing.assert_allclose(heads["relative_change"][LAYERS:], own.groupby("layer")["relative_change"].mean())
    assert (tmp_path / "both" / "figures" / f"{own['task'][0]}-heads.png").exists()
    assert not (tmp_path / "alone" / "heads.csv").exists()


def test_selection_splits_the_questions(given: dict[str, Any], run: Path, tmp_path: Path) -> None:
    """One question's gold answer is made the model's own, so that it is right once."""
    right = read_rows(run).query("task == 'QueryAttr'").iloc[0]
    table = pd.read_csv(given["data"][1], dtype=str, keep_default_na=False)
    table.loc[table["question_id"] == right["question_id"], "answer"] = right["base_answer"].strip().lower()
    file = tmp_path / "own_QueryAttr.csv"
    table.to_csv(file, index=False)
    for select, count in (("correct", 1), ("wrong", 1)):
        options = {**given, "data": (str(file),), "select": select}
        result = run_sweep(**options, out=tmp_path / select)
        chosen = set(result.rows["question_id"])
        assert len(chosen) == count
        assert (right["question_id"] in chosen) == (select == "correct")
        skipped = read_skipped(result.folder)
        assert set(skipped["kind"]) == {"not_selected"}
        assert set(skipped["question_id"]) == set(table["question_id"]) - chosen
    scores = run_sweep(**{**options, "select": "correct"}, out=tmp_path / "correct").rows
    assert (scores["base_score"] == 1).all()


def test_unusable_questions_are_set_aside_and_the_run_goes_on(given: dict[str, Any], tmp_path: Path) -> None:
    table = pd.read_csv(given["data"][1], dtype=str, keep_default_na=False)
    rows = [table.iloc[0].copy() for _ in range(4)]
    for row, name in zip(rows, ("good", "missing", "truncated", "outside"), strict=True):
        row["question_id"] = name
    rows[1]["img_id"], rows[2]["img_id"] = "nowhere", "half"
    rows[3]["central object x"] = "9999"
    source = given["images"] / f"{table.iloc[0]['img_id']}.jpg"
    for image in given["images"].iterdir():
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / image.name).write_bytes(image.read_bytes())
    (tmp_path / "images" / "half.jpg").write_bytes(source.read_bytes()[:400])
    file = tmp_path / "own_QueryAttr.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    options = {**given, "data": (str(file),), "images": tmp_path / "images"}
    result = run_sweep(**options, out=tmp_path / "out")
    assert set(result.rows["question_id"]) == {"good"}
    aside = {
        one["question_id"]: one["reason"] for one in json.loads((result.folder / "run.json").read_text())["set_aside"]
    }
    assert set(aside) == {"missing", "truncated", "outside"}
    assert "does not exist" in aside["missing"]
    assert "half.jpg" in aside["truncated"]
    assert "9999" in aside["outside"]


@pytest.mark.slow
def test_impossible_pathways_are_reported_and_have_no_rows(given: dict[str, Any], tmp_path: Path) -> None:
    lines: list[str] = []
    options = {**given, "data": given["data"][:1], "pathways": "Question->Image, Image->Last"}
    rows = run_sweep(say=lines.append, **options, out=tmp_path / "out").rows
    assert set(rows["pathway"]) == {"Image->Last"}
    assert any("Question->Image is impossible" in line for line in lines)
    options["template"] = "{question} <image> The answer is"
    options["pathways"] = "Question->Image, Image->Question"
    rows = run_sweep(say=lines.append, **options, out=tmp_path / "reverse").rows
    assert set(rows["pathway"]) == {"Question->Image"}
    assert rows["relative_change"].abs().max() > 0.1
    assert any("Image->Question is impossible" in line for line in lines)


def test_pathways_without_data_are_left_out_of_a_task_or_refused(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    rows = run_sweep(say=lines.append, **{**given, "pathways": "True Option->Last"}, out=tmp_path / "out").rows
    assert set(rows["task"]) == {"ChooseAttr"}
    assert any("True Option->Last is left out of QueryAttr" in line for line in lines)
    only = {**given, "data": given["data"][1:]}
    assert main(command(only, tmp_path / "none", "--pathways", "True Option->Last")) == 2
    assert "the data do not tell True Option->Last" in capsys.readouterr().err


@pytest.mark.slow
def test_samples_are_even_and_follow_the_seed(given: dict[str, Any], tmp_path: Path) -> None:
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = {**given, "pathways": "Last->Last", "samples": 2, "seed": seed}
        rows = run_sweep(**options, out=tmp_path / name).rows
        assert rows.groupby("task")["question_id"].nunique().to_dict() == {"ChooseAttr": 1, "QueryAttr": 1}
        chosen.append(set(rows["question_id"]))
    assert chosen[0] == chosen[1]


def start(given: dict[str, Any], out: Path, home: Path, program: str = "") -> subprocess.Popen[str]:
    code = f"{program}\nimport sys\nfrom xmflow_jax.sweep import main\nsys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "HOME": str(home), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    arguments = [sys.executable, "-c", code, *command(given, out)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# Nor the packages of the extra `prepare`.
BLOCK_PYTORCH = without("torch", "torchvision", "tensorflow", "tensorflow_datasets", "array_record")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_needs_no_pytorch(given: dict[str, Any], run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(given, out, tmp_path, BLOCK_PYTORCH)
    try:
        deadline = time.monotonic() + 240
        while not list(out.glob("results/part-*.parquet")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(given, out, tmp_path, BLOCK_PYTORCH)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "PyTorch" not in error
    again, undisturbed = read_rows(out), read_rows(run)
    assert not again.duplicated(["task", "question_id", "pathway", "style", "layer"]).any()
    exact = ["task", "question_id", "pathway", "style", "layer", "base_token", "knockout_token", "base_answer"]
    pd.testing.assert_frame_equal(again[exact], undisturbed[exact])
    np.testing.assert_allclose(again["knockout_prob"], undisturbed["knockout_prob"], rtol=0, atol=1e-6)


def test_help_imports_neither_jax_nor_transformers() -> None:
    code = (
        "import sys\nfrom xmflow_jax.sweep import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([name for name in ('jax', 'transformers', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "--pathways" in done.stdout

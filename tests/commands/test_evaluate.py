"""`python -m xmflow_jax.evaluate`: its answers are a sweep's base answers, a kill loses nothing, blind is blind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.tiny_processing import load_processing
from xmflow_jax import EvaluationResult, evaluate_model, run_sweep
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.errors import OptionError
from xmflow_jax.evaluate import main
from xmflow_jax.machine import layout as layouts
from xmflow_jax.machine import memory
from xmflow_jax.run.folder import RunFolder, read_answers
from xmflow_jax.study.shipped import write_random_tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LAYERS = 2
KEY = ["task", "question_id"]
# Two buckets, with prompts of different lengths in each.
FILES = ("demo_QueryAttr.csv", "demo_CompareAttr.csv")


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and demo questions; of those that `fixture_options` names the second one's image is missing."""
    folder = tmp_path_factory.mktemp("given")
    write_random_tiny(folder / "model", layers=LAYERS)
    _, images = write_demo_questions(folder / "data", per_task=5, seed=0)
    (images / f"{pd.read_csv(folder / 'data' / FILES[0], dtype=str)['img_id'][1]}.jpg").unlink()
    return folder


@pytest.fixture(name="options", scope="module")
def fixture_options(folder: Path) -> dict[str, Any]:
    return {
        "model": folder / "model",
        "data": [folder / "data" / name for name in FILES],
        "images": next(path for path in (folder / "data").iterdir() if path.is_dir()),
        "batch_size": 2,
        "answer_length": 3,
    }


@pytest.fixture(name="plain", scope="module")
def fixture_plain(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    return evaluate_model(**options, out=tmp_path_factory.mktemp("plain") / "out")


@pytest.fixture(name="questions", scope="module")
def fixture_questions(options: dict[str, Any], plain: EvaluationResult) -> list[Question]:
    """The questions that can be used, every second one with the model's own answer as its gold answer."""
    said = {(one["task"], one["question_id"]): one["answer"] for one in plain.rows.to_dict("records")}
    usable = [one for one in read_questions(options["data"], options["images"]) if (one.task, one.question_id) in said]
    return [
        replace(one, answer=said[one.task, one.question_id].lower() if place % 2 else "no such answer")
        for place, one in enumerate(usable)
    ]


def content(folder: Path) -> dict[str, bytes]:
    """All that an evaluation leaves but for `run.json`, which holds times."""
    names = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def test_answers_and_scores_are_those_of_a_sweeps_base_run(
    options: dict[str, Any], questions: list[Question], tmp_path: Path
) -> None:
    # Of one bucket, since a sweep compiles much; prompts of two lengths, and a last batch that is not full.
    asked = [one for one in questions if one.task == "CompareAttr"]
    assert len(asked) % options["batch_size"] == 1
    own = {**options, "data": asked, "images": None}
    study = {"select": "all", "pathways": "Last->Last", "self_check": False, "whole_answers": False}
    swept = run_sweep(**own, **study, out=tmp_path / "sweep").rows
    found = evaluate_model(**own, out=tmp_path / "evaluation").rows
    base = swept.drop_duplicates(KEY)[[*KEY, "image_id", "gold", "base_answer", "base_score"]].reset_index(drop=True)
    named = found[[*KEY, "image_id", "gold", "answer", "score"]]
    pd.testing.assert_frame_equal(
        named.rename(columns={"answer": "base_answer", "score": "base_score"}), base, check_exact=True
    )
    # A comparison of equal answers and equal scores would show little.
    assert base["base_answer"].nunique() > 1
    assert set(base["base_score"]) == {0.0, 1.0}


def test_where_memory_is_short_fewer_at_a_time_give_the_same_answers(
    options: dict[str, Any], plain: EvaluationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    measure = memory.program_bytes

    def told(compiled: Any) -> int:
        taken.append(measure(compiled) or 0)
        return taken[-1]

    monkeypatch.setattr(memory, "program_bytes", told)
    monkeypatch.setattr(layouts, "free_memory", lambda layout: 10**15)
    evaluate_model(**options, out=tmp_path / "roomy")
    room = max(taken) - 1
    monkeypatch.setattr(layouts, "free_memory", lambda layout: room)
    said: list[str] = []
    found = evaluate_model(**options, say=said.append, out=tmp_path / "narrow")
    assert sum("a compiled program needs" in line and line.endswith("1 question(s) at a time") for line in said) == 1
    pd.testing.assert_frame_equal(found.rows, plain.rows)
    monkeypatch.setattr(layouts, "free_memory", lambda layout: 0)
    with pytest.raises(OptionError, match=r"holds not even one configuration of 1 question\(s\)"):
        evaluate_model(**options, out=tmp_path / "none")


def test_the_table_holds_the_counts_made_by_hand(
    options: dict[str, Any], questions: list[Question], tmp_path: Path
) -> None:
    typed = [replace(one, answer_type="odd" if place % 2 else "even") for place, one in enumerate(questions)]
    lines: list[str] = []
    result = evaluate_model(**{**options, "data": typed, "images": None}, out=tmp_path / "out", say=lines.append)
    table = pd.read_csv(result.folder / "accuracy.csv").set_index(["grouping", "group"])
    right = {one.question_id + one.task for one in questions[1::2]}
    for task, own in pd.DataFrame({"task": [one.task for one in questions]}).groupby("task"):
        mine = [one.question_id + one.task in right for one in questions if one.task == task]
        assert table.loc[("task", task), "n"] == len(own) == len(mine)
        assert table.loc[("task", task), "accuracy"] == pytest.approx(100 * sum(mine) / len(mine))
    assert table.loc[("all", "all"), "n"] == len(questions)
    assert table.loc[("answer_type", "odd"), "accuracy"] == 100
    assert table.loc[("answer_type", "even"), "accuracy"] == 0
    assert "question_type" not in table.index.get_level_values("grouping")
    assert any(line.startswith("all") and f"n = {len(questions)}, exact" in line for line in lines)


def test_a_question_without_its_image_is_set_aside_with_its_reason(plain: EvaluationResult) -> None:
    record = json.loads((plain.folder / "run.json").read_text())
    assert record["counts"]["finished"] == len(plain.rows) == 9
    (aside,) = record["set_aside"]
    assert "does not exist" in aside["reason"]
    assert aside["question_id"] not in set(plain.rows.loc[plain.rows["task"] == aside["task"], "question_id"])


def test_the_record_holds_model_data_template_and_scorer(plain: EvaluationResult, options: dict[str, Any]) -> None:
    record = json.loads((plain.folder / "run.json").read_text())
    chosen = record["configuration"]
    assert chosen["command"] == "evaluate"
    assert len(chosen["model"]["digest"]) == 64
    assert list(chosen["data"]) == [path.name for path in options["data"]]
    assert "{question}" in chosen["template"]["text"]
    assert chosen["end_tokens"] == [2]
    assert (chosen["scorers"], chosen["images"]) == (["exact"], "own")
    assert record["sessions"][0]["batch_size"] == 2
    assert {"jax", "xmflow-jax"} <= set(record["sessions"][0]["versions"])


@pytest.mark.parametrize("landed", [1, 3])
def test_killed_and_resumed_it_leaves_the_very_bytes(
    options: dict[str, Any], plain: EvaluationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landed: int
) -> None:
    append, calls = RunFolder.append_answers, []

    def dies(run: RunFolder, rows: Any) -> None:
        if len(calls) == landed:
            raise KeyboardInterrupt
        calls.append(append(run, rows))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_answers", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate_model(**options, out=tmp_path)
    assert 0 < len(read_answers(tmp_path)) < len(plain.rows)
    resumed = evaluate_model(**options, out=tmp_path)
    pd.testing.assert_frame_equal(resumed.rows, plain.rows, check_exact=True)
    assert content(tmp_path) == content(plain.folder)


def test_what_is_done_is_not_done_again(
    options: dict[str, Any], plain: EvaluationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(plain.folder)
    monkeypatch.setattr("xmflow_jax.families.checkpoint.load_weights", None)
    again = evaluate_model(**options, out=plain.folder)
    pd.testing.assert_frame_equal(again.rows, plain.rows, check_exact=True)
    assert content(plain.folder) == before


def test_blank_images_are_the_mean_colour(
    options: dict[str, Any], plain: EvaluationResult, folder: Path, tmp_path: Path
) -> None:
    blank = evaluate_model(**options, blank_images=True, out=tmp_path / "out")
    pd.testing.assert_frame_equal(blank.rows[KEY], plain.rows[KEY])
    assert blank.rows["shown_image_id"].isna().all()
    assert (blank.rows["answer"] != plain.rows["answer"]).any()
    # Images of the mean colour, made by hand, give the same answers but for the rounding of colours to bytes.
    mean = tuple(round(255 * one) for one in load_processing(folder / "model").image_processor.image_mean)
    Image.new("RGB", (60, 60), mean).save(tmp_path / "mean.png")
    asked = read_questions(options["data"], options["images"])
    known = set(zip(plain.rows["task"], plain.rows["question_id"], strict=True))
    painted = [
        replace(one, image_path=tmp_path / "mean.png", boxes=(), image_size=None)
        for one in asked
        if (one.task, one.question_id) in known
    ]
    shown = evaluate_model(**{**options, "data": painted, "images": None}, out=tmp_path / "painted")
    assert shown.rows["answer"].tolist() == blank.rows["answer"].tolist()


def test_shuffled_images_are_other_questions_images(
    options: dict[str, Any], questions: list[Question], plain: EvaluationResult, tmp_path: Path
) -> None:
    own = {**options, "data": questions, "images": None, "shuffle_images": True}
    shuffled = evaluate_model(**own, out=tmp_path / "out")
    rows = shuffled.rows
    assert (rows["shown_image_id"] != rows["image_id"]).all()
    assert sorted(rows["shown_image_id"]) == sorted(rows["image_id"])
    assert (rows["answer"] != plain.rows["answer"]).any()
    # The answers are those to questions that name the other image as their own.
    path = {one.image_id: one.image_path for one in questions}
    other = {(one["task"], one["question_id"]): one["shown_image_id"] for one in rows.to_dict("records")}
    swapped = [
        replace(one, image_path=path[other[one.task, one.question_id]], boxes=(), image_size=None) for one in questions
    ]
    direct = evaluate_model(**{**options, "data": swapped, "images": None}, out=tmp_path / "direct")
    assert direct.rows["answer"].tolist() == rows["answer"].tolist()


def test_kept_back_answers_have_no_score(options: dict[str, Any], questions: list[Question], tmp_path: Path) -> None:
    lines: list[str] = []
    asked = [replace(one, answer="") for one in questions]
    result = evaluate_model(**{**options, "data": asked, "images": None}, out=tmp_path / "out", say=lines.append)
    assert np.isnan(result.rows["score"]).all()
    assert result.accuracy.empty
    assert any("no gold answer" in line for line in lines)


def test_a_benchmarks_questions_are_scored_by_its_rule_and_written_for_its_server(
    options: dict[str, Any], questions: list[Question], plain: EvaluationResult, tmp_path: Path
) -> None:
    """Of ten humans who do not all agree, four said what the model says, or two: 100 % and 60 %."""
    said = {(one["task"], one["question_id"]): one["answer"] for one in plain.rows.to_dict("records")}
    asked = []
    for place, one in enumerate(questions):
        agreeing = 4 if place % 2 else 2
        humans = [said[one.task, one.question_id]] * agreeing + ["no such answer"] * (10 - agreeing)
        number = {"question_id": f"{1000 + place}", "task": "vqa_v2", "scorer": "vqa"}
        asked.append(replace(one, answer=humans[0], answers=tuple(humans), **number))
    result = evaluate_model(**{**options, "data": asked, "images": None}, out=tmp_path / "vqa")
    assert result.rows["score"].tolist() == pytest.approx([1.0 if place % 2 else 0.6 for place in range(len(asked))])
    assert set(result.rows["scorer"]) == {"vqa"}
    assert result.predictions is not None
    written = [said[one.task, one.question_id] for one in questions]
    assert json.loads(result.predictions.read_text()) == [
        {"question_id": 1000 + place, "answer": answer} for place, answer in enumerate(written)
    ]
    other = evaluate_model(**{**options, "data": asked, "images": None}, scorer="exact", out=tmp_path / "exact")
    assert set(other.rows["scorer"]) == {"exact"}
    assert json.loads((tmp_path / "exact" / "run.json").read_text())["configuration"]["scorers"] == ["exact"]
    gqa = [replace(one, scorer="gqa", question_id=f"{place}q") for place, one in enumerate(questions)]
    result = evaluate_model(**{**options, "data": gqa, "images": None}, out=tmp_path / "gqa")
    assert result.predictions is not None
    assert json.loads(result.predictions.read_text()) == [
        {"questionId": f"{place}q", "prediction": answer} for place, answer in enumerate(written)
    ]


def test_other_questions_have_no_predictions_file(plain: EvaluationResult) -> None:
    assert plain.predictions is None
    assert not (plain.folder / "predictions.json").exists()


def test_a_folder_of_another_evaluation_is_refused(options: dict[str, Any], plain: EvaluationResult) -> None:
    before = content(plain.folder)
    words = ["--model", str(options["model"]), "--images", str(options["images"]), "--out", str(plain.folder)]
    words += ["--answer-length", "3", "--blank-images", "--data", *map(str, options["data"])]
    assert main(words) == 2
    assert content(plain.folder) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--blank-images", "--shuffle-images"], "--blank-images and --shuffle-images exclude each other"),
        (["--scorer", "bleu"], "unknown scorer 'bleu'; the scorers are: exact"),
        (["--pathways", "Image->Last"], "unrecognized arguments: --pathways Image->Last"),
        (["--samples", "0"], "--samples 0 is not 1 or more"),
        (
            ["--model", "random-tiny", "--data", "demo", "--samples", "1", "--shuffle-images"],
            "--shuffle-images: 1 of 1",
        ),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--data", "nowhere.csv"], "needs --images"),
    ],
)
def test_bad_options_end_with_one_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmflow_jax.evaluate.prepare_process", lambda: None)
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "out").exists()


def test_the_function_has_no_options_of_knockouts() -> None:
    with pytest.raises(TypeError, match="'pathways'"):
        evaluate_model(pathways="Image->Last")

"""From questions and answers to scores, to the benchmarks' tables and to their servers' files."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from tests.scoring import vqa_rules
from xmflow_jax.analysis.accuracy import accuracy_table
from xmflow_jax.data.question import Question
from xmflow_jax.scoring.answers import gold_answers, score_answer, submission

ONE = Question("1", "7", Path("7.jpg"), "What is it?", "cat", "vqa_v2", answers=("cat",) * 10, scorer="vqa")


def test_several_answers_come_before_the_one() -> None:
    assert gold_answers(ONE) == ("cat",) * 10
    assert gold_answers(replace(ONE, answers=())) == ("cat",)
    assert gold_answers(replace(ONE, answers=(), answer="")) == ()


def test_the_named_rule_scores() -> None:
    assert [score_answer(ONE, "Cat", name) for name in ("vqa", "vqa-lmms-eval", "gqa", "gqa-llava")] == [0, 1, 0, 1]
    assert score_answer(replace(ONE, answers=(), answer=""), "cat", "vqa") is None


def test_vqas_tables_are_the_official_ones() -> None:
    """Accuracies in percent to two decimals: overall, by answer type and by question type."""
    draw = random.Random(3)
    rows, groups = [], {}
    for place, (answer, humans) in enumerate(vqa_rules.answer_sets(300, seed=5)):
        types = {"question_type": draw.choice(["what", "is the", "how many"]), "answer_type": draw.choice("abc")}
        question = replace(ONE, question_id=str(place), answers=tuple(humans), **types)
        score = score_answer(question, answer, "vqa")
        rows.append({"task": "vqa_v2", **types, "score": score, "scorer": "vqa"})
        for group in (("all", "all"), ("task", "vqa_v2"), *types.items()):
            groups.setdefault(group, []).append(vqa_rules.accuracy(answer, humans))
    table = accuracy_table(pd.DataFrame(rows)).set_index(["grouping", "group"])
    assert len(table) == 8
    for group, scores in groups.items():
        official = round(float(100 * sum(scores, Fraction(0)) / len(scores)), 2)
        assert (round(table["accuracy"][group], 2), table["n"][group]) == (official, len(scores))
        assert 0 < official < 100


def test_gqas_tables_tell_binary_from_open() -> None:
    asked = [("yes", "yes", "binary"), ("no", "yes", "binary"), ("red", "red", "open"), ("Red", "red", "open")]
    asked += [("dog", "dog", "open"), ("dog", "cat", "open"), ("left", "left", "binary"), ("a", "a", "binary")]
    rows = []
    for answer, gold, kind in asked:
        question = replace(ONE, answer=gold, answers=(), task="gqa", scorer="gqa")
        score = score_answer(question, answer, question.scorer)
        rows.append({"task": "gqa", "question_type": None, "answer_type": kind, "score": score, "scorer": "gqa"})
    table = accuracy_table(pd.DataFrame(rows)).set_index(["grouping", "group"])["accuracy"]
    assert table["all", "all"] == pytest.approx(62.5)
    assert table["answer_type", "binary"] == pytest.approx(75)
    assert table["answer_type", "open"] == pytest.approx(50)


def test_a_servers_file_is_written_for_its_own_questions_alone() -> None:
    two = replace(ONE, question_id="2")
    answers = {("vqa_v2", "2"): "Dog.", ("vqa_v2", "1"): "cat"}
    vqa = [{"question_id": 1, "answer": "cat"}, {"question_id": 2, "answer": "Dog."}]
    assert submission([ONE, two], answers) == vqa
    assert submission([ONE, two], {("vqa_v2", "2"): "Dog."}) == vqa[1:]
    gqa = [replace(ONE, scorer="gqa"), replace(two, scorer="gqa")]
    assert submission(gqa, answers) == [
        {"questionId": "1", "prediction": "cat"},
        {"questionId": "2", "prediction": "Dog."},
    ]
    assert submission([ONE, replace(two, scorer="gqa")], answers) is None
    assert submission([replace(ONE, scorer="exact")], answers) is None
    # A user's own questions, scored by VQA's rule: their ids are none of VQA's.
    assert submission([replace(ONE, question_id="mine")], {("vqa_v2", "mine"): "cat"}) is None
    # Two sets whose ids meet.
    assert submission([ONE, replace(ONE, task="okvqa")], {**answers, ("okvqa", "1"): "dog"}) is None

"""The results files, against the layouts that the servers document."""

import json

import pytest

from xmflow_jax.scoring.submission import gqa_results, is_vqa_id, vqa_results

ANSWERS = [("458752000", "Yes."), ("262148001", "r\u00e9d"), ("0", "")]


def test_vqas_results_have_whole_numbers_as_ids_and_answers_as_given() -> None:
    results = vqa_results(iter(ANSWERS))
    assert json.dumps(results, ensure_ascii=False) == (
        '[{"question_id": 458752000, "answer": "Yes."}, {"question_id": 262148001, "answer": "r\u00e9d"}, '
        '{"question_id": 0, "answer": ""}]'
    )


def test_gqas_results_have_texts_as_ids() -> None:
    results = gqa_results([("201307251", "yes"), ("05q", "Dog")])
    assert json.dumps(results) == (
        '[{"questionId": "201307251", "prediction": "yes"}, {"questionId": "05q", "prediction": "Dog"}]'
    )


def test_no_answers_make_an_empty_file() -> None:
    assert vqa_results([]) == gqa_results([]) == []


@pytest.mark.parametrize("question_id", ["", "12q", "-1", "1.0", " 1", "\u0661", "\u00b2"])
def test_other_ids_are_not_vqas(question_id: str) -> None:
    assert not is_vqa_id(question_id)
    with pytest.raises(ValueError, match="whole numbers as question ids; found"):
        vqa_results([("1", "yes"), (question_id, "no")])
    assert gqa_results([(question_id, "no")]) == [{"questionId": question_id, "prediction": "no"}]


def test_two_answers_to_one_question_are_refused() -> None:
    for results in (vqa_results, gqa_results):
        with pytest.raises(ValueError, match="two answers to question '7'"):
            results([("7", "yes"), ("8", "no"), ("7", "yes")])

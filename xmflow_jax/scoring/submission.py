"""The results files that the servers of VQA (and OK-VQA) and of GQA take, as JSON values.

Answers go in as the model gave them; the servers' own code normalises them, or does not.
"""

from collections.abc import Iterable


def is_vqa_id(question_id: str) -> bool:
    """Whether a question id is one of VQA's, which are whole numbers."""
    return question_id.isascii() and question_id.isdecimal()


def vqa_results(answers: Iterable[tuple[str, str]]) -> list[dict[str, int | str]]:
    """VQA's and OK-VQA's results: `[{"question_id": int, "answer": str}]`.

    Args:
        answers: (question id, answer), in the order wanted.

    Raises:
        ValueError: a question id is not a whole number, as all of theirs are, or is there twice.
    """
    answered = _unique(answers)
    if others := [question_id for question_id in answered if not is_vqa_id(question_id)]:
        raise ValueError(f"VQA's results need whole numbers as question ids; found {others[0]!r}")
    return [{"question_id": int(question_id), "answer": answer} for question_id, answer in answered.items()]


def gqa_results(answers: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """GQA's results: `[{"questionId": str, "prediction": str}]`.

    Args:
        answers: (question id, answer), in the order wanted.

    Raises:
        ValueError: a question id is there twice.
    """
    return [{"questionId": question_id, "prediction": answer} for question_id, answer in _unique(answers).items()]


def _unique(answers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A server would take one of two answers to a question, or neither."""
    found: dict[str, str] = {}
    for question_id, answer in answers:
        if question_id in found:
            raise ValueError(f"two answers to question {question_id!r}; results need one of each question")
        found[question_id] = answer
    return found

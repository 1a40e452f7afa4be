"""Blind baselines: a derangement of the images, whatever questions share one."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xmflow_jax.data.question import Question
from xmflow_jax.errors import OptionError
from xmflow_jax.study.shown_images import key_of, shuffled_images


def asked(images: list[int]) -> list[Question]:
    """One question about each of these images, in two tasks that count their ids anew."""
    return [
        Question(str(number // 2), str(image), Path(f"{image}.jpg"), "What?", "it", f"task {number % 2}")
        for number, image in enumerate(images)
    ]


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 3))
def test_every_question_gets_another_image_and_every_image_is_used_as_often(images: list[int], seed: int) -> None:
    assume(2 * max(Counter(images).values()) <= len(images))
    questions = asked(images)
    others = shuffled_images(questions, seed)
    assert others.keys() == {key_of(question) for question in questions}
    assert all(others[key_of(question)].image_path != question.image_path for question in questions)
    assert Counter(other.image_id for other in others.values()) == Counter(map(str, images))
    assert others == shuffled_images(questions, seed)


def test_seeds_draw_different_permutations() -> None:
    questions = asked(list(range(20)))
    drawn = {
        tuple(other.image_id for _, other in sorted(shuffled_images(questions, seed).items())) for seed in range(5)
    }
    assert len(drawn) == 5


@pytest.mark.parametrize("images", [[1], [1, 1, 1], [1, 2, 2]])
def test_without_such_a_permutation_the_data_are_refused(images: list[int]) -> None:
    with pytest.raises(OptionError, match=r"--shuffle-images: .* of .* questions are about the image"):
        shuffled_images(asked(images), 0)

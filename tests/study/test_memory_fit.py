"""Less at a time where memory ends: the same rows, and a clear end where nothing fits."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from tests.knockout.anatomies import prompt_anatomy
from tests.knockout.tiny_study import tiny_llava, tiny_prompt
from xmflow_jax.data import roles
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.batch_answers import Answered, Request, answer_batch
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.machine import memory
from xmflow_jax.machine.memory import memory_planned
from xmflow_jax.study.memory_fit import (
    OUT_OF_MEMORY,
    Bounds,
    Portion,
    answer_within_memory,
    check_within_memory,
    pieces_of,
)

ROWS = pathway_study(
    [(Pathway("Image", "Last"), "single"), (Pathway(roles.QUESTION, "Last"), "single")], prompt_anatomy(3), 1
)
COUNT = 5


class Device:
    """A device that holds so many questions times configurations, and the real engine."""

    def __init__(self, room: float, wanted: range = range(COUNT)) -> None:
        self.room, self.wanted = room, wanted
        self.tried: list[tuple[int, int]] = []

    def __call__(self, some: slice, piece: int, portion: Portion) -> Answered:
        own = pieces_of([row.knockout for row in ROWS], portion.pieces)[piece]
        self.tried.append((portion.questions, len(own)))
        if portion.questions * len(own) > self.room:
            raise jax.errors.JaxRuntimeError(f"{OUT_OF_MEMORY}: Out of memory allocating 9 bytes.")
        _, net = tiny_llava(3)
        request = Request(build_study(own, prompt_anatomy(3)), (2,), 3)
        chosen = lambda tokens, logits: np.isin(np.arange(COUNT)[some], self.wanted)  # noqa: E731
        prompts = [tiny_prompt(seed) for seed in range(COUNT)][some]
        pairs = lambda tokens: np.tile([[3, 5]], (len(tokens), 1))  # noqa: E731
        return answer_batch(net, prompts, request, chosen, pairs, full_size=portion.questions)


def check_equal(found: Answered, expected: Answered) -> None:
    for field in ("measured", "margins", "tokens"):
        for own, other in zip(
            jax.tree.leaves(getattr(found, field)), jax.tree.leaves(getattr(expected, field)), strict=True
        ):
            assert own.shape == other.shape
            np.testing.assert_allclose(own[expected.selected], other[expected.selected], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.selected, expected.selected)
    assert found.impossible == expected.impossible
    assert found.states is not None
    assert expected.states is not None
    np.testing.assert_allclose(
        np.asarray(found.states)[:COUNT][expected.selected],
        np.asarray(expected.states)[:COUNT][expected.selected],
        rtol=0,
        atol=1e-5,
    )


@pytest.fixture(name="roomy", scope="module")
def fixture_roomy() -> Answered:
    found, portion = answer_within_memory(Device(np.inf), COUNT, Portion(COUNT), Bounds(1, len(ROWS), print))
    assert portion == Portion(COUNT)
    return found


@pytest.mark.parametrize(
    ("room", "portion"),
    [
        (2 * len(ROWS), Portion(2)),
        (3, Portion(1, 2)),
        pytest.param(len(ROWS), Portion(1), marks=pytest.mark.slow),
        pytest.param(1, Portion(1, len(ROWS)), marks=pytest.mark.slow),
    ],
)
def test_less_at_a_time_gives_the_same(roomy: Answered, room: int, portion: Portion) -> None:
    said: list[str] = []
    found, fitted = answer_within_memory(Device(room), COUNT, Portion(COUNT), Bounds(1, len(ROWS), said.append))
    assert fitted == portion
    check_equal(found, roomy)
    assert said
    assert f"going on with {portion.questions} question(s) at a time" in said[-1]
    assert ("pieces" in said[-1]) == (portion.pieces > 1)


def test_the_programs_own_needs_decide_how_many_questions(monkeypatch: pytest.MonkeyPatch, roomy: Answered) -> None:
    """Real programs: with half of what the whole batch takes, fewer questions, the same results, nothing beyond it."""
    taken: list[int] = []
    measure: Callable[[Any], int | None] = memory.program_bytes

    def told(compiled: Any) -> int | None:
        taken.append(measure(compiled) or 0)
        return taken[-1]

    monkeypatch.setattr(memory, "program_bytes", told)
    said: list[str] = []
    with memory_planned(lambda: 10**15):
        found, portion = answer_within_memory(Device(np.inf), COUNT, Portion(COUNT), Bounds(1, len(ROWS), said.append))
    assert portion == Portion(COUNT)
    assert said == []
    check_equal(found, roomy)
    room = max(taken) // 2
    taken.clear()
    with memory_planned(lambda: room):
        found, portion = answer_within_memory(Device(np.inf), COUNT, Portion(COUNT), Bounds(1, len(ROWS), said.append))
    assert portion.questions < COUNT
    check_equal(found, roomy)
    assert len(said) == sum(needed > room for needed in taken) > 0
    assert all("a compiled program needs" in line and "GiB free; going on with" in line for line in said)


def test_a_group_of_which_nothing_is_selected(roomy: Answered) -> None:
    found, _ = answer_within_memory(Device(len(ROWS), range(3, 5)), COUNT, Portion(1), Bounds(1, len(ROWS), print))
    assert found.selected.tolist() == [False] * 3 + [True] * 2
    assert found.measured is not None
    assert roomy.measured is not None
    np.testing.assert_allclose(found.measured.knockout_prob[3:], roomy.measured.knockout_prob[3:], rtol=0, atol=1e-5)


def test_what_fitted_is_where_the_next_batch_begins() -> None:
    device = Device(2 * len(ROWS))
    _, portion = answer_within_memory(device, COUNT, Portion(COUNT), Bounds(1, len(ROWS), print))
    before = len(device.tried)
    answer_within_memory(device, COUNT, portion, Bounds(1, len(ROWS), print))
    assert {questions for questions, _ in device.tried[before:]} == {2}


def test_devices_with_questions_of_their_own_keep_at_least_one_each() -> None:
    said: list[str] = []

    def never(some: slice, piece: int, portion: Portion) -> Any:
        assert portion.questions % 3 == 0
        raise jax.errors.JaxRuntimeError(f"{OUT_OF_MEMORY}: no")

    with pytest.raises(OptionError, match=r"not even one configuration of 3 question\(s\).*--mesh model=M"):
        answer_within_memory(never, 12, Portion(12), Bounds(3, 2, said.append))
    assert [line.split("with ")[1] for line in said] == [
        "6 question(s) at a time",
        "3 question(s) at a time",
        "3 question(s) at a time and the configurations in 2 pieces",
    ]


def test_other_errors_are_not_swallowed() -> None:
    def broken(some: slice, piece: int, portion: Portion) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        answer_within_memory(broken, 2, Portion(2), Bounds(1, 2, print))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        check_within_memory(lambda size: broken(slice(0), 0, Portion(size)), Portion(2), Bounds(1, say=print))


def test_the_engines_check_takes_less_too_or_is_given_up() -> None:
    said: list[str] = []

    def room_for(most: int) -> Any:
        def work(size: int) -> None:
            if size > most:
                raise jax.errors.JaxRuntimeError(f"{OUT_OF_MEMORY}: no")

        return work

    assert check_within_memory(room_for(3), Portion(8), Bounds(1, say=said.append)) == Portion(2)
    assert len(said) == 2
    assert check_within_memory(room_for(0), Portion(2), Bounds(1, say=said.append)) == Portion(1)
    assert "not checked" in said[-1]

"""Preparation beside the engine: in order, a few questions ahead, errors in their turn."""

import threading
import time

import pytest

from xmflow_jax.study.batches import prepared_ahead, timed, waiting_line


def test_everything_comes_in_order_and_no_more_than_so_many_ahead() -> None:
    made: list[int] = []
    taken = 0

    def prepare(number: int) -> int:
        made.append(number)
        assert threading.current_thread() is not threading.main_thread()
        # The one that is handed over, and those that wait behind it.
        assert number <= taken + 3
        return number * number

    for found, expected in zip(prepared_ahead(range(50), prepare, 3), range(50), strict=True):
        assert found == expected * expected
        taken += 1
    assert made == list(range(50))


def test_the_next_are_prepared_while_the_first_is_used() -> None:
    ready = threading.Event()

    def prepare(number: int) -> int:
        if number == 2:
            ready.set()
        return number

    results = prepared_ahead(range(5), prepare, 2)
    assert next(results) == 0
    assert ready.wait(10)
    assert list(results) == [1, 2, 3, 4]


def test_an_error_comes_in_its_turn_and_ends_it() -> None:
    made: list[int] = []

    def prepare(number: int) -> int:
        if number == 3:
            raise KeyError("the third")
        made.append(number)
        return number

    results = prepared_ahead(range(9), prepare, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="the third"):
        next(results)
    assert max(made) <= 5


def test_a_reader_that_stops_leaves_no_thread_behind() -> None:
    results = prepared_ahead(range(1000), lambda number: number, 4)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("prepare") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_is_told() -> None:
    waits: list[float] = []

    def batches() -> "list[int]":
        return [1, 2]

    assert list(timed(batches(), waits.append)) == [1, 2]
    assert len(waits) == 3
    assert list(timed(iter(()), waits.append)) == []  # where nothing runs, nobody waited: no "0.0 s of 0.0 s (55.7%)"
    assert len(waits) == 3
    assert waiting_line([1.0, 0.5], 30.0) == "the engine waited for questions and images 1.5 s of 30.0 s (5.0%)"

"""Memory planned: what a compiled program takes is known before it runs, and decides how much is computed at a time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.study.test_memory_fit import ROWS
from xmflow_jax.machine import layout as layouts
from xmflow_jax.machine.layout import DeviceLayout, free_memory
from xmflow_jax.machine.memory import MemoryShort, memory_planned
from xmflow_jax.machine.passes import FIRST, over_questions
from xmflow_jax.study.memory_fit import Bounds, Portion, check_within_memory, within_memory

SIDE = 64
ran: list[int] = []


def _square(x: jax.Array) -> jax.Array:
    jax.debug.callback(lambda: ran.append(1))
    return jnp.sin(x @ x) @ x


square = over_questions(_square, {"x": FIRST}, FIRST)


def test_a_pass_that_does_not_fit_is_not_run() -> None:
    x = np.ones((SIDE, SIDE), np.float32)
    ran.clear()
    with memory_planned(lambda: SIDE * SIDE * 4 - 1), pytest.raises(MemoryShort) as caught:
        square(x)
    jax.effects_barrier()
    assert ran == []
    # Its result alone has so many bytes; and there is something in between.
    assert caught.value.needed >= 2 * SIDE * SIDE * 4
    with memory_planned(lambda: caught.value.needed):
        fitting = square(x)
    with memory_planned(lambda: None):
        unknown = square(x)
    jax.effects_barrier()
    assert len(ran) == 2
    np.testing.assert_array_equal(fitting, square(x))
    np.testing.assert_array_equal(unknown, fitting)


def test_looking_at_a_program_does_not_compile_it_twice() -> None:
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    with memory_planned(lambda: 10**12):
        square(np.ones((SIDE, SIDE + 0), np.float32)[: SIDE // 2, : SIDE // 2])
        square(np.zeros((SIDE // 2, SIDE // 2), np.float32))
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("needed", "tried"),
    [
        (101, [Portion(8), Portion(4)]),
        (200, [Portion(8), Portion(4)]),
        (201, [Portion(8), Portion(2)]),
        (799, [Portion(8), Portion(1)]),
        (801, [Portion(8), Portion(1, 2)]),
        (10**6, [Portion(8), Portion(1, len(ROWS))]),
    ],
)
def test_the_first_guess_is_what_the_program_says(needed: int, tried: list[Portion]) -> None:
    seen: list[Portion] = []

    def work(portion: Portion) -> str:
        seen.append(portion)
        if len(seen) == 1:
            raise MemoryShort(needed, 100)
        return "done"

    assert within_memory(work, Portion(8), Bounds(1, len(ROWS))) == ("done", tried[-1])
    assert seen == tried


def test_the_engines_check_heeds_it_too() -> None:
    def work(size: int) -> None:
        if size > 2:
            raise MemoryShort(1000 * size, 2000)

    said: list[str] = []
    assert check_within_memory(work, Portion(8), Bounds(1, say=said.append)) == Portion(2)
    assert len(said) == 1

    def never(size: int) -> None:
        raise MemoryShort(1000, 1)

    assert check_within_memory(never, Portion(8), Bounds(4, say=said.append)) == Portion(4)
    assert "not checked" in said[-1]


def device(memory_stats: dict[str, int] | None, process: int = 0) -> Any:
    return SimpleNamespace(memory_stats=lambda: memory_stats, process_index=process)


def layout(*devices: Any) -> DeviceLayout:
    """A layout over devices that are none, which no `Mesh` takes."""
    made = DeviceLayout(None, 1, "")
    object.__setattr__(made, "mesh", SimpleNamespace(devices=np.array(devices, object)))
    return made


def test_free_memory_is_the_fullest_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, empty = {"bytes_limit": 100, "bytes_in_use": 70}, {"bytes_limit": 100, "bytes_in_use": 10}
    assert free_memory(layout(device(empty), device(full))) == 30
    assert free_memory(layout(device(full), device(full, process=1))) is None
    monkeypatch.setattr(layouts, "MEMORY_FILE", tmp_path / "meminfo")
    assert free_memory(layout(device(None))) is None
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:   800 kB\n")
    assert free_memory(layout(device(None))) == 800 * 1024
    assert free_memory(layout(device(None), device(None))) == 400 * 1024
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\n")
    assert free_memory(layout(device(None))) is None

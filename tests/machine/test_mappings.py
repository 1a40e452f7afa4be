"""Compiled programs are dropped before a process runs out of memory mappings."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from xmflow_jax.machine.mappings import drop_programs_where_many


@pytest.mark.parametrize(("taken", "dropped"), [(49, False), (51, True)])
def test_programs_are_dropped_beyond_half_of_the_limit(taken: int, dropped: bool, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("line\n" * taken)
    (tmp_path / "limit").write_text("100\n")
    double = jax.jit(lambda x: 2 * x)
    assert double(jnp.ones(3)).sum() == 6
    before = double._cache_size()
    assert drop_programs_where_many(tmp_path / "maps", tmp_path / "limit") == dropped
    assert (double._cache_size() < before) == dropped
    assert double(jnp.ones(3)).sum() == 6


def test_where_the_system_tells_nothing_nothing_is_dropped(tmp_path: Path) -> None:
    assert not drop_programs_where_many(tmp_path / "maps", tmp_path / "limit")
    (tmp_path / "limit").write_text("none")
    assert not drop_programs_where_many(tmp_path / "limit", tmp_path / "limit")

"""Programs on CPUs are compiled by XLA's older emitters, and by its default where it does not know them."""

import jax
import jax.numpy as jnp
import pytest

from xmflow_jax.machine import compiler
from xmflow_jax.machine.compiler import OLDER_EMITTERS, Program, compiler_options


def test_the_older_emitters_are_asked_for_where_xla_still_has_them() -> None:
    """JAX 0.10 has them, 0.12 has not."""
    if jax.__version_info__ < (0, 11):
        assert compiler_options() == {"xla_cpu_use_fusion_emitters": False}
    elif jax.__version_info__ >= (0, 12):
        assert compiler_options() is None
    assert compiler_options((("xla_embed_ir_in_executable", False),)) == {"xla_embed_ir_in_executable": False}


def test_an_option_that_xla_does_not_know_is_left_out() -> None:
    assert compiler_options((*OLDER_EMITTERS, ("xla_cpu_no_such_option", True))) is None


def test_programs_that_do_not_run_on_cpus_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options(OLDER_EMITTERS[:1] * 2) is None  # not asked for before: answers are kept


def test_a_program_is_compiled_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that XLA refuses is refused of the program itself."""
    monkeypatch.setattr(compiler, "compiler_options", lambda: {"xla_cpu_no_such_option": True})
    program = Program(jnp.sin)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        program(1.0)
    monkeypatch.undo()
    assert float(Program(jnp.sin)(1.0)) == pytest.approx(0.841471)


def test_static_arguments_are_compiled_in() -> None:
    def repeat(x: jax.Array, times: int) -> jax.Array:
        return jnp.concatenate([x] * times)

    assert Program(repeat, ("times",))(jnp.ones(2), times=3).shape == (6,)

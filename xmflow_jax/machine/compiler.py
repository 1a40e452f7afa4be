"""How XLA compiles the programs of this package on CPUs.

By its older emitters of fused loops, where it still has them (JAX 0.10): today's take longer to compile and make
programs that run no faster (`python -m experiments.benchmarks.emitters`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import jax
import jax.numpy as jnp

OLDER_EMITTERS: Final = (("xla_cpu_use_fusion_emitters", False),)


@lru_cache
def compiler_options(wanted: tuple[tuple[str, Any], ...] = OLDER_EMITTERS) -> dict[str, Any] | None:
    """For `jax.jit`: those wanted; None where programs do not run on CPUs, or where this XLA does not know one."""
    if jax.default_backend() != "cpu":
        return None
    options = dict(wanted)
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


@dataclass(frozen=True)
class Program:
    """What `jax.jit` compiles once for each shape of its arguments; not to be called within another one.

    Attributes:
        function: of arrays and trees of them.
        static: names of the arguments that are compiled in.
    """

    function: Callable[..., Any]
    static: tuple[str, ...] = ()

    @cached_property
    def jitted(self) -> Any:
        """What `jax.jit` returns. Not made before it is asked for: only then is it known what programs run on."""
        return jax.jit(self.function, static_argnames=self.static, compiler_options=compiler_options())

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.jitted(*given, **named)

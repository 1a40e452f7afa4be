"""xmflow_jax: exact and fast attention-knockout studies of multimodal LLMs.

`xmflow_jax.run_sweep(...)` is the command `python -m xmflow_jax.sweep` as a function, `xmflow_jax.evaluate_model` that
of `python -m xmflow_jax.evaluate`, `xmflow_jax.convert_checkpoint` that of `python -m xmflow_jax.convert`,
`xmflow_jax.prepare_benchmark` that of `python -m xmflow_jax.prepare`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmflow_jax.convert import convert as convert_checkpoint
    from xmflow_jax.evaluate import EvaluationResult, evaluate_model
    from xmflow_jax.prepare import prepare as prepare_benchmark
    from xmflow_jax.sweep import SweepResult, run_sweep

__all__ = [
    "EvaluationResult",
    "SweepResult",
    "convert_checkpoint",
    "evaluate_model",
    "prepare_benchmark",
    "run_sweep",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: importing a command's module here would have `python -m` run it twice.
    if name in ("run_sweep", "SweepResult"):
        from xmflow_jax import sweep

        return getattr(sweep, name)
    if name in ("evaluate_model", "EvaluationResult"):
        from xmflow_jax import evaluate

        return getattr(evaluate, name)
    if name == "convert_checkpoint":
        from xmflow_jax.convert import convert

        return convert
    if name == "prepare_benchmark":
        from xmflow_jax.prepare import prepare

        return prepare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

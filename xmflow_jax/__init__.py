"""xmflow_jax: exact and fast attention-knockout studies of multimodal LLMs.

`xmflow_jax.run_sweep(...)` is the command `python -m xmflow_jax.sweep` as a function, `xmflow_jax.convert_checkpoint`
that of `python -m xmflow_jax.convert`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmflow_jax.convert import convert as convert_checkpoint
    from xmflow_jax.sweep import SweepResult, run_sweep

__all__ = ["SweepResult", "convert_checkpoint", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Imported on first use: importing a command's module here would have `python -m` run it twice.
    if name in ("run_sweep", "SweepResult"):
        from xmflow_jax import sweep

        return getattr(sweep, name)
    if name == "convert_checkpoint":
        from xmflow_jax.convert import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

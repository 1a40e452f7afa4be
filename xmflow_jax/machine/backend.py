"""What JAX computes on: settings of the environment that it refuses, and platforms that are not here."""

import os
from importlib import import_module
from typing import Final

from xmflow_jax.errors import OptionError

SETTING: Final = "JAX_PLATFORMS"


def check_settings() -> None:
    """Import JAX, which reads its settings from the environment then.

    Raises:
        OptionError: it refuses one of them.
    """
    try:
        import_module("jax")
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise OptionError(f"JAX refuses a setting of the environment: {reason}") from None


def check_devices() -> None:
    """Have JAX find its devices.

    Raises:
        OptionError: it finds none, because this machine, or the JAX that is installed, lacks the platform that is asked
            for, such as `JAX_PLATFORMS=cuda` on a machine without a GPU.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, of JAX 0.10
        asked = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
        if not asked:
            reason = " ".join(str(error).split())[:200]
            raise OptionError(f"JAX finds no device to compute on: {reason}") from None
        named = SETTING if os.environ.get(SETTING) == asked else "jax_platforms"
        raise OptionError(f"{named} asks for {asked}; here are: {', '.join(_platforms_here(asked))}") from None


def _platforms_here(asked: str) -> list[str]:
    """What there is on this machine, whatever is asked for; nothing of it stays in use."""
    import jax
    from jax.extend.backend import backends, clear_backends

    try:
        jax.config.update("jax_platforms", "")
        return sorted(backends())
    finally:
        jax.config.update("jax_platforms", asked)
        clear_backends()

"""What a knockout does to the edges that it is about: one module for each mode.

A mode is a `nn.attention.Treatment`. To add one: a module here, and its line in MODES.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.modes import mask, mean, zero
from xmflow_jax.nn.treatment import Treatment

MASK: Final = mask.TREATMENT.name
ZERO: Final = zero.TREATMENT.name
MEAN: Final = mean.TREATMENT.name
MODES: Final[Mapping[str, Treatment]] = MappingProxyType(
    {treatment.name: treatment for treatment in (mask.TREATMENT, zero.TREATMENT, mean.TREATMENT)}
)


def check_mode(mode: str) -> str:
    """The mode, if there is one of this name.

    Raises:
        OptionError: there is none.
    """
    if mode not in MODES:
        raise OptionError(f"unknown knockout mode {mode!r}; the modes are: {', '.join(MODES)}")
    return mode

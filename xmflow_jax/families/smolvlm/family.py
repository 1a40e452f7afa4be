"""SmolVLM 2 as a family."""

from typing import Final

from xmflow_jax.families.family import Family
from xmflow_jax.families.idefics3.config import SMOLVLM
from xmflow_jax.families.idefics3.family import make_family

FAMILY: Final[Family] = make_family(SMOLVLM)

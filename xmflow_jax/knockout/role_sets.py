"""Sets of positions that a knockout names: a role's, or all others."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from xmflow_jax.data.roles import ALL, LAST


@dataclass(frozen=True)
class RoleSet:
    """A role's positions, or all the prompt's other positions."""

    role: str
    complement: bool = False

    def positions(self, roles: Mapping[str, Bool[np.ndarray, " _"]]) -> Bool[np.ndarray, " _"]:
        """Boolean [position] of one prompt, or over the encoder's positions for a role of the image's."""
        return ~roles[self.role] if self.complement else roles[self.role]

    @property
    def generated(self) -> bool:
        """Whether the positions of generated answer tokens are among them.

        They belong to the roles `Last` (as in the study) and `All`, as sources and as targets, and to no other. So the
        complement of any other role holds them: keep-only treats them as it treats the prompt's other positions.
        """
        return (self.role in (LAST, ALL)) != self.complement

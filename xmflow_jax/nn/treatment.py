"""What may become of an attention edge. Nothing here needs JAX, so command lines name modes without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Bool, Float

# Of JAX.
Array = Any


class Treated(NamedTuple):
    """Some edges of one part: the weights that they had, and what they lead to."""

    weights: Float[Array, "*batch target source"]
    edges: Bool[Array, "*batch target source"]
    value: Float[Array, "..."]
    letters: str


@dataclass(frozen=True, order=True)
class Treatment:
    """What a knockout does to an edge; the edge's own value never arrives. Ordered by name, as a pytree's keys must be.

    Attributes:
        name: as options and rows say it.
        removed: the edge is taken away before the softmax, so that the others are renormalised; else the others keep
            their weights.
        instead: what arrives in place of the edges' own values, from the edges of all parts of a softmax; None:
            nothing.
    """

    name: str
    removed: bool
    instead: Callable[[Sequence[Treated]], Float[Array, "*batch target head_width"]] | None = None

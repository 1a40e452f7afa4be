"""Mean ablation: edges keep their weights, and the value that a source gives is the mean of the sources' values.

A row still looks where it looked, but takes what the sources have in common: where masking changes an answer and this
does not, the row looks there without taking what is there. The mean is over the sources of the row's own ablated edges
that it sees, for each head and prompt, so a row with one such source is left as it is.
"""

from collections.abc import Sequence
from typing import Any, Final

from jaxtyping import Float

from xmflow_jax.nn.treatment import Treated, Treatment

# Of JAX, which takes seconds to import and is not needed to name the mode.
Array = Any


def mean_of_sources(treated: Sequence[Treated]) -> Float[Array, "*batch target head_width"]:
    """What arrives over some edges: the sum of their weights, times the mean of the values that they lead to."""
    import jax.numpy as jnp

    from xmflow_jax.nn.attention import wide_einsum

    weight = sum(jnp.where(one.edges, one.weights, 0.0).sum(-1, keepdims=True) for one in treated)
    total = sum(wide_einsum(one.letters, one.edges.astype(one.value.dtype), one.value) for one in treated)
    count = sum(one.edges.sum(-1, keepdims=True) for one in treated)
    return jnp.asarray(weight * total / jnp.maximum(count, 1))


TREATMENT: Final = Treatment("mean", removed=False, instead=mean_of_sources)

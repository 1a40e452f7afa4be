"""The fast engine: a study on a batch of prompts, computing only what can change. Exact.

Stages, each one compiled program (the last: one for each group of configurations): image encoder, base pass, suffix
passes. They are separate so that a command can time them and so that a group's program serves every batch of its shape.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xmflow_jax.data.batch import Batch
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.plain import encode_images
from xmflow_jax.knockout.plan import Placement, Study, place_study
from xmflow_jax.knockout.suffix import BaseRun, base_pass, suffix_pass

Tree = Any

encode = jax.jit(encode_images, static_argnames=("graphdef",))
run_base = jax.jit(base_pass, static_argnames=("graphdef", "rows"))
run_suffixes = jax.jit(suffix_pass, static_argnames=("graphdef", "trie", "rows", "prefix"))


class Swept(NamedTuple):
    """A study's answer on one batch.

    Attributes:
        base: logits at the answer position with nothing blocked.
        knockout: the same under every configuration of the study, in its order.
    """

    base: Float[Array, "batch vocabulary"]
    knockout: Float[Array, "batch config vocabulary"]


def knock_out(
    graphdef: Any, params: Tree, base: BaseRun, study: Study, placement: Placement, batch: Batch, positions: Positions
) -> Float[Array, "batch config vocabulary"]:
    """Logits under every configuration, from a base run of the same batch."""
    parts = [
        run_suffixes(
            graphdef,
            params,
            base,
            group.trie,
            study.switches,
            positions,
            start,
            batch.length,
            rows=group.rows,
            prefix=group.prefix,
        )
        for group, start in zip(placement.groups, placement.starts, strict=True)
    ]
    return assemble(study, placement, base, parts)


def assemble(
    study: Study, placement: Placement, base: BaseRun, parts: Sequence[Float[Array, "batch _ vocabulary"]]
) -> Float[Array, "batch config vocabulary"]:
    """The groups' logits in the study's order; configurations in no group change nothing and are the base run."""
    chosen = [member for group in placement.groups for member in group.trie.configurations]
    order = np.full(len(study.knockouts), len(chosen))
    order[chosen] = np.arange(len(chosen))
    return jnp.concatenate([*parts, base.logits[:, None]], axis=1)[:, order]


def sweep_fast(graphdef: Any, params: Tree, batch: Batch, positions: Positions, study: Study) -> Swept:
    """Logits at the answer position under every configuration of a study.

    Args:
        batch, positions: host arrays of the same prompts.
    """
    placement = place_study(study, positions, np.asarray(batch.length), batch.tokens.shape[1])
    features = encode(graphdef, params, batch.pixels)
    base = run_base(graphdef, params, batch.tokens, batch.length, features, placement.first, rows=placement.rows)
    return Swept(base.logits, knock_out(graphdef, params, base, study, placement, batch, positions))

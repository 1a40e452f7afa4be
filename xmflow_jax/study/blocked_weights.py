"""How much attention blocked sources still get, through each engine's own masks and attention.

Neither engine hands its weights out, so the values are replaced: with 1 at the blocked sources and 0 elsewhere, what
attention returns is the weight that a target gives to all blocked sources together. Queries and keys are the model's
own, in the state that the base run has them in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.knockout import arrays
from xmflow_jax.knockout.actions import DrawnEdges, Edges
from xmflow_jax.knockout.arrays import Positions, Switches, build_switches
from xmflow_jax.knockout.controls import DenseEdges, draw_edges, question_key
from xmflow_jax.knockout.fast.attention import Rows, cross_attend, suffix_attend
from xmflow_jax.knockout.fast.passes import BaseRun
from xmflow_jax.knockout.fast.placement import PREFIX_STEP, Study, round_up
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.machine.passes import to_host
from xmflow_jax.nn.attention import attend, causal_mask
from xmflow_jax.nn.layers import layer_slice, split_blocks
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True, eq=False)
class Probe:
    """Configurations whose blocked edges are looked at, each in its own layer.

    Attributes:
        cross: the edges are cross-attention's.
        switches: of these configurations.
        layer: of each.
        source: whether a position (the encoder's, if cross) is a blocked source.
        blocked: heads and targets that must give the sources nothing.
    """

    rows: tuple[StudyRow, ...]
    cross: bool
    switches: Switches
    layer: Int[np.ndarray, " pair"]
    source: Bool[np.ndarray, "pair source"]
    blocked: Bool[np.ndarray, "pair head target"]


def probes(prompt: PreparedQuestion, rows: Sequence[StudyRow], study: Study, heads: int) -> Iterator[Probe]:
    """The configurations' edges, those of self-attention and those of cross-attention apart.

    Sources and targets are read off the prompt's roles here, not taken from the engines' arrays.

    Args:
        rows: each of them blocks one set of edges, in its own layer among others.
    """
    for cross in (False, True):
        own, sources, blocked = [], [], []
        for row in rows:
            ((action, _, some_heads),) = row.knockout.switched
            if isinstance(action, DrawnEdges):
                source, target = _of_one_row(draw_edges(action, prompt.roles, key_of(prompt)), cross)
            elif isinstance(action, Edges) and action.cross == cross:
                source, target = action.source.positions(prompt.roles), action.target.positions(prompt.roles)
            else:
                continue
            if not source.any():
                continue
            head = np.isin(np.arange(heads), range(heads) if some_heads is None else some_heads)
            own.append(row)
            sources.append(source)
            blocked.append(head[:, None] & target)
        if own:
            switches = build_switches([row.knockout for row in own], study.actions, study.layers, heads)
            layer = np.array([row.layer for row in own], np.int32)
            yield Probe(tuple(own), cross, switches, layer, np.stack(sources), np.stack(blocked))


def key_of(prompt: PreparedQuestion) -> int:
    """The prompt's question's own number."""
    return question_key(prompt.question.task, prompt.question.question_id)


def _of_one_row(edges: DenseEdges, cross: bool) -> tuple[Bool[np.ndarray, " source"], Bool[np.ndarray, " target"]]:
    """The sources of the last target that has any: a control's targets have sources of their own each."""
    dense = edges.visual if cross else edges.own
    row = np.flatnonzero(dense.any(1)).max(initial=0)
    return dense[row], np.arange(len(dense)) == row


def blocked_weights_plain(
    model: LoadedModel, batch: Batch, features: Any, positions: Positions, probe: Probe
) -> Float[np.ndarray, "pair head target"]:
    """Of a batch's first prompt, through the plain engine's dense masks."""
    one = jax.tree.map(lambda part: part[:1], (batch, features, positions))
    length = int(batch.length[0])
    source = _padded(probe, batch.tokens.shape[1])
    weights = _plain(model.graphdef, model.state, *one, probe.switches, probe.layer, source, cross=probe.cross)
    return np.asarray(to_host(weights))[..., :length]


def blocked_weights_fast(
    model: LoadedModel, base: BaseRun, batch: Batch, positions: Positions, probe: Probe
) -> Float[np.ndarray, "pair head target"]:
    """Of a batch's first prompt, through the fast engine's masks; zero at rows that it does not recompute."""
    one = jax.tree.map(lambda part: part[:1], positions)
    rows, first, length = base.hidden.shape[2], int(base.first[0]), int(batch.length[0])
    prefix = min(base.value.shape[3], round_up(max(1, first), PREFIX_STEP))
    source = _padded(probe, batch.tokens.shape[1])
    weights = to_host(
        _fast(
            model.graphdef, model.state, _first_prompt(base), one, probe.switches, probe.layer, source,
            rows=rows, prefix=prefix, cross=probe.cross,
        )
    )  # fmt: skip
    whole = np.zeros((*weights.shape[:2], batch.tokens.shape[1]), weights.dtype)
    whole[..., first : first + rows] = weights
    return whole[..., :length]


def _padded(probe: Probe, length: int) -> Float[np.ndarray, "pair source"]:
    """1 at blocked sources, up to the padded length (the encoder's positions are not padded)."""
    missing = 0 if probe.cross else length - probe.source.shape[1]
    return np.pad(probe.source, ((0, 0), (0, missing))).astype(np.float32)


def _first_prompt(base: BaseRun) -> BaseRun:
    layered = jax.tree.map(lambda part: part[:, :1], (base.key, base.value, base.hidden, base.visual))
    key, value, hidden, visual = layered
    return BaseRun(key, value, hidden, base.first[:1], base.logits[:1], base.output[:1], visual)


def _like(source: Float[Array, " source"], keys: Array) -> Array:
    """The sources as values of the keys' shape [1, source, heads, head_width] and type."""
    return jnp.broadcast_to(source[None, :, None, None], keys.shape).astype(keys.dtype)


@partial(jax.jit, static_argnames=("graphdef", "cross"))
def _plain(
    graphdef: Any,
    params: Any,
    batch: Batch,
    features: Array,
    positions: Positions,
    switches: Switches,
    layers: Int[Array, " pair"],
    sources: Float[Array, "pair source"],
    cross: bool,
) -> Float[Array, "pair head target"]:
    model = nnx.merge(graphdef, params)
    decoder = model.language_model
    visual = model.visual_keys_values(features)
    _, hidden = decoder.run(model.embed(batch.tokens, features), collect=lambda x, key, value: x, visual=visual)
    block_of, stacked = split_blocks(decoder.layers)
    rotation = decoder.rotation(jnp.arange(hidden.shape[2])[None])

    def one(pair: tuple[Switches, Array, Array]) -> Array:
        switch, layer, source = pair
        block, x = block_of(layer_slice(stacked, layer)), hidden[layer]
        edit = arrays.layer_edit(layer_slice(switch, layer), positions)
        if cross:
            key, _ = layer_slice(visual, layer)
            allowed = None if edit.cross_blocked is None else ~edit.cross_blocked
            query, scale, zeroed = block.cross_queries(x), block.cross_scale, edit.cross_zeroed
        else:
            key, _ = block.keys_values(x, rotation)
            causal = causal_mask(x.shape[1])
            allowed = causal[None, None] if edit.blocked is None else causal & ~edit.blocked
            query, scale, zeroed = block.queries(x, rotation), block.scale, edit.zeroed
        return attend(query, key, _like(source, key), scale, allowed, zeroed)[0, :, :, 0].T

    return jax.lax.map(one, (switches, layers, sources))


@partial(jax.jit, static_argnames=("graphdef", "rows", "prefix", "cross"))
def _fast(
    graphdef: Any,
    params: Any,
    base: BaseRun,
    positions: Positions,
    switches: Switches,
    layers: Int[Array, " pair"],
    sources: Float[Array, "pair source"],
    rows: int,
    prefix: int,
    cross: bool,
) -> Float[Array, "pair head row"]:
    decoder = nnx.merge(graphdef, params).language_model
    block_of, stacked = split_blocks(decoder.layers)
    every_row = base.first[:, None] + jnp.arange(rows)
    rotation, at = decoder.rotation(every_row[:, None]), Rows(every_row, base.first, rows)

    def one(pair: tuple[Switches, Array, Array]) -> Array:
        switch, layer, source = pair
        block, x = block_of(layer_slice(stacked, layer)), base.hidden[layer][:, None]
        on = jax.tree.map(lambda part: part[layer][None, None], switch)
        if cross:
            assert base.visual is not None, "a model with cross-attention has visual keys"
            key, _ = layer_slice(base.visual, layer)
            values = _like(source, key)
            weights = cross_attend(block.cross_queries(x), key, values, block.cross_scale, at, on, positions)
            return weights[0, 0, :, :, 0].T
        key, _ = block.keys_values(x, rotation)
        own = jax.lax.dynamic_slice_in_dim(source, base.first[0], rows)[:, None, None]
        own = jnp.broadcast_to(own, key.shape).astype(key.dtype)
        prefix_key = base.key[layer, ..., :prefix]
        before = jnp.swapaxes(_like(source[:prefix], jnp.moveaxis(prefix_key, 3, 1)), 1, 2)
        query = block.queries(x, rotation)
        weights = suffix_attend(query, key, own, prefix_key, before, block.scale, at, on, positions)
        return weights[0, 0, :, :, 0].T

    return jax.lax.map(one, (switches, layers, sources))

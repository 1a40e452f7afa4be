"""Attention of the rows that a knockout recomputes: to what all configurations share, and to their own rows.

Shared are the base run's keys and values of the prefix and of whatever else a site reads, such as the image encoder's
positions; they are one un-batched operand for all configurations. All parts are under one softmax.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import StackInput
from xmflow_jax.knockout.arrays import Positions, Switches, site_dropped, site_edges
from xmflow_jax.knockout.kinds.kind import View
from xmflow_jax.knockout.positions import blocks_at
from xmflow_jax.nn.anatomy import Site
from xmflow_jax.nn.attention import Part, attend_over, drop, for_each_head, scaled, wide_einsum
from xmflow_jax.nn.interfaces import Attend, KeysValues, Span
from xmflow_jax.nn.treatment import Treatment
from xmflow_jax.nn.visibility import sees

# Dense masks of one part by what becomes of the edges.
Edges = dict[Treatment, Bool[Array, "..."]]


class Rows(NamedTuple):
    """Which positions of each prompt a pass computes, and what they may read.

    Attributes:
        query: absolute position of every query row.
        start: first suffix row; prefix positions from there on are not used.
        rows: suffix rows that have keys and values of their own, from `start` on.
    """

    query: Int[Array, "batch query"]
    start: Int[Array, " batch"]
    rows: int


class SharedKeys(NamedTuple):
    """Keys and values that all configurations of a prompt read, laid out as the products with queries and weights take
    them: heads come first, and of keys the positions last. A pass reads a layer of them where it lies."""

    key: Float[Array, "kv_heads batch head_width source"]
    value: Float[Array, "kv_heads batch source head_width"]


def head_count(keys: SharedKeys | KeysValues) -> int:
    """Key-value heads."""
    return int(keys.value.shape[0] if isinstance(keys, SharedKeys) else keys[0].shape[-2])


@dataclass(frozen=True)
class Sources:
    """Some of the sources that query rows read.

    Attributes:
        keys: shared by all configurations, or each configuration's own [batch, config, source, kv_heads, head_width].
        allowed: edges that are there [batch, 1, 1, #query, source]; None: all.
        edges: what the knockouts do to them [kv_head, batch, group, config, query, source], with heads of 1 unless a
            study names heads.
    """

    keys: SharedKeys | KeysValues
    allowed: Bool[Array, "..."] | None
    edges: Edges


def attend_rows(
    query: Float[Array, "batch config query heads head_width"],
    sources: tuple[Sources, ...],
    kv_heads: int,
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "batch config query heads head_width"]:
    """Attention of every configuration's query rows, one softmax over all sources."""
    batch, configs, rows, heads, width = query.shape
    alike, by_head, operands = [], [], []
    for one in sources:
        shared, mine = split_by_head(one.edges)
        alike.append(shared)
        by_head.append(mine)
        key, value = one.keys
        own = not isinstance(one.keys, SharedKeys)
        operands.append((jnp.moveaxis(key, 3, 0), jnp.moveaxis(value, 3, 0)) if own else (key, value))

    def one_head(query: Array, operands: list[tuple[Array, Array]], by_head: list[Edges]) -> Array:
        """One key-value head and its queries [batch, query head, config, query, width]."""
        parts = []
        for one, (key, value), shared, mine in zip(sources, operands, alike, by_head, strict=True):
            letters = ("bgcrd,bds->bgcrs", "bgcrs,bsd->bgcrd")
            if not isinstance(one.keys, SharedKeys):
                letters = ("bgcrd,bcsd->bgcrs", "bgcrs,bcsd->bgcrd")
            logits = scaled(wide_einsum(letters[0], query, key), scale, softcap)
            parts.append(Part(logits, one.allowed, shared | mine, value, letters[1]))
        return attend_over(*parts).astype(query.dtype)

    grouped = query.reshape(batch, configs, rows, kv_heads, heads // kv_heads, width).transpose(3, 0, 4, 1, 2, 5)
    count = sum(key.shape[3] for key, _ in operands)
    attended = for_each_head(one_head, grouped, operands, by_head, logits=batch * configs * rows * heads * count)
    return attended.transpose(1, 3, 4, 0, 2, 5).reshape(batch, configs, rows, heads, width)


def by_group(
    mask: Bool[Array, "batch config head query source"], kv_heads: int
) -> Bool[Array, "kv_head batch group config query source"]:
    """Query heads sorted by the key-value head that they read; both axes are 1 unless a study names heads."""
    groups = (1, 1) if mask.shape[2] == 1 else (kv_heads, mask.shape[2] // kv_heads)
    return mask.reshape(*mask.shape[:2], *groups, *mask.shape[3:]).transpose(2, 0, 3, 1, 4, 5)


def split_by_head(edges: Edges) -> tuple[Edges, Edges]:
    """The masks [key-value head, ...] that are alike for all heads, without that axis, and the others."""
    by_head = {treatment: mask for treatment, mask in edges.items() if mask.shape[0] > 1}
    return {treatment: mask[0] for treatment, mask in edges.items() if treatment not in by_head}, by_head


class Reads(NamedTuple):
    """What the rows of one layer read beside themselves.

    Attributes:
        prefix: the base run's, of the positions before them; None for a layer that does not read its own stack.
        outside: of what the layer's other site reads, the same for all configurations; None where there is none.
        outside_rows: the same, where it differs by configuration [batch, config, source, kv_heads, head_width].
        outside_real: which of these sources are no padding [batch, source]; None: all.
    """

    prefix: SharedKeys | None
    outside: SharedKeys | None = None
    outside_rows: KeysValues | None = None
    outside_real: Bool[Array, "batch source"] | None = None


@dataclass(frozen=True)
class Under:
    """One layer's knockouts, for the rows that a pass computes.

    Attributes:
        at: these rows.
        inputs: the stack's, for where positions see each other.
        switches: this layer's [prompt, configuration, ...]; a prompt axis of 1 stands for all prompts alike.
        positions: of the batch.
    """

    at: Rows
    inputs: StackInput
    switches: Switches
    positions: Positions

    def edges(self, site: Site, kv_heads: int, sources: Callable[[Array], Array]) -> Edges:
        """What becomes of the edges from the query rows to some sources."""
        found = site_edges(site, self.switches, self.positions, View(self.at.query, sources, by_configuration=True))
        return {treatment: by_group(mask, kv_heads) for treatment, mask in found.items()}

    def drop(self, site: Site, output: Array) -> Array:
        """A sublayer's output, zero at the rows where it is dropped (`interfaces.Drop`)."""
        view = View(self.at.query, by_configuration=True)
        return drop(output, site_dropped(site, self.switches, self.positions, view))

    def own_sources(
        self, site: Site, prefix: SharedKeys, own: KeysValues, span: Span | None
    ) -> tuple[Sources, Sources]:
        """The shared prefix, and every configuration's own rows."""
        at, kv_heads, length = self.at, head_count(own), prefix.value.shape[2]
        before, rows = jnp.arange(length), at.start[:, None] + jnp.arange(at.rows)
        query_block, row_block = blocks_at(self.inputs, at.query), blocks_at(self.inputs, rows)
        seen = (before < at.start[:, None])[:, None]
        if span is not None:
            before_block = blocks_at(self.inputs, jnp.broadcast_to(before, (len(at.start), length)))
            seen &= sees(at.query, before, span, query_block, before_block)
        own_seen = sees(at.query, rows, span, query_block, row_block)
        take_rows = jax.vmap(lambda one, begin: jax.lax.dynamic_slice_in_dim(one, begin, at.rows, axis=-1))
        return (
            Sources(prefix, seen[:, None, None], self.edges(site, kv_heads, lambda x: x[..., :length])),
            Sources(own, own_seen[:, None, None], self.edges(site, kv_heads, lambda x: take_rows(x, at.start))),
        )

    def outside_sources(self, site: Site, reads: Reads) -> Sources:
        """What the layer's other site reads."""
        keys = reads.outside if reads.outside_rows is None else reads.outside_rows
        assert keys is not None, "a site that reads something else is given it"
        kv_heads = head_count(keys)
        real = None if reads.outside_real is None else reads.outside_real[:, None, None, None]
        return Sources(keys, real, self.edges(site, kv_heads, lambda x: x))

    def attend(self, reads: Reads, own_rows: Callable[[KeysValues], KeysValues] = lambda own: own) -> Attend:
        """How the layer's sites attend.

        Args:
            own_rows: from the keys and values of the rows that the block computes, those of all rows from `at.start`
                on; by default they are the same.
        """

        def attend_at(
            site: Site,
            query: Array,
            own: KeysValues | None,
            scale: float,
            span: Span | None = None,
            softcap: float | None = None,
        ) -> Array:
            if own is None:
                outside = self.outside_sources(site, reads)
                return attend_rows(query, (outside,), head_count(outside.keys), scale, softcap)
            assert reads.prefix is not None, "a site that reads its own stack has the base run's keys"
            sources = self.own_sources(site, reads.prefix, own_rows(own), span)
            return attend_rows(query, sources, head_count(own), scale, softcap)

        return attend_at

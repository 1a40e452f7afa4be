"""Departed answers while they are decoded on: what their passes are given, and where their rows are."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xmflow_jax.data.batch import StackInput
from xmflow_jax.knockout.arrays import Positions
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.base_run import rows_from
from xmflow_jax.knockout.fast.departed import Tiles
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.positions import real_positions, rotation_at, side_by_side
from xmflow_jax.nn.interfaces import KeysValues, Model, Stack
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.stacks import (
    group_begins,
    layers_before,
    reading_site,
)

Tree = Any

# Of each run of blocks, keys and values of tiles' own rows, from each tile's first row on [layer, group, tile, slot,
# row, kv_heads, head_width]; None for blocks that do not read their own stack.
Cache = tuple[KeysValues | None, ...]


class Shape(NamedTuple):
    """What is static of departed answers.

    Attributes:
        rows: of every group, as in its suffix pass.
        longest: so many rows cover the longest answer as well, in every group.
        prefix: the largest of all groups.
    """

    rows: tuple[int, ...]
    longest: int
    prefix: int


class Alike(NamedTuple):
    """Groups with equally many rows of prompt and draft: the rows, and the groups' numbers."""

    rows: int
    groups: Int[Array, " group"]


@dataclass(frozen=True)
class Work:
    """Departed answers while they are decoded on.

    Attributes:
        model: whose main stack decodes.
        given: as of the drafted passes.
        tiles: which answers.
        first_layer: no configuration of a slot blocks anything in the main stack before it.
        shape: static.
        begin: the first row of every tile in each group.
        inputs, positions: of the tiles' prompts.
        added: what blocks add at the positions of these prompts (`interfaces.Model.added`).
    """

    model: Model
    given: Given
    tiles: Tiles
    first_layer: Int[Array, "group slot"]
    shape: Shape
    begin: Int[Array, "group tile"]
    inputs: StackInput
    positions: Positions
    added: Float[Array, "tile position added"] | None

    @property
    def stack(self) -> Stack:
        """The main stack."""
        return self.model.stacks[-1]

    def of_prompts(self, leaf: Array, index: Any, axis: int) -> Array:
        """A layer of what the batch's prompts have, for the tiles. A single prompt's is not gathered: it is large.

        Args:
            axis: of the batch, in a layer.
        """
        mine, prompts = leaf[index], self.tiles.prompt
        return mine if mine.shape[axis] == len(prompts) == 1 else jnp.take(mine, prompts, axis)

    def keys_of_prompts(self, keys: SharedKeys, index: Any) -> SharedKeys:
        """A layer of the prompts' keys and values, for the tiles."""
        return SharedKeys(self.of_prompts(keys.key, index, 1), self.of_prompts(keys.value, index, 1))

    def base_rows(self, group: Any, layer: Any, count: int) -> Float[Array, "tile 1 row width"]:
        """The base run's `count` rows of prompt and draft, before a layer of the main stack."""
        window = self.given.base.first[-1][self.tiles.prompt]
        hidden = self.of_prompts(self.given.base.hidden[-1], layer, 0)
        return rows_from(hidden, self.begin[group] - window, count)[:, None]

    def rows(self, group: Any, count: int) -> Rows:
        """A group's `count` rows of prompt and draft."""
        start = self.begin[group]
        return Rows(start[:, None] + jnp.arange(count), start, count)

    def rotation(self, rows: Int[Array, "tile row"]) -> Tree:
        """Of some rows, for all slots of a tile alike."""
        return side_by_side(rotation_at(self.stack, self.inputs, rows, self.added))

    def reads(self, run: int, index: Any) -> Reads:
        """What all of a prompt's configurations read in a layer: of its prefix, and of its image."""
        own, outside = (of_groups[run] for of_groups in self.given.base.keys[-1])
        prefix, shared, real = None, None, None
        if own is not None:
            key, value = self.keys_of_prompts(own, index)
            prefix = SharedKeys(key[..., : self.shape.prefix], value[:, :, : self.shape.prefix])
        if outside is not None:
            shared = self.keys_of_prompts(outside, index)
            site = reading_site(self.stack.groups[run])
            assert site is not None, "it reads what is outside"
            known = real_positions(self.model, self.given.batch, site.reads)
            real = None if known is None else known[self.tiles.prompt]
        return Reads(prefix, shared, None, real)

    def under(self, run: int, index: Any, at: Rows, config: Int[Array, "tile slot"]) -> Under:
        """A layer's knockouts, of some configurations."""
        layer = layers_before(self.model, -1) + group_begins(self.stack)[run] + index
        return Under(at, self.inputs, layer_slice(self.given.switches, (config, layer)), self.positions)

    @property
    def alike(self) -> list[Alike]:
        """The groups by their rows."""
        rows = np.array(self.shape.rows)
        return [Alike(int(count), jnp.asarray(np.flatnonzero(rows == count))) for count in np.unique(rows)]

"""DeepStack (Meng et al., arXiv 2406.04334): later blocks, too, get features of the image, added to their outputs at
its positions.

Here a stack's blocks, in front, add one set of features each; what they add comes with what they are told of positions
(`interfaces.WithAdded`), so that a pass over some rows alone adds what belongs there.
"""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import Site
from xmflow_jax.nn.interfaces import Attend, Block, BlockGroup, Drop, KeysValues, ReadingBlock, Rows, WithAdded
from xmflow_jax.nn.pictures import features_in_order


@dataclass(frozen=True)
class AddingBlock:
    """A block whose output gets features (`interfaces.Block`).

    Attributes:
        block: without them.
        number: of the block in its stack.
        count: so many blocks of the stack, the first ones, add features.
    """

    block: Block
    number: Int[Array, ""] | int
    count: int

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: WithAdded, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The block's output at the wanted rows, the features on top."""
        out = self.block(x, rotation.rotation, attend, drop, rows)
        width = rotation.added.shape[-1] // self.count
        place = jnp.minimum(self.number, self.count - 1) * width
        own = jax.lax.dynamic_slice_in_dim(rotation.added, place, width, axis=-1)
        return out + jnp.where(self.number < self.count, rows(own), 0).astype(out.dtype)

    def read(self, source: Float[Array, "*batch source width"]) -> KeysValues:
        """Of a block that reads something else, as without features (`interfaces.ReadingBlock`)."""
        return cast(ReadingBlock, self.block).read(source)


@dataclass(frozen=True)
class AddingBlocks:
    """Consecutive blocks alike, of a stack whose first blocks add features (`interfaces.BlockGroup`).

    Attributes:
        blocks: without them.
        begin: the number of the first of them in the stack.
        count: as of `AddingBlock`.
    """

    blocks: BlockGroup
    begin: int
    count: int

    @property
    def layers(self) -> int:
        """How many there are."""
        return self.blocks.layers

    @property
    def sites(self) -> tuple[Site, ...]:
        """Of each of them."""
        return self.blocks.sites

    def block(self, index: Any) -> AddingBlock:
        """The block of layer `index` of this group, which may be traced."""
        return AddingBlock(self.blocks.block(index), self.begin + index, self.count)


def deep_features(
    tokens: Int[Array, "batch position"], image_token: int, features: Float[Array, "batch visual width"]
) -> Float[Array, "batch position width"]:
    """Each image position's own features, 0 elsewhere."""
    nothing = jnp.zeros((*tokens.shape, features.shape[-1]), features.dtype)
    return features_in_order(nothing, tokens == image_token, features)

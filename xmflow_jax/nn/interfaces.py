"""What a model shows to the engines: stacks of blocks, and in each block the sites that a knockout may be about.

A block writes its dataflow once: norms, projections, residual sums, in its own order. Whoever runs it hands in how a
site attends (`Attend`) and what becomes of a sublayer's output (`Drop`): the plain engine masks, the base pass keeps
keys and values, a suffix pass reads the base run's, a probe reads weights off. So an engine knows no family.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

from xmflow_jax.nn.anatomy import Site

Tree = Any


class StrictSpan(NamedTuple):
    """A sliding window that holds within the target's own block as well: of its block, too, a target sees nothing that
    stands so far before it.

    Attributes:
        length: sources that it sees up to itself, itself the last of them.
    """

    length: Int[Array, ""] | int


# Of a sliding window: sources that a target sees up to itself, itself the last of them. A plain number spares the
# target's own block, all of which it sees.
Span = Int[Array, ""] | int | StrictSpan

# Keys and values [*batch, source, kv_heads, head_width].
KeysValues = tuple[Array, Array]


@runtime_checkable
class Attend(Protocol):
    """How a site attends."""

    def __call__(
        self,
        site: Site,
        query: Float[Array, "*batch target heads head_width"],
        own: KeysValues | None,
        scale: float,
        span: Span | None = None,
        softcap: float | None = None,
    ) -> Float[Array, "*batch target heads head_width"]:
        """The heads' weighted sums.

        Args:
            own: keys and values of the stack's own positions; None for a site that reads something else, whose keys
                and values the caller has from `ReadingBlock.read`.
            scale: of the logits.
            span: a sliding window; None: a target sees all sources before it.
            softcap: logits become `softcap * tanh(logits / softcap)`.
        """
        ...


# (a sublayer, its output [*batch, target, width]) -> what is added of it.
Drop = Callable[[Site, Array], Array]
# Of anything with the positions on its last axis but one: the rows that are wanted.
Rows = Callable[[Array], Array]


class WithAdded(NamedTuple):
    """What blocks need to know of positions where a model adds something of its images behind some of the blocks.

    Attributes:
        rotation: what the stack's `rotation` gave.
        added: what each of these blocks adds, side by side (`Model.added`); 0 at positions that stand for no image.
    """

    rotation: Tree
    added: Float[Array, "*batch position added"]


@runtime_checkable
class Block(Protocol):
    """One layer."""

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: Tree, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The block's output at the wanted rows.

        Args:
            x: its input at all positions whose keys and values are wanted.
            rotation: what its stack's `rotation` gave for these positions; within `WithAdded` where the model adds
                something of its images.
            rows: which of the positions have queries.
        """
        ...


@runtime_checkable
class ReadingBlock(Block, Protocol):
    """A layer with a site that reads something else than its own stack."""

    def read(self, source: Float[Array, "*batch source width"]) -> KeysValues:
        """That site's keys and values of the states that it reads."""
        ...


@runtime_checkable
class BlockGroup(Protocol):
    """Consecutive blocks whose parameters are alike, so that one compiled scan runs them."""

    @property
    def layers(self) -> int: ...

    @property
    def sites(self) -> tuple[Site, ...]: ...

    def block(self, index: Int[Array, ""] | int) -> Block:
        """The block of layer `index` of this group."""
        ...


@runtime_checkable
class Stack(Protocol):
    """Blocks in the order in which they run."""

    @property
    def groups(self) -> Sequence[BlockGroup]: ...

    def rotation(self, ids: Int[Array, "*batch axis position"]) -> Tree:
        """What all blocks need to know of positions with these ids: rotary angles; None where they need nothing."""
        ...

    def embed(
        self, tokens: Int[Array, "*batch position"], ids: Int[Array, "*#batch axis position"]
    ) -> Float[Array, "*batch position width"]:
        """Embeddings of words, none of which stands for an image."""
        ...


@runtime_checkable
class Model(Protocol):
    """What both engines run."""

    @property
    def stacks(self) -> Sequence[Stack]: ...

    def visual(self, pixels: Tree) -> Float[Array, "batch visual features"]:
        """What is read of the images of each prompt, in the order of its image positions: what a stack's first block
        takes, and what later blocks add.

        Args:
            pixels: what the family's processing gives of the prompts' images, stacked to a batch: every leaf has the
                batch on its first axis. Prompts differ in how many features they have; behind a prompt's own stands
                anything.
        """
        ...

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual features"],
        before: Float[Array, "batch source width"] | None,
    ) -> Float[Array, "batch position width"]:
        """What a stack's first block takes.

        Args:
            stack: which of `stacks`.
            features: of all images of a prompt, one after the other.
            before: what the stack before left.
        """
        ...

    def added(
        self, stack: int, tokens: Int[Array, "batch position"], features: Float[Array, "batch visual features"]
    ) -> Float[Array, "batch position added"] | None:
        """What blocks of a stack add to their outputs at each position of the prompts, of all blocks that do so side by
        side (`WithAdded`), nothing where no image stands; None: no block does.

        Args:
            stack, features: as of `enter`.
        """
        ...

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        ...

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        ...

"""What a model shows to the engines: stacks of blocks, and in each block the sites that a knockout may be about.

A block writes its dataflow once: norms, projections, residual sums, in its own order. Whoever runs it hands in how a
site attends (`Attend`) and what becomes of a sublayer's output (`Drop`): the plain engine masks, the base pass keeps
keys and values, a suffix pass reads the base run's, a probe reads weights off. So an engine knows no family.

A model has one or more stacks, in the order in which they run. What a stack leaves, a later one may read: among the
embeddings that its first block takes, or by a site that names it. Layers are numbered through all stacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

Tree = Any

# What a site's sources are: the stack's own positions; the image encoder's; or, by its name, an earlier stack's.
OWN: Final = "own"
VISUAL: Final = "visual"
# Of a sublayer that does not attend.
NOTHING: Final = "nothing"

# Keys and values [*batch, source, kv_heads, head_width].
KeysValues = tuple[Array, Array]


@dataclass(frozen=True, order=True)
class Site:
    """A sublayer that a knockout may be about: its attention edges, or its output.

    Attributes:
        stack: the stack's name, such as "decoder".
        name: within the stack, such as "self", "cross" or "mlp".
        reads: OWN, VISUAL, an earlier stack's name, or NOTHING for a sublayer that does not attend.
    """

    stack: str
    name: str
    reads: str = OWN

    def __str__(self) -> str:
        return f"{self.stack}.{self.name}"


@dataclass(frozen=True)
class StackShape:
    """A stack as data, known from the configuration alone.

    Attributes:
        name: such as "decoder".
        sites: of each layer, in the order in which the block computes them, the MLP among them.
        heads: query heads of each attending site.
        enters: the role whose positions hold what the stack before left, or None: nothing is read that way.
    """

    name: str
    sites: tuple[tuple[Site, ...], ...]
    heads: int
    enters: str | None = None

    @property
    def layers(self) -> int:
        return len(self.sites)


@dataclass(frozen=True)
class Anatomy:
    """A model's stacks as data, and the limits that its prompts have.

    Attributes:
        stacks: in the order in which they run; the answer is read off the last one.
        vocabulary: embeddings, and so token ids.
        positions: of prompt and answer together, at most; None where the model sets no limit.
    """

    stacks: tuple[StackShape, ...]
    vocabulary: int
    positions: int | None = None

    @property
    def main(self) -> StackShape:
        """The stack that the answer is read off: the one that a pathway means where it names none."""
        return self.stacks[-1]

    @property
    def layers(self) -> int:
        """Of all stacks together."""
        return sum(stack.layers for stack in self.stacks)

    def first_layer(self, stack: str) -> int:
        """The number, through all stacks, of a stack's first layer."""
        names = [one.name for one in self.stacks]
        return sum(one.layers for one in self.stacks[: names.index(stack)])

    def sites(self, stack: StackShape) -> tuple[Site, ...]:
        """A stack's distinct sites, in order of first use."""
        return tuple(dict.fromkeys(site for layer in stack.sites for site in layer))

    @property
    def image_in_prompt(self) -> bool:
        """Whether the image stands among the main stack's own positions; else its sites read it from outside."""
        return all(site.reads in (OWN, NOTHING) for site in self.sites(self.main))


@runtime_checkable
class Attend(Protocol):
    """How a site attends."""

    def __call__(
        self,
        site: Site,
        query: Float[Array, "*batch target heads head_width"],
        own: KeysValues | None,
        scale: float,
        span: Int[Array, ""] | int | None = None,
        softcap: float | None = None,
    ) -> Float[Array, "*batch target heads head_width"]:
        """The heads' weighted sums.

        Args:
            own: keys and values of the stack's own positions; None for a site that reads something else, whose keys
                and values the caller has from `Block.read`.
            scale: of the logits.
            span: a target sees only so many sources, itself the last of them (a sliding window); None: all before it.
            softcap: logits become `softcap * tanh(logits / softcap)`.
        """
        ...


# (a sublayer, its output [*batch, target, width]) -> what is added of it.
Drop = Callable[[Site, Array], Array]
# Of anything with the positions on its last axis but one: the rows that are wanted.
Rows = Callable[[Array], Array]


@runtime_checkable
class Block(Protocol):
    """One layer."""

    def __call__(
        self, x: Float[Array, "*batch position width"], rotation: Tree, attend: Attend, drop: Drop, rows: Rows
    ) -> Float[Array, "*batch row width"]:
        """The block's output at the wanted rows.

        Args:
            x: its input at all positions whose keys and values are wanted.
            rotation: what its stack's `rotation` gave for these positions.
            rows: which of the positions have queries.
        """
        ...

    def read(self, source: Float[Array, "*batch source width"]) -> KeysValues:
        """Keys and values of the site that reads something else than its own stack."""
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

    def image_features(self, pixels: Tree) -> Float[Array, "images visual width"]:
        """What is read of each image."""
        ...

    def enter(
        self,
        stack: int,
        tokens: Int[Array, "batch position"],
        ids: Int[Array, "batch axis position"],
        features: Float[Array, "batch visual width"],
        before: Float[Array, "batch source width"] | None,
    ) -> Float[Array, "batch position width"]:
        """What a stack's first block takes.

        Args:
            stack: which of `stacks`.
            features: of all images of a prompt, one after the other.
            before: what the stack before left.
        """
        ...

    def norm(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The norm before the head."""
        ...

    def unembed(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocabulary"]:
        """The head alone, in float32 or wider."""
        ...

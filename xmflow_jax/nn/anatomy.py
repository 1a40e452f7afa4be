"""A model as data: its stacks, and in each layer the sites that a knockout may be about. Known from the configuration.

A model has one or more stacks, in the order in which they run. What a stack leaves, a later one may read: among the
embeddings that its first block takes, or by a site that names it. Layers are numbered through all stacks.

Nothing here needs JAX, so that a command line can name sites before it is loaded.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# What a site's sources are: the stack's own positions; the image encoder's; or, by its name, an earlier stack's.
OWN: Final = "own"
VISUAL: Final = "visual"
# Of a sublayer that does not attend.
NOTHING: Final = "nothing"


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


# The name of every model's last stack, off which the answer is read.
MAIN: Final = "decoder"

# The sites of a main stack of the usual form.
SELF: Final = Site(MAIN, "self", OWN)
CROSS: Final = Site(MAIN, "cross", VISUAL)
MLP: Final = Site(MAIN, "mlp", NOTHING)

# Metadata of a configuration's field that limits prompts and shapes no parameter: a model's digest leaves it out.
LIMIT: Final = MappingProxyType({"limit": True})


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
        views: roles of the views in which the model reads every image; empty where there is one.
    """

    stacks: tuple[StackShape, ...]
    vocabulary: int
    positions: int | None = None
    views: tuple[str, ...] = ()

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

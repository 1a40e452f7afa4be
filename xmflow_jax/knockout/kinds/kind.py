"""What a kind of knockout provides, so that both engines, the placement and the self-check need not know it.

A kind turns its actions into arrays, once per batch of prompts, and those into the dense masks of one site of one
layer, inside the layer. To add one: a module with a `KIND`, and its line in `kinds.KINDS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from xmflow_jax.data.batch import RoleMasks
from xmflow_jax.data.roles import IMAGE
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import NOTHING, OWN, VISUAL, Site

Tree = Any


@runtime_checkable
class Action(Protocol):
    """What a configuration switches on: frozen and hashable."""

    @property
    def target(self) -> RoleSet:
        """The rows that are changed."""
        ...


class Bank(NamedTuple):
    """Actions whose arrays stand together: of one kind, at one site, with one mode."""

    site: Site
    kind: str
    mode: str


@dataclass(frozen=True)
class PromptRoles:
    """A batch of prompts as a kind reads them to build its arrays.

    Attributes:
        roles: of each prompt, the roles of every stack by its name.
        length: padded positions of every stack, room for generated positions included.
        main: the name of the stack that generates.
        generated: so many positions behind each prompt of the main stack are its answer's.
        keys: each prompt's own number, from which its matched controls are drawn; None where there are none.
        blocks: of each prompt, the block numbers of every stack's positions; empty: there are none.
    """

    roles: Sequence[Mapping[str, RoleMasks]]
    length: Mapping[str, int]
    main: str
    generated: int = 0
    keys: Sequence[int] | None = None
    blocks: Sequence[Mapping[str, Int[np.ndarray, " _"] | None]] = ()

    def blocks_of(self, row: int, stack: str) -> Int[np.ndarray, " position"] | None:
        """Block numbers of a stack's positions in one prompt; None: its attention is causal."""
        return self.blocks[row].get(stack) if self.blocks else None

    def sources(self, site: Site) -> int:
        """How many sources a site has, padded."""
        if site.reads == NOTHING:
            return 0
        if site.reads != VISUAL:
            return self.length[site.stack if site.reads == OWN else site.reads]
        return max((len(own[site.stack][IMAGE]) for own in self.roles), default=0)

    def mask(self, chosen: RoleSet, stack: str, own: Mapping[str, RoleMasks], visual: bool) -> Bool[np.ndarray, " _"]:
        """A role set's positions in one prompt, generated positions behind them.

        Args:
            visual: the role is over the encoder's positions, behind which nothing is generated.
        """
        positions = chosen.positions(own[stack])
        if visual or stack != self.main:
            return positions
        return np.append(positions, np.full(self.generated, chosen.generated))


@dataclass(frozen=True)
class View:
    """Which target rows and which sources a layer wants a mask of; by default all of them.

    Attributes:
        query: absolute target rows of each prompt [batch, query]; None: every position.
        sources: takes the wanted ones along the last axis of [batch, ..., source].
        by_configuration: the masks have a configuration axis behind the batch axis.
    """

    query: Int[Array, "batch query"] | None = None
    sources: Callable[[Array], Array] = lambda x: x
    by_configuration: bool = False

    def of_targets(self, x: Bool[Array, "batch action position"]) -> Bool[Array, "..."]:
        """[batch, action, query], with a configuration axis where there is one."""
        rows = jnp.asarray(x) if self.query is None else jnp.take_along_axis(x, self.query[:, None], axis=-1)
        return rows[:, None] if self.by_configuration else rows

    def of_sources(self, x: Bool[Array, "batch action source"]) -> Bool[Array, "..."]:
        """[batch, action, source], with a configuration axis where there is one."""
        taken = self.sources(jnp.asarray(x))
        return taken[:, None] if self.by_configuration else taken

    def of_edges(self, x: Bool[Array, "batch action position source"]) -> Bool[Array, "..."]:
        """[batch, action, query, source], with a configuration axis where there is one."""
        rows = jnp.asarray(x) if self.query is None else jnp.take_along_axis(x, self.query[:, None, :, None], axis=2)
        taken = self.sources(rows)
        return taken[:, None] if self.by_configuration else taken


class Sight(NamedTuple):
    """What the placement knows of a batch, on the host: where a stack's rows see each other, and which of them count.

    Attributes:
        real: positions of the prompts and of the answers' tokens that are read [batch, position].
        blocks: block numbers [batch, position]; None where there are none.
    """

    real: Bool[np.ndarray, "batch position"]
    blocks: Int[np.ndarray, "batch position"] | None

    def seeing(self, source: Bool[np.ndarray, "batch position"]) -> Bool[np.ndarray, "batch position"]:
        """The rows that see at least one of the sources while nothing is blocked, sliding windows left aside."""
        found = np.logical_or.accumulate(source, axis=1)
        return found | self._in_blocks(source)

    def unseen(
        self, source: Bool[np.ndarray, "batch position"], target: Bool[np.ndarray, "batch position"]
    ) -> Bool[np.ndarray, "batch position"]:
        """The sources that nothing sees any more where the targets do not: every row that could is a target."""
        others = ~target & self.real
        behind = np.logical_or.accumulate(others[:, ::-1], axis=1)[:, ::-1]
        return source & ~behind & ~self._in_blocks(others)

    def _in_blocks(self, chosen: Bool[np.ndarray, "batch position"]) -> Bool[np.ndarray, "batch position"]:
        """All positions of the blocks that hold a chosen one."""
        found = np.zeros_like(chosen)
        if self.blocks is not None:
            for row, numbers in enumerate(self.blocks):
                held = np.unique(numbers[chosen[row]])
                found[row] = np.isin(numbers, held[held > 0])
        return found


class Changed(NamedTuple):
    """The rows that an action can change, in each prompt, on the host.

    Attributes:
        targets: in the first layer in which it is switched on.
        unread: those among the action's sources that nothing reads any more, if it is switched on from there to the
            end; None where there are none by its nature.
    """

    targets: Bool[np.ndarray, "batch position"]
    unread: Bool[np.ndarray, "batch position"] | None


class Shown(NamedTuple):
    """Edges of one action in one prompt, for the self-check: these targets must get nothing of these sources.

    Attributes:
        source: over a site's sources.
        target: over the stack's positions.
    """

    source: Bool[np.ndarray, " source"]
    target: Bool[np.ndarray, " position"]


@dataclass(frozen=True)
class Kind:
    """One kind of knockout.

    Attributes:
        name: as rows say it.
        action: the class of its actions.
        by_head: its switches have a head axis.
        banks: where an action's arrays stand: for each site that it acts at, one bank.
        ends: the role sets that must have a position in every prompt, each with the stack whose roles it is one of.
        build: (bank, its actions, prompts) -> numpy arrays, each [batch, action, ...].
        pad: (arrays, so many positions of the main stack more behind them) -> arrays.
        edges: (switch [..., action, head], arrays, view) -> dense [..., head, target, source]; None: it has none.
        probe: (bank, action, prompt) -> edges that the self-check looks at; None: it has none.
        dropped: (switch [..., action], arrays, view) -> output rows that are zero [..., target]; None: it has none.
        rows: (arrays of one action, each [batch, ...]) -> padded target positions.
        changed: (bank, action, arrays of it alone, each [batch, ...], sight) -> rows that it can change.
    """

    name: str
    action: type
    by_head: bool
    banks: Callable[[Any], tuple[Bank, ...]]
    ends: Callable[[Any], tuple[tuple[str, RoleSet], ...]]
    build: Callable[[Bank, Sequence[Any], PromptRoles], Tree]
    pad: Callable[[Bank, Tree, int], Tree]
    rows: Callable[[Tree], int]
    changed: Callable[[Bank, Any, Tree, Sight], Changed]
    edges: Callable[[Array, Tree, View], Bool[Array, "..."]] | None = None
    probe: Callable[[Bank, Any, Any], Shown] | None = None
    dropped: Callable[[Array, Tree, View], Bool[Array, "..."]] | None = None


def source_stack(site: Site) -> str:
    """The stack among whose roles a site's sources are."""
    return site.stack if site.reads in (OWN, VISUAL) else site.reads


def padded_masks(
    masks: Sequence[Sequence[Bool[np.ndarray, " _"]]], actions: int, length: int
) -> Bool[np.ndarray, "..."]:
    """[batch, action, position] from each prompt's masks, False behind them."""
    out = np.zeros((len(masks), actions, length), bool)
    for row, own in enumerate(masks):
        for column, mask in enumerate(own):
            out[row, column, : len(mask)] = mask
    return out


def pad_last(x: Array, more: int, axes: tuple[int, ...] = (-1,)) -> Array:
    """False at so many positions more along these axes."""
    widths = [(0, 0)] * x.ndim
    for axis in axes:
        widths[axis] = (0, more)
    return jnp.pad(x, widths)

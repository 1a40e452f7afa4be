"""Matched controls: for every target row as many edges as the pathway blocks there, drawn at random.

Blocking edges costs something whatever they carry. What a pathway costs beyond its controls is what *these* edges
carry. A control blocks its draw in the pathway's windows and heads; in all layers of a run, and with every window
style, the draw is the same.

The rules: where the source is an object's patches, or the image without them, the draw is as many other image
positions, the same ones for every target row that sees the whole image, and the role's own only where there are too few
others. For any other source it is drawn, for every target row on its own, uniformly from all that the row may see
except its own position; where a model reads the image by cross-attention, these are the text before it and the visual
positions. A row that sees fewer others than the pathway blocks (itself among them) has all of them blocked.

What a row sees is what it sees without a sliding window, which some layers of a model may have and others not. In a
layer with one, edges from beyond the window are not there to be blocked, neither the pathway's nor the drawn ones; how
many of each lie within it may differ.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.batch import RoleMasks
from xmflow_jax.data.roles import ALL, IMAGE, IMAGE_CENTRAL_OBJECT, IMAGE_WITHOUT_CENTRAL_OBJECT
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.kinds.kind import source_stack
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.nn.anatomy import OWN, VISUAL, Site

# Sources whose control is other image patches.
OBJECT_ROLES: Final = (IMAGE_CENTRAL_OBJECT, IMAGE_WITHOUT_CENTRAL_OBJECT)


class DenseEdges(NamedTuple):
    """Edges of one prompt and of the generated positions behind it.

    Attributes:
        own: to the stack's own positions, from target to source, where the target sees the source.
        outside: to what the stack's other site reads, such as the encoder's positions; none of them where it has none.
    """

    own: Bool[np.ndarray, "target source"]
    outside: Bool[np.ndarray, "target outside"]


class Prompt(NamedTuple):
    """One prompt as far as its controls depend on it.

    Attributes:
        roles: of every stack by its name.
        key: its question's (`question_key`).
        blocks: block numbers of the positions of the stack that is knocked out; None: attention is causal.
    """

    roles: Mapping[str, RoleMasks]
    key: int
    blocks: Int[np.ndarray, " position"] | None = None


def question_key(task: str, question_id: str) -> int:
    """A question's own number, of 64 bits: whatever else is in a batch or a run, its draws are the same."""
    return _number(task, question_id)


def pathway_edges(edges: Edges, sites: Sequence[Site], prompt: Prompt, generated: int = 0) -> DenseEdges:
    """The edges that a pathway blocks in one prompt.

    Args:
        sites: those of the stack that attend.
        generated: so many positions behind the prompt are those of its answer.
    """
    roles, site = prompt.roles[edges.site.stack], edges.site
    length = len(roles[ALL]) + generated
    target = _extended(edges.target, roles, generated)
    outside = np.zeros((length, outside_positions(sites, prompt)), bool)
    if site.reads != OWN:
        source = edges.source.positions(prompt.roles[source_stack(site)])
        return DenseEdges(np.zeros((length, length), bool), target[:, None] & source)
    own = target[:, None] & _extended(edges.source, roles, generated)
    return DenseEdges(own & visible(length, prompt.blocks), outside)


def outside_positions(sites: Sequence[Site], prompt: Prompt) -> int:
    """How many positions a stack reads that are not its own."""
    for site in sites:
        if site.reads != OWN:
            return len(prompt.roles[source_stack(site)][IMAGE if site.reads == VISUAL else ALL])
    return 0


def visible(length: int, blocks: Int[np.ndarray, " position"] | None) -> Bool[np.ndarray, "target source"]:
    """Which source each target sees with nothing blocked; positions behind `blocks` are in no block."""
    seen = np.tri(length, dtype=bool)
    if blocks is not None:
        numbers = np.pad(blocks, (0, length - len(blocks)))
        seen |= (numbers[:, None] == numbers) & (numbers > 0)
    return seen


def draw_edges(
    like: Edges, draw: int, seed: int, sites: Sequence[Site], prompt: Prompt, generated: int = 0
) -> DenseEdges:
    """A control's edges in one prompt. Those of the prompt's rows do not depend on `generated`.

    Args:
        like: the pathway's edges.
        draw: 1 for the first control of a pathway, 2 for the second, ...
        seed: of the run.
        sites, generated: see `pathway_edges`.
    """
    source, target, roles = like.source, like.target, prompt.roles[source_stack(like.site)]
    random = np.random.default_rng(
        _number(seed, draw, prompt.key, source.role, source.complement, target.role, target.complement)
    )
    pathway = pathway_edges(like, sites, prompt, generated)
    counts = pathway.own.sum(1) + pathway.outside.sum(1)
    if source.role in OBJECT_ROLES and not source.complement:
        return _other_patches(random, counts, roles, source.role, pathway, like.site, prompt.blocks)
    return _any_edges(random, counts, pathway, prompt.blocks)


def overlap(drawn: DenseEdges, pathway: DenseEdges) -> float:
    """The share (0 to 1) of the drawn edges that are the pathway's too; 0 where none is drawn."""
    shared = sum(int((one & other).sum()) for one, other in zip(drawn, pathway, strict=True))
    return shared / max(1, sum(int(one.sum()) for one in drawn))


def _extended(chosen: RoleSet, roles: RoleMasks, generated: int) -> Bool[np.ndarray, " position"]:
    return np.append(chosen.positions(roles), np.full(generated, chosen.generated))


def _other_patches(
    random: np.random.Generator,
    counts: Int[np.ndarray, " target"],
    roles: RoleMasks,
    role: str,
    pathway: DenseEdges,
    site: Site,
    blocks: Int[np.ndarray, " position"] | None,
) -> DenseEdges:
    """Every row takes the first ones that it sees of one order: other patches, the role's own, then any position."""
    order = random.permutation(np.flatnonzero(roles[IMAGE]))
    order = np.concatenate([order[~roles[role][order]], order[roles[role][order]]])
    own, outside = (np.zeros_like(part) for part in pathway)
    seen_by = visible(len(own), blocks)
    for row in np.flatnonzero(counts):
        if site.reads != OWN:
            outside[row, order[: counts[row]]] = True
            continue
        others = seen_by[row].copy()
        others[row] = False
        seen = order[others[order]]
        if len(seen) < counts[row]:
            # Only rows of the image itself see too little of it.
            words = np.setdiff1d(np.flatnonzero(others), seen, assume_unique=True)
            seen = np.concatenate([seen, random.permutation(words)])
        own[row, seen[: counts[row]]] = True
    return DenseEdges(own, outside)


def _any_edges(
    random: np.random.Generator,
    counts: Int[np.ndarray, " target"],
    pathway: DenseEdges,
    blocks: Int[np.ndarray, " position"] | None,
) -> DenseEdges:
    own, outside = (np.zeros_like(part) for part in pathway)
    seen_by = visible(len(own), blocks)
    for row in np.flatnonzero(counts):
        others = np.flatnonzero(seen_by[row])
        others = others[others != row]
        seen = len(others) + outside.shape[1]
        drawn = random.choice(seen, min(int(counts[row]), seen), replace=False, shuffle=False)
        own[row, others[drawn[drawn < len(others)]]] = True
        outside[row, drawn[drawn >= len(others)] - len(others)] = True
    return DenseEdges(own, outside)


def _number(*parts: object) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

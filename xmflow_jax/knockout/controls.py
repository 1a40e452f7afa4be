"""Matched controls: for every target row as many edges as the pathway blocks there, drawn at random.

Blocking edges costs something whatever they carry. What a pathway costs beyond its controls is what *these* edges
carry. A control blocks its draw in the pathway's windows and heads; in all layers of a run, and with every window
style, the draw is the same.

The rules: where the source is an object's patches, or the image without them, the draw is as many other image
positions, the same ones for every target row that sees the whole image, and the role's own only where there are too few
others. For any other source it is drawn, for every target row on its own, uniformly from all that the row may see
except its own position; where a model reads the image by cross-attention, these are the text before it and the visual
positions. A row that sees fewer others than the pathway blocks (itself among them) has all of them blocked.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from xmflow_jax.data.roles import ALL, IMAGE, IMAGE_CENTRAL_OBJECT, IMAGE_WITHOUT_CENTRAL_OBJECT
from xmflow_jax.knockout.actions import DrawnEdges, Edges, RoleSet

# Sources whose control is other image patches.
OBJECT_ROLES: Final = (IMAGE_CENTRAL_OBJECT, IMAGE_WITHOUT_CENTRAL_OBJECT)

Roles = Mapping[str, Bool[np.ndarray, " _"]]


class DenseEdges(NamedTuple):
    """Edges of one prompt and of the generated positions behind it.

    Attributes:
        own: of self-attention, from target to source, no later than the target.
        visual: of cross-attention, to the encoder's positions; none of them where the image stands in the prompt.
    """

    own: Bool[np.ndarray, "target source"]
    visual: Bool[np.ndarray, "target visual"]


def question_key(task: str, question_id: str) -> int:
    """A question's own number, of 64 bits: whatever else is in a batch or a run, its draws are the same."""
    return _number(task, question_id)


def pathway_edges(edges: Edges, roles: Roles, generated: int = 0, cross_attention: bool = False) -> DenseEdges:
    """The edges that a pathway blocks in one prompt.

    Args:
        generated: so many positions behind the prompt are those of its answer.
        cross_attention: the model reads the image by cross-attention.
    """
    length = len(roles[ALL]) + generated
    target = _extended(edges.target, roles, generated)
    visual = np.zeros((length, len(roles[IMAGE]) if cross_attention else 0), bool)
    if edges.cross:
        return DenseEdges(np.zeros((length, length), bool), target[:, None] & edges.source.positions(roles))
    return DenseEdges(np.tril(target[:, None] & _extended(edges.source, roles, generated)), visual)


def draw_edges(action: DrawnEdges, roles: Roles, key: int, generated: int = 0) -> DenseEdges:
    """The control's edges in one prompt. Those of the prompt's rows do not depend on `generated`.

    Args:
        key: the prompt's question's (`question_key`).
        generated: as for `pathway_edges`.
    """
    like, source = action.like, action.like.source
    random = np.random.default_rng(
        _number(action.seed, action.draw, key, source.role, source.complement, like.target.role, like.target.complement)
    )
    pathway = pathway_edges(like, roles, generated, action.cross_attention)
    counts = pathway.own.sum(1) + pathway.visual.sum(1)
    if source.role in OBJECT_ROLES and not source.complement:
        return _other_patches(random, counts, roles[IMAGE], roles[source.role], pathway, like.cross)
    return _any_edges(random, counts, pathway)


def overlap(drawn: DenseEdges, pathway: DenseEdges) -> float:
    """The share (0 to 1) of the drawn edges that are the pathway's too; 0 where none is drawn."""
    shared = sum(int((one & other).sum()) for one, other in zip(drawn, pathway, strict=True))
    return shared / max(1, sum(int(one.sum()) for one in drawn))


def control_overlap(action: DrawnEdges, roles: Roles, key: int) -> float:
    """`overlap` of a control in one prompt, generated positions not counted."""
    return overlap(draw_edges(action, roles, key), pathway_edges(action.like, roles, 0, action.cross_attention))


def _extended(chosen: RoleSet, roles: Roles, generated: int) -> Bool[np.ndarray, " position"]:
    return np.append(chosen.positions(roles), np.full(generated, chosen.generated))


def _other_patches(
    random: np.random.Generator,
    counts: Int[np.ndarray, " target"],
    image: Bool[np.ndarray, " _"],
    role: Bool[np.ndarray, " _"],
    pathway: DenseEdges,
    cross: bool,
) -> DenseEdges:
    """Every row takes the first ones that it sees of one order: other patches, the role's own, then any position."""
    order = random.permutation(np.flatnonzero(image))
    order = np.concatenate([order[~role[order]], order[role[order]]])
    own, visual = (np.zeros_like(part) for part in pathway)
    for row in np.flatnonzero(counts):
        if cross:
            visual[row, order[: counts[row]]] = True
            continue
        seen = order[order < row]
        if len(seen) < counts[row]:
            # Only rows of the image itself see too little of it.
            words = np.setdiff1d(np.arange(row), seen, assume_unique=True)
            seen = np.concatenate([seen, random.permutation(words)])
        own[row, seen[: counts[row]]] = True
    return DenseEdges(own, visual)


def _any_edges(random: np.random.Generator, counts: Int[np.ndarray, " target"], pathway: DenseEdges) -> DenseEdges:
    own, visual = (np.zeros_like(part) for part in pathway)
    for row in np.flatnonzero(counts):
        seen = row + visual.shape[1]
        drawn = random.choice(seen, min(int(counts[row]), seen), replace=False, shuffle=False)
        own[row, drawn[drawn < row]] = True
        visual[row, drawn[drawn >= row] - row] = True
    return DenseEdges(own, visual)


def _number(*parts: object) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

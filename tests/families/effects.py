"""Which knockouts can change an answer at all: what they change, followed from row to row and layer to layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.controls import Prompt, draw_edges
from xmflow_jax.knockout.kinds.drawn import DrawnEdges
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.modes import MEAN
from xmflow_jax.nn.anatomy import MAIN, OWN
from xmflow_jax.nn.interfaces import StrictSpan


def can_change(knockout: Knockout, prompt: TinyPrompt, key: int, spans: Sequence[int | StrictSpan | None]) -> bool:
    """Whether anything of a knockout reaches the row that the answer is read at.

    Args:
        key: the prompt's own number, by which its controls are drawn.
        spans: of every layer's sliding window; None: it has none.
    """
    row = np.arange(len(prompt.token_ids))
    blocks = np.zeros_like(row) if prompt.place.blocks is None else prompt.place.blocks
    together = (blocks[:, None] == blocks) & (blocks > 0)
    changed = np.zeros(len(row), bool)
    for layer, span in enumerate(spans):
        behind = row[:, None] - row
        length = span.length if isinstance(span, StrictSpan) else len(row) if span is None else span
        seen = (behind >= 0) & (behind < length) | together
        if isinstance(span, StrictSpan):
            seen &= behind < length
        changed = changed | (seen & changed).any(1)
        for action, layers, _ in knockout.switched:
            if layer in layers:
                changed |= changed_by(action, prompt, key, seen)
    return bool(changed[-1])


def changed_by(action: Any, prompt: TinyPrompt, key: int, seen: np.ndarray) -> np.ndarray:
    """The rows that an action changes by itself in a layer where this is what they see."""
    if isinstance(action, DrawnEdges):
        about = Prompt({MAIN: prompt.roles}, key, prompt.place.blocks)
        drawn = draw_edges(action.like, action.draw, action.seed, action.sites, about)
        return (drawn.own & seen).any(1) | drawn.outside.any(1)
    target = action.target.positions(prompt.roles)
    if not isinstance(action, Edges):
        return target
    source = action.source.positions(prompt.roles)
    count = (seen & source).sum(1) if action.site.reads == OWN else np.full(len(target), source.sum())
    # The mean of one value is that value.
    return target & (count > (1 if action.mode == MEAN else 0))

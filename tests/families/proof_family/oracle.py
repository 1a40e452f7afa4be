"""What the PyTorch reference says of a prompt of the proof's tiny model under a knockout."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.families.proof_family.family import PROOF
from tests.families.proof_family.torch_reference import Reference
from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.data import roles
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.modes import MODES
from xmflow_jax.weights.random_checkpoint import write_random

LAYERS, HEADS = PROOF.tiny.text.layers, PROOF.tiny.text.heads


@lru_cache
def reference() -> Reference:
    """Of the checkpoint that `contract.tiny_model` is loaded from."""
    with TemporaryDirectory() as folder:
        write_random(Path(folder), PROOF, PROOF.tiny, seed=0)
        return Reference(Path(folder))


def masks(prompt: TinyPrompt, knockout: Knockout, generated: int) -> dict[str, Any]:
    """A knockout as the reference takes it; generated positions belong to `Last` and `All`."""
    length = len(prompt.token_ids) + generated
    edges = {mode: np.zeros((LAYERS, HEADS, length, length), bool) for mode in MODES}
    silenced = {name: np.zeros((LAYERS, length), bool) for name in ("self", "mlp")}

    def positions(chosen: Any) -> np.ndarray:
        mask = np.append(prompt.roles[chosen.role], np.full(generated, chosen.role in (roles.LAST, roles.ALL)))
        return ~mask if chosen.complement else mask

    for action, layers, heads in knockout.switched:
        for layer in layers:
            if isinstance(action, Edges):
                pairs = np.outer(positions(action.target), positions(action.source))
                edges[action.mode][layer, list(range(HEADS) if heads is None else heads)] |= pairs
            else:
                silenced[action.site.name][layer] |= positions(action.target)
    return {"edges": edges, "silenced": silenced}


def logits(prompt: TinyPrompt, knockout: Knockout, answer: Sequence[int] = ()) -> np.ndarray:
    """Of the word behind a prompt and the tokens of its answer so far."""
    # What is generated counts on from behind the largest id, on every axis.
    ids, following = prompt.place.axes, prompt.place.axes.max() + 1
    ids = np.concatenate([ids, np.tile(following + np.arange(len(answer)), (3, 1))], axis=1)
    assert prompt.place.blocks is not None
    blocks = np.append(prompt.place.blocks, np.zeros(len(answer), np.int32))
    tokens = np.append(prompt.token_ids, np.array(answer, np.int32))
    told = masks(prompt, knockout, len(answer))
    found: np.ndarray = reference().logits(tokens, prompt.pixels, ids, blocks, **told, words=len(answer))[-1]
    return found


def answer(prompt: TinyPrompt, knockout: Knockout, steps: int) -> list[int]:
    """Greedy decoding, a full pass for every token."""
    tokens: list[int] = []
    for _ in range(steps):
        tokens.append(int(logits(prompt, knockout, tokens).argmax()))
    return tokens

"""transformers' PyTorch model of a checkpoint on disk, under any knockout: eager, float32.

One attention function of the text layers is told which edges are blocked; vision layers have no number and never are.
PyTorch and transformers take seconds to import, so every function imports them itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.data import roles
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.role_sets import RoleSet

ATTENTION: Final = "knocked_out"

# (layer, [target, source] blocked), for as long as a pass under knockout runs.
_BLOCKED: dict[int, np.ndarray] = {}


def torch_model(directory: Path, class_name: str) -> Any:
    """The model of transformers' class of this name, which must find every tensor that it wants."""
    import torch
    import transformers
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    torch.set_num_threads(1)
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, eager_mask)
    model, told = getattr(transformers, class_name).from_pretrained(
        directory, attn_implementation=ATTENTION, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    return model.eval()


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> Any:
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if attention_mask is not None:
        logits = logits.masked_fill(attention_mask[..., : key.shape[2]] != 0, -torch.inf)
    blocked = _BLOCKED.get(getattr(module, "layer_idx", -1))
    if blocked is not None:
        logits = logits.masked_fill(torch.tensor(blocked), -torch.inf)
    # A row with no source left outputs zero.
    weights = torch.softmax(logits, -1).nan_to_num(0.0)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def run_blocked(model: Any, blocked: Mapping[int, np.ndarray], **inputs: Any) -> Any:
    """The model's output while these edges [target, source] are blocked, by layer."""
    import torch

    _BLOCKED.update(blocked)
    try:
        with torch.inference_mode():
            return model(**inputs, use_cache=False)
    finally:
        _BLOCKED.clear()


def blocked_edges(prompt: TinyPrompt, knockout: Knockout, generated: int = 0) -> dict[int, np.ndarray]:
    """A knockout of edges as `run_blocked` takes it; generated positions belong to `Last` and `All`."""
    length = len(prompt.token_ids) + generated

    def positions(chosen: RoleSet) -> np.ndarray:
        mask = np.append(prompt.roles[chosen.role], np.full(generated, chosen.role in (roles.LAST, roles.ALL)))
        return ~mask if chosen.complement else mask

    blocked: dict[int, np.ndarray] = {}
    for action, layers, heads in knockout.switched:
        assert isinstance(action, Edges)
        assert heads is None
        for layer in layers:
            own = blocked.setdefault(layer, np.zeros((length, length), bool))
            own |= np.outer(positions(action.target), positions(action.source))
    return blocked


@dataclass(frozen=True)
class Published:
    """transformers' model of a checkpoint whose prompts tell it what sees what by token types.

    Attributes:
        token_types: (the prompt's tokens, how many are generated) -> the types of all positions.
    """

    model: Any
    token_types: Callable[[np.ndarray, int], np.ndarray]

    def run(self, prompt: TinyPrompt, knockout: Knockout, answer: Sequence[int] = (), **options: Any) -> Any:
        """One full pass over a prompt and its answer so far."""
        import torch

        tokens = np.append(prompt.token_ids, np.array(answer, np.int32)).astype(np.int64)
        kinds = self.token_types(prompt.token_ids, len(answer)).astype(np.int64)
        return run_blocked(
            self.model,
            blocked_edges(prompt, knockout, len(answer)),
            input_ids=torch.tensor(tokens[None]),
            pixel_values=torch.tensor(prompt.pixels.transpose(0, 3, 1, 2), dtype=self.model.dtype),
            token_type_ids=torch.tensor(kinds[None]),
            **options,
        )

    def logits(self, prompt: TinyPrompt, knockout: Knockout, answer: Sequence[int] = ()) -> np.ndarray:
        """Of the word behind a prompt and its answer so far."""
        found: np.ndarray = self.run(prompt, knockout, answer).logits[0, -1].float().numpy()
        return found

    def answer(self, prompt: TinyPrompt, knockout: Knockout, steps: int) -> list[int]:
        """Greedy decoding, a full pass for every token."""
        tokens: list[int] = []
        for _ in range(steps):
            tokens.append(int(self.logits(prompt, knockout, tokens).argmax()))
        return tokens

"""transformers' PyTorch model of a checkpoint on disk, under any knockout: eager, float32.

One attention function of the text layers is told which edges are blocked; vision layers have no number and never are.
PyTorch and transformers take seconds to import, so every function imports them itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

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


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any) -> Any:
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = query @ key.transpose(2, 3) * scaling
    if mask is not None:
        logits = logits.masked_fill(mask[..., : key.shape[2]] != 0, -torch.inf)
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

"""How transformers' files of a vision tower, a projector and a language model spell their tensors' names.

The canonical spelling is that of transformers 5 in memory, without its leading `model.`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from xmflow_jax.weights.rules import Layout


def _layout(name: str, text: str, head: str, tower: str, projector: str) -> Layout:
    """A layout by what the canonical beginnings are in it."""
    ours = ("language_model.", "lm_head.", "vision_tower.", "multi_modal_projector.")
    return Layout(name, dict(zip(ours, (text, head, tower, projector), strict=True)))


TOWER_AND_TEXT: Final = (
    _layout(
        "hub",
        "language_model.model.",
        "language_model.lm_head.",
        "vision_tower.vision_model.",
        "multi_modal_projector.",
    ),
    _layout(
        "4.52",
        "model.language_model.",
        "lm_head.",
        "model.vision_tower.vision_model.",
        "model.multi_modal_projector.",
    ),
    _layout("v5-memory", "model.language_model.", "lm_head.", "model.vision_tower.", "model.multi_modal_projector."),
    _layout("v5-save", "language_model.model.", "language_model.lm_head.", "vision_tower.", "multi_modal_projector."),
)

# What some of these files hold and no model needs.
TOWER_AND_TEXT_HARMLESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"\.embeddings\.position_ids": "the numbers 0, 1, ... that index CLIP's position embedding",
        r"\.rotary_emb\.inv_freq": "rotary frequencies, which follow from rope_theta",
        r"vision_(tower|model)\.head\..*": "SigLIP's pooling head, which no decoder reads",
    }
)

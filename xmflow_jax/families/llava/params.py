"""Published tensor names of LLaVA, and where each tensor goes.

The canonical spelling is that of transformers 5 in memory, without its leading `model.`.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.rules import KeyTable, Layout, Rule, linear
from xmflow_jax.weights.text_decoder import text_rules


def _layout(name: str, text: str, head: str, tower: str, projector: str) -> Layout:
    """A layout by what the canonical beginnings are in it."""
    ours = ("language_model.", "lm_head.", "vision_tower.", "multi_modal_projector.")
    return Layout(name, dict(zip(ours, (text, head, tower, projector), strict=True)))


LAYOUTS: Final = (
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

HARMLESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"\.embeddings\.position_ids": "the numbers 0, 1, ... that index CLIP's position embedding",
        r"\.rotary_emb\.inv_freq": "rotary frequencies, which follow from rope_theta",
        r"vision_(tower|model)\.head\..*": "SigLIP's pooling head, which no decoder reads",
    }
)

HEAD: Final = "lm_head.weight"
EMBEDDING: Final = "language_model.embed_tokens.weight"


def key_table(config: LlavaConfig) -> KeyTable:
    """The tensors of a LLaVA of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *projector_rules(config.projector_bias),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, HARMLESS, EMBEDDING, HEAD, config.text.tied)


def projector_rules(bias: bool) -> Iterator[Rule]:
    """The projector's two linear layers."""
    projector = "multi_modal_projector"
    for name in ("linear_1", "linear_2"):
        yield from linear(f"{projector}.{name}", (projector, name), bias=bias)

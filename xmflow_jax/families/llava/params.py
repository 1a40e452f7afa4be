"""Published tensor names of LLaVA, and where each tensor goes."""

from collections.abc import Iterator
from typing import Final

from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT, TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import KeyTable, Rule, linear
from xmflow_jax.weights.text_decoder import text_rules

LAYOUTS: Final = TOWER_AND_TEXT

HEAD: Final = "lm_head.weight"
EMBEDDING: Final = "language_model.embed_tokens.weight"


def key_table(config: LlavaConfig) -> KeyTable:
    """The tensors of a LLaVA of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *projector_rules(config.projector_bias),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, TOWER_AND_TEXT_HARMLESS, EMBEDDING, HEAD, config.text.tied)


def projector_rules(bias: bool) -> Iterator[Rule]:
    """The projector's two linear layers."""
    projector = "multi_modal_projector"
    for name in ("linear_1", "linear_2"):
        yield from linear(f"{projector}.{name}", (projector, name), bias=bias)

"""Published tensor names of LLaVA-OneVision: those of LLaVA-NeXT."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from xmflow_jax.families.llava import params as llava
from xmflow_jax.families.llava_next.params import LAYOUTS, NEWLINE
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevisionConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.rules import VECTOR, KeyTable, Rule
from xmflow_jax.weights.text_decoder import text_rules

HARMLESS: Final[Mapping[str, str]] = MappingProxyType(llava.HARMLESS)


def key_table(config: LlavaOnevisionConfig) -> KeyTable:
    """The tensors of a LLaVA-OneVision of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *llava.projector_rules(config.projector_bias),
        Rule(NEWLINE, (NEWLINE,), VECTOR),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, HARMLESS, llava.EMBEDDING, llava.HEAD, config.text.tied)

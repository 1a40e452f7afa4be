"""Published tensor names of Qwen2-VL and Qwen2.5-VL."""

from types import MappingProxyType
from typing import Final

from xmflow_jax.families.qwen2_vl.modeling import QwenVLConfig
from xmflow_jax.weights.qwen_vision import tower_rules
from xmflow_jax.weights.rules import KeyTable, Layout
from xmflow_jax.weights.text_decoder import text_rules

LAYOUTS: Final = (
    Layout("hub", {"language_model.": "model.", "lm_head.": "lm_head.", "visual.": "visual."}),
    Layout("4.52", {"language_model.": "model.language_model.", "lm_head.": "lm_head.", "visual.": "model.visual."}),
)
HARMLESS: Final = MappingProxyType({r"\.inv_freq": "rotary frequencies, which follow from the configuration"})


def key_table(config: QwenVLConfig) -> KeyTable:
    """The tensors of a model of this configuration."""
    rules = (*tower_rules(config.vision, "visual", "visual_tower"), *text_rules(config.text))
    return KeyTable(rules, LAYOUTS, HARMLESS, "language_model.embed_tokens.weight", "lm_head.weight", config.text.tied)

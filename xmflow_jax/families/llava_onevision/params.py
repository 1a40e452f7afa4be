"""Published tensor names of LLaVA-OneVision: those of LLaVA-NeXT."""

from xmflow_jax.families.llava import params as llava
from xmflow_jax.families.llava_next.params import LAYOUTS, NEWLINE
from xmflow_jax.families.llava_onevision.modeling import LlavaOnevisionConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import VECTOR, KeyTable, Rule
from xmflow_jax.weights.text_decoder import text_rules


def key_table(config: LlavaOnevisionConfig) -> KeyTable:
    """The tensors of a LLaVA-OneVision of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *llava.projector_rules(config.projector_bias),
        Rule(NEWLINE, (NEWLINE,), VECTOR),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, TOWER_AND_TEXT_HARMLESS, llava.EMBEDDING, llava.HEAD, config.text.tied)

"""Published tensor names of LLaVA-NeXT: LLaVA's, and the vector at the end of a row of patches."""

from typing import Final

from xmflow_jax.families.llava import params as llava
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import VECTOR, KeyTable, Layout, Rule
from xmflow_jax.weights.text_decoder import text_rules

NEWLINE: Final = "image_newline"

# Layouts of LLaVA in which the model's own tensors stand under "model.".
_NESTED: Final = ("4.52", "v5-memory")

LAYOUTS: Final = tuple(
    Layout(one.name, {**one.beginnings, NEWLINE: f"model.{NEWLINE}" if one.name in _NESTED else NEWLINE})
    for one in llava.LAYOUTS
)


def key_table(config: LlavaNextConfig) -> KeyTable:
    """The tensors of a LLaVA-NeXT of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *llava.projector_rules(config.projector_bias),
        Rule(NEWLINE, (NEWLINE,), VECTOR),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, TOWER_AND_TEXT_HARMLESS, llava.EMBEDDING, llava.HEAD, config.text.tied)

"""Published tensor names of Idefics3 and SmolVLM."""

from typing import Final

from xmflow_jax.families.idefics3.modeling import Idefics3Config
from xmflow_jax.families.llava.params import EMBEDDING, HEAD
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import KeyTable, Layout, linear
from xmflow_jax.weights.text_decoder import text_rules

LAYOUT: Final = Layout(
    "hub",
    {
        "language_model.": "model.text_model.",
        "lm_head.": "lm_head.",
        "vision_tower.": "model.vision_model.",
        "connector.": "model.connector.modality_projection.proj.",
    },
)


def key_table(config: Idefics3Config) -> KeyTable:
    """The tensors of a model of this configuration."""
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *linear("connector", ("connector",), bias=False),
        *text_rules(config.text),
    )
    return KeyTable(rules, (LAYOUT,), TOWER_AND_TEXT_HARMLESS, EMBEDDING, HEAD, config.text.tied)

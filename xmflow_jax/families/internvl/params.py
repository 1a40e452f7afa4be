"""Published tensor names of InternVL."""

from typing import Final

from xmflow_jax.families.internvl.modeling import InternVLConfig
from xmflow_jax.families.llava.params import EMBEDDING, HEAD
from xmflow_jax.weights.intern_vision import tower_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT, TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import KeyTable, linear, norm
from xmflow_jax.weights.text_decoder import text_rules

# Its tower has no part of its own inside, as CLIP's has in the other layouts. The hub's files have the first.
LAYOUTS: Final = tuple(one for one in reversed(TOWER_AND_TEXT) if one.name in ("v5-save", "v5-memory"))


def key_table(config: InternVLConfig) -> KeyTable:
    """The tensors of an InternVL of this configuration."""
    projector = "multi_modal_projector"
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *norm(f"{projector}.layer_norm", (projector, "layer_norm"), bias=True),
        *linear(f"{projector}.linear_1", (projector, "linear_1"), bias=True),
        *linear(f"{projector}.linear_2", (projector, "linear_2"), bias=True),
        *text_rules(config.text),
    )
    return KeyTable(rules, LAYOUTS, TOWER_AND_TEXT_HARMLESS, EMBEDDING, HEAD, config.text.tied)

"""Published tensor names of PaliGemma, and where each tensor goes."""

from xmflow_jax.families.paligemma.modeling import PaliGemmaConfig
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.gemma_text import gemma_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT, TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import KeyTable, linear


def key_table(config: PaliGemmaConfig) -> KeyTable:
    """The tensors of a PaliGemma of this configuration."""
    projector, text = "multi_modal_projector", "language_model"
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *linear(f"{projector}.linear", (projector, "linear"), bias=True),
        *gemma_rules(config.text),
    )
    return KeyTable(
        rules,
        TOWER_AND_TEXT,
        TOWER_AND_TEXT_HARMLESS,
        embedding=f"{text}.embed_tokens.weight",
        head="lm_head.weight",
        tied=config.text.tied,
        scaled=True,
    )

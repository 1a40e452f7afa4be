"""Published tensor names of Gemma 3, and where each tensor goes."""

from xmflow_jax.families.gemma3.modeling import Gemma3Config
from xmflow_jax.weights.clip_tower import tower_rules
from xmflow_jax.weights.gemma_text import gemma_norm, gemma_rules
from xmflow_jax.weights.layouts import TOWER_AND_TEXT, TOWER_AND_TEXT_HARMLESS
from xmflow_jax.weights.rules import AS_IS, KeyTable, Rule


def key_table(config: Gemma3Config) -> KeyTable:
    """The tensors of a Gemma 3 of this configuration."""
    projector, text = "multi_modal_projector", "language_model"
    rules = (
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        gemma_norm(f"{projector}.mm_soft_emb_norm", (projector, "mm_soft_emb_norm")),
        # The one matrix that is stored (in, out).
        Rule(f"{projector}.mm_input_projection_weight", (projector, "mm_input_projection", "kernel"), AS_IS),
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

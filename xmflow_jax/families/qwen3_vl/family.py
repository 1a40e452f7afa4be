"""Qwen3-VL as a family."""

from functools import partial
from pathlib import Path
from typing import Final

from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.families.family import Family
from xmflow_jax.families.qwen2_vl.modeling import QwenVL, QwenVLConfig
from xmflow_jax.families.qwen2_vl.params import HARMLESS
from xmflow_jax.families.qwen2_vl.processing import image_layout, place, processing
from xmflow_jax.families.qwen3_vl.config import MODEL_TYPE, TEXT_TYPE, read_config, write_config
from xmflow_jax.families.tower_decoder import anatomy, partitioning
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.qwen_vision import QwenVisionConfig
from xmflow_jax.weights.qwen_vision import tower_rules
from xmflow_jax.weights.rules import KeyTable, Layout
from xmflow_jax.weights.text_decoder import text_rules

LAYOUT: Final = Layout(
    "hub", {"language_model.": "model.language_model.", "lm_head.": "lm_head.", "visual.": "model.visual."}
)


def key_table(config: QwenVLConfig) -> KeyTable:
    """The tensors of a model of this configuration."""
    rules = (*tower_rules(config.vision, "visual", "visual_tower"), *text_rules(config.text))
    embedding, head = "language_model.embed_tokens.weight", "lm_head.weight"
    return KeyTable(rules, (LAYOUT,), HARMLESS, embedding, head, config.text.tied)


def template(directory: Path, config: QwenVLConfig) -> Template:
    """ChatML without a system message, as the authors' chat has it."""
    return NAMED_TEMPLATES["qwen3_vl"]


FAMILY: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=QwenVL,
    keys=key_table,
    partitioning=partial(partitioning, tower="visual_tower", between={}),
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=QwenVLConfig(
        QwenVisionConfig(
            patch_size=14,
            merge=2,
            width=16,
            mlp_width=24,
            layers=3,
            heads=2,
            text_width=32,
            gated=False,
            activation="gelu_pytorch_tanh",
            table=5,
            deep_layers=(0, 1),
        ),
        LlamaConfig(
            vocabulary=40,
            width=32,
            mlp_width=32,
            layers=3,
            heads=4,
            kv_heads=2,
            head_width=12,
            norm_eps=1e-6,
            rope_theta=5e6,
            model_type=TEXT_TYPE,
            sections=(2, 2, 2),
            interleaved=True,
            head_norms=True,
            added=2,
        ),
        image_token=39,
        start_token=38,
        end_token=37,
    ),
)

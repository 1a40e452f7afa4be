"""The proof's record: configuration, tensor names, prompts."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int32

from tests.families.proof_family.modeling import ProofConfig, ProofModel
from xmflow_jax.data.images import ImageLayout, patch_layout
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing, read_processing
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.family import Family
from xmflow_jax.machine.partitioning import Partitioning, Tower
from xmflow_jax.nn.anatomy import MAIN, MLP, SELF, Anatomy, StackShape
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.clip_tower import read_tower, tower_rules, write_tower
from xmflow_jax.weights.config_checks import check_keys, positive, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.rules import AS_IS, KeyTable, Layout, Rule, linear, norm

MODEL_TYPE: Final = "proof"
MARKS: Final = ("image_token", "begin_token", "end_token")
SIZES: Final = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_width",
}
NUMBERS: Final = {"rms_norm_eps": "norm_eps", "rope_theta": "rope_theta"}

WHOLE: Final = Section(
    "", frozenset({"model_type", "text_config", "vision_config", *MARKS}), COMMON_FIXED, COMMON_HARMLESS
)
TEXT: Final = Section(
    "text_config",
    frozenset({*SIZES, *NUMBERS, "sliding_window", "attn_logit_softcapping", "mrope_section", "model_type"}),
    COMMON_FIXED,
    COMMON_HARMLESS,
)

LAYOUTS: Final = (
    Layout(
        "hub",
        {
            "language_model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
            "vision_tower.": "vision_tower.vision_model.",
            "projector.": "projector.",
        },
    ),
    Layout(
        "memory",
        {
            "language_model.": "model.language_model.",
            "lm_head.": "lm_head.",
            "vision_tower.": "model.vision_tower.",
            "projector.": "model.projector.",
        },
        {"feedforward": "mlp"},
    ),
)


# config.json


def read_config(path: Path, published: Mapping[str, Any]) -> ProofConfig:
    """The configuration; every key is named.

    Raises:
        CheckpointError: a key is missing, not known, or of a value that is not computed.
    """
    text = published.get(TEXT.name, {})
    check_keys(path, WHOLE, published, MODEL_TYPE)
    check_keys(path, TEXT, text, "proof_text")
    sections = text.get("mrope_section")
    if not isinstance(sections, list) or len(sections) != 3 or 2 * sum(sections) != text.get("head_dim"):
        raise CheckpointError(f"{path}: mrope_section is {sections!r}; supported: three parts of head_dim / 2")
    own = {field: size(path, key, text.get(key)) for key, field in SIZES.items()}
    numbers = {field: positive(path, key, text.get(key)) for key, field in NUMBERS.items()}
    return ProofConfig(
        read_tower(path, "vision_config", published.get("vision_config", {})),
        LlamaConfig(**own, **numbers),
        *(size(path, mark, published.get(mark), least=0) for mark in MARKS),
        span=size(path, "sliding_window", text.get("sliding_window")),
        softcap=positive(path, "attn_logit_softcapping", text.get("attn_logit_softcapping")),
        sections=(sections[0], sections[1], sections[2]),
    )


def write_config(config: ProofConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`."""
    return {
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        **{mark: getattr(config, mark) for mark in MARKS},
        "text_config": {
            "model_type": "proof_text",
            **{key: getattr(config.text, field) for key, field in (*SIZES.items(), *NUMBERS.items())},
            "sliding_window": config.span,
            "attn_logit_softcapping": config.softcap,
            "mrope_section": list(config.sections),
        },
        "vision_config": write_tower(config.vision),
    }


# Tensors and devices


def key_table(config: ProofConfig) -> KeyTable:
    """The tensors of a model of this configuration."""
    model, layers = "language_model", config.text.layers
    block, ours = f"{model}.layers.*", (model, "layers")
    rules = [
        *tower_rules(config.vision, "vision_tower", "vision_tower"),
        *linear("projector", ("projector",), bias=True),
        Rule(f"{model}.embed_tokens.weight", (model, "embed_tokens", "embedding"), AS_IS),
        *norm(f"{model}.norm", (model, "norm"), bias=False),
        *linear("lm_head", (model, "lm_head"), bias=False),
    ]
    for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        rules += norm(f"{block}.{name}_layernorm", (*ours, f"{name}_layernorm"), layers, bias=False)
    for part, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down"))):
        for name in names:
            rules += linear(f"{block}.{part}.{name}_proj", (*ours, part, f"{name}_proj"), layers, bias=False)
    return KeyTable(tuple(rules), LAYOUTS, {}, f"{model}.embed_tokens.weight", "lm_head.weight", tied=False)


def partitioning(config: ProofConfig) -> Partitioning:
    """Tower and decoder by their own heads; the projector stays whole."""
    return Partitioning(
        {
            "vision_tower": Tower("the vision tower", config.vision.heads, config.vision.heads),
            "projector": Tower("the projector"),
            "language_model": Tower("the decoder", config.text.heads, config.text.kv_heads),
        }
    )


def anatomy(config: ProofConfig) -> Anatomy:
    """One stack; windows are the blocks' own business."""
    return Anatomy((StackShape(MAIN, ((SELF, MLP),) * config.text.layers, config.text.heads),), config.text.vocabulary)


# Prompts


@lru_cache
def image_layout(config: ProofConfig, size: tuple[int, int]) -> ImageLayout:
    """Patches row by row between two marks."""
    side = config.vision.image_size // config.vision.patch_size
    plain = patch_layout(side, side, config.vision.patch_size, in_prompt=True)
    tokens = np.array([config.begin_token, *plain.tokens, config.end_token], np.int32)
    return ImageLayout(plain.rows, plain.columns, plain.side, plain.boxes, tokens)


def place(config: ProofConfig, tokens: Int32[np.ndarray, " positions"], images: Sequence[ImageLayout]) -> Place:
    """An image stands at one time; its rows and columns count on from there, and what follows it from behind both."""
    ids = np.zeros((3, len(tokens)), np.int32)
    blocks = np.zeros(len(tokens), np.int32)
    following, position, number = 0, 0, 0
    while position < len(tokens):
        if tokens[position] != config.image_token:
            ids[:, position] = following
            following, position = following + 1, position + 1
            continue
        layout, number = images[number], number + 1
        own = slice(position, position + layout.positions)
        row, column = np.divmod(np.arange(layout.positions), layout.columns)
        ids[:, own] = following + np.stack([np.zeros_like(row), row, column])
        blocks[own] = number
        following, position = following + max(layout.grid), own.stop
    return Place(ids, following - len(tokens), blocks)


def processing(directory: Path, config: ProofConfig) -> Processing:
    """Tokenizer and image processor of a checkpoint."""
    return read_processing(
        directory,
        image_token_id=config.image_token,
        image_size=config.vision.image_size,
        image_layout=partial(image_layout, config),
        place=partial(place, config),
    )


def template(directory: Path, config: ProofConfig) -> Template:
    """The image before the question, and no words around them."""
    return NAMED_TEMPLATES["plain"]


def tiny(vocabulary: int, layers: int) -> ProofConfig:
    """Of a few thousand parameters; the vocabulary's last words are the marks."""
    return ProofConfig(
        ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2),
        LlamaConfig(vocabulary, width=24, mlp_width=32, layers=layers, heads=4, kv_heads=2, head_width=8),
        image_token=vocabulary - 1,
        begin_token=vocabulary - 2,
        end_token=vocabulary - 3,
        span=5,
        softcap=4.0,
        sections=(2, 1, 1),
    )


PROOF: Final = Family(
    model_type=MODEL_TYPE,
    read_config=read_config,
    write_config=write_config,
    build=ProofModel,
    keys=key_table,
    partitioning=partitioning,
    anatomy=anatomy,
    processing=processing,
    image_layout=image_layout,
    place=place,
    template=template,
    tiny=tiny(40, 4),
    presets={"proof-tiny": tiny},
)

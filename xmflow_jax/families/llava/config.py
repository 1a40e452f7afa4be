"""`config.json` of a LLaVA-1.5 checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.clip_tower import CLIP, clip_section, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, one_of, positive, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section

MODEL_TYPE: Final = "llava"

WHOLE: Final = Section(
    name="",
    read=frozenset(
        {
            "image_token_id",
            "image_token_index",
            "model_type",
            "multimodal_projector_bias",
            "projector_hidden_act",
            "text_config",
            "tie_word_embeddings",
            "vision_config",
            "vision_feature_layer",
            "vision_feature_select_strategy",
        }
    ),
    # The original authors' checkpoints share the model type, not the layout.
    fixed={**COMMON_FIXED, "architectures": (["LlavaForConditionalGeneration"], None)},
    harmless={
        **COMMON_HARMLESS,
        "ignore_index": "the label that training leaves out",
        "image_seq_length": "the processor's; image positions follow from the tower's sizes",
    },
)

TEXT: Final = Section(
    name="text_config",
    read=frozenset(
        {
            "head_dim",
            "hidden_act",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "model_type",
            "num_attention_heads",
            "num_hidden_layers",
            "num_key_value_heads",
            "partial_rotary_factor",
            "rms_norm_eps",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
            "tie_word_embeddings",
            "vocab_size",
        }
    ),
    fixed={
        **COMMON_FIXED,
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "sliding_window": (None,),
    },
    harmless={
        **COMMON_HARMLESS,
        "pretraining_tp": "how pretraining split the matrices; the products are the same",
    },
)

VISION: Final = clip_section("vision_config")
SUPPORTED_TYPES: Final = {WHOLE.name: MODEL_TYPE, TEXT.name: "llama", VISION.name: CLIP}


def read_config(path: Path, published: Mapping[str, Any]) -> LlavaConfig:
    """The configuration of a LLaVA-1.5 checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    text, vision = published.get(TEXT.name, {}), published.get(VISION.name, {})
    for section, part in ((WHOLE, published), (TEXT, text), (VISION, vision)):
        check_keys(path, section, part, SUPPORTED_TYPES[section.name])
    if (
        "rope_theta" in text
        and (text.get("rope_parameters") or {}).get("rope_theta", text["rope_theta"]) != (text["rope_theta"])
    ):
        raise CheckpointError(
            f"{path}: text_config.rope_theta is {text['rope_theta']!r} and text_config.rope_parameters says "
            f"{text['rope_parameters']['rope_theta']!r}; they must agree"
        )
    filled = fill_defaults(path, published, "LlavaConfig")
    return LlavaConfig(
        vision=tower_sizes(path, VISION.name, filled.vision_config),
        text=_text_config(path, filled.text_config, tied=_flag(published, text)),
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
        feature_layer=_feature_layer(path, filled, vision),
        keep_class_token=one_of(
            path,
            "vision_feature_select_strategy",
            filled.vision_feature_select_strategy,
            {"default": False, "full": True},
        ),
        projector_activation=activation(path, "projector_hidden_act", filled.projector_hidden_act),
        projector_bias=bool(filled.multimodal_projector_bias),
    )


def _text_config(path: Path, text: Any, *, tied: bool) -> LlamaConfig:
    name = "text_config"
    heads = size(path, f"{name}.num_attention_heads", text.num_attention_heads)
    kv_heads = size(path, f"{name}.num_key_value_heads", text.num_key_value_heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"{path}: {name}.num_key_value_heads is {kv_heads}; it must divide num_attention_heads, {heads}"
        )
    return LlamaConfig(
        vocabulary=size(path, f"{name}.vocab_size", text.vocab_size),
        width=size(path, f"{name}.hidden_size", text.hidden_size),
        mlp_width=size(path, f"{name}.intermediate_size", text.intermediate_size),
        layers=size(path, f"{name}.num_hidden_layers", text.num_hidden_layers),
        heads=heads,
        kv_heads=kv_heads,
        head_width=size(path, f"{name}.head_dim", text.head_dim),
        norm_eps=positive(path, f"{name}.rms_norm_eps", text.rms_norm_eps),
        rope_theta=_rope_theta(path, text.rope_parameters),
        activation=activation(path, f"{name}.hidden_act", text.hidden_act),
        tied=tied,
        positions=size(path, f"{name}.max_position_embeddings", text.max_position_embeddings),
    )


def _flag(published: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding: either flag says so (transformers 5: `LlavaConfig.__post_init__`)."""
    return bool(published.get("tie_word_embeddings", False) or text.get("tie_word_embeddings", False))


def _rope_theta(path: Path, parameters: Any) -> float:
    """The rotary base; only the plain rotary embedding over the whole head is computed here."""
    settings = dict(parameters or {})
    kind = settings.pop("rope_type", settings.pop("type", "default"))
    if kind != "default":
        raise CheckpointError(f"{path}: text_config's rotary type is {kind!r}; supported: 'default' (no rope scaling)")
    theta = settings.pop("rope_theta", None)
    # 1.0 rotates the whole head, which is what is computed.
    if settings.pop("partial_rotary_factor", 1.0) != 1.0 or settings:
        raise CheckpointError(f"{path}: text_config's rotary settings are {parameters!r}; supported: rope_theta alone")
    return positive(path, "text_config.rope_theta", theta)


def _feature_layer(path: Path, filled: Any, vision: Mapping[str, Any]) -> int:
    """Index of one of the tower's layers + 1 hidden states."""
    layer, states = filled.vision_feature_layer, filled.vision_config.num_hidden_layers + 1
    if not isinstance(layer, int) or isinstance(layer, bool) or not -states <= layer < states:
        raise CheckpointError(
            f"{path}: vision_feature_layer is {layer!r}; supported: one integer from {-states} to {states - 1}"
        )
    return layer


def write_config(config: LlavaConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    vision, text = config.vision, config.text
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "image_token_index": config.image_token,
        "image_seq_length": config.image_positions,
        "projector_hidden_act": config.projector_activation,
        "multimodal_projector_bias": config.projector_bias,
        "vision_feature_layer": config.feature_layer,
        "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
        "tie_word_embeddings": text.tied,
        "text_config": {
            "model_type": "llama",
            "vocab_size": text.vocabulary,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_width,
            "rms_norm_eps": text.norm_eps,
            "rope_theta": text.rope_theta,
            "hidden_act": text.activation,
            "max_position_embeddings": text.positions,
            "tie_word_embeddings": text.tied,
        },
        "vision_config": write_tower(vision),
    }

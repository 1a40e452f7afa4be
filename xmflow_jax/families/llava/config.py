"""`config.json` of a LLaVA-1.5 checkpoint in Hugging Face format: read in full or refused, and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.weights.clip_tower import CLIP, SIGLIP, check_tower, tower_sizes, write_tower
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, one_of, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.text_decoder import check_text, read_text, write_text

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

TEXT: Final = "text_config"
VISION: Final = "vision_config"
TOWERS: Final = (CLIP, SIGLIP)


def read_config(path: Path, published: Mapping[str, Any]) -> LlavaConfig:
    """The configuration of a LLaVA-1.5 checkpoint.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    text = published.get(TEXT, {})
    check_keys(path, WHOLE, published, MODEL_TYPE)
    check_text(path, TEXT, text)
    check_tower(path, VISION, published.get(VISION, {}), TOWERS, usual=CLIP)
    filled = fill_defaults(path, published, "LlavaConfig")
    return LlavaConfig(
        vision=tower_sizes(path, VISION, filled.vision_config),
        text=read_text(path, TEXT, filled.text_config, tied=head_is_embedding(published, text)),
        image_token=size(path, "image_token_index", filled.image_token_index, least=0),
        feature_layer=feature_layer(path, filled),
        keep_class_token=keeps_class_token(path, filled),
        projector_activation=activation(path, "projector_hidden_act", filled.projector_hidden_act),
        projector_bias=bool(filled.multimodal_projector_bias),
    )


def head_is_embedding(published: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding: either flag says so (transformers 5: `LlavaConfig.__post_init__`)."""
    return bool(published.get("tie_word_embeddings", False) or text.get("tie_word_embeddings", False))


def feature_layer(path: Path, filled: Any) -> int:
    """Index of one of the tower's layers + 1 hidden states.

    Raises:
        CheckpointError: it is none, or several.
    """
    layer, states = filled.vision_feature_layer, filled.vision_config.num_hidden_layers + 1
    if not isinstance(layer, int) or isinstance(layer, bool) or not -states <= layer < states:
        raise CheckpointError(
            f"{path}: vision_feature_layer is {layer!r}; supported: one integer from {-states} to {states - 1}"
        )
    return layer


def keeps_class_token(path: Path, filled: Any) -> bool:
    """Whether the class token is among the features; a tower without one must keep all that it has.

    Raises:
        CheckpointError: another strategy, or one that would drop the first patch.
    """
    key, strategy = "vision_feature_select_strategy", filled.vision_feature_select_strategy
    full: bool = one_of(path, key, strategy, {"default": False, "full": True})
    if filled.vision_config.model_type != SIGLIP:
        return full
    if not full:
        raise CheckpointError(
            f"{path}: {key} is 'default', which drops a class token, and SigLIP has none; supported: 'full'"
        )
    return False


def written_strategy(config: LlavaConfig) -> str:
    """The select strategy as `config.json` spells it."""
    return "full" if config.keep_class_token or not config.vision.class_token else "default"


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
        "vision_feature_select_strategy": written_strategy(config),
        "tie_word_embeddings": text.tied,
        "text_config": write_text(text),
        "vision_config": write_tower(vision),
    }

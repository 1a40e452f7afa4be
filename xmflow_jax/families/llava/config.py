"""A published LLaVA configuration, read in full or refused.

`config.json` of a published checkpoint leaves out what equals a default, so transformers' own configuration classes
fill it in; they work without PyTorch. `config_keys` says what becomes of each key.
"""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.json_files import read_json_object
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.layers import ACTIVATIONS
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.config_sections import LLAVA, TEXT, VISION, Section

SECTIONS = (LLAVA, TEXT, VISION)
SUPPORTED_TYPES = {"": "llava", "text_config": "llama", "vision_config": "clip_vision_model"}


def llava_config(directory: Path) -> LlavaConfig:
    """The configuration of a LLaVA-1.5 checkpoint in Hugging Face format.

    Args:
        directory: holds `config.json`.

    Raises:
        CheckpointError: the file is missing or no JSON, names another architecture, holds a key that is not known, or
            a value that the models here do not compute.
    """
    path = Path(directory) / "config.json"
    published = read_json_object(path)
    parts = {section.name: published.get(section.name, {}) if section.name else published for section in SECTIONS}
    for section in SECTIONS:
        check_keys(path, section, parts[section.name], SUPPORTED_TYPES[section.name])
    text, vision = parts["text_config"], parts["vision_config"]
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
        vision=vision_config(path, "vision_config", filled.vision_config),
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


def check_keys(path: Path, section: Section, part: Any, supported: str) -> None:
    """Refuse another architecture, a key that no table names, and a value that is not computed here."""
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{path}: {section.name} is {part!r}; expected an object")
    prefix = f"{section.name}." if section.name else ""
    # A part without a type takes the class's default, which is the supported one; the whole must name its own.
    found = part.get("model_type", supported if section.name else None)
    if found != supported:
        raise CheckpointError(f"{path}: {prefix}model_type is {found!r}; supported: {supported!r}")
    for key in sorted(part.keys() & section.fixed.keys()):
        if part[key] not in section.fixed[key]:
            supported_values = " or ".join(repr(value) for value in section.fixed[key])
            raise CheckpointError(f"{path}: {prefix}{key} is {part[key]!r}; supported: {supported_values}")
    known = section.read | section.fixed.keys() | section.harmless.keys()
    unknown = sorted(part.keys() - known)
    if unknown:
        named = ", ".join(f"{prefix}{key} = {part[key]!r}" for key in unknown[:4])
        raise CheckpointError(
            f"{path}: {len(unknown)} field(s) not understood: {named}; remove what does not change the model"
        )


def fill_defaults(path: Path, published: Mapping[str, Any], class_name: str) -> Any:
    """transformers' configuration object of this class for (a part of) this file."""
    # An advice that PyTorch is missing would be the only thing that a run prints about it; nothing here needs it.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # Imported here because transformers takes seconds to import.
    import transformers

    try:
        # A copy, because the class writes into the rotary settings that it is given.
        return getattr(transformers, class_name).from_dict(copy.deepcopy(dict(published)))
    # Its validators raise errors of many kinds: their own, KeyError, ValueError, ZeroDivisionError and more.
    except Exception as error:
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{path} is refused by transformers' {class_name}: {reason}") from None


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
    )


def vision_config(path: Path, name: str, vision: Any) -> ClipVisionConfig:
    """A vision tower's configuration, which stands under `name` in the file."""
    return ClipVisionConfig(
        image_size=size(path, f"{name}.image_size", vision.image_size),
        patch_size=size(path, f"{name}.patch_size", vision.patch_size, most=vision.image_size),
        width=size(path, f"{name}.hidden_size", vision.hidden_size),
        mlp_width=size(path, f"{name}.intermediate_size", vision.intermediate_size),
        layers=size(path, f"{name}.num_hidden_layers", vision.num_hidden_layers),
        heads=size(path, f"{name}.num_attention_heads", vision.num_attention_heads),
        norm_eps=positive(path, f"{name}.layer_norm_eps", vision.layer_norm_eps),
        activation=activation(path, f"{name}.hidden_act", vision.hidden_act),
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


def activation(path: Path, key: str, value: Any) -> str:
    return one_of(path, key, value, {name: name for name in ACTIVATIONS})


def one_of(path: Path, key: str, value: Any, supported: Mapping[str, Any]) -> Any:
    """What a name stands for."""
    if not isinstance(value, str) or value not in supported:
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: {', '.join(map(repr, supported))}")
    return supported[value]


def size(path: Path, key: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        bound = f"an integer from {least}" + (" up" if most is None else f" to {most}")
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: {bound}")
    return value


def positive(path: Path, key: str, value: Any) -> float:
    """A positive finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: a positive number")
    return float(value)

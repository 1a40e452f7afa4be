"""A published vision encoder-decoder's configuration, read in full or refused; and which family a directory is of.

Beside the published keys a file may hold two of this project's own: `cross_attention_scale` ("head_width", as
published, or "model_width") and `keep_class_token`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.config import activation, check_keys, fill_defaults, llava_config, one_of, positive, size
from xmflow_jax.families.llava.config import vision_config as read_vision_config
from xmflow_jax.families.registry import ENCODER_DECODER as TYPE
from xmflow_jax.families.registry import LLAVA, ModelConfig
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.json_files import read_json_object
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import HEAD_WIDTH, MODEL_WIDTH, Gpt2Config
from xmflow_jax.weights.config_sections import CLIP_ENCODER, ENCODER_DECODER, GPT2, VIT_ENCODER

# The encoders by their published type: what becomes of each key, and transformers' class that fills in the defaults.
ENCODERS = {"clip_vision_model": (CLIP_ENCODER, "CLIPVisionConfig"), "vit": (VIT_ENCODER, "ViTConfig")}


def model_config(directory: Path) -> ModelConfig:
    """The configuration of a checkpoint of a known family.

    Raises:
        CheckpointError: the file is missing or no JSON, names another architecture, holds a key that is not known, or
            a value that the models here do not compute.
    """
    path = Path(directory) / "config.json"
    kind = read_json_object(path).get("model_type")
    if kind not in (LLAVA, TYPE):
        raise CheckpointError(f"{path}: model_type is {kind!r}; supported: {LLAVA!r} or {TYPE!r}")
    return llava_config(directory) if kind == LLAVA else encoder_decoder_config(directory)


def encoder_decoder_config(directory: Path) -> CrossAttentionConfig:
    """The configuration of a `VisionEncoderDecoderModel` of CLIP or ViT and GPT-2.

    Raises:
        CheckpointError: as `model_config`.
    """
    path = Path(directory) / "config.json"
    published = read_json_object(path)
    check_keys(path, ENCODER_DECODER, published, TYPE)
    for part in ("encoder", "decoder"):
        if not isinstance(published.get(part), Mapping):
            raise CheckpointError(f"{path}: {part} is {published.get(part)!r}; expected an object")
    encoder, decoder = published["encoder"], published["decoder"]
    kind = encoder.get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise CheckpointError(f"{path}: encoder.model_type is {kind!r}; supported: {' or '.join(map(repr, ENCODERS))}")
    section, class_name = ENCODERS[kind]
    check_keys(path, section, encoder, kind)
    check_keys(path, GPT2, decoder, "gpt2")
    if not decoder.get("add_cross_attention") or "model_type" not in decoder:
        raise CheckpointError(f"{path}: decoder is no 'gpt2' with add_cross_attention; the image would not be read")
    vision = read_vision_config(path, "encoder", fill_defaults(path, encoder, class_name))
    if kind == "vit":
        vision = replace(vision, patch_bias=True, pre_norm=False, final_norm=True)
    text = _gpt2_config(path, fill_defaults(path, decoder, "GPT2Config"))
    keep = published.get("keep_class_token", True)
    if not isinstance(keep, bool):
        raise CheckpointError(f"{path}: keep_class_token is {keep!r}; supported: true or false")
    scales = {HEAD_WIDTH: HEAD_WIDTH, MODEL_WIDTH: MODEL_WIDTH}
    scale = one_of(path, "cross_attention_scale", published.get("cross_attention_scale", HEAD_WIDTH), scales)
    return CrossAttentionConfig(vision, replace(text, cross_scale=scale), keep)


def _gpt2_config(path: Path, text: Any) -> Gpt2Config:
    name = "decoder"
    width, heads = size(path, f"{name}.n_embd", text.n_embd), size(path, f"{name}.n_head", text.n_head)
    if width % heads:
        raise CheckpointError(f"{path}: {name}.n_head is {heads}; it must divide n_embd, {width}")
    return Gpt2Config(
        vocabulary=size(path, f"{name}.vocab_size", text.vocab_size),
        width=width,
        mlp_width=4 * width if text.n_inner is None else size(path, f"{name}.n_inner", text.n_inner),
        layers=size(path, f"{name}.n_layer", text.n_layer),
        heads=heads,
        positions=size(path, f"{name}.n_positions", text.n_positions),
        norm_eps=positive(path, f"{name}.layer_norm_epsilon", text.layer_norm_epsilon),
        activation=activation(path, f"{name}.activation_function", text.activation_function),
        tied=bool(text.tie_word_embeddings),
    )


def published_encoder_decoder(config: CrossAttentionConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `encoder_decoder_config` is its inverse."""
    vision, text = config.vision, config.text
    return {
        "architectures": ["VisionEncoderDecoderModel"],
        "model_type": TYPE,
        "dtype": dtype,
        "is_encoder_decoder": True,
        "cross_attention_scale": text.cross_scale,
        "keep_class_token": config.keep_class_token,
        "encoder": {"model_type": _encoder_type(vision), **_published_tower(vision)},
        "decoder": {
            "model_type": "gpt2",
            "add_cross_attention": True,
            "is_decoder": True,
            "vocab_size": text.vocabulary,
            "n_embd": text.width,
            "n_inner": text.mlp_width,
            "n_layer": text.layers,
            "n_head": text.heads,
            "n_positions": text.positions,
            "layer_norm_epsilon": text.norm_eps,
            "activation_function": text.activation,
            "tie_word_embeddings": text.tied,
            # The tokenizer knows them; the defaults of transformers lie beyond a small vocabulary.
            "bos_token_id": None,
            "eos_token_id": None,
        },
    }


def _encoder_type(vision: ClipVisionConfig) -> str:
    return "vit" if vision.patch_bias else "clip_vision_model"


def _published_tower(vision: ClipVisionConfig) -> dict[str, Any]:
    return {
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "layer_norm_eps": vision.norm_eps,
        "hidden_act": vision.activation,
    }

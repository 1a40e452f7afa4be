"""`config.json` of a `VisionEncoderDecoderModel` of CLIP or ViT and GPT-2: read in full or refused, and written.

Beside the published keys a file may hold two of this project's own: `cross_attention_scale` ("head_width", as
published, or "model_width") and `keep_class_token`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.nn.gpt2 import HEAD_WIDTH, MODEL_WIDTH, Gpt2Config
from xmflow_jax.weights.clip_tower import read_tower, write_tower
from xmflow_jax.weights.config_checks import (
    activation,
    check_keys,
    fill_defaults,
    layer_count,
    one_of,
    positive,
    shown,
    size,
)
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, EXECUTION, TRAINING, Section

MODEL_TYPE: Final = "vision-encoder-decoder"

WHOLE: Final = Section(
    name="",
    read=frozenset({"cross_attention_scale", "decoder", "encoder", "keep_class_token", "model_type"}),
    fixed={
        **{key: values for key, values in COMMON_FIXED.items() if key != "is_encoder_decoder"},
        "architectures": (["VisionEncoderDecoderModel"], None),
        "is_encoder_decoder": (True,),
    },
    harmless={
        **COMMON_HARMLESS,
        # The decoder's own flag says what its head is; this one is about encoder and decoder, which share nothing.
        "tie_word_embeddings": "of the two parts, which have nothing to tie",
    },
)

GPT2: Final = Section(
    name="decoder",
    read=frozenset(
        {
            "activation_function",
            "layer_norm_epsilon",
            "model_type",
            "n_embd",
            "n_head",
            "n_inner",
            "n_layer",
            "n_positions",
            "tie_word_embeddings",
            "vocab_size",
        }
    ),
    fixed={
        **COMMON_FIXED,
        "add_cross_attention": (True,),
        "is_decoder": (True,),
        "reorder_and_upcast_attn": (False,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "scale_attn_weights": (True,),
        "n_special": (0,),
    },
    harmless={
        **COMMON_HARMLESS,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing"), TRAINING),
        **dict.fromkeys(
            (
                "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
                "summary_use_proj",
            ),
            "of a classification head, which a language model does not have",
        ),
        "n_ctx": "an older name of n_positions",
        "output_past": EXECUTION,
        "predict_special_tokens": "of the training of OpenAI's first GPT",
    },
)  # fmt: skip


def read_config(path: Path, published: Mapping[str, Any]) -> CrossAttentionConfig:
    """The configuration of a `VisionEncoderDecoderModel` of CLIP or ViT and GPT-2.

    Args:
        path: of `config.json`, for messages.
        published: its content.

    Raises:
        CheckpointError: it names another architecture, holds a key that is not known, or a value that the models here
            do not compute.
    """
    check_keys(path, WHOLE, published, MODEL_TYPE)
    for part in ("encoder", "decoder"):
        if not isinstance(published.get(part), Mapping):
            raise CheckpointError(f"{path}: {part} is {shown(published.get(part))}; expected an object")
    encoder, decoder = published["encoder"], published["decoder"]
    vision = read_tower(path, "encoder", encoder)
    check_keys(path, GPT2, decoder, "gpt2")
    if not decoder.get("add_cross_attention") or "model_type" not in decoder:
        raise CheckpointError(f"{path}: decoder is no 'gpt2' with add_cross_attention; the image would not be read")
    text = _gpt2_config(path, fill_defaults(path, decoder, "GPT2Config"))
    keep = published.get("keep_class_token", True)
    if not isinstance(keep, bool):
        raise CheckpointError(f"{path}: keep_class_token is {shown(keep)}; supported: true or false")
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
        layers=layer_count(path, f"{name}.n_layer", text.n_layer),
        heads=heads,
        positions=size(path, f"{name}.n_positions", text.n_positions),
        norm_eps=positive(path, f"{name}.layer_norm_epsilon", text.layer_norm_epsilon),
        activation=activation(path, f"{name}.activation_function", text.activation_function),
        tied=bool(text.tie_word_embeddings),
    )


def write_config(config: CrossAttentionConfig, dtype: str) -> dict[str, Any]:
    """The content of `config.json`; `read_config` is its inverse.

    Args:
        dtype: of the stored tensors, such as "float32".
    """
    vision, text = config.vision, config.text
    return {
        "architectures": ["VisionEncoderDecoderModel"],
        "model_type": MODEL_TYPE,
        "dtype": dtype,
        "is_encoder_decoder": True,
        "cross_attention_scale": text.cross_scale,
        "keep_class_token": config.keep_class_token,
        "encoder": write_tower(vision),
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

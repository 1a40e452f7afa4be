"""InternVL's vision tower, InternViT-300M's form: its part of `config.json`, read and written; its tensors.

The form of the 6-billion tower (root-mean-square norms, normed queries and keys) is refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.weights.config_checks import activation, check_keys, layer_count, positive, shown, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, TRAINING, Section
from xmflow_jax.weights.rules import AS_IS, CONVOLUTION, VECTOR, Rule, linear, norm

INTERN: Final = "internvl_vision"

_READ: Final = frozenset(
    {
        "attention_bias",
        "hidden_act",
        "hidden_size",
        "image_size",
        "intermediate_size",
        "layer_norm_eps",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "patch_size",
    }
)
_FIXED: Final = {
    **COMMON_FIXED,
    "norm_type": ("layer_norm",),
    "num_channels": (3,),
    "use_absolute_position_embeddings": (True,),
    "use_mask_token": (False,),
    # Off, the tower would end with a norm.
    "use_mean_pooling": (True,),
    "use_qk_norm": (False,),
}
_HARMLESS: Final = {
    **COMMON_HARMLESS,
    **dict.fromkeys(("hidden_dropout_prob", "layer_scale_init_value", "projection_dropout"), TRAINING),
    "tie_word_embeddings": "the tower has no words",
}


def check_tower(path: Path, name: str, tower: Any) -> None:
    """Refuse a tower of another form, a key that no table names, and a value that is not computed here.

    Args:
        path: of config.json, for messages.
        name: under which the tower's part stands in the file.
        tower: that part.

    Raises:
        CheckpointError: one of these.
    """
    check_keys(path, Section(name, _READ, _FIXED, _HARMLESS), tower, INTERN)


def tower_sizes(path: Path, name: str, filled: Any) -> ClipVisionConfig:
    """A tower's configuration from transformers' object, whose defaults are filled in.

    Raises:
        CheckpointError: a value that is not computed here.
    """
    image, patch = (_side(path, f"{name}.{key}", getattr(filled, key)) for key in ("image_size", "patch_size"))
    if image % patch:
        raise CheckpointError(f"{path}: {name}.image_size is {image}; supported: a multiple of patch_size, {patch}")
    return ClipVisionConfig(
        image_size=image,
        patch_size=patch,
        width=size(path, f"{name}.hidden_size", filled.hidden_size),
        mlp_width=size(path, f"{name}.intermediate_size", filled.intermediate_size),
        layers=layer_count(path, f"{name}.num_hidden_layers", filled.num_hidden_layers),
        heads=size(path, f"{name}.num_attention_heads", filled.num_attention_heads),
        norm_eps=positive(path, f"{name}.layer_norm_eps", filled.layer_norm_eps),
        activation=activation(path, f"{name}.hidden_act", filled.hidden_act),
        patch_bias=True,
        pre_norm=False,
        closing_norm=False,
        qkv_bias=bool(filled.attention_bias),
        layer_scale=True,
    )


def _side(path: Path, key: str, value: Any) -> int:
    """One number, or the same number twice, as files have both."""
    if isinstance(value, list | tuple):
        if len(value) != 2 or value[0] != value[1]:
            raise CheckpointError(
                f"{path}: {key} is {shown(list(value))}; supported: a square's side, such as [14, 14]"
            )
        value = value[0]
    return size(path, key, value)


def write_tower(vision: ClipVisionConfig) -> Mapping[str, Any]:
    """The tower's part of `config.json`; `tower_sizes` is its inverse."""
    return {
        "model_type": INTERN,
        "image_size": [vision.image_size] * 2,
        "patch_size": [vision.patch_size] * 2,
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "layer_norm_eps": vision.norm_eps,
        "hidden_act": vision.activation,
        "attention_bias": vision.qkv_bias,
        "use_mean_pooling": True,
    }


def tower_rules(vision: ClipVisionConfig, published: str, path: str) -> Iterator[Rule]:
    """The rules of all of a tower's parameters.

    Args:
        published: what the tower's canonical names begin with, without the last dot.
        path: the tower's name in the NNX state.
    """
    embeddings, layers = (path, "embeddings"), vision.layers
    projection = f"{published}.embeddings.patch_embeddings.projection"
    yield Rule(f"{published}.embeddings.cls_token", (*embeddings, "class_embedding"), VECTOR, leading=2)
    yield Rule(f"{published}.embeddings.position_embeddings", (*embeddings, "position_embedding"), AS_IS, leading=1)
    yield Rule(f"{projection}.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule(f"{projection}.bias", (*embeddings, "patch_bias"), VECTOR)
    block, ours = f"{published}.encoder.layer.*", (path, "layers")
    for number, place in enumerate(("before", "after"), start=1):
        yield from norm(f"{block}.layernorm_{place}", (*ours, f"layer_norm{number}"), layers, bias=True)
        yield Rule(f"{block}.lambda_{number}", (*ours, f"layer_scale{number}", "scale"), VECTOR, layers)
    attention = (*ours, "self_attn")
    for name in "qkv":
        own = f"{name}_proj"
        yield from linear(f"{block}.attention.{own}", (*attention, own), layers, bias=vision.qkv_bias)
    yield from linear(f"{block}.attention.projection_layer", (*attention, "out_proj"), layers, bias=True)
    for name in ("fc1", "fc2"):
        yield from linear(f"{block}.mlp.{name}", (*ours, "mlp", name), layers, bias=True)

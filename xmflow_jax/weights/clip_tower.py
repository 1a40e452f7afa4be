"""A vision tower of CLIP, ViT or SigLIP, of any family: its part of `config.json`, read and written; its tensors."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.weights.config_checks import activation, check_keys, fill_defaults, layer_count, one_of, positive, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, TRAINING, Section
from xmflow_jax.weights.rules import AS_IS, CONVOLUTION, VECTOR, Rule, linear, norm

# The towers by their published type, with transformers' class that fills in the defaults.
CLIP: Final = "clip_vision_model"
VIT: Final = "vit"
SIGLIP: Final = "siglip_vision_model"
CLASSES: Final = {CLIP: "CLIPVisionConfig", VIT: "ViTConfig", SIGLIP: "SiglipVisionConfig"}
# What sets each of them apart from CLIP.
_FORMS: Final[dict[str, dict[str, bool]]] = {
    CLIP: {},
    VIT: {"patch_bias": True, "pre_norm": False, "final_norm": True},
    SIGLIP: {"patch_bias": True, "pre_norm": False, "class_token": False},
}

_READ: Final = frozenset(
    {
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
_FIXED: Final = {**COMMON_FIXED, "num_channels": (3,)}
_NO_WORDS: Final = "the tower has no words"


def clip_section(name: str) -> Section:
    """What becomes of each key of a CLIP tower that stands under `name`."""
    return Section(
        name,
        _READ,
        _FIXED,
        {
            **COMMON_HARMLESS,
            "projection_dim": "of CLIP's contrastive head, which no decoder reads",
            "vocab_size": "of CLIP's text tower, which no decoder reads",
            "tie_word_embeddings": _NO_WORDS,
        },
    )


def vit_section(name: str) -> Section:
    """What becomes of each key of a ViT that stands under `name`."""
    return Section(
        name,
        _READ,
        {**_FIXED, "qkv_bias": (True,)},
        {
            **COMMON_HARMLESS,
            **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob"), TRAINING),
            **dict.fromkeys(("pooler_act", "pooler_output_size"), "of ViT's pooled output, which no decoder reads"),
            "encoder_stride": "of masked-image pretraining",
            "tie_word_embeddings": _NO_WORDS,
        },
    )


def siglip_section(name: str) -> Section:
    """What becomes of each key of a SigLIP tower that stands under `name`."""
    return Section(
        name,
        _READ,
        _FIXED,
        {
            **COMMON_HARMLESS,
            "vision_use_head": "of SigLIP's pooled output, which no decoder reads",
            **dict.fromkeys(("num_image_tokens", "num_positions"), "they follow from the sizes of image and patches"),
            "projection_dim": "of the projector behind the tower, which has the decoder's width",
            "projector_hidden_act": "a projector that reads it has it beside the tower's part",
            "vocab_size": _NO_WORDS,
            "tie_word_embeddings": _NO_WORDS,
        },
    )


_SECTIONS: Final = {CLIP: clip_section, VIT: vit_section, SIGLIP: siglip_section}


def check_tower(path: Path, name: str, tower: Any, supported: Sequence[str], usual: str | None = None) -> None:
    """Refuse a tower of another architecture, a key that no table names, and a value that is not computed here.

    Args:
        path: of config.json, for messages.
        name: under which the tower's part stands in the file.
        tower: that part.
        supported: the types that the family reads.
        usual: the type of a part that names none; None: it must.

    Raises:
        CheckpointError: one of these.
    """
    told = tower.get("model_type", usual) if isinstance(tower, Mapping) else supported[0]
    kind = one_of(path, f"{name}.model_type", told, {one: one for one in supported})
    check_keys(path, _SECTIONS[kind](name), tower, kind)


def read_tower(path: Path, name: str, tower: Any) -> ClipVisionConfig:
    """The configuration of a CLIP or ViT tower of which the file need not say what equals a default.

    Args:
        path: of config.json, for messages.
        name: under which the tower's part stands in the file.
        tower: that part.

    Raises:
        CheckpointError: another architecture, a key that is not known, or a value that is not computed here.
    """
    check_tower(path, name, tower, (CLIP, VIT))
    return tower_sizes(path, name, fill_defaults(path, tower, CLASSES[tower["model_type"]]))


def tower_sizes(path: Path, name: str, filled: Any) -> ClipVisionConfig:
    """A tower's configuration from transformers' object, whose defaults are filled in.

    Raises:
        CheckpointError: a value that is not computed here.
    """
    return ClipVisionConfig(
        **_FORMS[filled.model_type],
        image_size=size(path, f"{name}.image_size", filled.image_size),
        patch_size=size(path, f"{name}.patch_size", filled.patch_size, most=filled.image_size),
        width=size(path, f"{name}.hidden_size", filled.hidden_size),
        mlp_width=size(path, f"{name}.intermediate_size", filled.intermediate_size),
        layers=layer_count(path, f"{name}.num_hidden_layers", filled.num_hidden_layers),
        heads=size(path, f"{name}.num_attention_heads", filled.num_attention_heads),
        norm_eps=positive(path, f"{name}.layer_norm_eps", filled.layer_norm_eps),
        activation=activation(path, f"{name}.hidden_act", filled.hidden_act),
    )


def write_tower(vision: ClipVisionConfig) -> dict[str, Any]:
    """The tower's part of `config.json`; `read_tower` is its inverse."""
    return {
        "model_type": tower_type(vision),
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp_width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "layer_norm_eps": vision.norm_eps,
        "hidden_act": vision.activation,
        # Else transformers expects the pooling head's tensors as well.
        **({"vision_use_head": False} if tower_type(vision) == SIGLIP else {}),
    }


def tower_type(vision: ClipVisionConfig) -> str:
    """How the tower's files are spelt."""
    if not vision.class_token:
        return SIGLIP
    return VIT if vision.patch_bias else CLIP


def tower_rules(vision: ClipVisionConfig, published: str, path: str) -> Iterator[Rule]:
    """The rules of all of a tower's parameters.

    Args:
        published: what the tower's canonical names begin with, without the last dot.
        path: the tower's name in the NNX state.
    """
    kind = tower_type(vision)
    if kind == VIT:
        yield from _vit_rules(published, path, vision.layers)
    else:
        yield from _clip_rules(published, path, vision.layers, siglip=kind == SIGLIP)


def _clip_rules(published: str, path: str, layers: int, siglip: bool) -> Iterator[Rule]:
    embeddings = (path, "embeddings")
    if siglip:
        yield Rule(f"{published}.embeddings.patch_embedding.bias", (*embeddings, "patch_bias"), VECTOR)
    else:
        yield Rule(f"{published}.embeddings.class_embedding", (*embeddings, "class_embedding"), VECTOR)
    yield Rule(f"{published}.embeddings.patch_embedding.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule(f"{published}.embeddings.position_embedding.weight", (*embeddings, "position_embedding"), AS_IS)
    for name in ("post_layernorm",) if siglip else ("pre_layrnorm", "post_layernorm"):
        yield from norm(f"{published}.{name}", (path, name), bias=True)
    block = f"{published}.encoder.layers.*"
    for name in ("layer_norm1", "layer_norm2"):
        yield from norm(f"{block}.{name}", (path, "layers", name), layers, bias=True)
    for part, name in [
        *(("self_attn", f"{name}_proj") for name in ("q", "k", "v", "out")),
        *(("mlp", name) for name in ("fc1", "fc2")),
    ]:
        yield from linear(f"{block}.{part}.{name}", (path, "layers", part, name), layers, bias=True)


def _vit_rules(published: str, path: str, layers: int) -> Iterator[Rule]:
    embeddings = (path, "embeddings")
    projection = f"{published}.embeddings.patch_embeddings.projection"
    yield Rule(f"{published}.embeddings.cls_token", (*embeddings, "class_embedding"), VECTOR, leading=2)
    yield Rule(f"{published}.embeddings.position_embeddings", (*embeddings, "position_embedding"), AS_IS, leading=1)
    yield Rule(f"{projection}.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule(f"{projection}.bias", (*embeddings, "patch_bias"), VECTOR)
    yield from norm(f"{published}.layernorm", (path, "post_layernorm"), bias=True)
    block, ours = f"{published}.encoder.layer.*", (path, "layers")
    yield from norm(f"{block}.layernorm_before", (*ours, "layer_norm1"), layers, bias=True)
    yield from norm(f"{block}.layernorm_after", (*ours, "layer_norm2"), layers, bias=True)
    for name in ("query", "key", "value"):
        own = (*ours, "self_attn", f"{name[0]}_proj")
        yield from linear(f"{block}.attention.attention.{name}", own, layers, bias=True)
    yield from linear(f"{block}.attention.output.dense", (*ours, "self_attn", "out_proj"), layers, bias=True)
    yield from linear(f"{block}.intermediate.dense", (*ours, "mlp", "fc1"), layers, bias=True)
    yield from linear(f"{block}.output.dense", (*ours, "mlp", "fc2"), layers, bias=True)

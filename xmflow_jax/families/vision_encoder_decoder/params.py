"""Published tensor names of vision encoder-decoders (transformers `VisionEncoderDecoderModel`: CLIP or ViT, GPT-2).

GPT-2's matrices are (in, out), and those of queries, keys and values are one tensor.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.weights.rules import AS_IS, CONVOLUTION, VECTOR, Path, Rule, linear, norm

_DECODER = {"decoder.": "decoder.", "enc_to_dec_proj.": "enc_to_dec_proj."}
_FILE = {"encoder.": "encoder.", **_DECODER}
# canonical beginning -> published beginning. Older versions keep CLIP's tower one module deeper.
CLIP_LAYOUTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"encoder-decoder": _FILE, "encoder-decoder-4": {"encoder.": "encoder.vision_model.", **_DECODER}}
)
# transformers 5 renames ViT's layers in memory; a file has those names if it was not saved in the original format.
VIT_LAYOUTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "encoder-decoder": _FILE,
        "encoder-decoder-v5-memory": {"encoder.encoder.layer.": "encoder.layers.", **_FILE},
    }
)
# What is spelt differently within ViT's layers there; the first that fits is replaced.
VIT_MEMORY_PARTS: Mapping[str, str] = MappingProxyType(
    {
        ".attention.attention.query.": ".attention.q_proj.",
        ".attention.attention.key.": ".attention.k_proj.",
        ".attention.attention.value.": ".attention.v_proj.",
        ".attention.output.dense.": ".attention.o_proj.",
        ".intermediate.dense.": ".mlp.fc1.",
        ".output.dense.": ".mlp.fc2.",
    }
)
ENCODER_DECODER_PARTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"encoder-decoder-v5-memory": VIT_MEMORY_PARTS}
)

# Tensors that some files hold and no model needs, by the end of their names, and why.
ENCODER_DECODER_HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        r"\.embeddings\.position_ids": "the numbers 0, 1, ... that index CLIP's position embedding",
        r"\.attn\.bias": "the lower triangle of GPT-2's causal mask",
        r"\.crossattention\.bias": "the same, which cross-attention does not use",
        r"\.masked_bias": "the number that GPT-2 once masked with",
        r"encoder\.pooler\.dense\.(weight|bias)": "ViT's pooled output, which no decoder reads",
    }
)

ENCODER_DECODER_HEAD = "decoder.lm_head.weight"
ENCODER_DECODER_EMBEDDING = "decoder.transformer.wte.weight"


def encoder_decoder_layouts(config: CrossAttentionConfig) -> Mapping[str, Mapping[str, str]]:
    """canonical beginning -> published beginning, of each published layout of this encoder."""
    return VIT_LAYOUTS if config.vision.patch_bias else CLIP_LAYOUTS


def encoder_decoder_rules(config: CrossAttentionConfig) -> Iterator[Rule]:
    """The rules of all parameters, each once."""
    yield from _vit_rules(config) if config.vision.patch_bias else _clip_rules(config)
    if config.projects:
        yield from linear("enc_to_dec_proj", ("enc_to_dec_proj",), bias=True)
    yield from _gpt2_rules(config)


def _clip_rules(config: CrossAttentionConfig) -> Iterator[Rule]:
    tower, layers = "vision_tower", config.vision.layers
    embeddings = (tower, "embeddings")
    yield Rule("encoder.embeddings.class_embedding", (*embeddings, "class_embedding"), VECTOR)
    yield Rule("encoder.embeddings.patch_embedding.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule("encoder.embeddings.position_embedding.weight", (*embeddings, "position_embedding"), AS_IS)
    for name in ("pre_layrnorm", "post_layernorm"):
        yield from norm(f"encoder.{name}", (tower, name), bias=True)
    block = "encoder.encoder.layers.*"
    for name in ("layer_norm1", "layer_norm2"):
        yield from norm(f"{block}.{name}", (tower, "layers", name), layers, bias=True)
    for part, name in [
        *(("self_attn", f"{name}_proj") for name in ("q", "k", "v", "out")),
        *(("mlp", name) for name in ("fc1", "fc2")),
    ]:
        yield from linear(f"{block}.{part}.{name}", (tower, "layers", part, name), layers, bias=True)


def _vit_rules(config: CrossAttentionConfig) -> Iterator[Rule]:
    tower, layers = "vision_tower", config.vision.layers
    embeddings = (tower, "embeddings")
    projection = "encoder.embeddings.patch_embeddings.projection"
    yield Rule("encoder.embeddings.cls_token", (*embeddings, "class_embedding"), VECTOR, leading=2)
    yield Rule("encoder.embeddings.position_embeddings", (*embeddings, "position_embedding"), AS_IS, leading=1)
    yield Rule(f"{projection}.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule(f"{projection}.bias", (*embeddings, "patch_bias"), VECTOR)
    yield from norm("encoder.layernorm", (tower, "post_layernorm"), bias=True)
    block, ours = "encoder.encoder.layer.*", (tower, "layers")
    yield from norm(f"{block}.layernorm_before", (*ours, "layer_norm1"), layers, bias=True)
    yield from norm(f"{block}.layernorm_after", (*ours, "layer_norm2"), layers, bias=True)
    for name in ("query", "key", "value"):
        path: Path = (*ours, "self_attn", f"{name[0]}_proj")
        yield from linear(f"{block}.attention.attention.{name}", path, layers, bias=True)
    yield from linear(f"{block}.attention.output.dense", (*ours, "self_attn", "out_proj"), layers, bias=True)
    yield from linear(f"{block}.intermediate.dense", (*ours, "mlp", "fc1"), layers, bias=True)
    yield from linear(f"{block}.output.dense", (*ours, "mlp", "fc2"), layers, bias=True)


def _gpt2_rules(config: CrossAttentionConfig) -> Iterator[Rule]:
    model, layers = "language_model", config.text.layers
    yield Rule(ENCODER_DECODER_EMBEDDING, (model, "embed_tokens", "embedding"), AS_IS)
    yield Rule("decoder.transformer.wpe.weight", (model, "embed_positions"), AS_IS)
    yield from norm("decoder.transformer.ln_f", (model, "norm"), bias=True)
    block, ours = "decoder.transformer.h.*", (model, "layers")
    for name in ("ln_1", "ln_cross_attn", "ln_2"):
        yield from norm(f"{block}.{name}", (*ours, name), layers, bias=True)
    for index, name in enumerate("qkv"):
        yield from _conv1d(f"{block}.attn.c_attn", (*ours, "attn", f"{name}_proj"), layers, (index, 3))
    yield from _conv1d(f"{block}.attn.c_proj", (*ours, "attn", "c_proj"), layers)
    yield from _conv1d(f"{block}.crossattention.q_attn", (*ours, "crossattention", "q_proj"), layers)
    for index, name in enumerate("kv"):
        own = (*ours, "crossattention", f"{name}_proj")
        yield from _conv1d(f"{block}.crossattention.c_attn", own, layers, (index, 2))
    yield from _conv1d(f"{block}.crossattention.c_proj", (*ours, "crossattention", "c_proj"), layers)
    for name in ("c_fc", "c_proj"):
        yield from _conv1d(f"{block}.mlp.{name}", (*ours, "mlp", name), layers)
    if not config.text.tied:
        yield from linear("decoder.lm_head", (model, "lm_head"), bias=False)


def _conv1d(published: str, path: Path, layers: int, part: tuple[int, int] = (0, 1)) -> Iterator[Rule]:
    """GPT-2's `Conv1D`: a linear layer whose matrix is (in, out)."""
    yield Rule(f"{published}.weight", (*path, "kernel"), AS_IS, layers, part)
    yield Rule(f"{published}.bias", (*path, "bias"), VECTOR, layers, part)

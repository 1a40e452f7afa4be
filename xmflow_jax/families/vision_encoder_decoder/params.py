"""Published tensor names of vision encoder-decoders (transformers `VisionEncoderDecoderModel`: CLIP or ViT, GPT-2).

The canonical spelling is that of the files. GPT-2's matrices are (in, out), and those of queries, keys and values are
one tensor.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.weights.clip_tower import VIT, tower_rules, tower_type
from xmflow_jax.weights.rules import AS_IS, VECTOR, KeyTable, Layout, Path, Rule, linear, norm

_DECODER: Final = {"decoder.": "decoder.", "enc_to_dec_proj.": "enc_to_dec_proj."}
_FILE: Final = {"encoder.": "encoder.", **_DECODER}
# What is spelt differently within ViT's layers there; the first that fits is replaced.
_VIT_MEMORY_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".attention.attention.query.": ".attention.q_proj.",
        ".attention.attention.key.": ".attention.k_proj.",
        ".attention.attention.value.": ".attention.v_proj.",
        ".attention.output.dense.": ".attention.o_proj.",
        ".intermediate.dense.": ".mlp.fc1.",
        ".output.dense.": ".mlp.fc2.",
    }
)
# Older versions keep CLIP's tower one module deeper.
CLIP_LAYOUTS: Final = (
    Layout("encoder-decoder", _FILE),
    Layout("encoder-decoder-4", {"encoder.": "encoder.vision_model.", **_DECODER}),
)
# transformers 5 renames ViT's layers in memory; a file has those names if it was not saved in the original format.
VIT_LAYOUTS: Final = (
    Layout("encoder-decoder", _FILE),
    Layout("encoder-decoder-v5-memory", {"encoder.encoder.layer.": "encoder.layers.", **_FILE}, _VIT_MEMORY_PARTS),
)

HARMLESS: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"\.embeddings\.position_ids": "the numbers 0, 1, ... that index CLIP's position embedding",
        r"\.attn\.bias": "the lower triangle of GPT-2's causal mask",
        r"\.crossattention\.bias": "the same, which cross-attention does not use",
        r"\.masked_bias": "the number that GPT-2 once masked with",
        r"encoder\.pooler\.dense\.(weight|bias)": "ViT's pooled output, which no decoder reads",
    }
)

HEAD: Final = "decoder.lm_head.weight"
EMBEDDING: Final = "decoder.transformer.wte.weight"


def key_table(config: CrossAttentionConfig) -> KeyTable:
    """The tensors of an encoder-decoder of this configuration."""
    projection = linear("enc_to_dec_proj", ("enc_to_dec_proj",), bias=True) if config.projects else ()
    rules = (*tower_rules(config.vision, "encoder", "vision_tower"), *projection, *_gpt2_rules(config))
    layouts = VIT_LAYOUTS if tower_type(config.vision) == VIT else CLIP_LAYOUTS
    return KeyTable(rules, layouts, HARMLESS, EMBEDDING, HEAD, config.text.tied)


def _gpt2_rules(config: CrossAttentionConfig) -> Iterator[Rule]:
    model, layers = "language_model", config.text.layers
    yield Rule(EMBEDDING, (model, "embed_tokens", "embedding"), AS_IS)
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

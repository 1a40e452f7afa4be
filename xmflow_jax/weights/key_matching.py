"""Published tensor names, and where each tensor goes: LLaVA's here, vision encoder-decoders' in `encoder_decoder_keys`.

The table speaks one canonical spelling: that of transformers 5 in memory, without its leading `model.`; of encoder-
decoders, that of its files. `layouts` says how each published layout spells the canonical beginnings.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import ModelConfig
from xmflow_jax.families.vision_encoder_decoder.params import (
    CLIP_LAYOUTS,
    ENCODER_DECODER_EMBEDDING,
    ENCODER_DECODER_HARMLESS,
    ENCODER_DECODER_HEAD,
    ENCODER_DECODER_PARTS,
    VIT_LAYOUTS,
    encoder_decoder_layouts,
    encoder_decoder_rules,
)
from xmflow_jax.weights.rules import AS_IS, CONVOLUTION, VECTOR, Rule, linear, norm

# canonical beginning -> published beginning, of each published layout.
LAYOUTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "hub": {
            "language_model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
            "vision_tower.": "vision_tower.vision_model.",
            "multi_modal_projector.": "multi_modal_projector.",
        },
        "4.52": {
            "language_model.": "model.language_model.",
            "lm_head.": "lm_head.",
            "vision_tower.": "model.vision_tower.vision_model.",
            "multi_modal_projector.": "model.multi_modal_projector.",
        },
        "v5-memory": {
            "language_model.": "model.language_model.",
            "lm_head.": "lm_head.",
            "vision_tower.": "model.vision_tower.",
            "multi_modal_projector.": "model.multi_modal_projector.",
        },
        "v5-save": {
            "language_model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
            "vision_tower.": "vision_tower.",
            "multi_modal_projector.": "multi_modal_projector.",
        },
    }
)

# Tensors that some files hold and no model needs, by the end of their names, and why.
HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        r"\.embeddings\.position_ids": "the numbers 0, 1, ... that index CLIP's position embedding",
        r"\.rotary_emb\.inv_freq": "rotary frequencies, which follow from rope_theta",
    }
)

HEAD = "lm_head.weight"
EMBEDDING = "language_model.embed_tokens.weight"


def key_table(config: ModelConfig) -> tuple[Rule, ...]:
    """The rules of all parameters of a model of this configuration, each parameter once."""
    if not isinstance(config, LlavaConfig):
        return tuple(encoder_decoder_rules(config))
    return (*_vision_rules(config), *_projector_rules(config), *_text_rules(config))


def tied_names(config: ModelConfig) -> tuple[str, str]:
    """The canonical names of the word embedding and of the head, which a tied model shares."""
    if isinstance(config, LlavaConfig):
        return EMBEDDING, HEAD
    return ENCODER_DECODER_EMBEDDING, ENCODER_DECODER_HEAD


def layouts(config: ModelConfig) -> Mapping[str, Mapping[str, str]]:
    """canonical beginning -> published beginning, of each published layout of the family."""
    return LAYOUTS if isinstance(config, LlavaConfig) else encoder_decoder_layouts(config)


def _vision_rules(config: LlavaConfig) -> Iterator[Rule]:
    tower, layers = "vision_tower", config.vision.layers
    embeddings = (tower, "embeddings")
    yield Rule(f"{tower}.embeddings.class_embedding", (*embeddings, "class_embedding"), VECTOR)
    yield Rule(f"{tower}.embeddings.patch_embedding.weight", (*embeddings, "patch_embedding"), CONVOLUTION)
    yield Rule(f"{tower}.embeddings.position_embedding.weight", (*embeddings, "position_embedding"), AS_IS)
    for name in ("pre_layrnorm", "post_layernorm"):
        yield from norm(f"{tower}.{name}", (tower, name), bias=True)
    block = f"{tower}.encoder.layers.*"
    for name in ("layer_norm1", "layer_norm2"):
        yield from norm(f"{block}.{name}", (tower, "layers", name), layers, bias=True)
    for part, name in [
        *(("self_attn", f"{name}_proj") for name in ("q", "k", "v", "out")),
        *(("mlp", name) for name in ("fc1", "fc2")),
    ]:
        yield from linear(f"{block}.{part}.{name}", (tower, "layers", part, name), layers, bias=True)


def _projector_rules(config: LlavaConfig) -> Iterator[Rule]:
    projector = "multi_modal_projector"
    for name in ("linear_1", "linear_2"):
        yield from linear(f"{projector}.{name}", (projector, name), bias=config.projector_bias)


def _text_rules(config: LlavaConfig) -> Iterator[Rule]:
    model, layers = "language_model", config.text.layers
    yield Rule(EMBEDDING, (model, "embed_tokens", "embedding"), AS_IS)
    yield from norm(f"{model}.norm", (model, "norm"), bias=False)
    block = f"{model}.layers.*"
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield from norm(f"{block}.{name}", (model, "layers", name), layers, bias=False)
    for part, name in [
        *(("self_attn", f"{name}_proj") for name in "qkvo"),
        *(("mlp", f"{name}_proj") for name in ("gate", "up", "down")),
    ]:
        yield from linear(f"{block}.{part}.{name}", (model, "layers", part, name), layers, bias=False)
    if not config.text.tied:
        yield from linear("lm_head", (model, "lm_head"), bias=False)


def published_name(canonical: str, layout: str) -> str:
    """A canonical tensor name as this layout spells it."""
    beginnings = {**LAYOUTS, **CLIP_LAYOUTS, **VIT_LAYOUTS}[layout]
    ours, published = next(pair for pair in beginnings.items() if canonical.startswith(pair[0]))
    name = published + canonical.removeprefix(ours)
    for own, other in ENCODER_DECODER_PARTS.get(layout, {}).items():
        if own in name:
            return name.replace(own, other)
    return name


def canonical_names(published: Iterable[str], config: ModelConfig, where: str) -> dict[str, str]:
    """Which published tensor each canonical name is, for exactly the tensors that the configuration calls for.

    A tied model's file may hold the head, the embedding, or both; every one that is there is named.

    Args:
        published: all tensor names of the checkpoint.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: a tensor is missing or left over in the best-fitting of the family's layouts.
    """
    embedding, head = tied_names(config)
    harmless = HARMLESS if isinstance(config, LlavaConfig) else ENCODER_DECODER_HARMLESS
    found = {name for name in published if not any(re.search(f"{end}$", name) for end in harmless)}
    # Published files fuse some parameters into one tensor, which is then called for more than once.
    wanted = list(dict.fromkeys(name for rule in key_table(config) for name in rule.names()))
    if config.text.tied:
        wanted.append(head)
    spellings = {layout: {published_name(name, layout): name for name in wanted} for layout in layouts(config)}
    layout = max(spellings, key=lambda name: len(found & spellings[name].keys()))
    names = {canonical: name for name, canonical in spellings[layout].items() if name in found}
    absent = [name for name in wanted if name not in names]
    if config.text.tied and not {head, embedding} <= set(absent):
        absent = [name for name in absent if name not in (head, embedding)]
    left_over = sorted(found - spellings[layout].keys())
    problems = []
    if absent:
        hint = " (only a model with tie_word_embeddings may lack it)" if absent == [head] else ""
        problems.append(f"{len(absent)} missing: {_few([published_name(name, layout) for name in absent])}{hint}")
    if left_over:
        problems.append(f"{len(left_over)} not understood: {_few(left_over)}")
    if problems:
        raise CheckpointError(
            f"{where}: tensors do not match config.json in the nearest layout, {layout!r}: {'; '.join(problems)}"
        )
    return names


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

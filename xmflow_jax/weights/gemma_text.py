"""A text decoder of Gemma's form, of any family: its part of `config.json`, read by its own type and written, and its
tensors.

What the file leaves out, transformers' class of that type fills in, such as Gemma 2's bounds of logits.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.gemma import GemmaConfig
from xmflow_jax.nn.rotary import RotaryScaling
from xmflow_jax.weights.config_checks import activation, check_keys, one_of, positive, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, EXECUTION, Section
from xmflow_jax.weights.rules import AS_IS, VECTOR, Rule, linear
from xmflow_jax.weights.rules import Path as ParameterPath
from xmflow_jax.weights.text_decoder import check_theta, read_rotary, written_scaling

GEMMA: Final = "gemma"
GEMMA_2: Final = "gemma2"
GEMMA_3: Final = "gemma3_text"

_SLIDING: Final = "sliding_attention"
_FULL: Final = "full_attention"
_TANH: Final = "gelu_pytorch_tanh"

_READ: Final = frozenset(
    {
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "tie_word_embeddings",
        "vocab_size",
    }
)
_ALTERNATING: Final = _READ | {"hidden_activation", "layer_types", "query_pre_attn_scalar", "sliding_window"}
_SOFTCAPS: Final = ("attn_logit_softcapping", "final_logit_softcapping")
_FIXED: Final = {**COMMON_FIXED, "attention_bias": (False,)}
_HARMLESS: Final = {
    **COMMON_HARMLESS,
    "cache_implementation": EXECUTION,
    "num_image_tokens": "image positions follow from the tower's sizes",
    "_sliding_window_pattern": "layer_types, beside which transformers writes it, say the same",
}

# By type: keys read, keys with one of few values.
_KEYS: Final[Mapping[str, tuple[frozenset[str], Mapping[str, Any]]]] = {
    # Gemma's class reads hidden_act alone.
    GEMMA: (_READ | {"hidden_act"}, {**_FIXED, "hidden_activation": (None, _TANH)}),
    # The other two's read hidden_activation alone.
    GEMMA_2: (_ALTERNATING | set(_SOFTCAPS), {**_FIXED, "hidden_act": (_TANH,)}),
    GEMMA_3: (
        _ALTERNATING | {"rope_local_base_freq", "sliding_window_pattern"},
        {**_FIXED, "hidden_act": (_TANH,), **dict.fromkeys(_SOFTCAPS, (None,))},
    ),
}


def check_gemma(path: Path, name: str, part: Any, types: Sequence[str], both_ways: Sequence[bool | None]) -> None:
    """Refuse a decoder of another type, a key that no table names, and a value that is not computed here.

    Args:
        path: of config.json, for messages.
        name: under which the decoder's part stands in the file.
        part: that part.
        types: those that the family reads; a part that names none is of the first.
        both_ways: what `use_bidirectional_attention` may say in this family, whose prompts tell what sees what.

    Raises:
        CheckpointError: one of these.
    """
    told = part.get("model_type", types[0]) if isinstance(part, Mapping) else types[0]
    kind = one_of(path, f"{name}.model_type", told, {one: one for one in types})
    read, fixed = _KEYS[kind]
    fixed = {**fixed, "use_bidirectional_attention": tuple(both_ways)}
    check_keys(path, Section(name, read, fixed, _HARMLESS), part, kind)
    check_theta(path, name, part)


def read_gemma(path: Path, name: str, filled: Any, *, tied: bool) -> GemmaConfig:
    """A decoder's configuration from transformers' object of its type, whose defaults are filled in.

    Args:
        path, name: as of `check_gemma`, which comes before.
        tied: whether the head is the embedding; each family has its own rule for that.

    Raises:
        CheckpointError: a value that is not computed here.
    """

    def count(key: str) -> int:
        return size(path, f"{name}.{key}", getattr(filled, key))

    heads, kv_heads = count("num_attention_heads"), count("num_key_value_heads")
    if heads % kv_heads:
        raise CheckpointError(
            f"{path}: {name}.num_key_value_heads is {kv_heads}; it must divide num_attention_heads, {heads}"
        )
    kind, layers = filled.model_type, count("num_hidden_layers")
    own = {} if kind == GEMMA else _alternating(path, name, filled, layers)
    rotary = filled.rope_parameters
    if kind == GEMMA_3:
        rotary = (rotary or {}).get(_FULL)
        own["sliding_theta"] = _sliding_theta(path, name, filled.rope_parameters)
    theta, scaling = read_rotary(path, name, rotary)
    act = "hidden_act" if kind == GEMMA else "hidden_activation"
    return GemmaConfig(
        vocabulary=count("vocab_size"),
        width=count("hidden_size"),
        mlp_width=count("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=count("head_dim"),
        query_scalar=count("head_dim" if kind == GEMMA else "query_pre_attn_scalar"),
        norm_eps=positive(path, f"{name}.rms_norm_eps", filled.rms_norm_eps),
        rope_theta=theta,
        rope_scaling=scaling,
        activation=activation(path, f"{name}.{act}", getattr(filled, act)),
        tied=tied,
        positions=count("max_position_embeddings"),
        model_type=kind,
        **own,
    )


def _alternating(path: Path, name: str, filled: Any, layers: int) -> dict[str, Any]:
    """What Gemma 2 and 3 have beside Gemma: norms, sliding layers, bounds of logits."""
    kinds = list(filled.layer_types or ())
    if set(kinds) - {_SLIDING, _FULL} or len(kinds) != layers:
        raise CheckpointError(
            f"{path}: {name}.layer_types is {filled.layer_types!r}; supported: {_SLIDING!r} or {_FULL!r} for each of "
            f"{layers} layers"
        )
    sliding = tuple(kind == _SLIDING for kind in kinds)
    softcap, final_softcap = (
        None if getattr(filled, key) is None else positive(path, f"{name}.{key}", getattr(filled, key))
        for key in _SOFTCAPS
    )
    return {
        "sliding": sliding if any(sliding) else (),
        "span": size(path, f"{name}.sliding_window", filled.sliding_window) if any(sliding) else None,
        "softcap": softcap,
        "final_softcap": final_softcap,
        "outer_norms": True,
        "head_norms": filled.model_type == GEMMA_3,
        "strict": filled.model_type == GEMMA_3 and any(sliding),
    }


def _sliding_theta(path: Path, name: str, parameters: Any) -> float:
    """The rotary base of Gemma 3's sliding layers, whose frequencies are never scaled."""
    theta, scaling = read_rotary(path, f"{name} ({_SLIDING})", (parameters or {}).get(_SLIDING))
    if scaling is not None:
        raise CheckpointError(f"{path}: {name}'s rotary type of {_SLIDING} is {scaling.kind!r}; supported: 'default'")
    return theta


def write_gemma(text: GemmaConfig) -> dict[str, Any]:
    """The decoder's part of `config.json`; `read_gemma` is its inverse."""
    content: dict[str, Any] = {
        "model_type": text.model_type,
        "vocab_size": text.vocabulary,
        "hidden_size": text.width,
        "intermediate_size": text.mlp_width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "head_dim": text.head_width,
        "rms_norm_eps": text.norm_eps,
        "rope_theta": text.rope_theta,
        "max_position_embeddings": text.positions,
        "tie_word_embeddings": text.tied,
    }
    if text.model_type == GEMMA:
        return {**content, "hidden_act": text.activation, **_written_scaling(text.rope_scaling)}
    content |= {
        "hidden_activation": text.activation,
        "query_pre_attn_scalar": text.query_scalar,
        "sliding_window": text.span,
        "layer_types": [_SLIDING if slides else _FULL for slides in text.sliding or (False,) * text.layers],
    }
    if text.model_type == GEMMA_2:
        content |= dict(zip(_SOFTCAPS, (text.softcap, text.final_softcap), strict=True))
    else:
        content["rope_local_base_freq"] = text.sliding_theta
    return content | _written_scaling(text.rope_scaling)


def _written_scaling(scaling: RotaryScaling | None) -> dict[str, Any]:
    return {} if scaling is None else {"rope_scaling": written_scaling(scaling)}


def gemma_rules(text: GemmaConfig, model: str = "language_model", head: str = "lm_head") -> Iterator[Rule]:
    """The rules of all of a decoder's parameters.

    Args:
        model: what the decoder's canonical names begin with, without the last dot, and its name in the NNX state.
        head: what the head's begin with.
    """
    layers, block, ours = text.layers, f"{model}.layers.*", (model, "layers")
    yield Rule(f"{model}.embed_tokens.weight", (model, "embed_tokens", "embedding"), AS_IS)
    yield gemma_norm(f"{model}.norm", (model, "norm"))
    outer = ("pre_feedforward", "post_feedforward") if text.outer_norms else ()
    for name in ("input", "post_attention", *outer):
        yield gemma_norm(f"{block}.{name}_layernorm", (*ours, f"{name}_layernorm"), layers)
    for name in ("q_norm", "k_norm") if text.head_norms else ():
        yield gemma_norm(f"{block}.self_attn.{name}", (*ours, "self_attn", name), layers)
    for part, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down"))):
        for name in names:
            yield from linear(f"{block}.{part}.{name}_proj", (*ours, part, f"{name}_proj"), layers, bias=False)
    if not text.tied:
        yield from linear(head, (model, "lm_head"), bias=False)


def gemma_norm(published: str, path: ParameterPath, layers: int = 0) -> Rule:
    """A norm of Gemma's (`nn.gemma.GemmaNorm`)."""
    return Rule(f"{published}.weight", (*path, "offset"), VECTOR, layers)

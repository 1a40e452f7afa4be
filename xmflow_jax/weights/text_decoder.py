"""A text decoder of Llama's form, of any family: its part of `config.json`, read by its own type and written, and its
tensors. Llama, Mistral (with its sliding window), Qwen2 (with its biases) and Qwen3 (with norms of each head's queries
and keys) share the form.

What the file leaves out, transformers' class of that type fills in: Mistral slides unless it says null.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.rotary import LINEAR, LLAMA_3, RotaryScaling
from xmflow_jax.weights.config_checks import activation, check_keys, layer_count, one_of, positive, shown, size
from xmflow_jax.weights.config_sections import COMMON_FIXED, COMMON_HARMLESS, Section
from xmflow_jax.weights.rules import AS_IS, Rule, linear, norm

LLAMA: Final = "llama"
MISTRAL: Final = "mistral"
QWEN2: Final = "qwen2"
QWEN3: Final = "qwen3"

_READ: Final = frozenset(
    {
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "partial_rotary_factor",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "tie_word_embeddings",
        "vocab_size",
    }
)
_NO_BIAS: Final = {**COMMON_FIXED, "attention_bias": (False,), "mlp_bias": (False,)}
_WINDOW_OFF: Final = {
    **COMMON_HARMLESS,
    **dict.fromkeys(
        ("sliding_window", "max_window_layers"), "of a sliding window, which use_sliding_window switches off"
    ),
}

# By type: keys read, keys with one of few values, and harmless ones.
_KEYS: Final[Mapping[str, tuple[frozenset[str], Mapping[str, Any], Mapping[str, str]]]] = {
    LLAMA: (
        _READ,
        {**_NO_BIAS, "sliding_window": (None,)},
        {**COMMON_HARMLESS, "pretraining_tp": "how pretraining split the matrices; the products are the same"},
    ),
    MISTRAL: (_READ | {"sliding_window"}, _NO_BIAS, COMMON_HARMLESS),
    QWEN2: (_READ | {"layer_types"}, {**COMMON_FIXED, "use_sliding_window": (False,)}, _WINDOW_OFF),
    QWEN3: (_READ | {"layer_types"}, {**_NO_BIAS, "use_sliding_window": (False,)}, _WINDOW_OFF),
}
# Those that LLaVA's descendants have.
TYPES: Final = (LLAMA, MISTRAL, QWEN2)
LLAMA_KEYS: Final = _KEYS[LLAMA]
# Of decoders that are Qwen2's, or Qwen3's, in all but their positions.
QWEN2_KEYS: Final = _KEYS[QWEN2]
QWEN3_KEYS: Final = (_READ, _NO_BIAS, COMMON_HARMLESS)

# The settings of each kind of rotary scaling, by their names here.
_SCALINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    LINEAR: {"factor": "factor"},
    LLAMA_3: {
        "factor": "factor",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
        "original": "original_max_position_embeddings",
    },
}
# 1.0 rotates the whole head, which is what is computed.
_PLAIN_ROTARY: Final = {"partial_rotary_factor": 1.0}


def check_text(path: Path, name: str, part: Any, usual: str = LLAMA, supported: Sequence[str] = TYPES) -> None:
    """Refuse a decoder of another type, a key that no table names, and a value that is not computed here.

    Args:
        path: of config.json, for messages.
        name: under which the decoder's part stands in the file.
        part: that part.
        usual: the type of a part that names none.
        supported: the types that the family reads.

    Raises:
        CheckpointError: one of these.
    """
    told = part.get("model_type", usual) if isinstance(part, Mapping) else usual
    kind = one_of(path, f"{name}.model_type", told, {one: one for one in supported})
    check_keys(path, Section(name, *_KEYS[kind]), part, kind)
    check_theta(path, name, part)


def check_theta(path: Path, name: str, part: Mapping[str, Any]) -> None:
    """Refuse a decoder's part that names two rotary bases.

    Raises:
        CheckpointError: it does.
    """
    for key in ("rope_parameters", "rope_scaling"):
        settings = part.get(key)
        if settings is not None and not isinstance(settings, Mapping):
            raise CheckpointError(f"{path}: {name}.{key} is {shown(settings)}; expected an object")
        theta = (settings or {}).get("rope_theta")
        if theta is not None and part.get("rope_theta", theta) != theta:
            raise CheckpointError(
                f"{path}: {name}.rope_theta is {shown(part['rope_theta'])} and {name}.{key} says {shown(theta)}; "
                "they must agree"
            )


def read_text(path: Path, name: str, filled: Any, *, tied: bool) -> LlamaConfig:
    """A decoder's configuration from transformers' object of its type, whose defaults are filled in.

    Args:
        path, name: as of `check_text`, which comes before.
        tied: whether the head is the embedding; each family has its own rule for that.

    Raises:
        CheckpointError: a value that is not computed here.
    """
    heads = size(path, f"{name}.num_attention_heads", filled.num_attention_heads)
    kv_heads = size(path, f"{name}.num_key_value_heads", filled.num_key_value_heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"{path}: {name}.num_key_value_heads is {kv_heads}; it must divide num_attention_heads, {heads}"
        )
    width = size(path, f"{name}.hidden_size", filled.hidden_size)
    theta, scaling = read_rotary(path, name, filled.rope_parameters)
    if set(getattr(filled, "layer_types", None) or ()) - {"full_attention"}:
        raise CheckpointError(
            f"{path}: {name}.layer_types is {shown(filled.layer_types)}; supported: 'full_attention' in every layer"
        )
    # Qwen2's class has no such field, and its model takes one all the same.
    head_width = getattr(filled, "head_dim", None)
    return LlamaConfig(
        vocabulary=size(path, f"{name}.vocab_size", filled.vocab_size),
        width=width,
        mlp_width=size(path, f"{name}.intermediate_size", filled.intermediate_size),
        layers=layer_count(path, f"{name}.num_hidden_layers", filled.num_hidden_layers),
        heads=heads,
        kv_heads=kv_heads,
        head_width=size(path, f"{name}.head_dim", width // heads if head_width is None else head_width),
        norm_eps=positive(path, f"{name}.rms_norm_eps", filled.rms_norm_eps),
        rope_theta=theta,
        activation=activation(path, f"{name}.hidden_act", filled.hidden_act),
        tied=tied,
        positions=size(path, f"{name}.max_position_embeddings", filled.max_position_embeddings),
        model_type=filled.model_type,
        rope_scaling=scaling,
        qkv_bias=filled.model_type == QWEN2,
        head_norms=filled.model_type == QWEN3,
        span=_span(path, name, filled) if filled.model_type == MISTRAL else None,
    )


def _span(path: Path, name: str, filled: Any) -> int | None:
    return None if filled.sliding_window is None else size(path, f"{name}.sliding_window", filled.sliding_window)


def read_rotary(path: Path, name: str, parameters: Any) -> tuple[float, RotaryScaling | None]:
    """The rotary base, and the scaling of the frequencies.

    Args:
        path, name: as of `check_text`.
        parameters: as transformers' configuration objects hold them.

    Raises:
        CheckpointError: a kind that is not computed here, or settings that do not belong to it.
    """
    settings = dict(parameters or {})
    kind = settings.pop("rope_type", None) or settings.get("type", "default")
    settings.pop("type", None)
    if not isinstance(kind, str) or kind not in _SCALINGS:
        supported = ", ".join(map(repr, _SCALINGS))
        raise CheckpointError(f"{path}: {name}'s rotary type is {shown(kind)}; supported: {supported}")
    theta = positive(path, f"{name}.rope_theta", settings.pop("rope_theta", None))
    wanted = _SCALINGS[kind]
    plain = {key: settings.pop(key, value) for key, value in _PLAIN_ROTARY.items()}
    if plain != _PLAIN_ROTARY or settings.keys() != set(wanted.values()):
        told = ", ".join(["rope_theta", *wanted.values()])
        raise CheckpointError(f"{path}: {name}'s rotary settings are {shown(parameters)}; supported: {told} alone")
    if kind == "default":
        return theta, None
    numbers = {ours: positive(path, f"{name}'s rotary {key}", settings[key]) for ours, key in wanted.items()}
    if kind == LLAMA_3:
        numbers["original"] = size(path, f"{name}'s rotary {wanted['original']}", settings[wanted["original"]])
        if numbers["low"] >= numbers["high"]:
            raise CheckpointError(
                f"{path}: {name}'s rotary settings are {shown(parameters)}; low_freq_factor must be below "
                "high_freq_factor"
            )
    return theta, RotaryScaling(kind, **numbers)  # type: ignore[arg-type]


def write_text(text: LlamaConfig) -> dict[str, Any]:
    """The decoder's part of `config.json`; `read_text` is its inverse."""
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
        "hidden_act": text.activation,
        "max_position_embeddings": text.positions,
        "tie_word_embeddings": text.tied,
    }
    if text.model_type == MISTRAL:
        content["sliding_window"] = text.span
    if text.rope_scaling is not None:
        content["rope_scaling"] = written_scaling(text.rope_scaling)
    return content


def written_scaling(scaling: RotaryScaling) -> dict[str, Any]:
    """A rotary scaling as `config.json` spells it; `read_rotary` is its inverse."""
    own = {key: getattr(scaling, ours) for ours, key in _SCALINGS[scaling.kind].items()}
    return {"rope_type": scaling.kind, **own}


def text_rules(text: LlamaConfig, model: str = "language_model", head: str = "lm_head") -> Iterator[Rule]:
    """The rules of all of a decoder's parameters.

    Args:
        model: what the decoder's canonical names begin with, without the last dot, and its name in the NNX state.
        head: what the head's begin with.
    """
    layers, block = text.layers, f"{model}.layers.*"
    yield Rule(f"{model}.embed_tokens.weight", (model, "embed_tokens", "embedding"), AS_IS)
    yield from norm(f"{model}.norm", (model, "norm"), bias=False)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield from norm(f"{block}.{name}", (model, "layers", name), layers, bias=False)
    for part, name in [
        *(("self_attn", f"{name}_proj") for name in "qkvo"),
        *(("mlp", f"{name}_proj") for name in ("gate", "up", "down")),
    ]:
        bias = text.qkv_bias and name in ("q_proj", "k_proj", "v_proj")
        yield from linear(f"{block}.{part}.{name}", (model, "layers", part, name), layers, bias=bias)
    for name in ("q_norm", "k_norm") if text.head_norms else ():
        yield from norm(f"{block}.self_attn.{name}", (model, "layers", "self_attn", name), layers, bias=False)
    if not text.tied:
        yield from linear(head, (model, "lm_head"), bias=False)

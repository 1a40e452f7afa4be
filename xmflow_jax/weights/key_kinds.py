"""What a key of `config.json` is about, told by its name and by what its value looks like.

Trainers and people write keys of their own into a file. Some are plainly about where the file comes from, about a
trainer's work, or about how attention is executed: no computation depends on them, whoever invented them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from xmflow_jax.weights.config_sections import EXECUTION, GENERATION, TRAINING

ORIGIN: Final = "where the file comes from"
RIGHTS: Final = "words about rights"
VERSION: Final = "the version of a tool"
TRAINER: Final = "a trainer's note of its own work"

# A name with one of these words may be about the computation, whatever else it looks like.
_COMPUTATION: Final = re.compile(
    r"quant|bits|rope|rotary|scal(e|ing)|norm|mask|window|cap(ping|s)?(_|$)|bias|head|layer|attention|attn|expert|moe"
    r"|adapter|lora|prun|sparse|merge|activation|hidden_act|position|embed|projector|tower|arch"
)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, list) and all(map(_text, value)))


def _version(value: Any) -> bool:
    return value is None or (isinstance(value, str) and re.match(r"v?\d+\.\d", value) is not None)


def _implementation(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else [value]
    return all(one is None or isinstance(one, str) for one in parts)


def _switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


@dataclass(frozen=True)
class Rule:
    """Keys of one kind, by their names and by what values of that kind look like.

    Attributes:
        name: pattern of the whole name, lower case, without underscores at its ends.
        value: whether a value is of this kind; another one makes the key unknown again.
        why: the key does not matter.
        sure: the name says it all, even where it holds a word of the computation's.
    """

    name: str
    value: Callable[[Any], bool]
    why: str
    sure: bool = False


_RULES: Final = (
    Rule(r"(\w+_)?version", _version, VERSION),
    Rule(r"(\w+_)?name_or_path|model_(name|id)|base_model(_\w+)?", _text, ORIGIN),
    Rule(r"(\w+_)?(commit|commit_hash|revision)", _text, ORIGIN),
    Rule(r"authors?|citation|comments?|contact|credits|description|notes?|organi[sz]ation|publisher", _text, ORIGIN),
    Rule(r"homepage|language|library_name|pipeline_tag|repo(sitory|_id)?|source|tags|url|website", _text, ORIGIN),
    Rule(r"date|timestamp|trained_by|(created|updated)(_\w+)?", _text, ORIGIN),
    Rule(r"(\w+_)?(licen[cs]e(_\w+)?|copyright(_\w+)?|terms_of_use|usage_policy|disclaimer)", _text, RIGHTS),
    Rule(r"attn_implementation(_\w+)?", _implementation, EXECUTION, sure=True),
    Rule(
        r"(use_)?(flash|sdpa|xformers|memory_efficient|mem_efficient)(_attn|_attention)?(_?[23])?(_enabled)?",
        _switch,
        EXECUTION,
        sure=True,
    ),
    Rule(r"(enable_|use_)?(torch_compile|compile|jit|gradient_checkpointing)(_\w+)?", _plain, EXECUTION),
    Rule(r"keys_to_ignore_at_inference|no_split_modules|low_cpu_mem_usage|device_map|device", _text, EXECUTION),
    Rule(r"(unsloth|axolotl|llama_?factory|swift|trl|deepspeed|fsdp|megatron)_\w+", _plain, TRAINER),
    Rule(r"(wandb|mlflow)_\w+", _plain, TRAINER),
    Rule(r"(\w+_)?(learning_rate|lr|weight_decay|warmup_(steps|ratio))", _plain, TRAINING, sure=True),
    Rule(r"(\w+_)?(train_batch_size|num_train_epochs)", _plain, TRAINING, sure=True),
    Rule(r"((un)?freeze|tune)_\w+|(\w+_)?(frozen|trainable)", _switch, TRAINING, sure=True),
    Rule(r"(\w+_)?(dropout|dropout_prob|dropout_rate|drop_path_rate|layerdrop|pdrop)", _plain, TRAINING, sure=True),
    Rule(r"(\w+_)?loss(_\w+)?|label_smoothing(_\w+)?", _plain, TRAINING),
    Rule(r"(\w+_)?initializer_(range|factor|std)|init_std", _plain, TRAINING),
)

# Words about rights are no setting, whatever name they stand under.
_RIGHTS_TEXT: Final = re.compile(r"\s*(©|\(c\)|copyright\b|licen[cs]ed under\b|spdx-licen[cs]e)", re.IGNORECASE)


def why_no_computation(key: str, value: Any) -> str | None:
    """Why a key of this name with this value is no part of a computation; None where it could be one."""
    if isinstance(value, str) and _RIGHTS_TEXT.match(value):
        return RIGHTS
    name = key.lower().strip("_")
    for rule in _RULES:
        if re.fullmatch(rule.name, name) and rule.value(value) and (rule.sure or not _COMPUTATION.search(name)):
            return rule.why
    return GENERATION if key in _generation_keys() else None


@cache
def _generation_keys() -> frozenset[str]:
    """Settings of text generation that transformers' own class lists."""
    from transformers import GenerationConfig

    return frozenset(GenerationConfig().to_dict())

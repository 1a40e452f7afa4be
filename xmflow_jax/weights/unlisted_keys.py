"""Keys of `config.json` that no table of a family names, sorted by what they could do to a computation.

A family's tables (`config_sections`) say what becomes of the keys that transformers writes. Files hold others: trainers
and people add to them. Three kinds of those cannot change what is computed and are passed over, each with its reason:

- copies: a key beside the parts that repeats a part's value (`hidden_size` beside `text_config.hidden_size`), or a
  part's own key under the name that its class knows it by as well. They must agree; one that stands alone is read.
- origin: who made the file, from what, with which versions, under which licence (`key_kinds`).
- tooling: how a trainer ran, how attention is executed, how text would be generated (`key_kinds`).

Whatever is left could switch on a computation that is not understood. It is refused, unless a person vouches for it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.weights.config_checks import KeysNotUnderstood, quiet_library, shown
from xmflow_jax.weights.key_kinds import why_no_computation
from xmflow_jax.weights.published import ModelConfig


@dataclass(frozen=True)
class ReadKeys:
    """A family's configuration, and which keys of the file have no part in it.

    Attributes:
        config: the family's own.
        passed_over: keys that cannot change the computation, `part.key`, and why.
        vouched: values of the keys that a person vouched for.
    """

    config: ModelConfig
    passed_over: Mapping[str, str]
    vouched: Mapping[str, Any]


def read_keys(
    path: Path,
    published: Mapping[str, Any],
    read: Callable[[Path, Mapping[str, Any]], ModelConfig],
    vouched: Iterable[str] = (),
) -> ReadKeys:
    """A family's configuration from a file that may hold keys beside those of the family's tables.

    Args:
        path: of config.json, for messages.
        published: its content.
        read: the family's `read_config`.
        vouched: keys, `part.key`, that a person takes responsibility for: they are passed over.

    Raises:
        CheckpointError: what `read` refuses; a copy differs from what it is a copy of; a key could matter.
        OptionError: a vouched key is not there, or is understood as it is.
    """
    content, asked = copy.deepcopy(dict(published)), tuple(dict.fromkeys(vouched))
    passed: dict[str, str] = {}
    taken: dict[str, Any] = {}
    while True:
        try:
            config = read(path, content)
            break
        except KeysNotUnderstood as error:
            part = content[error.part] if error.part else content
            settled = False
            for key, value in error.values.items():
                name = f"{error.part}.{key}" if error.part else key
                if name in asked:
                    taken[name] = value
                elif (why := _why_harmless(path, published, error.part, key, part)) is not None:
                    passed[name] = why
                else:
                    continue
                del part[key]
                settled = True
            if not settled:
                raise
    for name in asked:
        if name not in taken:
            found = "is understood as it is; leave the option out" if _holds(published, name) else "is not there"
            raise OptionError(f"--vouch {name}: in {path} this key {found}")
    return ReadKeys(config, MappingProxyType(passed), MappingProxyType(taken))


def _holds(published: Mapping[str, Any], name: str) -> bool:
    part, dot, key = name.rpartition(".")
    inner = published.get(part) if dot else published
    return name in published or (isinstance(inner, Mapping) and key in inner)


def _why_harmless(path: Path, published: Mapping[str, Any], part: str, key: str, content: dict[str, Any]) -> str | None:
    """Why a key cannot change the computation; None where it could.

    Where it is a copy of a value that the part leaves out, the part gets that value.
    """
    why = why_no_computation(key, content[key])
    if why is not None:
        return why
    return _copy_beside(path, published, key) if not part else _other_name(path, published, part, key, content)


def _copy_beside(path: Path, published: Mapping[str, Any], key: str) -> str | None:
    """What a key beside the parts is a copy of: the text part's value comes first, then any other part's."""
    filled = _filled(published.get("model_type"), published)
    parts = [name for name, value in published.items() if isinstance(value, Mapping) and name != key]
    for part in sorted(parts, key=lambda name: name not in ("text_config", "decoder")):
        held, own = published[part], getattr(filled, part, None)
        if key not in held and not _settles(own, key):
            continue
        value = held[key] if key in held else getattr(own, key)
        if published[key] != value:
            raise _disagreement(path, key, published[key], f"{part}.{key}", value)
        return f"a copy of {part}.{key}"
    return None


def _other_name(path: Path, published: Mapping[str, Any], part: str, key: str, content: dict[str, Any]) -> str | None:
    """What a part's key is another name of, by the names that transformers' class takes: GPT-2's `hidden_size`."""
    filled = getattr(_filled(published.get("model_type"), published), part, None)
    name = getattr(filled, "attribute_map", {}).get(key)
    if name is None:
        return None
    if content.setdefault(name, content[key]) != content[key]:
        raise _disagreement(path, f"{part}.{key}", content[key], f"{part}.{name}", content[name])
    return f"another name of {part}.{name}"


def _disagreement(path: Path, key: str, value: Any, of: str, own: Any) -> CheckpointError:
    return CheckpointError(
        f"{path}: {key} is {shown(value)} and {of} is {shown(own)}; they must agree; correct the one that is wrong, "
        f"or have {of} alone count with --vouch {key}"
    )


def _settles(filled: Any, key: str) -> bool:
    """Whether a part's class has a setting of this name, and not a method or a property of its own."""
    return key in getattr(filled, "__dict__", {}) or key in getattr(filled, "attribute_map", {})


def _filled(model_type: Any, published: Mapping[str, Any]) -> Any:
    """transformers' configuration of this file, defaults filled in; None where it has no class or refuses the file."""
    # Imported here because transformers takes seconds to import.
    from transformers import CONFIG_MAPPING

    try:
        with quiet_library():
            return CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(published)))
    # Its validators raise errors of every kind; what is wrong with the file is told by those who read it.
    except Exception:
        return None

"""Checks of a published configuration that all families share: every key known, every value one that is computed here.

`config.json` of a published checkpoint leaves out what equals a default, so transformers' own configuration classes
fill it in; they work without PyTorch. `config_sections` says what becomes of each key.
"""

import copy
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.layers import ACTIVATIONS
from xmflow_jax.weights.config_sections import Section

# Most letters of a value that stands in a message; values can be whole tables.
SHOWN = 60


class KeysNotUnderstood(CheckpointError):
    """Keys of one part of config.json that none of its tables names.

    Attributes:
        part: the part's key in the file; empty for the outermost one.
        values: of all such keys of the part.
    """

    def __init__(self, message: str, part: str, values: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.part, self.values = part, values


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    return shorten(repr(value), SHOWN, placeholder=" ...") if len(repr(value)) > SHOWN else repr(value)


def check_keys(path: Path, section: Section, part: Any, supported: str) -> None:
    """Refuse another architecture, a key that no table names, and a value that is not computed here.

    Raises:
        KeysNotUnderstood: nothing but keys that no table names; `unlisted_keys` sorts them.
        CheckpointError: anything else.
    """
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{path}: {section.name} is {part!r}; expected an object")
    prefix = f"{section.name}." if section.name else ""
    # A part without a type takes the class's default, which is the supported one; the whole must name its own.
    found = part.get("model_type", supported if section.name else None)
    if found != supported:
        raise CheckpointError(f"{path}: {prefix}model_type is {found!r}; supported: {supported!r}")
    for key in sorted(part.keys() & section.fixed.keys()):
        if part[key] not in section.fixed[key]:
            supported_values = " or ".join(repr(value) for value in section.fixed[key])
            raise CheckpointError(f"{path}: {prefix}{key} is {part[key]!r}; supported: {supported_values}")
    known = section.read | section.fixed.keys() | section.harmless.keys()
    unknown = sorted(part.keys() - known)
    if unknown:
        named = ", ".join(f"{prefix}{key} = {shown(part[key])}" for key in unknown[:4])
        vouch = " ".join(f"--vouch {shlex.quote(f'{prefix}{key}')}" for key in unknown[:4])
        raise KeysNotUnderstood(
            f"{path}: {len(unknown)} field(s) not understood: {named}; "
            f"if you know that the model computes the same without, say so with {vouch}",
            section.name,
            {key: part[key] for key in unknown},
        )


def fill_defaults(path: Path, published: Mapping[str, Any], class_name: str) -> Any:
    """transformers' configuration object of this class for (a part of) this file."""
    # An advice that PyTorch is missing would be the only thing that a run prints about it; nothing here needs it.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # Imported here because transformers takes seconds to import.
    import transformers

    try:
        # A copy, because the class writes into the rotary settings that it is given.
        return getattr(transformers, class_name).from_dict(copy.deepcopy(dict(published)))
    # Its validators raise errors of many kinds: their own, KeyError, ValueError, ZeroDivisionError and more.
    except Exception as error:
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{path} is refused by transformers' {class_name}: {reason}") from None


def activation(path: Path, key: str, value: Any) -> str:
    return one_of(path, key, value, {name: name for name in ACTIVATIONS})


def one_of(path: Path, key: str, value: Any, supported: Mapping[str, Any]) -> Any:
    """What a name stands for."""
    if not isinstance(value, str) or value not in supported:
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: {', '.join(map(repr, supported))}")
    return supported[value]


def size(path: Path, key: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        bound = f"an integer from {least}" + (" up" if most is None else f" to {most}")
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: {bound}")
    return value


def positive(path: Path, key: str, value: Any) -> float:
    """A positive finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise CheckpointError(f"{path}: {key} is {value!r}; supported: a positive number")
    return float(value)

"""Checks of a published configuration that all families share: every key known, every value one that is computed here.

`config.json` of a published checkpoint leaves out what equals a default, so transformers' own configuration classes
fill it in; they work without PyTorch. `config_sections` says what becomes of each key.
"""

import copy
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from xmflow_jax.errors import CheckpointError
from xmflow_jax.nn.layers import ACTIVATIONS
from xmflow_jax.weights.config_sections import Section

# More than any model has of anything, and of layers, whose tensors are listed by name.
MOST = 10**8
MOST_LAYERS = 10**4

# Most letters of a value that stands in a message; values can be whole tables.
SHOWN = 60
LONGEST_KEY = 200


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
    told = repr(value)
    return told if len(told) <= SHOWN else f"{told[: SHOWN - 4]} ..."


def spelt(key: str) -> str:
    """A key for a message or a line: what would move a terminal's cursor, or has no letters at all, is spelt out.

    One that is longer than any setting's name is cut.
    """
    told = key if key.isprintable() else repr(key)[1:-1]
    return told if len(told) <= LONGEST_KEY else f"{told[:SHOWN]} ..."


def check_keys(path: Path, section: Section, part: Any, supported: str) -> None:
    """Refuse another architecture, a key that no table names, and a value that is not computed here.

    Raises:
        KeysNotUnderstood: nothing but keys that no table names; `unlisted_keys` sorts them.
        CheckpointError: anything else.
    """
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{path}: {section.name} is {shown(part)}; expected an object")
    prefix = f"{section.name}." if section.name else ""
    # A part without a type takes the class's default, which is the supported one; the whole must name its own.
    found = part.get("model_type", supported if section.name else None)
    if found != supported:
        raise CheckpointError(f"{path}: {prefix}model_type is {shown(found)}; supported: {supported!r}")
    for key in sorted(part.keys() & section.fixed.keys()):
        if part[key] not in section.fixed[key]:
            supported_values = " or ".join(repr(value) for value in section.fixed[key])
            raise CheckpointError(f"{path}: {prefix}{key} is {shown(part[key])}; supported: {supported_values}")
    known = section.read | section.fixed.keys() | section.harmless.keys()
    unknown = sorted(part.keys() - known)
    if unknown:
        named = ", ".join(f"{prefix}{spelt(key)} = {shown(part[key])}" for key in unknown[:4])
        vouch = " ".join(f"--vouch {shlex.quote(spelt(f'{prefix}{key}'))}" for key in unknown[:4])
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
        with quiet_library():
            # A copy, because the class writes into the rotary settings that it is given.
            return getattr(transformers, class_name).from_dict(copy.deepcopy(dict(published)))
    # Its validators raise errors of many kinds: their own, KeyError, ValueError, ZeroDivisionError and more.
    except Exception as error:
        reason = shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{path} is refused by transformers' {class_name}: {reason}") from None


@contextmanager
def quiet_library() -> Iterator[None]:
    """Within this, transformers' configurations print no advice, mostly of token ids that nothing here reads."""
    from transformers import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def activation(path: Path, key: str, value: Any) -> str:
    return one_of(path, key, value, {name: name for name in ACTIVATIONS})


def one_of(path: Path, key: str, value: Any, supported: Mapping[str, Any]) -> Any:
    """What a name stands for."""
    if not isinstance(value, str) or value not in supported:
        raise CheckpointError(f"{path}: {key} is {shown(value)}; supported: {', '.join(map(repr, supported))}")
    return supported[value]


def size(path: Path, key: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and most is None and value > MOST:
        most = MOST
    if not whole or value < least or (most is not None and value > most):
        bound = f"an integer from {least}" + (" up" if most is None else f" to {most}")
        raise CheckpointError(f"{path}: {key} is {shown(value)}; supported: {bound}")
    return value


def layer_count(path: Path, key: str, value: Any) -> int:
    """A number of layers."""
    return size(path, key, value, most=MOST_LAYERS)


def positive(path: Path, key: str, value: Any) -> float:
    """A positive number of those that float32 holds, in which it is computed with."""
    least, most = (float(one) for one in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        raise CheckpointError(f"{path}: {key} is {shown(value)}; supported: a positive number that float32 holds")
    return float(value)

"""What a model family provides: one frozen record, which everything else asks instead of a family by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xmflow_jax.machine.partitioning import Partitioning
from xmflow_jax.nn.interfaces import Anatomy
from xmflow_jax.weights.published import ModelConfig
from xmflow_jax.weights.rules import KeyTable


@dataclass(frozen=True, eq=False)
class Family:
    """One family of models, whatever their sizes.

    Attributes:
        model_type: as `config.json` names it.
        read_config: (path of config.json, for messages; its content) -> the configuration, a frozen dataclass of the
            family's own. Every key is read, has one of a few values, or is known to be harmless; anything else raises
            `CheckpointError`.
        write_config: (configuration, dtype of the stored tensors) -> the content of config.json; the inverse.
        build: (configuration, dtype=, rngs=) -> the module (`nn.interfaces.Model`) with fresh parameters.
        keys: configuration -> the tensors of its checkpoints, their names and layouts.
        partitioning: configuration -> which parameters may be spread over devices, and in how many units.
        anatomy: configuration -> the model's stacks and sites as data, and its limits.
        tiny: a configuration of a few thousand parameters, for tests of any family.
        presets: by name, models that are made on the spot with random weights: called with the tokenizer's
            `vocabulary` and the number of `layers` wanted, each gives a configuration.
    """

    model_type: str
    read_config: Callable[[Path, Mapping[str, Any]], ModelConfig]
    write_config: Callable[[ModelConfig, str], dict[str, Any]]
    build: Callable[..., Any]
    keys: Callable[[ModelConfig], KeyTable]
    partitioning: Callable[[ModelConfig], Partitioning]
    anatomy: Callable[[ModelConfig], Anatomy]
    tiny: ModelConfig
    presets: Mapping[str, Callable[[int, int], ModelConfig]] = field(default_factory=lambda: MappingProxyType({}))

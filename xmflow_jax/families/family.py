"""What a model family provides: one frozen record, which everything else asks instead of a family by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int32

from xmflow_jax.data.images import ImageLayout
from xmflow_jax.data.place import Place
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.templates import Template
from xmflow_jax.machine.partitioning import Partitioning
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.nn.interfaces import Model
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
        processing: (directory, configuration) -> tokenizer and image processor, with `image_layout` and `place` of this
            configuration in them.
        image_layout: (configuration, (width, height) of an image) -> how it lies in the positions that hold it.
        place: (configuration, a prompt's tokens, the images among them) -> the prompt's position ids and blocks.
        template: (directory, configuration) -> the prompt of a checkpoint whose authors wrote none.
        tiny: a configuration of a few thousand parameters, for tests of any family.
        presets: by name, models that are made on the spot with random weights: called with the tokenizer's
            `vocabulary` and the number of `layers` wanted, each gives a configuration.
    """

    model_type: str
    read_config: Callable[[Path, Mapping[str, Any]], ModelConfig]
    write_config: Callable[[ModelConfig, str], dict[str, Any]]
    build: Callable[..., Model]
    keys: Callable[[ModelConfig], KeyTable]
    partitioning: Callable[[ModelConfig], Partitioning]
    anatomy: Callable[[ModelConfig], Anatomy]
    processing: Callable[[Path, ModelConfig], Processing]
    image_layout: Callable[[ModelConfig, tuple[int, int]], ImageLayout]
    place: Callable[[ModelConfig, Int32[np.ndarray, " positions"], Sequence[ImageLayout]], Place]
    template: Callable[[Path, ModelConfig], Template]
    tiny: ModelConfig
    presets: Mapping[str, Callable[[int, int], ModelConfig]] = field(default_factory=lambda: MappingProxyType({}))

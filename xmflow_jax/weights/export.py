"""A trained model as a converted checkpoint: published configuration, Orbax parameters."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from xmflow_jax.weights import orbax
from xmflow_jax.weights.published import ModelConfig, PublishedFamily


def write_checkpoint(directory: Path, family: PublishedFamily, config: ModelConfig, state: Any) -> None:
    """Write `config.json`, parameters and marker into a directory that holds none of them.

    Args:
        state: the parameters in float32, as `nnx.split` gives them.
    """
    arrays = {tuple(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    for path, array in sorted(arrays.items()):
        digest.update(json.dumps([*path, list(array.shape)]).encode())
        digest.update(np.asarray(jax.device_get(array)).tobytes())
    text = json.dumps(family.write_config(config, "float32"), indent=2) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    orbax.save(directory, arrays, "float32", digest.hexdigest(), family.model_type)

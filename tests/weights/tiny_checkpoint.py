"""A tiny random LLaVA in Hugging Face format, and edits of it that a loader must refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.random_checkpoint import write_random

VISION = ClipVisionConfig(image_size=28, patch_size=14, width=16, mlp_width=24, layers=2, heads=2)
TEXT = LlamaConfig(vocabulary=40, width=24, mlp_width=32, layers=3, heads=4, kv_heads=2, head_width=6)
TINY = LlavaConfig(vision=VISION, text=TEXT, image_token=39)


def write_tiny(directory: Path, config: LlavaConfig = TINY, **options: Any) -> Path:
    """A checkpoint of `TINY`'s shape, or another's; options as in `write_random`."""
    write_random(directory, LLAVA, config, seed=0, **options)
    return directory


def edit_config(directory: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Let `edit` change the content of config.json."""
    path = directory / "config.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_tensors(directory: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Let `edit` change the tensors of model.safetensors."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})

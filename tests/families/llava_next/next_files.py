"""The files of tiny LLaVA-NeXT checkpoints, with and without weights."""

import json
from dataclasses import replace
from pathlib import Path

from tests.data.tiny_processing import write_tiny_processing
from tests.families.variants import NEXT
from xmflow_jax.families.llava_next.family import FAMILY
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.weights.random_checkpoint import write_random


def write_next(folder: Path, **preprocessor: object) -> LlavaNextConfig:
    """The files of a checkpoint but its weights."""
    words = write_tiny_processing(folder, with_config=False)
    config = replace(NEXT, image_token=words - 1, text=replace(NEXT.text, vocabulary=words))
    (folder / "config.json").write_text(json.dumps(FAMILY.write_config(config, "float32")))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    own = {
        "image_processor_type": "LlavaNextImageProcessor",
        "image_grid_pinpoints": [list(canvas) for canvas in config.canvases],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, **own, **preprocessor}))
    return config


def write_next_model(folder: Path) -> Path:
    """A whole checkpoint with random weights; returns `folder`."""
    folder.mkdir(parents=True)
    config = write_next(folder)
    (folder / "config.json").unlink()
    write_random(folder, FAMILY, config, seed=0)
    return folder

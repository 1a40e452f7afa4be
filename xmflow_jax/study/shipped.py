"""Models and data that a name stands for, so that the sweep runs with no arguments.

Shipped models lie beside the program. Others are made on the spot with random weights, such as `random-tiny` of a few
hundred kilobytes, and so is the data set `demo`, drawn scenes with questions of the study's six kinds. They show that
everything runs; curves of random weights mean nothing.
"""

import json
from pathlib import Path

from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.errors import OptionError
from xmflow_jax.families.registry import find_preset
from xmflow_jax.weights.random_checkpoint import write_random

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def write_image_processor(
    folder: Path,
    image_size: int,
    mean: tuple[float, float, float] = CLIP_MEAN,
    deviation: tuple[float, float, float] = CLIP_DEVIATION,
) -> None:
    """`preprocessor_config.json` of CLIP's image processor: shortest edge to `image_size` pixels, then the centre.

    Args:
        mean, deviation: of each channel, taken off and divided by; colours are 0 to 1.
    """
    square = {"height": image_size, "width": image_size}
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": image_size},
        "crop_size": square,
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "image_mean": list(mean),
        "image_std": list(deviation),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def write_preset(folder: Path, name: str, layers: int = 12, seed: int = 0) -> Path:
    """A whole checkpoint in Hugging Face format with random weights; returns `folder`.

    Args:
        folder: made if need be.
        name: of a family's preset (`Family.presets`).
        layers: of the language model, where the preset does not say itself.
    """
    family, preset = find_preset(name)
    folder.mkdir(parents=True, exist_ok=True)
    config = preset(write_demo_tokenizer(folder), layers)
    layout = family.image_layout(config, (1, 1))
    write_image_processor(folder, layout.rows * layout.side)
    write_random(folder, family, config, seed=seed)
    return folder


def write_random_tiny(folder: Path, layers: int = 12, seed: int = 0) -> Path:
    """The preset of a few hundred kilobytes, `random-tiny`; returns `folder`."""
    return write_preset(folder, "random-tiny", layers, seed)


def shipped_checkpoint(name: str) -> Path:
    """The directory of a model that ships with the program: inside the package once installed, beside it in a clone.

    Raises:
        OptionError: this installation does not hold it.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints" / name, package.parent / "checkpoints" / name):
        if folder.is_dir():
            return folder
    raise OptionError(f"the shipped model {name!r} is not part of this installation; install the package's wheel")


def write_demo(folder: Path, per_task: int = 8) -> tuple[list[Path], Path]:
    """The demonstration's question files and image folder."""
    return write_demo_questions(folder, per_task=per_task, seed=0)

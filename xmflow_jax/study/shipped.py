"""Models and data that a name stands for, so that the sweep runs with no arguments.

So far there is one of each, both made on the spot: `random-tiny`, a LLaVA of a few hundred kilobytes with random
weights, and `demo`, drawn scenes with questions of the study's six kinds. They show that everything runs; curves of
random weights mean nothing.
"""

import json
from pathlib import Path

from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.errors import OptionError
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.vision_encoder_decoder.modeling import XMFLOW_12X1024
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.weights.random_checkpoint import write_random

IMAGE_SIZE = 56
PATCH_SIZE = 14


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


def write_random_tiny(folder: Path, layers: int = 12, seed: int = 0) -> Path:
    """A whole LLaVA-1.5 checkpoint in Hugging Face format with random weights; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_demo_tokenizer(folder)
    write_image_processor(folder, IMAGE_SIZE)
    vision = ClipVisionConfig(IMAGE_SIZE, PATCH_SIZE, width=32, mlp_width=64, layers=3, heads=4)
    text = LlamaConfig(vocabulary, width=64, mlp_width=128, layers=layers, heads=4, kv_heads=4, head_width=16)
    write_random(folder, LlavaConfig(vision, text, image_token=vocabulary - 1), seed=seed)
    return folder


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


def write_preset(folder: Path, seed: int = 0) -> Path:
    """This project's own family at full size, `XMFLOW_12X1024`, with random weights (1.6 GB); returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_demo_tokenizer(folder)
    write_image_processor(folder, XMFLOW_12X1024.vision.image_size)
    write_random(folder, XMFLOW_12X1024, seed=seed)
    return folder


def write_demo(folder: Path, per_task: int = 8) -> tuple[list[Path], Path]:
    """The demonstration's question files and image folder."""
    return write_demo_questions(folder, per_task=per_task, seed=0)

"""A LLaVA processing directory of a few kilobytes, for any test that needs a tokenizer and an image processor."""

import json
from pathlib import Path
from typing import Any

from xmflow_jax.data.processing import Processing
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.families.checkpoint import read_checkpoint

CENTRE_CROP = "centre crop"
PAD_TO_SQUARE = "pad to square"
PLAIN_RESIZE = "plain resize"

# A vision encoder-decoder's text decoder, in its config.json.
TEXT_DECODER = {"model_type": "gpt2", "add_cross_attention": True}


def write_tiny_processing(
    folder: Path,
    image_size: int = 28,
    patch_size: int = 14,
    geometry: str = CENTRE_CROP,
    processor_type: str | None = None,
    select_strategy: str = "default",
    with_config: bool = True,
) -> int:
    """Writes tokenizer and image processor files into `folder`; returns the vocabulary's size.

    Args:
        folder: made if need be.
        image_size, patch_size: side of the vision tower's image and of a patch, in pixels.
        geometry: `CENTRE_CROP` (resize the shorter side, crop the middle), `PAD_TO_SQUARE` (pad, then resize) or
            `PLAIN_RESIZE` (stretch to a square).
        processor_type: the class named in the file; by default one that can do the geometry.
        select_strategy, with_config: for a minimal `config.json`, which is left out for tests that write their own.
            `<image>` is the last token of the vocabulary.
    """
    vocabulary_size = write_demo_tokenizer(folder)
    square = {"height": image_size, "width": image_size}
    preprocessor: dict[str, Any] = {
        "image_processor_type": processor_type
        or ("LlavaImageProcessor" if geometry == PAD_TO_SQUARE else "CLIPImageProcessor"),
        "size": square if geometry == PLAIN_RESIZE else {"shortest_edge": image_size},
        "crop_size": square,
        "do_resize": True,
        "do_center_crop": geometry == CENTRE_CROP,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    if geometry == PAD_TO_SQUARE:
        preprocessor["do_pad"] = True
    write_json(folder / "preprocessor_config.json", preprocessor)
    if with_config:
        vision = {"model_type": "clip_vision_model", "image_size": image_size, "patch_size": patch_size}
        write_json(
            folder / "config.json",
            {
                "model_type": "llava",
                "image_token_index": vocabulary_size - 1,
                "vision_feature_select_strategy": select_strategy,
                "vision_config": vision,
            },
        )
    return vocabulary_size


def load_processing(directory: Path) -> Processing:
    """Tokenizer and image processor of a directory, as the family that its config.json names reads them."""
    return read_checkpoint(directory).processing()


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")

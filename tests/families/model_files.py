"""Whole tiny checkpoints of every family, with tokenizer and image processor as its published ones have them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.families.proof_family.family import PROOF
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.families.family import Family
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.random_checkpoint import write_random


def with_marks(tiny: Any, words: int) -> Any:
    """The last words of the vocabulary are the image's and its marks."""
    text = replace(tiny.text, vocabulary=words)
    return replace(tiny, text=text, image_token=words - 1, start_token=words - 2, end_token=words - 3)


# A family's tiny configuration with as many words as the demonstration's tokenizer has.
WITH_WORDS: dict[str, Callable[[Any, int], Any]] = {
    "llava": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "vision-encoder-decoder": lambda tiny, words: replace(
        tiny, text=replace(tiny.text, vocabulary=words, positions=128)
    ),
    "gemma3": lambda tiny, words: replace(
        tiny,
        text=replace(tiny.text, vocabulary=words),
        image_token=words - 1,
        begin_token=words - 2,
        end_token=words - 3,
    ),
    "paligemma": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "llava_next": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "llava_onevision": lambda tiny, words: replace(
        tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1
    ),
    "idefics3": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 2),
    "internvl": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 3),
    "smolvlm": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 2),
    "qwen2_5_vl": with_marks,
    "qwen2_vl": with_marks,
    "qwen3_vl": with_marks,
    "proof": lambda tiny, words: PROOF.presets["proof-tiny"](words, tiny.text.layers),
}

# Words that a family's processing asks a tokenizer for, behind the demonstration's last one, `<image>`.
MARKS = {
    "idefics3": ("<fake_token_around_image>",),
    "internvl": ("<img>", "</img>"),
    "smolvlm": ("<fake_token_around_image>",),
}
# The settings of the image processors of families that split an image into tiles without padding, for tiles of 28.
SPLITTING: dict[str, dict[str, Any]] = {
    "internvl": {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": 28, "width": 28},
        "min_patches": 1,
        "max_patches": 12,
    },
    **{
        name: {
            "image_processor_type": processor,
            "size": {"longest_edge": 112},
            "max_image_size": {"longest_edge": 28},
            "do_image_splitting": True,
            "resample": 1,
        }
        for name, processor in (("idefics3", "Idefics3ImageProcessor"), ("smolvlm", "SmolVLMImageProcessor"))
    },
}
# Families that cut an image of its own size into patches.
PATCHES = ("qwen2_5_vl", "qwen2_vl", "qwen3_vl")
# The image processors of families that cut images into tiles.
TILES = {"llava_next": "LlavaNextImageProcessor", "llava_onevision": "LlavaOnevisionImageProcessor"}


def add_words(folder: Path, words: Sequence[str]) -> None:
    """Special tokens behind the last word of a tokenizer's file."""
    from tokenizers import AddedToken, Tokenizer

    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words])
    tokenizer.save(str(file))


def write_model(folder: Path, family: Family) -> Path:
    """Random weights; returns `folder`."""
    folder.mkdir(parents=True)
    marks = MARKS.get(family.model_type, ())
    config = WITH_WORDS[family.model_type](family.tiny, write_demo_tokenizer(folder) + len(marks))
    add_words(folder, marks)
    layout = family.image_layout(config, (1, 1))
    write_image_processor(folder, getattr(config.vision, "image_size", layout.rows * layout.side))
    if family.model_type in TILES:
        file = folder / "preprocessor_config.json"
        own = {"image_processor_type": TILES[family.model_type], "image_grid_pinpoints": config.canvases}
        file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    if family.model_type in SPLITTING:
        (folder / "preprocessor_config.json").write_text(json.dumps(SPLITTING[family.model_type]))
    if family.model_type in PATCHES:
        settings = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": config.vision.patch_size}
        settings |= {"merge_size": config.vision.merge, "min_pixels": 56 * 56, "max_pixels": 56 * 112}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    write_random(folder, family, config, seed=0)
    return folder

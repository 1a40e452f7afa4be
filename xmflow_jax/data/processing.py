"""A checkpoint's own tokenizer and image processor, read without PyTorch.

Covers LLaVA-1.5 in Hugging Face format, a CLIP tower that sees one square image whose patches stand in the prompt, and
vision encoder-decoders, whose prompt holds text alone. transformers' PIL and NumPy image processors are asked for by
name, so that pixels do not depend on what else is installed.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, Final, Literal, cast

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from xmflow_jax.data.end_tokens import find_end_tokens
from xmflow_jax.data.spans import PieceAlphabet, piece_alphabet
from xmflow_jax.errors import CheckpointError

SelectStrategy = Literal["default", "full"]

# Not tokenizer.model: transformers 5 converts it without the space that SentencePiece puts before every text, and so
# gives other tokens than the model was trained with.
_TOKENIZER_FILES: Final = ("tokenizer.json",)
_IMAGE_PROCESSOR_FILES: Final = ("preprocessor_config.json", "processor_config.json")

# Most letters of transformers' own words in a message; some of its errors list every model that it knows.
REASON: Final = 200


@dataclass(frozen=True, eq=False)
class Processing:
    """What turns a prompt and an image into a model's input.

    Attributes:
        tokenizer: a transformers tokenizer; calling it on a text adds the beginning-of-sequence token, if it has one.
        image_processor: a transformers image processor of the PIL back end, called on a PIL image.
        image_token_id: the id that stands at every image position; None where the image has no place in the prompt,
            because the model reads it by cross-attention.
        image_size: side of the square of pixels that the vision tower reads.
        patch_size: side of one patch in pixels.
        end_tokens: ids that end an answer, the tokenizer's own first.
        select_strategy: `default` if the class token is dropped, `full` if it stands before the patches.
    """

    tokenizer: Any
    image_processor: Any
    image_token_id: int | None
    image_size: int
    patch_size: int
    end_tokens: tuple[int, ...]
    select_strategy: SelectStrategy = "default"

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, columns) of patches; they stand in the prompt row by row."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def class_positions(self) -> int:
        """Image positions before the first patch, in the prompt or of the encoder: 1 where the class token is kept."""
        return 1 if self.select_strategy == "full" else 0

    @property
    def image_positions(self) -> int:
        """Positions that one image takes, in the prompt or of the encoder."""
        rows, columns = self.patch_grid
        return rows * columns + self.class_positions

    @cached_property
    def alphabet(self) -> PieceAlphabet:
        """How the tokenizer's pieces spell text."""
        return piece_alphabet(self.tokenizer.get_vocab())

    def normalised_pixels(self, image: Image.Image) -> Float32[np.ndarray, "height width 3"]:
        """The pixels that the vision tower reads, channels last."""
        return np.ascontiguousarray(self._process(image), dtype=np.float32)

    def plain_pixels(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """The image after resizing, padding and cropping only: colours as they were, 0 to 255."""
        return np.ascontiguousarray(self._process(image, do_rescale=False, do_normalize=False), dtype=np.uint8)

    def _process(self, image: Image.Image, **options: bool) -> np.ndarray:
        channels_first = self.image_processor(image, return_tensors="np", **options)["pixel_values"][0]
        return np.moveaxis(channels_first, 0, -1)


def load_processing(directory: Path) -> Processing:
    """Reads tokenizer, image processor and `config.json` of a checkpoint directory.

    Nothing is fetched and no code from the directory is run.

    Raises:
        CheckpointError: a file is missing or cannot be read, the family or its vision tower is not known, or the image
            processor's output is not what the vision tower reads.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such checkpoint directory")
    _require(directory, "model configuration", ("config.json",))
    _require(directory, "tokenizer", _TOKENIZER_FILES)
    _require(directory, "image processor configuration", _IMAGE_PROCESSOR_FILES)
    # Imported here because transformers takes seconds to import and most of the package does without it.
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    config = _read(AutoConfig, directory, "config.json")
    _check_family(config, directory)
    in_prompt = config.model_type == "llava"
    tower = config.vision_config if in_prompt else config.encoder
    if in_prompt:
        strategy = config.vision_feature_select_strategy
    else:
        # This project's own key; published models keep the class token.
        strategy = "full" if getattr(config, "keep_class_token", True) else "default"
    tokenizer = _read(AutoTokenizer, directory, "the tokenizer")
    processing = Processing(
        tokenizer=tokenizer,
        image_processor=_read(AutoImageProcessor, directory, "the image processor", backend="pil"),
        image_token_id=int(config.image_token_index) if in_prompt else None,
        image_size=_pixels(directory, "image_size", tower.image_size),
        patch_size=_pixels(directory, "patch_size", tower.patch_size, most=tower.image_size),
        end_tokens=find_end_tokens(tokenizer, directory),
        select_strategy=cast(SelectStrategy, strategy),
    )
    _check_pixels(processing, directory)
    return processing


def _require(directory: Path, what: str, names: tuple[str, ...]) -> None:
    if not any((directory / name).is_file() for name in names):
        raise CheckpointError(f"{directory}: no {what}; expected {' or '.join(names)}")


def _read(auto_class: Any, directory: Path, what: str, **options: str) -> Any:
    try:
        return auto_class.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False, **options)
    # transformers raises errors of every kind over faulty files: OSError, ValueError, KeyError, TypeError and more.
    except Exception as error:
        reason = shorten(str(error), REASON, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{directory}: {what} cannot be read: {reason}") from error


def _check_family(config: Any, directory: Path) -> None:
    """Refuses a family of which it is not known where these fields are and what they mean."""
    encoder_decoder = config.model_type == "vision-encoder-decoder"
    expected: dict[str, tuple[str, ...]] = {"model_type": ("llava", "vision-encoder-decoder")}
    if not encoder_decoder:
        expected["vision_feature_select_strategy"] = ("default", "full")
    for field, understood in expected.items():
        value = getattr(config, field, None)
        if value not in understood:
            raise CheckpointError(f"{directory}: {field} is {value!r}; expected {' or '.join(understood)}")
    tower = (config.encoder if encoder_decoder else config.vision_config).model_type
    towers = ("clip_vision_model", "vit") if encoder_decoder else ("clip_vision_model",)
    if tower not in towers:
        raise CheckpointError(f"{directory}: the vision tower is a {tower!r}; expected a {' or a '.join(towers)}")


def _pixels(directory: Path, field: str, value: Any, most: int | None = None) -> int:
    """A side in pixels; some towers' configurations could also hold a pair, which the towers here cannot read."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        bound = "an integer from 1 up" if most is None else f"an integer from 1 to {most}"
        raise CheckpointError(f"{directory}: the vision tower's {field} is {value!r}; expected {bound}")
    return value


def _check_pixels(processing: Processing, directory: Path) -> None:
    """Refuses an image processor that does not belong to the vision tower, by trying it on an oblong image."""
    if getattr(processing.image_processor, "backend", None) != "pil":
        kind = type(processing.image_processor).__name__
        raise CheckpointError(
            f"{directory}: image processor {kind} has no PIL back end; expected CLIP's, LLaVA's or ViT's"
        )
    size = processing.image_size
    try:
        shape = processing.normalised_pixels(Image.new("RGB", (3 * size // 2, size))).shape
    # Its configuration can be wrong in as many ways as there are errors: no size, no mean, a size of zero.
    except Exception as error:
        reason = shorten(str(error), REASON, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{directory}: the image processor does not work: {reason}") from error
    if shape != (size, size, 3):
        raise CheckpointError(
            f"{directory}: the image processor gives pixels of shape {shape}, "
            f"but the vision tower of config.json reads {(size, size, 3)}"
        )

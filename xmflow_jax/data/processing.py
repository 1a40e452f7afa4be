"""A checkpoint's own tokenizer and image processor, read without PyTorch, and what its family makes of them.

transformers' PIL and NumPy image processors are asked for by name, so that pixels do not depend on what else is
installed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from xmflow_jax.data.end_tokens import find_end_tokens
from xmflow_jax.data.images import ImageLayout
from xmflow_jax.data.place import Place
from xmflow_jax.data.spans import PieceAlphabet, piece_alphabet
from xmflow_jax.errors import CheckpointError

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
        end_tokens: ids that end an answer, the tokenizer's own first.
        image_layout: (width, height) of an original image -> how it lies in the positions that hold it.
        place: (the prompt's tokens, its images) -> the prompt's position ids and blocks.
        one_layout: every image has the layout of any other, so that a prompt's length is known without its image.
    """

    tokenizer: Any
    image_processor: Any
    image_token_id: int | None
    end_tokens: tuple[int, ...]
    image_layout: Callable[[tuple[int, int]], ImageLayout]
    place: Callable[[Int32[np.ndarray, " positions"], Sequence[ImageLayout]], Place]
    one_layout: bool = True

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


def read_processing(
    directory: Path,
    *,
    image_token_id: int | None,
    image_size: int,
    image_layout: Callable[[tuple[int, int]], ImageLayout],
    place: Callable[[Int32[np.ndarray, " positions"], Sequence[ImageLayout]], Place],
) -> Processing:
    """Tokenizer and image processor of a checkpoint whose vision tower sees one square picture of each image.

    Nothing is fetched and no code from the directory is run.

    Args:
        image_size: side of the square in pixels.
        image_token_id, image_layout, place: as of `Processing`.

    Raises:
        CheckpointError: a file is missing or cannot be read, or the image processor's output is not what the vision
            tower reads.
    """
    _require(directory, "tokenizer", _TOKENIZER_FILES)
    _require(directory, "image processor configuration", _IMAGE_PROCESSOR_FILES)
    # Imported here because transformers takes seconds to import and most of the package does without it.
    from transformers import AutoImageProcessor, AutoTokenizer

    tokenizer = _read(AutoTokenizer, directory, "the tokenizer")
    processing = Processing(
        tokenizer=tokenizer,
        image_processor=_read(AutoImageProcessor, directory, "the image processor", backend="pil"),
        image_token_id=image_token_id,
        end_tokens=find_end_tokens(tokenizer, directory),
        image_layout=image_layout,
        place=place,
    )
    _check_pixels(processing, directory, image_size)
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


def _check_pixels(processing: Processing, directory: Path, size: int) -> None:
    """Refuses an image processor that does not belong to the vision tower, by trying it on an oblong image."""
    if getattr(processing.image_processor, "backend", None) != "pil":
        kind = type(processing.image_processor).__name__
        raise CheckpointError(
            f"{directory}: image processor {kind} has no PIL back end; expected CLIP's, LLaVA's or ViT's"
        )
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

"""A checkpoint's own tokenizer and image processor, read without PyTorch, and what its family makes of them.

transformers' PIL and NumPy image processors are asked for by name, so that pixels do not depend on what else is
installed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
from xmflow_jax.data.tokenizer_files import tokenizer_class
from xmflow_jax.errors import CheckpointError
from xmflow_jax.json_files import read_json_object, refuse_broken

_IMAGE_PROCESSOR_FILES: Final = ("preprocessor_config.json", "processor_config.json")

Tree = Any

# What image processors were called before transformers 4.26, and still are in files that trainers saved since.
_OLD_NAME: Final = re.compile(r"(\w+)FeatureExtractor(?:Fast|Pil)?")

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
        pixels: the images of a prompt -> what the model's `visual` reads of them: an array or a tree of arrays, with
            what may differ from prompt to prompt on the first axis of each. Colours are normalised; in a mapping they
            are its `COLOURS`.
        plain_pixels: an image -> the picture after resizing, padding and cropping only: colours as they were, 0 to 255.
        image_layout: (width, height) of an original image -> how it lies in the positions that hold it.
        place: (the prompt's tokens, its images) -> the prompt's position ids and blocks.
        one_layout: every image has the layout of any other, so that a prompt's length is known without its image.
        begins_behind_images: the beginning-of-sequence token stands behind the prompt's last image, whether the
            tokenizer adds one or not, and not before everything.
    """

    tokenizer: Any
    image_processor: Any
    image_token_id: int | None
    end_tokens: tuple[int, ...]
    pixels: Callable[[Sequence[Image.Image]], Tree]
    plain_pixels: Callable[[Image.Image], UInt8[np.ndarray, "height width 3"]]
    image_layout: Callable[[tuple[int, int]], ImageLayout]
    place: Callable[[Int32[np.ndarray, " positions"], Sequence[ImageLayout]], Place]
    one_layout: bool = True
    begins_behind_images: bool = False

    @cached_property
    def alphabet(self) -> PieceAlphabet:
        """How the tokenizer's pieces spell text."""
        return piece_alphabet(self.tokenizer.get_vocab())


@dataclass(frozen=True, eq=False)
class ProcessorFiles:
    """A checkpoint's own tokenizer and image processor.

    Attributes:
        tokenizer, image_processor, end_tokens: as of `Processing`.
    """

    tokenizer: Any
    image_processor: Any
    end_tokens: tuple[int, ...]


def read_files(directory: Path) -> ProcessorFiles:
    """A checkpoint's tokenizer and image processor. Nothing is fetched and no code from the directory is run.

    Raises:
        CheckpointError: a file is missing or cannot be read.
    """
    tokenizer = _read(tokenizer_class(directory), directory, "the tokenizer", trust_remote_code=False)
    return ProcessorFiles(tokenizer, _read_image_processor(directory), find_end_tokens(tokenizer, directory))


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
    files = read_files(directory)
    processing = Processing(
        tokenizer=files.tokenizer,
        image_processor=files.image_processor,
        image_token_id=image_token_id,
        end_tokens=files.end_tokens,
        pixels=partial(square_pictures, files.image_processor),
        plain_pixels=partial(square_colours, files.image_processor),
        image_layout=image_layout,
        place=place,
    )
    oblong, square = (3 * image_size // 2, image_size), (image_size, image_size, 3)
    check_pictures(processing, directory, oblong, square, lambda pixels: pixels[0])
    return processing


def square_pictures(
    image_processor: Any, images: Sequence[Image.Image]
) -> Float32[np.ndarray, "images height width 3"]:
    """The one picture that the image processor makes of each image, normalised, channels last."""
    # A prompt may show one image several times.
    pictures = {id(image): _picture(image_processor, image) for image in images}
    return np.ascontiguousarray([pictures[id(image)] for image in images], dtype=np.float32)


def square_colours(image_processor: Any, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """The one picture that the image processor makes of an image, its colours as they were, 0 to 255."""
    return np.ascontiguousarray(_picture(image_processor, image, do_rescale=False, do_normalize=False), dtype=np.uint8)


def _picture(image_processor: Any, image: Image.Image, **options: bool) -> np.ndarray:
    channels_first = image_processor(image, return_tensors="np", **options)["pixel_values"][0]
    return np.moveaxis(channels_first, 0, -1)


def _read_image_processor(directory: Path) -> Any:
    # Imported here because transformers takes seconds to import and most of the package does without it.
    import transformers

    what, names = "the image processor", _IMAGE_PROCESSOR_FILES
    for name in names:
        refuse_broken(directory / name)
    settings = [read_json_object(directory / name) for name in names if (directory / name).is_file()]
    if not settings:
        raise CheckpointError(f"{directory}: no image processor configuration; expected {' or '.join(names)}")
    # In the order in which transformers looks for them.
    nested = settings[-1].get("image_processor") if (directory / names[1]).is_file() else None
    named = (nested if isinstance(nested, dict) else settings[0]).get("image_processor_type")
    if isinstance(named, str) and (old := _OLD_NAME.fullmatch(named)):
        today = getattr(transformers, f"{old[1]}ImageProcessorPil", None)
        if today is not None:
            return _read(today, directory, what)
    return _read(transformers.AutoImageProcessor, directory, what, backend="pil", trust_remote_code=False)


def _read(auto_class: Any, directory: Path, what: str, **options: Any) -> Any:
    try:
        return auto_class.from_pretrained(str(directory), local_files_only=True, **options)
    # transformers raises errors of every kind over faulty files: OSError, ValueError, KeyError, TypeError and more.
    except Exception as error:
        reason = shorten(str(error), REASON, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{directory}: {what} cannot be read: {reason}") from error


def check_pictures(
    processing: Processing,
    directory: Path,
    size: tuple[int, int],
    expected: tuple[int, ...],
    pictures: Callable[[Tree], np.ndarray],
) -> None:
    """Refuses an image processor that does not belong to the vision tower, by trying it on one image.

    Args:
        directory: the checkpoint's, for messages.
        size: (width, height) of the image, which should be oblong.
        expected: the shape of what the tower then reads.
        pictures: takes it out of what `Processing.pixels` gives.

    Raises:
        CheckpointError: the image processor does not work, or gives another shape.
    """
    if getattr(processing.image_processor, "backend", None) != "pil":
        kind = type(processing.image_processor).__name__
        raise CheckpointError(
            f"{directory}: image processor {kind} has no PIL back end; expected CLIP's, LLaVA's or ViT's"
        )
    try:
        shape = pictures(processing.pixels([Image.new("RGB", size)])).shape
    # Its configuration can be wrong in as many ways as there are errors: no size, no mean, a size of zero.
    except Exception as error:
        reason = shorten(str(error), REASON, placeholder=" ...") or type(error).__name__
        raise CheckpointError(f"{directory}: the image processor does not work: {reason}") from error
    if shape != expected:
        raise CheckpointError(
            f"{directory}: the image processor gives pixels of shape {shape}, "
            f"but the vision tower of config.json reads {expected}"
        )

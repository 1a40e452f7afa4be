"""A question as the report's browser of single questions shows it: a small image, its patches, its tokens with roles.

Made while the sweep runs, because a report is made without the model's processing and without the data.
"""

import io
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import numpy as np
from PIL import Image

from xmflow_jax.data import roles
from xmflow_jax.data.image_files import read_image
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.errors import QuestionSetAside
from xmflow_jax.study.preview import IMPLIED, patch_roles, token_texts

# Longest side of the small image, in pixels: at most 150 kB of PNG each.
THUMBNAIL_SIDE: Final = 224

# Questions of one report that are shown singly.
SHOWN_QUESTIONS: Final = 40


def cards_per_task(tasks: int) -> int:
    """How many questions of each task need a card for a report to show `SHOWN_QUESTIONS` of all of them."""
    return -(-SHOWN_QUESTIONS // max(tasks, 1))


def question_card(prompt: PreparedQuestion, processing: Processing) -> dict[str, Any]:
    """The question's row of `CARD_SCHEMA` (`xmflow_jax.run.folder`).

    The image is what the model sees, made smaller; it is empty if it has gone since the question was prepared.
    """
    patches = patch_roles(prompt)
    rows, columns = patches.objects.shape
    tokens = list(_tokens(prompt, processing))
    return {
        "question_id": prompt.question.question_id,
        "task": prompt.question.task,
        "text": prompt.question.text,
        "image": _thumbnail(prompt, processing),
        "patch_rows": rows,
        "patch_columns": columns,
        "object_patches": np.flatnonzero(patches.objects).tolist(),
        "padding_patches": np.flatnonzero(patches.padding).tolist(),
        "tokens": [text for text, _ in tokens],
        "token_roles": [own for _, own in tokens],
    }


def _tokens(prompt: PreparedQuestion, processing: Processing) -> Iterator[tuple[str, list[str]]]:
    """Each token's text and roles, those that follow from others left out; an image in the prompt is one entry."""
    texts = token_texts(prompt, processing)
    in_prompt = processing.image_token_id is not None
    image = prompt.roles[roles.IMAGE] if in_prompt else np.zeros(len(texts), bool)
    shown = [role for role in roles.ROLES if role in prompt.roles and role not in (*roles.IMAGE_ROLES, *IMPLIED)]
    for is_image, places in groupby(range(len(texts)), key=lambda place: bool(image[place])):
        if is_image:
            yield f"<image: {len(list(places))} positions>", [roles.IMAGE]
        else:
            for place in places:
                yield texts[place], [role for role in shown if prompt.roles[role][place]]


def _thumbnail(prompt: PreparedQuestion, processing: Processing) -> bytes:
    try:
        pixels = processing.plain_pixels(read_image(prompt.question.image_path).picture)
    except QuestionSetAside:
        return b""
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, format="png", optimize=True)
    return data.getvalue()

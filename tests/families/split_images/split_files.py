"""The files of tiny InternVL, Idefics3 and SmolVLM checkpoints but their weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.data.tiny_processing import write_tiny_processing
from tests.families.model_files import MARKS, SPLITTING, WITH_WORDS, add_words
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import NAMED_TEMPLATES, Template
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.family import Family

PLAIN = NAMED_TEMPLATES["plain"]


def write_files(folder: Path, family: Family, marks: Sequence[str] | None = None, **preprocessor: Any) -> Any:
    """The files; returns the configuration.

    Args:
        marks: words of the tokenizer beside the image's own; None: those that the family asks for.
        preprocessor: settings in place of the usual ones.
    """
    usual = MARKS[family.model_type]
    before = write_tiny_processing(folder, with_config=False)
    config = WITH_WORDS[family.model_type](family.tiny, before + len(usual))
    words = usual if marks is None else marks
    add_words(folder, words)
    config = replace(config, text=replace(config.text, vocabulary=before + len(words)))
    (folder / "config.json").write_text(json.dumps(family.write_config(config, "float32")))
    settings = SPLITTING[family.model_type] | preprocessor
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return config


def prepare(folder: Path, image: Path, *boxes: Box, template: Template = PLAIN) -> PreparedQuestion:
    question = Question("1", "1", image, "Is the ball red?", "yes", "task", boxes=boxes)
    return prepare_question(question, read_checkpoint(folder).processing(), template)

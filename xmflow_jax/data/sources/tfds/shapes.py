"""The `shapes` data set as a TensorFlow Datasets builder. Everything is drawn; nothing is downloaded.

builder = tfds.builder("shapes", data_dir=folder)
builder.download_and_prepare()
builder.as_data_source("test")[0]["question"]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.scenes import IMAGE_SIZE
from xmflow_jax.data.sources.shapes.source import drawn_questions, png_of
from xmflow_jax.data.sources.study_csv import CENTRAL_OBJECT, objects_of
from xmflow_jax.data.sources.tfds.records import FILE_FORMAT, question_features


@dataclass(eq=False)
class ShapesConfig(tfds.core.BuilderConfig):
    """How many questions of each task a split has, and the seed of the scenes.

    A smaller split is the beginning of a larger one, task by task, and `shapes_questions` gives the same questions.
    """

    train: int = 10_000
    validation: int = 1_000
    test: int = 1_000
    seed: int = 0


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Drawn scenes and questions of six kinds about them, in the order of the scenes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        ShapesConfig(name="default", description="1,000 questions of each task in the test split.")
    ]

    def __init__(self, *, file_format: str = FILE_FORMAT, **settings: Any) -> None:
        """As any builder, but for the file format, since TFDS's own needs TensorFlow."""
        super().__init__(file_format=file_format, **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8, encoding_format="png")
        features = question_features() | {"image": image, "caption": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=None,
            disable_shuffling=True,
        )

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        config = self.builder_config
        sizes = {"train": config.train, "validation": config.validation, "test": config.test}
        return {split: self._generate_examples(split, per_task) for split, per_task in sizes.items()}

    def _generate_examples(self, split: str, per_task: int) -> Iterator[tuple[int, dict[str, Any]]]:
        image_of = lru_cache(maxsize=1)(png_of)  # a scene's questions follow each other
        for number, drawn in enumerate(drawn_questions(split, per_task, self.builder_config.seed)):
            asked = drawn.asked
            yield (
                number,
                {
                    "question_id": drawn.question_id,
                    "image_id": drawn.image_id,
                    "image": image_of(drawn.scene),
                    "question": asked.text,
                    "answer": asked.answer,
                    "task": asked.task,
                    "options": {"true": asked.true_option or "", "false": asked.false_option or ""},
                    # The study's files name one object only where a question is about one.
                    "central_object": asked.name if objects_of(asked.task) == (CENTRAL_OBJECT,) else "",
                    "boxes": np.array([(box.x, box.y, box.width, box.height) for box in drawn.boxes], np.int32),
                    "caption": caption(drawn.scene),
                },
            )

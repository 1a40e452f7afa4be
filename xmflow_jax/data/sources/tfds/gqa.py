"""GQA as a TensorFlow Datasets builder (Hudson and Manning, CVPR 2019, arXiv 1902.09506; files of version 1.2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.gqa_json import read_gqa_json
from xmflow_jax.data.sources.tfds.manual_files import find_file
from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder


class Gqa(QuestionBuilder):
    """GQA's balanced splits, with the boxes of the objects asked about where the scene graphs are there.

    `task` is that of the first study where a question is of one of its six.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "expected questions1.2/val_balanced_questions.json and images or images.zip, and for the objects' boxes "
        "sceneGraphs/val_sceneGraphs.json, or those of train, testdev or test"
    )
    PUBLISHED: ClassVar[Mapping[str, int]] = {
        "train": 943_000,
        "validation": 132_062,
        "testdev": 12_578,
        "test": 95_336,
    }

    def read_splits(self, folder: Path) -> dict[str, list[Question]]:
        """See `QuestionBuilder`."""
        splits = {}
        for split, name in {"train": "train", "validation": "val", "testdev": "testdev", "test": "test"}.items():
            asked = find_file(folder, f"{name}_balanced_questions.json")
            if asked is not None:
                graphs = find_file(folder, f"{name}_sceneGraphs.json")
                splits[split] = read_gqa_json(asked, graphs, folder)
        return splits

"""OK-VQA as a TensorFlow Datasets builder (Marino et al., CVPR 2019, arXiv 1906.00067; files of version 1.1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.tfds.manual_files import find_file, need_file
from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder
from xmflow_jax.data.sources.vqa_json import OK_VQA, read_vqa_json


class OkVqa(QuestionBuilder):
    """OK-VQA: questions about COCO images that need knowledge from outside them, ten human answers each."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "expected OpenEnded_mscoco_val2014_questions.json, mscoco_val2014_annotations.json and val2014 or "
        "val2014.zip, or those of train2014"
    )
    PUBLISHED: ClassVar[Mapping[str, int]] = {"train": 9_009, "validation": 5_046}

    def read_splits(self, folder: Path) -> dict[str, list[Question]]:
        """See `QuestionBuilder`."""
        splits = {}
        for split, subset in {"train": "train2014", "validation": "val2014"}.items():
            asked = find_file(folder, f"OpenEnded_mscoco_{subset}_questions.json")
            if asked is not None:
                annotations = need_file(folder, f"mscoco_{subset}_annotations.json", f"the answers to {asked.name}")
                splits[split] = read_vqa_json(asked, annotations, folder, OK_VQA)
        return splits

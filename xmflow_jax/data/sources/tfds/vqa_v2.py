"""VQA v2 as a TensorFlow Datasets builder (Goyal et al., CVPR 2017, arXiv 1612.00837; files from visualqa.org)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.tfds.manual_files import find_file, need_file
from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder
from xmflow_jax.data.sources.vqa_json import VQA_V2, read_vqa_json


class VqaV2(QuestionBuilder):
    """VQA v2: open questions about COCO images, ten human answers each; the test splits keep theirs back."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "expected v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and val2014 or "
        "val2014.zip, or those of train2014, test2015 or test-dev2015"
    )
    PUBLISHED: ClassVar[Mapping[str, int]] = {"train": 443_757, "validation": 214_354, "test": 447_793}

    def read_splits(self, folder: Path) -> dict[str, list[Question]]:
        """See `QuestionBuilder`."""
        subsets = {"train": "train2014", "validation": "val2014", "test": "test2015", "test_dev": "test-dev2015"}
        splits = {}
        for split, subset in subsets.items():
            asked = find_file(folder, f"v2_OpenEnded_mscoco_{subset}_questions.json")
            if asked is None:
                continue
            annotations = None
            if not subset.startswith("test"):
                annotations = need_file(folder, f"v2_mscoco_{subset}_annotations.json", f"the answers to {asked.name}")
            splits[split] = read_vqa_json(asked, annotations, folder, VQA_V2)
        return splits

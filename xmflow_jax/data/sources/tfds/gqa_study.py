"""The first study's questions as a TensorFlow Datasets builder: the six files released with arXiv 2411.18620."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.hidden_files import is_hidden
from xmflow_jax.data.sources.study_csv import STUDY_TASKS, read_study_csv, task_of
from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder
from xmflow_jax.errors import DataError


class GqaStudy(QuestionBuilder):
    """Questions of six kinds from GQA's validation split, which the first study's models answer."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"expected the study's six files, one *_TASK.csv for each of {', '.join(STUDY_TASKS)}, and GQA's images or "
        "images.zip"
    )
    PUBLISHED: ClassVar[Mapping[str, int]] = {"validation": 5_525}

    def read_splits(self, folder: Path) -> dict[str, list[Question]]:
        """See `QuestionBuilder`."""
        found = sorted([*folder.glob("*/*.csv"), *folder.glob("*.csv")])
        files = {task_of(path): path for path in found if not is_hidden(path)}
        if not set(STUDY_TASKS) & set(files):
            return {}
        if missing := [task for task in STUDY_TASKS if task not in files]:
            raise DataError(f"{folder}: no file *_{missing[0]}.csv there or in a subfolder; all six belong to the set")
        return {"validation": [one for task in STUDY_TASKS for one in read_study_csv(files[task], folder)]}

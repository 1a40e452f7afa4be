"""One question about one image, whatever file it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The scorer of a source that names none: the first study's exact match.
EXACT: Final = "exact"


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in pixels of the image before any processing, upright; `x`, `y` is the top-left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Question:
    """The record that every question source yields.

    Attributes:
        question_id: unique within one study.
        image_id: the source's name of the image.
        image_path: where the image lies.
        text: the question as asked, without any prompt around it.
        answer: the gold answer.
        task: the group that figures and summaries are made for, such as `ChooseAttr`.
        true_option, false_option: the options named in the question, where it names any.
        central_object: the name of the object asked about, where the source tells it.
        boxes: the objects asked about.
        image_size: (width, height) in pixels as the source states it, if it does. Where that is the size of the image
            as it is stored alone, not of the upright one, boxes are in stored pixels.
        answers: what each human asked answered, where the benchmark scores against several; `answer` is then the one
            that its authors chose. Both are empty where a test set keeps its answers back.
        answer_type, question_type: the benchmark's own groups for its tables of accuracy.
        scorer: the rule that an answer is scored by, a name in `xmflow_jax.scoring.scorers`.
    """

    question_id: str
    image_id: str
    image_path: Path
    text: str
    answer: str
    task: str
    true_option: str | None = None
    false_option: str | None = None
    central_object: str | None = None
    boxes: tuple[Box, ...] = ()
    image_size: tuple[int, int] | None = None
    answers: tuple[str, ...] = ()
    answer_type: str | None = None
    question_type: str | None = None
    scorer: str = EXACT

"""Five questions of one task put to a tiny model with random weights: what the tests of answering share."""

from collections import Counter
from functools import partial
from pathlib import Path

from tests.data.tiny_processing import load_processing
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.study.options import EVERY, SweepOptions
from xmflow_jax.study.question_card import question_card
from xmflow_jax.study.setting import Batching, Cards, KnockoutSettings, PromptedModel, Setting
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.study.task_studies import TaskStudy, plan_studies

CARDS = 3


def small_study(folder: Path) -> tuple[TaskStudy, Setting]:
    """Questions of one length so that programs are few, one pathway, first tokens alone, two questions at a time."""
    model = write_random_tiny(folder / "model", layers=2)
    files, images = write_demo_questions(folder / "data", per_task=20, seed=0)
    every = read_questions([files[2]], images)
    length = Counter(len(question.text) for question in every).most_common(1)[0][0]
    questions = [question for question in every if len(question.text) == length][:5]
    checkpoint = read_checkpoint(model)
    options = SweepOptions(model=str(model), data=(str(files[2]),), images=images, pathways="Image->Last", select=EVERY)
    (study,) = plan_studies(questions, options, checkpoint.identify("float32").anatomy, lambda line: None)
    processing = load_processing(model)
    prompted = PromptedModel(checkpoint.load("float32"), processing, resolve_template("plain"), answer_length=2)
    cards = Cards(partial(question_card, processing=processing), CARDS)
    return study, Setting(prompted, KnockoutSettings(whole_answers=False), Batching(2), cards)

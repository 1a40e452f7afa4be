"""Answers one task's questions and lands their rows, batch by batch."""

from collections.abc import Sequence
from functools import partial

from xmflow_jax.machine.mappings import drop_programs_where_many
from xmflow_jax.run.folder import RunFolder, read_cards
from xmflow_jax.study.batches import BatchEntry, timed, unanswered_batches
from xmflow_jax.study.memory_fit import Bounds, Portion
from xmflow_jax.study.one_batch import QuestionResult, answer_prompts, follow_answers, question_result, task_knockouts
from xmflow_jax.study.setting import Setting, prepare
from xmflow_jax.study.task_studies import TaskStudy


def answer_task(study: TaskStudy, setting: Setting, run: RunFolder, portion: Portion | None = None) -> Portion:
    """Answer the questions that are not in the run folder yet; every batch lands as one part.

    Args:
        portion: what fits the device's memory, as far as it is known; None: the whole batch.

    Returns:
        What fitted the device's memory.

    Raises:
        OptionError: not even one configuration of the fewest questions fits the device's memory.
        RunFolderError: the run folder cannot be written.
    """
    prompted, news, batching = setting.prompted, setting.news, setting.batching
    knockouts = task_knockouts(study.rows, prompted)
    bounds = Bounds(batching.least_questions, len(study.rows), news.say)
    portion = portion or Portion(batching.size)
    cards_left = _cards_left(setting, run, study.task)
    prepared = partial(prepare, prompted=prompted)
    batches = unanswered_batches(study.questions, prepared, prompted, batching.size, run, news.advance, setting.others)
    for entries in timed(batches, news.waited):
        drop_programs_where_many()
        prompts = [entry.prompt for entry in entries]
        batch, portion = answer_prompts(prompts, knockouts, prompted, setting.knockouts, portion, bounds)
        followed = follow_answers(batch, prompted)
        results = {
            index: question_result(batch, index, knockouts, followed, prompted)
            for index, entry in enumerate(entries)
            if not entry.done
        }
        undone = [entries[index] for index in results]
        cards_left -= _land(run, undone, list(results.values()), setting, cards_left)
        news.advance(len(results))
    return portion


def _cards_left(setting: Setting, run: RunFolder, task: str) -> int:
    """How many questions of a task are still to get a card.

    Counted from the folder: batches come in the order of an undisturbed run, so a resumed run makes the same cards.
    """
    if setting.cards is None:
        return 0
    return max(0, setting.cards.per_task - int((read_cards(run.path)["task"] == task).sum()))


def _land(
    run: RunFolder, entries: Sequence[BatchEntry], results: Sequence[QuestionResult], setting: Setting, cards_left: int
) -> int:
    """Land the results of a batch's questions; returns how many cards were among them."""
    with_rows = [entry for entry, result in zip(entries, results, strict=True) if result.skipped is None]
    cards = [] if setting.cards is None else [setting.cards.make(entry.prompt) for entry in with_rows[:cards_left]]
    run.append_part(
        [row for result in results for row in result.rows], [row for result in results for row in result.lens], cards
    )
    if skipped := [result.skipped for result in results if result.skipped is not None]:
        run.append_skipped(skipped)
    return len(cards)

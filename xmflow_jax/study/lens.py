"""Answer tracking: the words that are followed through the layers, and their rows (`LENS_SCHEMA`).

A word is followed by its first token, in lower case and capitalised: in the published models the lower-case form rises
in the middle layers and the capitalised one takes over in the upper ones (arXiv 2411.18620).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from xmflow_jax.data.question import Question
from xmflow_jax.knockout.lens import Lens, read_lens
from xmflow_jax.machine.passes import to_host
from xmflow_jax.run.schemas import TRACKED
from xmflow_jax.study.answer_tokens import NO_TOKEN, token_finder
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True)
class TrackedWords:
    """What is followed for one question.

    Attributes:
        answer: the base run's, in lower case.
        false_option: in lower case; None where the question names none.
        tokens: first tokens of the answer, of its capitalised form, and of the same forms of the false option, in the
            order of `TRACKED`; or `NO_TOKEN`.
    """

    answer: str
    false_option: str | None
    tokens: Int[np.ndarray, " word"]


def tracked_words(
    question: Question, base_answer: str, base_token: int, tokenizer: Any, vocabulary: int
) -> TrackedWords:
    """The words to follow of one question: the base answer and the false option, each in two spellings.

    The spelling in which the base run gave its answer has the very token that the base run gave.

    Args:
        question: names the false option.
        base_answer: the base run's whole answer.
        base_token: its first token.
        tokenizer: of transformers.
        vocabulary: how many embeddings the model has.
    """
    token = token_finder(base_answer, base_token, tokenizer, vocabulary)

    def forms(text: str) -> tuple[str, str]:
        return text.lower(), text[:1].upper() + text[1:]

    tokens = [token(form) for form in forms(base_answer)]
    # Without an option, or with an empty one, there is nothing to follow.
    false_option = (question.false_option or "").strip() or None
    tokens += [NO_TOKEN] * 2 if false_option is None else [token(form) for form in forms(false_option)]
    lower = None if false_option is None else false_option.lower()
    return TrackedWords(base_answer.lower(), lower, np.array(tokens, np.int32))


def answer_lens(
    model: LoadedModel, states: Float[jax.Array, "full state width"], followed: Sequence[TrackedWords]
) -> Lens:
    """The probabilities of the followed words in every hidden state of a batch, as numpy.

    Args:
        states: hidden states at the answer position. A batch may have been filled up: it then has more prompts (`full`)
            than are followed.
        followed: the words of each question.
    """
    words = np.zeros((len(states), len(TRACKED)), np.int32)
    words[: len(followed)] = np.maximum([own.tokens for own in followed], 0)
    lens: Lens = to_host(read_lens(model.net, states, words))
    return lens


def lens_rows(
    question: Question, words: TrackedWords, lens: Lens, index: int, decode: Callable[[int], str]
) -> list[Mapping[str, Any]]:
    """All lens rows of one question. Layer -1 is the embedding, before any layer.

    Args:
        words: what was followed for the question.
        lens: the batch's, as numpy.
        index: the question's row in it.
        decode: one token id to text.
    """
    prob, top_tokens, top_prob = (np.asarray(part[index]).tolist() for part in lens)
    known = {token: decode(token) for token in np.unique(lens.top_tokens[index]).tolist()}
    rows: list[Mapping[str, Any]] = []
    for state, normed in np.ndindex(len(prob), 2):
        followed = zip(TRACKED, words.tokens.tolist(), prob[state][normed], strict=True)
        rows.append(
            {
                "question_id": question.question_id,
                "task": question.task,
                "layer": state - 1,
                "normed": bool(normed),
                "answer": words.answer,
                "false_option": words.false_option,
                **{column: None if token == NO_TOKEN else own for column, token, own in followed},
                "top_words": [known[token] for token in top_tokens[state][normed]],
                "top_probs": top_prob[state][normed],
            }
        )
    return rows

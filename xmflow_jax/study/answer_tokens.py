"""The tokens that words have where the answer stands: what the model would have to say first to say them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from xmflow_jax.data.question import Question

# What may stand before an answer, each of which gives its first word another token in some vocabularies: `▁red` or
# `Ġred` behind a space, `red` at the start of a line.
_BEFORE: Final = ("", " ", "\n")

# A form that has no token: there is no such word, or the vocabulary does not know it.
NO_TOKEN: Final = -1


def token_finder(base_answer: str, base_token: int, tokenizer: Any, vocabulary: int) -> Callable[[str], int]:
    """A function from a word to the first token that the model would say it with, in the base answer's place.

    With a SentencePiece vocabulary and the base answer "Red", whose first token is `▁Red`, the function gives `▁blue`
    for "blue": a word's first token depends on what stands before it. The base answer itself has the very token that
    the base run gave; a word that the vocabulary does not know has `NO_TOKEN`.

    Args:
        base_answer: the base run's whole answer.
        base_token: its first token.
        tokenizer: of transformers.
        vocabulary: how many embeddings the model has; a tokenizer can have more tokens.
    """
    before = next(
        (lead for lead in _BEFORE if _first_token(tokenizer, base_answer, lead, base_token) == base_token), _BEFORE[0]
    )

    def token(form: str) -> int:
        if form == base_answer:
            return base_token
        found = _first_token(tokenizer, form, before, NO_TOKEN)
        return NO_TOKEN if found == tokenizer.unk_token_id or found >= vocabulary else found

    return token


def option_tokens(
    question: Question, base_answer: str, base_token: int, tokenizer: Any, vocabulary: int
) -> Int[np.ndarray, " 2"]:
    """First tokens of the true and of the false option, capitalised if the base answer is.

    `NO_TOKEN` twice where the question does not name both, the vocabulary does not know one, or both begin with the
    same token: its probability would say nothing about which of them is meant.

    Args:
        question: names the options.
        base_answer: the base run's whole answer.
        base_token: its first token.
        tokenizer: of transformers.
        vocabulary: how many embeddings the model has.
    """
    options = [(option or "").strip().lower() for option in (question.true_option, question.false_option)]
    if base_answer[:1].isupper():
        options = [option[:1].upper() + option[1:] for option in options]
    token = token_finder(base_answer, base_token, tokenizer, vocabulary)
    found = [token(option) if option else NO_TOKEN for option in options]
    if NO_TOKEN in found or found[0] == found[1]:
        found = [NO_TOKEN, NO_TOKEN]
    return np.array(found, np.int32)


def _first_token(tokenizer: Any, text: str, before: str, otherwise: int) -> int:
    """The first token of `text` where it stands behind `before`; `otherwise` for a text without tokens."""
    lead = tokenizer.encode(before, add_special_tokens=False) if before else []
    whole = tokenizer.encode(before + text, add_special_tokens=False)
    # Byte-level vocabularies join the space with the word: then nothing is to be left out.
    own = whole[len(lead) :] if whole[: len(lead)] == lead else whole
    return int(own[0]) if own else otherwise

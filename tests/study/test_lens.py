"""Which tokens are followed, by vocabularies in Llama's and in GPT-2's manner, and the rows they make."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.knockout.lens import Lens
from xmflow_jax.run.parts import table_of
from xmflow_jax.run.schemas import TRACKED
from xmflow_jax.study.answer_tokens import NO_TOKEN
from xmflow_jax.study.lens import TrackedWords, lens_rows, tracked_words

QUESTION = Question("007", "42", Path("42.jpg"), "Is it red or blue?", "red", "ChooseAttr", false_option="Blue")


@pytest.fixture(name="llama", scope="module")
def fixture_llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`▁red`, `▁blue`, `▁Is`, `▁is` are pieces; other words are spelt from `▁` and letters."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("llama")
    write_demo_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(name="gpt2", scope="module")
def fixture_gpt2() -> Any:
    """Byte-level: a word at a line's start and one behind a space are two pieces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ("Ġred", "ĠRed", "Ġblue", "ĠBlue", "red", "Red", "blue", "Blue")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        merges |= dict.fromkeys((word[:place], word[place]) for place in range(1, len(word)))
    pieces = dict.fromkeys([*alphabet, *(left + right for left, right in merges), "<unk>"])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def pieces(tokenizer: Any, words: TrackedWords) -> list[str]:
    return [str(piece) for piece in tokenizer.convert_ids_to_tokens(words.tokens.tolist())]


def follow(tokenizer: Any, base_answer: str, base_piece: str, **changes: Any) -> TrackedWords:
    token = tokenizer.convert_tokens_to_ids(base_piece)
    return tracked_words(replace(QUESTION, **changes), base_answer, token, tokenizer, len(tokenizer))


@pytest.mark.parametrize(
    ("answer", "piece", "expected"),
    [
        ("red", "Ġred", ["Ġred", "ĠRed", "Ġblue", "ĠBlue"]),
        ("Red", "ĠRed", ["Ġred", "ĠRed", "Ġblue", "ĠBlue"]),
        ("red", "red", ["red", "Red", "blue", "Blue"]),
        ("Red", "Red", ["red", "Red", "blue", "Blue"]),
        ("Red wine", "Red", ["red", "Red", "blue", "Blue"]),
        # The model spelt it in its own way: that is the token of the form it gave.
        ("Red", "R", ["red", "R", "blue", "Blue"]),
    ],
)
def test_every_form_stands_as_the_base_answer_stands(gpt2: Any, answer: str, piece: str, expected: list[str]) -> None:
    words = follow(gpt2, answer, piece)
    assert pieces(gpt2, words) == expected
    assert (words.answer, words.false_option) == (answer.lower(), "blue")


def test_llamas_words_begin_with_their_space(llama: Any) -> None:
    assert pieces(llama, follow(llama, "is", "▁is")) == ["▁is", "▁Is", "▁blue", "▁"]
    assert pieces(llama, follow(llama, "Is", "▁Is")) == ["▁is", "▁Is", "▁blue", "▁"]
    # Without it only letters are left.
    assert pieces(llama, follow(llama, "red", "r")) == ["r", "R", "b", "B"]
    assert pieces(llama, follow(llama, "2", "▁")) == ["▁", "▁", "▁blue", "▁"]


def test_no_option_and_an_empty_answer(llama: Any) -> None:
    words = follow(llama, "red", "▁red", false_option=None)
    assert words.false_option is None
    assert words.tokens.tolist()[2:] == [NO_TOKEN] * 2
    assert pieces(llama, follow(llama, "", "</s>"))[:2] == ["</s>", "</s>"]


def test_a_word_that_the_vocabulary_does_not_know_is_not_followed() -> None:
    class Words:
        unk_token_id = 0

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [{"red": 1, "blue": 2}.get(word, 0) for word in text.split()]

    assert tracked_words(QUESTION, "red", 1, Words(), 3).tokens.tolist() == [1, NO_TOKEN, 2, NO_TOKEN]
    # Nor one that the model has no embedding for.
    assert tracked_words(QUESTION, "red", 1, Words(), 2).tokens.tolist() == [1, NO_TOKEN, NO_TOKEN, NO_TOKEN]


DECODE: Callable[[int], str] = {5: " red", 6: "Red", 7: "\n"}.__getitem__


def test_rows_fit_the_schema() -> None:
    rng = np.random.default_rng(0)
    top = rng.choice([5, 6, 7], (2, 4, 2, 3))
    lens: Any = Lens(rng.random((2, 4, 2, 4)), top, rng.random((2, 4, 2, 3)))
    words = TrackedWords("red", "blue", np.array([5, 6, 7, NO_TOKEN], np.int32))
    rows = lens_rows(QUESTION, words, lens, 1, DECODE)
    table = table_of(rows, "lens").to_pandas()
    assert [(own["layer"], own["normed"]) for own in rows] == [(la, n) for la in (-1, 0, 1, 2) for n in (False, True)]
    for (_, row), (state, normed) in zip(table.iterrows(), np.ndindex(4, 2), strict=True):
        assert list(row[list(TRACKED[:3])]) == lens.prob[1, state, normed, :3].tolist()
        assert list(row["top_words"]) == [DECODE(token) for token in top[1, state, normed]]
        assert list(row["top_probs"]) == lens.top_prob[1, state, normed].tolist()
    assert table[TRACKED[3]].isna().all()
    assert set(table["false_option"]) == {"blue"}
    without = replace(words, false_option=None, tokens=np.array([5, 6, NO_TOKEN, NO_TOKEN], np.int32))
    nothing = table_of(lens_rows(QUESTION, without, lens, 0, DECODE), "lens").to_pandas()
    assert nothing[["false_option", *TRACKED[2:]]].isna().all(axis=None)

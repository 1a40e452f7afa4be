from pathlib import Path

import pytest
from transformers import AutoTokenizer

from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer


@pytest.fixture(name="tokenizer", scope="module")
def fixture_tokenizer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("tokenizer")
    write_demo_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_same_bytes_every_time(tmp_path: Path) -> None:
    sizes = [write_demo_tokenizer(tmp_path / part) for part in "ab"]
    assert sizes[0] == sizes[1] < 600
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_special_tokens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.convert_tokens_to_ids("<image>") == len(tokenizer) - 1
    assert tokenizer("").input_ids == [1]


def test_pieces_are_llamas_kind(tokenizer) -> None:  # type: ignore[no-untyped-def]
    def pieces(text: str) -> list[str]:
        return list(tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids))

    assert pieces("\nthe red") == ["<s>", "▁", "<0x0A>", "t", "h", "e", "▁red"]
    assert pieces("is Ö reds") == ["<s>", "▁is", "▁", "<0xC3>", "<0x96>", "▁red", "s"]


@pytest.mark.parametrize("answer", ["red", "yellow", "left", "no", "color", "circle", "cross"])
def test_demo_answers_are_one_piece(tokenizer, answer: str) -> None:  # type: ignore[no-untyped-def]
    assert len(tokenizer(answer, add_special_tokens=False).input_ids) == 1


@pytest.mark.parametrize("text", ["Is the circle red or blue?", "Où est le café? \n日本", "a  b {x} <y>"])
def test_text_survives(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text

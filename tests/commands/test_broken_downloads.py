"""What a broken download leaves is told by looking at the folder: one true line, from every command."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.refusal import Given, Refusal, write_given
from xmflow_jax import evaluate
from xmflow_jax.convert import convert
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.json_files import refuse_broken

pytestmark = pytest.mark.usefixtures("unprepared_process")

WEIGHTS, INDEX, SHARD = "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 4943162336\n"
Spoil = Callable[[Path], object]


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return write_given(tmp_path_factory.mktemp("given"))


@pytest.fixture(name="refused")
def fixture_refused(given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Spoil], str]:
    """The line that a study of a copy of the model ends with once it is spoilt."""

    def refuse(spoil: Spoil) -> str:
        model = given.copied_model(tmp_path / "model")
        spoil(model)
        return Refusal(capsys, tmp_path)(given.command(tmp_path / "out", "--model", str(model)))

    return refuse


def put(name: str, content: str | bytes) -> Spoil:
    return lambda model: (model / name).write_bytes(content if isinstance(content, bytes) else content.encode())


READ = (
    *(WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "processor_config.json", "generation_config.json"),
    *("chat_template.jinja", "chat_template.json", "prompt.json", "xmflow.json"),
)


@pytest.mark.parametrize("name", READ)
def test_a_pointer_of_git_lfs_is_named_in_place_of_any_file(refused: Callable[[Spoil], str], name: str) -> None:
    line = refused(put(name, POINTER))
    assert f"/model/{name} is a git-lfs pointer, not the file: its 4943162336 bytes were not fetched" in line
    assert "git lfs pull" in line


def one_link_of_a_cache(model: Path) -> None:
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to("../../blobs/0123")


def one_shard(content: bytes | None, *beside: str) -> Spoil:
    """An index that names one shard, with this content or missing, and empty files beside it."""

    def spoil(model: Path) -> None:
        (model / WEIGHTS).unlink()
        (model / INDEX).write_text(json.dumps({"weight_map": {"a": SHARD}}))
        if content is not None:
            (model / SHARD).write_bytes(content)
        for name in beside:
            (model / name).parent.mkdir(parents=True, exist_ok=True)
            (model / name).write_bytes(b"")

    return spoil


def cut(model: Path) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:5000])


def in_a_folder_below(name: str) -> Spoil:
    def spoil(model: Path) -> None:
        whole = model.rename(model.parent / "whole")
        shutil.copytree(whole, model / name)

    return spoil


def adapter(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()
    (model / "adapter_config.json").write_text("{}")


PAGE = "\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
BROKEN: dict[str, tuple[Spoil, str]] = {
    "empty": (put(WEIGHTS, ""), f"/model/{WEIGHTS} is damaged: it is empty; fetch it again"),
    "empty configuration": (put("config.json", ""), "/model/config.json is damaged: it is empty"),
    "empty tokenizer": (put("tokenizer.json", ""), "/model/tokenizer.json is damaged: it is empty"),
    "zeros": (put(WEIGHTS, b"\0" * 4096), f"/model/{WEIGHTS} is damaged: it begins with nothing but zeros"),
    "page as weights": (put(WEIGHTS, PAGE), f"/model/{WEIGHTS} is damaged: it is a web page"),
    "page as configuration": (put("config.json", PAGE), "/model/config.json is damaged: it is a web page"),
    "page as tokenizer": (put("tokenizer.json", PAGE), "/model/tokenizer.json is damaged: it is a web page"),
    "answer": (
        put("config.json", "Entry not found"),
        "config.json holds a server's answer, not the file: 'Entry not",
    ),
    "answer in JSON": (
        put("preprocessor_config.json", '{"error": "Repository not found"}'),
        "preprocessor_config.json holds a server's answer, not the file: 'Repository not found'",
    ),
    "archive": (put(WEIGHTS, b"PK\x03\x04" + b"x" * 40), f"{WEIGHTS} is damaged: it is a ZIP archive; PyTorch's"),
    "pickle": (put(WEIGHTS, b"\x80\x02}q" + b"x" * 40), f"{WEIGHTS} is damaged: it is a pickle, which is never read"),
    "compressed": (
        put("tokenizer.json", b"\x1f\x8b\x08\0" * 9),
        "tokenizer.json is damaged: it is compressed",
    ),
    "cut short": (cut, f"/model/{WEIGHTS} is damaged: it is cut short, 5000 of "),
    "cut in its header": (put(WEIGHTS, struct.pack("<Q", 900) + b'{"a"'), "it is cut short, 12 of 908 bytes"),
    "pointer of a shard": (one_shard(POINTER.encode()), f"/model/{SHARD} is a git-lfs pointer"),
    "unfinished shard": (one_shard(None, f"{SHARD}.incomplete"), f"{SHARD} is missing, and "),
    "unfinished in the hub's folder": (
        one_shard(None, ".cache/huggingface/download/x.abc.incomplete"),
        "x.abc.incomplete is an unfinished download; run it again",
    ),
    "missing shard": (one_shard(None), f"names 1 missing file(s): {SHARD}"),
    "shards without their index": (lambda model: (model / WEIGHTS).rename(model / SHARD), f"without {INDEX}"),
    "weights in GGUF": (
        lambda model: (model / WEIGHTS).rename(model / "llava.gguf"),
        "only weights in GGUF (llava",
    ),
    "link to nothing": (one_link_of_a_cache, f"/model/{WEIGHTS} is a link to ../../blobs/0123, which is not there"),
    "the hub's cache": (in_a_folder_below("snapshots/0a1b"), "/model holds no config.json; "),
    "a trainer's output": (in_a_folder_below("checkpoint-500"), "/model/checkpoint-500 does: give that folder"),
    "an adapter": (adapter, "/model holds an adapter (adapter_config.json), not a model; merge it"),
    "a folder in a file's place": (
        lambda model: ((model / "tokenizer.json").unlink(), (model / "tokenizer.json").mkdir()),
        "/model/tokenizer.json is a folder; expected a file",
    ),
    "brackets by the thousand": (put("config.json", "[" * 100_000), "config.json cannot be read as JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_stands_in_a_files_place_is_told_in_one_line(refused: Callable[[Spoil], str], kind: str) -> None:
    spoil, told = BROKEN[kind]
    assert told in refused(spoil)


def test_every_command_tells_it(given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = given.copied_model(tmp_path / "model")
    put(WEIGHTS, POINTER)(model)
    named = ["--model", model, "--data", given.file, "--images", given.images, "--out", tmp_path / "out"]
    assert "is a git-lfs pointer" in Refusal(capsys, tmp_path, evaluate.main)([*map(str, named)])
    with pytest.raises(CheckpointError, match="is a git-lfs pointer"):
        convert(model, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_piece_of_a_converted_checkpoint_may_be_a_pointer_too(given: Given, tmp_path: Path) -> None:
    model = convert(given.model, tmp_path / "model")
    piece = max((path for path in model.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    piece.write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{piece.name} is a git-lfs pointer"):
        read_checkpoint(model).identify()


def test_a_file_that_is_not_read_may_be_anything(given: Given, tmp_path: Path) -> None:
    model = given.copied_model(tmp_path / "model")
    for name in ("consolidated.safetensors", "pytorch_model.bin", "README.md"):
        put(name, POINTER)(model)
    read_checkpoint(model).identify()


def test_sound_files_are_left_to_their_readers(given: Given, tmp_path: Path) -> None:
    for path in given.model.iterdir():
        refuse_broken(path)
    refuse_broken(tmp_path / "not there.json")

"""`--model`: every checkpoint that cannot be used ends the command with one line that names what is wrong."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands.refusal import Given, Refusal, write_given
from tests.weights.tiny_checkpoint import edit_config, edit_tensors
from xmflow_jax.convert import convert
from xmflow_jax.data.templates import write_prompt_file

pytestmark = pytest.mark.usefixtures("unprepared_process")

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "language_model.model.norm.weight"
Spoil = Callable[[Path], Any]


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


def delete(*names: str) -> Spoil:
    return lambda model: [(model / name).unlink() for name in names]


def overwrite(name: str, text: str) -> Spoil:
    return lambda model: (model / name).write_text(text)


def cut(name: str, size: int) -> Spoil:
    """The first bytes of a file; a negative size counts from its end."""
    return lambda model: (model / name).write_bytes((model / name).read_bytes()[:size])


def tensors(edit: Callable[[dict[str, np.ndarray]], Any]) -> Spoil:
    return lambda model: edit_tensors(model, edit)


def config(part: str = "", **values: Any) -> Spoil:
    """Values in config.json, or in a part of it; None takes the key away."""

    def edit(content: dict[str, Any]) -> None:
        section = content[part] if part else content
        section.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del section[name]

    return lambda model: edit_config(model, edit)


def processor(**values: Any) -> Spoil:
    def spoil(model: Path) -> None:
        path = model / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def doubled_key(model: Path) -> None:
    path = model / "config.json"
    path.write_text(f'{path.read_text().rstrip()[:-1]}, "model_type": 1}}')


def emptied(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()


def file_in_its_place(model: Path) -> None:
    shutil.rmtree(model)
    model.write_text("weights")


def pickled(model: Path) -> None:
    (model / WEIGHTS).rename(model / "pytorch_model.bin")


def one_shard_of_two(model: Path) -> None:
    (model / WEIGHTS).rename(model / "model-00001-of-00002.safetensors")
    shards = {NORM: "model-00001-of-00002.safetensors", "lm_head": "model-00002-of-00002.safetensors"}
    (model / INDEX).write_text(json.dumps({"weight_map": shards}))


def converted(damage: Spoil) -> Spoil:
    """The same model in converted format, damaged."""

    def spoil(model: Path) -> None:
        published = model.rename(model.parent / "published")
        damage(convert(published, model))

    return spoil


def cut_largest_piece(model: Path) -> None:
    largest = max((path for path in model.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


# What is done to the model, and what the line must name.
BAD: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "missing directory": (shutil.rmtree, ("there is no directory", "{model}")),
    "empty directory": (emptied, ("{model}", "config.json")),
    "a file": (file_in_its_place, ("{model} is a file",)),
    "key missing": (tensors(lambda all_of: all_of.pop(NORM)), ("{model}", f"1 missing: {NORM}")),
    "key left over": (tensors(lambda all_of: all_of.update(extra=all_of[NORM])), ("1 not understood: extra",)),
    "wrong shape": (
        tensors(lambda all_of: all_of.update({NORM: np.ones(7, np.float32)})),
        (NORM, "shape (7,), expected (64,)"),
    ),
    "wrong type": (
        tensors(lambda all_of: all_of.update({NORM: np.ones(64, np.int32)})),
        (NORM, "type I32", "F32"),
    ),
    "weights truncated by a byte": (cut(WEIGHTS, -1), (f"{{model}}/{WEIGHTS} is damaged",)),
    "weights truncated in the header": (cut(WEIGHTS, 100), (f"{{model}}/{WEIGHTS} is damaged",)),
    "weights of no bytes": (cut(WEIGHTS, 0), (f"{{model}}/{WEIGHTS} is damaged",)),
    "weights that are text": (overwrite(WEIGHTS, "<html>404</html>"), (f"{{model}}/{WEIGHTS} is damaged",)),
    "pickle only": (pickled, ("pytorch_model.bin", "never read", "safe_serialization=True")),
    "no weights": (delete(WEIGHTS), ("{model} holds no weights", WEIGHTS)),
    "a file and an index": (overwrite(INDEX, "{}"), (WEIGHTS, INDEX, "both")),
    "shard missing": (one_shard_of_two, (INDEX, "model-00002-of-00002.safetensors")),
    "config missing": (delete("config.json"), ("{model}/config.json is missing",)),
    "config truncated": (cut("config.json", 50), ("{model}/config.json cannot be read as JSON",)),
    "config of another kind": (overwrite("config.json", "[]"), ("{model}/config.json holds a JSON list",)),
    "unknown architecture": (config(model_type="blip-2"), ("model_type is 'blip-2'", "'llava'")),
    "architecture unknown to transformers": (config(model_type="warp"), ("model_type is 'warp'", "'llava'")),
    "no architecture": (config(model_type=None), ("model_type is None", "'llava'")),
    "architecture no text": (config(model_type=["llava"]), ("model_type is ['llava']", "'llava'")),
    "unknown language model": (config("text_config", model_type="gemma"), ("text_config.model_type is 'gemma'",)),
    "unknown vision tower": (
        config("vision_config", model_type="dinov2"),
        ("vision_config.model_type is 'dinov2'", "'clip_vision_model'"),
    ),
    "unsupported activation": (config("text_config", hidden_act="relu6"), ("text_config.hidden_act is 'relu6'",)),
    "unsupported bias": (config("text_config", attention_bias=True), ("attention_bias is True", "False")),
    "unsupported rotary scaling": (
        config("text_config", rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
        ("rotary type is 'dynamic'",),
    ),
    "unsupported selection of features": (config(vision_feature_select_strategy="half"), ("half", "default")),
    "unsupported quantization": (config(quantization_config={"bits": 4}), ("quantization_config is {{'bits': 4}}",)),
    "unknown key": (config("text_config", logit_scale=2), ("text_config.logit_scale = 2",)),
    "feature layer out of range": (config(vision_feature_layer=-9), ("vision_feature_layer is -9", "-4 to 3")),
    "layers that are no number": (config("text_config", num_hidden_layers="three"), ("num_hidden_layers", "three")),
    "more layers than any model has": (
        config("text_config", num_hidden_layers=10**8),
        ("text_config.num_hidden_layers is 100000000; supported: an integer from 1 to 10000",),
    ),
    "layers beyond all numbers": (
        config("vision_config", num_hidden_layers=10**400),
        ("vision_config.num_hidden_layers is 100000", "...; supported: an integer from 1 to 10000"),
    ),
    "a number that float32 has not": (config("text_config", rms_norm_eps=1e308), ("rms_norm_eps is 1e+308", "float32")),
    "a number that float32 takes for 0": (config("vision_config", layer_norm_eps=1e-320), ("_eps is 1e-320",)),
    "a base beyond all numbers": (config("text_config", rope_theta=10**400), ("rope_theta is 100000", "float32")),
    "heads of no width": (config("text_config", head_dim=0), ("head_dim is 0; supported: an integer from 1 up",)),
    "rotary settings that are a list": (config("text_config", rope_scaling=[1]), ("rope_scaling is [1]", "an object")),
    "a key that has two values": (
        doubled_key,
        ("{model}/config.json cannot be read as JSON: the key 'model_type' has two values",),
    ),
    "a key of thousands of letters": (config(**{"x" * 5000: 1}), ("1 field(s) not understood: xxxx",)),
    "no text configuration": (config(text_config=[]), ("text_config is []", "object")),
    "heads that do not divide": (config("text_config", num_attention_heads=5), ("heads (5)",)),
    "patches larger than the image": (config("vision_config", patch_size=100), ("patch_size is 100", "1 to 56")),
    "no processor files": (
        delete("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
        ("{model}: no tokenizer", "tokenizer.json"),
    ),
    "no image processor": (delete("preprocessor_config.json"), ("{model}", "preprocessor_config.json")),
    "no tokenizer": (delete("tokenizer.json"), ("{model}: no tokenizer", "tokenizer.json")),
    "no end of answers": (delete("tokenizer_config.json"), ("{model}", "eos_token in tokenizer_config.json")),
    "generation that names no end": (
        overwrite("generation_config.json", '{"eos_token_id": "</s>"}'),
        ("{model}/generation_config.json", "'</s>'"),
    ),
    "tokenizer truncated": (cut("tokenizer.json", 50), ("{model}: the tokenizer cannot be read",)),
    "tokenizer of another format": (overwrite("tokenizer.json", "{}"), ("{model}: the tokenizer cannot be read",)),
    "image processor truncated": (
        cut("preprocessor_config.json", 50),
        ("{model}/preprocessor_config.json cannot be read as JSON",),
    ),
    "unknown image processor": (
        processor(image_processor_type="WarpImageProcessor"),
        ("the image processor cannot be read", "{model}"),
    ),
    "image processor of another model": (
        processor(crop_size={"height": 28, "width": 28}),
        ("shape (28, 28, 3)", "(56, 56, 3)"),
    ),
    "image processor that fails": (processor(image_mean=[0.5]), ("{model}: the image processor does not work",)),
    "prompt without a question": (
        lambda model: write_prompt_file(model, "<image> why?"),
        ("{model}/prompt.json", "'<image> why?'", "{{question}} 0 times"),
    ),
    "converted without a marker's content": (overwrite("xmflow.json", "{}"), ("{model}/xmflow.json: format is None",)),
    "converted and truncated": (converted(cut_largest_piece), ("{model}",)),
    "converted and changed": (
        converted(config("text_config", intermediate_size=10**7)),
        ("other parameters than config.json calls for",),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_checkpoint_that_cannot_be_used_is_refused_in_one_line(
    refused: Callable[[Spoil], str], tmp_path: Path, kind: str
) -> None:
    spoil, named = BAD[kind]
    line = refused(spoil)
    for words in named:
        assert words.format(model=tmp_path / "model") in line
    assert len(line) < 400 + 3 * len(str(tmp_path))  # a line, not transformers' list of every model it knows


def test_the_same_study_of_the_sound_model_is_not_refused(given: Given, tmp_path: Path) -> None:
    """Else the refusals above would show nothing."""
    from xmflow_jax.sweep import main

    model = given.copied_model(tmp_path / "model")
    assert main(given.command(tmp_path / "out", "--model", str(model), "--dry-run")) == 0


@pytest.mark.parametrize("name", ["owner/name", "./nowhere", "x" * 5000, "two\nlines"])
def test_a_name_of_no_model_is_in_the_line(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line = Refusal(capsys, tmp_path)(given.command(tmp_path / "out", "--model", name))
    assert name.removeprefix("./").replace("\n", " ") in line

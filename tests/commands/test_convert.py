"""Converted checkpoints are the source's, bit by bit, or are not there at all."""

import json
from pathlib import Path

import pytest

from tests.weights.test_load import assert_same_parameters
from tests.weights.tiny_checkpoint import edit_config, edit_tensors, write_tiny
from xmflow_jax.convert import convert, main
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_tiny(tmp_path / "source", shards=2)
    for name in ("tokenizer.json", "preprocessor_config.json", "tokenizer.model", "chat_template.jinja"):
        (folder / name).write_text(name)
    (folder / "modeling_custom.py").write_text("raise SystemExit")
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_parameters(tmp_path: Path, source: Path, dtype: str) -> None:
    target = convert(source, tmp_path / "new" / "target", dtype)
    converted, published = load_model(target), load_model(source, dtype)
    assert_same_parameters(converted, published)
    assert (converted.config, converted.dtype, converted.digest) == (published.config, dtype, published.digest)


def test_cast_while_loading(tmp_path: Path, source: Path) -> None:
    wide = convert(source, tmp_path / "wide", "float32")
    narrow = convert(wide, tmp_path / "narrow", "bfloat16")
    direct = load_model(source, "bfloat16")
    for model in (load_model(wide, "bfloat16"), load_model(narrow)):
        assert_same_parameters(model, direct)
        assert model.digest == direct.digest
    # Widening what was rounded does not bring the source back, and does not claim to.
    widened = load_model(narrow, "float32")
    assert widened.dtype == "float32"
    assert widened.digest == direct.digest != load_model(source, "float32").digest


def test_files_beside_the_weights(tmp_path: Path, source: Path) -> None:
    target = convert(source, tmp_path / "target")
    assert {path.name for path in target.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "parameters",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "xmflow.json",
    }
    marker = json.loads((target / "xmflow.json").read_text())
    assert marker.pop("files").keys() >= {"_METADATA", "manifest.ocdbt"}
    assert marker == {
        "dtype": "float32",
        "digest": load_model(source).digest,
        "format": 1,
        "family": "llava",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_command(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "target"
    assert main([str(source), str(target), "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().out == f"wrote {target}\n"
    assert main([str(source), str(target)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {target} exists; name a folder that does not\n"


def test_a_refused_source_leaves_nothing(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_config(source, lambda content: content.update(surprise=1))
    assert main([str(source), str(tmp_path / "target")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full_disk)
    with pytest.raises(CheckpointError, match=r"target cannot be written: .*No space left"):
        convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("marker", "named"),
    [
        ({"format": 2}, "format is 2; supported: 1"),
        ({"family": "blip"}, "family is 'blip'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"digest": None}, "is damaged"),
        ({"files": None}, "is damaged"),
        ({"surprise": 1}, "is damaged"),
    ],
)
def test_markers_that_are_not_understood(tmp_path: Path, source: Path, marker: dict[str, object], named: str) -> None:
    target = convert(source, tmp_path / "target")
    path = target / "xmflow.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | marker))
    with pytest.raises(CheckpointError, match=named):
        load_model(target)


def test_parameters_that_do_not_fit_the_configuration(tmp_path: Path, source: Path) -> None:
    target = convert(source, tmp_path / "target")
    edit_config(target, lambda content: content["text_config"].update(num_hidden_layers=2))
    with pytest.raises(CheckpointError, match=r"other parameters than config\.json calls for") as refusal:
        load_model(target)
    assert "\n" not in str(refusal.value)


def test_truncated_parameters(tmp_path: Path, source: Path) -> None:
    target = convert(source, tmp_path / "target")
    path = max((path for path in target.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"1 file\(s\) missing or of another size .*; convert again"):
        load_model(target)


def test_missing_parameters(tmp_path: Path, source: Path) -> None:
    target = convert(source, tmp_path / "target")
    (target / "parameters").rename(target / "elsewhere")
    with pytest.raises(CheckpointError, match="missing or of another size"):
        load_model(target)


def test_tied_model(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "source")
    edit_config(source, lambda content: content.update(tie_word_embeddings=True))
    edit_tensors(source, lambda tensors: tensors.pop("language_model.lm_head.weight"))
    assert_same_parameters(load_model(convert(source, tmp_path / "target")), load_model(source))

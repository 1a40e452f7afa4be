"""The command that lists families and examines a checkpoint."""

import shutil
from pathlib import Path

import pytest

from tests.families.model_files import write_model
from xmflow_jax.families.registry import LLAVA, LLAVA_NEXT, all_families
from xmflow_jax.models import main
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("unprepared_process")


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_every_family_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = told(capsys)
    assert [line.partition(":")[0] for line in lines] == [family.model_type for family in all_families()]
    assert "llava: decoder (self); image in the prompt" in lines
    crossing = next(line for line in lines if line.startswith("vision-encoder-decoder"))
    assert "cross reads" in crossing
    assert crossing.endswith("image read from outside the prompt")
    assert any("views Image Base, Image Tiles, Image Newline" in line for line in lines)


def test_a_whole_checkpoint_is_examined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(write_model(tmp_path / "model", LLAVA_NEXT))]) == 0
    lines = told(capsys)
    assert "llava_next, 3 layers, 4 heads" in lines[0]
    assert "prompt vicuna_v1: the usual one of its family" in "\n".join(lines)
    assert lines[-1] == "weights: stored as float32, every tensor understood"
    assert "  devices of 16 GB: one device holds them" in lines


def test_a_configuration_alone_is_enough_to_begin_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of LLaVA-1.5-13B, whose weights in bfloat16 are 26.7 GB."""
    (tmp_path / "config.json").write_text(
        """{"model_type": "llava", "image_token_index": 32000, "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default", "projector_hidden_act": "gelu",
        "text_config": {"model_type": "llama", "hidden_size": 5120, "intermediate_size": 13824,
        "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 40, "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
        "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}}"""
    )
    assert main(["--check", str(tmp_path)]) == 0
    lines = told(capsys)
    assert "40 layers, 40 heads" in lines[0]
    assert "a photo of 640x480 takes 576 image positions, by published limits" in lines
    (weights,) = [line for line in lines if line.startswith("weights in bfloat16")]
    assert 26 < float(weights.split()[3]) < 27.5
    assert "  devices of 16 GB: --mesh data=1,model=4" in lines
    assert "  devices of 80 GB: one device holds them" in lines
    assert lines[-1] == "no weights in safetensors format among the files: tensors are not checked"


def test_what_would_stop_a_study_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model", LLAVA)
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").unlink()
    write_random(tmp_path / "deeper", LLAVA, LLAVA.tiny, seed=0)
    shutil.copyfile(tmp_path / "deeper" / "model.safetensors", tmp_path / "other" / "model.safetensors")
    for folder, complaint in ((tmp_path / "none", "none"), (tmp_path / "other", "shape")):
        assert main(["--check", str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert complaint in line

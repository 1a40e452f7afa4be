"""`--mesh` from the command line, in processes of their own with several CPU devices."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands.killed_run import Study
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.run.folder import read_rows
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.random_checkpoint import write_random


@dataclasses.dataclass(frozen=True)
class Devices(Study):
    """A study whose processes have two CPU devices."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "JAX_NUM_CPU_DEVICES": "2"}


@pytest.mark.slow
def test_forty_layers_of_grouped_heads_in_several_files(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    vocabulary = write_demo_tokenizer(model)
    write_image_processor(model, 28)
    vision = ClipVisionConfig(28, 14, width=16, mlp_width=32, layers=3, heads=2)
    text = LlamaConfig(vocabulary, width=32, mlp_width=48, layers=40, heads=4, kv_heads=2, head_width=8)
    write_random(model, LLAVA, LlavaConfig(vision, text, image_token=vocabulary - 1), seed=0, shards=3)
    assert len(list(model.glob("*.safetensors"))) == 3
    (tmp_path / "home").mkdir()
    (file, *_), images = write_demo_questions(tmp_path / "data", per_task=3, seed=1)
    arguments = ("--model", str(model), "--images", str(images), "--data", str(file), "--select", "all")
    study = Devices(tmp_path, (*arguments, "--batch-size", "2", "--answer-length", "2"))
    told = {mesh: Devices(tmp_path, (*study.arguments, "--mesh", mesh)).finish(tmp_path / mesh) for mesh in
            ("data=1", "model=2", "data=2")}  # fmt: skip
    assert "2 devices: questions over 1, the model over 2" in told["model=2"]
    assert "2 devices: questions over 2, the model over 1" in told["data=2"]
    alone = read_rows(tmp_path / "data=1")
    assert alone["layer"].nunique() == 40
    for mesh in ("model=2", "data=2"):
        rows = read_rows(tmp_path / mesh)
        numbers = ["base_prob", "knockout_prob"]
        np.testing.assert_allclose(rows[numbers], alone[numbers], rtol=0, atol=1e-5)
        same = ["question_id", "pathway", "layer", "knockout_token", "knockout_answer", "knockout_score"]
        pd.testing.assert_frame_equal(rows[same], alone[same])

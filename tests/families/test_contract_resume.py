"""A sweep of every registered family by the command's function: interrupted and resumed, it is the undisturbed one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.families.contract import FAMILIES, registered_for
from tests.families.proof_family.family import PROOF
from xmflow_jax import run_sweep
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.families.family import Family
from xmflow_jax.run.folder import RunFolder, read_rows
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def with_marks(tiny: Any, words: int) -> Any:
    """The last words of the vocabulary are the image's and its marks."""
    text = replace(tiny.text, vocabulary=words)
    return replace(tiny, text=text, image_token=words - 1, start_token=words - 2, end_token=words - 3)


# A family's tiny configuration with as many words as the demonstration's tokenizer has.
WITH_WORDS: dict[str, Callable[[Any, int], Any]] = {
    "llava": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "vision-encoder-decoder": lambda tiny, words: replace(
        tiny, text=replace(tiny.text, vocabulary=words, positions=128)
    ),
    "gemma3": lambda tiny, words: replace(
        tiny,
        text=replace(tiny.text, vocabulary=words),
        image_token=words - 1,
        begin_token=words - 2,
        end_token=words - 3,
    ),
    "paligemma": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "llava_next": lambda tiny, words: replace(tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1),
    "llava_onevision": lambda tiny, words: replace(
        tiny, text=replace(tiny.text, vocabulary=words), image_token=words - 1
    ),
    "qwen2_5_vl": with_marks,
    "qwen2_vl": with_marks,
    "proof": lambda tiny, words: PROOF.presets["proof-tiny"](words, tiny.text.layers),
}

# Families that cut an image of its own size into patches.
PATCHES = ("qwen2_5_vl", "qwen2_vl")
# The image processors of families that cut images into tiles.
TILES = {"llava_next": "LlavaNextImageProcessor", "llava_onevision": "LlavaOnevisionImageProcessor"}


@pytest.fixture(name="family", params=[
    pytest.param(one, id=one.model_type, marks=[pytest.mark.slow] * (one is not PROOF)) for one in FAMILIES
])  # fmt: skip
def fixture_family(request: pytest.FixtureRequest) -> Iterator[Family]:
    with registered_for(request.param):
        yield request.param


def write_model(folder: Path, family: Family) -> Path:
    folder.mkdir()
    config = WITH_WORDS[family.model_type](family.tiny, write_demo_tokenizer(folder))
    layout = family.image_layout(config, (1, 1))
    write_image_processor(folder, getattr(config.vision, "image_size", layout.rows * layout.side))
    if family.model_type in TILES:
        file = folder / "preprocessor_config.json"
        own = {"image_processor_type": TILES[family.model_type], "image_grid_pinpoints": config.canvases}
        file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    if family.model_type in PATCHES:
        settings = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": config.vision.patch_size}
        settings |= {"merge_size": config.vision.merge, "min_pixels": 56 * 56, "max_pixels": 56 * 112}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    write_random(folder, family, config, seed=0)
    return folder


def test_an_interrupted_sweep_goes_on_to_the_same_rows(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", family)
    files, images = write_demo_questions(tmp_path / "data", per_task=3, seed=0)
    (data,) = (file for file in files if file.stem.endswith("QueryAttr"))
    options: dict[str, Any] = {"model": str(model), "data": (str(data),), "images": images, "select": "all"}
    options |= {"pathways": "Image->Question@single, Question->Last@single", "batch_size": 1, "self_check": False}
    options |= {"answer_length": 3}
    expected = run_sweep(**options, out=tmp_path / "undisturbed").rows
    assert expected["question_id"].nunique() == 3
    assert expected["relative_change"].abs().max() > 1
    append, landed = RunFolder.append_part, []

    def once(*arguments: Any, **named: Any) -> None:
        if landed:
            raise KeyboardInterrupt
        landed.append(append(*arguments, **named))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_part", once)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(**options, out=tmp_path / "out")
    assert read_rows(tmp_path / "out")["question_id"].nunique() == 1
    run_sweep(**options, out=tmp_path / "out")
    pd.testing.assert_frame_equal(read_rows(tmp_path / "out"), read_rows(tmp_path / "undisturbed"), check_exact=True)

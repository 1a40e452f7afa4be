"""LLaVA-NeXT's own files: prompts of images of several sizes, roles of both views, prompts by decoder, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import write_tiny_processing
from tests.families.variants import NEXT
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.data.chosen_prompt import choose_prompt
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import NAMED_TEMPLATES
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.llava_next.family import FAMILY
from xmflow_jax.families.llava_next.modeling import LlavaNextConfig
from xmflow_jax.families.llava_next.processing import template
from xmflow_jax.study.preview import draw_image

VERTICAL, HORIZONTAL = (40, 100), (112, 30)


def write_next(folder: Path, **preprocessor: object) -> LlavaNextConfig:
    """The files of a checkpoint but its weights."""
    words = write_tiny_processing(folder, with_config=False)
    config = replace(NEXT, image_token=words - 1, text=replace(NEXT.text, vocabulary=words))
    (folder / "config.json").write_text(json.dumps(FAMILY.write_config(config, "float32")))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    own = {
        "image_processor_type": "LlavaNextImageProcessor",
        "image_grid_pinpoints": [list(canvas) for canvas in config.canvases],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, **own, **preprocessor}))
    return config


def prepare(folder: Path, size: tuple[int, int], box: Box) -> PreparedQuestion:
    checkpoint = read_checkpoint(folder)
    path = folder / f"{size[0]}x{size[1]}.png"
    noise = np.random.default_rng(0).integers(1, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)
    question = Question("1", "1", path, "Is the ball red?", "yes", "task", boxes=(box,))
    return prepare_question(question, checkpoint.processing(), NAMED_TEMPLATES["vicuna_v1"])


def test_prompts_of_images_of_two_sizes(tmp_path: Path) -> None:
    config = write_next(tmp_path)
    assert read_checkpoint(tmp_path).config == config
    # The lower right quarter, in both.
    prompts = [
        prepare(tmp_path, (width, height), Box(width // 2, height // 2, width // 2, height // 2))
        for width, height in (VERTICAL, HORIZONTAL)
    ]
    # 40 x 100 on 28 x 56 turned upright: 4 rows of 2 cells lose none; the whole's four come first.
    for prompt in prompts:
        own, layout = prompt.roles, prompt.images[0]
        image = own[roles.IMAGE]
        assert image.sum() == layout.positions == (prompt.token_ids == config.image_token).sum()
        parts = [own[view] for view in (roles.IMAGE_BASE, roles.IMAGE_TILES, roles.IMAGE_NEWLINE)]
        np.testing.assert_array_equal(np.sum(parts, axis=0), image)
        central = own[roles.IMAGE_CENTRAL_OBJECT]
        # Of the whole's four patches the last, and patches of the large picture.
        assert np.flatnonzero(central[image][:4]).tolist() == [3]
        assert (central & own[roles.IMAGE_TILES]).any()
        assert not (central & own[roles.IMAGE_NEWLINE]).any()
        np.testing.assert_array_equal(own[roles.IMAGE_WITHOUT_CENTRAL_OBJECT], image & ~central & ~own[roles.IMAGE_PAD])
    assert len({prompt.images[0].positions for prompt in prompts}) == 2
    batch = build_batch(prompts)
    assert batch.pixels["colours"].shape[1] == max(len(prompt.pixels["colours"]) for prompt in prompts)


@pytest.mark.parametrize(("size", "cells"), [((57, 50), 16), ((100, 37), 8), ((37, 100), 8), ((300, 20), 0)])
def test_no_kept_cell_is_padding_alone(tmp_path: Path, size: tuple[int, int], cells: int) -> None:
    """Of an image of fifteen to one, on a canvas of two by four cells, no row is kept."""
    write_next(tmp_path)
    prompt = prepare(tmp_path, size, Box(0, 0, size[0], size[1]))
    assert prompt.roles[roles.IMAGE_TILES].sum() == cells
    assert not prompt.roles[roles.IMAGE_PAD].any()


def test_the_drawing_shows_both_views(tmp_path: Path) -> None:
    write_next(tmp_path)
    prompt = prepare(tmp_path, VERTICAL, Box(20, 50, 20, 50))
    layout = prompt.images[0]
    drawn = draw_image(prompt, read_checkpoint(tmp_path).processing())
    assert drawn.width * layout.rows == drawn.height * layout.columns
    assert layout.rows > layout.columns


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"image_grid_pinpoints": [[28, 56]]}, "image_grid_pinpoints of the image processor and of config.json differ"),
        ({"crop_size": {"height": 14, "width": 14}}, "pixels of shape"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image processor"),
    ],
)
def test_an_image_processor_of_another_form_is_refused(
    tmp_path: Path, settings: dict[str, object], complaint: str
) -> None:
    write_next(tmp_path, **settings)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_checkpoint(tmp_path).processing()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "canvases", [[], [[28, 30]], [[28]], "all", [[28.0, 56]], [[0, 28]], [[True, 28]], [[28, 10**9 * 28]], None]
)
def test_canvases_that_are_none_are_refused(canvases: object) -> None:
    content = FAMILY.write_config(NEXT, "float32") | {"image_grid_pinpoints": canvases}
    if canvases is None:  # transformers' own: of tiles of 336 pixels, of which 28 is a divisor
        config = FAMILY.read_config(Path("config.json"), content)
        assert isinstance(config, LlavaNextConfig)
        assert (336, 672) in config.canvases
        return
    with pytest.raises(CheckpointError, match=r"config\.json.*image_grid_pinpoints"):
        FAMILY.read_config(Path("config.json"), content)


def test_llama_3s_chat_is_the_studys_prompt_with_the_studys_own_end(tmp_path: Path) -> None:
    """LLaVA's words of the system stand in the published chat template; the space and line end at the end do not."""
    write_next(tmp_path)
    usual = NAMED_TEMPLATES["llava_llama_3"]
    assert usual.text.endswith("<|end_header_id|>\n\n \n")
    system = usual.text.partition("<|eot_id|>")[0] + "<|eot_id|>"
    turn = "<|start_header_id|>user<|end_header_id|>\n\n<image>\n{{ messages[0].content[1].text }}<|eot_id|>"
    chat = f"{system}{turn}<|start_header_id|>assistant<|end_header_id|>\n\n"
    (tmp_path / "chat_template.jinja").write_text(f"{{% raw %}}{system}{{% endraw %}}{chat.removeprefix(system)}")
    found = choose_prompt(tmp_path, usual, read_checkpoint(tmp_path).processing(), image_in_prompt=True)
    assert found.template == usual
    assert found.line().startswith("prompt llava_llama_3: the first study's, as in chat_template.jinja but for its end")


@pytest.mark.parametrize(
    ("decoder", "vocabulary", "name"),
    [
        ("llama", 32064, "vicuna_v1"),
        ("llama", 128320, "llava_llama_3"),
        ("mistral", 32064, "mistral_instruct"),
        ("qwen2", 152000, "qwen_1_5"),
    ],
)
def test_the_usual_prompt_is_that_of_the_decoders_own_chat(decoder: str, vocabulary: int, name: str) -> None:
    config = replace(NEXT, text=replace(NEXT.text, model_type=decoder, vocabulary=vocabulary))
    assert template(Path(), config).name == name

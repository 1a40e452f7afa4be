"""Files, prompts and boxes of InternVL, Idefics3 and SmolVLM: marks token for token, pixels position for position."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.families.painting import changed_positions, painted_square
from tests.families.split_images.split_files import prepare, write_files
from tests.weights.tiny_checkpoint import edit_config
from xmflow_jax.data import roles
from xmflow_jax.data.chosen_prompt import choose_prompt
from xmflow_jax.data.images import FEATURE
from xmflow_jax.data.question import Box
from xmflow_jax.data.templates import NAMED_TEMPLATES
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import IDEFICS3, INTERNVL, SMOLVLM
from xmflow_jax.study.preview import draw_image
from xmflow_jax.weights.random_checkpoint import write_random

each_family = pytest.mark.parametrize("family", [INTERNVL, IDEFICS3, SMOLVLM], ids=lambda family: family.model_type)
# (width, height): a picture that is not split, and grids of both processors both ways oblong.
SIZES = ((28, 28), (120, 80), (60, 90), (200, 40), (30, 110), (57, 50))
CELL = 14  # pixels along a position's side
AROUND, WHOLE_MARK = "<fake_token_around_image>", "<global-img>"
ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))


def noise(folder: Path, size: tuple[int, int], seed: int = 0) -> Path:
    path = folder / f"{size[0]}x{size[1]}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


@each_family
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_positions_box_holds_the_pixels_of_its_patches(
    family: Family, size: tuple[int, int], tmp_path: Path
) -> None:
    """Those that the tower's projector joins to this position: position n of a tile is its n-th square of patches."""
    config = write_files(tmp_path, family)
    processing = read_checkpoint(tmp_path).processing()
    image = Image.open(noise(tmp_path, size)).convert("RGB")
    layout, picture = processing.image_layout(size), processing.plain_pixels(image)
    assert picture.shape == (layout.rows * CELL, layout.columns * CELL, 3)
    tiles = processing.pixels([image])
    assert tiles.dtype == np.float32
    assert len(tiles) * config.side**2 == layout.positions
    # Colours as they were, by the normalisation undone.
    told = processing.image_processor
    tiles = np.rint((tiles * np.array(told.image_std) + np.array(told.image_mean)) * 255).astype(np.uint8)
    squares = tiles.reshape(len(tiles), config.side, CELL, config.side, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
    for position, square in enumerate(squares.reshape(-1, CELL, CELL, 3)):
        box = layout.box(position)
        assert box is not None
        np.testing.assert_array_equal(picture[box[1] : box[3], box[0] : box[2]], square)


@each_family
@pytest.mark.parametrize(("across", "down"), [(4, 3), (2, 3), (4, 1)], ids=str)
def test_a_painted_square_changes_the_pixels_of_its_own_positions_alone(
    family: Family, across: int, down: int, tmp_path: Path
) -> None:
    """An image of a grid's own size is not scaled there, so that one square of it is one position's."""
    longest = 28 * max(across, down)
    settings = {} if family is INTERNVL else {"size": {"longest_edge": longest}}
    write_files(tmp_path, family, **settings)
    processing = read_checkpoint(tmp_path).processing()
    size = (28 * across, 28 * down)
    layout = processing.image_layout(size)
    assert layout.positions == 4 * (across * down + 1)
    rng = np.random.default_rng(1)
    for _ in range(4):
        row, column = int(rng.integers(2 * down)), int(rng.integers(2 * across))
        changed = changed_positions(processing, *painted_square(size, CELL, row, column))
        tile = row // 2 * across + column // 2
        own = 4 * tile + row % 2 * 2 + column % 2
        assert np.flatnonzero(changed & layout.views[roles.IMAGE_TILES]).tolist() == [own]
        shrunk = np.flatnonzero(changed & layout.views[roles.IMAGE_BASE]) - 4 * across * down
        middle = (int((row + 0.5) / down), int((column + 0.5) / across))
        assert middle[0] * 2 + middle[1] in shrunk


@each_family
def test_a_prompt_has_its_roles_in_both_views(family: Family, tmp_path: Path) -> None:
    config = write_files(tmp_path, family)
    size = (112, 84)
    # The lower right quarter.
    prompt = prepare(tmp_path, noise(tmp_path, size), Box(57, 43, 55, 41))
    layout, own = prompt.images[0], prompt.roles
    image = own[roles.IMAGE]
    assert image.sum() == layout.positions == (prompt.token_ids == config.image_token).sum()
    base, tiles = own[roles.IMAGE_BASE], own[roles.IMAGE_TILES]
    np.testing.assert_array_equal(base ^ tiles, image)
    assert not own[roles.IMAGE_PAD].any()
    central = own[roles.IMAGE_CENTRAL_OBJECT]
    assert np.flatnonzero(central[base]).tolist() == [3]
    assert (central & tiles).sum() == (layout.columns // 2) * ((layout.rows - 2) // 2)
    np.testing.assert_array_equal(own[roles.IMAGE_WITHOUT_CENTRAL_OBJECT], image & ~central)
    drawn = draw_image(prompt, read_checkpoint(tmp_path).processing())
    assert drawn.width * layout.rows == drawn.height * layout.columns


@each_family
def test_an_image_of_one_tile_has_the_whole_alone(family: Family, tmp_path: Path) -> None:
    write_files(tmp_path, family, **({} if family is INTERNVL else {"do_image_splitting": False}))
    prompt = prepare(tmp_path, noise(tmp_path, (28, 28)))
    assert prompt.roles[roles.IMAGE_BASE].sum() == prompt.roles[roles.IMAGE].sum() == 4
    assert not prompt.roles[roles.IMAGE_TILES].any()


@pytest.mark.parametrize("family", [IDEFICS3, SMOLVLM], ids=lambda family: family.model_type)
@pytest.mark.parametrize("marks", [(AROUND,), (AROUND, *ROWS, WHOLE_MARK)], ids=["spelt", "words of their own"])
@pytest.mark.parametrize("splits", [True, False], ids=["split", "whole"])
def test_the_image_is_the_processors_text_token_for_token(
    family: Family, marks: tuple[str, ...], splits: bool, tmp_path: Path
) -> None:
    from transformers import Idefics3Processor

    config = write_files(tmp_path, family, marks, do_image_splitting=splits)
    processing = read_checkpoint(tmp_path).processing()
    told: Any = SimpleNamespace(
        fake_image_token=AROUND, global_image_tag=WHOLE_MARK, image_token="<image>", image_seq_len=config.side**2
    )
    for size in SIZES:
        image = Image.open(noise(tmp_path, size)).convert("RGB")
        made = processing.image_processor(image, return_row_col_info=True)
        text = Idefics3Processor.replace_image_token(told, {"rows": made["rows"], "cols": made["cols"]}, 0)
        expected = processing.tokenizer(text, add_special_tokens=False).input_ids
        layout = processing.image_layout(size)
        np.testing.assert_array_equal(np.where(layout.tokens == FEATURE, config.image_token, layout.tokens), expected)
        assert (layout.tokens == FEATURE).sum() == layout.positions


def test_internvls_image_stands_between_its_marks(tmp_path: Path) -> None:
    config = write_files(tmp_path, INTERNVL)
    processing = read_checkpoint(tmp_path).processing()
    words = processing.tokenizer.get_vocab()
    for size in SIZES:
        tokens: Any = processing.image_layout(size).tokens
        assert (tokens[0], tokens[-1]) == (words["<img>"], words["</img>"])
        assert (tokens[1:-1] == FEATURE).all()
    prompt = prepare(tmp_path, noise(tmp_path, (28, 28)), template=NAMED_TEMPLATES["internvl"])
    image = np.flatnonzero(prompt.token_ids == config.image_token)
    assert prompt.token_ids[image[0] - 1] == words["<img>"]


# What cannot be used is refused in one line.


@pytest.mark.parametrize(
    ("family", "settings", "complaint"),
    [
        (INTERNVL, {"min_patches": 3, "max_patches": 2}, "min_patches and max_patches are 3 and 2"),
        (INTERNVL, {"max_patches": 10**9}, "min_patches and max_patches are 1 and 1000000000"),
        (INTERNVL, {"size": {"height": 14, "width": 14}}, "pixels of shape"),
        (INTERNVL, {"image_processor_type": "CLIPImageProcessor"}, "the image processor does not work"),
        (IDEFICS3, {"size": {"height": 28, "width": 28}}, "size is .*; expected longest_edge"),
        (SMOLVLM, {"max_image_size": {"longest_edge": 14}}, "pixels of shape"),
        (
            SMOLVLM,
            {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 28}},
            "expected longest_edge",
        ),
    ],
)
def test_an_image_processor_of_another_form_is_refused(
    family: Family, settings: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    write_files(tmp_path, family, **settings)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_checkpoint(tmp_path).processing()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "marks", "missing"), [(INTERNVL, ("<img>",), "'</img>'"), (IDEFICS3, (), repr(AROUND))]
)
def test_a_tokenizer_without_the_marks_is_refused(
    family: Family, marks: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    write_files(tmp_path, family, marks)
    with pytest.raises(CheckpointError, match=f"the tokenizer has no token {missing}, which stands beside an image"):
        read_checkpoint(tmp_path).processing()


# Prompts

IDEFICS3_CHAT = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
INTERNVL_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}{% for line in message['content'] %}"
    "{% if line['type'] == 'image' %}{{'<image>\n'}}{% else %}{{line['text']}}{% endif %}{% endfor %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)


@pytest.mark.parametrize(
    ("family", "chat", "name"), [(SMOLVLM, IDEFICS3_CHAT, "smolvlm"), (INTERNVL, INTERNVL_CHAT, "internvl")]
)
def test_the_usual_prompt_is_that_of_the_published_chat_template(
    family: Family, chat: str, name: str, tmp_path: Path
) -> None:
    write_files(tmp_path, family)
    checkpoint = read_checkpoint(tmp_path)
    processing = checkpoint.processing()
    usual = family.template(tmp_path, checkpoint.config)
    assert usual == NAMED_TEMPLATES[name]
    (tmp_path / "chat_template.jinja").write_text(chat)
    found = choose_prompt(tmp_path, usual, processing, image_in_prompt=True)
    assert found.template == usual
    assert found.line() == f"prompt {name}: the usual one of its family, as in chat_template.jinja"


# config.json


@pytest.mark.parametrize(
    ("family", "part", "values", "complaint"),
    [
        (INTERNVL, None, {"downsample_ratio": 0.3}, "downsample_ratio is 0.3"),
        (INTERNVL, None, {"downsample_ratio": 1 / 3}, "downsample_ratio is 0.333"),
        (INTERNVL, None, {"downsample_ratio": 0.0}, "downsample_ratio is 0.0"),
        (INTERNVL, None, {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
        (INTERNVL, None, {"model_type": "internvl_chat"}, "model_type is 'internvl_chat'"),
        (INTERNVL, "vision_config", {"norm_type": "rms_norm"}, "norm_type is 'rms_norm'"),
        (INTERNVL, "vision_config", {"use_qk_norm": True}, "use_qk_norm is True"),
        (INTERNVL, "vision_config", {"image_size": [28, 14]}, r"image_size is \[28, 14\]; supported: a square's side"),
        (INTERNVL, "vision_config", {"image_size": 30}, "image_size is 30; supported: a multiple of patch_size, 7"),
        (INTERNVL, "text_config", {"model_type": "gpt_oss"}, "text_config.model_type is 'gpt_oss'"),
        (INTERNVL, "text_config", {"use_sliding_window": True}, "use_sliding_window is True"),
        (IDEFICS3, None, {"scale_factor": 3}, "scale_factor is 3 and a tile of 28 pixels has patches of 7"),
        (IDEFICS3, None, {"model_type": "idefics2"}, "model_type is 'idefics2'"),
        (IDEFICS3, "text_config", {"qk_layer_norms": True}, "qk_layer_norms is True"),
        (SMOLVLM, "text_config", {"model_type": "mistral"}, "text_config.model_type is 'mistral'"),
        (SMOLVLM, "vision_config", {"model_type": "clip_vision_model"}, "vision_config.model_type is 'clip_vision_m"),
    ],
)
def test_what_is_not_computed_is_refused(
    family: Family, part: str | None, values: dict[str, Any], complaint: str
) -> None:
    content = family.write_config(family.tiny, "float32")
    (content if part is None else content[part]).update(values)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        family.read_config(Path("config.json"), content)
    assert "\n" not in str(caught.value)


def test_what_the_hubs_files_hold_besides_is_understood() -> None:
    content = json.loads(json.dumps(IDEFICS3.write_config(IDEFICS3.tiny, "bfloat16")))
    content |= {"use_cache": True, "transformers.js_config": {"dtype": "q4"}, "vocab_size": 40}
    content["vision_config"] |= {"model_type": "idefics3", "size": {"longest_edge": 2048}, "use_base_siglip": True}
    content["vision_config"] |= {"max_image_size": {"longest_edge": 512}, "tie_word_embeddings": False}
    content["text_config"] |= {"_flash_attn_2_enabled": True, "is_llama_config": True, "pixel_shuffle_factor": 4}
    content["text_config"] |= {"perceiver_config": {"_name_or_path": ""}, "use_resampler": False}
    content["text_config"] |= {"qk_layer_norms": False, "rope_interleaved": False, "neftune_noise_alpha": 0.0}
    assert IDEFICS3.read_config(Path("config.json"), content) == IDEFICS3.tiny

    content = json.loads(json.dumps(INTERNVL.write_config(INTERNVL.tiny, "bfloat16")))
    del content["tie_word_embeddings"]  # which is then true of the whole, and is not asked
    content["vision_config"] |= {"image_size": 28, "layer_scale_init_value": 0.1, "projection_dropout": 0.0}
    content["text_config"] |= {"max_window_layers": 28, "sliding_window": None, "use_sliding_window": False}
    content["text_config"] |= {"rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}}
    assert INTERNVL.read_config(Path("config.json"), content) == INTERNVL.tiny


@pytest.mark.parametrize(
    ("whole", "text", "tied"), [(None, None, True), (None, False, False), (True, False, False), (False, None, False)]
)
def test_the_decoders_flag_ties_before_the_wholes(whole: bool | None, text: bool | None, tied: bool) -> None:
    content = INTERNVL.write_config(INTERNVL.tiny, "float32")
    del content["tie_word_embeddings"], content["text_config"]["tie_word_embeddings"]
    content |= {} if whole is None else {"tie_word_embeddings": whole}
    content["text_config"] |= {} if text is None else {"tie_word_embeddings": text}
    config: Any = INTERNVL.read_config(Path("config.json"), content)
    assert config.text.tied == tied


@pytest.mark.parametrize("tied", [True, False])
def test_where_neither_flag_is_told_the_files_tell(tied: bool, tmp_path: Path) -> None:
    tiny: Any = INTERNVL.tiny
    config = replace(tiny, text=replace(tiny.text, tied=tied))
    write_random(tmp_path, INTERNVL, config, seed=0)

    def untold(content: dict[str, Any]) -> None:
        del content["tie_word_embeddings"], content["text_config"]["tie_word_embeddings"]

    edit_config(tmp_path, untold)
    loaded = load_model(tmp_path)
    assert loaded.config == config

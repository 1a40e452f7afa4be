"""The shipped models' training: its data, its forward passes against the shipped ones, and going on after a kill."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.shapes import train as training
from experiments.shapes.batches import ATTRIBUTE_IDS, STUDY_TASKS, draw_batch, patch_labels, token_ids
from experiments.shapes.losses import BEGIN_ID, cross_attention_hidden, llava_hidden
from experiments.shapes.recipe import RECIPES, DecoderStage, Recipe, VisionStage
from tests.families.full_pass import answer_logits
from xmflow_jax.data.sources.shapes.questions import ask
from xmflow_jax.data.sources.shapes.scenes import VALUES, draw_generator, draw_scene, footprints
from xmflow_jax.data.sources.shapes.tokenizer import CUE, vocabulary, write_shapes_tokenizer
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import next_logits

QUESTIONS = {"ChooseAttr": 1, "ChooseRel": 2}


def small(name: str) -> Recipe:
    """The recipe with two layers, narrow, for a handful of steps."""
    recipe = RECIPES[name]
    vision = replace(recipe.config.vision, width=16, mlp_width=16, layers=1, heads=2)
    sizes: dict[str, Any] = {"width": 24, "mlp_width": 24, "layers": 2, "heads": 2}
    if isinstance(recipe.config, LlavaConfig):
        sizes |= {"kv_heads": 2, "head_width": 12}
    config = replace(recipe.config, vision=vision, text=replace(recipe.config.text, **sizes))
    stage = DecoderStage(steps=6, muon_rate=1e-2, questions=QUESTIONS, decay_from=0.5, sides=True, scenes=2, warm_up=2)
    return Recipe(name, recipe.family, config, VisionStage(recipe.vision.centre_in_image, steps=5, scenes=2), stage)


def test_tokens_are_the_shipped_tokenizers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_shapes_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    for index in range(60):
        generator = draw_generator(1, "train", index)
        scene = draw_scene(generator)
        for task in STUDY_TASKS:
            asked = ask(scene, task, generator)
            if asked is not None:
                text = f"{asked.text} {CUE}"
                assert tokenizer(text).input_ids == [BEGIN_ID, *token_ids(text)]
                assert tokenizer(asked.answer).input_ids == [BEGIN_ID, *token_ids(asked.answer)]


def test_patches_are_labelled_with_the_thing_that_covers_them() -> None:
    for index in range(30):
        scene = draw_scene(draw_generator(2, "train", index))
        labels, centres = patch_labels(scene, 16, centre_in_image=False)
        absolute = patch_labels(scene, 16, centre_in_image=True)[1]
        masks = footprints(scene)
        for patch in range(36):
            row, column = divmod(patch, 6)
            window = np.s_[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            there = [thing for thing, mask in zip(scene.things, masks, strict=True) if mask[window].any()]
            if not there:
                assert (labels[patch] == -1).all()
                assert (centres[patch] == 0).all()
                continue
            (thing,) = there
            for place, (name, values) in enumerate(VALUES.items()):
                assert values[labels[patch, place]] == getattr(thing, name)
            sides = [vocabulary()[ATTRIBUTE_IDS["across"][side]] if side >= 0 else "" for side in labels[patch, 4:5]]
            assert sides == [{0: "▁left", 1: "", 2: "▁right"}[thing.column]]
            middle = 16 * (np.array([row, column]) + 0.5)
            np.testing.assert_allclose(middle + 16 * centres[patch], [thing.y, thing.x], atol=1e-4)
            np.testing.assert_allclose(48 + 32 * absolute[patch], [thing.y, thing.x], atol=1e-4)


def test_a_batch_follows_from_seed_and_step() -> None:
    one, again, other = (draw_batch(0, step, 2, QUESTIONS, 16) for step in (3, 3, 4))
    for left, right in zip(one, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one.pixels != other.pixels).any()
    assert one.tokens.shape[:2] == (2, 3)
    # The answer stands behind the cue, where the loss reads it.
    behind = np.take_along_axis(one.tokens, one.cue_end[..., None] + 1, axis=2)[..., 0]
    np.testing.assert_array_equal(behind, one.answer)


@pytest.mark.parametrize("name", RECIPES)
def test_the_training_pass_is_the_shipped_model(name: str) -> None:
    """Questions that share their scene's keys and values give what whole prompts give one by one."""
    recipe = small(name)
    model = recipe.family.build(recipe.config, dtype=jnp.float32, rngs=nnx.Rngs(0))
    net, batch = Network(*nnx.split(model)), draw_batch(0, 0, 2, QUESTIONS, 16)
    visual = model.visual(jnp.asarray(batch.pixels)[:, None])
    in_prompt = isinstance(recipe.config, LlavaConfig)
    hidden = (llava_hidden if in_prompt else cross_attention_hidden)(model, visual, jnp.asarray(batch.tokens))
    for scene, question in np.ndindex(batch.answer.shape):
        end = int(batch.cue_end[scene, question])
        image = [recipe.config.image_token] * 36 if isinstance(recipe.config, LlavaConfig) else []
        tokens = np.array([[BEGIN_ID, *image, *batch.tokens[scene, question, : end + 1]]], np.int32)
        whole = answer_logits(net, tokens, batch.pixels[scene : scene + 1])
        ours = next_logits(model, hidden[scene, question, end])
        np.testing.assert_allclose(ours, whole[0], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_training_goes_on_to_the_same_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(name)
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    monkeypatch.setattr(training, "LOG_EVERY", 2)
    undisturbed = training.train(recipe, tmp_path / "undisturbed")[1]
    asked = iter(range(100))

    def killed(*given: Any, **named: Any) -> Any:
        if next(asked) in (3, 9):  # in the middle of either stage, between two saved states
            raise KeyboardInterrupt
        return draw_batch(*given, **named)

    monkeypatch.setattr(training, "draw_batch", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            training.train(recipe, tmp_path / "killed")
    resumed = training.train(recipe, tmp_path / "killed")[1]
    first, second = (dict(nnx.to_flat_state(state)) for state in (undisturbed, resumed))
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(np.asarray(leaf.get_value()), np.asarray(second[path].get_value()))
    steps = (tmp_path / "undisturbed" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in steps[1:]] == [
        ["vision", "2"], ["vision", "4"], ["vision", "5"], ["decoder", "2"], ["decoder", "4"], ["decoder", "6"],
    ]  # fmt: skip

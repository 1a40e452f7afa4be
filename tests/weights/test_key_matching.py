"""Every parameter has a rule, and names that do not fit are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.weights.tiny_checkpoint import TINY, edit_tensors, write_tiny
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.families.llava.params import EMBEDDING, HEAD, LAYOUTS, key_table
from xmflow_jax.weights.key_matching import canonical_names
from xmflow_jax.weights.rules import Layout

HUB = LAYOUTS[0]
TIED = replace(TINY, text=replace(TINY.text, tied=True))


def names_in(layout: Layout, config: LlavaConfig = TINY) -> list[str]:
    return [layout.published(name) for rule in key_table(config).rules for name in rule.names()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_recognised(layout: Layout) -> None:
    published = names_in(layout)
    buffers = [
        layout.published("vision_tower.embeddings.position_ids"),
        layout.published("language_model.layers.0.self_attn.rotary_emb.inv_freq"),
    ]
    found = canonical_names([*published, *buffers], key_table(TINY), "here")
    assert set(found.values()) == set(published)
    assert found[HEAD] == layout.published(HEAD)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("present", [{EMBEDDING}, {HEAD}, {EMBEDDING, HEAD}], ids=["embedding", "head", "both"])
def test_a_tied_model_needs_one_of_embedding_and_head(layout: Layout, present: set[str]) -> None:
    rest = [name for name in names_in(layout, TIED) if name != layout.published(EMBEDDING)]
    found = canonical_names([*rest, *(layout.published(name) for name in present)], key_table(TIED), "here")
    assert {EMBEDDING, HEAD} & found.keys() == present
    with pytest.raises(CheckpointError, match=r"2 missing: .*embed_tokens"):
        canonical_names(rest, key_table(TIED), "here")


def test_untied_model_without_head() -> None:
    published = [name for name in names_in(HUB) if "lm_head" not in name]
    with pytest.raises(CheckpointError, match=r"1 missing: language_model\.lm_head\.weight \(only a model with tie"):
        canonical_names(published, key_table(TINY), "here")


@pytest.mark.parametrize(
    ("removed", "added", "named"),
    [
        (["vision_tower.vision_model.pre_layrnorm.bias"], [], "1 missing: vision_tower.vision_model.pre_layrnorm.bias"),
        (["multi_modal_projector.linear_1.weight"], [], "1 missing: multi_modal_projector.linear_1.weight"),
        ([], ["image_newline"], "1 not understood: image_newline"),
        ([], ["language_model.model.layers.3.mlp.up_proj.weight"], "1 not understood: language_model.model.layers.3"),
        ([], ["language_model.model.layers.0.self_attn.q_proj.bias"], "1 not understood"),
        # One layout's tensor beside another's: which of the two is meant?
        ([], ["model.language_model.embed_tokens.weight"], "1 not understood: model.language_model.embed_tokens"),
        ([], ["lm_head.weight"], "1 not understood: lm_head.weight"),
        (["language_model.lm_head.weight"], ["lm_head.weight"], "1 missing.*1 not understood: lm_head.weight"),
    ],
)
def test_missing_and_left_over(removed: list[str], added: list[str], named: str) -> None:
    published = [name for name in names_in(HUB) if name not in removed] + added
    with pytest.raises(CheckpointError, match=named) as refusal:
        canonical_names(published, key_table(TINY), "here")
    assert "\n" not in str(refusal.value)


def test_original_authors_layout_is_refused_in_one_line() -> None:
    published = ["model.mm_projector.0.weight", "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias"]
    with pytest.raises(CheckpointError, match=r"missing: .*, \.\.\..*2 not understood: model.mm_projector.0.weight"):
        canonical_names(published, key_table(TINY), "here")


def test_a_dropped_vision_tensor_stops_the_load(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path)
    name = "vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight"
    edit_tensors(directory, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"1 missing: {name}"):
        load_model(directory)


def test_layers_and_axes_land_where_they_belong(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path)
    tensors: dict[str, np.ndarray] = {}
    edit_tensors(directory, tensors.update)
    state = load_model(directory).state
    up = np.asarray(state["language_model"]["layers"]["mlp"]["up_proj"]["kernel"].get_value())
    for layer in range(TINY.text.layers):
        np.testing.assert_array_equal(up[layer], tensors[f"language_model.model.layers.{layer}.mlp.up_proj.weight"].T)
    patch = np.asarray(state["vision_tower"]["embeddings"]["patch_embedding"].get_value())
    published = tensors["vision_tower.vision_model.embeddings.patch_embedding.weight"]
    assert patch.shape == (14, 14, 3, 16)
    assert patch[3, 5, 1, 7] == published[7, 1, 3, 5]

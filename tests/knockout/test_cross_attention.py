"""Knockouts of a model that reads the image by cross-attention: fast against plain, and proofs of action."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.knockout.anatomies import anatomy_of, cross_anatomy
from tests.knockout.tiny_cross_attention import tiny_cross_attention, tiny_text_prompt
from tests.knockout.tiny_study import arrays, both_engines_of, run_plain, tiny_llava
from xmflow_jax.data import roles
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import (
    NOTHING_BLOCKED,
    Knockout,
    block,
    combine,
    keep_only,
    pathway_site,
    zero_output,
)
from xmflow_jax.knockout.arrays import site_edges
from xmflow_jax.knockout.costs import executed_operations, model_costs, necessary_operations
from xmflow_jax.knockout.fast.attention import SharedKeys
from xmflow_jax.knockout.fast.decoding import greedy_draft
from xmflow_jax.knockout.fast.engine import Placed, encode, knock_out, run_base, sweep_fast
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.kinds.kind import View
from xmflow_jax.knockout.modes import MASK, ZERO
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import SINGLE, STYLES, TO_END
from xmflow_jax.nn.anatomy import CROSS, MLP, SELF
from xmflow_jax.nn.visibility import CAUSAL_BLOCK

BOUND = 1e-5
LAYERS, HEADS = 4, 4
PATHWAYS = (*STUDY_PATHWAYS, Pathway("Image", "All"), Pathway("Image Pad", "Last"), Pathway("System", "Question"))
PROMPTS = [
    tiny_text_prompt(0),
    tiny_text_prompt(1, before=2, question=7, after=2),
    tiny_text_prompt(2, question=5, after=5),
]
EVERY_LAYER = range(LAYERS)
ANATOMY = cross_anatomy(LAYERS, HEADS)
OUTPUTS = (SELF, CROSS, MLP)


def blocked(pathway: Pathway, **how: Any) -> Knockout:
    return block(pathway, how.pop("layers", EVERY_LAYER), site=pathway_site(pathway, ANATOMY), **how)


def check(knockouts: list[Knockout], **model: object) -> np.ndarray:
    """Fast equals plain; returns how far each configuration is from the base run."""
    base, fast, plain = both_engines_of(tiny_cross_attention(**model), knockouts, PROMPTS)  # type: ignore[arg-type]
    assert np.isfinite(fast).all()
    np.testing.assert_allclose(fast, plain, rtol=0, atol=BOUND)
    return np.abs(fast - base[:, None]).max((0, 2))


@pytest.mark.parametrize("mode", [MASK, pytest.param(ZERO, marks=pytest.mark.slow)])
def test_every_pathway_and_window_style(mode: str) -> None:
    wanted = [(pathway, style) for style in STYLES for pathway in PATHWAYS]
    rows = pathway_study(wanted, ANATOMY, 3, mode)
    effects = check([row.knockout for row in rows])
    for row, effect in zip(rows, effects, strict=True):
        # In the last layer alone, the answer's row is the only one that is still read.
        unread = row.pathway.target == roles.QUESTION and row.layer == LAYERS - 1 and row.style in (SINGLE, TO_END)
        assert (effect < BOUND) if unread else (effect > 1e-4), row


@pytest.mark.slow
def test_head_subsets_outputs_and_combinations() -> None:
    knockouts = [
        blocked(Pathway("Image", "Question"), heads=[1]),
        blocked(Pathway("Image", "Last"), heads=[0, 3], layers=[1, 2]),
        blocked(Pathway("Image", "Last"), heads=[2], layers=[3], mode="zero"),
        *(zero_output(site, role, [1, 2]) for site in OUTPUTS for role in ("Question", "Last")),
        combine(blocked(Pathway("Image", "Question")), blocked(Pathway("Question", "Last"), layers=[2])),
        keep_only(Pathway("Image", "Last"), [1, 2], ANATOMY),
        keep_only(Pathway("Question", "Last"), [0, 1], ANATOMY),
    ]
    assert (check(knockouts) > 1e-4).all()


@pytest.mark.parametrize("scale", [pytest.param("head_width", marks=pytest.mark.slow), "model_width"])
def test_without_class_token_and_with_either_scale(scale: str) -> None:
    prompts = [tiny_text_prompt(seed, class_positions=0) for seed in range(2)]
    model = tiny_cross_attention(keep_class_token=False, cross_scale=scale)
    rows = pathway_study([(p, TO_END) for p in STUDY_PATHWAYS], ANATOMY, 3)
    _, fast, plain = both_engines_of(model, [row.knockout for row in rows], prompts)
    np.testing.assert_allclose(fast, plain, rtol=0, atol=BOUND)


def test_the_empty_knockout_is_the_base_run_bit_for_bit() -> None:
    _, net = tiny_cross_attention()
    study = build_study([NOTHING_BLOCKED, blocked(Pathway("Image", "Last"), layers=[])], ANATOMY)
    batch, positions = arrays(PROMPTS, study)
    swept = sweep_fast(net, batch, positions, study)
    for row in range(2):
        np.testing.assert_array_equal(np.asarray(swept.knockout)[:, row], np.asarray(swept.base))


def test_image_roles_are_cross_attention_edges_of_the_encoders_positions() -> None:
    study = build_study([blocked(Pathway("Image Central Object", "Question"))], ANATOMY)
    _, positions = arrays(PROMPTS[:1], study)
    one = jax.tree.map(lambda switch: jnp.asarray(switch[0, 0]), study.switches)
    places = jax.tree.map(jnp.asarray, positions)
    assert not site_edges(SELF, one, places, View())
    (edges,) = site_edges(CROSS, one, places, View()).values()
    mask = np.asarray(edges)[0, 0]
    told = PROMPTS[0].roles
    expected = told["Question"][:, None] & told["Image Central Object"][None, :]
    np.testing.assert_array_equal(mask[: len(expected)], expected)
    assert not mask[len(expected) :].any()


def test_a_fully_blocked_image_changes_nothing_any_more() -> None:
    """The user's own knockout, in every layer: other pixels, the same answer; with one layer left open, another."""
    _, net = tiny_cross_attention()
    study = build_study([blocked(Pathway("Image", "All")), blocked(Pathway("Image", "All"), layers=[0, 1, 3])], ANATOMY)
    batch, positions = arrays(PROMPTS, study)
    other = batch._replace(pixels=batch.pixels[::-1] * 2 + 1)
    one, two = (np.asarray(sweep_fast(net, b, positions, study).knockout) for b in (batch, other))
    np.testing.assert_array_equal(one[:, 0], two[:, 0])
    assert np.abs(one[:, 1] - two[:, 1]).max() > 1e-3


def test_perturbing_a_blocked_patch_changes_nothing() -> None:
    """Visual keys and values of the blocked patches, replaced in every layer after the base run."""
    config, net = tiny_cross_attention()
    central = PROMPTS[0].roles["Image Central Object"]
    study = build_study([blocked(Pathway("Image Central Object", "All")), NOTHING_BLOCKED], anatomy_of(config))
    batch, positions = arrays(PROMPTS[:1], study)
    placement = place_study(study, positions, batch)
    features = encode(net, batch.pixels)
    base = run_base(net, batch, features, placement.first, rows=placement.rows)
    (outside,) = base.keys[-1].outside
    assert outside is not None
    assert outside.key.shape[::4] == (LAYERS, config.image_positions)
    key = jnp.where(central, jnp.float32(7), outside.key)
    value = jnp.where(central[:, None], jnp.float32(7), outside.value)
    louder = base._replace(keys=(base.keys[-1]._replace(outside=(SharedKeys(key, value),)),))
    placed = Placed(net, study, batch, positions, placement)
    one, two = (np.asarray(knock_out(placed, run)[:, 0]) for run in (base, louder))
    np.testing.assert_array_equal(one, two)


def test_a_knocked_out_layer_keeps_its_projections_bias() -> None:
    """The user's definition sets the heads to zero, not what the layer adds: the two differ by the bias alone."""
    config, net = tiny_cross_attention()
    for path, leaf in nnx.to_flat_state(net.params):
        if path[-3:] == ("crossattention", "c_proj", "bias"):
            # Not constant: a constant would be lost in the next norm.
            leaf.set_value(jnp.broadcast_to(jnp.linspace(-1, 1, leaf.get_value().shape[-1]), leaf.get_value().shape))
    knockouts = [blocked(Pathway("Image", "All"), layers=[1]), zero_output(CROSS, "All", [1])]
    biased = both_engines_of((config, net), knockouts, PROMPTS)[1]
    assert np.abs(biased[:, 0] - biased[:, 1]).max() > 1e-3
    for path, leaf in nnx.to_flat_state(net.params):
        if path[-3:] == ("crossattention", "c_proj", "bias"):
            leaf.set_value(jnp.zeros_like(leaf.get_value()))
    unbiased = both_engines_of((config, net), knockouts, PROMPTS)[1]
    np.testing.assert_allclose(unbiased[:, 0], unbiased[:, 1], rtol=0, atol=BOUND)


def test_answers_decoded_from_the_base_run_are_those_of_full_passes() -> None:
    _, net = tiny_cross_attention()
    study = build_study([NOTHING_BLOCKED], ANATOMY)
    batch, _ = arrays(PROMPTS, study)
    features = encode(net, batch.pixels)
    base = run_base(net, batch, features, (batch.length - 1,), rows=(1,))
    answers = np.asarray(greedy_draft(net, base, batch, np.array([10**6], np.int32), 4).tokens)
    for row, prompt in enumerate(PROMPTS):
        tokens = list(prompt.token_ids)
        for step in range(4):
            grown = replace(prompt, token_ids=np.array(tokens, np.int32), roles=_longer(prompt.roles, len(tokens)))
            one, places = arrays([grown], study)
            logits = run_plain(net, one, places, study.switches, count=1)
            following = int(np.asarray(logits)[0, 0].argmax())
            assert answers[row, step] == following
            tokens.append(following)


def _longer(told: Mapping[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    return {
        role: mask if role in roles.IMAGE_ROLES else np.pad(mask, (0, length - len(mask)))
        for role, mask in told.items()
    }


def test_operations_count_the_cross_attention_once_per_image() -> None:
    config, net = tiny_cross_attention()
    costs = model_costs(net, PROMPTS[0].pixels)
    rows = pathway_study([(p, TO_END) for p in STUDY_PATHWAYS], ANATOMY, 3)
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    batch, positions = arrays(PROMPTS, study)
    placement = place_study(study, positions, batch)
    necessary = necessary_operations(costs, placement, batch)
    executed = executed_operations(costs, placement, batch, CAUSAL_BLOCK)
    assert 0 < necessary.base <= executed.base
    assert 0 < necessary.suffixes <= executed.suffixes
    # Keys and values of the image: in every block, once, whatever the number of configurations.
    nothing = build_study([NOTHING_BLOCKED], ANATOMY)
    alone = place_study(nothing, arrays(PROMPTS, nothing)[1], batch)
    assert necessary_operations(costs, alone, batch).base == necessary.base
    assert necessary.base > len(PROMPTS) * LAYERS * config.image_positions * 4 * config.text.width**2


@pytest.mark.parametrize(
    "knockout", [blocked(Pathway("Image", "Last")), zero_output(CROSS, "Last", [1])], ids=["edges", "output"]
)
def test_a_model_without_cross_attention_refuses_its_knockouts(knockout: Knockout) -> None:
    config, _ = tiny_llava()
    with pytest.raises(
        OptionError, match=r"the model has no site decoder\.cross; its sites are: decoder\.self, decoder\.mlp"
    ):
        build_study([knockout], anatomy_of(config))

"""That a knockout acts, and only as told: the traps of other code, for both engines."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.knockout.anatomies import anatomy_of, prompt_anatomy
from tests.knockout.tiny_study import LLAVA_OUTPUTS, arrays, both_engines, run_plain, tiny_llava, tiny_prompt, widest
from xmflow_jax.data import roles
from xmflow_jax.data.batch import stack_input
from xmflow_jax.errors import OptionError
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, block, keep_only, zero_output
from xmflow_jax.knockout.arrays import Positions, Switches, build_positions, site_edges
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.engine import encode, run_base, run_suffixes
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.stack_pass import Given
from xmflow_jax.knockout.kinds.edges import EdgeArrays, edge_mask
from xmflow_jax.knockout.kinds.kind import Bank, View
from xmflow_jax.knockout.modes import MASK, MODES, ZERO
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.plain import enter_main, run_earlier, run_stack
from xmflow_jax.knockout.study import build_study, check_positions
from xmflow_jax.nn.anatomy import SELF, Site
from xmflow_jax.nn.attention import attend, attention_weights
from xmflow_jax.nn.interfaces import Model
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.visibility import causal_mask

PROMPT = tiny_prompt(0)
IMAGE_TO_QUESTION = Pathway("Image", "Question")
ANATOMY = prompt_anatomy(4)


def test_blocked_weights_are_exactly_zero_and_the_rest_sums_to_one() -> None:
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5, 5)) * 5
    blocked = jax.random.bernoulli(jax.random.key(1), 0.3, (2, 1, 5, 5))
    allowed = causal_mask(5) & ~blocked
    weights = np.asarray(attention_weights(logits, allowed))
    assert (weights[~np.broadcast_to(allowed, weights.shape)] == 0.0).all()
    some = np.broadcast_to(allowed.any(-1), weights.shape[:-1])
    np.testing.assert_allclose(weights.sum(-1)[some], 1, atol=1e-6)
    assert (weights.sum(-1)[~some] == 0.0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_row_without_sources_outputs_zero(dtype: Any) -> None:
    query, key, value = (jax.random.normal(jax.random.key(i), (1, 4, 2, 6), dtype) for i in range(3))
    allowed = causal_mask(4).at[2].set(False)
    out = np.asarray(attend(query, key, value, 0.4, allowed[None, None]))
    assert (out[0, 2] == 0).all()
    assert (np.abs(out[0, [0, 1, 3]]).max(-1) > 0).all()


def test_a_suffix_row_without_sources_outputs_zero() -> None:
    """The fast engine's softmax over prefix and suffix, with everything blocked for one of two configurations."""
    shape = (1, 2, 3, 4, 6)
    query, key, value = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
    prefix = SharedKeys(*(jax.random.normal(jax.random.key(4 + i), (4, 1, *((6, 5), (5, 6))[i])) for i in (0, 1)))
    everything = jnp.ones((1, 1, 8), bool)
    bank = Bank(SELF, "edges", MASK)
    one_of_two = {bank: jnp.array([True, False])[None, :, None, None]}
    positions = {bank: EdgeArrays(everything, everything)}
    at = Rows(jnp.array([[5, 6, 7]]), jnp.array([5]), 3)
    inputs = stack_input([PROMPT])
    attend_at = Under(at, inputs, one_of_two, positions).attend(Reads(prefix))
    out = np.asarray(attend_at(SELF, query, (key, value), 0.4))
    assert (out[:, 0] == 0).all()
    assert (np.abs(out[:, 1]).max(-1) > 0).all()


def dense(site: Site, switches: Switches, positions: Positions) -> np.ndarray:
    """The one mask of a site's edges in one layer of one configuration."""
    (edges,) = site_edges(site, switches, jax.tree.map(jnp.asarray, positions), View()).values()
    return np.asarray(edges)


@pytest.mark.parametrize("pathway", STUDY_PATHWAYS, ids=str)
def test_edges_are_the_pathways_and_no_others(pathway: Pathway) -> None:
    """The dense mask against a loop over pairs of positions."""
    study = build_study([block(pathway, [0])], ANATOMY)
    positions = build_positions([PROMPT], study.actions, len(PROMPT.token_ids))
    one = jax.tree.map(lambda switch: jnp.asarray(switch[0, 0]), study.switches)
    blocked = dense(SELF, one, positions)[0, 0]
    for target, source in np.ndindex(blocked.shape):
        told = PROMPT.roles[pathway.target][target] and PROMPT.roles[pathway.source][source]
        assert blocked[target, source] == told


def test_a_head_subset_blocks_these_heads_alone() -> None:
    switch = jnp.zeros((1, 4), bool).at[0, jnp.array([1, 3])].set(True)
    ones = jnp.ones((1, 5), bool)
    blocked = np.asarray(edge_mask(switch, ones, ones))
    assert blocked[[1, 3]].all()
    assert not blocked[[0, 2]].any()


def test_the_empty_knockout_is_base_bit_for_bit_in_one_plain_pass() -> None:
    config, net = tiny_llava()
    knockouts = [NOTHING_BLOCKED, block(IMAGE_TO_QUESTION, [1]), NOTHING_BLOCKED]
    study = build_study(knockouts, anatomy_of(config))
    batch, positions = arrays([PROMPT], study)
    plain = np.asarray(run_plain(net, batch, positions, study.switches))
    np.testing.assert_array_equal(plain[0], plain[2])
    assert np.abs(plain[1] - plain[0]).max() > 1e-3


def test_the_empty_knockout_is_base_bit_for_bit_in_the_fast_engine() -> None:
    base, fast, _ = both_engines([NOTHING_BLOCKED, block(IMAGE_TO_QUESTION, [1])], [PROMPT])
    np.testing.assert_array_equal(fast[:, 0], base)


def test_rows_recomputed_with_nothing_blocked_are_base() -> None:
    """The suffix pass itself, told to recompute a suffix in which its switches are all off, gives the base run.

    In float64, because the two passes sum in another order, and by how much float32 then differs depends on the
    processor: 1e-12 is a millionth of float32's rounding of these logits, and a bug would be as large as ever.
    """
    with jax.enable_x64(True):
        config, net = tiny_llava()
        net = widest(net)
        study = build_study([block(IMAGE_TO_QUESTION, range(4))], anatomy_of(config))
        batch, positions = arrays([PROMPT, tiny_prompt(3, question=6)], study)
        batch = batch._replace(pixels=batch.pixels.astype(np.float64))
        placement = place_study(study, positions, batch)
        features = encode(net, batch.pixels)
        run = run_base(net, batch, features, placement.first, rows=placement.rows)
        (group,), (start,) = placement.groups, placement.starts

        def recomputed(switches: Switches) -> np.ndarray:
            """The schedule says in any case that layers are blocked; the kernel sees the switches alone."""
            given = Given(run, batch, switches, positions)
            return np.asarray(run_suffixes(net, given, group.schedule, start, shape=group.shape)[:, 0])

        off = jax.tree.map(np.zeros_like, study.switches)
        assert run.logits.dtype == np.float64
        np.testing.assert_allclose(recomputed(off), run.logits, rtol=0, atol=1e-12)
        assert np.abs(recomputed(study.switches) - np.asarray(run.logits)).max() > 1e-3


def perturbed(prompt: Any, role: str) -> Any:
    """The prompt with other words, or another image, at a role's positions."""
    tokens = np.where(prompt.roles[role] & (prompt.token_ids != 49), (prompt.token_ids + 7) % 48 + 1, prompt.token_ids)
    pixels = prompt.pixels + (1.0 if role == roles.IMAGE else 0.0)
    return replace(prompt, token_ids=tokens.astype(np.int32), pixels=pixels)


@pytest.mark.parametrize("role", [roles.IMAGE, roles.SYSTEM])
def test_perturbing_a_fully_blocked_source_changes_nothing(role: str) -> None:
    """Blocked from everything at every layer, a source may say what it likes."""
    everywhere: list[Knockout] = [block(Pathway(role, "All"), range(4))]
    runs = (both_engines(everywhere, [prompt]) for prompt in (PROMPT, perturbed(PROMPT, role)))
    for own, other in zip(*runs, strict=True):
        changed = np.abs(own - other).max()
        if own.ndim == 2:  # the base runs, in which it is not blocked
            assert changed > 1e-3
        else:
            assert changed == 0.0


def test_image_positions_are_untouched_by_image_to_question() -> None:
    """The study's invariant: Image->Question leaves hidden states at image positions as they are, bit for bit."""
    config, net = tiny_llava()
    study = build_study([NOTHING_BLOCKED, block(IMAGE_TO_QUESTION, range(4))], anatomy_of(config))
    batch, positions = jax.tree.map(jnp.asarray, arrays([PROMPT], study))
    model, features = net.module(), encode(net, batch.pixels)
    left, lengths = run_earlier(model, batch, features, positions, {})
    states = []
    for row in range(2):
        switches = jax.tree.map(lambda switch, row=row: jnp.asarray(switch[row]), study.switches)
        x = enter_main(model, batch, left)
        # The output of each layer is that of a stack cut off behind it.
        cut = [_first_layers(net, layers) for layers in range(1, 5)]
        run = [run_stack(one, 0, x, batch.inputs[0], left, lengths, positions, switches) for one in cut]
        states.append(np.stack([np.asarray(own) for own in run]))
    image = np.flatnonzero(PROMPT.roles[roles.IMAGE])
    question = np.flatnonzero(PROMPT.roles[roles.QUESTION])
    np.testing.assert_array_equal(states[0][:, 0, image], states[1][:, 0, image])
    assert np.abs(states[0][:, 0, question] - states[1][:, 0, question]).max(-1).min() > 1e-4


def _first_layers(net: Network, layers: int) -> Model:
    """The model with only so many layers of its stack."""
    _, short = tiny_llava(layers)
    leaves = [
        (path, leaf.replace(leaf.get_value()[:layers]) if path[:2] == ("language_model", "layers") else leaf)
        for path, leaf in nnx.to_flat_state(net.params)
    ]
    return Network(short.graphdef, nnx.from_flat_state(leaves)).module()


EVERY_KIND = {
    **{str(pathway): block(pathway, range(4)) for pathway in STUDY_PATHWAYS},
    "zero mode": block(IMAGE_TO_QUESTION, range(4), "zero"),
    "mean mode": block(IMAGE_TO_QUESTION, range(4), "mean"),
    "two heads": block(IMAGE_TO_QUESTION, range(4), "mask", [0, 2]),
    "keep only": keep_only(IMAGE_TO_QUESTION, [1], ANATOMY),
    **{str(site): zero_output(site, "Question", [1]) for site in LLAVA_OUTPUTS},
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_has_an_effect(kind: str) -> None:
    base, fast, plain = both_engines([EVERY_KIND[kind]], [PROMPT])
    assert np.abs(fast[:, 0] - base).max() > 1e-3
    assert np.abs(plain[:, 0] - base).max() > 1e-3


def test_zero_mode_does_not_renormalise() -> None:
    """Half of two equal weights set to zero leaves half the value; masked before the softmax it leaves all of it."""
    query = key = jnp.zeros((1, 2, 1, 4))
    value = jnp.ones((1, 2, 1, 4))
    first = jnp.array([[True, False], [True, False]])[None, None]
    zeroed = attend(query, key, value, 1.0, causal_mask(2)[None, None], {MODES[ZERO]: first})
    masked = attend(query, key, value, 1.0, (causal_mask(2) & ~first[0, 0])[None, None])
    np.testing.assert_array_equal(zeroed[0, :, 0, 0], [0.0, 0.5])
    np.testing.assert_array_equal(masked[0, :, 0, 0], [0.0, 1.0])


def test_the_mean_of_one_source_is_its_own_value() -> None:
    base, fast, plain = both_engines([block(Pathway("Last", "Last"), range(4), "mean")], [PROMPT])
    np.testing.assert_allclose(fast[:, 0], base, rtol=0, atol=1e-5)
    np.testing.assert_allclose(plain[:, 0], base, rtol=0, atol=1e-5)


def test_a_pathway_that_matches_no_position_is_an_error() -> None:
    empty = {**PROMPT.roles, roles.IMAGE_PAD: np.zeros_like(PROMPT.roles[roles.IMAGE])}
    actions = build_study([block(Pathway("Image Pad", "Last"), [0])], ANATOMY).actions
    with pytest.raises(OptionError, match="role 'Image Pad' matches no position"):
        check_positions([PROMPT, replace(PROMPT, roles=empty)], actions)
    missing = {role: own for role, own in PROMPT.roles.items() if role != roles.IMAGE_PAD}
    with pytest.raises(OptionError, match="no role 'Image Pad'"):
        check_positions([replace(PROMPT, roles=missing)], actions)
    check_positions([PROMPT], actions)


@pytest.mark.parametrize(("layers", "heads"), [([4], None), ([-1], None), ([0], [4]), ([0], [-1])])
def test_layers_and_heads_out_of_range_are_refused(layers: list[int], heads: list[int] | None) -> None:
    with pytest.raises(OptionError, match="is not one of the model's 0 to 3"):
        build_study([block(IMAGE_TO_QUESTION, layers, "mask", heads)], ANATOMY)


def test_unknown_modes_and_sites_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown knockout mode 'remove'"):
        block(IMAGE_TO_QUESTION, [0], "remove")
    with pytest.raises(OptionError, match=r"the model has no site decoder\.head; its sites are"):
        build_study([zero_output(Site("decoder", "head"), "Last", [0])], ANATOMY)

"""Matched controls: as many edges as their pathway's, the right ones to draw from, and the same in both engines."""

from collections.abc import Mapping

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.knockout.anatomies import anatomy_of
from tests.knockout.tiny_cross_attention import tiny_cross_attention, tiny_text_prompt
from tests.knockout.tiny_study import TinyPrompt, run_plain, tiny_llava, tiny_prompt
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.actions import MODES, DrawnEdges, Edges, block, matched_control
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.controls import (
    OBJECT_ROLES,
    DenseEdges,
    control_overlap,
    draw_edges,
    pathway_edges,
    question_key,
)
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.fast.placement import build_study, check_positions, impossible_actions
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END

LAYERS, HEADS = 4, 4
PATHWAYS = (*STUDY_PATHWAYS, Pathway("Image", "All"), Pathway("Question", "Question"), Pathway("System", "All"))
KEY = question_key("a task", "a question")


def edges_of(pathway: Pathway, cross: bool) -> Edges:
    ((edges, _, _),) = block(pathway, [0], cross_attention=cross).switched
    assert isinstance(edges, Edges)
    return edges


def prompt_of(cross: bool, seed: int = 0, **shape: int) -> TinyPrompt:
    return tiny_text_prompt(seed, **shape) if cross else tiny_prompt(seed, **shape)


def counts(edges: DenseEdges) -> np.ndarray:
    return edges.own.sum(1) + edges.visual.sum(1)


@settings(max_examples=60, deadline=None)
@given(
    pathway=st.sampled_from(PATHWAYS),
    cross=st.booleans(),
    question=st.integers(3, 9),
    generated=st.integers(0, 4),
    draw=st.integers(1, 5),
    key=st.integers(0, 2**64 - 1),
)
def test_every_row_has_as_many_edges_as_the_pathways(
    pathway: Pathway, cross: bool, question: int, generated: int, draw: int, key: int
) -> None:
    told = prompt_of(cross, question=question).roles
    like = edges_of(pathway, cross)
    action = DrawnEdges(like, draw, 7, cross)
    drawn, own = draw_edges(action, told, key, generated), pathway_edges(like, told, generated, cross)
    # A row sees what comes before it and, by cross-attention, the whole image.
    seen = np.arange(len(own.own)) + own.visual.shape[1]
    np.testing.assert_array_equal(counts(drawn), np.minimum(counts(own), seen))
    if not (pathway.source == pathway.target == "Question" or pathway.target == "All"):
        np.testing.assert_array_equal(counts(drawn), counts(own))
    # Never a row's own position, nor a later one.
    assert not np.triu(drawn.own).any()
    # The prompt's rows are the same, however long the answer.
    shorter = draw_edges(action, told, key)
    length = len(told[roles.ALL])
    np.testing.assert_array_equal(drawn.own[:length, :length], shorter.own)
    np.testing.assert_array_equal(drawn.visual[:length], shorter.visual)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("source", OBJECT_ROLES)
def test_an_objects_control_is_other_patches(source: str, cross: bool) -> None:
    told = dict(prompt_of(cross).roles)
    image, of_object = told[roles.IMAGE], told[roles.IMAGE_CENTRAL_OBJECT]
    # The class token of a vision tower is no patch of an object, and of the image without it.
    action = DrawnEdges(edges_of(Pathway(source, "Question"), cross), 1, 0, cross)
    drawn = draw_edges(action, told, KEY)
    chosen = (drawn.visual if cross else drawn.own)[told[roles.QUESTION]]
    assert not (drawn.own if cross else drawn.visual).any()
    assert (chosen == chosen[0]).all()  # the same patches for every word of the question
    assert chosen[0].sum() == told[source].sum()
    assert not (chosen[0] & ~image).any()
    enough = (image & ~told[source]).sum() >= told[source].sum()
    if enough:
        assert not (chosen[0] & told[source]).any()
        assert control_overlap(action, told, KEY) == 0
    else:  # the draw must take some of the role's own
        overlap = (chosen[0] & told[source]).sum()
        assert overlap == 2 * told[source].sum() - image.sum()
        assert control_overlap(action, told, KEY) == overlap / told[source].sum()
    assert of_object.any()


def test_edges_are_drawn_uniformly() -> None:
    """The last position's one edge, over many questions: every earlier position as often as any other."""
    told = {**tiny_prompt(0, before=2, question=3, after=2).roles}
    told[roles.CENTRAL_OBJECT] = np.arange(len(told[roles.ALL])) == 7
    action = DrawnEdges(edges_of(Pathway("Central Object", "Last"), False), 1, 0)
    drawn = sum(draw_edges(action, told, key).own[-1].astype(int) for key in range(3000))
    seen = len(told[roles.ALL]) - 1
    expected = 3000 / seen
    statistic = ((drawn[:-1] - expected) ** 2 / expected).sum()
    assert drawn[-1] == 0
    assert statistic < 37.7  # chi-squared with 11 degrees of freedom exceeds it once in 10,000 times
    assert seen == 11


def test_draws_depend_on_seed_draw_and_question_alone() -> None:
    told = tiny_prompt(0).roles
    like = edges_of(Pathway("Image", "Question"), False)

    def drawn(draw: int = 1, seed: int = 0, key: int = KEY) -> np.ndarray:
        return draw_edges(DrawnEdges(like, draw, seed), told, key).own

    np.testing.assert_array_equal(drawn(), drawn())
    for other in (drawn(draw=2), drawn(seed=1), drawn(key=question_key("a task", "another"))):
        assert (drawn() != other).any()
    assert question_key("a", "b") != question_key("ab", "") != question_key("", "ab")


def sweep_both(
    cross: bool, pathways: list[tuple[Pathway, str]], mode: str, heads: list[int] | None = None
) -> Mapping[str, np.ndarray]:
    _, net = tiny_cross_attention(LAYERS) if cross else tiny_llava(LAYERS)
    prompts = [prompt_of(cross, 0), prompt_of(cross, 1, before=2, question=7, after=2)]
    rows = pathway_study(pathways, LAYERS, 2, mode, heads, cross, controls=2, seed=3)
    assert len(rows) == 3 * LAYERS * len(pathways)
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    batch = build_batch(prompts)
    told = prompts
    check_positions(told, study.actions)
    positions = build_positions(told, study.actions, batch.tokens.shape[1], keys=[KEY, KEY + 1])
    assert not any(impossible_actions(study, positions, batch))
    fast = sweep_fast(net, batch, positions, study)
    plain = np.asarray(run_plain(net, batch, positions, study.switches)).swapaxes(0, 1)
    control = np.array([row.control for row in rows])
    return {"base": np.asarray(fast.base), "fast": np.asarray(fast.knockout), "plain": plain, "control": control}


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("mode", [MODES[0], pytest.param(MODES[1], marks=pytest.mark.slow)])
def test_both_engines_agree(cross: bool, mode: str) -> None:
    pathways = [(Pathway("Image Central Object", "Question"), CENTRED), (Pathway("Question", "Last"), TO_END)]
    swept = sweep_both(cross, pathways, mode)
    np.testing.assert_allclose(swept["fast"], swept["plain"], rtol=0, atol=1e-5)
    effect = np.abs(swept["fast"] - swept["base"][:, None]).max((0, 2))
    assert (effect[swept["control"] > 0] > 1e-4).mean() > 0.8
    # A draw is not its pathway, nor another draw.
    one, first, second = (swept["fast"][:, swept["control"] == draw] for draw in range(3))
    assert np.abs(one - first).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("cross", [False, True])
def test_both_engines_agree_on_every_pathway_and_on_some_heads(cross: bool) -> None:
    for heads in (None, [0, 2]):
        swept = sweep_both(cross, [(pathway, TO_END) for pathway in PATHWAYS], MODES[0], heads)
        np.testing.assert_allclose(swept["fast"], swept["plain"], rtol=0, atol=1e-5)


def test_drawn_edges_are_blocked_exactly() -> None:
    """The dense mask of a layer is the drawn one, for its heads alone."""
    from xmflow_jax.knockout.arrays import layer_edit

    prompt = tiny_prompt(0)
    control = matched_control(block(Pathway("Image", "Question"), [0], "mask", [1]), draw=1, seed=0)
    study = build_study([control], anatomy_of(config))
    positions = build_positions([prompt.roles], study.actions, len(prompt.token_ids), keys=[KEY])
    switches = jax.tree.map(lambda switch: jax.numpy.asarray(switch[0, 0]), study.switches)
    blocked = np.asarray(layer_edit(switches, jax.tree.map(jax.numpy.asarray, positions)).blocked)[0]
    (action,) = study.actions.drawn_mask
    assert isinstance(action, DrawnEdges)
    assert not blocked[0].any()
    np.testing.assert_array_equal(blocked[1], draw_edges(action, prompt.roles, KEY).own)


def test_drawing_without_a_key_is_an_error() -> None:
    control = matched_control(block(Pathway("Image", "Question"), [0]), draw=1, seed=0)
    actions = build_study([control], anatomy_of(config)).actions
    with pytest.raises(ValueError, match="need a key for each of 1 prompts"):
        build_positions([tiny_prompt(0).roles], actions, 32)

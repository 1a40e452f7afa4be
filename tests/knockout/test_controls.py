"""Matched controls: as many edges as their pathway's, the right ones to draw from, and the same in both engines."""

from collections.abc import Mapping

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.knockout.anatomies import anatomy_of, cross_anatomy, prompt_anatomy
from tests.knockout.tiny_cross_attention import tiny_cross_attention, tiny_text_prompt
from tests.knockout.tiny_study import TinyPrompt, run_plain, tiny_llava, tiny_prompt
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.actions import attending_sites, block, matched_control, pathway_site
from xmflow_jax.knockout.arrays import build_positions, site_edges
from xmflow_jax.knockout.controls import (
    OBJECT_ROLES,
    DenseEdges,
    Prompt,
    draw_edges,
    pathway_edges,
    question_key,
)
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.fast.reach import impossible_actions
from xmflow_jax.knockout.kinds.drawn import DrawnEdges, control_overlap
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.kinds.kind import View
from xmflow_jax.knockout.modes import MASK, ZERO
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study, check_positions
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.nn.anatomy import MAIN, SELF

LAYERS, HEADS = 4, 4
PATHWAYS = (*STUDY_PATHWAYS, Pathway("Image", "All"), Pathway("Question", "Question"), Pathway("System", "All"))
KEY = question_key("a task", "a question")
ANATOMIES = {False: prompt_anatomy(LAYERS, HEADS), True: cross_anatomy(LAYERS, HEADS)}
SITES = {cross: attending_sites(anatomy, MAIN) for cross, anatomy in ANATOMIES.items()}


def edges_of(pathway: Pathway, cross: bool) -> Edges:
    ((edges, _, _),) = block(pathway, [0], site=pathway_site(pathway, ANATOMIES[cross])).switched
    assert isinstance(edges, Edges)
    return edges


def prompt_of(cross: bool, seed: int = 0, **shape: int) -> TinyPrompt:
    return tiny_text_prompt(seed, **shape) if cross else tiny_prompt(seed, **shape)


def counts(edges: DenseEdges) -> np.ndarray:
    return edges.own.sum(1) + edges.outside.sum(1)


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
    prompt = Prompt({MAIN: told}, key)
    drawn = draw_edges(like, draw, 7, SITES[cross], prompt, generated)
    own = pathway_edges(like, SITES[cross], prompt, generated)
    # A row sees what comes before it and, by cross-attention, the whole image.
    seen = np.arange(len(own.own)) + own.outside.shape[1]
    np.testing.assert_array_equal(counts(drawn), np.minimum(counts(own), seen))
    if not (pathway.source == pathway.target == "Question" or pathway.target == "All"):
        np.testing.assert_array_equal(counts(drawn), counts(own))
    # Never a row's own position, nor a later one.
    assert not np.triu(drawn.own).any()
    # The prompt's rows are the same, however long the answer.
    shorter = draw_edges(like, draw, 7, SITES[cross], prompt)
    length = len(told[roles.ALL])
    np.testing.assert_array_equal(drawn.own[:length, :length], shorter.own)
    np.testing.assert_array_equal(drawn.outside[:length], shorter.outside)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("source", OBJECT_ROLES)
def test_an_objects_control_is_other_patches(source: str, cross: bool) -> None:
    told = dict(prompt_of(cross).roles)
    image, of_object = told[roles.IMAGE], told[roles.IMAGE_CENTRAL_OBJECT]
    # The class token of a vision tower is no patch of an object, and of the image without it.
    action = DrawnEdges(edges_of(Pathway(source, "Question"), cross), 1, 0, SITES[cross])
    prompt = Prompt({MAIN: told}, KEY)
    drawn = draw_edges(action.like, 1, 0, SITES[cross], prompt)
    chosen = (drawn.outside if cross else drawn.own)[told[roles.QUESTION]]
    assert not (drawn.own if cross else drawn.outside).any()
    assert (chosen == chosen[0]).all()  # the same patches for every word of the question
    assert chosen[0].sum() == told[source].sum()
    assert not (chosen[0] & ~image).any()
    enough = (image & ~told[source]).sum() >= told[source].sum()
    if enough:
        assert not (chosen[0] & told[source]).any()
        assert control_overlap(action, prompt) == 0
    else:  # the draw must take some of the role's own
        overlap = (chosen[0] & told[source]).sum()
        assert overlap == 2 * told[source].sum() - image.sum()
        assert control_overlap(action, prompt) == overlap / told[source].sum()
    assert of_object.any()


def test_edges_are_drawn_uniformly() -> None:
    """The last position's one edge, over many questions: every earlier position as often as any other."""
    told = {**tiny_prompt(0, before=2, question=3, after=2).roles}
    told[roles.CENTRAL_OBJECT] = np.arange(len(told[roles.ALL])) == 7
    like = edges_of(Pathway("Central Object", "Last"), False)
    draws = (draw_edges(like, 1, 0, SITES[False], Prompt({MAIN: told}, key)) for key in range(3000))
    drawn = sum(draw.own[-1].astype(int) for draw in draws)
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
        return draw_edges(like, draw, seed, SITES[False], Prompt({MAIN: told}, key)).own

    np.testing.assert_array_equal(drawn(), drawn())
    for other in (drawn(draw=2), drawn(seed=1), drawn(key=question_key("a task", "another"))):
        assert (drawn() != other).any()
    assert question_key("a", "b") != question_key("ab", "") != question_key("", "ab")


def sweep_both(
    cross: bool, pathways: list[tuple[Pathway, str]], mode: str, heads: list[int] | None = None
) -> Mapping[str, np.ndarray]:
    config, net = tiny_cross_attention(LAYERS) if cross else tiny_llava(LAYERS)
    prompts = [prompt_of(cross, 0), prompt_of(cross, 1, before=2, question=7, after=2)]
    rows = pathway_study(pathways, anatomy_of(config), 2, mode, heads, controls=2, seed=3)
    assert len(rows) == 3 * LAYERS * len(pathways)
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    batch = build_batch(prompts)
    check_positions(prompts, study.actions)
    positions = build_positions(prompts, study.actions, batch.tokens.shape[1], keys=[KEY, KEY + 1])
    assert not any(impossible_actions(study, positions, batch))
    fast = sweep_fast(net, batch, positions, study)
    plain = np.asarray(run_plain(net, batch, positions, study.switches)).swapaxes(0, 1)
    control = np.array([row.control for row in rows])
    return {"base": np.asarray(fast.base), "fast": np.asarray(fast.knockout), "plain": plain, "control": control}


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("mode", [MASK, pytest.param(ZERO, marks=pytest.mark.slow)])
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
        swept = sweep_both(cross, [(pathway, TO_END) for pathway in PATHWAYS], MASK, heads)
        np.testing.assert_allclose(swept["fast"], swept["plain"], rtol=0, atol=1e-5)


def test_drawn_edges_are_blocked_exactly() -> None:
    """The dense mask of a layer is the drawn one, for its heads alone."""
    prompt = tiny_prompt(0)
    control = matched_control(block(Pathway("Image", "Question"), [0], "mask", [1]), draw=1, seed=0)
    study = build_study([control], ANATOMIES[False])
    positions = build_positions([prompt], study.actions, len(prompt.token_ids), keys=[KEY])
    switches = jax.tree.map(lambda switch: jax.numpy.asarray(switch[0, 0]), study.switches)
    (edges,) = site_edges(SELF, switches, jax.tree.map(jax.numpy.asarray, positions), View()).values()
    blocked = np.asarray(edges)[0]
    ((action,),) = study.actions.values()
    assert isinstance(action, DrawnEdges)
    assert not blocked[0].any()
    drawn = draw_edges(action.like, 1, 0, (SELF,), Prompt({MAIN: prompt.roles}, KEY))
    np.testing.assert_array_equal(blocked[1], drawn.own)


def test_drawing_without_a_key_is_an_error() -> None:
    control = matched_control(block(Pathway("Image", "Question"), [0]), draw=1, seed=0)
    actions = build_study([control], ANATOMIES[False]).actions
    with pytest.raises(ValueError, match="need a key for each of 1 prompts"):
        build_positions([tiny_prompt(0)], actions, 32)

"""The fast engine against the plain one: every style, mode, site and head subset, and random studies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.knockout.anatomies import anatomy_of, prompt_anatomy
from tests.knockout.tiny_study import LLAVA_OUTPUTS, arrays, both_engines_of, run_plain, tiny_llava, tiny_prompt, widest
from xmflow_jax.data import roles
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, block, combine, keep_only, zero_output
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.modes import MASK, MEAN, ZERO
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import STYLES
from xmflow_jax.nn.anatomy import MLP

# In float64: in float32 the engines' programs round these logits apart by up to 1e-5, by the processor.
BOUND = 1e-9
LAYERS, HEADS = 4, 4
ANATOMY = prompt_anatomy(LAYERS, HEADS)
PATHWAYS = (*STUDY_PATHWAYS, Pathway("Image", "All"), Pathway("System", "Image"), Pathway("All", "Last"))
# Prompts of different lengths, so that rows are padded and start at different positions.
PROMPTS = [tiny_prompt(0), tiny_prompt(1, before=2, question=7, after=2), tiny_prompt(2, question=5, after=5)]


def check(knockouts: list[Knockout], prompts: list, **model) -> None:  # type: ignore[type-arg, no-untyped-def]
    config, net = tiny_llava(**model)
    with jax.enable_x64(True):
        _, fast, plain = both_engines_of((config, widest(net)), knockouts, prompts)
    assert fast.dtype == plain.dtype == np.float64
    np.testing.assert_allclose(fast, plain, rtol=0, atol=BOUND, equal_nan=False)


@pytest.mark.parametrize("mode", [MASK, *(pytest.param(mode, marks=pytest.mark.slow) for mode in (ZERO, MEAN))])
def test_every_style_and_mode(mode: str) -> None:
    rows = pathway_study([(pathway, style) for pathway in PATHWAYS for style in STYLES], ANATOMY, 3, mode)
    check([row.knockout for row in rows], PROMPTS)


@pytest.mark.parametrize("mode", [MASK, *(pytest.param(mode, marks=pytest.mark.slow) for mode in (ZERO, MEAN))])
def test_head_subsets(mode: str) -> None:
    pathways = [(pathway, "centred") for pathway in PATHWAYS]
    rows = [
        row for heads in ((0,), (1, 2), (3, 0, 2), None) for row in pathway_study(pathways, ANATOMY, 3, mode, heads)
    ]
    check([row.knockout for row in rows], PROMPTS)


def test_zeroed_outputs() -> None:
    names = (roles.IMAGE, roles.QUESTION, roles.LAST)
    check(
        [zero_output(site, role, [layer]) for site in LLAVA_OUTPUTS for role in names for layer in range(LAYERS)],
        PROMPTS,
    )


def test_keep_only_and_combinations() -> None:
    image, last = Pathway("Image", "Question"), Pathway("Question", "Last")
    check(
        [
            *(keep_only(image, [layer], ANATOMY) for layer in range(LAYERS)),
            keep_only(last, range(LAYERS), ANATOMY),
            combine(block(image, [1]), block(last, [2], "zero", [1]), zero_output(MLP, "Last", [3])),
            combine(block(image, [1]), block(image, [1, 2], "mask", [0])),
            combine(block(image, [1, 2], "mean"), block(last, [2]), block(Pathway("System", "Last"), [2, 3], "mean")),
            NOTHING_BLOCKED,
        ],
        PROMPTS,
    )


def test_question_before_the_image() -> None:
    prompts = [tiny_prompt(seed, question=3 + seed, question_first=True) for seed in range(3)]
    reverse = Pathway("Question", "Image")
    rows = pathway_study([(pathway, "centred") for pathway in (*PATHWAYS, reverse)], ANATOMY, 3)
    check([row.knockout for row in rows], prompts)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "tied"),
    [(4, 1, True), *(pytest.param(*layout, marks=pytest.mark.slow) for layout in ((4, 4, False), (6, 3, False)))],
)
def test_head_layouts(heads: int, kv_heads: int, tied: bool) -> None:
    rows = pathway_study([(pathway, "centred") for pathway in STUDY_PATHWAYS], ANATOMY, 3)
    some = pathway_study([(PATHWAYS[3], "to-end")], ANATOMY, 3, "zero", (0, heads - 1))
    check([row.knockout for row in (*rows, *some)], PROMPTS[:2], heads=heads, kv_heads=kv_heads, tied=tied)


@pytest.mark.slow
def test_bfloat16_agrees_between_the_engines_as_far_as_bfloat16_goes() -> None:
    config, net = tiny_llava()
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), net)
    rows = pathway_study([(pathway, "centred") for pathway in STUDY_PATHWAYS], ANATOMY, 3)
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    batch, positions = arrays(PROMPTS, study)
    fast = sweep_fast(narrow, batch, positions, study).knockout
    plain = run_plain(narrow, batch, positions, study.switches).swapaxes(0, 1)
    assert fast.dtype == plain.dtype == jnp.float32
    exact = jax.nn.softmax(sweep_fast(net, batch, positions, study).knockout)
    for engine in (fast, plain):
        assert np.abs(jax.nn.softmax(engine) - exact).max() <= 2e-2


def test_several_images_in_a_prompt() -> None:
    prompts = []
    for seed in range(2):
        one = tiny_prompt(seed, grid=2)
        # Two images of four positions each: the first four image positions read the first image.
        tokens = np.concatenate([one.token_ids[:3], one.token_ids[3:7], one.token_ids[3:]])
        mask = {role: np.concatenate([own[:3], own[3:7], own[3:]]) for role, own in one.roles.items()}
        pixels = np.concatenate([one.pixels, tiny_prompt(seed + 9, grid=2).pixels])
        prompts.append(type(one)(tokens, pixels, mask))
    rows = pathway_study([(pathway, "centred") for pathway in STUDY_PATHWAYS], ANATOMY, 3)
    check([row.knockout for row in rows], prompts)


role_names = st.sampled_from(roles.ROLES)


# (kind, source, target, layers, heads): knockouts are built from it outside the strategies.
Part = tuple[str, str, str, list[int], list[int] | None]


def random_parts(layers: int, heads: int) -> st.SearchStrategy[list[Part]]:
    return st.lists(
        st.tuples(
            st.sampled_from(("mask", "mask", "zero", "mean", "keep", *LLAVA_OUTPUTS)),
            role_names,
            role_names,
            st.lists(st.integers(0, layers - 1), min_size=1, max_size=layers, unique=True),
            st.none() | st.lists(st.integers(0, heads - 1), min_size=1, unique=True),
        ),
        max_size=2,
    )


def build(parts: list[Part]) -> Knockout:
    built = []
    for kind, source, target, layers, heads in parts:
        if kind in LLAVA_OUTPUTS:
            built.append(zero_output(kind, target, layers))
        elif kind == "keep":
            built.append(keep_only(Pathway(source, target), layers, ANATOMY))
        else:
            built.append(block(Pathway(source, target), layers, kind, heads))
    return combine(*built)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_random_studies_of_random_models(data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, 4))
    kv_heads = data.draw(st.sampled_from((1, 2)))
    heads = kv_heads * data.draw(st.sampled_from((1, 2)))
    knockouts = [build(parts) for parts in data.draw(st.lists(random_parts(layers, heads), min_size=1, max_size=6))]
    prompts = [
        tiny_prompt(
            seed,
            before=data.draw(st.integers(1, 4)),
            question=data.draw(st.integers(3, 9)),
            after=data.draw(st.integers(1, 6)),
            question_first=data.draw(st.booleans()),
        )
        for seed in range(data.draw(st.integers(1, 3)))
    ]
    check(knockouts, prompts, layers=layers, heads=heads, kv_heads=kv_heads)


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 10**6))
def test_random_role_sets(seed: int) -> None:
    """Roles that are any sets of positions, not runs of them."""
    rng = np.random.default_rng(seed)
    prompts = []
    for number in range(2):
        one = tiny_prompt(seed + number, question=int(rng.integers(3, 8)))
        mask = {role: rng.random(len(own)) < rng.uniform(0.1, 0.7) for role, own in one.roles.items()}
        prompts.append(type(one)(one.token_ids, one.pixels, mask))
    rows = pathway_study([(pathway, style) for pathway in PATHWAYS[:5] for style in ("centred", "to-end")], ANATOMY, 3)
    check([row.knockout for row in rows], prompts)


def test_impossible_pathways_cost_nothing_and_equal_base() -> None:
    config, net = tiny_llava()
    rows = pathway_study([(Pathway("Question", "Image"), "centred"), (Pathway("Last", "System"), "single")], ANATOMY, 3)
    study = build_study([row.knockout for row in rows], anatomy_of(config))
    batch, positions = arrays(PROMPTS, study)
    assert place_study(study, positions, batch).groups == ()
    swept = sweep_fast(net, batch, positions, study)
    for column in range(len(rows)):
        np.testing.assert_array_equal(swept.knockout[:, column], swept.base)


def test_image_to_all_to_the_end_recomputes_no_image_row() -> None:
    rows = pathway_study([(Pathway("Image", "All"), "to-end")], ANATOMY, 3)
    study = build_study([row.knockout for row in rows], ANATOMY)
    batch, positions = arrays([tiny_prompt(0, grid=2, question=4, after=3)], study)
    (group,) = place_study(study, positions, batch).groups
    assert group.main.rows == 8  # one word after the image, four of the question, three of the template
    rows = pathway_study([(Pathway("Image", "All"), "single")], ANATOMY, 3)
    study = build_study([row.knockout for row in rows[:-1]], ANATOMY)
    batch, positions = arrays([tiny_prompt(0, grid=2, question=4, after=3)], study)
    (group,) = place_study(study, positions, batch).groups
    assert group.main.rows == 12  # and the four of the image, which is read again after the window

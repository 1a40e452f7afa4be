"""What both engines keep for every registered family: equality, proofs of action, whole answers, several devices.

Parity with PyTorch is each family's own (`PARITY`). Families of the usual forms go through the longest of these tests
under `slow`: `tests/knockout` runs the like of them on larger models.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh

from tests.families.contract import FAMILIES, each_family, image_layout_of, make_prompts, tiny_model
from tests.families.effects import can_change
from tests.families.proof_family import oracle
from tests.families.proof_family.family import PROOF
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain, widest
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.data.images import COLOURS
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.data.question import Question
from xmflow_jax.families.family import Family
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, block, keep_only, pathway_site, zero_output
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.batch_answers import Answered, Request, answer_batch
from xmflow_jax.knockout.controls import question_key
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.modes import MEAN, ZERO
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import StudyRow, pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, SINGLE, STYLES, TO_END
from xmflow_jax.machine.partitioning import DATA, MODEL, parameter_shardings
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.nn.interfaces import StrictSpan
from xmflow_jax.nn.network import Network
from xmflow_jax.study.self_check import check_engines
from xmflow_jax.weights.load import shapes

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOUND = 1e-5
STEPS, NEVER = 4, (10**6,)
# Where each family is compared with PyTorch, clean and under knockout.
PARITY = {
    "idefics3": ("split_images/test_parity.py",),
    "internvl": ("split_images/test_parity.py",),
    "smolvlm": ("split_images/test_parity.py",),
    "llava": ("llava/test_parity.py", "../knockout/test_torch_knockout.py"),
    "llava_next": ("llava_next/test_parity.py",),
    "llava_onevision": ("llava_onevision/test_parity.py",),
    "qwen2_5_vl": ("qwen_vl/test_parity.py",),
    "qwen2_vl": ("qwen_vl/test_parity.py",),
    "qwen3_vl": ("qwen_vl/test_parity.py",),
    "vision-encoder-decoder": ("vision_encoder_decoder/test_parity.py",),
    "proof": ("proof_family/test_parity.py",),
    "gemma3": ("gemma3/test_parity.py",),
    "paligemma": ("paligemma/test_parity.py",),
}
# Every layer's sliding window, None where there is none.
SPANS: dict[str, Callable[[Any], list[int | StrictSpan | None]]] = {
    "idefics3": lambda config: [None] * config.text.layers,
    "internvl": lambda config: [None] * config.text.layers,
    "smolvlm": lambda config: [None] * config.text.layers,
    "llava": lambda config: [None] * config.text.layers,
    "llava_next": lambda config: [config.text.span] * config.text.layers,
    "llava_onevision": lambda config: [None] * config.text.layers,
    "qwen2_5_vl": lambda config: [None] * config.text.layers,
    "qwen2_vl": lambda config: [None] * config.text.layers,
    "qwen3_vl": lambda config: [None] * config.text.layers,
    "vision-encoder-decoder": lambda config: [None] * config.text.layers,
    "gemma3": lambda config: [StrictSpan(config.text.span) if slides else None for slides in config.text.sliding],
    "paligemma": lambda config: [None] * config.text.layers,
    "proof": lambda config: [config.span if layer % 2 else None for layer in range(config.text.layers)],
}
# Whole answers under knockout as PyTorch gives them, where a family's own test does not compare them; for LLaVA,
# `tests/knockout/test_whole_answers_torch.py` does.
ANSWERS = {"proof": oracle.answer}
second_slower = pytest.mark.parametrize(
    "family",
    [pytest.param(one, id=one.model_type, marks=[pytest.mark.slow] * (one is not PROOF)) for one in FAMILIES],
)


@each_family
def test_parity_is_tested(family: Family) -> None:
    assert all((Path(__file__).parent / one).is_file() for one in PARITY[family.model_type])


def every_style(anatomy: Anatomy) -> list[Knockout]:
    """The study's pathways and those into the image, in windows of every style."""
    pathways = [*STUDY_PATHWAYS, Pathway("Image", "All")]
    if anatomy.image_in_prompt:
        pathways += [Pathway("Image", "Image"), Pathway("System", "Image")]
    rows = pathway_study([(pathway, style) for pathway in pathways for style in STYLES], anatomy, 3)
    return [*(row.knockout for row in rows), NOTHING_BLOCKED]


def every_kind(anatomy: Anatomy) -> list[Knockout]:
    """Modes, heads, controls, outputs and keep-only, of few pathways and layers."""
    image, last = (Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Last"), TO_END)
    rows = [
        *pathway_study([image, last], anatomy, 2, controls=1),
        *(row for mode in (ZERO, MEAN) for row in pathway_study([image], anatomy, 1, mode)),
        *pathway_study([last], anatomy, 1, heads=(1, 2)),
    ]
    outputs = [zero_output(site, role, [1]) for site in anatomy.sites(anatomy.main) for role in ("Question", "Last")]
    kept = [keep_only(pathway, [1], anatomy) for pathway, _ in (image, last)]
    return [*(row.knockout for row in rows), *outputs, *kept, NOTHING_BLOCKED]


@second_slower
@pytest.mark.parametrize("made", [every_style, every_kind], ids=["styles", "kinds"])
def test_fast_equals_plain(family: Family, made: Callable[[Anatomy], list[Knockout]]) -> None:
    loaded, prompts = tiny_model(family), make_prompts(family)
    knockouts = made(loaded.anatomy)
    study, batch = build_study(knockouts, loaded.anatomy), build_batch(prompts)
    positions = build_positions(prompts, study.actions, batch.tokens.shape[1], keys=keys_of(prompts))
    # In float64, since logits of this size differ by more than the bound between any two programs in float32.
    with jax.enable_x64(True):
        net, batch = widest(loaded.net), batch._replace(pixels=in_float64(batch.pixels))
        fast = jax.tree.map(np.asarray, sweep_fast(net, batch, positions, study))
        plain = np.asarray(run_plain(net, batch, positions, study.switches, count=len(knockouts))).swapaxes(0, 1)
    np.testing.assert_allclose(fast.knockout, plain, rtol=0, atol=BOUND)
    # Of each knockout in each prompt: it has an effect far above the bound, or none can reach the answer.
    effects = np.abs(plain - plain[:, -1:]).max(axis=2)
    spans = SPANS[family.model_type](loaded.config)
    able = [
        [can_change(one, prompt, key, spans) for one in knockouts]
        for prompt, key in zip(prompts, keys_of(prompts), strict=True)
    ]
    assert 0.5 < np.mean(able) < 1
    np.testing.assert_array_equal(effects > 100 * BOUND, able)
    np.testing.assert_array_equal(effects[~np.array(able)], 0)
    np.testing.assert_array_equal(fast.knockout[:, -1], fast.base)


def in_float64(pixels: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, pixels)


def keys_of(prompts: Any) -> list[int]:
    return [question_key("task", str(place)) for place in range(len(prompts))]


@second_slower
def test_whole_answers_are_those_of_plain_decoding(family: Family) -> None:
    loaded, prompts = tiny_model(family), make_prompts(family)
    styled = [(Pathway("Image", "Question"), TO_END), (Pathway("Question", "Last"), FROM_START)]
    styled += [(Pathway("Last", "Last"), SINGLE)]
    rows = pathway_study(styled, loaded.anatomy, 2)
    knockouts = [row.knockout for row in rows]
    knockouts += [zero_output(site, "Last", [1]) for site in loaded.anatomy.sites(loaded.anatomy.main)]
    knockouts += [keep_only(Pathway("Image", "Question"), [1], loaded.anatomy), NOTHING_BLOCKED]
    study = build_study(knockouts, loaded.anatomy)
    fast, plain = (answered(loaded.net, prompts, Request(study, NEVER, STEPS, engine)) for engine in ("fast", "plain"))
    assert fast.tokens is not None
    assert plain.tokens is not None
    np.testing.assert_array_equal(fast.tokens, plain.tokens)
    if family.model_type in ANSWERS:
        expected = [[ANSWERS[family.model_type](prompt, one, STEPS) for one in knockouts] for prompt in prompts]
        np.testing.assert_array_equal(fast.tokens, expected)
    assert 0.1 < (plain.tokens != plain.tokens[:, -1:]).any(-1).mean() < 0.95


def answered(net: Network, prompts: Any, request: Request) -> Answered:
    return answer_batch(net, prompts, request, lambda tokens, logits: np.ones(len(tokens), bool), keys=keys_of(prompts))


def perturbed(prompt: TinyPrompt) -> TinyPrompt:
    """Other colours in every picture."""
    pixels: Any = prompt.pixels
    if isinstance(pixels, dict):
        return replace(prompt, pixels={**pixels, COLOURS: pixels[COLOURS][..., ::-1] * 3 + 1})
    return replace(prompt, pixels=pixels[..., ::-1] * 3 + 1)


@each_family
def test_nothing_blocked_is_the_base_run_and_a_blocked_image_may_say_what_it_likes(family: Family) -> None:
    """Bit for bit, in both engines."""
    loaded, prompts = tiny_model(family), make_prompts(family)[:1]
    everywhere = Pathway("Image", "All")
    blocked = block(everywhere, range(loaded.anatomy.main.layers), site=pathway_site(everywhere, loaded.anatomy))
    study = build_study([NOTHING_BLOCKED, blocked, NOTHING_BLOCKED], loaded.anatomy)
    runs = []
    for own in (prompts, [perturbed(prompt) for prompt in prompts]):
        batch, positions = arrays(own, study)
        fast = sweep_fast(loaded.net, batch, positions, study)
        plain = np.asarray(run_plain(loaded.net, batch, positions, study.switches)).swapaxes(0, 1)
        np.testing.assert_array_equal(fast.knockout[:, 0], fast.base)
        np.testing.assert_array_equal(plain[:, 0], plain[:, 2])
        np.testing.assert_allclose(plain[:, 0], fast.base, rtol=0, atol=BOUND)
        runs.append((np.asarray(fast.knockout), plain))
    for one, other in zip(*runs, strict=True):
        assert np.abs(one[:, 0] - other[:, 0]).max() > 1e-3
        assert np.abs(one[:, 1] - one[:, 0]).max() > 1e-3
        np.testing.assert_array_equal(one[:, 1], other[:, 1])


@second_slower
def test_the_self_check_finds_nothing(family: Family) -> None:
    """Blocked weights are exactly zero in both engines' own attention, for edges and for drawn ones."""
    loaded, prompt = tiny_model(family), make_prompts(family)[0]
    asked = Question("1", "1", Path("1.png"), "?", "yes", "task")
    images = (image_layout_of(family),)
    prepared = PreparedQuestion(asked, "?", prompt.token_ids, prompt.pixels, prompt.roles, images, prompt.place)
    pathways = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Last"), TO_END)]
    if loaded.anatomy.image_in_prompt:
        pathways.append((Pathway("Image", "Image"), SINGLE))
    rows: tuple[StudyRow, ...] = pathway_study(pathways, loaded.anatomy, 2, controls=1)
    check_engines(loaded, prepared, rows, batch_size=2)


@lru_cache
def spread_answers(family: Family, mesh: tuple[int, int] | None) -> Answered:
    """Over so many devices along (questions, model); None: one device."""
    loaded, prompts = tiny_model(family), make_prompts(family)[:2]
    pathways = [(Pathway("Image", "Question"), CENTRED), (Pathway("Question", "Last"), SINGLE)]
    study = build_study([row.knockout for row in pathway_study(pathways, loaded.anatomy, 2)], loaded.anatomy)
    request = Request(study, NEVER, STEPS)
    if mesh is None:
        return answered(loaded.net, prompts, request)
    devices = np.array(jax.devices()[: mesh[0] * mesh[1]]).reshape(mesh)
    grid = Mesh(devices, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    shardings = parameter_shardings(family.partitioning(loaded.config), shapes(loaded.state), grid)
    leaves = [
        (path, leaf.replace(jax.device_put(leaf.get_value(), shardings[path])))
        for path, leaf in nnx.to_flat_state(loaded.state)
    ]
    with jax.set_mesh(grid):
        return answered(Network(loaded.graphdef, nnx.from_flat_state(leaves)), prompts, request)


@pytest.mark.slow  # `tests/machine/test_passes.py` spreads models of the usual forms
@each_family
@pytest.mark.parametrize("mesh", [(1, 2), (2, 1)], ids=["model=2", "data=2"])
def test_several_devices_give_what_one_gives(family: Family, mesh: tuple[int, int]) -> None:
    found, expected = spread_answers(family, mesh), spread_answers(family, None)
    assert found.measured is not None
    assert expected.measured is not None
    for name in ("base_prob", "knockout_prob"):
        own, alone = getattr(found.measured, name), getattr(expected.measured, name)
        np.testing.assert_allclose(own, alone, rtol=0, atol=BOUND)
    assert np.ptp(expected.measured.knockout_prob, axis=1).min() > 1e-3
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def test_an_image_is_recomputed_as_a_whole_where_one_of_its_positions_changes() -> None:
    """System->Image changes the first image position in one layer and, in the next, all rows of its block."""
    loaded, prompts = tiny_model(PROOF), make_prompts(PROOF, images=2)
    last_patch = [np.zeros_like(prompt.roles[roles.IMAGE]) for prompt in prompts]
    for mask, prompt in zip(last_patch, prompts, strict=True):
        mask[np.flatnonzero(prompt.roles[roles.IMAGE])[3]] = True  # of the first of two images
    prompts = [
        replace(prompt, roles={**prompt.roles, roles.IMAGE_PAD: mask})
        for prompt, mask in zip(prompts, last_patch, strict=True)
    ]
    pathways = [(Pathway("System", "Image Pad"), SINGLE), (Pathway("Image Pad", "Image"), SINGLE)]
    knockouts = [row.knockout for row in pathway_study(pathways, loaded.anatomy, 1)]
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(prompts, study)
    fast = sweep_fast(loaded.net, batch, positions, study)
    plain = run_plain(loaded.net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    np.testing.assert_allclose(fast.knockout, plain, rtol=0, atol=BOUND)
    assert np.abs(plain - fast.base[:, None]).max() > 100 * BOUND

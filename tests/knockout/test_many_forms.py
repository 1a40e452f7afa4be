"""The fast engine against the plain one on models of every form: blocks, spans, unlike layers, two stacks."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.knockout.many_forms import EARLIER, Form, GroupForm, anatomy, network, random_prompt
from tests.knockout.tiny_study import TinyPrompt, run_plain, widest
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, combine, matched_control
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.decoding import greedy_draft
from xmflow_jax.knockout.fast.drafts import generated_room
from xmflow_jax.knockout.fast.engine import Placed, knock_out_answers, run_base_of, sweep_fast
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.kinds.outputs import Output
from xmflow_jax.knockout.modes import MASK, MEAN, MODES, ZERO
from xmflow_jax.knockout.plain import AnswerLength, answers_plain
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.knockout.study import build_study
from xmflow_jax.machine.compiler import Program
from xmflow_jax.nn.anatomy import MAIN, NOTHING, OWN, VISUAL, Anatomy, Site

# In float64, where rounding is a millionth of what a bug would be.
BOUND = 1e-9

# One stack: unlike groups, sliding windows, image in the prompt or outside it, cross-attention in place of attention.
PROMPTED = Form((GroupForm(2), GroupForm(1, span=3), GroupForm(2, softcap=4.0)))
CROSSING = Form((GroupForm(1), GroupForm(1, own=False, reads=VISUAL), GroupForm(2, reads=VISUAL, span=4)))
# Two: the second takes what the first leaves among its embeddings, or reads it by a site.
ENTERED = Form((GroupForm(2), GroupForm(1, span=2)), (GroupForm(1, reads=VISUAL), GroupForm(2)))
READING = Form((GroupForm(1, reads=EARLIER), GroupForm(2)), (GroupForm(2, reads=VISUAL),), kv_heads=4)
# The first blocks, and one of the second group, add features of the image.
ADDING = Form((GroupForm(2), GroupForm(2, span=4)), added=3)
FORMS = {
    "unlike blocks": PROMPTED,
    "crossing": CROSSING,
    "entered": ENTERED,
    "reading": READING,
    "adding": ADDING,
}

SOURCES = (roles.IMAGE, roles.QUESTION, roles.ALL, roles.IMAGE_CENTRAL_OBJECT)


def targets_of(stack: str) -> list[str]:
    return [roles.QUESTION, roles.LAST, roles.ALL] + ([roles.SYSTEM] if stack == MAIN else [])


def random_knockout(
    data: st.DataObject, model: Anatomy, prompts: list[TinyPrompt], layers_of: dict[Site, list[int]]
) -> Knockout:
    """Edges of any site in any mode, drawn edges like them, or outputs, of one stack or several."""
    parts = []
    for _ in range(data.draw(st.integers(1, 2))):
        site = data.draw(st.sampled_from(sorted(layers_of)))
        target = RoleSet(data.draw(st.sampled_from(targets_of(site.stack))), data.draw(st.booleans()))
        layers = tuple(data.draw(st.lists(st.sampled_from(layers_of[site]), min_size=1, unique=True)))
        if site.reads == NOTHING or data.draw(st.integers(0, 5)) == 0:
            parts.append(Knockout(((Output(site, target), layers, None),)))
            continue
        heads = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=1, unique=True))
        sources = [
            role
            for role in (roles.IMAGE, roles.QUESTION, roles.ALL, roles.IMAGE_CENTRAL_OBJECT)
            if fits(role, site, prompts)
        ]
        source = RoleSet(data.draw(st.sampled_from(sources)))
        mode = data.draw(st.sampled_from(sorted(MODES)))
        own = Knockout(((Edges(source, target, mode, site), layers, None if heads is None else tuple(heads)),))
        if data.draw(st.integers(0, 3)) == 0 and not target.complement:
            stack = next(one for one in model.stacks if one.name == site.stack)
            attending = tuple(one for one in model.sites(stack) if one.reads != NOTHING)
            own = matched_control(own, 1, 7, attending)
        parts.append(own)
    return combine(*parts)


def fits(role: str, site: Site, prompts: list[TinyPrompt]) -> bool:
    """Whether a role is over a site's sources, and has any."""
    prompt = prompts[0]
    stacks: dict[str, Any] = {**prompt.before, MAIN: prompt}
    read = stacks[site.stack if site.reads in (OWN, VISUAL) else site.reads]
    count = prompt.pixels.shape[1] ** 2 if site.reads == VISUAL else len(read.token_ids)
    return len(read.roles[role]) == count and bool(read.roles[role].any())


def layers_of_sites(model: Anatomy) -> dict[Site, list[int]]:
    found: dict[Site, list[int]] = {}
    for stack in model.stacks:
        for layer, sites in enumerate(stack.sites):
            for site in sites:
                found.setdefault(site, []).append(layer)
    return found


def check(name: str, data: st.DataObject) -> None:
    """Any positions in blocks, any site, mode, heads and layers, controls and outputs."""
    form = FORMS[name]
    model = anatomy(form)
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    blocked = data.draw(st.booleans())
    prompts = [random_prompt(rng, form, blocked) for _ in range(2)]
    layers = layers_of_sites(model)
    knockouts = [random_knockout(data, model, prompts, layers) for _ in range(5)] + [NOTHING_BLOCKED]
    study = build_study(knockouts, model)
    batch = build_batch(prompts)
    positions = build_positions(prompts, study.actions, batch.tokens.shape[1], keys=[3, 4])
    with jax.enable_x64(True):
        net, batch = widest(network(form)), batch._replace(pixels=batch.pixels.astype(np.float64))
        fast = sweep_fast(net, batch, positions, study)
        plain = run_plain(net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
        assert plain.dtype == np.float64
        np.testing.assert_allclose(fast.knockout, plain, rtol=0, atol=BOUND)
        np.testing.assert_array_equal(fast.knockout[:, -1], fast.base)


def examples(count: int) -> settings:
    phases = [Phase.generate]  # programs take seconds to compile, and shrinking would compile hundreds
    checks = list(HealthCheck)
    return settings(max_examples=count, deadline=None, suppress_health_check=checks, derandomize=True, phases=phases)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ("crossing", "entered") else []) for name in FORMS]
)
@examples(1)
@given(st.data())
def test_fast_equals_plain(name: str, data: st.DataObject) -> None:
    check(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@examples(25)
@given(st.data())
def test_fast_equals_plain_often(name: str, data: st.DataObject) -> None:
    check(name, data)


ANSWERS = {
    "unlike blocks": [Edges(RoleSet(roles.IMAGE), RoleSet(roles.ALL), MASK, Site(MAIN, "self"))],
    "entered": [
        Edges(RoleSet(roles.IMAGE), RoleSet(roles.ALL), MASK, Site(EARLIER, "cross", VISUAL)),
        Edges(RoleSet(roles.QUESTION), RoleSet(roles.LAST), ZERO, Site(MAIN, "self")),
    ],
    "reading": [
        Edges(RoleSet(roles.IMAGE), RoleSet(roles.QUESTION), MEAN, Site(EARLIER, "cross", VISUAL)),
        Edges(RoleSet(roles.ALL), RoleSet(roles.LAST), MASK, Site(MAIN, "cross", EARLIER)),
    ],
    "adding": [Edges(RoleSet(roles.SYSTEM), RoleSet(roles.ALL), MASK, Site(MAIN, "self"))],
}


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in list(ANSWERS)[:2]), "reading", "adding"]
)
def test_whole_answers_equal_greedy_decoding_without_a_draft(name: str) -> None:
    """Answers that depart from the base answer because an earlier stack changed, and others."""
    form, steps, ends = FORMS[name], 4, (10**6,)
    model, net, rng = anatomy(form), network(form), np.random.default_rng(0)
    prompts = [random_prompt(rng, form, blocked=True) for _ in range(2)]
    knockouts = [
        *(Knockout(((edges, layers, None),)) for edges in ANSWERS[name] for layers in ((0,), (0, 1))),
        NOTHING_BLOCKED,
    ]
    study, batch = build_study(knockouts, model), build_batch(prompts)
    room = generated_room(steps)
    positions = build_positions(prompts, study.actions, batch.tokens.shape[1] + room, steps - 1)
    placed = Placed(net, study, batch, positions, place_study(study, positions, batch, steps - 1))
    base = run_base_of(placed)
    draft = greedy_draft(net, base, batch, np.array(ends, np.int32), steps)
    fast = knock_out_answers(placed, base, draft, ends, np.ones(2, bool))
    given = (net, batch, positions, study.switches, np.array(ends, np.int32))
    _, plain = decode_plain(*given, length=AnswerLength(steps, room), count=len(knockouts))
    np.testing.assert_array_equal(fast.tokens, np.asarray(plain).swapaxes(0, 1))
    assert fast.departed.any()


def test_added_features_change_the_answer_but_where_the_image_is_blocked() -> None:
    model, rng = anatomy(ADDING), np.random.default_rng(0)
    batch_of = [random_prompt(rng, ADDING, blocked=False) for _ in range(2)]
    whole = Knockout(((Edges(RoleSet(roles.IMAGE), RoleSet(roles.ALL), MASK, Site(MAIN, "self")), (0, 1, 2, 3), None),))
    study, batch = build_study([NOTHING_BLOCKED, whole], model), build_batch(batch_of)
    positions = build_positions(batch_of, study.actions, batch.tokens.shape[1])
    found = []
    for factor in (1.0, 1.5):
        net = network(ADDING)
        deep: Any = net.params["deep"]["kernel"]
        deep[...] = factor * deep[...]
        found.append(sweep_fast(net, batch, positions, study).knockout)
    (free, blocked), (others, same) = (np.asarray(one).swapaxes(0, 1) for one in found)
    assert (np.abs(free - others).max(-1) > 1e-2).all()
    np.testing.assert_array_equal(blocked, same)


decode_plain = Program(answers_plain, ("length", "at_once", "count"))

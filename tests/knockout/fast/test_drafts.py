"""Drafts on the host: where answers depart, tiles of departed answers, and that rows always lie within the arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.knockout.anatomies import prompt_anatomy
from tests.knockout.tiny_study import tiny_prompt
from xmflow_jax.data import roles
from xmflow_jax.data.batch import build_batch
from xmflow_jax.knockout.actions import Knockout, block, keep_only
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.departed import build_tiles, continue_departed
from xmflow_jax.knockout.fast.drafts import check_drafts, drafted_groups, generated_room, tokens_checked
from xmflow_jax.knockout.fast.placement import place_study
from xmflow_jax.knockout.fast.reach import impossible_actions
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.role_sets import RoleSet
from xmflow_jax.knockout.study import build_study

END, FILL = 1, 2
ENDS = (FILL, END)
ANATOMY = prompt_anatomy(3)


def told(draft: list[int], following: list[int]) -> tuple[list[int], bool]:
    """(known tokens, whether the answer goes on), one token after the other."""
    known = []
    for step, token in enumerate(following):
        known.append(token)
        if token in ENDS:
            return known, False
        if step < len(draft) and token != draft[step]:
            return known, len(known) < len(draft)
    return known, False


tokens = st.integers(1, 4)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_departures_are_those_of_reading_token_by_token(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 6))
    draft = data.draw(st.lists(tokens, min_size=steps, max_size=steps))
    ended = next((step for step, token in enumerate(draft) if token in ENDS), steps - 1)
    draft = draft[: ended + 1] + [FILL] * (steps - ended - 1)
    checked = data.draw(st.integers(ended + 1, steps))
    following = [data.draw(st.sampled_from([token, 3, 4, END])) for token in draft[:checked]]
    found = check_drafts(np.array([draft]), np.array([[following]]), ENDS)
    known, goes_on = told(draft, following[: ended + 1])
    assert found.tokens[0, 0].tolist() == known + [FILL] * (steps - len(known))
    assert found.known[0, 0] == len(known)
    assert found.departed[0, 0] == goes_on


def test_few_numbers_of_tokens_are_checked() -> None:
    found = {longest: tokens_checked(np.array([1, longest]), 10) for longest in range(1, 11)}
    assert found == {1: 1, 2: 2, 3: 3, 4: 5, 5: 5, 6: 9, 7: 9, 8: 9, 9: 9, 10: 10}
    assert tokens_checked(np.array([], int), 10) == 1
    assert tokens_checked(np.array([3]), 3) == 3


@pytest.mark.parametrize(
    ("chosen", "among"),
    [
        (RoleSet(roles.LAST), True),
        (RoleSet(roles.ALL), True),
        (RoleSet(roles.QUESTION), False),
        (RoleSet(roles.IMAGE), False),
        (RoleSet(roles.LAST, complement=True), False),
        (RoleSet(roles.QUESTION, complement=True), True),
    ],
    ids=str,
)
def test_generated_positions_belong_to_last_and_all(chosen: RoleSet, among: bool) -> None:
    assert chosen.generated is among


def test_arrays_hold_as_many_generated_positions_as_are_told_behind_each_prompt() -> None:
    prompts = [tiny_prompt(0), tiny_prompt(1, question=6)]
    study = build_study([keep_only(Pathway("Image", "Last"), [0], ANATOMY)], ANATOMY)
    positions = build_positions(prompts, study.actions, 40, generated=3)
    ((first, second),) = study.actions.values()
    others, last = first.target, second.target
    (arrays,) = positions.values()
    assert (others.complement, last.role) == (True, roles.LAST)
    for row, prompt in enumerate(prompts):
        length = len(prompt.token_ids)
        expected = np.zeros((2, 40), bool)
        expected[0, : length - 1] = True
        expected[1, length - 1 : length + 3] = True
        np.testing.assert_array_equal(arrays.target[row], expected)
        # Everything to the others, and to the last ones everything but the image: the generated positions too.
        sources = np.zeros((2, 40), bool)
        sources[:, : length + 3] = True
        sources[1, :length] &= ~prompt.roles[roles.IMAGE]
        np.testing.assert_array_equal(arrays.source[row], sources)


ANY = st.sampled_from(roles.ROLES)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_rows_lie_within_the_arrays_and_cover_prompts_and_drafts(data: st.DataObject) -> None:
    prompts = [
        tiny_prompt(
            seed,
            before=data.draw(st.integers(1, 12)),
            question=data.draw(st.integers(3, 14)),
            after=data.draw(st.integers(0, 14)),
            question_first=data.draw(st.booleans()),
        )
        for seed in range(data.draw(st.integers(1, 4)))
    ]
    steps = data.draw(st.integers(1, 12))
    checked = data.draw(st.integers(1, steps))
    parts = data.draw(st.lists(st.tuples(ANY, ANY, st.booleans(), st.integers(0, 2)), min_size=1, max_size=4))
    knockouts: list[Knockout] = [
        keep_only(Pathway(source, target), range(first, 3), ANATOMY)
        if keeps
        else block(Pathway(source, target), range(first, 3))
        for source, target, keeps, first in parts
    ]
    study = build_study(knockouts, ANATOMY)
    length = np.array([len(prompt.token_ids) for prompt in prompts])
    batch = build_batch(prompts)
    padded = batch.tokens.shape[1]
    room = padded + generated_room(steps)
    positions = build_positions(prompts, study.actions, room, steps - 1)
    placement = place_study(study, positions, batch, steps - 1)
    groups, window = drafted_groups(placement, batch, checked, steps)
    (first,), (kept,) = placement.first, placement.rows
    assert len(groups) == len(placement.groups)
    for one, (begin,) in zip(groups, placement.begins, strict=True):
        rows, prefix = one.group.main.rows, one.group.main.prefix
        assert (one.start <= begin).all()
        assert (one.start <= prefix).all()
        assert prefix <= padded
        assert (one.start + rows >= length + checked - 1).all()
        assert (one.start + one.longest >= length + steps - 1).all()
        assert rows <= one.longest
        assert (one.start + one.longest <= room).all()
        assert (first <= one.start).all()
        assert (one.start + rows <= first + window).all()
    assert (first + kept <= padded).all()
    assert window >= kept
    # What a prompt makes impossible does not depend on its answer.
    alone = build_positions(prompts, study.actions, padded)
    assert impossible_actions(study, positions, batch) == impossible_actions(study, alone, batch)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("groups", [1, 3])
def test_every_departed_answer_is_decoded_once_and_no_other_is_touched(batch: int, share: float, groups: int) -> None:
    rng = np.random.default_rng(0)
    steps, last_layer = 5, 6
    departed = rng.random((batch, 13)) < share
    tokens = rng.integers(0, 50, (batch, 13, steps)).astype(np.int32)
    known = rng.integers(1, steps, (batch, 13))
    first_layer = rng.integers(0, last_layer, 13)
    group = rng.integers(0, groups, 13)
    of_group = np.stack([departed & (group == number) for number in range(groups)])
    shapes, decoded = set(), np.zeros((batch, 13), int)

    def run(tiles, first):  # type: ignore[no-untyped-def]
        assert len(tiles.config) == len(first) == groups
        shapes.add(tiles.config.shape)
        assert (np.diff(tiles.known, axis=2) >= 0).all()
        for own, mine, layers in zip(range(groups), of_group, first, strict=True):
            config, used = tiles.config[own], tiles.used[own]
            at = np.broadcast_to(tiles.prompt[:, None], config.shape)[used], config[used]
            assert mine[at].all()
            np.add.at(decoded, at, 1)
            np.testing.assert_array_equal(tiles.tokens[own][used], tokens[at])
            np.testing.assert_array_equal(tiles.known[own][used], known[at])
            assert (tiles.known[own][~used] == steps).all()
            for slot, layer in enumerate(layers):
                assert layer == first_layer[config[:, slot][used[:, slot]]].min(initial=last_layer)
        return tiles.tokens + 100

    found = continue_departed(run, of_group, tokens, known, first_layer, last_layer)
    np.testing.assert_array_equal(found, tokens + 100 * departed[..., None])
    np.testing.assert_array_equal(decoded, departed)
    assert len(shapes) <= 1
    for slots in (1, 4):
        tiles = build_tiles(of_group, tokens, known, first_layer, slots)
        assert len(tiles.prompt) == sum(-(-int(own.max()) // slots) for own in of_group.sum(2).T)
        assert tiles.used.sum() == departed.sum()

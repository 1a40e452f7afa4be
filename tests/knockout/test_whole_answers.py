"""Whole answers under knockout: drafts and continuations against plain greedy decoding; knockouts stay in force.

The plain engine decodes without a draft, a full pass for every token. It is itself checked against passes over prompts
that were made longer by hand, and both engines against PyTorch (`test_whole_answers_torch.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.knockout.anatomies import anatomy_of, cross_anatomy, prompt_anatomy
from tests.knockout.tiny_cross_attention import tiny_cross_attention, tiny_text_prompt
from tests.knockout.tiny_study import IMAGE_TOKEN, LLAVA_OUTPUTS, TinyPrompt, arrays, run_plain, tiny_llava, tiny_prompt
from xmflow_jax.data import roles
from xmflow_jax.data.batch import Batch, build_batch
from xmflow_jax.knockout.actions import NOTHING_BLOCKED, Knockout, block, keep_only, zero_output
from xmflow_jax.knockout.arrays import Positions, build_positions
from xmflow_jax.knockout.batch_answers import Request, answer_batch
from xmflow_jax.knockout.fast.attention import SharedKeys
from xmflow_jax.knockout.fast.base_run import BaseRun
from xmflow_jax.knockout.fast.decoding import Draft, greedy_draft
from xmflow_jax.knockout.fast.drafts import generated_room
from xmflow_jax.knockout.fast.engine import Answers, Placed, encode, knock_out_answers, run_base
from xmflow_jax.knockout.fast.placement import Placement, place_study
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.plain import AnswerLength, answers_plain
from xmflow_jax.knockout.study import Study, build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.machine.compiler import Program
from xmflow_jax.nn.anatomy import CROSS, MLP, SELF
from xmflow_jax.nn.network import Network

LAYERS, HEADS = 3, 4
ANATOMIES = {False: prompt_anatomy(LAYERS, HEADS), True: cross_anatomy(LAYERS, HEADS)}
FAMILIES = ("llava", "cross-attention")
SECOND_SLOWER = ("llava", pytest.param("cross-attention", marks=pytest.mark.slow))
# Tokens that end answers; with them, answers of every length up to 8 occur.
ENDS = {"llava": (2, 25), "cross-attention": (6, 24)}
NEVER = (10**6,)
_plain = Program(answers_plain, ("length", "at_once", "count"))


def grown_roles(told: Any, generated: int) -> dict[str, np.ndarray]:
    """A prompt's roles when it is longer by generated tokens, written down without the code under test."""
    length = len(told[roles.LAST])
    return {
        role: mask
        if len(mask) != length
        else np.concatenate([mask, np.full(generated, role in (roles.LAST, roles.ALL))])
        for role, mask in told.items()
    }


@dataclass(frozen=True, eq=False)
class Case:
    """A study on a batch of one family's tiny model."""

    net: Network
    prompts: Sequence[TinyPrompt]
    study: Study
    batch: Batch
    positions: Positions
    placement: Placement
    base: BaseRun
    draft: Draft
    ends: tuple[int, ...]
    steps: int

    def fast(self, base: BaseRun | None = None, wanted: np.ndarray | None = None) -> Answers:
        wanted = np.ones(len(self.prompts), bool) if wanted is None else wanted
        placed = Placed(self.net, self.study, self.batch, self.positions, self.placement)
        return knock_out_answers(placed, self.base if base is None else base, self.draft, self.ends, wanted)

    def plain(self, positions: Positions | None = None, batch: Batch | None = None) -> tuple[np.ndarray, np.ndarray]:
        given = (self.batch if batch is None else batch, self.positions if positions is None else positions)
        ends = np.array(self.ends, np.int32)
        length, count = AnswerLength(self.steps, generated_room(self.steps)), len(self.study.knockouts)
        logits, tokens = _plain(self.net, *given, self.study.switches, ends, length=length, count=count)
        return np.asarray(logits).swapaxes(0, 1), np.asarray(tokens).swapaxes(0, 1)


def make_case(
    family: str, prompts: Sequence[TinyPrompt], knockouts: Sequence[Knockout], ends: tuple[int, ...], steps: int
) -> Case:
    config, net = tiny_cross_attention(LAYERS) if family == FAMILIES[1] else tiny_llava(LAYERS)
    study = build_study(knockouts, anatomy_of(config))
    batch = build_batch(prompts)
    length = batch.tokens.shape[1] + generated_room(steps)
    positions = build_positions(prompts, study.actions, length, steps - 1)
    placement = place_study(study, positions, batch, steps - 1)
    features = encode(net, batch.pixels)
    base = run_base(net, batch, features, placement.first, rows=placement.rows)
    draft = greedy_draft(net, base, batch, np.array(ends, np.int32), steps)
    return Case(net, prompts, study, batch, positions, placement, base, draft, ends, steps)


def make_prompts(family: str) -> list[TinyPrompt]:
    """Of different lengths; the last prompt ends with its question, whose last word is then the last position."""
    make = tiny_text_prompt if family == FAMILIES[1] else tiny_prompt
    return [make(0), make(1, before=2, question=7, after=2), make(2, question=5, after=5), make(3, after=0)]


def make_knockouts(cross: bool) -> list[Knockout]:
    """Every style, mode, head subset and kind of output; keep-only, and what has no effect."""
    pathways = [Pathway("Image", "Question"), Pathway("Question", "Last"), Pathway("Last", "Last")]
    styled = [(pathway, style) for pathway in pathways for style in ("single", "to-end")]
    styled += [(Pathway("Image", "Last"), "centred"), (Pathway("Question", "Question"), "to-end")]
    styled += [(Pathway("Image", "All"), "to-end"), (Pathway("System", "Last"), "from-start")]
    image, asked = Pathway("Image", "Question"), Pathway("Question", "Last")
    sites = (SELF, CROSS, MLP) if cross else LLAVA_OUTPUTS
    anatomy = ANATOMIES[cross]
    image_site = CROSS if cross else SELF
    return [
        *(row.knockout for row in pathway_study(styled, anatomy, 2)),
        block(Pathway("Image", "Last"), [0, 1], "zero", site=image_site),
        block(Pathway("Last", "Last"), range(LAYERS), "zero", [1, 3]),
        block(image, [1], "mask", [0, 2], image_site),
        *(zero_output(site, "Last", [layer]) for site in sites for layer in (0, 2)),
        zero_output(sites[0], "Question", [1]),
        keep_only(image, [1], anatomy),
        keep_only(asked, range(LAYERS), anatomy),
        block(Pathway("Question", "System"), [0]),
        NOTHING_BLOCKED,
    ]


@lru_cache
def swept(family: str) -> tuple[Case, Answers, np.ndarray, np.ndarray]:
    case = make_case(family, make_prompts(family), make_knockouts(family == FAMILIES[1]), ENDS[family], 8)
    return case, case.fast(), *case.plain()


def lengths(tokens: np.ndarray, ends: tuple[int, ...]) -> np.ndarray:
    ended = np.isin(tokens, ends)
    return np.where(ended.any(-1), ended.argmax(-1) + 1, tokens.shape[-1])


@pytest.mark.slow  # `test_whole_answers_torch.py` has the like of it
@pytest.mark.parametrize("family", SECOND_SLOWER)
def test_equal_to_greedy_decoding_without_a_draft(family: str) -> None:
    """Answers of 1 to 8 tokens, that end by either of two tokens or not at all, for every configuration."""
    case, fast, _, plain = swept(family)
    np.testing.assert_array_equal(fast.tokens, plain)
    found = lengths(plain, case.ends)
    assert set(found.flat) == set(range(1, 9))
    draft = np.asarray(case.draft.tokens)[:, None]
    changed = (plain != draft).any(2)
    assert 0.1 < changed.mean() < 0.9
    # Departed at the first token and later; decoded on with further tokens of their own.
    first = (plain != draft).argmax(2)[changed]
    assert first.min() == 0
    assert first.max() >= 2
    assert fast.departed.sum() > 10
    assert not (fast.departed & ~changed).any()


@pytest.mark.parametrize("family", SECOND_SLOWER)
def test_first_tokens_are_those_of_first_token_sweeps(family: str) -> None:
    case, fast, _, _ = swept(family)
    expected = np.asarray(run_plain(case.net, *arrays(case.prompts, case.study), case.study.switches))
    np.testing.assert_allclose(fast.logits, expected.swapaxes(0, 1), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(fast.tokens[..., 0], expected.swapaxes(0, 1).argmax(-1))


@pytest.mark.parametrize("family", SECOND_SLOWER)
def test_plain_decoding_is_a_full_pass_over_a_longer_prompt_for_every_token(family: str) -> None:
    case, _, _, plain = swept(family)
    chosen = [0, 3, 8, 12, len(case.study.knockouts) - 4]
    some = replace(case.study, switches=jax.tree.map(lambda switch: switch[np.array(chosen)], case.study.switches))
    compared = []
    for row, prompt in enumerate(case.prompts[:2]):
        going = np.ones(len(chosen), bool)
        for step in range(case.steps):
            before = plain[row, chosen, :step]
            compared.append(going.mean())
            for place in np.flatnonzero(going):
                tokens = np.concatenate([prompt.token_ids, before[place]]).astype(np.int32)
                longer = replace(prompt, token_ids=tokens, roles=grown_roles(prompt.roles, step))
                logits = run_plain(case.net, *arrays([longer], some), some.switches)
                assert np.asarray(logits)[place, 0].argmax() == plain[row, chosen[place], step]
            # Behind an image token a prompt is another one: decoding reads it as a word, a prompt as an image.
            going &= ~np.isin(plain[row, chosen, step], (*case.ends, IMAGE_TOKEN))
    assert np.mean(compared) > 0.7


@pytest.mark.parametrize("family", SECOND_SLOWER)
def test_generated_positions_read_no_blocked_source(family: str) -> None:
    """Keys and values of the image, replaced after the base run: answers with `Image->Last` blocked in every layer stay
    as they are to their last token, and with one head left open they do not."""
    cross = family == FAMILIES[1]
    pathway = Pathway("Image", "Last")
    knockouts = [block(pathway, range(LAYERS), "mask", heads, CROSS if cross else SELF) for heads in (None, [0, 1, 2])]
    case = make_case(family, make_prompts(family), knockouts, NEVER, 6)
    main = case.base.keys[-1]
    if cross:
        ((key, value),) = main.outside
        main = main._replace(outside=(SharedKeys(key * 2 + 1, value * 2 + 1),))
    else:
        told = [np.pad(prompt.roles[roles.IMAGE], (0, 32))[: case.batch.tokens.shape[1]] for prompt in case.prompts]
        image, ((key, value),) = np.stack(told), main.own
        key = jnp.where(image[:, None, :], key * 2 + 1, key)
        main = main._replace(own=(SharedKeys(key, jnp.where(image[..., None], value * 2 + 1, value)),))
    louder = case.base._replace(keys=(main,))
    quiet, loud = case.fast(), case.fast(louder)
    np.testing.assert_array_equal(quiet.tokens[:, 0], loud.tokens[:, 0])
    np.testing.assert_array_equal(np.asarray(quiet.logits)[:, 0], np.asarray(loud.logits)[:, 0])
    assert (quiet.tokens[:, 1] != loud.tokens[:, 1]).any()
    assert quiet.departed[:, 0].any()


@pytest.mark.parametrize("family", SECOND_SLOWER)
def test_perturbing_a_blocked_image_changes_no_token_of_an_answer(family: str) -> None:
    """In both engines; were generated positions left out of the roles, later tokens would see it."""
    cross = family == FAMILIES[1]
    knockouts = [block(Pathway("Image", "All"), range(LAYERS), site=CROSS if cross else SELF), NOTHING_BLOCKED]
    prompts = make_prompts(family)[:3]
    other = [replace(prompt, pixels=prompt.pixels[..., ::-1] * 3 + 1) for prompt in prompts]
    one, two = (make_case(family, own, knockouts, NEVER, 6) for own in (prompts, other))
    np.testing.assert_array_equal(one.fast().tokens[:, 0], two.fast().tokens[:, 0])
    (_, plain), (_, perturbed) = one.plain(), two.plain()
    np.testing.assert_array_equal(plain[:, 0], perturbed[:, 0])
    assert (plain[:, 1] != perturbed[:, 1]).any()
    length = one.batch.tokens.shape[1] + generated_room(one.steps)
    forgotten = build_positions(prompts, one.study.actions, length)
    (_, plain), (_, perturbed) = one.plain(forgotten), two.plain(forgotten)
    np.testing.assert_array_equal(plain[:, 0, 0], perturbed[:, 0, 0])
    assert (plain[:, 0] != perturbed[:, 0]).any()


def test_a_generated_image_token_is_a_word() -> None:
    """The id that marks an image position in a prompt marks none in an answer."""
    case = make_case(
        "llava", make_prompts("llava")[:2], [NOTHING_BLOCKED, block(Pathway("Question", "Last"), [0])], NEVER, 4
    )
    _, net = tiny_llava(LAYERS)
    head = net.params["language_model"]["lm_head"]["kernel"]
    # Wherever the first answer's first token was likeliest, the image token is now.
    strongest = int(np.asarray(case.base.logits)[0].argmax())
    params = jax.tree.map(lambda leaf: leaf, net.params)
    kernel = head[...]
    params["language_model"]["lm_head"]["kernel"].set_value(
        kernel.at[:, IMAGE_TOKEN].set(kernel[:, strongest] * jnp.float32(1.01))
    )
    louder = Network(net.graphdef, params)
    features = encode(louder, case.batch.pixels)
    base = run_base(louder, case.batch, features, case.placement.first, rows=case.placement.rows)
    draft = greedy_draft(louder, base, case.batch, np.array(NEVER, np.int32), 4)
    again = replace(case, net=louder, base=base, draft=draft)
    fast, (_, plain) = again.fast(), again.plain()
    assert (plain[..., :3] == IMAGE_TOKEN).any()
    np.testing.assert_array_equal(fast.tokens, plain)


def test_both_engines_through_a_batch_with_a_prompt_that_is_not_selected() -> None:
    config, net = tiny_llava(LAYERS)
    prompts = make_prompts("llava")[:3]
    study = build_study(
        [block(Pathway("Image", "Last"), [0, 1]), block(Pathway("Question", "Last"), [2])], anatomy_of(config)
    )
    chosen = np.array([True, False, True])
    options = np.array([[3, 7], [9, 4], [30, 11]], np.int32)

    def run(engine: str, steps: int, whole: bool = True) -> Any:
        request = Request(study, (5, 20), steps, engine, whole)
        asked = (lambda tokens, logits: chosen, lambda tokens: options[: len(tokens)])
        return answer_batch(net, prompts, request, *asked, full_size=4)

    fast, plain, first = run("fast", 5), run("plain", 5), run("fast", 5, whole=False)
    assert fast.tokens.shape == plain.tokens.shape == (3, 2, 5)
    np.testing.assert_array_equal(fast.tokens[chosen], plain.tokens[chosen])
    assert first.tokens is None
    for one in (fast, plain):
        for name in ("base_token", "base_prob", "knockout_token", "knockout_prob"):
            found, expected = (np.asarray(getattr(own.measured, name)) for own in (one, first))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(one.tokens[chosen][..., 0], one.measured.knockout_token[chosen])
        for found, expected in zip(one.margins, first.margins, strict=True):
            np.testing.assert_allclose(found[chosen], expected[chosen], rtol=0, atol=1e-4)
    assert first.margins.knockout.shape == (3, 2)
    assert np.abs(first.margins.knockout - first.margins.base[:, None])[chosen].min() > 1e-3
    single = run("fast", 1)
    np.testing.assert_array_equal(single.tokens[..., 0], first.measured.knockout_token)
    assert single.tokens.shape == (3, 2, 1)
    chosen = np.zeros(3, bool)
    assert run("fast", 5).tokens is None

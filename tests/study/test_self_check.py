"""The self-check passes on sound engines, of both families, and says what is wrong with sabotaged ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.data.tiny_processing import load_processing
from tests.knockout.anatomies import prompt_anatomy
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.sources.demo_tokenizer import write_demo_tokenizer
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.templates import NAMED_TEMPLATES
from xmflow_jax.errors import SelfCheckError
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.registry import VISION_ENCODER_DECODER
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionConfig
from xmflow_jax.knockout.actions import TOGETHER
from xmflow_jax.knockout.fast import engine as fast
from xmflow_jax.knockout.kinds import edges
from xmflow_jax.knockout.pathways import parse_pathways
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import StudyRow, pathway_study
from xmflow_jax.nn.anatomy import CROSS, SELF
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.gpt2 import Gpt2Config
from xmflow_jax.study import blocked_weights
from xmflow_jax.study.blocked_weights import probes
from xmflow_jax.study.self_check import HANDFUL, check_engines, handful
from xmflow_jax.study.shipped import write_image_processor, write_random_tiny
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LAYERS, HEADS = 3, 4
Checkable = tuple[LoadedModel, PreparedQuestion, tuple[StudyRow, ...]]


def cross_attention(folder: Path) -> Path:
    vocabulary = write_demo_tokenizer(folder)
    write_image_processor(folder, 56)
    vision = ClipVisionConfig(56, 14, width=32, mlp_width=64, layers=2, heads=2)
    text = Gpt2Config(vocabulary, width=64, mlp_width=128, layers=LAYERS, heads=HEADS, positions=128)
    write_random(folder, VISION_ENCODER_DECODER, CrossAttentionConfig(vision, text), seed=0)
    return folder


@pytest.fixture(name="sound", scope="module", params=["llava", "cross-attention"])
def fixture_sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkable:
    """A model on which the check has passed, so that its programs are compiled."""
    folder = tmp_path_factory.mktemp("checked")
    files, images = write_demo_questions(folder / "data", per_task=1, seed=0)
    crossing = request.param == "cross-attention"
    (folder / "model").mkdir()
    model = cross_attention(folder / "model") if crossing else write_random_tiny(folder / "model", layers=LAYERS)
    template = NAMED_TEMPLATES["plain_text" if crossing else "plain"]
    prompt = prepare_question(read_questions(files, images)[0], load_processing(model), template)
    pathways = parse_pathways("Image->Question, Question->Last@to-end", "centred")
    loaded = load_model(model, "float32")
    rows = pathway_study(pathways, loaded.anatomy, 1)
    check_engines(loaded, prompt, rows, batch_size=2)
    return loaded, prompt, rows


def refusal(sound: Checkable) -> str:
    with pytest.raises(SelfCheckError) as refused:
        check_engines(*sound, batch_size=2)
    assert "\n" not in str(refused.value)
    assert "--no-self-check" in str(refused.value)
    return str(refused.value)


def unblocked(*_: Any) -> Any:
    """An edge mask that has forgotten its edges."""
    switch, target, source = _
    return jax.numpy.zeros((1,) * 3, bool) & edge_mask(switch, target, source)


edge_mask = edges.edge_mask


@pytest.mark.parametrize(
    ("engine", "program"),
    [("plain", "_plain"), ("fast", "_fast")],
)
def test_a_mask_that_blocks_nothing(
    sound: Checkable, monkeypatch: pytest.MonkeyPatch, engine: str, program: str
) -> None:
    """In the program of one engine; the other's is compiled already and has its edges."""
    jitted = getattr(blocked_weights, program).jitted
    with monkeypatch.context() as sabotage:
        sabotage.setattr(edges, "edge_mask", unblocked)
        jitted.clear_cache()
        error = refusal(sound)
    jitted.clear_cache()
    # Compiled anew with its edges, for the test of the other one.
    check_engines(*sound, batch_size=2)
    assert f"blocked rows of the {engine} engine's attention have weights up to " in error
    assert "expected exactly 0" in error
    assert "->" in error


def sabotaged(change: Callable[[Any, int], Any]) -> Callable[..., Any]:
    """`knock_out`, its logits changed as a function of them and of how many configurations are switched on."""
    knock_out = fast.knock_out

    def changed(placed: Any, base: Any) -> Any:
        switches = placed.study.switches.values()
        on = sum(int(np.asarray(switch).any(axis=tuple(range(1, switch.ndim))).sum()) for switch in switches)
        return change(knock_out(placed, base), on)

    return changed


def test_fast_logits_that_are_off(sound: Checkable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, rows = sound
    last = len(rows) - 1
    monkeypatch.setattr(
        fast, "knock_out", sabotaged(lambda logits, on: logits.at[:, last, 5].add(0.125) if on else logits)
    )
    error = refusal(sound)
    assert "the fast and the plain engine's logits under Question->Last (to-end) in layer 2 differ by 0.125" in error
    assert "expected at most" in error


def test_an_empty_knockout_that_is_not_the_base_run(sound: Checkable, monkeypatch: pytest.MonkeyPatch) -> None:
    """By as little as one bit of one logit."""

    def one_bit(logits: Any, on: int) -> Any:
        return logits.at[0, 0, 0].set(np.nextafter(np.float32(logits[0, 0, 0]), np.float32(np.inf)))

    monkeypatch.setattr(fast, "knock_out", sabotaged(one_bit))
    error = refusal(sound)
    assert "under the empty knockout and the base run's differ by" in error
    assert "bit for bit" in error


def test_recomputed_rows_that_are_not_the_base_run(sound: Checkable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fast, "knock_out", sabotaged(lambda logits, on: logits * 1.01 if logits.shape[1] > 1 and not on else logits)
    )
    assert "rows recomputed with nothing blocked and the base run's differ by" in refusal(sound)


def test_whole_answers_are_checked_in_the_passes_that_read_the_draft(
    sound: Checkable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt, rows = sound
    drafted = fast.knock_out_drafted
    monkeypatch.setattr(fast, "knock_out", None)
    check_engines(model, prompt, rows, batch_size=2, answer_length=4, end_tokens=(0,))

    def off(*arguments: Any) -> Any:
        found = drafted(*arguments)
        return found._replace(logits=found.logits.at[0, -1, 5].add(0.125))

    monkeypatch.setattr(fast, "knock_out_drafted", off)
    with pytest.raises(SelfCheckError, match=r"differ by 0\.125"):
        check_engines(model, prompt, rows, batch_size=2, answer_length=4, end_tokens=(0,))


def test_answers_that_do_not_begin_with_the_likeliest_token(sound: Checkable, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompt, rows = sound
    drafted = fast.knock_out_drafted

    def off(*arguments: Any) -> Any:
        found = drafted(*arguments)
        return found._replace(following=found.following.at[0, -1, 0].add(1))

    monkeypatch.setattr(fast, "knock_out_drafted", off)
    with pytest.raises(SelfCheckError, match="1 of the answers begin with another token than the likeliest one"):
        check_engines(model, prompt, rows, batch_size=2, answer_length=4, end_tokens=(0,))


def test_output_that_is_not_finite_is_the_sweeps_business(sound: Checkable) -> None:
    """Its questions are set aside one by one; there is nothing to compare."""
    model, prompt, rows = sound
    broken = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), model.state)
    check_engines(replace(model, state=broken), prompt, rows, batch_size=2)


TARGETS = ("Last", "Question", "Central Object", "True Option", "False Option", "Question without Options", "System")


@pytest.mark.parametrize(
    "pathways", ["Image->Last", "Image->Last, Last->Last", ",".join(f"Image->{role}" for role in TARGETS)]
)
def test_a_handful_is_few_of_every_pathway_and_many_layers(pathways: str) -> None:
    rows = list(enumerate(pathway_study(parse_pathways(pathways, "centred"), prompt_anatomy(32), 3)))
    chosen = handful(rows, 32)
    names = [str(row.pathway) for _, row in chosen]
    assert len(set(names)) == pathways.count("->")
    assert len(set(names)) <= len(chosen) <= HANDFUL
    assert max(row.layer for _, row in chosen) >= 24
    assert min(row.layer for _, row in chosen) < 8
    assert all(rows[place][1] is row for place, row in chosen)
    assert handful([], 32) == []


def test_a_handful_has_single_heads_and_controls_too() -> None:
    pathways = parse_pathways("Image->Last, Last->Last", "centred")
    rows = list(enumerate(pathway_study(pathways, prompt_anatomy(32), 3, controls=2, single_heads=(2, 5, 7))))
    chosen = [row for _, row in handful(rows, 32)]
    for pathway in ("Image->Last", "Last->Last"):
        own = [row for row in chosen if str(row.pathway) == pathway]
        assert {(row.control, row.head != TOGETHER) for row in own} == {(0, False), (1, False), (0, True)}
    single = [row for row in chosen if row.head != TOGETHER]
    assert len({row.head for row in single}) > 1
    assert all(row.knockout.switched[0][2] == (row.head,) for row in single)
    assert len(chosen) <= HANDFUL


def test_probes_expect_zero_at_the_roles_and_heads_that_are_blocked(sound: Checkable) -> None:
    model, prompt, rows = sound
    study = build_study([row.knockout for row in rows], model.anatomy)
    by_pathway = {str(row.pathway): (probe, place) for probe in probes(model, prompt, rows, study)
                  for place, row in enumerate(probe.rows)}  # fmt: skip
    probe, place = by_pathway["Image->Question"]
    assert probe.site == (SELF if model.anatomy.image_in_prompt else CROSS)
    np.testing.assert_array_equal(probe.source[place], prompt.roles["Image"])
    np.testing.assert_array_equal(probe.blocked[place], np.tile(prompt.roles["Question"], (HEADS, 1)))
    own = pathway_study(parse_pathways("Image->Last", "single"), model.anatomy, 1, heads=(1, 3))
    (probe,) = probes(model, prompt, own, build_study([row.knockout for row in own], model.anatomy))
    assert probe.blocked.any(axis=(0, 2)).tolist() == [False, True, False, True]

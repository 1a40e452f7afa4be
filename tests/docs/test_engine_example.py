"""The numbers and drawings of `docs/engine.md` against the engine's schedule. No model is needed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from experiments.figures.staircase import blocked_layers, draw
from tests.docs.pages import DOCS, table_rows
from xmflow_jax.data import roles
from xmflow_jax.data.batch import StackPrompt, build_batch
from xmflow_jax.data.place import Place, plain_place
from xmflow_jax.knockout.arrays import build_positions
from xmflow_jax.knockout.fast.placement import Group, Placement, place_study
from xmflow_jax.knockout.fast.schedule import build_trie
from xmflow_jax.knockout.pathways import parse_pathways
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, FROM_START, window_layers
from xmflow_jax.nn.anatomy import MAIN, MLP, SELF, Anatomy, StackShape

PAGE = (DOCS / "engine.md").read_text(encoding="utf-8")
LAYERS, WINDOW, POSITIONS = 6, 3, 10
IMAGE, QUESTION = slice(1, 5), slice(5, 8)
PATHWAYS = ("Image->Question", "Question->Last")


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", text)]


def table(first_heading: str) -> dict[str, list[str]]:
    """The cells of a table's rows by their first cell, without backticks."""
    return {cells[0].replace("`", ""): cells[1:] for cells in table_rows(PAGE, first_heading)}


def by_layer(row: str) -> list[int]:
    """A row of the table by layers, its sum at the end."""
    return [int(cell) for cell in table("layer")[row]]


def with_sum(values: list[int]) -> list[int]:
    return [*values, sum(values)]


@dataclass(frozen=True, eq=False)
class ExamplePrompt:
    """The example's prompt, whose words do not matter here."""

    place: Place

    @property
    def token_ids(self) -> np.ndarray:
        return np.zeros(POSITIONS, np.int32)

    @property
    def pixels(self) -> np.ndarray:
        return np.zeros((1, 2, 2, 3), np.float32)

    @property
    def before(self) -> Mapping[str, StackPrompt]:
        return {}

    @property
    def roles(self) -> Mapping[str, np.ndarray]:
        masks = {role: np.zeros(POSITIONS, bool) for role in roles.ROLES}
        masks[roles.SYSTEM][0] = masks[roles.LAST][-1] = True
        masks[roles.IMAGE][IMAGE] = masks[roles.QUESTION][QUESTION] = masks[roles.ALL][:] = True
        return masks


def example(blocks: slice | None = None) -> Placement:
    """The example's two pathways, placed on its prompt as the engine pads it.

    Args:
        blocks: positions that see each other both ways; None: attention is causal.
    """
    place = plain_place(POSITIONS)
    if blocks is not None:
        numbers = np.zeros(POSITIONS, np.int32)
        numbers[blocks] = 1
        place = Place(place.axes, blocks=numbers)
    anatomy = Anatomy((StackShape(MAIN, ((SELF, MLP),) * LAYERS, heads=1),), vocabulary=1)
    rows = pathway_study(parse_pathways(", ".join(PATHWAYS), CENTRED), anatomy, WINDOW)
    study = build_study([row.knockout for row in rows], anatomy)
    prompts = [ExamplePrompt(place)]
    batch = build_batch(prompts)
    return place_study(study, build_positions(prompts, study.actions, batch.tokens.shape[1]), batch)


def group_of(pathway: str) -> tuple[Group, int]:
    """A pathway's group, and the first position that it recomputes."""
    return place_of(example(), pathway)


def place_of(placement: Placement, pathway: str) -> tuple[Group, int]:
    number = PATHWAYS.index(pathway)
    members = range(number * LAYERS, (number + 1) * LAYERS)
    places = [place for place, group in enumerate(placement.groups) if group.trie.configurations == tuple(members)]
    assert len(places) == 1
    return placement.groups[places[0]], int(placement.begins[places[0]][-1][0])


@pytest.mark.parametrize("style", [CENTRED, FROM_START])
def test_drawings_are_the_schedules(style: str) -> None:
    assert "\n".join(draw(style, LAYERS, WINDOW)) in PAGE


def test_windows_and_rows_of_every_layer() -> None:
    windows = [window_layers(CENTRED, layer, WINDOW, LAYERS) for layer in range(LAYERS)]
    trie = build_trie(blocked_layers(CENTRED, LAYERS, WINDOW), range(LAYERS))
    holding = [sum(layer in window for window in windows) for layer in range(LAYERS)]
    begun = [sum(window.start <= layer for window in windows) for layer in range(LAYERS)]
    assert by_layer("windows that hold the layer") == with_sum(holding)
    assert by_layer("knockouts that are not the base run") == with_sum(begun)
    assert by_layer("of them different: batch rows") == with_sum(list(trie.lanes))


@pytest.mark.parametrize(("pathway", "first"), [(PATHWAYS[0], QUESTION.start), (PATHWAYS[1], POSITIONS - 1)])
def test_rows_of_each_pathway(pathway: str, first: int) -> None:
    group, begin = group_of(pathway)
    assert begin == first
    suffix = POSITIONS - begin
    own = next(row for row in table("layer") if row.startswith(f"{pathway}:"))
    assert numbers(own)[-1] == suffix
    assert by_layer(own) == with_sum([suffix * rows for rows in group.trie.lanes])
    assert numbers(table("")[pathway][0]) == [suffix * sum(group.trie.lanes)]


@pytest.mark.parametrize("pathway", PATHWAYS)
def test_what_is_executed(pathway: str) -> None:
    group, _ = group_of(pathway)
    rows, together, runs, executed = table("group")[pathway]
    assert int(rows) == group.main.rows
    assert int(together) == group.shape.together
    assert numbers(runs) == group.schedule.runs.tolist()
    assert int(executed) == group.main.rows * group.executed_lane_layers


def test_row_layers_in_all() -> None:
    told = {row: numbers(cells[0])[0] for row, cells in table("").items() if numbers(cells[0])}
    usual = next(row for row in told if row.startswith("the usual way"))
    knockouts, positions, layers = numbers(usual)
    assert (knockouts, positions, layers) == (len(PATHWAYS) * LAYERS, POSITIONS, LAYERS)
    assert told[usual] == (knockouts + 1) * positions * layers
    assert told["the base run, once"] == POSITIONS * LAYERS
    recomputed = sum(told[pathway] for pathway in PATHWAYS)
    assert told["the fast engine, necessary"] == told["the base run, once"] + recomputed
    larger = POSITIONS - 4 + 576
    assert f"(780 becomes {(knockouts + 1) * larger * layers:,})" in PAGE
    assert f"(60 becomes {larger * layers:,})" in PAGE
    assert f"the {recomputed} row-layers of the knockouts" in PAGE


@pytest.mark.parametrize(
    ("row", "blocks"),
    [
        ("none: causal", None),
        ("the image, positions 1 to 4", IMAGE),
        ("image and question, positions 1 to 7", slice(IMAGE.start, QUESTION.stop)),
        ("the whole prompt", slice(POSITIONS)),
    ],
)
def test_where_groups_start_under_blocks(row: str, blocks: slice | None) -> None:
    placement = example(blocks)
    assert [int(cell) for cell in table("block")[row]] == [place_of(placement, pathway)[1] for pathway in PATHWAYS]


def test_the_schedule_of_32_layers() -> None:
    trie = build_trie(blocked_layers(CENTRED, 32, 9), range(32))
    assert f"its last line says {sum(trie.lanes)} rows" in PAGE.replace("\n", " ")

"""What every registered family keeps, told by its record alone: files, keys, shards, anatomy, prompts."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from tests.families.contract import FAMILIES, each_family, image_token
from tests.families.proof_family.family import PROOF
from tests.families.variants import VARIANTS
from xmflow_jax.convert import convert
from xmflow_jax.data.images import FEATURE
from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.checkpoint import load_model, read_checkpoint
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import all_families, registered
from xmflow_jax.machine.partitioning import DATA, MODEL, parameter_shardings
from xmflow_jax.nn.anatomy import NOTHING, OWN, VISUAL
from xmflow_jax.weights.export import write_checkpoint
from xmflow_jax.weights.key_matching import canonical_names
from xmflow_jax.weights.load import LoadedModel, abstract_model, shapes
from xmflow_jax.weights.random_checkpoint import write_random
from xmflow_jax.weights.rules import KeyTable, Layout
from xmflow_jax.weights.safetensors_files import list_tensors

MODELS = [
    pytest.param(family, config, id=f"{family.model_type}, {name}")
    for family in FAMILIES
    for name, config in {"tiny": family.tiny, **VARIANTS.get(family.model_type, {})}.items()
]
LAYOUTS = [
    pytest.param(family, config, layout, id=f"{family.model_type}, {name}, {layout.name}")
    for family in FAMILIES
    for name, config in {"tiny": family.tiny, **VARIANTS.get(family.model_type, {})}.items()
    for layout in family.keys(config).layouts
]
each_model = pytest.mark.parametrize(("family", "config"), MODELS)
variants_slower = pytest.mark.parametrize(
    ("family", "config"),
    [
        pytest.param(*one.values, id=one.id, marks=[pytest.mark.slow] * (one.values[0].tiny != one.values[1]))
        for one in MODELS
    ],
)
each_layout = pytest.mark.parametrize(("family", "config", "layout"), LAYOUTS)


@pytest.fixture(autouse=True, scope="module")
def _with_the_proof() -> Iterator[None]:
    """The family that exists in the tests alone is registered here, and nowhere else."""
    with registered(PROOF):
        assert PROOF in all_families()
        yield


def assert_same_parameters(one: LoadedModel, other: LoadedModel) -> None:
    first, second = shapes(one.state), shapes(other.state)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(second[path]))


def spelt(family: Family, config: Any, layout: Layout) -> dict[str, str]:
    """Published name by canonical name, of the tensors of a checkpoint in this layout."""
    return {name: layout.published(name) for name in family.keys(config).tensor_names()}


# config.json


@each_model
def test_a_configuration_is_written_and_read_back(family: Family, config: Any, tmp_path: Path) -> None:
    content = family.write_config(config, "bfloat16")
    assert content["model_type"] == family.model_type
    (tmp_path / "config.json").write_text(json.dumps(content))
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.family, checkpoint.config) == (family, config)
    assert hash(checkpoint.config) == hash(config)


@each_family
def test_a_key_that_no_table_knows_is_refused_in_every_part(family: Family) -> None:
    path = Path("config.json")
    content = family.write_config(family.tiny, "float32")
    for part in (None, *(key for key, value in content.items() if isinstance(value, dict))):
        edited = json.loads(json.dumps(content))
        (edited if part is None else edited[part])["no_such_key"] = 3
        with pytest.raises(CheckpointError, match="no_such_key = 3") as refused:
            family.read_config(path, edited)
        assert "\n" not in str(refused.value)


# Tensors


@each_model
def test_the_key_table_and_the_module_have_the_same_parameters(family: Family, config: Any) -> None:
    rules = family.keys(config).rules
    leaves = shapes(abstract_model(family, config, "float32")[1])
    assert len({rule.path for rule in rules}) == len(rules)
    assert {rule.path for rule in rules} == leaves.keys()
    for rule in rules:
        assert (leaves[rule.path].shape[0] == len(rule.layer_numbers())) or not rule.layers


@each_layout
def test_every_dropped_tensor_is_named(family: Family, config: Any, layout: Layout) -> None:
    """No parameter is ever left as it was initialised; of variants, the tensors that the tiny model has not."""
    table, names = family.keys(config), spelt(family, config, layout)
    assert canonical_names(names.values(), table, "here") == names
    known = set() if config == family.tiny else set(family.keys(family.tiny).tensor_names()) - {table.embedding}
    check_dropped(table, names, [canonical for canonical in names if canonical not in known])


@pytest.mark.slow
@each_layout
def test_every_dropped_tensor_of_every_variant_is_named(family: Family, config: Any, layout: Layout) -> None:
    table, names = family.keys(config), spelt(family, config, layout)
    check_dropped(table, names, names)


def check_dropped(table: KeyTable, names: Mapping[str, str], chosen: Iterable[str]) -> None:
    """Each of these canonical names, dropped alone, is refused by its published one."""
    for canonical in chosen:
        dropped = names[canonical]
        rest = [name for name in names.values() if name != dropped]
        missing = 2 if table.tied and canonical == table.embedding else 1
        with pytest.raises(CheckpointError, match=rf"{missing} missing: .*{re.escape(dropped)}"):
            canonical_names(rest, table, "here")


@each_layout
def test_left_over_tensors_are_named_and_harmless_ones_are_none_of_the_models(
    family: Family, config: Any, layout: Layout
) -> None:
    table, names = family.keys(config), spelt(family, config, layout)
    with pytest.raises(CheckpointError, match="1 not understood: no_such_tensor"):
        canonical_names([*names.values(), "no_such_tensor"], table, "here")
    for name in names.values():
        assert not any(re.search(f"{end}$", name) for end in table.harmless)


@each_model
def test_every_layout_loads_to_the_same_parameters(family: Family, config: Any, tmp_path: Path) -> None:
    first, *others = family.keys(config).layouts
    write_random(tmp_path / first.name, family, config, seed=0)
    loaded = load_model(tmp_path / first.name)
    assert (loaded.family, loaded.config) == (family, config)
    for layout in others:
        write_random(tmp_path / layout.name, family, config, seed=0, layout=layout.name)
        assert list_tensors(tmp_path / layout.name).keys() != list_tensors(tmp_path / first.name).keys()
        other = load_model(tmp_path / layout.name)
        assert_same_parameters(other, loaded)
        assert other.digest == loaded.digest


@variants_slower
def test_a_checkpoint_is_converted(family: Family, config: Any, tmp_path: Path) -> None:
    write_random(tmp_path / "published", family, config, seed=0)
    loaded = load_model(tmp_path / "published")
    converted = load_model(convert(tmp_path / "published", tmp_path / "converted"))
    assert_same_parameters(converted, loaded)
    assert converted.digest == loaded.digest


@each_model
def test_a_checkpoint_is_exported(family: Family, config: Any, tmp_path: Path) -> None:
    write_random(tmp_path / "published", family, config, seed=0)
    loaded = load_model(tmp_path / "published")
    (tmp_path / "exported").mkdir()
    write_checkpoint(tmp_path / "exported", family, config, loaded.state)
    again = load_model(tmp_path / "exported")
    assert (again.config, again.dtype) == (config, "float32")
    assert_same_parameters(again, loaded)


@each_family
def test_a_converted_checkpoint_of_another_family_is_refused(family: Family, tmp_path: Path) -> None:
    write_random(tmp_path / "published", family, family.tiny, seed=0)
    converted = convert(tmp_path / "published", tmp_path / "converted")
    marker = converted / "xmflow.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "family": "another"}))
    with pytest.raises(CheckpointError, match=f"family is 'another'; supported: '{family.model_type}'"):
        load_model(converted)


# Devices


@each_model
def test_every_parameter_belongs_to_a_tower_that_has_units_for_its_axes(family: Family, config: Any) -> None:
    partitioning, found = family.partitioning(config), set()
    for path, leaf in shapes(abstract_model(family, config, "float32")[1]).items():
        for axis, size in zip(partitioning.logical_axes(path, len(leaf.shape)), leaf.shape, strict=True):
            if axis is not None:
                found.add(axis)
                units = partitioning.units(path, axis, size)
                assert units > 0, (path, axis)
                assert size % units == 0, (path, axis)
    # A table whose names fit nothing would split nothing.
    assert len(found) == 4


@each_family
def test_a_model_spread_over_devices_is_the_same(family: Family, tmp_path: Path) -> None:
    write_random(tmp_path, family, family.tiny, seed=0)
    mesh = Mesh(np.array(jax.devices()[:2]).reshape(1, 2), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    loaded, alone = load_model(tmp_path, mesh=mesh), load_model(tmp_path)
    assert_same_parameters(loaded, alone)
    wanted = parameter_shardings(family.partitioning(family.tiny), shapes(alone.state), mesh)
    assert {path: leaf.sharding for path, leaf in shapes(loaded.state).items()} == wanted
    assert any(MODEL in sharding.spec for sharding in wanted.values())


# Anatomy


@each_model
def test_the_anatomy_is_that_of_the_module(family: Family, config: Any) -> None:
    anatomy, table = family.anatomy(config), family.keys(config)
    leaves = shapes(abstract_model(family, config, "float32")[1])
    (embedding,) = (rule for rule in table.rules if rule.published == table.embedding)
    tower = embedding.path[0]
    assert anatomy.vocabulary == leaves[embedding.path].shape[0]
    numbers = {number for rule in table.rules if rule.path[0] == tower for number in rule.layer_numbers()}
    assert numbers == set(range(anatomy.main.layers))
    assert anatomy.main.heads == family.partitioning(config).towers[tower].heads
    assert anatomy.layers == sum(stack.layers for stack in anatomy.stacks)
    earlier: set[str] = set()
    for stack in anatomy.stacks:
        for site in anatomy.sites(stack):
            assert site.stack == stack.name
            assert site.reads in {OWN, VISUAL, NOTHING, *earlier}
        for layer in stack.sites:
            assert len(set(layer)) == len(layer)
        earlier.add(stack.name)


# Prompt


@each_model
def test_the_default_template_fits(family: Family, config: Any, tmp_path: Path) -> None:
    in_prompt = family.anatomy(config).image_in_prompt
    template = family.template(tmp_path, config)
    assert template.for_model(in_prompt) is template
    assert bool(template.images) == in_prompt


@each_model
@pytest.mark.parametrize("size", [(50, 37), (37, 50), (28, 28)])
def test_an_images_layout_is_sound(family: Family, config: Any, size: tuple[int, int]) -> None:
    layout = family.image_layout(config, size)
    in_prompt = int((layout.tokens == FEATURE).sum())
    assert in_prompt == (layout.positions if family.anatomy(config).image_in_prompt else 0)
    assert layout.boxes.shape == (layout.positions, 4)
    shown = [box for position in range(layout.positions) if (box := layout.box(position)) is not None]
    assert shown
    for left, top, right, bottom in shown:
        assert 0 <= left < right <= layout.columns * layout.side
        assert 0 <= top < bottom <= layout.rows * layout.side
    # Every patch of the grid is shown by some position; of several views beside each other some are nobody's.
    on_grid = layout.on_grid(np.ones(layout.positions, bool))
    assert on_grid.any() if layout.views else on_grid.all()
    assert set(layout.views) == set(family.anatomy(config).views)
    if layout.views:
        np.testing.assert_array_equal(np.sum(list(layout.views.values()), axis=0), np.ones(layout.positions))


@each_model
def test_a_prompts_place_is_sound(family: Family, config: Any) -> None:
    layout = family.image_layout(config, (50, 37))
    images = (layout,) if family.anatomy(config).image_in_prompt else ()
    shown = [np.where(image.tokens == FEATURE, image_token(config), image.tokens) for image in images]
    tokens = np.concatenate([np.array([1, 2]), *shown, np.array([3, 4, 5])])
    place = family.place(config, tokens.astype(np.int32), images)
    axes, length = place.axes.shape
    assert axes in (1, 3)
    assert length == len(tokens)
    assert (place.axes >= 0).all()
    # The first generated position stands behind all others, on every axis.
    assert (length + place.delta > place.axes.max(axis=1)).all()
    assert place.blocks is None or (place.blocks.shape == (length,) and (place.blocks >= 0).all())

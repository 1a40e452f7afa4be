"""Families are found by the model type of config.json; what is not known is refused; other packages add theirs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families import registry
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.registry import LLAVA, all_families, find_family, find_preset, register, registered

OTHER = replace(LLAVA, model_type="another-llava", presets={})


def names() -> list[str]:
    return [family.model_type for family in all_families()]


@pytest.mark.parametrize("unknown", [None, 3, ["llava"], "no_such"])
def test_a_model_type_that_is_not_known_is_refused(unknown: Any) -> None:
    with pytest.raises(CheckpointError) as refused:
        find_family(unknown, Path("m/config.json"))
    told = str(refused.value)
    assert told.startswith(f"m/config.json: model_type is {unknown!r}; supported: 'llava' or ")
    assert [name.strip("'") for name in told.partition("supported: ")[2].split(" or ")] == names()


def test_a_family_is_there_as_long_as_it_is_registered(tmp_path: Path) -> None:
    content = LLAVA.write_config(LLAVA.tiny, "float32")
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "another-llava"}))
    reader = replace(OTHER, read_config=lambda path, published: LLAVA.tiny)
    with registered(reader):
        assert read_checkpoint(tmp_path).family is reader
        assert reader in all_families()
        with pytest.raises(ValueError, match="there is a family 'another-llava' already"):
            register(OTHER)
    with pytest.raises(CheckpointError, match="model_type is 'another-llava'"):
        read_checkpoint(tmp_path)


def test_a_family_of_this_program_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="there is a family 'llava' already"):
        register(LLAVA)


class Entry:
    """An entry point of another package."""

    name = "another-llava"

    def __init__(self, family: Any) -> None:
        self.family, self.loads = family, 0

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self.family, Exception):
            raise self.family
        return self.family


def install(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    def entry_points(group: str, name: str | None = None) -> list[Entry]:
        assert group == "xmflow_jax.families"
        return [entry] if name in (None, entry.name) else []

    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_another_package_adds_its_family_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(OTHER)
    install(monkeypatch, entry)
    with pytest.raises(CheckpointError, match=r"or 'vision-encoder-decoder' or 'another-llava'$"):
        find_family("a third", Path("config.json"))
    assert find_family("llava", Path("config.json")) is LLAVA
    assert entry.loads == 0  # named in messages, and loaded only when it is asked for
    assert find_family("another-llava", Path("config.json")) is OTHER
    assert OTHER in all_families()
    assert entry.loads == 1


@pytest.mark.parametrize(
    ("family", "named"),
    [
        (ImportError("no module\nnamed torch"), "cannot be loaded: no module named torch"),
        (replace(OTHER, model_type="a third"), "gives 'a third'; expected the family of that model type"),
        (3, "gives 3; expected the family"),
    ],
    ids=["broken", "misnamed", "no family"],
)
def test_another_packages_entry_that_is_no_such_family_is_refused(
    monkeypatch: pytest.MonkeyPatch, family: Any, named: str
) -> None:
    install(monkeypatch, Entry(family))
    with pytest.raises(CheckpointError, match=f"the entry point 'another-llava' of .* {named}"):
        find_family("another-llava", Path("config.json"))
    assert find_family("llava", Path("config.json")) is LLAVA


def test_models_made_on_the_spot_are_found_by_name() -> None:
    family, preset = find_preset("random-tiny")
    assert family is LLAVA
    assert family.anatomy(preset(100, 5)).layers == 5
    assert family.anatomy(preset(100, 5)).vocabulary == 100
    with pytest.raises(KeyError):
        find_preset("no such model")

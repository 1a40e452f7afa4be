"""Loading: types, tied heads, digests, sources, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

from tests.weights.tiny_checkpoint import TINY, edit_config, edit_tensors, write_tiny
from xmflow_jax.errors import CheckpointError, OptionError
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava.params import LAYOUTS
from xmflow_jax.weights.digest import stored_digest
from xmflow_jax.weights.load import LoadedModel

TIED = replace(TINY, text=replace(TINY.text, tied=True))
EMBEDDING = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"


def assert_same_parameters(one: LoadedModel, other: LoadedModel) -> None:
    """Same structure, same types, same bits."""
    assert str(jax.tree.structure(one.state)) == str(jax.tree.structure(other.state))
    assert hash(one.graphdef) == hash(other.graphdef)
    for ours, theirs in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_layout_and_sharding_do_not_matter(tmp_path: Path) -> None:
    first = load_model(write_tiny(tmp_path / "first"))
    for layout in (one.name for one in LAYOUTS):
        for shards in (1, 4):
            other = load_model(write_tiny(tmp_path / f"{layout}-{shards}", layout=layout, shards=shards))
            assert_same_parameters(first, other)
            assert other.digest == first.digest


@pytest.mark.parametrize(
    ("stored", "wanted", "given"),
    [
        ("float32", None, "float32"),
        ("bfloat16", None, "bfloat16"),
        ("float16", None, "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
    ],
)
def test_types(tmp_path: Path, stored: str, wanted: str | None, given: str) -> None:
    loaded = load_model(write_tiny(tmp_path, dtype=stored), wanted)
    assert loaded.dtype == given
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded.state)} == {given}


def test_casting_rounds_once_to_nearest(tmp_path: Path) -> None:
    wide = load_model(write_tiny(tmp_path))
    narrow = load_model(tmp_path, "bfloat16")
    for one, other in zip(jax.tree.leaves(wide.state), jax.tree.leaves(narrow.state), strict=True):
        np.testing.assert_array_equal(np.asarray(one).astype(ml_dtypes.bfloat16), np.asarray(other))


def test_tensors_of_several_types_in_one_file(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    exact: dict[str, np.ndarray] = {}

    def mix(tensors: dict[str, np.ndarray]) -> None:
        types = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]
        for position, name in enumerate(sorted(tensors)):
            tensors[name] = tensors[name].astype(types[position % 4])
            exact[name] = tensors[name].astype(np.float32)

    edit_tensors(tmp_path, mix)
    mixed = load_model(tmp_path, "float32")
    edit_tensors(tmp_path, lambda tensors: tensors.update(exact))
    assert_same_parameters(mixed, load_model(tmp_path, "float32"))


@pytest.mark.parametrize("dtype", ["float16", "int8", "fp32"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(OptionError, match=f"{dtype!r}; supported: float32 or bfloat16"):
        load_model(tmp_path, dtype)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: np.zeros((40, 24), np.int8)}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has type I8"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (HEAD, (24, 40), "(40, 24)"),
        (EMBEDDING, (41, 24), "(40, 24)"),
        ("language_model.model.layers.1.self_attn.k_proj.weight", (24, 24), "(12, 24)"),
        ("language_model.model.norm.weight", (24, 1), "(24,)"),
        ("vision_tower.vision_model.embeddings.patch_embedding.weight", (16, 3, 7, 14), "(16, 3, 14, 14)"),
        ("vision_tower.vision_model.embeddings.position_embedding.weight", (17, 16), "(5, 16)"),
    ],
)
def test_wrong_shape(tmp_path: Path, name: str, shape: tuple[int, ...], expected: str) -> None:
    write_tiny(tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    with pytest.raises(CheckpointError) as refusal:
        load_model(tmp_path)
    assert f"{name} has shape {shape}, expected {expected}" in str(refusal.value)


def test_wrong_shapes_are_counted(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    edit_config(tmp_path, lambda content: content["text_config"].update(intermediate_size=31))
    with pytest.raises(CheckpointError, match=r"\(and 8 more\)"):
        load_model(tmp_path)


def test_tied_head_present_and_equal(tmp_path: Path) -> None:
    alone = load_model(write_tiny(tmp_path, TIED))
    edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING]}))
    assert_same_parameters(alone, load_model(tmp_path))
    edit_tensors(tmp_path, lambda tensors: tensors.pop(EMBEDDING))
    assert_same_parameters(alone, load_model(tmp_path))


def test_tied_head_present_and_different(tmp_path: Path) -> None:
    write_tiny(tmp_path, TIED)
    edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING] + 1}))
    with pytest.raises(CheckpointError, match="hold different values; set it to false"):
        load_model(tmp_path)
    # As the message says.
    untie: Callable[[dict[str, Any]], None] = lambda content: (  # noqa: E731
        content.update(tie_word_embeddings=False),
        content["text_config"].update(tie_word_embeddings=False),
    )[0]
    edit_config(tmp_path, untie)
    assert not load_model(tmp_path).config.text.tied


def test_digest_follows_the_values(tmp_path: Path) -> None:
    digest = load_model(write_tiny(tmp_path)).digest
    # A limit shapes no parameter: runs that began before a model's limit was read go on.
    edit_config(tmp_path, lambda content: content["text_config"].update(max_position_embeddings=9))
    assert load_model(tmp_path).digest == digest
    assert len(digest) == 64
    assert load_model(tmp_path).digest == digest
    assert load_model(tmp_path, "bfloat16").digest != digest
    edit_config(tmp_path, lambda content: content.update(pad_token_id=1))
    assert load_model(tmp_path).digest == digest
    edit_config(tmp_path, lambda content: content.update(vision_feature_layer=-1))
    assert load_model(tmp_path).digest != digest
    edit_config(tmp_path, lambda content: content.update(vision_feature_layer=-2))
    edit_tensors(tmp_path, lambda tensors: tensors.update({HEAD: tensors[HEAD] * 1.001}))
    assert load_model(tmp_path).digest != digest


@dataclass(frozen=True)
class Before:
    width: int
    tied: bool = False


@dataclass(frozen=True)
class After:
    """A later version's, with a field more."""

    width: int
    tied: bool = False
    added: int = 0


def test_a_field_that_a_later_version_adds_leaves_the_digests_of_before() -> None:
    def digest(config: Any) -> str:
        return stored_digest(config, {})

    assert digest(Before(3)) == digest(After(3)) != digest(After(3, added=1))
    assert digest(Before(3, tied=True)) == digest(After(3, tied=True)) != digest(Before(3))


def test_digest_of_a_cast_that_loses_nothing(tmp_path: Path) -> None:
    write_tiny(tmp_path, dtype="bfloat16")
    assert load_model(tmp_path, "float32").digest == load_model(tmp_path, "bfloat16").digest


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("no-such-folder", "there is no directory no-such-folder"),
        ("./no/such/folder", "there is no directory"),
        ("nobody-here/no-such-model", "'nobody-here/no-such-model' is no directory here, and the Hugging Face hub"),
    ],
)
def test_source_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=named) as refusal:
        load_model(source)
    assert "\n" not in str(refusal.value)


def test_source_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file"):
        load_model(write_tiny(tmp_path) / "model.safetensors")


def test_hub_downloads_neither_pickles_nor_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fnmatch import fnmatch

    write_tiny(tmp_path)
    asked: list[str] = []

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_model("owner/name").config == TINY
    for refused in ("pytorch_model.bin", "model.pt", "modeling_llava.py", "tf_model.h5", "optimizer.pth"):
        assert not any(fnmatch(refused, pattern) for pattern in asked)
    for wanted in ("model.safetensors", "config.json", "tokenizer.model"):
        assert any(fnmatch(wanted, pattern) for pattern in asked)


def test_without_pytorch_and_tensorflow(tmp_path: Path) -> None:
    """The program needs neither, and says nothing of it."""
    write_tiny(tmp_path)
    program = (
        "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = None\n"
        "from xmflow_jax.families.checkpoint import load_model\n"
        f"print(load_model({str(tmp_path)!r}).dtype)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert (run.stdout, run.stderr) == ("float32\n", "")

"""A checkpoint whose `config.json` has been read: its family, and what the family makes of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from xmflow_jax.data.chosen_prompt import ChosenPrompt, choose_prompt
from xmflow_jax.data.processing import Processing
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import find_family
from xmflow_jax.json_files import read_json_object
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.weights.load import LoadedModel, ModelIdentity, check_dtype, identify_weights, load_weights
from xmflow_jax.weights.published import ModelConfig
from xmflow_jax.weights.source import resolve_source
from xmflow_jax.weights.unlisted_keys import read_keys


@dataclass(frozen=True)
class Checkpoint:
    """A directory in Hugging Face format, or one that `xmflow_jax.convert` wrote; weights are not read yet.

    Attributes:
        config: the family's own; generic code asks `anatomy`.
        passed_over: keys of config.json that cannot change the computation and that no table names, and why.
        vouched: values of the keys of config.json that a person vouched for.
    """

    directory: Path
    family: Family
    config: ModelConfig
    passed_over: Mapping[str, str] = field(default_factory=dict)
    vouched: Mapping[str, Any] = field(default_factory=dict)

    @property
    def anatomy(self) -> Anatomy:
        """The model's stacks as data, and its limits."""
        return self.family.anatomy(self.config)

    def processing(self) -> Processing:
        """The checkpoint's own tokenizer and image processor.

        Raises:
            CheckpointError: a file is missing or cannot be read, or does not fit the model.
        """
        return self.family.processing(self.directory, self.config)

    def prompt(self, processing: Processing) -> ChosenPrompt:
        """The prompt that the checkpoint was made for, as its files tell it, else its family's usual one.

        Args:
            processing: the checkpoint's.

        Raises:
            CheckpointError: its `prompt.json` holds no template for such a model, or a file is broken.
        """
        usual = self.family.template(self.directory, self.config)
        return choose_prompt(self.directory, usual, processing, self.anatomy.image_in_prompt)

    def identify(self, dtype: str | None = None) -> ModelIdentity:
        """What `load` would load: its checks, but for those that need all values, in the time of reading headers.

        Args:
            dtype: as of `load`.

        Raises:
            OptionError: another dtype.
            CheckpointError: files, keys or shapes are missing or not fully understood.
        """
        return identify_weights(self.directory, self.family, self.config, dtype)

    def load(self, dtype: str | None = None, mesh: Mesh | None = None) -> LoadedModel:
        """The model on JAX's default device, or spread over a mesh.

        Args:
            dtype: "float32" or "bfloat16", to which all tensors are cast. None: bfloat16 if most of the stored
                numbers are, else float32, which holds float16 exactly.
            mesh: each process then reads no more than its devices hold.

        Raises:
            OptionError: another dtype.
            CheckpointError: files, keys or shapes are missing or not fully understood.
        """
        return load_weights(self.directory, self.family, self.config, dtype, mesh)


def read_checkpoint(source: str | Path, vouch: Iterable[str] = ()) -> Checkpoint:
    """The checkpoint of a known family that `source` names: the one place where `config.json` is read.

    Args:
        source: a directory, or a hub id, which is downloaded into the hub's own cache first.
        vouch: keys of config.json that are not understood and that the caller vouches for: the model computes the same
            without them. One of a part is spelt `text_config.logit_scale`.

    Raises:
        CheckpointError: there is no such checkpoint; or its config.json is missing or no JSON, names another family,
            holds a key that could change the computation, or a value that the models here do not compute.
        OptionError: a key of `vouch` is not there, or is understood as it is.
    """
    directory = resolve_source(source)
    path = directory / "config.json"
    published = read_json_object(path)
    family = find_family(published.get("model_type"), path)
    keys = read_keys(path, published, family.read_config, vouch)
    return Checkpoint(directory, family, keys.config, keys.passed_over, keys.vouched)


def load_model(
    source: str | Path, dtype: str | None = None, mesh: Mesh | None = None, vouch: Iterable[str] = ()
) -> LoadedModel:
    """A checkpoint of a known family, read from its configuration to its weights.

    Args:
        source: a directory, or a hub id.
        dtype, mesh: as of `Checkpoint.load`.
        vouch: as of `read_checkpoint`.

    Raises:
        OptionError: another dtype, or a key that nobody needs to vouch for.
        CheckpointError: files, keys, shapes or configuration are missing or not fully understood.
    """
    check_dtype(dtype)  # before anything is downloaded
    return read_checkpoint(source, vouch).load(dtype, mesh)

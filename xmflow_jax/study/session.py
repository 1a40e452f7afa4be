"""What a session settles before it works, and what it records of that in `run.json`: devices, batch size, versions."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
from jax.sharding import Mesh

from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.machine.layout import DeviceLayout, default_batch_size, device_layout
from xmflow_jax.machine.processes import ALONE, Processes
from xmflow_jax.run.record import COMMAND_KEY, PASSED_OVER_KEY, PLANNED_KEY, PROMPT_KEY, SHAPE_KEY
from xmflow_jax.study.inputs import Inputs
from xmflow_jax.study.options import SweepOptions
from xmflow_jax.study.setting import Batching, PromptedModel
from xmflow_jax.weights.load import ModelIdentity, abstract_model, shapes


def lay_out(
    options: SweepOptions,
    identity: ModelIdentity,
    largest_task: int,
    most_questions: int,
    processes: Processes = ALONE,
) -> tuple[DeviceLayout, Batching]:
    """The devices that the options ask for, and how many questions they answer at a time.

    Args:
        options: `mesh` and `batch_size` count.
        identity: the model.
        largest_task: questions of the task that has most.
        most_questions: see `device_layout`.
        processes: the processes of the run.

    Raises:
        OptionError: this machine cannot give the mesh.
    """
    leaves = shapes(abstract_model(identity.family, identity.config, identity.dtype)[1])
    partitioning = identity.family.partitioning(identity.config)
    layout = device_layout(options.mesh, partitioning, leaves, most_questions, processes)
    parameters = sum(math.prod(leaf.shape) for leaf in leaves.values())
    wanted = options.batch_size or default_batch_size(parameters, largest_task)
    # A batch is of one task; a row that no question fills costs as much as one that is.
    size = layout.batch_size(min(wanted, max(largest_task, 1)))
    return layout, Batching(size, layout.least_questions)


def load_prompted(inputs: Inputs, dtype: str, mesh: Mesh | None, answer_length: int) -> PromptedModel:
    """Read the weights of the model that the inputs name.

    Args:
        dtype: of the parameters, "float32" or "bfloat16".
        mesh: the parameters are spread over it; None for one device.
        answer_length: most tokens of an answer.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    model = inputs.checkpoint.load(dtype, mesh)
    return PromptedModel(model, inputs.processing, inputs.template, answer_length)


def provenance(
    batch_size: int,
    self_check: bool,
    shape: ModelShape | None,
    command: str | None,
    questions: Mapping[str, int],
) -> dict[str, Any]:
    """A sweep session's entry in `run.json`.

    Args:
        batch_size: questions at a time.
        self_check: whether the engines are checked.
        shape: of model and prompt; None where no question can be used.
        command: the command line; None where the questions are the caller's own records.
        questions: how many each task has, from which a report tells whether the run is finished.
    """
    return {
        **machine(batch_size),
        "self_check": self_check,
        SHAPE_KEY: None if shape is None else asdict(shape),
        COMMAND_KEY: command,
        PLANNED_KEY: dict(questions),
    }


def examined(inputs: Inputs) -> dict[str, Any]:
    """What a session's entry in `run.json` says of the model's files: passed over keys, and the prompt's origin."""
    return {PASSED_OVER_KEY: dict(inputs.checkpoint.passed_over), PROMPT_KEY: inputs.prompt.line()}


def machine(batch_size: int) -> dict[str, Any]:
    """The machine's part of a session's entry in `run.json`: versions, devices, batch size."""
    packages = ("xmflow-jax", "jax", "jaxlib", "flax", "transformers", "numpy")
    return {
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in packages}},
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "batch_size": batch_size,
    }


def _version(package: str) -> str:
    # A checkout that is merely on Python's path is no installed package, and has no version but its commit.
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"

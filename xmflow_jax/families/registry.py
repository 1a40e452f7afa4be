"""The model families that this program knows, and where others add theirs.

Another package adds a family by an entry point in the group `xmflow_jax.families`, named by its model type:

    [project.entry-points."xmflow_jax.families"]
    my-model = "my_package.family:FAMILY"
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from xmflow_jax.errors import CheckpointError
from xmflow_jax.families.family import Family
from xmflow_jax.families.gemma3.family import FAMILY as GEMMA_3
from xmflow_jax.families.idefics3.family import FAMILY as IDEFICS3
from xmflow_jax.families.internvl.family import FAMILY as INTERNVL
from xmflow_jax.families.llava.family import FAMILY as LLAVA
from xmflow_jax.families.llava_next.family import FAMILY as LLAVA_NEXT
from xmflow_jax.families.llava_onevision.family import FAMILY as LLAVA_ONEVISION
from xmflow_jax.families.paligemma.family import FAMILY as PALIGEMMA
from xmflow_jax.families.qwen2_5_vl.family import FAMILY as QWEN2_5_VL
from xmflow_jax.families.qwen2_vl.family import FAMILY as QWEN2_VL
from xmflow_jax.families.qwen3_vl.family import FAMILY as QWEN3_VL
from xmflow_jax.families.smolvlm.family import FAMILY as SMOLVLM
from xmflow_jax.families.vision_encoder_decoder.family import FAMILY as VISION_ENCODER_DECODER
from xmflow_jax.weights.config_checks import shown
from xmflow_jax.weights.published import ModelConfig

ENTRY_POINTS: Final = "xmflow_jax.families"

# By the model type that `config.json` names.
_REGISTERED: Final[dict[str, Family]] = {
    family.model_type: family
    for family in (
        LLAVA,
        LLAVA_NEXT,
        LLAVA_ONEVISION,
        PALIGEMMA,
        QWEN2_5_VL,
        QWEN2_VL,
        QWEN3_VL,
        GEMMA_3,
        INTERNVL,
        IDEFICS3,
        SMOLVLM,
        VISION_ENCODER_DECODER,
    )
}


def find_family(model_type: Any, path: Path) -> Family:
    """The family of this model type.

    Args:
        model_type: as it stands in `config.json`; anything that JSON can hold.
        path: of the file, for messages.

    Raises:
        CheckpointError: no family has this model type, or another package's cannot be loaded.
    """
    if isinstance(model_type, str):
        if model_type not in _REGISTERED:
            _load_entry_points(model_type)
        if model_type in _REGISTERED:
            return _REGISTERED[model_type]
    known = dict.fromkeys((*_REGISTERED, *(one.name for one in entry_points(group=ENTRY_POINTS))))
    raise CheckpointError(f"{path}: model_type is {shown(model_type)}; supported: {' or '.join(map(repr, known))}")


def all_families() -> tuple[Family, ...]:
    """Every family that there is, those of other packages included."""
    _load_entry_points()
    return tuple(_REGISTERED.values())


def find_preset(name: str) -> tuple[Family, Callable[[int, int], ModelConfig]]:
    """The family that has a model of this name to be made on the spot, and what makes its configuration.

    Raises:
        KeyError: no family has one.
    """
    for family in all_families():
        if name in family.presets:
            return family, family.presets[name]
    raise KeyError(name)


def register(family: Family) -> None:
    """Add a family for the rest of this process.

    Raises:
        ValueError: there is one of this model type already.
    """
    if family.model_type in _REGISTERED:
        raise ValueError(f"there is a family {family.model_type!r} already")
    _REGISTERED[family.model_type] = family


@contextmanager
def registered(family: Family) -> Iterator[None]:
    """A family that is there within the `with` statement alone.

    Raises:
        ValueError: there is one of this model type already.
    """
    register(family)
    try:
        yield
    finally:
        del _REGISTERED[family.model_type]


def _load_entry_points(name: str | None = None) -> None:
    """Families of other packages, those of this name alone or all; a family that is there already stays.

    Raises:
        CheckpointError: an entry point cannot be loaded, or is not the family that it is named after.
    """
    for entry in entry_points(group=ENTRY_POINTS) if name is None else entry_points(group=ENTRY_POINTS, name=name):
        if entry.name in _REGISTERED:
            continue
        where = f"the entry point {entry.name!r} of {ENTRY_POINTS!r}"
        try:
            family = entry.load()
        # Another package's code: it can fail in every way.
        except Exception as error:
            raise CheckpointError(f"{where} cannot be loaded: {' '.join(str(error).split())}") from error
        if not isinstance(family, Family) or family.model_type != entry.name:
            found = family.model_type if isinstance(family, Family) else family
            raise CheckpointError(f"{where} gives {found!r}; expected the family of that model type")
        _REGISTERED[entry.name] = family

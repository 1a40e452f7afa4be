"""What reading and writing checkpoints asks of a model family; `xmflow_jax.families.family.Family` answers it."""

from typing import Any, Protocol, runtime_checkable

from xmflow_jax.machine.partitioning import Partitioning
from xmflow_jax.nn.anatomy import Anatomy
from xmflow_jax.nn.interfaces import Model
from xmflow_jax.weights.rules import KeyTable

# A family's own frozen dataclass; nothing but the family looks into it.
ModelConfig = Any


@runtime_checkable
class PublishedFamily(Protocol):
    """A family, as far as its checkpoints are concerned; what each member means stands at `Family`."""

    def __hash__(self) -> int: ...

    @property
    def model_type(self) -> str: ...

    def write_config(self, config: ModelConfig, dtype: str, /) -> dict[str, Any]: ...

    def build(self, config: ModelConfig, *, dtype: Any, rngs: Any) -> Model: ...

    def keys(self, config: ModelConfig, /) -> KeyTable: ...

    def partitioning(self, config: ModelConfig, /) -> Partitioning: ...

    def anatomy(self, config: ModelConfig, /) -> Anatomy: ...

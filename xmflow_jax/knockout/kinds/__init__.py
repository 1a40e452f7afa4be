"""The kinds of knockout: one module each, and the list of them."""

from typing import Any, Final

from xmflow_jax.knockout.kinds import drawn, edges, outputs
from xmflow_jax.knockout.kinds.kind import Kind

KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in (edges.KIND, drawn.KIND, outputs.KIND)}


def kind_of(action: Any) -> Kind:
    """The kind that an action is of.

    Raises:
        TypeError: of none.
    """
    for kind in KINDS.values():
        if isinstance(action, kind.action):
            return kind
    raise TypeError(f"{action!r} is of no kind of knockout")

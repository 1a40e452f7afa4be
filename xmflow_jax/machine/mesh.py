"""The device layout that `--mesh` asks for: `data=4,model=2`."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from xmflow_jax.errors import OptionError

# Questions side by side on several devices, and one model spread over several.
AXES: Final = ("data", "model")
AUTO: Final = "auto"

# The share of a device's memory that weights may take; keys, values and the rows of knockouts need the rest.
WEIGHTS_SHARE: Final = 0.6


def parse_mesh(text: str) -> dict[str, int] | None:
    """`"data=4,model=2"` to the devices along each axis; an axis that is not named has one. None for `auto`.

    Raises:
        OptionError: not of this form, an unknown axis, one named twice, or a size that is not 1 or more.
    """
    if text.strip() == AUTO:
        return None
    mesh: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = (word.strip() for word in part.partition("="))
        if not equals:
            raise OptionError(f"--mesh {text!r} is not of the form data=D,model=M, such as data=1, or auto")
        if axis not in AXES:
            raise OptionError(f"--mesh {text!r}: unknown axis {axis!r}; the axes are: {', '.join(AXES)}")
        if axis in mesh:
            raise OptionError(f"--mesh {text!r} names the axis {axis!r} twice")
        if not (size.isascii() and size.isdigit()) or int(size) < 1:
            raise OptionError(f"--mesh {text!r}: {axis} is {size!r}; expected a whole number of devices, 1 or more")
        mesh[axis] = int(size)
    return {axis: mesh.get(axis, 1) for axis in AXES}


def check_mesh(mesh: Mapping[str, int], devices: int) -> None:
    """Refuse a layout that this machine cannot give.

    Args:
        mesh: devices along each axis.
        devices: how many this machine has.

    Raises:
        OptionError: more devices are asked for than there are.
    """
    wanted = math.prod(mesh.values())
    if wanted > devices:
        there = "is 1 device" if devices == 1 else f"are {devices} devices"
        raise OptionError(
            f"--mesh {mesh_text(mesh)} needs {wanted} devices, but there {there} here; ask for at most {devices}"
        )


def mesh_text(mesh: Mapping[str, int]) -> str:
    """The mesh in the words of `--mesh`: `data=4,model=2`."""
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


def automatic_mesh(devices: int, needed: Callable[[int], int], memory: int | None) -> dict[str, int]:
    """The mesh of `--mesh auto`: the model over as few devices as hold it, the questions over the rest.

    Eight devices of 16 GB and a model of 26 GB give `{"data": 2, "model": 4}`.

    Args:
        devices: how many there are.
        needed: from the number of devices that the model is spread over, the bytes of its weights on each of them.
        memory: bytes of a device; None where that is not known: the model is then not spread.
    """
    model = 1
    while memory is not None and needed(model) > memory * WEIGHTS_SHARE and devices % (2 * model) == 0:
        model *= 2
    return {"data": devices // model, "model": model}

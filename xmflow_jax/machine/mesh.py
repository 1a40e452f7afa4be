"""The device layout that `--mesh` asks for: `data=4,model=2`."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from xmflow_jax.errors import OptionError

# Questions side by side on several devices, and one model spread over several.
AXES: Final = ("data", "model")
AUTO: Final = "auto"

# Of a device's memory that the weights may take; keys, values and the rows of configurations need the rest.
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
        devices: how many there are.

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
    """As `--mesh` takes it."""
    return ",".join(f"{axis}={size}" for axis, size in mesh.items())


def automatic_mesh(devices: int, needed: Callable[[int], int], memory: int | None) -> dict[str, int]:
    """The model over as few devices as hold it, the questions over the rest.

    Args:
        needed: bytes of the weights on each of so many devices.
        memory: bytes of a device; None: not known, and the model is not spread.
    """
    model = 1
    while memory is not None and needed(model) > memory * WEIGHTS_SHARE and devices % (2 * model) == 0:
        model *= 2
    return {"data": devices // model, "model": model}

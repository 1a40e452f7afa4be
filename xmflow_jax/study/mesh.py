"""The device layout that `--mesh` asks for: `data=4,model=2`."""

from collections.abc import Mapping
from typing import Final

from xmflow_jax.errors import OptionError

# Questions side by side on several devices, and one model spread over several.
AXES: Final = ("data", "model")


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=4,model=2"` to the devices along each axis; an axis that is not named has one.

    Raises:
        OptionError: not of this form, an unknown axis, one named twice, or a size that is not 1 or more.
    """
    mesh: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = (word.strip() for word in part.partition("="))
        if not equals:
            raise OptionError(f"--mesh {text!r} is not of the form data=D,model=M, such as data=1")
        if axis not in AXES:
            raise OptionError(f"--mesh {text!r}: unknown axis {axis!r}; the axes are: {', '.join(AXES)}")
        if axis in mesh:
            raise OptionError(f"--mesh {text!r} names the axis {axis!r} twice")
        if not (size.isascii() and size.isdigit()) or int(size) < 1:
            raise OptionError(f"--mesh {text!r}: {axis} is {size!r}; expected a whole number of devices, 1 or more")
        mesh[axis] = int(size)
    return {axis: mesh.get(axis, 1) for axis in AXES}


def check_mesh(mesh: Mapping[str, int], devices: int) -> None:
    """Refuse a layout that this machine, or so far this program, cannot give.

    Args:
        devices: how many there are.

    Raises:
        OptionError: more devices than there are, or more than one.
    """
    wanted = 1
    for size in mesh.values():
        wanted *= size
    words = ",".join(f"{axis}={size}" for axis, size in mesh.items())
    if wanted > devices:
        there = "is 1 device" if devices == 1 else f"are {devices} devices"
        raise OptionError(f"--mesh {words} needs {wanted} devices, but there {there} here; ask for at most {devices}")
    if wanted > 1:
        raise OptionError(f"--mesh {words}: more than one device is not available yet; leave --mesh out or say data=1")

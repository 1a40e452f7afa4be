"""`--mesh`: what is understood, and what a machine cannot give."""

import pytest

from xmflow_jax.errors import OptionError
from xmflow_jax.machine.mesh import automatic_mesh, check_mesh, parse_mesh


@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        ("data=1", {"data": 1, "model": 1}),
        ("model=2", {"data": 1, "model": 2}),
        (" model = 2 , data=4", {"data": 4, "model": 2}),
    ],
)
def test_axes_in_any_order(text: str, mesh: dict[str, int]) -> None:
    assert parse_mesh(text) == mesh


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("4", "data=D,model=M"),
        ("data", "data=D,model=M"),
        ("data=1,", "data=D,model=M"),
        ("pipeline=2", "unknown axis 'pipeline'"),
        ("data=two", "data is 'two'"),
        ("data=1.5", "data is '1.5'"),
        ("data=²", "data is '²'"),
        ("data=0", "data is '0'"),
        ("data=-1", "data is '-1'"),
        ("data=", "data is ''"),
        ("data=1,data=1", "twice"),
    ],
)
def test_what_is_no_mesh_is_refused_in_one_line(text: str, named: str) -> None:
    with pytest.raises(OptionError) as refusal:
        parse_mesh(text)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_auto_is_for_the_machine_to_say() -> None:
    assert parse_mesh(" auto ") is None


def parsed(text: str) -> dict[str, int]:
    mesh = parse_mesh(text)
    assert mesh is not None
    return mesh


def test_more_devices_than_there_are() -> None:
    check_mesh(parsed("data=1,model=1"), 1)
    check_mesh(parsed("data=4,model=2"), 8)
    with pytest.raises(OptionError, match=r"data=4,model=2 needs 8 devices, but there are 6 devices here"):
        check_mesh(parsed("data=4,model=2"), 6)
    with pytest.raises(OptionError, match=r"needs 2 devices, but there is 1 device here"):
        check_mesh(parsed("model=2"), 1)


@pytest.mark.parametrize(
    ("devices", "gigabytes", "memory", "mesh"),
    [
        (8, 14, 80, {"data": 8, "model": 1}),
        (8, 26, 16, {"data": 2, "model": 4}),
        (8, 14, 16, {"data": 4, "model": 2}),
        (8, 400, 16, {"data": 1, "model": 8}),  # no more can be done
        (6, 400, 16, {"data": 3, "model": 2}),
        (8, 14, None, {"data": 8, "model": 1}),
    ],
)
def test_auto_spreads_the_model_as_far_as_its_weights_need(
    devices: int, gigabytes: float, memory: float | None, mesh: dict[str, int]
) -> None:
    known = None if memory is None else int(memory * 1e9)
    assert automatic_mesh(devices, lambda share: int(gigabytes * 1e9 / share), known) == mesh

"""`--mesh`: what is understood, and what a machine cannot give."""

import pytest

from xmflow_jax.errors import OptionError
from xmflow_jax.study.mesh import check_mesh, parse_mesh


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


def test_more_devices_than_there_are_and_more_than_one() -> None:
    check_mesh(parse_mesh("data=1,model=1"), 1)
    with pytest.raises(OptionError, match=r"data=4,model=2 needs 8 devices, but there are 6 devices here"):
        check_mesh(parse_mesh("data=4,model=2"), 6)
    with pytest.raises(OptionError, match=r"needs 2 devices, but there is 1 device here"):
        check_mesh(parse_mesh("model=2"), 1)
    with pytest.raises(OptionError, match=r"data=2,model=1: more than one device is not available yet"):
        check_mesh(parse_mesh("data=2"), 8)

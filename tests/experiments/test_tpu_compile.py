"""What is told of a compiled program: its copies, and a line for each pass."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from experiments.benchmarks.presets import PRESETS
from experiments.benchmarks.tpu_compile import Compiled, Copy, compiled_passes, copies_in, row_of
from xmflow_jax.machine.partitioning import DATA, MODEL

PROGRAM = """
  %copy.3 = bf16[32,4096,4096]{2,1,0:T(8,128)(2,1)} copy(%param.9), metadata={op_name="x"}
  %copy-start.1 = (f32[7]{0}, f32[7]{0}, u32[]) copy-start(%param.1)
  ROOT %copied = f32[8,8]{1,0} add(%copy.3, %copy.3)
  %copy.9 = pred[] copy(%param.2)
"""


def test_copies_are_told_with_their_bytes() -> None:
    found = copies_in(PROGRAM)
    assert found == [Copy("bf16", (32, 4096, 4096)), Copy("f32", (7,)), Copy("pred", ())]
    assert [one.bytes for one in found] == [2**30, 28, 1]
    assert str(found[0]) == "bf16[32,4096,4096]"


@pytest.mark.parametrize("model", [1, 2])
def test_every_pass_of_a_study_is_compiled(model: int) -> None:
    mesh = Mesh(np.array(jax.devices()[:model])[None], (DATA, MODEL), (AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        found = list(compiled_passes(PRESETS["tiny"], 2, mesh, "cpu"))
    assert [one.name.partition(",")[0] for one in found] == ["image encoder", "base pass", "suffix pass", "suffix pass"]
    name, seconds, *sizes, share, copies, exchanges = row_of(found[1], 2**30)
    assert (name, copies) == ("base pass", "none")
    # Attention, MLP and the words' embedding are summed over the devices of a model.
    assert ("all-reduce" in exchanges) == (model > 1)
    assert seconds.endswith(" s")
    assert share == f"{sum(map(float, sizes)):.0%}"


def test_a_pass_that_does_not_compile_is_a_line_as_well() -> None:
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 20 G of 16 G\nmore")
    _, _, told = row_of(Compiled("base pass", 1.0, error), None)
    assert told == "does not compile: RESOURCE_EXHAUSTED: 20 G of 16 G"

"""What is told of a compiled program: its copies, and a line for each pass."""

import jax

from experiments.benchmarks.tpu_compile import HERE, Copy, copies_in, passes, row_of

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


def test_every_pass_of_a_study_is_compiled() -> None:
    found = dict(passes("tiny", 2, HERE))
    assert [name.partition(",")[0] for name in found] == ["image encoder", "base pass", "suffix pass", "suffix pass"]
    name, seconds, *sizes, copies = row_of("base pass", found["base pass"])
    assert (name, copies) == ("base pass", "none")
    assert seconds.endswith(" s")
    assert all(float(size) >= 0 for size in sizes)


def test_a_pass_that_does_not_compile_is_a_line_as_well() -> None:
    class Lowered:
        def compile(self) -> None:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 20 G of 16 G\nmore")

    _, _, told = row_of("base pass", Lowered())
    assert told == "does not compile: RESOURCE_EXHAUSTED: 20 G of 16 G"

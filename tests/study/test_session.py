"""What a session records of its machine, and how many questions it answers at a time."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import jax
import pytest

from tests.weights.tiny_checkpoint import TINY
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.llava.family import FAMILY
from xmflow_jax.study import session
from xmflow_jax.study.options import SweepOptions
from xmflow_jax.weights.random_checkpoint import write_random


@pytest.mark.parametrize("missing", [{"xmflow-jax"}, {"xmflow-jax", "numpy"}, set()], ids=len)
def test_a_checkout_on_pythons_path_is_no_installed_package(missing: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package in missing:
            raise PackageNotFoundError(package)
        return installed(package)

    monkeypatch.setattr(session, "version", version)
    versions = session.machine(1)["versions"]
    assert {name for name, told in versions.items() if told == "not installed as a package"} == missing
    assert versions["jax"] == jax.__version__


@pytest.mark.parametrize(("wanted", "largest_task", "size"), [(512, 11, 11), (8, 11, 8), (None, 11, 11), (4, 0, 1)])
def test_a_batch_has_no_more_rows_than_the_largest_task_has_questions(
    wanted: int | None, largest_task: int, size: int, tmp_path: Path
) -> None:
    write_random(tmp_path, FAMILY, TINY, seed=0)
    options, identity = SweepOptions(batch_size=wanted), read_checkpoint(tmp_path).identify()
    _, batching = session.lay_out(options, identity, largest_task, largest_task)
    assert batching.size == size

"""A sweep of every registered family by the command's function: interrupted and resumed, it is the undisturbed one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.families.contract import FAMILIES, registered_for
from tests.families.model_files import write_model
from tests.families.proof_family.family import PROOF
from xmflow_jax import run_sweep
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.families.family import Family
from xmflow_jax.run.folder import RunFolder, read_rows

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(name="family", params=[
    pytest.param(one, id=one.model_type, marks=[pytest.mark.slow] * (one is not PROOF)) for one in FAMILIES
])  # fmt: skip
def fixture_family(request: pytest.FixtureRequest) -> Iterator[Family]:
    with registered_for(request.param):
        yield request.param


def test_an_interrupted_sweep_goes_on_to_the_same_rows(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", family)
    files, images = write_demo_questions(tmp_path / "data", per_task=3, seed=0)
    (data,) = (file for file in files if file.stem.endswith("QueryAttr"))
    options: dict[str, Any] = {"model": str(model), "data": (str(data),), "images": images, "select": "all"}
    options |= {"pathways": "Image->Question@single, Question->Last@single", "batch_size": 1, "self_check": False}
    options |= {"answer_length": 3}
    expected = run_sweep(**options, out=tmp_path / "undisturbed").rows
    assert expected["question_id"].nunique() == 3
    assert expected["relative_change"].abs().max() > 1
    append, landed = RunFolder.append_part, []

    def once(*arguments: Any, **named: Any) -> None:
        if landed:
            raise KeyboardInterrupt
        landed.append(append(*arguments, **named))

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append_part", once)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(**options, out=tmp_path / "out")
    assert read_rows(tmp_path / "out")["question_id"].nunique() == 1
    run_sweep(**options, out=tmp_path / "out")
    pd.testing.assert_frame_equal(read_rows(tmp_path / "out"), read_rows(tmp_path / "undisturbed"), check_exact=True)

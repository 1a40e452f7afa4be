"""The example of `docs/add-a-measure.md` is a measure."""

import re
from typing import Any, Final

import numpy as np
import pandas as pd

from tests.docs.pages import DOCS
from tests.run.result_rows import row
from xmflow_jax.analysis.summary import measure_columns, summarize
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.measure import RISES, Measure
from xmflow_jax.run.parts import table_of


def test_the_example_gives_its_numbers() -> None:
    found = re.search(r"```python\n(.*?)```", (DOCS / "add-a-measure.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"Final": Final, "Measure": Measure, "RISES": RISES, "np": np}
    exec(found[1], names)
    example: Measure = names["FIRST_TOKEN"]
    rows = [row(f"q{number}", base_token=7, knockout_token=8 if number == 0 else 7) for number in range(4)]
    summary = summarize(pd.DataFrame(table_of(rows, "part").to_pandas()), measures=(ACCURACY, example))
    assert summary["first_token_changed"].tolist() == [25.0]
    assert set(measure_columns(example)) <= set(summary)

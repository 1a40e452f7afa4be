"""The example of a user's own data set, run as it stands on a model that is quickly made."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments.examples import own_questions
from experiments.examples.own_questions import disc_questions, main
from xmflow_jax import run_sweep
from xmflow_jax.run.folder import read_rows
from xmflow_jax.study.shipped import write_random_tiny

LAYERS = 2


def test_the_drawn_discs_are_where_the_questions_say(tmp_path: Path) -> None:
    questions = list(disc_questions(tmp_path, 4))
    assert [one.answer for one in questions] == ["blue", "red", "blue", "red"]
    for one in questions:
        with Image.open(one.image_path) as image:
            pixels = np.asarray(image).astype(int)
        rows, columns = np.nonzero((pixels != 128).any(axis=-1))
        (box,) = one.boxes
        assert (columns.min(), rows.min()) == (box.x, box.y)
        assert (columns.max(), rows.max()) == (box.x + box.width - 1, box.y + box.height - 1)
        red, _, blue = pixels[rows, columns].mean(axis=0)
        assert (red > blue) == (one.answer == "red")


@pytest.mark.slow
def test_the_example_runs_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # tests/study/test_self_check.py has the self-check, which takes as long as everything else here.
    monkeypatch.setattr(own_questions, "run_sweep", partial(run_sweep, self_check=False))
    model = write_random_tiny(tmp_path / "model", layers=LAYERS)
    arguments = ["--model", str(model), "--questions", "2", "--out", str(tmp_path / "out")]
    main(arguments)
    rows = read_rows(tmp_path / "out" / "run")
    assert set(rows["task"]) == {"DiscColor"}
    assert set(rows["pathway"]) == {"Image Central Object->Last", "Image->Last"}
    assert len(rows) == 2 * 2 * LAYERS
    assert dict(zip(rows["question_id"], rows["gold"], strict=True)) == {"0": "blue", "1": "red"}
    assert "Image->Last" in capsys.readouterr().out.splitlines()[-LAYERS - 2]
    # The same questions, drawn anew, go on where the first run ended.
    main(arguments)
    assert "2 questions done" in capsys.readouterr().out
    pd.testing.assert_frame_equal(read_rows(tmp_path / "out" / "run"), rows)

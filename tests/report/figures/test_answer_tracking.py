"""The figure of answer tracking, and that a run folder gives it without a model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.run.result_rows import lens_row, row
from xmflow_jax.analysis.answer_tracking import TRACKING_COLUMNS, track_answers
from xmflow_jax.report.__main__ import main
from xmflow_jax.report.figures.answer_tracking import answer_tracking_figure, draw_answer_tracking
from xmflow_jax.report.figures.curves import BAND, CROSS_ATTENTION
from xmflow_jax.report.figures.files import figure_names
from xmflow_jax.report.rebuild import rebuild_from_folder
from xmflow_jax.run.folder import open_run, read_lens

LAYERS = (-1, 0, 1, 2)
FIGURE = [f"answer_tracking.{kind}" for kind in ("pdf", "png")]


def write_run(folder: Path, tasks: tuple[str, ...] = ("ChooseAttr", "Costs $5"), lens: bool = True) -> Path:
    """The answer comes up from layer to layer; questions of the first task have a false option, which goes down."""
    rng = np.random.default_rng(0)
    with open_run(folder, {"seed": 3}) as run:
        for number, task in enumerate(tasks):
            for question in range(6):
                tracked = []
                for layer in LAYERS:
                    for normed in (False, True):
                        prob = (layer + 1 + rng.random()) / 5
                        option = {"false_option": "blue", "false_option_prob": 1 - prob} if number == 0 else {}
                        tracked.append(
                            lens_row(
                                f"q{question}", layer, task, normed=normed, answer_prob=prob,
                                answer_capital_prob=0.1, **option,
                            )
                        )  # fmt: skip
                rows = [row(f"q{question}", layer, task) for layer in range(3)]
                run.append_part(rows, tracked if lens else [])
    return folder


def test_a_line_for_every_word_raw_above_normed(tmp_path: Path) -> None:
    tracking = track_answers(read_lens(write_run(tmp_path / "run")), resamples=200)
    figure = answer_tracking_figure(tracking, cross_attention_layers=(1,))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["ChooseAttr (n = 6)", r"Costs \$5 (n = 6)", "", ""]
    for place, axes in enumerate(panels):
        task, normed = ("ChooseAttr", "Costs $5")[place % 2], place >= 2
        lines = {str(line.get_label()): line for line in axes.lines if line.get_gid() != CROSS_ATTENTION}
        names = ["Answer", "Answer, capitalised", "False option"]
        assert list(lines) == names[: 3 if task == "ChooseAttr" else 2]
        own = tracking[(tracking["task"] == task) & (tracking["normed"] == normed)]
        np.testing.assert_array_equal(lines["Answer"].get_xdata(), LAYERS)
        expected = own.loc[own["word"] == "answer_prob", "probability"]
        np.testing.assert_array_equal(lines["Answer"].get_ydata(), expected)
        assert sum(artist.get_gid() == BAND for artist in axes.collections) == len(lines)
        (dotted,) = (line for line in axes.lines if line.get_gid() == CROSS_ATTENTION)
        assert list(np.asarray(dotted.get_xdata())) == [1, 1]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*names, "95 % interval", "cross-attention layer"]


def test_six_tasks_fill_two_rows_and_five_leave_a_gap(tmp_path: Path) -> None:
    lens = read_lens(write_run(tmp_path / "run", tuple("ABCDE")))
    figure = answer_tracking_figure(track_answers(lens, resamples=20))
    assert len(figure.axes) == 12
    assert sum(axes.get_visible() for axes in figure.axes) == 10
    labels = [axes.get_ylabel() for axes in figure.axes[::3]]
    assert labels == ["Probability, raw", "Probability, normed"] * 2


def test_no_rows_no_files(tmp_path: Path) -> None:
    empty = track_answers(read_lens(tmp_path))
    assert draw_answer_tracking(empty, tmp_path) == []
    with pytest.raises(ValueError, match="no lens rows"):
        answer_tracking_figure(empty)
    assert list(empty.columns) == list(TRACKING_COLUMNS)


def test_no_task_can_take_the_figures_name() -> None:
    assert figure_names(["answer_tracking"]) == {"answer_tracking": "answer_tracking-2"}


@pytest.fixture(name="no_other_figure")
def fixture_no_other_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in ("task_curves", "overview", "heat_maps", "head_maps"):
        monkeypatch.setattr(f"xmflow_jax.report.rebuild.draw_{one}", lambda *_: [])


@pytest.mark.usefixtures("no_other_figure")
def test_a_run_folder_gives_it_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    assert main([str(folder)]) == 0
    assert "Answer tracking" not in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "figures").glob("answer_tracking*")) == FIGURE
    assert pq.read_table(folder / "lens.parquet").num_rows == 2 * 6 * 2 * len(LAYERS)
    made = [folder / "lens.parquet", *(folder / "figures" / name for name in FIGURE)]
    before = [path.read_bytes() for path in made]
    assert main([str(folder)]) == 0
    assert [path.read_bytes() for path in made] == before


@pytest.mark.usefixtures("no_other_figure")
def test_a_run_folder_without_it_or_with_damage_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "without", lens=False)
    assert main([str(folder)]) == 0
    assert "Answer tracking is left out: the run holds no lens rows." in capsys.readouterr().out
    assert not (folder / "lens.parquet").exists()
    damaged = write_run(tmp_path / "damaged")
    part = damaged / "lens" / "lens-00003.parquet"
    part.write_bytes(part.read_bytes()[:99])
    rebuilt = rebuild_from_folder(damaged)
    assert "lens-00003.parquet is truncated or damaged" in "".join(rebuilt.damage)
    # Of the other questions there are lens rows.
    assert pq.read_table(damaged / "lens.parquet").num_rows == (2 * 6 - 1) * 2 * len(LAYERS)
    assert (damaged / "figures" / "answer_tracking.png") in rebuilt.figures

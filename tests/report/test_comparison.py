"""Several runs on one page, and the command that makes it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.report.written_run import TASKS, data_of, write_run
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.report.__main__ import main
from xmflow_jax.report.comparison import Comparison, comparison_data, run_differences, write_comparison
from xmflow_jax.report.figures.comparison import comparison_figure
from xmflow_jax.report.figures.curves import CRITICAL
from xmflow_jax.report.run_content import read_content


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs")
    made = {"one/run": 4, "two/run": 7}
    paths = [write_run(folder / name, layers=layers, questions=4) for name, layers in made.items()]
    return {path: data_of(path) for path in paths}


def shown(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def made(runs: dict[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return write_comparison(tmp_path_factory.mktemp("made") / "new" / "side", runs)


def test_every_run_keeps_its_own_curves_and_depth(runs: dict[Path, dict[str, Any]], made: Comparison) -> None:
    assert made.page.parts[-3:] == ("new", "side", "comparison.html")
    data = shown(made.page)
    assert [run["layers"] for run in data["runs"]] == [4, 7]
    for told, own in zip(data["runs"], runs.values(), strict=True):
        assert told["curves"] == own["curves"]
        assert told["findings"] == own["findings"]
        assert told["template"] == "plain"
    assert data["subjects"] == ["Image->Question", "Question->Last", "Image->All"]


def test_runs_of_the_same_name_are_told_apart(made: Comparison) -> None:
    assert [run["name"] for run in shown(made.page)["runs"]] == ["one/run", "two/run"]


def test_single_questions_are_left_to_each_runs_own_page(runs: dict[Path, dict[str, Any]]) -> None:
    data = comparison_data(list(runs.values()), ["a", "b"])
    assert all("questions" not in run for run in data["runs"])


def test_the_command_compares_what_it_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name, tasks=("ChooseAttr",), questions=3)
    assert main(["a", "nothing", str(tmp_path / "a"), "b", "--depth", "percent"]) == 2
    streams = capsys.readouterr()
    assert "comparison of 2 runs comparison/comparison.html, 8 figures in comparison/figures\n" in streams.out
    assert streams.err == "error: nothing holds no run.json; expected a folder that a sweep wrote\n"
    data = shown(tmp_path / "comparison" / "comparison.html")
    assert [run["name"] for run in data["runs"]] == ["a", "b"]  # the third is the first once more
    assert data["depth"] == "percent"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN"),
        (["a", "--out", "x"], "--out x is the folder for comparing several runs"),
        (["a", "b", "--depth", "metres"], "invalid choice: 'metres'"),
        (["a", "--tau", "nan"], "--tau nan is not between 0 and 100 points"),
        (["a", "--tau", "-1"], "--tau -1 is not between 0 and 100 points"),
        (["a", "--tau", "many"], "invalid float value: 'many'"),
        (["a", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_arguments_end_with_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_runs_own_figures_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_run(tmp_path / name, tasks=("ChooseAttr",), questions=3)) for name in ("a", "b")]
    assert main([*folders, "--out", folders[1]]) == 2
    assert capsys.readouterr().err == (
        f"error: --out {folders[1]} holds a run, whose figures would be written over; give another folder\n"
    )
    assert not (tmp_path / "b" / "summary.csv").exists()


def test_a_file_in_the_comparisons_place_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(write_run(tmp_path / name, tasks=("ChooseAttr",), questions=3)) for name in ("a", "b")]
    (tmp_path / "file").touch()
    assert main([*folders, "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"error: a file is in the place of the run folder {tmp_path / 'file'}")
    assert not (tmp_path / "a" / "summary.csv").exists()


def lines(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    axes = figure.axes[panel]
    return {
        str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.get_lines() if line.get_marker() != "None"
    }


@pytest.mark.parametrize("depth", [None, "layer"])
def test_a_figures_lines_are_the_runs_curves(runs: dict[Path, dict[str, Any]], depth: str | None) -> None:
    data = comparison_data(list(runs.values()), ["shallow", "deep"], depth)
    figure = comparison_figure(data, "ChooseAttr", ACCURACY)
    labels = ["Image ↛ Question", "Question ↛ Last", "Image ↛ All (to-end)"]
    assert [axes.get_title() for axes in figure.axes] == labels
    for panel, label in enumerate(labels):
        drawn = lines(figure, panel)
        assert list(drawn) == ["shallow", "deep"]
        for name, run, layers in zip(drawn, runs.values(), (4, 7), strict=True):
            (curve,) = [own for own in run["curves"] if (own["task"], own["label"]) == ("ChooseAttr", label)]
            x = np.arange(layers) if depth else np.linspace(0, 100, layers)
            np.testing.assert_allclose(drawn[name][:, 0], x)
            np.testing.assert_allclose(drawn[name][:, 1], curve["measures"]["delta_accuracy"]["value"])
    expected = (-4, 104) if depth is None else (-0.5, 6.5)
    assert figure.axes[0].get_xlim() == expected
    ringed = [artist for artist in figure.axes[1].collections if artist.get_gid() == CRITICAL]
    assert len(ringed) == 2  # Question->Last is critical in layer 1 of both
    at = [np.asarray(artist.get_offsets())[:, 0].tolist() for artist in ringed]
    assert at == ([[100 / 3], [100 / 6]] if depth is None else [[1.0], [1.0]])


def test_a_pathway_or_a_task_that_one_run_lacks_is_drawn_of_the_others(runs: dict[Path, dict[str, Any]]) -> None:
    one, other = runs.values()
    less = {**other, "curves": [curve for curve in other["curves"] if curve["pathway"] == "Image->All"]}
    data = comparison_data([one, less], ["one", "other"])
    figure = comparison_figure(data, "ChooseAttr")
    assert [list(lines(figure, panel)) for panel in range(3)] == [["one"], ["one"], ["one", "other"]]
    with pytest.raises(ValueError, match="no run has curves of task 'Nothing'"):
        comparison_figure(data, "Nothing")


def test_the_figures_of_every_task_are_written(made: Comparison) -> None:
    every = ("", "-accuracy", "-changed")
    stems = [f"{task}{kind}" for task in ("All_tasks", "ChooseAttr", "Query_b_Attr_b") for kind in every]
    stems += ["All_tasks-margin", "ChooseAttr-margin"]  # the other task's questions name no two options
    assert sorted(path.name for path in made.figures) == sorted(
        f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf")
    )
    assert all(path.stat().st_size > 5000 for path in made.figures)


def test_runs_of_one_depth_are_compared_by_layer(runs: dict[Path, dict[str, Any]]) -> None:
    def depth(some: Sequence[Any]) -> str:
        return str(comparison_data(some, [str(place) for place in range(len(some))])["depth"])

    one, other = runs.values()
    assert [depth([one, one]), depth([one, other])] == ["layer", "percent"]


def test_runs_on_the_same_questions_are_paired(tmp_path: Path) -> None:
    """One beside a run in which nothing is lost, and one of another depth."""
    folders = [write_run(tmp_path / "shallow", layers=4), write_run(tmp_path / "deep", layers=5)]
    own = read_content(folders[0]).rows
    data = comparison_data([data_of(folders[place]) for place in (0, 0, 1)], ["one", "same", "deep"])
    table, lines = run_differences(data, [own, own.assign(knockout_score=own["base_score"]), own])
    assert set(table["second_run"]) == {"same"}
    where = table[(table["measure"] == "delta_accuracy") & (table["task"] == TASKS[0]) & (table["layer"] == 1)]
    assert where.set_index("pathway")["difference"].to_dict() == {
        "Image->All": -100, "Image->Question": 0, "Question->Last": -100
    }  # fmt: skip
    assert lines[0].startswith("same beside one: paired by question, the accuracy lost differs most for ")
    assert "by -100.0 points" in lines[0]
    assert "(n = 8 on 8 images, " in lines[0]
    assert lines[1] == "deep beside one: 5 and 4 layers are not compared one by one."

"""Several runs on one page, and the command that makes it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.written_run import data_of, write_run
from xmflow_jax.report.__main__ import main
from xmflow_jax.report.comparison import comparison_data, write_comparison


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


def test_every_run_keeps_its_own_curves_and_depth(runs: dict[Path, dict[str, Any]], tmp_path: Path) -> None:
    write_comparison(tmp_path / "new" / "side.html", runs)
    data = shown(tmp_path / "new" / "side.html")
    assert [run["layers"] for run in data["runs"]] == [4, 7]
    for told, own in zip(data["runs"], runs.values(), strict=True):
        assert told["curves"] == own["curves"]
        assert told["findings"] == own["findings"]
        assert told["template"] == "plain"
    assert data["pathways"] == ["Image->Question", "Question->Last", "Image->All"]


def test_runs_of_the_same_name_are_told_apart(runs: dict[Path, dict[str, Any]], tmp_path: Path) -> None:
    write_comparison(tmp_path / "side.html", runs)
    assert [run["name"] for run in shown(tmp_path / "side.html")["runs"]] == ["one/run", "two/run"]


def test_single_questions_are_left_to_each_runs_own_page(runs: dict[Path, dict[str, Any]]) -> None:
    data = comparison_data(list(runs.values()), ["a", "b"])
    assert all("questions" not in run for run in data["runs"])


def test_the_command_compares_what_it_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name, tasks=("ChooseAttr",), questions=3)
    assert main(["a", "b"]) == 0
    assert [run["name"] for run in shown(tmp_path / "comparison.html")["runs"]] == ["a", "b"]
    assert "comparison comparison.html" in capsys.readouterr().out
    assert main(["a", "nothing", "b", "--out", "other.html"]) == 2
    streams = capsys.readouterr()
    assert streams.err == "error: nothing holds no run.json; expected a folder that a sweep wrote\n"
    assert [run["name"] for run in shown(tmp_path / "other.html")["runs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN"),
        (["a", "--out", "x.html"], "--out x.html is the file that compares several runs"),
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

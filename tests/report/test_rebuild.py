"""What a run folder's rows become, without a model; and folders that hold less than a run."""

import html
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.run.result_rows import row
from xmflow_jax.analysis.model_shape import ModelShape
from xmflow_jax.report.__main__ import main
from xmflow_jax.report.rebuild import rebuild_from_folder
from xmflow_jax.report.run_content import stored_shape
from xmflow_jax.run.folder import open_run, read_record
from xmflow_jax.run.record import SHAPE_KEY

LAYERS, QUESTIONS = 4, 12
REBUILT = (".csv", ".html", ".json", ".pdf", ".png")
SHAPE = ModelShape(LAYERS, 8, 2, 2, 4, 16, image_positions=9, text_positions=5, cross_attention_layers=(0, 1))


def write_run(folder: Path, tasks: tuple[str, ...] = ("ChooseAttr",)) -> Path:
    """A run in which `Question->Last` matters in layer 1 alone, and `Image->All` nowhere from layer 2 on."""
    with open_run(folder, {"seed": 3}, {SHAPE_KEY: {**SHAPE.__dict__}}) as run:
        for task in tasks:
            for number in range(QUESTIONS):
                rows = []
                for pathway, style in (("Question->Last", "centred"), ("Image->All", "to-end")):
                    for layer in range(LAYERS):
                        hit = layer == 1 if style == "centred" else layer < 2
                        rows.append(
                            row(
                                question_id=f"{task}{number}", task=task, pathway=pathway, style=style, layer=layer,
                                window=1, base_prob=0.9, knockout_prob=0.1 if hit else 0.9,
                                relative_change=-88.9 if hit else 0.0, knockout_score=0.0 if hit else 1.0,
                            )
                        )  # fmt: skip
                run.append_part(rows)
        run.write_record()
    return folder


def test_everything_follows_from_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", ("ChooseAttr", "QueryAttr"))
    assert main([str(folder)]) == 0
    told = capsys.readouterr().out
    summary = pd.read_csv(folder / "summary.csv")
    critical = summary[summary["critical"]]
    assert {(p, layer) for p, layer in zip(critical["pathway"], critical["layer"], strict=True)} == {
        ("Question->Last", 1), ("Image->All", 0), ("Image->All", 1),
    }  # fmt: skip
    assert "Question->Last in layer 1" in told
    recommendation = json.loads((folder / "recommendation.json").read_text())
    assert {one["task"] for one in recommendation["stages"]} == {"All tasks", "ChooseAttr", "QueryAttr"}
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"overview.png", "overview-accuracy.pdf", "ChooseAttr.png", "QueryAttr-heat-map.png"} <= names
    # Again: the same bytes.
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in REBUILT}
    rebuild_from_folder(folder)
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_the_shape_is_read_back(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "run"))
    assert record is not None
    assert stored_shape(record) == SHAPE
    assert stored_shape({"sessions": [{}]}) is None


def test_tau_decides_what_is_critical(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert rebuild_from_folder(folder).summary["critical"].any()
    assert not rebuild_from_folder(folder, tau=100.0).summary["critical"].any()


def test_a_run_without_rows_says_so(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 0}):
        pass
    rebuilt = rebuild_from_folder(tmp_path / "run")
    assert rebuilt.lines == ("No question has rows, so there is nothing to find.",)
    assert rebuilt.figures == ()
    assert not (tmp_path / "run" / "recommendation.json").exists()


def test_the_page_holds_the_findings_that_are_told(tmp_path: Path) -> None:
    rebuilt = rebuild_from_folder(write_run(tmp_path / "run", ("ChooseAttr", "QueryAttr")))
    page = html.unescape(re.sub("</?span[^>]*>", "", rebuilt.page.read_text()))
    assert rebuilt.page == tmp_path / "run" / "report.html"
    for line in rebuilt.lines[:3]:
        title, _, text = line.partition(": ")
        assert title in page
        assert text[1:] in page


def test_all_tasks_together_have_their_margins_and_controls_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_run(folder, {"seed": 3}) as run:
        for task in ("ChooseAttr", "QueryAttr"):
            margins = {"base_margin": 3.0, "knockout_margin": 1.0} if task == "ChooseAttr" else {}
            run.append_part(
                [
                    row(f"{task}{number}", task=task, control=control, knockout_score=float(control > 0),
                        control_overlap=0.0 if control else None, **margins)
                    for number in range(6)
                    for control in (0, 1)
                ]
            )  # fmt: skip
    measures = rebuild_from_folder(folder).data["curves"][0]["measures"]
    assert (measures["delta_accuracy"]["value"], measures["delta_accuracy"]["control"]) == ([100.0], [0.0])
    assert measures["delta_accuracy"]["over_control"] == [100.0]
    assert (measures["margin_change"]["value"], measures["margin_change"]["n"]) == ([-2.0], [6])


def test_a_damaged_part_leaves_a_report_of_the_others_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    damaged(folder)
    assert main([str(folder)]) == 2
    streams = capsys.readouterr()
    assert "truncated or damaged" in streams.err
    assert "Question->Last in layer 1" in streams.out
    assert set(pd.read_csv(folder / "summary.csv")["n"]) == {QUESTIONS - 1}
    assert "Missing or damaged" in (folder / "report.html").read_text()


def damaged(folder: Path) -> None:
    part = next((folder / "results").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no run.json"),
        (lambda folder: (folder / "run.json").unlink(), "holds no run.json"),
        (lambda folder: (folder / "run.json").write_text("{}"), "does not describe a run"),
        (damaged, "part-"),
    ],
    ids=["no folder", "no record", "empty record", "truncated part"],
)
def test_what_is_no_run_is_refused_in_one_line(
    harm: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    harm(folder)  # type: ignore[operator]
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error

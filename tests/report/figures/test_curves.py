"""What the figures show, read back from the Figure objects, and how they become files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.margin import MARGIN
from xmflow_jax.measures.registry import MEASURES
from xmflow_jax.report.figures.curves import (
    BAND,
    CONTROL,
    CRITICAL,
    CROSS_ATTENTION,
    draw_overview,
    draw_task_curves,
    overview_figure,
    task_figure,
)
from xmflow_jax.report.figures.files import FIGURE_KINDS, figure_names
from xmflow_jax.report.figures.looks import arrow_label, curve_looks

STUDY = (
    "Question->Last",
    "Image->Last",
    "Image->Question",
    "Last->Last",
    "Image Central Object->Question",
    "Image Without Central Object->Question",
)


def summary(
    tasks: tuple[str, ...] = ("ChooseAttr",),
    pathways: tuple[str, ...] = STUDY,
    layers: int = 32,
    style: str = "centred",
    half_width: float = np.nan,
) -> pd.DataFrame:
    """A summary whose change is -(10 * pathway + layer), with `half_width` to either side of it."""
    rows = [
        {
            "task": task,
            "kind": "edges",
            "mode": "mask",
            "pathway": pathway,
            "style": style,
            "layer": layer,
            "n": 100 + number,
            "relative_change": -(10.0 * place + layer),
            "relative_change_low": -(10.0 * place + layer) - half_width,
            "relative_change_high": -(10.0 * place + layer) + half_width,
            "delta_accuracy": 2.0 * place + layer,
            "delta_accuracy_low": 2.0 * place + layer - half_width,
            "delta_accuracy_high": 2.0 * place + layer + half_width,
            "critical": False,
        }
        for number, task in enumerate(tasks)
        for place, pathway in enumerate(pathways)
        for layer in range(layers)
    ]
    return pd.DataFrame(rows)


def lines(axes: Axes) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.get_lines() if line.get_marker() != "None"
    }


def artists(axes: Axes, gid: str) -> list[Artist]:
    return [artist for artist in (*axes.collections, *axes.get_lines()) if artist.get_gid() == gid]


def legend_texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_every_pathway_is_a_labelled_line_of_its_numbers() -> None:
    table = summary(("ChooseAttr", "QueryAttr"))
    figure = task_figure(table.sample(frac=1, random_state=0), "QueryAttr")  # in any order of rows
    (axes,) = figure.axes
    drawn = lines(axes)
    assert set(drawn) == {arrow_label(pathway) for pathway in STUDY}
    expected = [[layer, -(20.0 + layer)] for layer in range(32)]
    np.testing.assert_array_equal(drawn["Image \u219b Question"], expected)
    assert axes.get_xlabel() == "Layer"
    assert axes.get_ylabel() == "Change in probability (%)"
    assert axes.get_title() == "QueryAttr (n = 101)"
    assert legend_texts(figure) == list(drawn)
    (zero,) = (line for line in axes.get_lines() if line.get_marker() == "None")
    np.testing.assert_array_equal(zero.get_ydata(), [0, 0])


def test_a_range_of_n_is_told() -> None:
    table = summary()
    table.loc[table["pathway"] == STUDY[-1], "n"] = 60
    assert task_figure(table, "ChooseAttr").axes[0].get_title() == "ChooseAttr (n = 60–100)"


@pytest.mark.parametrize(("layers", "step"), [(1, 1), (8, 1), (32, 2), (40, 4), (80, 8)])
def test_ticks_are_whole_layers(layers: int, step: int) -> None:
    axes = task_figure(summary(layers=layers), "ChooseAttr").axes[0]
    assert axes.get_xticks().tolist() == list(range(0, layers, step))


def test_a_band_only_where_the_interval_is_known() -> None:
    without = task_figure(summary(), "ChooseAttr")
    assert len(without.axes[0].collections) == 0
    assert "95 % interval" not in legend_texts(without)
    table = summary(pathways=("Image->Question",), layers=6, half_width=2.0)
    table.loc[table["layer"] >= 4, ["relative_change_low", "relative_change_high"]] = np.nan
    figure = task_figure(table, "ChooseAttr")
    (band,) = figure.axes[0].collections
    (path,) = band.get_paths()
    corners = np.asarray(path.vertices)
    assert corners[:, 0].max() == 3
    assert corners[:, 1].max() == 2
    assert corners[:, 1].min() == -5
    assert legend_texts(figure)[-1] == "95 % interval"


def test_a_matched_control_is_a_dotted_line() -> None:
    table = summary(pathways=("Image->Question",), layers=6)
    assert "matched control" not in legend_texts(
        task_figure(table.assign(control_relative_change=np.nan), "ChooseAttr")
    )
    table["control_relative_change"] = np.arange(6) / 10
    figure = task_figure(table, "ChooseAttr")
    (control,) = artists(figure.axes[0], CONTROL)
    assert isinstance(control, Line2D)
    np.testing.assert_array_equal(control.get_ydata(), np.arange(6) / 10)
    assert control.get_linestyle() == ":"
    assert legend_texts(figure)[-1] == "matched control"
    assert artists(task_figure(table, "ChooseAttr", ACCURACY).axes[0], CONTROL) == []


def test_critical_layers_are_ringed() -> None:
    table = summary(pathways=("Image->Question", "Image->Last"), layers=6, half_width=2.0)
    assert "critical layer" not in legend_texts(task_figure(table, "ChooseAttr"))
    table.loc[(table["pathway"] == "Image->Last") & table["layer"].isin([1, 4]), "critical"] = True
    for figure in (task_figure(table, "ChooseAttr"), overview_figure(table)):
        (rings,) = artists(figure.axes[0], CRITICAL)
        assert isinstance(rings, PathCollection)
        np.testing.assert_array_equal(rings.get_offsets(), [[1, -11], [4, -14]])
        assert to_hex(rings.get_edgecolor()[0]) == curve_looks(STUDY)["Image->Last"][0].lower()
        assert legend_texts(figure)[-2:] == ["95 % interval", "critical layer"]


def test_accuracy_lost() -> None:
    table = summary(pathways=("Image->Question", "Image->Last"), layers=6, half_width=2.0)
    for figure in (task_figure(table, "ChooseAttr", ACCURACY), overview_figure(table, ACCURACY)):
        axes = figure.axes[0]
        assert axes.get_ylabel() == "Accuracy lost (points)"
        drawn = lines(axes)["Image \u219b Last"]
        np.testing.assert_array_equal(drawn[:, 1], 2 + np.arange(6.0))
        assert len(artists(axes, BAND)) == 2


def test_cross_attention_layers_are_dotted() -> None:
    table = summary(layers=10)
    assert "cross-attention layer" not in legend_texts(task_figure(table, "ChooseAttr"))
    figures = (
        task_figure(table, "ChooseAttr", cross_attention_layers=(3, 8)),
        overview_figure(table, cross_attention_layers=(3, 8)),
    )
    for figure in figures:
        marks = artists(figure.axes[0], CROSS_ATTENTION)
        assert [mark.get_xdata()[0] for mark in marks if isinstance(mark, Line2D)] == [3, 8]
        assert all(mark.get_linestyle() == ":" for mark in marks if isinstance(mark, Line2D))
        assert legend_texts(figure)[-1] == "cross-attention layer"


def test_a_gap_stays_a_gap() -> None:
    table = summary(pathways=("Image->Last",), layers=4)
    table.loc[2, "relative_change"] = np.nan
    (line,) = lines(task_figure(table, "ChooseAttr").axes[0]).values()
    assert np.isnan(line[2, 1])


def test_styles_are_told_apart() -> None:
    table = pd.concat([summary(pathways=("Image->All",)), summary(pathways=("Image->All",), style="to-end")])
    axes = task_figure(table, "ChooseAttr").axes[0]
    drawn = {line.get_label(): line for line in axes.get_lines() if line.get_marker() != "None"}
    assert set(drawn) == {"Image \u219b All", "Image \u219b All (to-end)"}
    one, other = drawn.values()
    assert one.get_color() == other.get_color()
    assert one.get_linestyle() != other.get_linestyle()


def test_a_pathway_looks_the_same_in_every_figure() -> None:
    alone = curve_looks(["Image->Question"])["Image->Question"]
    among = curve_looks([*STUDY, "Aardvark->Last"])["Image->Question"]
    assert alone == among
    # A task that lacks a pathway does not shift the other colours.
    table = summary(("A", "B"), ("Zebra->Last", "Aardvark->Last"))
    table = table[(table["task"] == "A") | (table["pathway"] == "Zebra->Last")]
    colours = [
        {line.get_label(): line.get_color() for line in task_figure(table, task).axes[0].get_lines()} for task in "AB"
    ]
    label = arrow_label("Zebra->Last")
    assert colours[0][label] == colours[1][label]


def test_looks_differ_between_pathways() -> None:
    looks = curve_looks([*STUDY, "Image->All", "True Option->Last", "False Option->Last", "Image Pad->Question"])
    assert len({to_hex(colour) for colour, _ in looks.values()}) == 10
    assert len({marker for _, marker in looks.values()}) == 10


def test_text_of_a_figure_lies_inside_it_and_not_on_each_other() -> None:
    long = "what is the price of $5 and what does the very long question type say"
    for figure in (
        task_figure(summary(half_width=3), "ChooseAttr"),
        overview_figure(summary(("ChooseAttr", long), half_width=3)),
        overview_figure(summary(tuple("ABCDEFG"))),
    ):
        figure.draw_without_rendering()
        page = figure.bbox
        panels = [axes for axes in figure.axes if axes.get_visible()]
        boxes = [axes.get_tightbbox() for axes in panels] + [figure.legends[0].get_window_extent()]
        for place, box in enumerate(boxes):
            assert box is not None
            assert page.x0 <= box.x0
            assert box.x1 <= page.x1
            assert page.y0 <= box.y0
            assert box.y1 <= page.y1
            for other in boxes[:place]:
                assert other is not None
                assert not box.overlaps(other)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (4, 4), (5, 5)])
def test_the_overview_has_a_panel_per_task_with_equal_axes(count: int, shown: int) -> None:
    tasks = tuple("EDCBA"[:count])
    table = summary(tasks)
    table.loc[table["task"] == "E", "relative_change"] *= 3
    figure = overview_figure(table)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().split()[0] for axes in panels] == sorted(tasks)
    assert len(panels) == shown
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert len({axes.get_xlim() for axes in panels}) == 1
    assert all(len(lines(axes)) == len(STUDY) for axes in panels)


def test_the_overviews_legend_has_pathways_that_the_first_task_lacks() -> None:
    table = summary(("A", "B"))
    table = table[(table["task"] == "B") | (table["pathway"] == "Image->Last")]
    assert len(legend_texts(overview_figure(table))) == len(STUDY)


def test_files_are_named_after_tasks_whatever_these_hold() -> None:
    tasks = ["ChooseAttr", "chooseattr", "Overview", "is this/", "is this?", "../up", "???", "$5"]
    names = figure_names(tasks)
    assert names["ChooseAttr"] == "ChooseAttr"
    assert len({name.lower() for name in names.values()} | {"overview"}) == len(tasks) + 1
    assert all(name and set(name) <= set("-._") | set(map(chr, range(48, 123))) for name in names.values())
    kinds = figure_names(["a", "a-accuracy", "A-heat-map", "overview-accuracy"]).values()
    assert len({f"{name}{kind}".lower() for name in [*kinds, "overview"] for kind in FIGURE_KINDS}) == 5 * 3 * len(
        MEASURES
    )
    assert not any("/" in name or name.startswith(".") for name in names.values())


def test_files_are_written_and_hold_no_date(tmp_path: Path) -> None:
    table = summary(("ChooseAttr", "what is $5?"), layers=4)
    paths = [*draw_task_curves(table, tmp_path), *draw_overview(table, tmp_path / "overview.png")]
    assert [path.name for path in paths] == [
        "ChooseAttr.png",
        "ChooseAttr.pdf",
        "what_is_5.png",
        "what_is_5.pdf",
        "overview.png",
        "overview.pdf",
    ]
    accuracy = [
        *draw_task_curves(table, tmp_path, ACCURACY),
        *draw_overview(table, tmp_path / "overview", ACCURACY),
    ]
    assert {path.stem for path in accuracy} == {"ChooseAttr-accuracy", "what_is_5-accuracy", "overview-accuracy"}
    paths += accuracy
    assert sorted(paths) == sorted(tmp_path.iterdir())
    for path in paths:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")
        assert b"CreationDate" not in data
        assert b"Matplotlib" not in data
        assert b"/Type3" not in data


def test_the_same_summary_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    table = summary(layers=4, half_width=1)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    draw_task_curves(table, here)
    table.to_csv(tmp_path / "summary.csv", index=False)
    # A user's own settings, another hash seed and another order of the rows must not show.
    code = (
        "import sys, pandas as pd, matplotlib; from pathlib import Path; "
        "from xmflow_jax.report.figures.curves import draw_task_curves; "
        "matplotlib.rcParams.update({'font.size': 20, 'axes.facecolor': 'yellow'}); "
        "draw_task_curves(pd.read_csv(sys.argv[1])[::-1], Path(sys.argv[2])); "
        "assert matplotlib.rcParams['font.size'] == 20; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "summary.csv"), str(there)],
        check=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7", "PATH": "", "HOME": str(tmp_path), "SOURCE_DATE_EPOCH": "1"},
    )
    for name in ("ChooseAttr.png", "ChooseAttr.pdf"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_drawing_nothing() -> None:
    empty = summary()[:0]
    assert draw_task_curves(empty, Path("nowhere")) == []
    assert draw_overview(empty, Path("nowhere") / "overview") == []
    with pytest.raises(ValueError, match="no task 'QueryAttr'; it has ChooseAttr"):
        task_figure(summary(), "QueryAttr")


def test_a_task_without_a_measure_is_not_drawn_in_it(tmp_path: Path) -> None:
    table = summary(("A", "B"), layers=4, half_width=1.0)
    for name, column in ((MARGIN.key, "relative_change"), (MARGIN.low, "relative_change_low")):
        table[name] = np.where(table["task"] == "A", table[column], np.nan)
    table[MARGIN.high], table[MARGIN.number] = np.nan, np.where(table["task"] == "A", 7, 0)
    names = [path.name for path in draw_task_curves(table, tmp_path, MARGIN)]
    assert names == ["A-margin.png", "A-margin.pdf"]
    figure = overview_figure(table, MARGIN)
    assert [axes.get_title() for axes in figure.axes] == ["A (n = 7)"]
    label = "Change in the margin of the true over the false option (log-odds)"
    assert figure.axes[0].get_ylabel().replace("\n", " ") == label
    task = task_figure(table, "A", MARGIN)
    for one in (figure, task):
        one.draw_without_rendering()
        box = one.axes[0].get_tightbbox()
        assert box is not None
        assert box.y0 >= one.bbox.y0
        assert box.y1 <= one.bbox.y1


def test_importing_the_room_does_not_import_matplotlib() -> None:
    code = "import sys, xmflow_jax.report.figures.curves; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])

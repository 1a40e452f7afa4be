"""What the heat maps show, read back from the Figure objects."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.report.figures.test_curves import STUDY, summary
from xmflow_jax.measures.accuracy import ACCURACY
from xmflow_jax.measures.probability import PROBABILITY
from xmflow_jax.report.figures.curves import CRITICAL
from xmflow_jax.report.figures.heat_maps import draw_head_maps, draw_heat_maps, head_map_figure, heat_map_figure


def heads(tasks: tuple[str, ...] = ("ChooseAttr",), count: int = 4, layers: int = 6) -> pd.DataFrame:
    """A table whose change is -(pathway's first row + 10 * head + layer)."""
    base = summary(tasks, STUDY[:2], layers)
    tables = [base.assign(head=head, relative_change=-(10.0 * head + base["layer"])) for head in range(count)]
    return pd.concat(tables)


def cells(figure: Figure, panel: int = 0) -> np.ndarray:
    array = figure.axes[panel].images[0].get_array()
    assert array is not None
    return np.ma.filled(array, np.nan)


def marks(figure: Figure, panel: int = 0) -> list[list[float]]:
    found = [artist for artist in figure.axes[panel].collections if artist.get_gid() == CRITICAL]
    return [offset for artist in found for offset in np.asarray(artist.get_offsets()).tolist()]


def test_every_cell_is_its_pathways_number_in_its_layer() -> None:
    table = summary(("A", "B"), layers=5)
    figure = heat_map_figure(table.sample(frac=1, random_state=0), "A")
    labels = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_yticklabels()]
    # In the order of the curves' legend; `summary` numbers pathways in the order of STUDY.
    assert labels[0] == "Image \u219b Question"
    expected = []
    for label in labels:
        place = [path.replace("->", " \u219b ") for path in STUDY].index(label)
        expected.append([-(10.0 * place + layer) for layer in range(5)])
    np.testing.assert_array_equal(cells(figure), expected)
    assert figure.axes[0].get_title() == "A (n = 100)"
    assert figure.axes[-1].get_ylabel() == "Change in probability (%)"
    assert marks(figure) == []


def test_critical_cells_are_dotted_and_missing_ones_stay_empty() -> None:
    table = summary(pathways=("Image->Question", "Image->Last"), layers=4)
    table.loc[(table["pathway"] == "Image->Last") & (table["layer"] == 2), "critical"] = True
    table.loc[(table["pathway"] == "Image->Question") & (table["layer"] == 1), "relative_change"] = np.nan
    table = table[~((table["pathway"] == "Image->Last") & (table["layer"] == 3))]
    figure = heat_map_figure(table, "ChooseAttr")
    assert marks(figure) == [[2.0, 1.0]]
    assert np.argwhere(np.isnan(cells(figure))).tolist() == [[0, 1], [1, 3]]


def test_white_is_no_effect_and_red_is_harm() -> None:
    table = summary(pathways=("Image->Question",), layers=3)
    for measure, harm in ((PROBABILITY, [-8.0, 0.0, 4.0]), (ACCURACY, [8.0, 0.0, -4.0])):
        table[measure.key] = harm
        image = heat_map_figure(table, "ChooseAttr", measure).axes[0].images[0]
        red, white, blue = image.cmap(image.norm(harm))
        assert red[0] > red[2]
        assert min(white[:3]) > 0.95
        assert blue[2] > blue[0]


def test_tasks_share_a_scale_that_one_answer_cannot_stretch() -> None:
    table = summary(("A", "B"), layers=3)
    table.loc[0, "relative_change"] = 900.0
    limits = {heat_map_figure(table, task).axes[0].images[0].get_clim() for task in "AB"}
    assert limits == {(-100.0, 100.0)}
    table = table[table["relative_change"] < 0]
    limits = {heat_map_figure(table, task).axes[0].images[0].get_clim() for task in "AB"}
    assert limits == {(-52.0, 52.0)}


def test_no_effect_at_all_is_white() -> None:
    figure = heat_map_figure(summary(layers=3).assign(relative_change=0.0), "ChooseAttr")
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)


def test_heads_have_a_panel_per_pathway() -> None:
    table = heads()
    table.loc[(table["head"] == 2) & (table["layer"] == 5) & (table["pathway"] == STUDY[1]), "critical"] = True
    figure = head_map_figure(table, "ChooseAttr")
    expected = -(10.0 * np.arange(4)[:, None] + np.arange(6))
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["Image \u219b Last", "Question \u219b Last"]
    for panel in range(2):
        np.testing.assert_array_equal(cells(figure, panel), expected)
    assert (marks(figure, 0), marks(figure, 1)) == ([[5.0, 2.0]], [])


def test_text_lies_inside_the_figure() -> None:
    long = "what is the price of $5 and what does the very long question type say, and so on and on"
    table = summary((long,))
    for figure in (heat_map_figure(table, long), head_map_figure(heads((long,), 32, 32), long)):
        figure.draw_without_rendering()
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box is not None
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1


def test_files_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    table, folders = summary(("A", "what is $5?"), layers=4), [tmp_path / "one", tmp_path / "two"]
    table.loc[3, "critical"] = True
    for folder in folders:
        folder.mkdir()
        paths = [*draw_heat_maps(table, folder), *draw_head_maps(heads(("A",)), folder)]
        assert [path.name for path in paths] == [
            "A-heat-map.png",
            "A-heat-map.pdf",
            "what_is_5-heat-map.png",
            "what_is_5-heat-map.pdf",
            "A-heads.png",
            "A-heads.pdf",
        ]
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()


def test_drawing_nothing() -> None:
    assert draw_heat_maps(summary()[:0], Path("nowhere")) == []
    assert draw_head_maps(heads()[:0], Path("nowhere")) == []
    with pytest.raises(ValueError, match="no task 'B'; it has ChooseAttr"):
        heat_map_figure(summary(), "B")

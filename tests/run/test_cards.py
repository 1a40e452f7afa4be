"""Cards in the run folder: they land with their question's rows, or not at all."""

from pathlib import Path

import pytest

from tests.report.written_run import card
from tests.run.result_rows import CONFIGURATION, files, row
from xmflow_jax.run.folder import open_run, read_cards


def test_cards_land_with_the_rows_and_come_back(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("a"), row("b")], cards=[card("b", "ChooseAttr")])
        run.append_part([row("c")])
    assert [name for name in files(tmp_path) if "cards" in name] == ["cards/cards-00000.parquet"]
    (one,) = read_cards(tmp_path).to_dict("records")
    assert one["question_id"] == "b"
    assert one["image"] == card("b", "ChooseAttr")["image"]
    assert [list(own) for own in one["token_roles"]] == card("b", "ChooseAttr")["token_roles"]


def test_a_card_of_a_question_without_rows_is_refused_and_nothing_lands(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        with pytest.raises(ValueError, match="has cards rows but no result rows"):
            run.append_part([row("a")], cards=[card("b", "ChooseAttr")])
        assert not any(name.endswith(".parquet") for name in files(tmp_path))


def test_cards_whose_rows_never_landed_do_not_count_and_go(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("a")], cards=[card("a", "ChooseAttr")])
    (tmp_path / "results" / "part-00000.parquet").unlink()
    assert read_cards(tmp_path).empty
    with open_run(tmp_path, CONFIGURATION) as run:
        assert not any("cards" in name for name in files(tmp_path))
        run.append_part([row("a")], cards=[card("a", "ChooseAttr")])
    assert len(read_cards(tmp_path)) == 1


def test_a_damaged_cards_part_takes_its_rows_along_so_that_both_are_made_again(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIGURATION) as run:
        run.append_part([row("a")], cards=[card("a", "ChooseAttr")])
    path = tmp_path / "cards" / "cards-00000.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with open_run(tmp_path, CONFIGURATION) as run:
        assert set(run.unreadable) == {"cards-00000.parquet", "part-00000.parquet"}
        assert run.finished_questions() == set()

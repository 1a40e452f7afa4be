"""The page without a browser: numbers are the tables', texts are texts, and nothing is loaded."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.written_run import HOSTILE, TASKS, card, data_of, write_run
from tests.run.result_rows import row, skipped
from xmflow_jax.analysis.answer_tracking import track_answers
from xmflow_jax.analysis.question_matrix import ALL_TASKS
from xmflow_jax.analysis.recommendation import pooled_rows, recommend
from xmflow_jax.analysis.summary import Resampling, summarize
from xmflow_jax.report.page.data import curves_data, run_data
from xmflow_jax.report.page.pages import data_text, run_page
from xmflow_jax.report.run_content import read_content
from xmflow_jax.run.folder import SET_ASIDE, open_run, read_lens, read_rows
from xmflow_jax.run.row_words import KEEP_ONLY, OUTPUT, TOGETHER
from xmflow_jax.study.question_card import SHOWN_QUESTIONS, THUMBNAIL_SIDE


class Reader(HTMLParser):
    """The elements of a page as a browser sees them, and the texts of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in self.raw else ""
        if self._open:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw[self._open][-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def data(folder: Path) -> dict[str, Any]:
    return data_of(folder)


def test_every_number_of_the_curves_is_the_summarys(folder: Path, data: dict[str, Any]) -> None:
    rows, resampling = read_rows(folder), Resampling(seed=3)
    seen = 0
    for summary in (summarize(rows, resampling=resampling), summarize(pooled_rows(rows), resampling=resampling)):
        for one in summary.itertuples():
            key = (one.task, one.pathway, one.style)
            (curve,) = [own for own in data["curves"] if (own["task"], own["pathway"], own["style"]) == key]
            place = curve["layer"].index(one.layer)
            assert curve["critical"][place] == one.critical
            assert curve["window"] == 3
            for measure in ("delta_accuracy", "relative_change"):
                own = curve["measures"][measure]
                assert own["n"][place] == one.n
                for name, column in (("value", measure), ("low", f"{measure}_low"), ("high", f"{measure}_high")):
                    assert own[name][place] == getattr(one, column)
            seen += 1
    assert seen == sum(len(curve["layer"]) for curve in data["curves"]) == 3 * 3 * 4
    assert [curve["task"] for curve in data["curves"]][:3] == [ALL_TASKS] * 3


def test_controls_and_margins_are_told_beside_the_pathways_own_numbers(folder: Path) -> None:
    rows = read_rows(folder).assign(control=0, base_margin=2.0, knockout_margin=0.5)
    draws = [rows.assign(control=draw, knockout_score=1.0 - 0.25 * draw) for draw in (1, 2)]
    summary = summarize(pd.concat([rows, *draws], ignore_index=True), resampling=Resampling(seed=3))
    own = curves_data(summary, rows)[0]["measures"]
    here = summary[(summary["task"] == TASKS[0]) & (summary["pathway"] == "Image->Question")]
    assert own["delta_accuracy"]["control"] == here["control_delta_accuracy"].tolist() == [37.5] * 4
    for name in ("over_control", "over_control_low", "over_control_high"):
        assert own["delta_accuracy"][name] == here[f"delta_accuracy_{name}"].tolist()
    assert own["margin_change"]["value"] == [-1.5] * 4
    assert own["margin_change"]["n"] == [8] * 4
    assert own["margin_change"]["control"] == [-1.5] * 4  # the draws' margins are the pathway's own here


def test_rows_of_every_kind_have_curves_with_names_and_looks_of_their_own(folder: Path) -> None:
    rows = read_rows(folder)
    blocked = rows[(rows["pathway"] == "Image->Question") & (rows["head"] == TOGETHER)]
    kept = blocked.assign(kind=KEEP_ONLY, knockout_score=0.5)
    zeroed = blocked.assign(kind=OUTPUT, mode="zero", pathway="mlp:Question", knockout_score=0.25)
    together = pd.concat([blocked, kept, zeroed], ignore_index=True)
    summary = summarize(together, resampling=Resampling(resamples=100))
    content = replace(read_content(folder), rows=together)
    data = run_data(content, summary, recommend(together, summary), None)
    labels = ["Image ↛ Question", "mlp output of Question", "only Image → Question"]
    assert [curve["label"] for curve in data["curves"]] == labels * 2
    assert [curve["measures"]["delta_accuracy"]["value"][3] for curve in data["curves"]] == [0.0, 75.0, 50.0] * 2
    assert data["subjects"] == ["Image->Question", "mlp output of Question", "only Image->Question"]
    assert [curve["label"] for curve in data["questions"][0]["curves"]] == labels
    assert {one["label"] for one in data["critical"]} == set(labels)
    page = run_page(data)
    assert "mlp output of Question in layers" in page
    looks = json.loads(Reader(page).raw["script"][0])["looks"]
    assert {subject: look["place"] for subject, look in looks.items()} == dict(
        zip(data["subjects"], range(3), strict=True)
    )


def test_every_number_of_answer_tracking_is_the_tables(folder: Path, data: dict[str, Any]) -> None:
    table = track_answers(read_lens(folder))
    told = {
        (own["task"], own["normed"], own["word"], layer): (own["n"][i], own["value"][i], own["low"][i], own["high"][i])
        for own in data["tracking"]
        for i, layer in enumerate(own["layer"])
    }
    assert told == {
        (one.task, one.normed, one.word, one.layer): (one.n, one.probability, one.low, one.high)
        for one in table.itertuples()
    }


def test_single_questions_are_told_as_they_were_measured(folder: Path, data: dict[str, Any]) -> None:
    rows = read_rows(folder)
    rows = rows[rows["head"] == TOGETHER]
    assert len(data["questions"]) == 16
    for question in data["questions"]:
        own = rows[(rows["task"] == question["task"]) & (rows["question_id"] == question["question_id"])]
        assert question["card"]["text"].endswith(question["question_id"])
        for curve in question["curves"]:
            here = own[(own["pathway"] == curve["pathway"]) & (own["style"] == curve["style"])].sort_values("layer")
            assert curve["layer"] == here["layer"].tolist()
            assert curve["prob"] == pytest.approx(here["knockout_prob"].tolist(), abs=1e-6)
            assert curve["answer"] == here["knockout_answer"].tolist()
        assert {lens["normed"] for lens in question["lens"]} == {False, True}
        assert question["lens"][0]["layer"] == [-1, 0, 1, 2, 3]


def test_texts_of_the_data_are_no_markup(data: dict[str, Any]) -> None:
    page = run_page(data)
    read = Reader(page)
    tags = [tag for tag, _ in read.elements]
    assert tags.count("script") == 2
    assert not {"img", "b", "iframe", "link", "object"} & set(tags)
    assert json.loads(read.raw["script"][0])["questions"] == data["questions"]
    assert HOSTILE in read.text  # the model's name in the subtitle, in full and as text
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)


@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.lists, max_leaves=5))
def test_data_in_the_page_come_back_and_cannot_end_their_element(value: Any) -> None:
    text = data_text({"value": value, "hostile": HOSTILE})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"value": value, "hostile": HOSTILE}


def test_numbers_that_json_lacks_are_refused_rather_than_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_text([math.nan])


def test_the_policy_allows_this_script_and_style_and_nothing_else(data: dict[str, Any]) -> None:
    read = Reader(run_page(data))
    (policy,) = [own["content"] for _, own in read.elements if own.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    for name, text in (("script-src", read.raw["script"][1]), ("style-src", read.raw["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == [f"'sha256-{digest}'"]


def test_nothing_points_out_of_the_page(data: dict[str, Any]) -> None:
    read = Reader(run_page(data))
    links = [value for _, own in read.elements for name, value in own.items() if name in ("src", "href", "action")]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    ids = {own.get("id") for _, own in read.elements}
    assert {link[1:] for link in links if link} <= ids
    # An SVG's namespace is a name, not an address that is asked.
    assert set(re.findall(r"https?://[^\s\"']+", "".join(read.raw["script"] + read.raw["style"]))) == {
        "http://www.w3.org/2000/svg"
    }


def test_the_same_run_gives_the_same_page(folder: Path) -> None:
    assert run_page(data_of(folder)) == run_page(data_of(folder))


def test_how_the_run_was_made_is_told(data: dict[str, Any]) -> None:
    told = {(group["title"], name): text for group in data["run"] for name, text in group["entries"]}
    assert told[("Command", "command")] == "python -m xmflow_jax.sweep --samples 16"
    assert told[("Model", "digest")] == "0" * 64
    assert told[("Data, with SHA-256", "questions.csv")] == "1" * 64
    assert told[("Prompt template", "text")] == f"<image>\n{{question}}{HOSTILE}"
    pathways = "Image->All@to-end:3, Image->Question@centred:3, Question->Last@centred:3"
    assert told[("Pathways, with window styles and widths", "pathways")] == pathways


def test_keys_that_someone_vouched_for_are_told_at_the_top(tmp_path: Path) -> None:
    configuration = {"seed": 0, "vouched": {"text_config.logit_scale": 2, "<b>": "on"}}
    with open_run(tmp_path / "run", configuration, {"passed_over": {"_author": "where the file comes from"}}) as run:
        run.append_part([row("a"), row("b")])
    data = data_of(tmp_path / "run")
    told = {(group["title"], name): text for group in data["run"] for name, text in group["entries"]}
    title = "Keys of config.json that are not understood, and that someone vouched for"
    assert told[(title, "text_config.logit_scale")] == "2"
    assert told[("Keys of config.json that were passed over", "_author")] == "where the file comes from"
    notices = re.findall(r'<p class="notice">(.*?)</p>', run_page(data))
    assert any("text_config.logit_scale = 2, &lt;b&gt; = on" in notice for notice in notices)


def test_set_aside_questions_are_counted_and_told(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 0}) as run:
        run.append_part([row("a"), row("b")])
        run.append_skipped([skipped(f"{number:03}", SET_ASIDE, reason=f"why {number}") for number in range(230)])
        run.append_skipped([skipped("wrong", "not_selected")])
    told = data_of(tmp_path / "run")["set_aside"]
    assert told["counts"] == [{"task": "ChooseAttr", "answered": 2, "set_aside": 230, "not_selected": 1}]
    assert told["questions"][7] == {"question_id": "007", "task": "ChooseAttr", "reason": "why 7"}
    assert (len(told["questions"]), told["more"]) == (200, 30)


def test_a_run_that_stopped_early_says_how_far_it_came(tmp_path: Path) -> None:
    page = run_page(data_of(write_run(tmp_path / "run", tasks=("ChooseAttr",), planned=20)))
    assert "The run is not finished: 9 of 20 questions are done." in page  # 8 answered, 1 set aside
    assert "not finished" not in run_page(data_of(write_run(tmp_path / "all", tasks=("ChooseAttr",), planned=9)))


def test_a_run_without_rows_has_a_page_that_says_so(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 0}):
        pass
    page = run_page(data_of(tmp_path / "run"))
    assert "No question has rows, so there is nothing to find." in page


def test_a_run_without_cards_and_lens_shows_its_questions_all_the_same(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", {"seed": 0}) as run:
        run.append_part([row(f"{number:02}") for number in range(50)])
    told = data_of(tmp_path / "run")
    assert told["tracking"] == []
    assert [one["question_id"] for one in told["questions"]] == [f"{number:02}" for number in range(SHOWN_QUESTIONS)]
    assert told["questions"][0]["card"] is None


def test_questions_come_evenly_from_the_tasks_and_the_file_stays_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), dtype=np.uint8)  # the worst image to compress
    with open_run(tmp_path / "run", {"seed": 0}) as run:
        for task, count in (("Many", 60), ("Some", 25), ("Few", 2)):
            names = [f"{number:02}" for number in range(count)]
            cards = [card(name, task, pixels=noise) for name in names]
            run.append_part([row(name, task=task) for name in names], cards=cards)
    told = data_of(tmp_path / "run")
    counts = {task: sum(one["task"] == task for one in told["questions"]) for task in ("Many", "Some", "Few")}
    assert counts == {"Many": 19, "Some": 19, "Few": 2}
    assert len(run_page(told).encode()) < 10_000_000


def test_tasks_keep_their_names(data: dict[str, Any]) -> None:
    assert {curve["task"] for curve in data["curves"]} == {ALL_TASKS, *TASKS}

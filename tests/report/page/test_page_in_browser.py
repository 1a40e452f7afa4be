"""The pages in headless Chromium: nothing fails, nothing is loaded, and everything answers to pointer and keyboard.

Every test fails on any console message of an error, uncaught exception or request that leaves the page.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.report.written_run import HOSTILE, TASKS, data_of, write_run
from xmflow_jax.analysis.question_matrix import ALL_TASKS
from xmflow_jax.report.comparison import comparison_data
from xmflow_jax.report.page.pages import comparison_page, run_page

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUN, COMPARISON = "report.html", "comparison.html"


@dataclass
class Opened:
    """A page, and what it did that it should not."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def tip(self, chart: str = f"curves {ALL_TASKS}") -> list[str]:
        """The lines beside the point that is read in a visible chart."""
        figure = self.page.locator(f'figure:visible:has([data-chart="{chart}"])')
        return [line for line in figure.locator(".tip").inner_text().split("\n") if line]


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(BROWSERS)}")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; `make test-browser` does it"
    )
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return data_of(write_run(tmp_path_factory.mktemp("run") / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> Path:
    pages = tmp_path_factory.mktemp("pages")
    (pages / RUN).write_text(run_page(data), encoding="utf-8")
    deeper = data_of(write_run(pages / "deeper", layers=7))
    (pages / COMPARISON).write_text(comparison_page(comparison_data([data, deeper], ["a", HOSTILE])), encoding="utf-8")
    return pages


@pytest.fixture
def open_page(chromium: Any, folder: Path) -> Iterator[Open]:
    contexts, pages = [], []

    def opened(name: str = RUN, width: int = 1200, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        one = Opened(context.new_page())
        address = (folder / name).as_uri()
        one.page.on("console", lambda said: one.wrong.append(said.text) if said.type in ("error", "warning") else None)
        one.page.on("pageerror", lambda error: one.wrong.append(str(error)))
        one.page.on(
            "request",
            lambda asked: (
                None if asked.url == address or asked.url.startswith("data:") else one.wrong.append(asked.url)
            ),
        )
        one.page.goto(address)
        contexts.append(context)
        pages.append(one)
        return one

    yield opened
    wrong = [text for one in pages for text in one.wrong]
    for context in contexts:
        context.close()
    assert not wrong


def told(
    data: dict[str, Any], label: str, layer: int, measure: str = "delta_accuracy", task: str = ALL_TASKS
) -> list[str]:
    """What a point of a curve must say: the summary's numbers."""
    (curve,) = [one for one in data["curves"] if (one["task"], one["label"]) == (task, label)]
    own, place = curve["measures"][measure], curve["layer"].index(layer)
    value, low, high = (
        f"{own[name][place]:.1f}".replace("-0.0", "0.0").replace("-", "−") for name in ("value", "low", "high")
    )
    name = {"delta_accuracy": f"Accuracy lost: {value} points", "relative_change": f"Change in probability: {value} %"}[
        measure
    ]
    return [label, f"layer {layer} ", f"{name}, 95 % interval {low} to {high}", f"n = {own['n'][place]}"]


def agrees(lines: list[str], expected: list[str]) -> bool:
    return all(any(line.startswith(start) for line in lines) for start in expected)


@pytest.mark.parametrize("name", [RUN, COMPARISON])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_an_error_or_a_request(name: str, scheme: str, open_page: Open) -> None:
    page = open_page(name, color_scheme=scheme).page
    assert page.locator("svg.chart:visible").count() >= 3
    assert page.locator("h1").inner_text().startswith("Attention knockout")
    text = page.locator("body").inner_text()
    assert not [word for word in ("[object", "undefined", "NaN", "null") if word in text]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 20)"}[scheme]


def test_errors_and_requests_would_be_seen_and_are_refused_by_the_policy(open_page: Open) -> None:
    opened = open_page()
    opened.page.evaluate("fetch('https://example.org/').catch(() => null)")
    opened.page.evaluate(
        "const own = document.createElement('script'); own.textContent = 'window.hostile = 3'; "
        "document.body.append(own)"
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.hostile") is None
    refused = [text for text in opened.wrong if "Content Security Policy" in text]
    assert len(refused) >= 2
    opened.wrong.clear()


def test_the_findings_come_first_and_need_no_script(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page(java_script_enabled=False).page
    assert page.locator("main section").first.get_attribute("id") == "findings"
    shown = page.locator(".finding").all_inner_texts()
    assert len(shown) == 3
    for text, finding in zip(shown, data["findings"], strict=True):
        assert finding["text"] in text
    assert "need JavaScript" in page.locator("noscript").inner_text()


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_hovering_tells_layer_value_interval_and_number(layer: int, open_page: Open, data: dict[str, Any]) -> None:
    opened = open_page()
    chart = opened.page.locator(f'[data-chart="curves {ALL_TASKS}"]:visible')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    # The chart is 440 wide and its layers lie between 50 and 430; from the top, so that the highest line is nearest.
    x = box["x"] + box["width"] / 440 * (50 + (layer + 0.5) / 4 * 380)
    opened.page.mouse.move(x, box["y"] + 5)
    lines = opened.tip()
    assert any(agrees(lines, told(data, label, layer)) for label in {curve["label"] for curve in data["curves"]}), lines
    opened.page.mouse.move(0, 0)
    assert opened.tip() == []


def test_the_keyboard_reads_every_point(open_page: Open, data: dict[str, Any]) -> None:
    opened = open_page()
    opened.page.locator("[name=pathway]").last.focus()
    opened.page.keyboard.press("Tab")  # from the controls to the first chart
    assert opened.page.evaluate("document.activeElement.dataset.chart") == f"curves {ALL_TASKS}"
    labels = [curve["label"] for curve in data["curves"] if curve["task"] == ALL_TASKS]
    for label in labels:
        opened.page.keyboard.press("Home")
        for layer in range(4):
            assert agrees(opened.tip(), told(data, label, layer)), (label, layer, opened.tip())
            opened.page.keyboard.press("ArrowRight")
        opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Home")
    assert agrees(opened.tip(), told(data, labels[0], 0))  # round to the first line
    opened.page.keyboard.press("Escape")
    assert opened.tip() == []


def test_the_measure_and_the_layers_can_be_changed(open_page: Open, data: dict[str, Any]) -> None:
    opened = open_page()
    page = opened.page
    assert page.locator("#curve-panels .panels:visible").get_attribute("data-measure") == "delta_accuracy"
    page.locator("[name=measure]:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#curve-panels .panels:visible").get_attribute("data-measure") == "relative_change"
    assert page.locator("#heat-panels .panels:visible").get_attribute("data-measure") == "relative_change"
    page.get_by_label("in percent of the depth").check()
    chart = page.locator(f'[data-chart="curves {ALL_TASKS}"]:visible')
    assert "Depth (%)" in chart.inner_html()
    page.locator("[name=pathway]").last.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    label = data["curves"][0]["label"]
    assert agrees(opened.tip(), [*told(data, label, 1, "relative_change"), "layer 1 (33 % of the depth)"])
    before = chart.locator(".series").count()
    page.locator("[name=pathway]").first.uncheck()
    assert page.locator(f'[data-chart="curves {ALL_TASKS}"]:visible .series').count() == before - 1


def test_margins_are_shown_of_the_tasks_that_have_options(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page().page
    assert [one["key"] for one in data["measures"]] == ["delta_accuracy", "relative_change", "margin_change", "changed"]
    page.locator("[name=measure][value=margin_change]").check()
    for panels in ("#curve-panels", "#heat-panels"):
        captions = page.locator(f"{panels} figure:visible figcaption").all_inner_texts()
        assert [caption.split("\n")[0].split(" (")[0] for caption in captions] == [ALL_TASKS, "ChooseAttr"]
    page.locator("#curve-panels svg.chart:visible").last.focus()
    page.keyboard.press("End")
    tip = page.locator("#curve-panels figure:visible .tip").last.inner_text()
    assert "Change in the margin of the true over the false option: −0.25 log-odds, 95 % interval" in tip
    assert "n = 8" in tip


def test_heat_maps_are_read_in_the_same_ways(open_page: Open, data: dict[str, Any]) -> None:
    opened = open_page()
    chart = opened.page.locator("#heat-panels svg.chart:visible").first
    chart.focus()
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("ArrowRight")
    tip = opened.page.locator("#heat-panels figure:visible .tip").first.inner_text().split("\n")
    assert agrees(tip, told(data, data["curves"][0]["label"], 1)), tip


def test_single_heads_are_a_strip_each(open_page: Open, data: dict[str, Any]) -> None:
    opened = open_page()
    page = opened.page
    titles = page.locator("#head-panels figure:visible figcaption").all_inner_texts()
    assert [title.split("\n")[0] for title in titles] == [f"{task}: Question ↛ Last" for task in TASKS]
    assert page.locator("#head-panels .panels:visible").get_attribute("data-measure") == "delta_accuracy"
    chart = page.locator("#head-panels svg.chart:visible").first
    assert chart.locator("text:not(.tick)").all_text_contents() == ["head 0", "head 1"]
    assert chart.locator("circle:not(.cursor)").count() == 1  # head 1 in layer 1
    chart.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    tip = page.locator("#head-panels figure:visible .tip").first.inner_text().split("\n")
    (one,) = [curve for curve in data["heads"][0]["curves"] if curve["head"] == 1]
    assert one["measures"]["delta_accuracy"]["value"][1] == 100
    assert tip[0] == "head 1"
    assert agrees(tip, ["layer 1 ", "Accuracy lost: 100.0 points", "n = 8", "critical"]), tip


def test_a_run_without_single_heads_says_nothing_of_them(open_page: Open) -> None:
    assert open_page(COMPARISON).page.locator("#heads").count() == 0


def test_answer_tracking_is_shown_raw_and_normed(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page().page
    titles = page.locator("#lens-panels figcaption").all_inner_texts()
    assert [title.split("\n")[0] for title in titles] == [
        f"{task}, {kind}" for task in ("ChooseAttr", "Query<b>Attr</b>") for kind in ("raw", "normed")
    ]
    own = data["tracking"][0]
    assert (own["task"], own["normed"], own["word"], own["layer"][-1]) == ("ChooseAttr", False, "answer_prob", 3)
    page.locator("#lens-panels svg.chart").first.focus()
    page.keyboard.press("End")
    assert page.locator("#lens-panels .tip").first.inner_text().split("\n")[:3] == [
        "Answer",
        "layer 3",
        "probability {:.3f}, 95 % interval {:.3f} to {:.3f}".format(
            *(own[name][-1] for name in ("value", "low", "high"))
        ),
    ]


def test_single_questions_are_browsed_by_keyboard(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page().page
    where = page.locator("#question-where")
    page.locator("#question-select").focus()
    for place in (2, 3):
        page.keyboard.press("ArrowDown")
        assert where.inner_text() == f"{place} of 16"
        assert page.locator("#question-text").inner_text() == visible(data["questions"][place - 1]["card"]["text"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # previous
    assert where.inner_text() == "2 of 16"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # next
    page.keyboard.press("Enter")
    assert where.inner_text() == "4 of 16"
    assert page.locator("#question-text").inner_text() == visible(data["questions"][3]["card"]["text"])
    page.keyboard.press("Tab")  # to its own curves
    assert page.evaluate("document.activeElement.dataset.chart") == "question"
    lines = page.locator("#question-body figure .tip").first.inner_text().split("\n")
    own = data["questions"][3]["curves"][0]
    assert lines[:2] == [own["label"], "layer 0"]
    assert lines[2].startswith(f"probability {own['prob'][0]:.3f}, undisturbed 0.870")


def test_single_questions_are_browsed_by_mouse(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page().page
    where = page.locator("#question-where")
    page.locator("#question-before").click(force=True)  # there is none
    assert where.inner_text() == "1 of 16"
    for place in (2, 3):
        page.locator("#question-after").click()
        assert where.inner_text() == f"{place} of 16"
        assert page.locator("#question-text").inner_text() == visible(data["questions"][place - 1]["card"]["text"])
    page.locator("#question-select").select_option("15")
    assert where.inner_text() == "16 of 16"
    page.locator("#question-after").click(force=True)
    page.locator("#question-before").click()
    assert where.inner_text() == "15 of 16"
    assert page.locator("#question-text").inner_text() == visible(data["questions"][14]["card"]["text"])
    chart = page.locator("[data-chart=question]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 440 * (50 + 2.5 / 4 * 380), box["y"] + 40)
    lines = page.locator("#question-body figure .tip").first.inner_text().split("\n")
    assert lines[1] == "layer 2"
    assert lines[2].startswith("probability ")
    assert lines[-1] == "n = 1: one question, no interval"


def visible(text: str) -> str:
    """As `innerText` gives it: a line separator of Unicode is white space that collapses."""
    return re.sub(r"[ \n]+", " ", text).strip()


def test_the_image_has_its_patches_and_the_prompt_its_roles(open_page: Open, data: dict[str, Any]) -> None:
    page = open_page().page
    shown = page.locator(".picture svg image")
    assert shown.get_attribute("href").startswith("data:image/png;base64,")
    # Patches 5 and 6 of a grid of 4 by 4: one outline around both, without the edge between them.
    outline = page.locator(".picture .patches").get_attribute("d")
    assert sorted(re.findall("M[^M]+", outline)) == sorted(
        ["M25 25h25", "M25 50h25", "M25 25v25", "M50 25h25", "M50 50h25", "M75 25v25"]
    )
    assert page.locator(".picture .padding").get_attribute("d").count("M") == 2 * 4
    tokens = page.locator(".prompt .token")
    assert tokens.all_text_contents() == [text for text, _ in data["questions"][0]["card"]["tokens"]]
    assert tokens.nth(3).get_attribute("title") == "Question, Central Object"
    assert "role-central-object" in tokens.nth(3).get_attribute("class")
    assert "role-last" in tokens.nth(6).get_attribute("class")


@pytest.mark.parametrize("name", [RUN, COMPARISON])
def test_texts_of_the_data_do_nothing(name: str, open_page: Open) -> None:
    page = open_page(name).page
    assert page.evaluate("window.hostile") is None
    assert page.locator("img, b, iframe").count() == 0
    assert page.locator("script").count() == 2
    assert "<script>window.hostile = 1</script>" in page.locator("main").inner_text()


@pytest.mark.parametrize("name", [RUN, COMPARISON])
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_scrolling_sideways(name: str, width: int, open_page: Open) -> None:
    page = open_page(name, width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A table that is wider scrolls by itself.
    assert page.evaluate(
        "[...document.querySelectorAll('figure')].every(one => one.scrollWidth <= one.clientWidth + 1)"
    )


@pytest.mark.parametrize("name", [RUN, COMPARISON])
def test_print_shows_every_chart(name: str, open_page: Open, data: dict[str, Any]) -> None:
    page = open_page(name, color_scheme="dark").page
    charts = page.locator("svg.chart")
    hidden = charts.count() - page.locator("svg.chart:visible").count()
    assert hidden > 0  # the other measure's
    page.emulate_media(media="print")
    assert page.locator("svg.chart:visible").count() == charts.count()
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")


def test_runs_of_different_depth_are_compared_in_percent(open_page: Open) -> None:
    page = open_page(COMPARISON).page
    assert page.locator("[name=depth]:checked").get_attribute("value") == "percent"
    chart = page.locator(f'[data-chart="curves {ALL_TASKS}"]:visible')
    assert chart.locator(".series").count() == 2
    chart.focus()
    page.keyboard.press("End")
    tip = page.locator("figure:visible .tip").first
    assert tip.inner_text().split("\n")[:2] == ["a", "layer 3 (100 % of the depth), window of 3"]
    page.keyboard.press("ArrowDown")
    assert "layer 6 (100 % of the depth)" in tip.inner_text()
    page.get_by_label("Question ↛ Last", exact=True).check()
    assert page.locator("#curve-panels .panels:visible").get_attribute("data-pathway") == "Question ↛ Last"


def test_hovering_over_a_comparison_tells_run_layer_value_interval_and_number(
    open_page: Open, data: dict[str, Any]
) -> None:
    opened = open_page(COMPARISON)
    opened.page.get_by_label("in numbers").check()
    chart = opened.page.locator(f'[data-chart="curves {ALL_TASKS}"]:visible')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    # Seven layers; layer 5 is one that the first run does not have.
    opened.page.mouse.move(box["x"] + box["width"] / 440 * (50 + 5.5 / 7 * 380), box["y"] + 60)
    lines = opened.tip()
    assert visible(lines[0]) == visible(HOSTILE)
    assert lines[1].startswith("layer 5 (83 % of the depth)")
    assert re.fullmatch(r"Accuracy lost: [−\d.]+ points, 95 % interval [−\d.]+ to [−\d.]+", lines[2])
    assert lines[3].startswith("n = 16")

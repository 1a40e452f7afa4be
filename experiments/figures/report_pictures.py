"""The README's pictures of a report, taken from its page in headless Chromium.

    python -m experiments.figures.report_pictures runs/shapes-llava-shapes docs

Writes `report.png` (findings, and curves with a point read) and `report-question.png` (a single question). Needs
`pip install 'xmflow-jax[browser]'` and an installed Chromium or Chrome; nothing is downloaded.
"""

import argparse
import io
import shutil
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Page, sync_playwright

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
WIDTH: Final = 1200


def take(run: Path, folder: Path) -> list[Path]:
    """Both pictures; returns their paths.

    Raises:
        SystemExit: no browser is installed, or the run has no report.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    report = run / "report.html"
    if browser is None or not report.is_file():
        wrong = f"{run} has no report.html" if browser else f"no browser is installed; looked for {', '.join(BROWSERS)}"
        raise SystemExit(f"error: {wrong}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=list(ARGUMENTS))
        page = started.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        # As high as the page: to scroll for a picture would take the pointer off the chart.
        page.set_viewport_size({"width": WIDTH, "height": page.evaluate("document.documentElement.scrollHeight")})
        _read_a_point(page)
        paths = [
            _save(
                _between(page, "h1", "#curve-panels .panels:not(.unselected) figure:nth-child(4)"),
                folder / "report.png",
            ),
            _save(_between(page, "#questions", "#question-body .panels:not(.pair)"), folder / "report-question.png"),
        ]
        started.close()
    return paths


def _read_a_point(page: Page) -> None:
    """Points at the second layer of a curve, as a reader would."""
    chart = page.locator("#curve-panels svg.chart:visible").nth(1)
    box = chart.bounding_box()
    assert box is not None, "a visible chart has a box"
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.3 * box["height"])


def _between(page: Page, first: str, last: str) -> Image.Image:
    """The page from the top of one element to the bottom of another, over its whole width."""
    edges = """([first, last]) => [
        document.querySelector(first).getBoundingClientRect().top + scrollY,
        document.querySelector(last).getBoundingClientRect().bottom + scrollY,
    ]"""
    top, bottom = page.evaluate(edges, [first, last])
    whole = Image.open(io.BytesIO(page.screenshot()))
    return whole.crop((0, max(int(top) - 16, 0), whole.width, min(int(bottom) + 16, whole.height)))


def _save(picture: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A page has few colours, and the repository keeps every version of a picture.
    few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder with a report.html")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    arguments = parser.parse_args()
    for path in take(arguments.run, arguments.folder):
        print(path)


if __name__ == "__main__":
    main()

"""README, CONTRIBUTING, CHANGELOG and `docs/`: links that lead somewhere, scripts that exist, the README's length."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, prose_lines

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "experiments").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
MODULE = re.compile(r"python -m ((?:xmflow_jax|experiments)[\w.]*)")
FILE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.py|(?:xmflow_jax|experiments|tests|knockout)/[\w/-]*)`")
CODE = re.compile(r"`[^`]*`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The names that headings have as a link's target: lower case, spaces as dashes, without punctuation."""
    headings = [line.lstrip("#").strip() for line in prose_lines(page.read_text(encoding="utf-8")) if line[:1] == "#"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    prose = "\n".join(prose_lines(page.read_text(encoding="utf-8")))
    return [one or other for one, other in LINK.findall(CODE.sub("", prose))]


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """Links to what is not there, or lies outside the repository."""
    wrong = []
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists() or not target.is_relative_to(root)
        if missing or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page), f"{name(page)}: nothing is at {broken(page)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_modules_that_a_page_runs_exist(page: Path) -> None:
    for module in sorted({one.rstrip(".") for one in MODULE.findall(page.read_text(encoding="utf-8"))}):
        assert find_spec(module), f"{name(page)}: there is no module {module}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    """Named from the repository or from the package."""
    for file in sorted(set(FILE.findall(page.read_text(encoding="utf-8")))):
        there = (ROOT / file).exists() or (ROOT / "xmflow_jax" / file).exists()
        assert there, f"{name(page)}: there is no {file}"


def test_every_page_is_reached_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "README.md", DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert set(DOCS.rglob("*.md")) <= reached


def test_a_wrong_link_and_a_wrong_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[here](#one) [there](#two) [gone](gone.md)\n```\n[in code](no.md)\n```\n", encoding="utf-8")
    assert links(page) == ["#one", "#two", "gone.md"]
    assert anchors(page) == {"one"}
    assert broken(page, tmp_path) == ["#two", "gone.md"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150

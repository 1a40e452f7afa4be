"""Markdown pages read by line: headings and tables, outside blocks of code."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def prose_lines(text: str) -> Iterator[str]:
    """The lines that are in no fenced block of code."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield line


def sections(text: str) -> dict[str, str]:
    """The text under each heading of the second level, by the heading."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in prose_lines(text):
        if line.startswith("## "):
            current = found.setdefault(line[3:].strip(), [])
        else:
            current.append(line)
    return {heading: "\n".join(lines) for heading, lines in found.items()}


def table_rows(text: str, first_heading: str) -> list[list[str]]:
    """The cells of every row of the tables whose first column has this heading."""
    rows: list[list[str]] = []
    inside = False
    for line in prose_lines(text):
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if inside:
            rows.append(cells)
        elif cells[0] == first_heading:
            inside = True
    return [cells for cells in rows if not set("".join(cells)) <= set("-: ")]


def quoted(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def names_in(page: str, section: str, first_heading: str) -> list[str]:
    """What stands between backticks in the first column of a section's tables with this heading."""
    text = sections((DOCS / page).read_text(encoding="utf-8"))[section]
    return [name for cells in table_rows(text, first_heading) for name in quoted(cells[0])]

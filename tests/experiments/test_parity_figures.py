"""The table of parity figures: which test belongs to which family, the largest difference of each kind."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.families import parity_figures
from tests.families import parity
from tests.families.qwen_vl.test_parity import CASES as QWEN
from tests.families.split_images.test_parity import CASES as SPLIT


def test_every_case_belongs_to_its_family() -> None:
    for folder, cases in (("qwen_vl", QWEN), ("split_images", SPLIT)):
        for case, (family, _) in cases.items():
            name = f"tests/families/{folder}/test_parity.py::test_every_layer[{case}]"
            assert parity_figures.family_of(name) == family.model_type
    assert parity_figures.family_of("tests/families/llava/test_text_decoders.py::test_it[mistral]") == "llava"
    assert parity_figures.family_of("tests/families/llava_next/test_parity.py::test_it") == "llava_next"
    assert parity_figures.family_of("tests/families/proof_family/test_parity.py::test_it") is None


def test_comparisons_are_noted_and_the_largest_of_each_kind_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(parity.FIGURES, str(tmp_path))
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/families/gemma3/test_parity.py::test_it (call)")
    own, expected = np.array([1.0, 4.0]), np.array([1.0, 3.0])
    parity.assert_close(own, expected, 2.0, "here", parity.OF_LAYERS)
    parity.assert_close(own / 2, expected / 2, 2.0, "here", parity.OF_LOGITS)
    parity.assert_close(own / 8, expected / 8, 2.0, "here", parity.OF_LOGITS)
    parity.assert_close(own, expected, 2.0, "not noted")
    found = parity_figures.largest(parity_figures.read_notes(tmp_path))
    assert found == {"gemma3": {"layers": (1 / 3, 1), "logits": (0.5, 2)}}
    assert parity_figures.KINDS.keys() == set(parity.KINDS)
    assert parity_figures.FIGURES == parity.FIGURES
    assert parity_figures.table_lines(found)[-1] == "| `gemma3` | 3.3e-01 of 1 | 5.0e-01 of 2 |  |"


def test_the_table_replaces_the_one_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{parity_figures.BEGIN}\nold\n{parity_figures.END}\nbehind\n")
    monkeypatch.setattr(parity_figures, "PAGE", page)
    for table in ("first", "second"):
        parity_figures.write_table(table)
        text = f"before\n{parity_figures.BEGIN}\n\n{table}\n\n{parity_figures.END}\nbehind\n"
        assert page.read_text() == text


def test_a_difference_beyond_the_bound_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parity.FIGURES, str(tmp_path))
    with pytest.raises(AssertionError):
        parity.assert_close(np.ones(2), np.zeros(2), 0.5, "here", parity.OF_LOGITS)
    assert not [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]

"""What the options' data become: questions, and the digests that a run is resumed by."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources import benchmark_files as files
from xmflow_jax.data.question import Question
from xmflow_jax.errors import DataError
from xmflow_jax.prepare import prepare
from xmflow_jax.study.inputs import Inputs, read_inputs
from xmflow_jax.study.options import check_options, sweep_options
from xmflow_jax.study.shipped import write_random_tiny


@pytest.fixture(name="model", scope="module")
def fixture_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_tiny(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of VQA v2 and GQA, and GQA prepared in `sets`."""
    folder = tmp_path_factory.mktemp("data")
    files.vqa_v2_folder(folder / "vqa")
    files.gqa_folder(folder / "gqa")
    prepare("gqa", folder / "gqa", folder / "sets")
    return folder


def read(model: Path, scratch: Path, **options: Any) -> Inputs:
    chosen = sweep_options(model=str(model), **options)
    check_options(chosen)
    return read_inputs(chosen, scratch, lambda line: None)


def test_vqa_files_by_options(model: Path, folder: Path, tmp_path: Path) -> None:
    vqa = folder / "vqa"
    asked, annotations = vqa / "v2_OpenEnded_mscoco_val2014_questions.json", vqa / "v2_mscoco_val2014_annotations.json"
    inputs = read(model, tmp_path, data=asked, images=vqa, annotations=annotations)
    assert [list(one.answers) for one in inputs.questions] == files.ANSWERS
    before = inputs.digests()
    assert set(before) == {asked.name, annotations.name}
    content = annotations.read_text()
    try:
        annotations.write_text(content.replace("skateboard", "skate board"))
        changed = read(model, tmp_path, data=asked, images=vqa, annotations=annotations).digests()
    finally:
        annotations.write_text(content)
    assert {name for name in before if before[name] != changed[name]} == {annotations.name}
    few = read(model, tmp_path, data=asked, images=vqa, annotations=annotations, samples=2)
    assert len(few.questions) == 2


def test_gqa_files_by_options(model: Path, folder: Path, tmp_path: Path) -> None:
    gqa = folder / "gqa"
    asked, graphs = gqa / "questions1.2" / "val_balanced_questions.json", gqa / "sceneGraphs" / "val_sceneGraphs.json"
    inputs = read(model, tmp_path, data=asked, images=gqa / "images", scene_graphs=graphs)
    assert all(one.boxes for one in inputs.questions)
    assert set(inputs.digests()) == {asked.name, graphs.name}


def test_a_prepared_benchmark_by_name(model: Path, folder: Path, tmp_path: Path) -> None:
    sets = folder / "sets"
    inputs = read(model, tmp_path, data="gqa", data_dir=sets)
    assert [one.question_id for one in inputs.questions] == list(files.gqa_questions())
    for one in inputs.questions:
        assert one.image_path.read_bytes() == (folder / "gqa" / "images" / one.image_path.name).read_bytes()
    (name,) = inputs.digests()
    assert name == "gqa:validation"
    assert read(model, tmp_path / "again", data="gqa", data_dir=sets).digests() == inputs.digests()
    part = read(model, tmp_path, data="gqa", data_dir=sets, split="validation[:4]", samples=2)
    assert len(part.questions) == 2
    assert part.digests() != inputs.digests()
    with pytest.raises(DataError, match=r"vqa_v2 is not prepared in .*; run python -m xmflow_jax.prepare vqa_v2"):
        read(model, tmp_path, data="vqa_v2", data_dir=sets)


def test_a_folder_of_a_benchmarks_name_is_a_folder(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.gqa_study_folder(tmp_path / "gqa")
    monkeypatch.chdir(tmp_path)
    inputs = read(model, tmp_path, data="gqa", images="gqa/images")
    assert len(inputs.questions) == 12


def test_ones_own_questions(model: Path, tmp_path: Path) -> None:
    own = [Question(f"{number}", "a", tmp_path / "a.png", "Is it red?", "yes", "Color") for number in range(3)]
    inputs = read(model, tmp_path, data=iter(own))
    assert inputs.questions == tuple(own)
    assert set(inputs.digests()) == {"own"}
    assert read(model, tmp_path, data=own[:2]).digests() != inputs.digests()
    # A command hands its options on as they are.
    options = sweep_options(model=str(model), data=own)
    assert sweep_options(**vars(options)) == options

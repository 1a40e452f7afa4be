"""The benchmarks' builders, built with no TensorFlow to be had, from small files in the published layouts."""

import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from tests.data.sources import benchmark_files as files
from tests.data.sources.benchmark_files import write_json
from tests.data.sources.tfds.test_shapes import NoTensorFlow
from xmflow_jax.data.image_files import read_image
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.gqa_json import read_gqa_json
from xmflow_jax.data.sources.prepared import BENCHMARKS, benchmark_builder, read_benchmark
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.data.sources.tfds import question_builder
from xmflow_jax.data.sources.vqa_json import read_vqa_json
from xmflow_jax.errors import DataError
from xmflow_jax.prepare import PreparedData, prepare

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "vqa_v2": files.vqa_v2_folder,
    "ok_vqa": files.ok_vqa_folder,
    "gqa": files.gqa_folder,
    "gqa_study": files.gqa_study_folder,
}


def directly(name: str, folder: Path) -> list[Question]:
    """The same questions without building."""
    if name == "gqa_study":
        return read_questions([next(folder.glob(f"*_{task}.csv")) for task in STUDY_TASKS], folder / "images")
    if name == "gqa":
        graphs = folder / "sceneGraphs" / "val_sceneGraphs.json"
        return read_gqa_json(folder / "questions1.2" / "val_balanced_questions.json", graphs, folder)
    prefix = "v2_" if name == "vqa_v2" else ""
    annotations = folder / f"{prefix}mscoco_val2014_annotations.json"
    return read_vqa_json(folder / f"{prefix}OpenEnded_mscoco_val2014_questions.json", annotations, folder)


@pytest.fixture(autouse=True, scope="module")
def _no_tensorflow() -> Iterator[None]:
    epath.Path(".").exists()  # asks once whether TensorFlow is installed
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "tensorflow", raising=False)
        patch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
        yield


@pytest.fixture(name="built", params=BENCHMARKS, scope="module")
def fixture_built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _no_tensorflow: None
) -> tuple[str, Path, Path]:
    """A benchmark's name, the folder of its files, and the one that it was built in."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    FOLDERS[name](folder / "files")
    prepare(name, folder / "files", folder / "sets")
    return name, folder / "files", folder / "sets"


def without_place(questions: list[Question]) -> list[Question]:
    return [replace(one, image_path=Path(one.image_path.name)) for one in questions]


def test_what_is_read_back_is_what_the_files_tell(built: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, folder, sets = built
    expected = directly(name, folder)
    read = read_benchmark(name, tmp_path / "images", data_dir=sets)
    assert without_place(read) == without_place(expected)
    assert len(read) == {"vqa_v2": 3, "ok_vqa": 3, "gqa": 6, "gqa_study": 12}[name]
    for one, source in zip(read, expected, strict=True):
        assert one.image_path.read_bytes() == source.image_path.read_bytes()
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_counts_and_order_in_the_set_itself(built: tuple[str, Path, Path]) -> None:
    name, folder, sets = built
    builder = benchmark_builder(name, sets)
    expected = directly(name, folder)
    assert list(builder.info.splits) == ["validation"]
    assert builder.info.splits["validation"].num_examples == len(expected)
    source = builder.as_data_source("validation")
    assert [example["question_id"].decode() for example in source] == [one.question_id for one in expected]
    assert Counter(example["task"].decode() for example in source) == Counter(one.task for one in expected)


def test_pixels_are_those_of_the_files(built: tuple[str, Path, Path]) -> None:
    """Also of images in shades of grey, which come back in three channels."""
    name, folder, sets = built
    for example, one in zip(
        benchmark_builder(name, sets).as_data_source("validation"), directly(name, folder), strict=True
    ):
        with Image.open(one.image_path) as image:
            np.testing.assert_array_equal(example["image"], np.asarray(image.convert("RGB")))
        assert example["image"].dtype == np.uint8


def test_found_by_tfds_under_its_name(built: tuple[str, Path, Path]) -> None:
    name, _, sets = built
    again = tfds.builder(name, data_dir=sets)
    assert again.is_prepared()
    assert again.info.features.keys() >= {"image", "question", "answers", "boxes", "scorer"}
    assert len(again.as_data_source("validation[:2]")) == 2


def test_only_images_of_chosen_questions_are_written(built: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, folder, sets = built
    last = directly(name, folder)[-1]
    (chosen,) = read_benchmark(name, tmp_path, data_dir=sets, choose=lambda questions: questions[-1:])
    assert without_place([chosen]) == without_place([last])
    assert [path.name for path in tmp_path.iterdir()] == [last.image_path.name]


def test_parts_of_a_split(built: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, folder, sets = built
    read = read_benchmark(name, tmp_path, "validation[1:3]", sets)
    assert without_place(read) == without_place(directly(name, folder)[1:3])
    with pytest.raises(DataError, match=f"{name} was prepared without split 'train'; it has validation"):
        read_benchmark(name, tmp_path, "train", sets)
    with pytest.raises(DataError, match=r"split 'validation.:ten.' of .* cannot be read: "):
        read_benchmark(name, tmp_path, "validation[:ten]", sets)


def test_a_split_of_many_shards_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_builder, "PER_SHARD", 5)
    folder = files.gqa_study_folder(tmp_path / "files")
    prepared = prepare("gqa_study", folder, tmp_path / "sets")
    assert len(list(prepared.folder.glob("*.array_record-*-of-00003"))) == 3
    read = read_benchmark("gqa_study", tmp_path / "images", data_dir=tmp_path / "sets")
    assert without_place(read) == without_place(directly("gqa_study", folder))


def test_all_splits_whose_files_are_there(tmp_path: Path) -> None:
    folder = files.vqa_v2_folder(tmp_path / "files")
    files.vqa_v2_folder(folder, "train2014")
    write_json(folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json", files.vqa_questions("test-dev2015"))
    files.vqa_images(folder / "test2015", "test2015")
    said: list[str] = []
    prepared = prepare("vqa_v2", folder, tmp_path / "sets", say=said.append)
    assert prepared == PreparedData(
        "vqa_v2",
        tmp_path / "sets" / "vqa_v2" / "1.0.0",
        {"train": 3, "validation": 3, "test_dev": 3},
        {"train": 443_757, "validation": 214_354, "test": 447_793},
    )
    assert said[:3] == [
        "train: 3 questions, of 443,757 published",
        "validation: 3 questions, of 214,354 published",
        "test_dev: 3 questions",
    ]
    read = read_benchmark("vqa_v2", tmp_path / "images", "test_dev", tmp_path / "sets")
    assert {(one.answer, one.answers, one.image_path.name[:14]) for one in read} == {("", (), "COCO_test2015_")}


def test_a_set_without_optional_fields(tmp_path: Path) -> None:
    """GQA without scene graphs, and a test split, which tells no answers and no types."""
    folder = files.gqa_folder(tmp_path / "files")
    (folder / "sceneGraphs" / "val_sceneGraphs.json").unlink()
    asked = {
        key: {"question": one["question"], "imageId": one["imageId"]} for key, one in files.gqa_questions().items()
    }
    write_json(folder / "questions1.2" / "test_balanced_questions.json", asked)
    prepare("gqa", folder, tmp_path / "sets")
    read = read_benchmark("gqa", tmp_path / "images", None, tmp_path / "sets")
    assert {(one.boxes, one.image_size) for one in read} == {((), None)}
    assert [one.answer for one in read] == [one["answer"] for one in files.gqa_questions().values()]
    test = read_benchmark("gqa", tmp_path / "images", "test", tmp_path / "sets")
    assert {(one.answer, one.task, one.question_type, one.true_option) for one in test} == {("", "gqa", None, None)}


def test_images_in_archives_left_zipped(tmp_path: Path) -> None:
    folder = files.vqa_v2_folder(tmp_path / "files")
    expected = {path.name: path.read_bytes() for path in (folder / "val2014").iterdir()}
    with zipfile.ZipFile(folder / "val2014.zip", "w") as archive:
        for path in sorted((folder / "val2014").iterdir()):
            archive.write(path, f"val2014/{path.name}")
            path.unlink()
    (folder / "val2014").rmdir()
    prepare("vqa_v2", folder, tmp_path / "sets")
    read = read_benchmark("vqa_v2", tmp_path / "images", data_dir=tmp_path / "sets")
    assert {one.image_path.name: one.image_path.read_bytes() for one in read} == expected


def refused(name: str, folder: Path, sets: Path) -> str:
    """The complaint, after which nothing is left of the attempt."""
    with pytest.raises(DataError) as caught:
        prepare(name, folder, sets)
    assert "\n" not in str(caught.value)
    assert not list(sets.rglob("*array_record*"))
    assert not list(sets.rglob("dataset_info.json"))
    return str(caught.value)


@pytest.mark.parametrize("name", ["vqa_v2", "ok_vqa"])
def test_annotations_of_another_subset_end_the_build(name: str, tmp_path: Path) -> None:
    folder = FOLDERS[name](tmp_path / "files")
    (path,) = folder.glob("*mscoco_val2014_annotations.json")
    write_json(path, files.vqa_annotations("train2014"))
    assert refused(name, folder, tmp_path / "sets").startswith(f"{path}: annotations of train2014, but the questions")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_files_that_are_missing_truncated_or_hold_nothing(name: str, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (
        refused(name, empty, sets)
        == f"{empty}: the folder is empty; --manual-dir names the folder of the downloaded files"
    )
    assert refused(name, tmp_path / "none", sets).startswith(f"{tmp_path / 'none'}: no such folder")
    folder = FOLDERS[name](tmp_path / "files")
    other = tmp_path / "other"
    files.write_image(other / "images" / "1.jpg", 1)
    assert refused(name, other, sets).startswith(f"{other}: none of the files of {name}; expected ")
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.csv")]):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - 30])
        assert str(path) in refused(name, folder, sets)
        path.unlink()
        if not path.name.endswith("sceneGraphs.json"):  # without which there are no boxes, but questions
            complaint = refused(name, folder, sets)
            assert path.name in complaint or "none of the files" in complaint or path.stem.split("_")[-1] in complaint
        path.write_bytes(content)
    prepare(name, folder, sets)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_image_ends_the_build(name: str, tmp_path: Path) -> None:
    folder = FOLDERS[name](tmp_path / "files")
    path = sorted(folder.rglob("*.jpg"))[-1]
    path.unlink()
    complaint = refused(name, folder, tmp_path / "sets")
    assert complaint == (
        f"{folder}: 1 of 2 images are missing, the first being {path.name}; expected them there, unpacked or as *.zip"
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_coco_as_it_is_named_since_2017(tmp_path: Path, zipped: bool) -> None:
    folder = files.vqa_v2_folder(tmp_path / "files")
    (folder / "val2017").mkdir()
    images = {}
    for path in sorted((folder / "val2014").iterdir()):
        renamed = folder / "val2017" / path.name.removeprefix("COCO_val2014_")
        images[renamed.stem[-6:]] = path.rename(renamed).read_bytes()
    if zipped:
        with zipfile.ZipFile(folder / "val2017.zip", "w") as archive:
            for path in sorted((folder / "val2017").iterdir()):
                archive.write(path, f"val2017/{path.name}")
                archive.writestr(f"__MACOSX/val2017/._{path.name}", b"\0\5\x16\7")
                path.unlink()
        (folder / "._val2017.zip").write_bytes(b"\0\5\x16\7")
    prepare("vqa_v2", folder, tmp_path / "sets")
    read = read_benchmark("vqa_v2", tmp_path / "images", data_dir=tmp_path / "sets")
    assert [one.image_path.read_bytes() for one in read] == [images[one.image_id] for one in read]


def test_hidden_files_and_images_of_other_formats_and_orientations(tmp_path: Path) -> None:
    folder = files.gqa_study_folder(tmp_path / "files")
    asked = [one.question_id for one in directly("gqa_study", folder)]
    for path in sorted(folder.glob("*.csv")):
        (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7\xb0")
        files.write_json(folder / "__MACOSX" / f"._{path.name}", {})
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted((folder / "images").glob("*.jpg")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".webp"), exif=exif)
        path.unlink()
    prepare("gqa_study", folder, tmp_path / "sets")
    read = read_benchmark("gqa_study", tmp_path / "images", data_dir=tmp_path / "sets")
    assert [one.question_id for one in read] == asked
    assert {one.image_path.suffix for one in read} == {".webp"}
    for one in read:
        assert one.image_path.read_bytes() == (folder / "images" / one.image_path.name).read_bytes()
        assert read_image(one.image_path).orientation == 6


def test_archives_that_are_cut_off_or_damaged(tmp_path: Path) -> None:
    folder = files.gqa_folder(tmp_path / "files")
    path = folder / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for image in sorted((folder / "images").iterdir()):
            archive.write(image, f"images/{image.name}")
            image.unlink()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused("gqa", folder, tmp_path / "sets").startswith(f"{path}: not a whole zip archive: ")
    path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    assert refused("gqa", folder, tmp_path / "sets").startswith(f"{path}: images/2354786.jpg cannot be read: ")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_disk_that_is_too_small_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    folder = files.vqa_v2_folder(tmp_path / "files")
    first, second = (path.stat().st_size for path in sorted((folder / "val2014").iterdir()))
    if zipped:
        with zipfile.ZipFile(folder / "val2014.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((folder / "val2014").iterdir()):
                archive.write(path, path.name)
                path.unlink()
    # The first image is asked about twice.
    needed = 2 * first + second
    room = {"free": needed - 1}
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(**room))
    complaint = refused("vqa_v2", folder, tmp_path / "sets")
    assert "vqa_v2" in complaint
    assert "0.0 GB are free" in complaint
    room["free"] = needed
    prepare("vqa_v2", folder, tmp_path / "sets")


def test_two_images_of_one_name(tmp_path: Path) -> None:
    folder = files.gqa_study_folder(tmp_path / "files")
    path = next(folder.glob("*_ChooseRel.csv"))
    for place in ("a", "b"):
        files.write_image(folder / "images" / place / "1.png", 1)
    path.write_text(path.read_text().replace("2354786", "a/1.png").replace("n578564", "b/1.png"))
    complaint = refused("gqa_study", folder, tmp_path / "sets")
    assert complaint.startswith(f"{folder / 'images' / 'b' / '1.png'}: another image of this name is ")


def test_one_of_the_studys_six_files_is_missing(tmp_path: Path) -> None:
    folder = files.gqa_study_folder(tmp_path / "files")
    next(folder.glob("*_LogicalObj.csv")).unlink()
    complaint = refused("gqa_study", folder, tmp_path / "sets")
    assert complaint == f"{folder}: no file *_LogicalObj.csv there or in a subfolder; all six belong to the set"


def test_a_set_is_built_once_unless_told_otherwise(tmp_path: Path) -> None:
    folder = files.gqa_study_folder(tmp_path / "files")
    prepare("gqa_study", folder, tmp_path / "sets")
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().replace("Is it", "Was it"))

    def texts() -> set[str]:
        read = read_benchmark("gqa_study", tmp_path / "images", data_dir=tmp_path / "sets")
        return {one.text.partition(" it")[0] for one in read}

    said: list[str] = []
    prepare("gqa_study", folder, tmp_path / "sets", say=said.append)
    assert said[0] == "gqa_study is prepared already; --rebuild builds it anew"
    assert texts() == {"Is"}
    prepare("gqa_study", folder, tmp_path / "sets", rebuild=True)
    assert texts() == {"Was"}


def test_a_set_that_is_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_benchmark("gqa", tmp_path / "images", data_dir=tmp_path / "sets")
    assert str(caught.value) == (
        f"gqa is not prepared in {tmp_path / 'sets' / 'gqa' / '1.0.0'}; "
        "run python -m xmflow_jax.prepare gqa --manual-dir DIR"
    )

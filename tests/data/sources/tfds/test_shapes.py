"""The `shapes` builder, built and read with no TensorFlow to be had."""

import io
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.sources.shapes.answerer import answer
from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.files import read_questions
from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.scenes import draw_generator, draw_scene, paint
from xmflow_jax.data.sources.shapes.source import shapes_questions
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.data.sources.tfds.records import read_tfds_questions
from xmflow_jax.data.sources.tfds.shapes import Shapes, ShapesConfig
from xmflow_jax.errors import DataError

SIZES = {"train": 12, "validation": 4, "test": 8}
CONFIG = ShapesConfig(name="tiny", seed=3, **SIZES)


class NoTensorFlow(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"{name} is not to be imported")


@pytest.fixture(name="builder", scope="module")
def fixture_builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes]:
    builder = Shapes(config=CONFIG, data_dir=tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        # Importing it fails, installed or not. Setting it to None would not do: TFDS only asks whether it is there.
        patch.delitem(sys.modules, "tensorflow", raising=False)
        patch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
        builder.download_and_prepare()
        yield builder


def by_task(questions: list[Question]) -> list[Question]:
    return sorted(questions, key=lambda question: STUDY_TASKS.index(question.task))


def test_splits_have_the_sizes_asked_for_and_share_nothing(builder: Shapes) -> None:
    ids: list[bytes] = []
    images: dict[str, set[bytes]] = {}
    for split, per_task in SIZES.items():
        source = builder.as_data_source(split)
        assert len(source) == builder.info.splits[split].num_examples == 6 * per_task
        assert Counter(example["task"].decode() for example in source) == dict.fromkeys(STUDY_TASKS, per_task)
        ids += [example["question_id"] for example in source]
        images[split] = {example["image"].tobytes() for example in source}
    assert len(set(ids)) == len(ids)
    assert sum(map(len, images.values())) == len(set().union(*images.values()))


def test_examples_hold_the_scene_and_the_truth_about_it(builder: Shapes) -> None:
    for split in SIZES:
        for example in builder.as_data_source(split):
            index = int(re.fullmatch(rf"{split}(\d+)", example["image_id"].decode())[1])  # type: ignore[index]
            scene = draw_scene(draw_generator(3, split, index))
            np.testing.assert_array_equal(example["image"], paint(scene))
            assert example["image"].dtype == np.uint8
            assert example["caption"].decode() == caption(scene)
            assert answer(example["question"].decode(), scene.things) == example["answer"].decode()
            boxes = {(thing.box.x, thing.box.y, thing.box.width, thing.box.height) for thing in scene.things}
            assert set(map(tuple, example["boxes"].tolist())) <= boxes
            assert len(example["boxes"]) in (1, 2)
            chosen = example["task"].startswith(b"Choose")
            assert example["options"]["true"] == (example["answer"] if chosen else b"")
            assert bool(example["options"]["false"]) == chosen


def test_records_are_those_of_the_question_files(builder: Shapes, tmp_path: Path) -> None:
    files, images = shapes_questions(tmp_path, "test", SIZES["test"], seed=3)
    from_files = read_questions(files, images)
    from_tfds = read_tfds_questions(builder, "test", tmp_path / "new" / "images")
    assert [replace(one, image_path=images / one.image_path.name) for one in by_task(from_tfds)] == from_files
    for one in from_tfds:
        assert one.image_path.read_bytes() == (images / one.image_path.name).read_bytes()
        with Image.open(io.BytesIO(one.image_path.read_bytes())) as image:
            assert image.size == one.image_size


def test_part_of_a_split_in_the_order_of_the_scenes(builder: Shapes, tmp_path: Path) -> None:
    whole = read_tfds_questions(builder, "train", tmp_path)
    assert read_tfds_questions(builder, "train[5:20]", tmp_path) == whole[5:20]
    ids = [question.question_id for question in whole]
    assert ids == sorted(ids)


def test_images_are_written_once(builder: Shapes, tmp_path: Path) -> None:
    first, *_ = read_tfds_questions(builder, "test", tmp_path)
    content = first.image_path.read_bytes()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    first.image_path.write_bytes(content[:50])
    read_tfds_questions(builder, "test", tmp_path)
    assert first.image_path.read_bytes() == content
    assert {path for path in tmp_path.iterdir() if path.stat().st_mtime_ns != times[path]} == {first.image_path}


def test_tensorflow_was_not_there(builder: Shapes) -> None:
    with pytest.raises(ModuleNotFoundError, match="tensorflow is not to be imported"):
        import_module("tensorflow")
    assert builder.is_prepared()


def test_registered_and_found_again_without_building(builder: Shapes) -> None:
    again = tfds.builder("shapes", config=CONFIG, data_dir=builder.data_dir.removesuffix("shapes/tiny/1.0.0"))
    assert again.is_prepared()
    assert len(again.as_data_source("test")) == 6 * SIZES["test"]


def test_a_smaller_split_is_the_beginning_of_a_larger_one(builder: Shapes, tmp_path: Path) -> None:
    smaller = Shapes(config=ShapesConfig(name="tinier", seed=3, train=5, validation=1, test=1), data_dir=tmp_path)
    smaller.download_and_prepare()
    images = tmp_path / "images"
    whole = by_task(read_tfds_questions(builder, "train", images))
    part = by_task(read_tfds_questions(smaller, "train", images))
    for task in STUDY_TASKS:
        assert [one for one in part if one.task == task] == [one for one in whole if one.task == task][:5]


def test_what_cannot_be_read_is_named(builder: Shapes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'testing' of shapes/tiny/1.0.0 cannot be read: Unknown split"):
        read_tfds_questions(builder, "testing", tmp_path)
    unbuilt = Shapes(data_dir=tmp_path)
    with pytest.raises(DataError, match=r"shapes/default/1.0.0 is not built in .*; call download_and_prepare first"):
        read_tfds_questions(unbuilt, "test", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: images cannot be written: "):
        read_tfds_questions(builder, "test", tmp_path / "file")

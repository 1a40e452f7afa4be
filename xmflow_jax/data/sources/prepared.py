"""Benchmarks by name: prepared once by `python -m xmflow_jax.prepare`, read wherever a data set is named.

They lie as TensorFlow Datasets keeps them, in its data directory; TFDS is imported when one is built or read.
"""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xmflow_jax.data.question import Question
from xmflow_jax.errors import DataError, OptionError
from xmflow_jax.machine.home import expanded

if TYPE_CHECKING:
    from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder

# The builder's class by the data set's name, which is that of its module too.
_BUILDERS: Final = {"vqa_v2": "VqaV2", "ok_vqa": "OkVqa", "gqa": "Gqa", "gqa_study": "GqaStudy"}
BENCHMARKS: Final = tuple(_BUILDERS)

DEFAULT_SPLIT: Final = "validation"

# The packages of the extra `prepare`, without which everything but a prepared benchmark works.
_EXTRA: Final = ("tensorflow_datasets", "array_record", "importlib_resources")


def benchmark_builder(name: str, data_dir: Path | None = None) -> "QuestionBuilder":
    """The builder of one of `BENCHMARKS`.

    Args:
        data_dir: where built data sets lie; None for TFDS's own choice, `~/tensorflow_datasets` or what the
            environment variable `TFDS_DATA_DIR` names.

    Raises:
        OptionError: a package of the extra `prepare` is not installed.
    """
    if missing := [package for package in _EXTRA if find_spec(package) is None]:
        raise OptionError(
            f"the benchmark {name!r} needs {', '.join(missing)}, not installed here; install this program with its "
            "extra 'prepare': pip install '.[prepare]' in its folder"
        )
    builder = getattr(import_module(f"xmflow_jax.data.sources.tfds.{name}"), _BUILDERS[name])
    return builder(data_dir=None if data_dir is None else os.fspath(expanded(data_dir)))


def is_prepared(builder: "QuestionBuilder") -> bool:
    """Whether it is built; TFDS's own method logs a warning where it is not."""
    return (Path(builder.data_dir) / "dataset_info.json").is_file()


def read_benchmark(
    name: str,
    images: Path,
    split: str | None = None,
    data_dir: Path | None = None,
    choose: Callable[[Sequence[Question]], Sequence[Question]] = lambda questions: questions,
) -> list[Question]:
    """The questions of a prepared benchmark.

    Args:
        name: one of `BENCHMARKS`.
        images: a folder, made if need be, for the images of the chosen questions.
        split: as TFDS writes it: `testdev`, `validation[:100]`; by default `validation`.
        data_dir: as in `benchmark_builder`.
        choose: picks the questions to return.

    Raises:
        OptionError: a package of the extra `prepare` is not installed.
        DataError: the data set is not prepared there, has no such split, or an image cannot be written.
    """
    builder = benchmark_builder(name, data_dir)
    if not is_prepared(builder):
        raise DataError(
            f"{name} is not prepared in {builder.data_dir}; run python -m xmflow_jax.prepare {name} --manual-dir DIR"
        )
    wanted = split or DEFAULT_SPLIT
    if wanted.partition("[")[0] not in builder.info.splits:
        raise DataError(f"{name} was prepared without split {wanted!r}; it has {', '.join(builder.info.splits)}")
    from xmflow_jax.data.sources.tfds.records import read_tfds_questions

    return read_tfds_questions(builder, wanted, images, choose)

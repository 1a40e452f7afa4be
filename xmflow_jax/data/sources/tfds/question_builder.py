"""What the benchmarks' builders share: features, file format, images as they are in their files, a progress bar."""

import math
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import tensorflow_datasets as tfds
from tqdm import tqdm

from xmflow_jax.data.question import Question
from xmflow_jax.data.sources.tfds.manual_files import ImageFiles
from xmflow_jax.data.sources.tfds.records import FILE_FORMAT, benchmark_features, example_of
from xmflow_jax.errors import DataError

# Questions in one file: some hundred megabytes with COCO's or GQA's images.
PER_SHARD: Final = 4096

Examples = Iterator[tuple[int, dict[str, Any]]]


class QuestionBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A benchmark whose files are downloaded by hand; each question is stored with its image, in the files' order.

    Shard by shard, since TFDS's `GeneratorBasedBuilder` needs TensorFlow as soon as a split exceeds a gigabyte.

    Attributes:
        PUBLISHED: how many questions each split has as its authors publish it.
        show_progress: whether building shows a bar for each split.
    """

    VERSION = tfds.core.Version("1.0.0")
    PUBLISHED: ClassVar[Mapping[str, int]] = {}
    show_progress = False

    def __init__(self, *, file_format: str = FILE_FORMAT, **settings: Any) -> None:
        """As any builder, but for the file format, since TFDS's own needs TensorFlow."""
        super().__init__(file_format=file_format, **settings)

    @abstractmethod
    def read_splits(self, folder: Path) -> dict[str, list[Question]]:
        """The questions of those splits whose files lie in the folder; images need not exist yet.

        Raises:
            DataError: a file is faulty or does not fit another, or a needed one is missing.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(benchmark_features()),
            supervised_keys=None,
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, downloads: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Examples]]]:
        folder = Path(downloads.manual_dir)
        splits = self.read_splits(folder)
        if not splits:
            raise DataError(f"{folder}: none of the files of {self.name}; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        # Before the first example is written: a missing image, or a disk too small, ends the build at once.
        images = ImageFiles(folder, [one.image_path for questions in splits.values() for one in questions])
        needed = images.bytes_of(one.image_path for questions in splits.values() for one in questions)
        free = shutil.disk_usage(self.data_dir).free
        if needed > free:
            raise DataError(
                f"{self.data_dir} needs {needed / 1e9:.1f} GB, each question being stored with its image, but "
                f"{free / 1e9:.1f} GB are free"
            )
        shards: dict[str, list[Callable[[], Examples]]] = {}
        for split, questions in splits.items():
            examples = self._examples(split, questions, images)
            shards[split] = [partial(islice, examples, PER_SHARD)] * math.ceil(len(questions) / PER_SHARD)
        return shards

    def _examples(self, split: str, questions: list[Question], images: ImageFiles) -> Examples:
        with images, tqdm(desc=split, total=len(questions), unit="question", disable=not self.show_progress) as bar:
            for number, question in enumerate(questions):
                example = example_of(question, images.read(question.image_path))
                bar.update()
                yield number, example

"""`python -m xmflow_jax.prepare NAME --manual-dir DIR`: a downloaded benchmark as a data set that reads by its name.

The files are those that the benchmark's authors publish, unpacked or (the images) still in their archives. Afterwards
`--data NAME` stands for the data set. Nothing is downloaded.
"""

if __name__ == "__main__":
    from xmflow_jax.cli.early import end_quietly

    end_quietly()

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmflow_jax.cli.frame import run_command, say
from xmflow_jax.cli.sweep_arguments import Parser
from xmflow_jax.data.sources.prepared import BENCHMARKS, benchmark_builder, is_prepared
from xmflow_jax.errors import DataError, OptionError
from xmflow_jax.machine.home import expanded

if TYPE_CHECKING:  # TFDS takes seconds to import.
    from xmflow_jax.data.sources.tfds.question_builder import QuestionBuilder


@dataclass(frozen=True)
class PreparedData:
    """Where a data set lies, how many questions each of its splits has, and how many its authors publish."""

    name: str
    folder: Path
    questions: dict[str, int]
    published: dict[str, int]


def prepare(
    name: str,
    manual_dir: str | Path,
    out: str | Path | None = None,
    rebuild: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> PreparedData:
    """Build a benchmark; it appears whole or not at all. One that is built already is left as it is.

    Args:
        name: one of `xmflow_jax.data.sources.prepared.BENCHMARKS`.
        manual_dir: the folder of the downloaded files, or of the folders that they unpack to.
        out: where data sets lie, by default where TFDS keeps them.
        rebuild: build it anew where it is built already.
        progress: show a bar for each split on standard error.
        say: called with each line of news.

    Raises:
        OptionError: another name, or a package of the extra `prepare` is not installed.
        DataError: a file is missing, truncated, or does not fit the others, or the data set cannot be written.
    """
    if name not in BENCHMARKS:
        raise OptionError(f"there is no benchmark {name!r} to prepare; expected one of {', '.join(BENCHMARKS)}")
    source = expanded(manual_dir)
    try:
        there, empty = source.is_dir(), source.is_dir() and not any(source.iterdir())
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}") from None
    if not there:
        raise DataError(f"{source}: no such folder; --manual-dir names the folder of the downloaded files")
    if empty:
        raise DataError(f"{source}: the folder is empty; --manual-dir names the folder of the downloaded files")
    builder = benchmark_builder(name, None if out is None else Path(out))
    if is_prepared(builder) and not rebuild:
        say(f"{name} is prepared already; --rebuild builds it anew")
    else:
        _build(builder, source, rebuild, progress)
    questions = {split: info.num_examples for split, info in builder.info.splits.items()}
    for split, count in questions.items():
        published = builder.PUBLISHED.get(split, count)
        say(f"{split}: {count:,} questions" + (f", of {published:,} published" if count != published else ""))
    say(f"{name} lies in {builder.data_dir}")
    return PreparedData(name, Path(builder.data_dir), questions, dict(builder.PUBLISHED))


def _build(builder: "QuestionBuilder", source: Path, rebuild: bool, progress: bool) -> None:
    import tensorflow_datasets as tfds

    mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS if rebuild else tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
    settings = tfds.download.DownloadConfig(manual_dir=os.fspath(source), download_mode=mode, try_download_gcs=False)
    builder.show_progress = progress
    tfds.display_progress_bar(progress)
    try:
        # TFDS prints that it downloads, which it does not.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=settings)
    except (OSError, RuntimeError) as error:  # the latter is how ArrayRecord says that a write failed
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{builder.data_dir} cannot be written: {reason}") from error
    finally:
        tfds.display_progress_bar(True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit codes: 0 done, 2 bad input (one line on standard error), 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        parser = Parser(prog="python -m xmflow_jax.prepare", description=(__doc__ or "").split("\n\n")[1])
        parser.add_argument("name", help=f"the benchmark: {', '.join(BENCHMARKS)}")
        parser.add_argument("--manual-dir", type=Path, required=True, help="folder of the downloaded files")
        parser.add_argument("--out", type=Path, help="where data sets lie (default: ~/tensorflow_datasets)")
        parser.add_argument("--rebuild", action="store_true", help="build it anew where it is built already")
        given = parser.parse_args(arguments)
        prepare(given.name, given.manual_dir, given.out, given.rebuild, progress=True, say=say)

    return run_command("prepare", arguments, work, after_interrupt="nothing was built")


if __name__ == "__main__":
    sys.exit(main())

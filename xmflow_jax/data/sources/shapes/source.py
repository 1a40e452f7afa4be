"""The `shapes` data set as question files and images on disk, for whatever reads the first study's files."""

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from PIL import Image

from xmflow_jax.data.question import Box
from xmflow_jax.data.sources.shapes.captions import caption
from xmflow_jax.data.sources.shapes.questions import Asked, ask
from xmflow_jax.data.sources.shapes.scenes import IMAGE_SIZE, SPLITS, Scene, draw_generator, draw_scene, paint
from xmflow_jax.data.sources.study_csv import STUDY_TASKS, TWO_OBJECTS, object_cells, objects_of, write_study_csv
from xmflow_jax.errors import DataError, OptionError

_IMAGES: Final = "images"
_MANIFEST: Final = "shapes.json"  # the size of every other file


@dataclass(frozen=True)
class DrawnQuestion:
    """A question about a drawn scene. Its ids tell split, scene and task, however many questions are drawn."""

    question_id: str
    image_id: str
    scene: Scene
    asked: Asked

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The objects asked about that are there, in the order of `asked.things`."""
        return tuple(self.scene.things[index].box for index in self.asked.things)


def drawn_questions(
    split: str, per_task: int, seed: int = 0, tasks: Sequence[str] = STUDY_TASKS
) -> Iterator[DrawnQuestion]:
    """Questions in the order of their scenes, at most one of each task about a scene, until each task has `per_task`.

    What is asked about a scene follows from (seed, split, index) alone: neither from `tasks` nor from `per_task`.

    Raises:
        OptionError: an unknown split or task, a task named twice or none at all, `per_task` below 1, `seed` below 0.
    """
    _check(split, per_task, seed, tasks)
    return _draw(split, per_task, seed, tasks)


def _check(split: str, per_task: int, seed: int, tasks: Sequence[str]) -> None:
    if split not in SPLITS:
        raise OptionError(f"split {split!r} is none of {', '.join(SPLITS)}")
    if not tasks or len(set(tasks)) < len(tasks) or not set(tasks) <= set(STUDY_TASKS):
        raise OptionError(f"tasks {', '.join(tasks) or 'none'!r}; expected different ones of {', '.join(STUDY_TASKS)}")
    if per_task < 1 or seed < 0:
        raise OptionError(f"{per_task} questions per task of seed {seed}; expected 1 or more, and a seed of 0 or more")


def _draw(split: str, per_task: int, seed: int, tasks: Sequence[str]) -> Iterator[DrawnQuestion]:
    missing, index = dict.fromkeys(tasks, per_task), 0
    while any(missing.values()):
        generator = draw_generator(seed, split, index)
        scene = draw_scene(generator)
        # All six are asked whatever is wanted, since each takes random numbers from the next.
        for number, asked in enumerate([ask(scene, task, generator) for task in STUDY_TASKS]):
            if asked is not None and missing.get(asked.task):
                missing[asked.task] -= 1
                # Leading zeros, as GQA's ids have: reading them as numbers would lose them.
                question_id = f"0{SPLITS.index(split)}{index:06d}{number}"
                yield DrawnQuestion(question_id, f"{split}{index:06d}", scene, asked)
        index += 1


def shapes_questions(
    folder: Path, split: str = "test", per_task: int = 200, seed: int = 0, tasks: Sequence[str] = STUDY_TASKS
) -> tuple[list[Path], Path]:
    """Writes a split's question files in the first study's columns, and its scenes as PNG.

    They lie in a folder of their own within `folder`, which appears whole or not at all, and is used as it is where
    it is there already. Files of all six tasks are written, whichever are wanted.

    Args:
        folder: made if need be.
        split: one of `SPLITS`.
        per_task: questions in each file.
        seed: the same seed writes the same bytes (with one version of Pillow).
        tasks: the tasks whose files to return, in this order.

    Returns:
        The question files and the folder of their images.

    Raises:
        OptionError: as in `drawn_questions`.
        DataError: the files cannot be written, or something else has their folder's name.
    """
    _check(split, per_task, seed, tasks)
    target = folder / f"shapes-{split}-{per_task}-seed{seed}"
    try:
        if not _is_complete(target):
            folder.mkdir(parents=True, exist_ok=True)
            # On the target's own file system, so that renaming is atomic.
            with TemporaryDirectory(dir=folder, prefix=f".{target.name}.") as temporary:
                partial = Path(temporary) / target.name
                _write(partial, list(drawn_questions(split, per_task, seed)))
                _put_in_place(partial, target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}") from error
    return [target / _file_of(task) for task in tasks], target / _IMAGES


def png_of(scene: Scene) -> bytes:
    """The scene's pixels as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(paint(scene)).save(content, "png")
    return content.getvalue()


def _write(folder: Path, questions: Sequence[DrawnQuestion]) -> None:
    images = folder / _IMAGES
    images.mkdir(parents=True)
    for image_id, scene in {question.image_id: question.scene for question in questions}.items():
        (images / f"{image_id}.png").write_bytes(png_of(scene))
    for task in STUDY_TASKS:
        write_study_csv(folder / _file_of(task), task, [_row(one) for one in questions if one.asked.task == task])
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    (folder / _MANIFEST).write_text(json.dumps(sizes, indent=0), encoding="utf-8")


def _file_of(task: str) -> str:
    return f"shapes_{task}.csv"


def _is_complete(folder: Path) -> bool:
    """Whether every file that was written is there in its full size."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _put_in_place(partial: Path, target: Path) -> None:
    if target.exists() and not _is_complete(target):
        if not (target / _MANIFEST).is_file():
            raise DataError(f"{target} exists and is not what this program wrote there; move it away")
        shutil.rmtree(target)
    try:
        partial.rename(target)
    except OSError:
        if not _is_complete(target):  # by another process, which was faster
            raise


def _row(question: DrawnQuestion) -> dict[str, str]:
    asked = question.asked
    row = {"question_id": question.question_id, "img_id": question.image_id}
    row |= {"question": asked.text, "answer": asked.answer, "captions": caption(question.scene)}
    row |= {"image_w": str(IMAGE_SIZE), "image_h": str(IMAGE_SIZE)}
    if asked.true_option is not None and asked.false_option is not None:
        row |= {"true option": asked.true_option, "false option": asked.false_option}
    prefixes = objects_of(asked.task)
    names = _two_names(question) if prefixes == TWO_OBJECTS else (asked.name,)
    boxes = (*question.boxes, None)  # the second object of a question may be absent
    for prefix, name, box in zip(prefixes, names, boxes, strict=False):
        row |= object_cells(prefix, name, box)
    return row


def _two_names(question: DrawnQuestion) -> tuple[str, str]:
    """What the question calls its two objects, the second of which need not be there."""
    asked, scene = question.asked, question.scene
    if asked.task == "CompareAttr":
        second = scene.things[asked.things[1]].shape if scene.called_by == "shape" else "object"
    elif len(asked.things) == 2:
        second = scene.things[asked.things[1]].words
    else:
        expressions = asked.text.removeprefix("Is there a ").removesuffix("?").split(" and a ")
        second = next(name for name in expressions if name != asked.name)
    return asked.name, second

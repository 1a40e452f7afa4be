"""Question files and images with anything in them: they are read, or refused in one line; they never change.

`python -m pytest tests/commands/test_fuzzed_questions.py --hypothesis-profile fuzz` tries more, at random.
"""

import copy
import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.commands.refusal import content
from tests.data.pictures import MODES, icc_profile, picture
from xmflow_jax import sweep
from xmflow_jax.data.image_files import read_image
from xmflow_jax.data.prompt import prepare_question
from xmflow_jax.data.sources.files import questions_digest, read_questions
from xmflow_jax.data.templates import resolve_template
from xmflow_jax.errors import XmflowError
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.study.foreseen import Reading, foresee
from xmflow_jax.study.shipped import write_random_tiny

pytestmark = pytest.mark.usefixtures("unprepared_process")

FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("fuzz", derandomize=False, max_examples=2000, **FUZZ)


def tries(number: int) -> settings:
    """So many examples, the same every time; those of the profile `fuzz` where it is loaded."""
    if settings.get_current_profile_name() == "fuzz":
        return settings()
    return settings(max_examples=number, derandomize=True, **FUZZ)


@contextmanager
def refusals() -> Iterator[None]:
    """Within this, input may be refused, in one line."""
    told = ["a line"]
    with suppress(XmflowError):
        try:
            yield
        except XmflowError as error:
            told = str(error).splitlines()
            raise
    assert len(told) == 1


# Changes of a file's bytes: (where, as a share of its length; what is put there; how many bytes go).
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=8), st.sampled_from([0, 0, 1, 1, 2, 4, 100, 10**6])), max_size=6
)


def changed(data: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    for share, put, gone in changes:
        place = int(share * len(data))
        data = data[:place] + put + data[place + gone :]
    return data


FORMATS = (
    *("AVIF", "BMP", "DDS", "GIF", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)


def encoded_images() -> list[bytes]:
    """Pictures of every format that reads back, with metadata of every kind."""
    Image.init()
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = icc_profile(b"RGB ", 2.2, np.eye(3) / 3)
    found = []
    for name in FORMATS:
        for mode in MODES:
            data = io.BytesIO()
            try:
                picture(mode).save(data, name, exif=exif, icc_profile=profile)
            except (OSError, ValueError, KeyError):
                continue
            found.append(data.getvalue())
    return found


IMAGES = encoded_images()
CHANGED_IMAGES = st.tuples(st.sampled_from(IMAGES), CHANGES).map(lambda both: changed(*both))
BYTES = st.one_of(st.binary(max_size=200), CHANGED_IMAGES)


@tries(300)
@given(data=BYTES)
def test_any_bytes_are_an_image_or_set_aside(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)  # a changed size would take seconds each
        with refusals():
            found = read_image(file)
            assert found.picture.mode == "RGB"
            assert found.size[0] * found.size[1] <= 2 * 10**5
    assert file.read_bytes() == data


WORDS = (
    *("red", "Red ", "Is it red?", "plain", "plain.png", "-", "", " ", "1", "12.0", "-3", "1e308", "nan", "inf", "1_0"),
    *("\u00b2", "<image>", "../plain", "/", "x" * 400, "\0", "\ud800", "\u00e9", "e\u0301", "\u202e", "a\nb", '"'),
    *("COCO_val2014_000000262148", "9" * 5000, "True", "{question}", "<s>", "</s>", "\u2581", "\u0120", "\x1b[31m"),
)
CELLS = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
COLUMNS = [
    *("question_id", "img_id", "question", "answer", "true option", "false option", "central object name"),
    *(f"central object {side}" for side in "xywh"),
    *("image_w", "image_h"),
]


NUMBERS = st.sampled_from(["0", "1", "12.0", "-3", "30", "160", "1e308", "1e18", "9" * 5000, "-", "", "nan", "120"])


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    columns = draw(st.sampled_from([COLUMNS, COLUMNS[:4], COLUMNS[:7], [*COLUMNS, ""]]))
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    writer.writerow(columns)
    for number in range(draw(st.integers(0, 4))):
        sound = {"question_id": str(number), "img_id": "plain", "question": "Is the circle red?", "answer": "red"}
        kept = sound.keys() if draw(st.booleans()) else draw(st.sets(st.sampled_from(list(sound))))
        numbers = draw(st.booleans())
        writer.writerow(
            [
                sound[column] if column in kept else draw(NUMBERS if numbers and column in COLUMNS[7:] else CELLS)
                for column in columns
            ]
        )
    data = table.getvalue().encode("utf-8", "surrogatepass")
    return changed(data, draw(CHANGES)) if draw(st.integers(0, 3)) == 0 else data


VQA = {
    "questions": [{"question_id": 1, "image_id": 262148, "question": "Is it red?"}],
    "annotations": [{"question_id": 1, "answers": [{"answer": "red"}], "multiple_choice_answer": "red"}],
    "data_subtype": "val2014",
}
GQA = {
    "1": {
        "question": "Is it red?",
        "imageId": "plain",
        "answer": "yes",
        "types": {"detailed": "chooseAttr", "semantic": "attr", "structural": "choose"},
        "semantic": [{"operation": "select", "argument": "jar (12)", "dependencies": []}],
    }
}
GRAPHS = {"plain": {"width": 160, "height": 120, "objects": {"12": {"x": 1, "y": 2, "w": 3, "h": 4}}}}
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CELLS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CELLS, inner, max_size=3)),
    max_leaves=4,
)


@st.composite
def json_documents(draw: st.DrawFn, sound: Any) -> bytes:
    """A sound file with some of its values replaced or taken away."""
    document = copy.deepcopy(sound)
    for _ in range(draw(st.integers(0, 3))):
        holder = document
        while isinstance(holder, dict | list) and holder:
            key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
            if not isinstance(holder[key], dict | list) or draw(st.booleans()):
                if draw(st.booleans()) and isinstance(holder, dict):
                    del holder[key]
                else:
                    holder[key] = draw(VALUES)
                break
            holder = holder[key]
    data = json.dumps(document).encode()
    return changed(data, draw(CHANGES)) if draw(st.integers(0, 4)) == 0 else data


# Question file's name, its content, and those of the files that go with it.
FILES = st.one_of(
    st.tuples(st.just("q.csv"), csv_files(), st.none(), st.none()),
    st.tuples(st.just("q.json"), json_documents(VQA), st.one_of(st.none(), json_documents(VQA)), st.none()),
    st.tuples(st.just("q.json"), json_documents(GQA), st.none(), st.one_of(st.none(), json_documents(GRAPHS))),
)
Files = tuple[str, bytes, bytes | None, bytes | None]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_random_tiny(folder / "model", layers=1)
    (folder / "images").mkdir()
    for name in ("plain.png", "000000262148.jpg", "\u00e9.png"):
        Image.new("RGB", (160, 120), (250, 0, 0)).save(folder / "images" / name)
    return folder


@pytest.fixture(name="reading", scope="module")
def fixture_reading(folder: Path) -> Reading:
    checkpoint = read_checkpoint(folder / "model")
    return Reading(checkpoint.processing(), resolve_template("plain"), checkpoint.anatomy, 4)


def write_files(folder: Path, files: Files) -> tuple[Path, Path | None, Path | None]:
    for old in ("q.csv", "q.json", "a.json", "g.json"):
        (folder / old).unlink(missing_ok=True)
    name, *contents = files
    paths = [folder / name, folder / "a.json", folder / "g.json"]
    for path, data in zip(paths, contents, strict=True):
        if data is not None:
            path.write_bytes(data)
    return paths[0], *(path if path.exists() else None for path in paths[1:])


@tries(300)
@given(files=FILES)
def test_any_question_file_is_read_or_refused(folder: Path, reading: Reading, files: Files) -> None:
    path, annotations, graphs = write_files(folder, files)
    before = content(folder)
    with refusals():
        questions = read_questions([path], folder / "images", annotations, graphs)
        questions_digest(questions)
        foresee(questions, set(), reading, lambda one: one.scorer)
        for one in questions:
            json.dumps([vars(one)], ensure_ascii=False, default=str).encode()  # tables hold Unicode text alone
            with refusals():
                prepare_question(one, reading.processing, resolve_template("plain"))
    assert content(folder) == before


@tries(15)
@given(files=FILES, image=CHANGED_IMAGES)
def test_the_command_ends_with_0_or_2(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, files: Files, image: bytes
) -> None:
    path, annotations, graphs = write_files(folder, files)
    (folder / "images" / "plain.png").write_bytes(image)
    before = content(folder)
    out = tmp_path_factory.mktemp("out")
    named = ["--model", folder / "model", "--data", path, "--images", folder / "images", "--out", out / "run"]
    named += [] if annotations is None else ["--annotations", annotations]
    named += [] if graphs is None else ["--scene-graphs", graphs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)
        errors = io.StringIO()
        patch.setattr("sys.stderr", errors)
        code = sweep.main([*map(str, named), "--preview", "1"])
    assert code in (0, 2)
    assert len(errors.getvalue().splitlines()) == (1 if code == 2 else 0)
    assert content(folder) == before

"""Questions and images as people have them, through the commands: the same scene in many files is the same to a model.

Each kind of fault that was reported has its case here, with others of its kind.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.commands.refusal import Refusal
from xmflow_jax import evaluate, evaluate_model, run_sweep, sweep
from xmflow_jax.data.question import Question
from xmflow_jax.errors import DataError
from xmflow_jax.run.folder import read_rows
from xmflow_jax.study.shipped import write_random_tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unprepared_process")

ASKED = "Is the circle red or blue?"
HEADER = "question_id,img_id,question,answer"
QUICK = ["--select", "all", "--first-token-only", "--no-self-check", "--pathways", "Last->Last"]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and one scene of 160 x 120 pixels in files that a person sees alike."""
    folder = tmp_path_factory.mktemp("given")
    write_random_tiny(folder / "model", layers=2)
    images = folder / "images"
    images.mkdir()
    pixels = np.full((120, 160, 3), 255, np.uint8)
    pixels[30:80, 20:70] = (255, 0, 0)
    pixels[40:80, 100:140] = (0, 0, 255)
    scene = Image.fromarray(pixels)
    scene.save(images / "plain.png")
    scene.save(images / "photo.webp", lossless=True)
    scene.save(images / "SCAN.TIF")
    scene.convert("P", palette=Image.Palette.ADAPTIVE, colors=8).save(images / "drawn.gif")
    for orientation, turn in {3: "ROTATE_180", 6: "ROTATE_90", 7: "TRANSVERSE"}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        scene.transpose(Image.Transpose[turn]).save(images / f"phone{orientation}.png", exif=exif)
    # Cut out: whatever colour lies under transparent pixels is not seen.
    cut = np.dstack([pixels, np.where((pixels == 255).all(-1), 0, 255).astype(np.uint8)])
    cut[cut[..., 3] == 0] = (10, 200, 30, 0)
    Image.fromarray(cut).save(images / "cut.png")
    scene.convert("CMYK").save(images / "printed.tif")
    Image.fromarray(255 - pixels).save(images / "other.png")
    return folder


PROMPT = "prompt vicuna_v1: the usual one of its family; its files name none; --template gives another"


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that a command said behind the one of the prompt."""
    prompt, *lines = capsys.readouterr().out.splitlines()
    assert prompt == PROMPT
    return lines


ALIKE = ["plain", "photo.webp", "SCAN", "drawn", "phone3", "phone6.png", "phone7", "cut", "printed.tif"]


def write_questions(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def arguments(folder: Path, data: Path, out: Path, *more: str) -> list[str]:
    named = ["--model", folder / "model", "--data", data, "--images", folder / "images", "--out", out]
    return [*map(str, named), *more]


@pytest.fixture(name="rows", scope="module")
def fixture_rows(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    data = tmp_path_factory.mktemp("alike")
    named = [f"{number:02d},{image},{ASKED},red" for number, image in enumerate([*ALIKE, "other"])]
    write_questions(data / "alike.csv", *named)
    assert sweep.main(arguments(folder, data / "alike.csv", data / "out", *QUICK)) == 0
    return read_rows(data / "out")


@pytest.mark.parametrize("image", ALIKE)
def test_images_that_a_person_sees_alike_are_one_to_the_model(rows: pd.DataFrame, image: str) -> None:
    found = rows.drop_duplicates("image_id").set_index("image_id")["base_prob"]
    assert len(found) == len(ALIKE) + 1
    assert found[image] == pytest.approx(found["plain"], rel=1e-6)
    assert found["other"] != pytest.approx(found["plain"], rel=1e-4)


def test_coco_named_as_since_2017(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "coco"
    (images / "val2017").mkdir(parents=True)
    (images / "val2017" / "000000262148.jpg").write_bytes((folder / "images" / "plain.png").read_bytes())
    asked = {"questions": [{"question_id": 1, "image_id": 262148, "question": ASKED}], "data_subtype": "val2014"}
    given = {"annotations": [{"question_id": 1, "image_id": 262148, "answers": [{"answer": "red"}] * 10}]}
    (tmp_path / "q.json").write_text(json.dumps(asked))
    (tmp_path / "a.json").write_text(json.dumps(given))
    more = ["--images", str(images), "--annotations", str(tmp_path / "a.json")]
    assert sweep.main(arguments(folder, tmp_path / "q.json", tmp_path / "out", *QUICK, *more, "--dry-run")) == 0
    line = told(capsys)[-1]
    assert line.startswith("1 question of 1 task, 1 pathway, 2 layers, 2 knockouts to run; ")
    assert "missing" not in line


def test_a_folder_from_a_mac(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "from a mac"
    data.mkdir()
    write_questions(data / "a_ChooseAttr.csv", f"1,plain,{ASKED},red")
    (data / "._a_ChooseAttr.csv").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xb0")
    (data / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert sweep.main(arguments(folder, data, tmp_path / "out", *QUICK, "--dry-run")) == 0
    assert told(capsys)[0].startswith("1 question of 1 task")


@pytest.fixture(name="gone")
def fixture_gone(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "gone.csv", *(f"{number},photo{number}.webp,{ASKED},red" for number in range(3)))


@pytest.mark.parametrize("command", ["sweep", "evaluate"])
def test_where_no_image_is_found_there_is_no_success(
    folder: Path, gone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "runs").mkdir()
    first = folder / "images" / "photo0.webp"
    right = f"no image of 3 questions is there; the first looked for is {first}"
    main = {"sweep": sweep.main, "evaluate": evaluate.main}[command]
    for more in [[], ["--dry-run"], ["--preview"]] if command == "sweep" else [[], ["--blank-images"]]:
        line = Refusal(capsys, tmp_path, main)(arguments(folder, gone, tmp_path / "runs" / "out", *more))
        assert line == right
    own = [Question("1", "a", tmp_path / "a.png", ASKED, "red", "Own")]
    run = {"sweep": run_sweep, "evaluate": evaluate_model}[command]
    with pytest.raises(DataError, match=r"no image of 1 question is there; the first looked for is .*a\.png"):
        run(model=folder / "model", data=own, out=tmp_path / "runs" / "out")


@pytest.mark.parametrize("command", ["sweep", "evaluate"])
def test_where_some_are_missing_the_line_before_the_work_counts_them(
    folder: Path, gone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with gone.open("a") as file:
        file.write(f"3,plain,{ASKED},Red\n4,plain,Is <image> red?,yes\n")
    if command == "sweep":
        assert sweep.main(arguments(folder, gone, tmp_path / "out", *QUICK, "--dry-run")) == 0
        before, line = told(capsys)
        assert line.startswith("5 questions of 1 task, 1 pathway, 2 layers, 2 knockouts to run; 0 questions done; ")
    else:
        assert evaluate.main(arguments(folder, gone, tmp_path / "out", "--answer-length", "1")) == 0
        before, line, *rest = told(capsys)
        assert line.startswith("5 questions, 0 of them done; ")
        assert "1 question answered, 4 set aside" in rest
    assert before.startswith(f"{gone}: no answer can match 1 of 5 gold answers: the rule 'exact' ")
    assert line.endswith(
        f"3 images missing (3 questions; the first is {folder / 'images' / 'photo0.webp'}); "
        "1 prompt set aside (the first: the question's text 'Is <image> red?' holds <image>); "
        "1 gold answer that cannot match"
    )


CAPITAL = {"Red": "capital", "yes ": "space", "RED": "capitals", "Two dogs": "words"}


@pytest.mark.parametrize("answer", CAPITAL, ids=CAPITAL.values())
def test_gold_answers_that_their_rule_can_never_match(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    rows = [f'{number},plain,{ASKED},"{answer}"' for number in range(3)]
    data = [write_questions(tmp_path / f"{name}.csv", *rows) for name in ("a", "b")]
    named = arguments(folder, data[0], tmp_path / "out", "--data", *map(str, data), "--dry-run")
    assert sweep.main([*named, *QUICK]) == 0
    *said, line = told(capsys)
    assert [one.partition(":")[0] for one in said] == [str(one) for one in data]
    assert all(f"no answer can match 3 of 3 gold answers: the rule 'exact' gives even the gold answer {answer!r}" in one
               for one in said)  # fmt: skip
    assert line.endswith("6 gold answers that cannot match")
    refused = Refusal(capsys, tmp_path)([*named, "--select", "correct"])
    assert refused.startswith("no question of 6 can be answered rightly, and --select correct takes no others: ")


def test_what_was_finished_is_kept_where_images_have_gone_since(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again writes the report, as for any finished run."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes((folder / "images" / "plain.png").read_bytes())
    data = write_questions(tmp_path / "one.csv", f"1,1,{ASKED},red")
    command = arguments(folder, data, tmp_path / "out", *QUICK, "--images", str(images))
    assert sweep.main(command) == 0
    before = read_rows(tmp_path / "out")
    (images / "1.png").unlink()
    assert sweep.main(command) == 0
    said = capsys.readouterr().out
    assert "1 question in the results, 0 set aside" in said
    assert "1 questions" not in said
    pd.testing.assert_frame_equal(read_rows(tmp_path / "out"), before)

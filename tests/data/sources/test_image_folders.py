"""Where an image lies that a question file names, in folders as people have them."""

import json
import unicodedata
from pathlib import Path

import pytest

from xmflow_jax.data.sources.files import question_files, read_questions
from xmflow_jax.data.sources.gqa_json import read_gqa_json
from xmflow_jax.data.sources.study_csv import read_study_csv
from xmflow_jax.data.sources.vqa_json import read_vqa_json
from xmflow_jax.errors import DataError

ACCENTED = "caf\u00e9"

# What a CSV file names, the files that there are, and the one that is meant (or complained of, where there is none).
NAMED: dict[str, tuple[str, list[str], str]] = {
    "webp": ("photo.webp", ["photo.webp"], "photo.webp"),
    "webp, not there": ("photo.webp", [], "photo.webp"),
    "gif, not there": ("photo.gif", ["photo.jpg"], "photo.gif"),
    "heic, not there": ("IMG_1.HEIC", [], "IMG_1.HEIC"),
    "avif without its suffix": ("photo", ["photo.avif"], "photo.avif"),
    "tiff for tif": ("scan.tif", ["scan.tiff"], "scan.tiff"),
    "jpeg for jpg": ("photo.jpg", ["photo.jpeg"], "photo.jpeg"),
    "jpg for JPEG": ("photo.JPEG", ["photo.jpg"], "photo.jpg"),
    "png for jpg is another image": ("photo.jpg", ["photo.png"], "photo.jpg"),
    "capitals in the suffix": ("photo", ["photo.JPG"], "photo.JPG"),
    "capitals in the file": ("dsc_1.jpg", ["DSC_1.JPG"], "DSC_1.JPG"),
    "capitals, two of them": ("dsc_1.jpg", ["DSC_1.JPG", "Dsc_1.jpg"], "dsc_1.jpg"),
    "the exact name goes before": ("a.jpg", ["A.jpg", "a.jpg"], "a.jpg"),
    "accent written as two": (ACCENTED, [unicodedata.normalize("NFD", ACCENTED) + ".jpg"], "cafe\u0301.jpg"),
    "no suffix at all": ("0b1f", ["0b1f"], "0b1f"),
    "a dot in the name": ("v1.2", ["v1.2.png"], "v1.2.png"),
    "a folder of this name": ("12", ["12/x.jpg", "12.png"], "12.png"),
    "folder and name": ("day/1", ["day/1.jpg"], "day/1.jpg"),
    "folder and name from Windows": ("day\\1.jpg", ["day/1.jpg"], "day/1.jpg"),
    "folder, not there": ("day/1", [], "day/1.jpg"),
    "the image folder's own name": ("pictures/1.jpg", ["1.jpg"], "1.jpg"),
    "a hidden file beside it": ("1", ["._1.jpg", "1.png"], "1.png"),
    "COCO, in its folder": ("COCO_val2014_000000262148.jpg", ["val2014/COCO_val2014_000000262148.jpg"],
                            "val2014/COCO_val2014_000000262148.jpg"),
    "COCO, named with its folder": ("val2014/COCO_val2014_000000262148.jpg", ["COCO_val2014_000000262148.jpg"],
                                    "COCO_val2014_000000262148.jpg"),
    "COCO of 2014 as of 2017": ("COCO_val2014_000000262148", ["train2017/000000262148.jpg"],
                                "train2017/000000262148.jpg"),
    "COCO of 2017 as of 2014": ("000000262148.jpg", ["train2014/COCO_train2014_000000262148.jpg"],
                                "train2014/COCO_train2014_000000262148.jpg"),
    "a number of Visual Genome's is none of COCO's": ("262148", ["val2014/COCO_val2014_000000262148.jpg"],
                                                      "262148.jpg"),
    "Visual Genome": ("2363785", ["VG_100K_2/2363785.jpg"], "VG_100K_2/2363785.jpg"),
}  # fmt: skip


def lay(folder: Path, files: list[str]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("kind", NAMED)
def test_images_that_a_csv_file_names(tmp_path: Path, kind: str) -> None:
    image_id, files, meant = NAMED[kind]
    images = lay(tmp_path / "pictures", files)
    (tmp_path / "q.csv").write_text(f"question_id,img_id,question,answer\n1,{image_id},Red?,yes\n", encoding="utf-8")
    (question,) = read_study_csv(tmp_path / "q.csv", images)
    assert question.image_path == images / meant
    assert question.image_id == image_id
    assert question.image_path.is_file() is (meant in files)


def test_an_absolute_name(tmp_path: Path) -> None:
    elsewhere = lay(tmp_path / "elsewhere", ["1.png"])
    (tmp_path / "q.csv").write_text(f"question_id,img_id,question,answer\n1,{elsewhere / '1'},Red?,yes\n")
    assert read_study_csv(tmp_path / "q.csv", lay(tmp_path / "pictures", []))[0].image_path == elsewhere / "1.png"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000 + "/1", "/", ".", "..", "a\0b", "~", "con"])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    asked = {"1": {"question": "Red?", "imageId": name}}
    (tmp_path / "q.json").write_text(json.dumps(asked))
    images = lay(tmp_path / "pictures", ["1.jpg"])
    (question,) = read_gqa_json(tmp_path / "q.json", None, images)
    assert question.image_path != images / "1.jpg"


COCO = "COCO_val2014_000000262148.jpg"
COCO_LAYOUTS = [
    COCO,
    "000000262148.jpg",
    "262148.jpg",
    "262148.png",
    f"val2014/{COCO}",
    "val2017/000000262148.jpg",
    "train2017/000000262148.jpg",
    "images/val2017/000000262148.jpg",
    f"coco/images/val2014/{COCO}",
    "coco/train2017/000000262148.jpg",
    "COCO_VAL2014_000000262148.JPG",
]
# A name with twelve digits is no shorter number.
COCO_NAMED = [
    (image_id, lying)
    for image_id in (262148, "262148", "COCO_val2014_000000262148", COCO)
    for lying in COCO_LAYOUTS
    if "COCO" not in str(image_id) or not lying.startswith("262148")
]


@pytest.mark.parametrize(("image_id", "lying"), COCO_NAMED)
def test_coco_in_all_its_layouts(tmp_path: Path, image_id: object, lying: str) -> None:
    images = lay(tmp_path / "pictures", [lying, "COCO_val2014_000000262149.jpg", "val2017/000000262149.jpg"])
    asked = {"questions": [{"question_id": 1, "image_id": image_id, "question": "Red?"}], "data_subtype": "val2014"}
    (tmp_path / "q.json").write_text(json.dumps(asked))
    given = {"annotations": [{"question_id": 1, "answers": [{"answer": "red"}] * 10}]}
    (tmp_path / "a.json").write_text(json.dumps(given))
    (question,) = read_vqa_json(tmp_path / "q.json", tmp_path / "a.json", images)
    assert question.image_path == images / lying


@pytest.mark.parametrize(
    "lying", ["1.jpg", "images/1.jpg", "VG_100K/1.jpg", "images/VG_100K_2/1.jpg", "1.JPG", "1.png"]
)
def test_gqa_in_all_its_layouts(tmp_path: Path, lying: str) -> None:
    images = lay(tmp_path / "pictures", [lying, "val2014/COCO_val2014_000000000001.jpg"])
    (tmp_path / "q.json").write_text(json.dumps({"1": {"question": "Red?", "imageId": "1"}}))
    assert read_gqa_json(tmp_path / "q.json", None, images)[0].image_path == images / lying


HIDDEN = ["._a.csv", ".a.csv", ".csv", "~$a.csv", ".DS_Store"]


def test_hidden_files_in_a_folder_are_no_question_files(tmp_path: Path) -> None:
    folder = tmp_path / "zip"
    folder.mkdir()
    (folder / "a.csv").write_text("question_id,img_id,question,answer\n1,1,Red?,yes\n")
    for name in HIDDEN:
        (folder / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xb0")
    (folder / "b.csv").mkdir()  # as distributed writers name a folder
    assert question_files([folder]) == [folder / "a.csv"]
    assert len(read_questions([folder], folder)) == 1
    (folder / "a.csv").unlink()
    with pytest.raises(DataError, match="no question file in this folder"):
        question_files([folder])

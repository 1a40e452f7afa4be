"""Small benchmarks in the layouts of the published files, for tests of whatever reads them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xmflow_jax.data.sources.study_csv import STUDY_TASKS

Json = dict[str, Any]

# Question id, image id and text of three questions about two images, as VQA v2 numbers them.
ASKED = [
    (262148000, 262148, "Where is he looking?"),
    (262148001, 262148, "What are the people in the background doing?"),
    (393225000, 393225, "What website copyrighted the picture?"),
]
ANSWERS = [
    ["down"] * 6 + ["at table", "skateboard", "down", "table"],
    ["spectating", "watching", "watching"] + ["watching"] * 5 + ["spectating", "watching"],
    ["foodiebakercom"] * 10,
]


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_image(path: Path, seed: int, size: tuple[int, int] = (48, 36), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, quality=80)
    return path


def coco_name(image_id: int, subset: str = "val2014") -> str:
    return f"COCO_{subset}_{image_id:012d}.jpg"


def vqa_questions(subset: str = "val2014") -> Json:
    return {
        "info": {"description": "This is v2.0 of the VQA dataset.", "version": "2.0", "year": 2017},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {"name": "Creative Commons Attribution 4.0 International License"},
        "data_subtype": subset,
        "questions": [{"image_id": image, "question": text, "question_id": one} for one, image, text in ASKED],
    }


def vqa_annotations(subset: str = "val2014") -> Json:
    kinds = [("none of the above", "other"), ("what are the", "other"), ("what", "other")]
    return {
        **{key: value for key, value in vqa_questions(subset).items() if key != "questions"},
        "annotations": [
            {
                "question_type": question_type,
                "multiple_choice_answer": answers[0],
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": number + 1}
                    for number, answer in enumerate(answers)
                ],
                "image_id": image,
                "answer_type": answer_type,
                "question_id": one,
            }
            for (one, image, _), answers, (question_type, answer_type) in zip(ASKED, ANSWERS, kinds, strict=True)
        ],
    }


def ok_vqa_annotations(subset: str = "val2014") -> Json:
    """OK-VQA's differ by `raw_answer`, a code for the question's type, and no answer chosen by the authors."""
    document = vqa_annotations(subset)
    document["annotations"] = [
        {key: value for key, value in entry.items() if key != "multiple_choice_answer"}
        | {"question_type": "four", "confidence": 3}
        | {"answers": [{"raw_answer": f"{one['answer']}s", **one} for one in entry["answers"]]}
        for entry in document["annotations"]
    ]
    return document | {"info": {"version": "1.0"}, "question_types": {"four": "Sports and Recreation"}}


def vqa_images(folder: Path, subset: str = "val2014") -> list[Path]:
    """One in colour, one in grey, as some of COCO's are."""
    modes = {262148: "RGB", 393225: "L"}
    return [write_image(folder / coco_name(one, subset), one, mode=mode) for one, mode in modes.items()]


def vqa_v2_folder(folder: Path, subset: str = "val2014") -> Path:
    """As people have it: question and annotation files beside the folder of the images."""
    write_json(folder / f"v2_OpenEnded_mscoco_{subset}_questions.json", vqa_questions(subset))
    write_json(folder / f"v2_mscoco_{subset}_annotations.json", vqa_annotations(subset))
    vqa_images(folder / subset, subset)
    return folder


def ok_vqa_folder(folder: Path, subset: str = "val2014") -> Path:
    write_json(folder / f"OpenEnded_mscoco_{subset}_questions.json", vqa_questions(subset) | {"info": {}})
    write_json(folder / f"mscoco_{subset}_annotations.json", ok_vqa_annotations(subset))
    vqa_images(folder / subset, subset)
    return folder


def gqa_entry(
    question: str, image: str, answer: str, types: tuple[str, str, str], program: list[tuple[str, str]]
) -> Json:
    detailed, semantic, structural = types
    return {
        "semantic": [
            {"operation": operation, "dependencies": [number - 1] if number else [], "argument": argument}
            for number, (operation, argument) in enumerate(program)
        ],
        "entailed": [],
        "equivalent": ["1"],
        "question": question,
        "imageId": image,
        "isBalanced": True,
        "groups": {"global": None, "local": "06-sky_light blue"},
        "answer": answer,
        "semanticStr": "",
        "annotations": {"answer": {}, "question": {"2": "11"}, "fullAnswer": {"2": "11"}},
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": f"{answer}.",
    }


def gqa_questions() -> Json:
    """One question for each of the study's tasks but one, and one of no task of the study."""
    return {
        "02930152": gqa_entry(
            "Is the jar full or empty?",
            "2354786",
            "empty",
            ("chooseAttr", "attr", "choose"),
            [("select", "jar (11)"), ("choose", "empty|full")],
        ),
        "07333408": gqa_entry(
            "Is the man in front or behind the fence?",
            "2354786",
            "front",
            ("relChooser", "rel", "choose"),
            [("select", "fence (12)"), ("choose rel", "man,in front of|behind,s (13)")],
        ),
        "07333405": gqa_entry(
            "Is there any grass or mud that is not brown?",
            "n578564",
            "no",
            ("existThatOrC", "obj", "logical"),
            [
                ("select", "grass (21)"),
                ("filter color", "not(brown)"),
                ("exist", "?"),
                ("select", "mud (-) "),
                ("filter color", "not(brown)"),
                ("exist", "?"),
                ("or", ""),
            ],
        ),
        "15736264": gqa_entry(
            "On which side is the jar?",
            "2354786",
            "left",
            ("positionQuery", "attr", "query"),
            [("select", "jar (11)"), ("query", "hposition")],
        ),
        "111007521": gqa_entry(
            "What do the jar and the fence have in common?",
            "2354786",
            "color",
            ("twoCommon", "attr", "compare"),
            [("select", "jar (11)"), ("select", "fence (12) "), ("common", "")],
        ),
        "202218649": gqa_entry(
            "What is hanging above the chalkboard?",
            "n578564",
            "picture",
            ("relS", "rel", "query"),
            [("select", "chalkboard (20)"), ("relate", "_,hanging above,s (22)"), ("query", "name")],
        ),
    }


def gqa_scene_graphs() -> Json:
    def thing(name: str, x: int, y: int, w: int, h: int) -> Json:
        return {"name": name, "h": h, "w": w, "x": x, "y": y, "relations": [], "attributes": ["brown"]}

    return {
        "2354786": {
            "width": 48,
            "height": 36,
            "location": "street",
            "objects": {
                "11": thing("jar", 1, 2, 10, 12),
                "12": thing("fence", 0, 20, 48, 16),
                "13": thing("man", 30, 4, 9, 25),
            },
        },
        "n578564": {
            "width": 48,
            "height": 36,
            "objects": {
                "20": thing("chalkboard", 5, 5, 20, 15),
                "21": thing("grass", 0, 30, 48, 6),
                "22": thing("picture", 8, 0, 6, 4),
            },
        },
    }


def gqa_images(folder: Path) -> list[Path]:
    return [write_image(folder / f"{name}.jpg", seed) for seed, name in enumerate(gqa_scene_graphs())]


def gqa_folder(folder: Path) -> Path:
    """As the three archives unpack."""
    write_json(folder / "questions1.2" / "val_balanced_questions.json", gqa_questions())
    write_json(folder / "sceneGraphs" / "val_sceneGraphs.json", gqa_scene_graphs())
    gqa_images(folder / "images")
    return folder


def gqa_study_folder(folder: Path) -> Path:
    """Two questions of each of the study's tasks, with the cells that all of its files have, and one that some have."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(STUDY_TASKS):
        with (folder / f"GQA_val_correct_question_with_some_{task}.csv").open(
            "w", encoding="utf-8", newline=""
        ) as file:
            writer = csv.writer(file)
            writer.writerow(["question_id", "img_id", "question", "answer", "captions", "image_w", "image_h"])
            for image in ("2354786", "n578564"):
                writer.writerow([f"0{number}", image, f"Is it {task}, or not?", "None", "a, b", 48, 36])
                number += 10
    gqa_images(folder / "images")
    return folder

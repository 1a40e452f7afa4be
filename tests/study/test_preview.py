"""Previews against what they stand for: the prompt's tokens, read back from the text; patches, off the pixels."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_processing import (
    CENTRE_CROP,
    PAD_TO_SQUARE,
    TEXT_DECODER,
    load_processing,
    write_json,
    write_tiny_processing,
)
from xmflow_jax.data import roles
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.sources.demo import write_demo_questions
from xmflow_jax.data.templates import Template, resolve_template
from xmflow_jax.errors import OptionError
from xmflow_jax.study.preview import draw_image, image_name, legend, patch_roles, prompt_lines, write_preview
from xmflow_jax.study.shipped import write_random_tiny
from xmflow_jax.sweep import main, run_sweep

SIDE, PATCH = 56, 14  # 4 x 4 patches; drawn at twice the size
IN_PROMPT, CROSS_ATTENTION = "image in the prompt", "cross-attention"
TEMPLATES = {
    IN_PROMPT: resolve_template(r"USER: <image>\n{question} ASSISTANT:"),
    CROSS_ATTENTION: resolve_template(r"USER: {question}\nASSISTANT:"),
}


Load = Callable[..., Processing]


@pytest.fixture(name="load", scope="module")
def fixture_load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Reading a tokenizer takes time, so each kind of checkpoint is read once."""

    @lru_cache
    def load(family: str, geometry: str = CENTRE_CROP, class_token: bool = True) -> Processing:
        return write_and_load(tmp_path_factory.mktemp("model"), family, geometry, class_token)

    return load


def write_and_load(folder: Path, family: str, geometry: str, class_token: bool) -> Processing:
    vocabulary = write_tiny_processing(folder, SIDE, PATCH, geometry, with_config=False)
    vision = {"model_type": "clip_vision_model", "image_size": SIDE, "patch_size": PATCH}
    if family == IN_PROMPT:
        strategy = "full" if class_token else "default"
        config = {"model_type": "llava", "image_token_index": vocabulary - 1, "vision_config": vision}
        write_json(folder / "config.json", {**config, "vision_feature_select_strategy": strategy})
    else:
        config = {
            "model_type": "vision-encoder-decoder",
            "encoder": vision,
            "decoder": TEXT_DECODER,
        }
        write_json(folder / "config.json", {**config, "keep_class_token": class_token})
    return load_processing(folder)


def ask(folder: Path, size: tuple[int, int], *boxes: Box, **changes: Any) -> Question:
    # Noise in dull colours: no pixel is red or blue as the marks are, and one that moved would be seen.
    noise = np.random.default_rng(0).integers(60, 140, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "1.png")
    question = Question(
        "01", "1", folder / "1.png", "Is the star red or bluer?", "red", "ChooseAttr",
        true_option="red", false_option="bluer", central_object="star", boxes=boxes, image_size=size,
    )  # fmt: skip
    return replace(question, **changes)


def prepared(folder: Path, load: Load, family: str) -> tuple[PreparedQuestion, Processing]:
    processing = load(family)
    return prepare_question(ask(folder, (112, 56), Box(58, 2, 10, 10)), processing, TEMPLATES[family]), processing


# Every token of the prompt by hand, `/` between them, with its roles: `bluer` is no word of the tokenizer's, and of the
# image there are 16 patches and a class token.
TOKENS = {
    IN_PROMPT: [
        (roles.SYSTEM, "<s>/ USER/:/ "),
        (roles.IMAGE, "17"),
        ("", " /\n"),
        (roles.QUESTION, "I/s/ the"),
        (roles.CENTRAL_OBJECT, " star"),
        (roles.TRUE_OPTION, " red"),
        (roles.QUESTION, " or"),
        (roles.FALSE_OPTION, " blue/r"),
        (roles.QUESTION, "?"),
        ("", " ASSISTANT"),
        (roles.LAST, ":"),
    ],
    CROSS_ATTENTION: [
        (roles.SYSTEM, "<s>/ USER/:"),
        (roles.QUESTION, " Is/ the"),
        (roles.CENTRAL_OBJECT, " star"),
        (roles.TRUE_OPTION, " red"),
        (roles.QUESTION, " or"),
        (roles.FALSE_OPTION, " blue/r"),
        (roles.QUESTION, "?"),
        ("", "\n/A/S/S/I/S/T/A/N/T"),
        (roles.LAST, ":"),
    ],
}
WITHIN_THE_QUESTION = (roles.CENTRAL_OBJECT, roles.TRUE_OPTION, roles.FALSE_OPTION)
CODES = {
    roles.SYSTEM: "90",
    roles.QUESTION: "34;4",
    roles.CENTRAL_OBJECT: "35;4",
    roles.TRUE_OPTION: "32;4",
    roles.FALSE_OPTION: "33;4",
    roles.LAST: "1;31",
    "": "0",
}


def bracketed(role: str, tokens: str) -> str:
    if role == roles.IMAGE:
        return f"[Image: {tokens} positions]"
    text = tokens.replace("/", "|")
    named = f"Question, {role}" if role in WITHIN_THE_QUESTION else role
    return f"[{named}: {text}]" if role else text


def coloured(role: str, tokens: str) -> str:
    if role == roles.IMAGE:
        return f"<image: {tokens} positions>"
    lines = tokens.replace("/", "|").split("\n")
    return "\n".join(f"\x1b[{CODES[role]}m{line}\x1b[0m" if line else "" for line in lines)


@pytest.mark.parametrize("family", TOKENS)
@pytest.mark.parametrize("colour", [False, True])
def test_the_prompt_is_shown_token_by_token(load: Load, tmp_path: Path, family: str, colour: bool) -> None:
    prompt, processing = prepared(tmp_path, load, family)
    first, *lines = prompt_lines(prompt, processing, colour)
    assert first == "question '01' (ChooseAttr), answer 'red'"
    shown = [line[2:] for line in lines if not line.startswith("    ")]
    marked = coloured if colour else bracketed
    assert "\n".join(shown) == "|".join(marked(*run) for run in TOKENS[family])


@pytest.mark.parametrize("family", TOKENS)
@pytest.mark.parametrize("colour", [False, True])
def test_every_token_appears_exactly_once(load: Load, tmp_path: Path, family: str, colour: bool) -> None:
    """Against the tokenizer, with letters that it spells in bytes."""
    processing = load(family)
    question = ask(tmp_path, (56, 56), text="Is the thé red,\tor bluer?", boxes=(), central_object="thé")
    prompt = prepare_question(question, processing, TEMPLATES[family])
    lines = prompt_lines(prompt, processing, colour)[1:]
    text = "\n".join(line[2:] for line in lines if not line.startswith("    "))
    if colour:
        text = re.sub("\x1b\\[[0-9;]*m", "", text).replace("<image: ", "[Image: ").replace(" positions>", " positions]")
    else:
        names = "|".join(roles.ROLES)
        text = re.sub(rf"\[(?:(?:{names})(?:, )?)+: (.*?)\](?=\||$)", r"\1", text)
        text = re.sub(r"(?<=\|)(\d+ positions)(?=\|)", r"[Image: \1]", text)
    told: list[str] = []
    for one in text.split("|"):
        image = re.fullmatch(r"\[Image: (\d+) positions\]", one)
        told += ["<image>"] * int(image[1]) if image else [one]
    pieces = processing.tokenizer.convert_ids_to_tokens(prompt.token_ids.tolist())
    special = {"▁": " ", "<0x0A>": "\n", "<0x09>": "\\t", "<0xC3>": "\ufffd", "<0xA9>": "\ufffd"}
    assert told == [special.get(piece, piece.replace("▁", " ")) for piece in pieces]
    assert told.count("\ufffd") == 2
    assert "\\t" in told


@pytest.mark.parametrize("family", TOKENS)
def test_every_role_is_listed_with_its_positions(load: Load, tmp_path: Path, family: str) -> None:
    prompt, processing = prepared(tmp_path, load, family)
    listed = dict(
        line.strip().split(": ", 1) for line in prompt_lines(prompt, processing, False) if line.startswith("    ")
    )
    assert tuple(listed) == tuple(role for role in roles.ROLES if role not in roles.VIEW_ROLES)
    assert listed["Image"] == "17 positions of 17"
    assert listed["Image Central Object"] == "1 position of 17"
    assert listed["Image Without Central Object"] == "16 positions of 17"
    assert listed["Image Pad"] == "no position"
    # 4 tokens before the image, 17 of it, the line's end: then the question.
    first = 23 if family == IN_PROMPT else 3
    spelt = "I|s| the" if family == IN_PROMPT else " Is| the"
    words = spelt.count("|") + 1
    end = first + words + 6
    assert listed["Question"] == f"{words + 6} positions, {first} to {end - 1}: {spelt}| star| red| or| blue|r|?"
    assert listed["True Option"] == f"1 position, {first + words + 1}:  red"
    assert listed["False Option"] == f"2 positions, {first + words + 3} to {first + words + 4}:  blue|r"
    assert listed["Central Object"] == f"1 position, {first + words}:  star"
    assert listed["Last"] == f"1 position, {len(prompt.token_ids) - 1}: :"
    assert listed["All"] == f"{len(prompt.token_ids)} positions"


def test_the_legend_has_every_colour_and_no_escape_without(load: Load, tmp_path: Path) -> None:
    for role, code in CODES.items():
        assert not role or f"\x1b[{code.removesuffix(';4') if role in WITHIN_THE_QUESTION else code}m{role}\x1b" in (
            legend(True)
        )
    assert "\x1b" not in legend(False)
    prompt, processing = prepared(tmp_path, load, IN_PROMPT)
    assert "\x1b" not in "".join(prompt_lines(prompt, processing, False))


# Patches by hand, `#` the object's and `x` padding. 112 x 56 loses 28 columns on either side to the centre crop; padded
# to 112 x 112 and halved, 112 x 40 has bars of 18 lines, and one line of the model is two of the image.
PLACES: dict[str, tuple[str, tuple[int, int], list[Box], list[str]]] = {
    "cropped": (CENTRE_CROP, (112, 56), [Box(58, 2, 10, 10)], ["..#.", "....", "....", "...."]),
    "cut in half": (CENTRE_CROP, (112, 56), [Box(20, 44, 20, 10)], ["....", "....", "....", "#..."]),
    "cut away": (CENTRE_CROP, (112, 56), [Box(2, 2, 20, 20)], ["....", "....", "....", "...."]),
    "two": (CENTRE_CROP, (56, 112), [Box(2, 30, 10, 10), Box(44, 72, 10, 10)], ["#...", "....", "....", "...#"]),
    "padded above": (PAD_TO_SQUARE, (112, 40), [Box(2, 2, 8, 12)], ["xxxx", "#...", "....", "xxxx"]),
    "padded beside": (PAD_TO_SQUARE, (40, 112), [Box(2, 2, 8, 12)], ["x#.x", "x..x", "x..x", "x..x"]),
    "a wide one": (PAD_TO_SQUARE, (112, 40), [Box(30, 30, 50, 8)], ["xxxx", "....", ".##.", "xxxx"]),
    "square": (PAD_TO_SQUARE, (112, 112), [Box(60, 32, 20, 20)], ["....", "..#.", "....", "...."]),
    "no box": (PAD_TO_SQUARE, (112, 40), [], ["xxxx", "....", "....", "xxxx"]),
}


def read_back(image: Image.Image) -> list[str]:
    """Which patches of a drawing have marks of red and of blue, in the notation of `PLACES`."""
    pixels = np.asarray(image)
    assert pixels.shape == (112, 112, 3)
    squares = pixels.reshape(4, 28, 4, 28, 3).swapaxes(1, 2)
    red = np.all(squares == (255, 0, 0), axis=-1)
    blue = np.all(squares == (0, 96, 255), axis=-1)
    for square in red[red.any(axis=(2, 3))]:  # an outline: all of the rim, nothing of the middle
        assert square[0].all()
        assert square[-1].all()
        assert square[:, 0].all()
        assert square[:, -1].all()
        assert not square[8:20, 8:20].any()
    for square in blue[blue.any(axis=(2, 3))]:  # a cross, from corner to corner
        assert np.diagonal(square).all()
        assert np.diagonal(square[::-1]).all()
        assert not square[0, 8:20].any()
    marks = np.where(red.any(axis=(2, 3)), "#", np.where(blue.any(axis=(2, 3)), "x", "."))
    return ["".join(row) for row in marks]


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_drawn_is_the_roles_patches(
    load: Load, tmp_path: Path, family: str, class_token: bool, place: str
) -> None:
    geometry, size, boxes, expected = PLACES[place]
    processing = load(family, geometry, class_token)
    prompt = prepare_question(ask(tmp_path, size, *boxes), processing, TEMPLATES[family])
    image = draw_image(prompt, processing)
    assert read_back(image) == expected
    # The arrays that the engines are given hold the same patches, behind the class token.
    at_image = prompt.roles[roles.IMAGE]
    own = {
        role: prompt.roles.get(role, np.zeros_like(at_image))[at_image][int(class_token) :].reshape(4, 4)
        for role in (roles.IMAGE_CENTRAL_OBJECT, roles.IMAGE_PAD)
    }
    marks = np.array([list(row) for row in expected])
    np.testing.assert_array_equal(own[roles.IMAGE_CENTRAL_OBJECT], marks == "#")
    np.testing.assert_array_equal(own[roles.IMAGE_PAD], marks == "x")
    # Between the marks is the image, as the model sees it: drawn twice as large, no pixel moved.
    plain = np.asarray(image)[::2, ::2]
    with Image.open(prompt.question.image_path) as opened:
        pixels = processing.plain_pixels(opened)
    unmarked = np.repeat(np.repeat(marks == ".", PATCH, axis=0), PATCH, axis=1)
    np.testing.assert_array_equal(plain[unmarked], pixels[unmarked])
    assert plain[unmarked].std() > 5


def test_a_prompt_that_shows_the_image_twice_is_drawn_once(load: Load, tmp_path: Path) -> None:
    processing = load(IN_PROMPT, PAD_TO_SQUARE)
    template = resolve_template("<image> {question} <image> Answer:")
    prompt = prepare_question(ask(tmp_path, (112, 40), Box(2, 2, 8, 12)), processing, template)
    assert int(prompt.roles[roles.IMAGE].sum()) == 2 * 17
    assert read_back(draw_image(prompt, processing)) == ["xxxx", "#...", "....", "xxxx"]
    assert "".join(prompt_lines(prompt, processing, False)).count("[Image: 17 positions]") == 2


def test_roles_of_a_question_without_boxes_are_all_false(load: Load, tmp_path: Path) -> None:
    processing = load(IN_PROMPT)
    patches = patch_roles(prepare_question(ask(tmp_path, (56, 56)), processing, TEMPLATES[IN_PROMPT]))
    assert patches.objects.shape == patches.padding.shape == (4, 4)
    assert not patches.objects.any()


def previewed(
    questions: list[Question], processing: Processing, number: int, folder: Path, template: Template
) -> tuple[list[str], list[Path]]:
    said: list[str] = []
    drawn = write_preview(questions, processing, template, number, folder, said.append, colour=False)
    return said, list(drawn)


def test_questions_set_aside_are_told_and_not_counted(load: Load, tmp_path: Path) -> None:
    processing = load(IN_PROMPT)
    good = ask(tmp_path, (112, 56), Box(58, 2, 10, 10))
    (tmp_path / "half.png").write_bytes(good.image_path.read_bytes()[:50])
    questions = [
        replace(good, question_id="gone", image_path=tmp_path / "gone.png"),
        replace(good, question_id="first"),
        replace(good, question_id="outside", boxes=(Box(112, 0, 5, 5),)),
        replace(good, question_id="truncated", image_path=tmp_path / "half.png"),
        replace(good, question_id="second"),
        replace(good, question_id="too many"),
    ]
    said, drawn = previewed(questions, processing, 2, tmp_path / "out", TEMPLATES[IN_PROMPT])
    aside = {line.split("'")[1]: line for line in said if "would be set aside" in line}
    assert list(aside) == ["gone", "outside", "truncated"]
    assert f"would be set aside: image {tmp_path / 'gone.png'} does not exist" in aside["gone"]
    assert "(x 112, y 0, width 5, height 5) lies outside the image of 112x56" in aside["outside"]
    assert "half.png cannot be read" in aside["truncated"]
    assert [path.name for path in drawn] == ["1-ChooseAttr-first.png", "2-ChooseAttr-second.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in drawn]
    assert "too many" not in "".join(said)
    nothing, none = previewed(questions[:1], processing, 2, tmp_path / "none", TEMPLATES[IN_PROMPT])
    assert (len(nothing), none) == (2, [])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "odd", ["../../etc/passwd", "a b\n\x1b[31mc", "", "..", "é/ö", "x" * 300, "C:\\aux", "con\0troll", "-rf *"]
)
def test_odd_ids_give_safe_names_and_one_line(load: Load, tmp_path: Path, odd: str) -> None:
    processing = load(IN_PROMPT)
    question = ask(tmp_path, (56, 56), question_id=odd, task=f"what color is the/ {odd[:20]}")
    said, drawn = previewed([question, question], processing, 2, tmp_path / "out", TEMPLATES[IN_PROMPT])
    assert len(set(drawn)) == 2
    assert {path.parent for path in drawn} == {tmp_path / "out"}
    for number, path in enumerate(drawn, start=1):
        assert re.fullmatch(rf"{number}-[A-Za-z0-9_.-]{{1,80}}\.png", path.name)
        with Image.open(path) as image:
            image.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "out"]
    heads = [line for line in said if line.startswith("question ")]
    assert len(heads) == 2
    assert all(line.isprintable() for line in heads)
    prompt = prepare_question(question, processing, TEMPLATES[IN_PROMPT])
    assert image_name(1, prompt) == drawn[0].name


@pytest.fixture(name="given", scope="module")
def fixture_given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("given")
    model = write_random_tiny(folder / "model", layers=3)
    files, images = write_demo_questions(folder / "data", per_task=2, seed=0)
    return ["--model", str(model), "--data", str(files[0]), "--images", str(images), "--pathways", "Image->Last"]


@pytest.mark.parametrize("weights", ["truncated", "absent"])
def test_the_command_previews_without_weights(
    given: list[str], tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No model can be run where none can be read; the same command without --preview says so."""
    monkeypatch.setattr("xmflow_jax.sweep.prepare_process", lambda: None)
    model = tmp_path / "model"
    model.mkdir()
    for file in Path(given[1]).iterdir():
        data = file.read_bytes()
        if file.suffix != ".safetensors":
            (model / file.name).write_bytes(data)
        elif weights == "truncated":
            (model / file.name).write_bytes(data[: len(data) // 2])
    out = tmp_path / "out"
    named = [*given, "--model", str(model), "--out", str(out)]
    assert main([*named, "--preview", "1"]) == 0
    told = capsys.readouterr().out
    assert "question '00000001' (ChooseAttr), answer " in told
    assert "00000002" not in told
    assert [str(path.relative_to(out)) for path in out.rglob("*.*")] == ["preview/1-ChooseAttr-00000001.png"]
    assert main(named) == 2
    assert "safetensors" in capsys.readouterr().err


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below, with the time of its last change and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def test_a_dry_run_with_a_preview_is_refused(tmp_path: Path) -> None:
    """A preview writes images, a dry run nothing."""
    with pytest.raises(OptionError, match="--preview writes images and --dry-run writes nothing; give one"):
        run_sweep(out=tmp_path / "out", dry_run=True, preview=1)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing_at_all(given: list[str], tmp_path: Path) -> None:
    """Nothing in the folder that it would make, its own folder, the home, the folder for temporary files."""
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "work")}
    for place in places.values():
        place.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_", "MPL"))}
    environment |= {"HOME": str(places["HOME"]), "TMPDIR": str(places["TMPDIR"]), "JAX_PLATFORMS": "cpu"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    inputs = Path(given[1]).parent
    before = snapshot(inputs), snapshot(places["HOME"]), snapshot(places["work"])
    done = subprocess.run(
        [sys.executable, "-m", "xmflow_jax.sweep", *given, "--dry-run"],
        cwd=places["work"], env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 questions of 1 task, 1 pathway, 3 layers, 6 knockouts to run" in done.stdout
    assert (snapshot(inputs), snapshot(places["HOME"]), snapshot(places["work"])) == before
    assert list(places["TMPDIR"].iterdir()) == []

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import upright
from tests.data.tiny_processing import CENTRE_CROP, PAD_TO_SQUARE, load_processing, write_tiny_processing
from xmflow_jax.data import roles
from xmflow_jax.data.processing import Processing
from xmflow_jax.data.prompt import PreparedQuestion, available_roles, prepare_question
from xmflow_jax.data.question import Box, Question
from xmflow_jax.data.templates import Template, resolve_template
from xmflow_jax.errors import QuestionSetAside

PLAIN = resolve_template("plain")
TEMPLATES = [
    *map(resolve_template, ("vicuna_v1", "llava_llama_3", "plain")),
    *map(resolve_template, ("{question} <image>", "{question}<image>", "<image>{question}", "A <image> b {question}?")),
]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image of 56 x 28 pixels, red on the left and blue on the right."""
    folder = tmp_path_factory.mktemp("images")
    image = Image.new("RGB", (56, 28), (255, 0, 0))
    image.paste((0, 0, 255), (28, 0, 56, 28))
    image.save(folder / "1.png")
    return folder


def load(tmp_path_factory: pytest.TempPathFactory, geometry: str, strategy: str = "default") -> Processing:
    folder = tmp_path_factory.mktemp("processing")
    write_tiny_processing(folder, 28, 14, geometry, select_strategy=strategy)
    return load_processing(folder)


@pytest.fixture(name="processing", scope="module")
def fixture_processing(tmp_path_factory: pytest.TempPathFactory) -> Processing:
    return load(tmp_path_factory, CENTRE_CROP)


@pytest.fixture(name="question")
def fixture_question(folder: Path) -> Question:
    return Question(
        question_id="01",
        image_id="1",
        image_path=folder / "1.png",
        text="Is the circle red or blue?",
        answer="red",
        task="ChooseAttr",
        true_option="red",
        false_option="blue",
        central_object="circle",
        boxes=(Box(30, 2, 8, 8),),
        image_size=(56, 28),
    )


def pieces_of(prepared: PreparedQuestion, role: str, processing: Processing) -> list[str]:
    return list(processing.tokenizer.convert_ids_to_tokens(prepared.token_ids[prepared.roles[role]].tolist()))


def test_every_role_of_the_plain_prompt(question: Question, processing: Processing) -> None:
    prepared = prepare_question(question, processing, PLAIN)

    def pieces(role: str) -> list[str]:
        return pieces_of(prepared, role, processing)

    asked = ["I", "s", "▁the", "▁circle", "▁red", "▁or", "▁blue", "?"]
    assert pieces(roles.SYSTEM) == ["<s>"]
    assert pieces(roles.IMAGE) == ["<image>"] * 4
    assert pieces(roles.QUESTION) == asked
    assert pieces(roles.TRUE_OPTION) == ["▁red"]
    assert pieces(roles.FALSE_OPTION) == ["▁blue"]
    assert pieces(roles.CENTRAL_OBJECT) == ["▁circle"]
    assert pieces(roles.QUESTION_WITHOUT_OPTIONS) == [p for p in asked if p not in ("▁red", "▁blue")]
    assert pieces(roles.LAST) == ["<0x0A>"]
    assert prepared.roles[roles.LAST][-1]
    assert prepared.roles[roles.ALL].all()
    # <s>, four image positions, then the chunk "\nIs ...", whose space and line end the tokenizer puts first.
    assert np.flatnonzero(prepared.roles[roles.IMAGE]).tolist() == [1, 2, 3, 4]
    assert np.flatnonzero(prepared.roles[roles.QUESTION]).tolist() == list(range(7, 15))
    assert prepared.prompt == PLAIN.render(question.text)


def test_object_patches_stand_row_by_row_in_the_prompt(question: Question, processing: Processing) -> None:
    # The crop keeps columns 14 to 41; the box's columns 30 to 38 lie in the right column of patches, upper row.
    prepared = prepare_question(question, processing, PLAIN)
    assert np.flatnonzero(prepared.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [1 + 1]
    assert np.flatnonzero(prepared.roles[roles.IMAGE_WITHOUT_CENTRAL_OBJECT]).tolist() == [1, 3, 4]
    assert not prepared.roles[roles.IMAGE_PAD].any()


def test_padding_belongs_to_neither_part_of_the_image(
    question: Question, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("padded")
    write_tiny_processing(folder, 56, 7, PAD_TO_SQUARE)  # 8 x 8 patches, of which two rows above and below are bars
    prepared = prepare_question(question, load_processing(folder), PLAIN)
    pads, rest = prepared.roles[roles.IMAGE_PAD], prepared.roles[roles.IMAGE_WITHOUT_CENTRAL_OBJECT]
    central = prepared.roles[roles.IMAGE_CENTRAL_OBJECT]
    assert np.flatnonzero(pads).tolist() == [*range(1, 17), *range(49, 65)]
    # The box's lines 2 to 10 are lines 16 to 24 of the padded image: patch rows 2 and 3, columns 4 and 5.
    assert np.flatnonzero(central).tolist() == [1 + 20, 1 + 21, 1 + 28, 1 + 29]
    np.testing.assert_array_equal(pads | rest | central, prepared.roles[roles.IMAGE])
    assert not (pads & rest).any()


def test_class_token_belongs_to_the_image_outside_the_object(
    question: Question, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prepared = prepare_question(question, load(tmp_path_factory, CENTRE_CROP, "full"), PLAIN)
    assert np.flatnonzero(prepared.roles[roles.IMAGE]).tolist() == [1, 2, 3, 4, 5]
    assert np.flatnonzero(prepared.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [3]
    assert np.flatnonzero(prepared.roles[roles.IMAGE_WITHOUT_CENTRAL_OBJECT]).tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: repr(template.text[-20:]))
def test_tokens_are_the_chunks_tokenised_apart(question: Question, processing: Processing, template: Template) -> None:
    """The oracle tokenises without special tokens, so that where `<s>` goes is told apart from what the code does."""
    prepared = prepare_question(question, processing, template)
    before, after = template.render(question.text).split("<image>")
    encode = lambda text: processing.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    expected = [1, *encode(before), *[processing.image_token_id] * 4, *encode(after)]
    assert prepared.token_ids.tolist() == expected
    assert prepared.token_ids.dtype == np.int32
    question_text = processing.tokenizer.decode(prepared.token_ids[prepared.roles[roles.QUESTION]])
    assert question_text.strip() in (question.text, question.text + "?")
    for mask in prepared.roles.values():
        assert mask.shape == prepared.token_ids.shape
        assert mask.dtype == bool


def test_question_before_the_image(question: Question, processing: Processing) -> None:
    prepared = prepare_question(question, processing, resolve_template("Now: {question} <image>"))
    assert pieces_of(prepared, roles.QUESTION, processing)[-2:] == ["▁blue", "?"]
    assert pieces_of(prepared, roles.SYSTEM, processing) == ["<s>", "▁", "N", "o", "w", ":"]
    assert np.argmax(prepared.roles[roles.IMAGE]) > np.argmax(prepared.roles[roles.QUESTION])
    assert prepared.roles[roles.IMAGE][-1]
    assert prepared.roles[roles.LAST][-1]


def test_words_that_the_template_shares_with_the_question(question: Question, processing: Processing) -> None:
    template = resolve_template("Is it red or blue? circle <image> Is the circle red? {question} {x}")
    prepared = prepare_question(question, processing, template)
    asked = np.flatnonzero(prepared.roles[roles.QUESTION])
    assert pieces_of(prepared, roles.QUESTION, processing)[-4:] == ["▁red", "▁or", "▁blue", "?"]
    for role in (roles.TRUE_OPTION, roles.FALSE_OPTION, roles.CENTRAL_OBJECT):
        assert prepared.roles[role].any()
        assert set(np.flatnonzero(prepared.roles[role])) <= set(asked)


def test_question_that_asks_for_words_of_the_suffix(question: Question, processing: Processing) -> None:
    asked = replace(question, text="What single word?", true_option="word", false_option="phrase")
    prepared = prepare_question(asked, processing, resolve_template("vicuna_v1"))
    text = processing.tokenizer.decode(prepared.token_ids[prepared.roles[roles.QUESTION]])
    assert text.strip() == "What single word?"
    assert (prepared.roles[roles.TRUE_OPTION] <= prepared.roles[roles.QUESTION]).all()
    # The study searches the whole chunk: an option that only the suffix names is found there.
    assert not (prepared.roles[roles.FALSE_OPTION] & prepared.roles[roles.QUESTION]).any()
    assert prepared.roles[roles.FALSE_OPTION].any()


def test_option_that_is_not_in_the_prompt_leaves_its_role_empty(question: Question, processing: Processing) -> None:
    prepared = prepare_question(replace(question, true_option="crimson"), processing, PLAIN)
    assert not prepared.roles[roles.TRUE_OPTION].any()
    assert prepared.roles[roles.QUESTION_WITHOUT_OPTIONS].sum() == prepared.roles[roles.QUESTION].sum() - 1


def test_non_ascii_question(question: Question, processing: Processing) -> None:
    asked = replace(question, text="Où est le café {question}?", central_object="café")
    prepared = prepare_question(asked, processing, PLAIN)
    text = processing.tokenizer.decode(prepared.token_ids[prepared.roles[roles.QUESTION]])
    assert text == "Où est le café {question}?"
    assert pieces_of(prepared, roles.CENTRAL_OBJECT, processing)[-2:] == ["<0xC3>", "<0xA9>"]


def test_roles_without_data_are_absent(question: Question, processing: Processing) -> None:
    bare = replace(question, true_option=None, central_object=None, boxes=())
    assert set(prepare_question(bare, processing, PLAIN).roles) == {
        *(roles.IMAGE, roles.IMAGE_PAD, roles.QUESTION, roles.FALSE_OPTION),
        *(roles.LAST, roles.SYSTEM, roles.ALL),
    }


def test_available_roles_are_those_of_every_prepared_question(question: Question, processing: Processing) -> None:
    variants = [
        question,
        replace(question, boxes=()),
        replace(question, central_object=None),
        replace(question, false_option=None),
    ]
    for chosen in ([variants[0]], [variants[1]], [variants[3]], variants[:2], variants[1:3], variants):
        common = set.intersection(*(set(prepare_question(q, processing, PLAIN).roles) for q in chosen))
        assert available_roles(chosen) == tuple(role for role in roles.ROLES if role in common)


def test_pixels_are_of_the_right_image(question: Question, processing: Processing) -> None:
    pixels = prepare_question(question, processing, PLAIN).pixels
    assert pixels.shape == (1, 28, 28, 3)
    assert pixels.dtype == np.float32
    left, right = pixels[0, 14, 2], pixels[0, 14, 25]
    assert left[0] > right[0]  # red
    assert left[2] < right[2]  # blue
    image = Image.open(question.image_path)
    np.testing.assert_array_equal(pixels[0], processing.pixels([image])[0])


def test_image_shown_twice(question: Question, processing: Processing) -> None:
    prepared = prepare_question(question, processing, resolve_template("<image> and <image> {question}"))
    assert prepared.pixels.shape == (2, 28, 28, 3)
    np.testing.assert_array_equal(prepared.pixels[0], prepared.pixels[1])
    assert prepared.roles[roles.IMAGE].sum() == 8
    shown = np.flatnonzero(prepared.roles[roles.IMAGE])
    assert np.flatnonzero(prepared.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [shown[1], shown[5]]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_other_modes(question: Question, processing: Processing, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.tiff"
    Image.new("RGB", (56, 28), (128, 128, 128)).convert(mode).save(path)
    assert prepare_question(replace(question, image_path=path), processing, PLAIN).pixels.shape == (1, 28, 28, 3)


def broken_images(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.jpg" for name in ("missing", "truncated", "empty", "text", "folder")}
    noise = np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)
    Image.fromarray(noise).save(paths["truncated"])
    content = paths["truncated"].read_bytes()
    paths["truncated"].write_bytes(content[: len(content) // 2])
    paths["empty"].touch()
    paths["text"].write_text("not an image")
    paths["folder"].mkdir()
    return paths


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "does not exist"),
        ("truncated", "cannot be read: .*truncated"),
        ("empty", "cannot be read"),
        ("text", "cannot be read"),
        ("folder", "does not exist"),
    ],
)
def test_unusable_image_sets_the_question_aside(
    question: Question, processing: Processing, tmp_path: Path, kind: str, complaint: str
) -> None:
    path = broken_images(tmp_path)[kind]
    with pytest.raises(QuestionSetAside, match=complaint) as caught:
        prepare_question(replace(question, image_path=path), processing, PLAIN)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_size": (28, 56)}, "is 56x28, but the object's box was drawn for 28x56"),
        ({"boxes": (Box(56, 0, 4, 4),)}, "lies outside the image of 56x28"),
        ({"text": "What does <image> say?"}, "holds <image>"),
        ({"text": ""}, "is not in the prompt's text"),
    ],
)
def test_unusable_question_is_set_aside(
    question: Question, processing: Processing, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(QuestionSetAside, match=complaint):
        prepare_question(replace(question, **changes), processing, PLAIN)  # type: ignore[arg-type]


def test_stated_size_does_not_matter_without_boxes(question: Question, processing: Processing) -> None:
    prepare_question(replace(question, image_size=(28, 56), boxes=()), processing, PLAIN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_the_upright_image_or_in_the_stored_one_by_its_stated_size(
    question: Question, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, orientation: int
) -> None:
    """The same photo is stored in eight ways; a person, and so the model, sees one."""
    processing = load(tmp_path_factory, CENTRE_CROP)
    seen = np.zeros((56, 28, 3), np.uint8)
    seen[30:38, 2:10] = 255  # the object: in the lower left patch
    stored = next(
        turned
        for turned in (np.rot90(flipped, turns) for flipped in (seen, seen[:, ::-1]) for turns in range(4))
        if np.array_equal(upright(turned, orientation), seen)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "1.png", exif=exif)
    rows, columns = np.nonzero(stored[..., 0])
    in_stored = Box(int(columns.min()), int(rows.min()), 8, 8)
    given = [(Box(2, 30, 8, 8), None), (Box(2, 30, 8, 8), (28, 56))]
    if stored.shape[:2] == (28, 56):
        given.append((in_stored, (56, 28)))
    for box, size in given:
        asked = replace(question, image_path=tmp_path / "1.png", boxes=(box,), image_size=size)
        prepared = prepare_question(asked, processing, PLAIN)
        assert np.flatnonzero(prepared.roles[roles.IMAGE_CENTRAL_OBJECT]).tolist() == [3], (box, size)
        # The crop keeps lines 14 to 41, so that the object lies in the lower left of what the model reads.
        levels = prepared.pixels[0, ..., 0]
        assert levels[14:, :14].mean() > levels.mean()
    with pytest.raises(QuestionSetAside, match="is 28x56, but the object's box was drawn for 57x28"):
        prepare_question(replace(question, image_path=tmp_path / "1.png", image_size=(57, 28)), processing, PLAIN)


def test_pixels_are_those_of_the_upright_image_on_white(question: Question, tmp_path: Path) -> None:
    folder = tmp_path / "processing"
    write_tiny_processing(folder, 28, 14, CENTRE_CROP)
    processing = load_processing(folder)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "1.png", exif=exif)
    seen = upright(noise, 6).astype(float)
    share = seen[..., 3:] / 255
    expected = seen[..., :3] * share + 255 * (1 - share)
    mean, deviation = (np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711]))
    found = prepare_question(replace(question, boxes=(), image_path=tmp_path / "1.png"), processing, PLAIN)
    assert np.abs(found.pixels[0] * deviation * 255 + mean * 255 - expected).max() <= 2

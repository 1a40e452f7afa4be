"""`config.json` with anything in it: every command reads it or refuses it in one line, soon, and changes no file.

`python -m pytest -m slow tests/commands/test_fuzzed_configs.py` tries thousands; `-s` shows how many.
"""

import copy
import json
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.refusal import content
from tests.families.model_files import write_model as write_whole_model
from tests.families.variants import VARIANTS
from tests.report.written_run import write_run
from xmflow_jax import convert, evaluate, sweep
from xmflow_jax.data.sources.shapes.source import shapes_questions
from xmflow_jax.families.checkpoint import read_checkpoint
from xmflow_jax.families.family import Family
from xmflow_jax.families.registry import all_families
from xmflow_jax.report.__main__ import main as report
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("unprepared_process", "quickly_compiled")

SHIPPED = Path(__file__).parents[2] / "checkpoints"
# Those of the shipped models' families alone, where the slow tests are not asked for.
SHIPPED_TYPES = {json.loads(path.read_text())["model_type"] for path in SHIPPED.glob("*/config.json")}
FAMILIES = [
    pytest.param(one, id=one.model_type, marks=[pytest.mark.slow] * (one.model_type not in SHIPPED_TYPES))
    for one in all_families()
    if one.build.__module__.startswith("xmflow_jax.")
]
FUZZ = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

# A sound command takes a second or two of processor time; what takes this many loops over what it should not.
MOST_SECONDS = 20
MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Sound:
    """A study of a family's model that would run.

    Attributes:
        models: the published form and, where the program ships one, the converted form.
        documents: sound contents of config.json: the model's own, and other forms of the family.
    """

    family: Family
    models: Sequence[Path]
    documents: Sequence[Any]
    data: Path
    images: Path


def write_model(folder: Path, family: Family) -> list[Path]:
    """A small model of the family, with the words of one that ships if there is one."""
    shipped = [
        path.parent
        for path in sorted(SHIPPED.glob("*/config.json"))
        if json.loads(path.read_text())["model_type"] == family.model_type
    ]
    published = folder / "published"
    if not shipped:
        return [write_whole_model(published, family)]
    write_random(published, family, read_checkpoint(shipped[0]).config, seed=0)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "prompt.json"):
        shutil.copyfile(shipped[0] / name, published / name)
    return [published, Path(shutil.copytree(shipped[0], folder / "converted"))]


@pytest.fixture(name="sound", scope="module", params=FAMILIES)
def fixture_sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sound:
    folder, family = tmp_path_factory.mktemp("sound"), request.param
    models = write_model(folder, family)
    files, images = shapes_questions(folder / "shapes", per_task=2)
    data = folder / "questions_QueryAttr.csv"
    shutil.copyfile(next(file for file in files if file.stem.endswith("QueryAttr")), data)
    own = json.loads((models[0] / "config.json").read_text())
    others = [family.write_config(config, "float32") for config in VARIANTS.get(family.model_type, {}).values()]
    return Sound(family, models, [own, own, own, own, *others], data, images)


# Every JSON type; sizes at which something would be allocated or looped over; numbers that are none.
NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 2, 3, 4, 5, 7, 8, 12, 14, 16, 24, 59, 60, 96, 1.0, 0.5, -0.5, 24.0, 1e-320, 1e308, -1e308),
        *(10**4, 10**5, 10**6, 10**7, 10**8, 10**8 + 1, -(10**8), 2**31, 2**32, 2**53 + 1, 2**63, 10**30, 10**400),
        *(float("nan"), float("inf"), float("-inf")),
    ]
)
WORDS = st.sampled_from(
    [
        *(
            "",
            " ",
            "x",
            "3",
            "24",
            "true",
            "null",
            "NaN",
            "gelu",
            "silu",
            "relu",
            "default",
            "full",
            "linear",
            "llama3",
        ),
        *(
            "llava",
            "llama",
            "mistral",
            "qwen2",
            "gpt2",
            "vit",
            "clip_vision_model",
            "siglip_vision_model",
            "bert",
            "t5",
        ),
        *("head_width", "float16", "int8", "\ud800", "\0", "a\nb", "é", "\u202e", "x" * 5000, "auto", "../x", "{x}"),
    ]
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, NUMBERS, WORDS, st.floats(), st.integers(), st.text(max_size=5))
KEYS = st.one_of(
    WORDS,
    st.sampled_from(
        [
            *("rope_scaling", "rope_parameters", "rope_theta", "rope_type", "factor", "sliding_window", "layer_types"),
            *("head_dim", "num_layers", "n_inner", "quantization_config", "text_config", "vision_config", "encoder"),
            *("decoder", "hidden_size", "num_hidden_layers", "id2label", "num_labels", "torch_dtype", "dtype"),
            *("architectures", "is_decoder", "use_cache", "attn_implementation", "model_type", "image_token_id"),
            *("image_token_index", "tie_word_embeddings", "partial_rotary_factor", "attention_bias", "auto_map"),
            *("bos_token_id", "pad_token_id", "vocab_size", "license", "_name_or_path", "transformers_version"),
            *("keep_class_token", "cross_attention_scale", "output_attentions", "return_dict", "error", "__class__"),
        ]
    ),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)


def objects_in(document: Any) -> list[dict[str, Any]]:
    """Every object of a document, its outermost among them."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return [document] * isinstance(document, dict) + [one for value in inner for one in objects_in(value)]


@st.composite
def changed(draw: st.DrawFn, documents: Sequence[Any]) -> str:
    """The text of a sound document with keys taken away, added, and with other values; or with sections moved about."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, 2, 3, 5]))):
        holder = draw(st.sampled_from(objects_in(document)))
        key = draw(st.sampled_from(sorted(holder) or ["x"]))
        what = draw(st.sampled_from(["value", "value", "value", "key", "gone", "copy", "swap"]))
        if what == "value":
            holder[key] = draw(VALUES)
        elif what == "key":
            holder[draw(KEYS)] = draw(VALUES)
        elif what == "gone":
            holder.pop(key, None)
        elif what == "copy":
            holder[draw(KEYS)] = copy.deepcopy(draw(st.sampled_from([holder.get(key), document])))
        else:
            other = draw(st.sampled_from(sorted(holder) or ["x"]))
            holder[key], holder[other] = holder.get(other), holder.get(key)
    text = json.dumps(document)
    if document and draw(st.integers(0, 9)) == 0:  # a key that stands there twice
        key = draw(st.sampled_from(sorted(document)))
        again = draw(st.one_of(st.just(document[key]), VALUES))
        text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(again)}}}"
    return text


@contextmanager
def bounded() -> Iterator[None]:
    """Within this, more than `MOST_BYTES` beside what is there cannot be had, nor may it take longer than it should."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, before[1]))
    started = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - started < MOST_SECONDS


Command = Callable[[Sound, Path, Path], tuple[Callable[[list[str]], int], list[str]]]


def named(sound: Sound, model: Path, out: Path) -> list[str]:
    return [*map(str, ("--model", model, "--data", sound.data, "--images", sound.images, "--out", out))]


COMMANDS: dict[str, Command] = {
    "dry run": lambda sound, model, out: (
        sweep.main,
        [*named(sound, model, out), "--select", "all", "--dry-run"],
    ),
    "preview": lambda sound, model, out: (sweep.main, [*named(sound, model, out), "--preview", "1"]),
    "evaluate": lambda sound, model, out: (evaluate.main, named(sound, model, out)),
    "convert": lambda sound, model, out: (convert.main, [str(model), str(out)]),
}


def end_of(command: str, sound: Sound, model: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code of a command, and what is printed on standard error: nothing but one line where it is refused."""
    main, arguments = COMMANDS[command](sound, model, out)
    with bounded():
        code = main(arguments)
    told = capfd.readouterr().err
    assert code in (0, 2), told
    if code == 2:
        assert told.startswith("error: "), told
        assert len(told.splitlines()) == 1, told
        assert len(told) < 2000 + 5 * len(str(model)), told
    elif command in ("dry run", "preview"):
        assert not told
    return code, told


def try_configs(
    sound: Sound, tmp_path: Path, command: str, examples: int, capfd: pytest.CaptureFixture[str]
) -> Counter[int]:
    """Put so many contents of config.json through a command; returns how often it ended with each exit code."""
    ends: Counter[int] = Counter()

    @settings(FUZZ, max_examples=examples)
    @given(text=changed(sound.documents), place=st.integers(0, len(sound.models) - 1))
    def attempt(text: str, place: int) -> None:
        model = sound.models[place]
        (model / "config.json").write_text(text)
        before = content(model)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        code, _ = end_of(command, sound, model, tmp_path / "out", capfd)
        ends[code] += 1
        assert content(model) == before
        assert code == 0 or not (tmp_path / "out").exists()

    attempt()
    with capfd.disabled():
        print(f"\n{sound.family.model_type}, {command}: {ends.total()} inputs tried, {dict(ends)}")
    return ends


@pytest.mark.parametrize("command", ["dry run", "preview", "convert"])
def test_any_config_is_read_or_refused(
    sound: Sound, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    ends = try_configs(sound, tmp_path, command, {"dry run": 120, "preview": 60, "convert": 30}[command], capfd)
    assert min(ends[0], ends[2]) >= 1  # both were tried


@pytest.mark.slow
def test_a_report_of_any_record_is_made_or_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`run.json`, which stands in a report's place of `config.json`."""
    written = write_run(tmp_path / "written", tasks=("ChooseAttr",), questions=2, layers=2)
    ends: Counter[int] = Counter()

    @settings(FUZZ, max_examples=100)
    @given(text=changed([json.loads((written / "run.json").read_text())]))
    def attempt(text: str) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(written, tmp_path / "run")
        (tmp_path / "run" / "run.json").write_text(text)
        before = content(tmp_path / "run")
        with bounded():
            code = report([str(tmp_path / "run")])
        ends[code] += 1
        told = capfd.readouterr().err
        assert code in (0, 2), told
        assert len(told.splitlines()) == (1 if code == 2 else 0), told
        after = content(tmp_path / "run")
        assert {name: after.get(name) for name in before} == before

    attempt()
    with capfd.disabled():
        print(f"\nreport: {ends.total()} inputs tried, {dict(ends)}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "examples"), [("dry run", 3000), ("preview", 1000), ("convert", 600), ("evaluate", 300)]
)
def test_many_configs_are_read_or_refused(
    sound: Sound, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str, examples: int
) -> None:
    ends = try_configs(sound, tmp_path, command, examples, capfd)
    assert min(ends[0], ends[2]) > 10
